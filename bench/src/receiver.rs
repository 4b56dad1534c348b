//! The receiving end: many sockets, one thread, every frame checked.
//!
//! The server's sockets and the floor's go through the same code, so that both pay the same for
//! being received.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::Failure;
use crate::client::Client;
use crate::contender::Server;
use crate::message::client_frame;
use crate::sequence::Sequence;
use crate::tally::Tally;

/// Stands in front of the ten digits of an event's number, once per frame.
pub const MARK: u8 = b'#';
/// Digits of an event's number.
pub const DIGITS: usize = 10;
/// The channel everybody subscribes to.
pub const CHANNEL: &str = "bench";

/// What a server asks a silent socket, and what that answers.
const PING: &[u8] = br#"{"event":"pusher:ping"}"#;
const PONG: &str = r#"{"event":"pusher:pong"}"#;

/// The number of a socket that somebody else reads.
const WATCHED: u64 = u64::MAX;

/// When the events of a round are due.
pub trait Schedule {
    /// When event `number` of this round was, or is, to be published.
    fn due(&self, number: u64) -> Option<Instant>;
}

struct Socket {
    stream: TcpStream,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
    /// Pings that it has answered.
    pings: u32,
    sequence: Sequence,
}

/// All sockets to one sender.
pub struct Receiver {
    epoll: OwnedFd,
    sockets: Vec<Socket>,
    /// Sockets that are open and never read.
    stopped: Vec<Socket>,
    scratch: Vec<u8>,
    tally: Tally,
    /// Where the mark stands in a frame: always at the same place, once found.
    mark_at: usize,
    pong: Vec<u8>,
    /// How long it has looked for news in vain, since somebody asked.
    idled: Duration,
}

impl Receiver {
    /// A receiver without sockets.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sockets: Vec::new(),
            stopped: Vec::new(),
            scratch: vec![0; 1 << 18],
            tally: Tally::new()?,
            mark_at: 0,
            pong: client_frame(PONG)?,
            idled: Duration::ZERO,
        })
    }

    /// So many clients of a server, all on [`CHANNEL`].
    pub fn of(server: &Server, count: usize) -> Result<Self, Failure> {
        let mut receiver = Self::new()?;
        receiver.join(server, count, |_| Sequence::of_all())?;
        Ok(receiver)
    }

    /// So many more, each of whom is to receive what `sequence` gives to its number among them.
    pub fn join(
        &mut self,
        server: &Server,
        count: usize,
        sequence: fn(u64) -> Sequence,
    ) -> Result<(), Failure> {
        let clients = Client::join(server, &[CHANNEL.to_owned()], count)?;
        for (number, client) in (0..).zip(clients) {
            self.take_over(client, sequence(number))?;
        }
        Ok(())
    }

    /// So many sockets that have not said a word.
    pub fn bare(
        connect: impl Fn() -> Result<TcpStream, Failure>,
        count: usize,
    ) -> Result<Self, Failure> {
        let mut receiver = Self::new()?;
        for _ in 0..count {
            receiver.add(connect()?, Vec::new(), Sequence::of_all())?;
        }
        Ok(receiver)
    }

    /// Takes over a client, and what it is to receive.
    pub fn take_over(&mut self, client: Client, sequence: Sequence) -> Result<(), Failure> {
        self.add(client.stream, client.heard, sequence)
    }

    /// Takes over a socket that has heard the beginning of a frame, and what it is to receive.
    pub fn add(
        &mut self,
        stream: TcpStream,
        mut partial: Vec<u8>,
        sequence: Sequence,
    ) -> Result<(), Failure> {
        partial.shrink_to_fit();
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(self.sockets.len() as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        self.sockets.push(Socket {
            stream,
            partial,
            pings: 0,
            sequence,
        });
        Ok(())
    }

    /// Lets [`Self::receive`] also wake when something is to be read there, by somebody else.
    pub fn watch(&mut self, file: impl AsFd) -> Result<(), Failure> {
        let data = epoll::EventData::new_u64(WATCHED);
        Ok(epoll::add(&self.epoll, file, data, epoll::EventFlags::IN)?)
    }

    /// Reads no more from the last `count` sockets, and leaves them open.
    pub fn stop_reading(&mut self, count: usize) -> Result<(), Failure> {
        let stopped = self.sockets.split_off(self.sockets.len() - count);
        for socket in &stopped {
            epoll::delete(&self.epoll, &socket.stream)?;
        }
        self.stopped.extend(stopped);
        Ok(())
    }

    /// The sockets, for whoever asks the kernel about them.
    pub fn streams(&self) -> impl Iterator<Item = &TcpStream> {
        self.sockets.iter().map(|socket| &socket.stream)
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> u64 {
        self.sockets.len() as u64
    }

    /// Frames received in this round.
    pub fn frames(&self) -> u64 {
        self.tally.frames
    }

    /// Pings that each socket has answered.
    pub fn pings(&self) -> impl Iterator<Item = u32> {
        self.sockets.iter().map(|socket| socket.pings)
    }

    /// Reads what is there, waiting at most `patience` for the first byte. Tells whether anything
    /// came.
    pub fn receive(&mut self, patience: Duration, due: &dyn Schedule) -> Result<bool, Failure> {
        let mut events = [const { empty_event() }; 256];
        let patience = Timespec::try_from(patience)?;
        let ready = match epoll::wait(&self.epoll, &mut events[..], Some(&patience)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        for event in &events[..ready] {
            let number = event.data;
            if number.u64() != WATCHED {
                self.read(usize::try_from(number.u64())?, due)?;
            }
        }
        Ok(ready > 0)
    }

    /// The same without ever sleeping.
    ///
    /// A receiver that sleeps has to be woken by the sender, at a microsecond or more. How often it
    /// comes to that hangs on which of the two is faster by a hair, and would decide what a
    /// delivery costs. Subscribers of a real server sleep on hosts of their own.
    pub fn receive_awake(
        &mut self,
        patience: Duration,
        due: &dyn Schedule,
    ) -> Result<bool, Failure> {
        let started = Instant::now();
        let mut looked = started;
        while !self.receive(Duration::ZERO, due)? {
            looked = Instant::now();
            if looked - started > patience {
                return Ok(false);
            }
        }
        self.idled += looked - started;
        Ok(true)
    }

    /// How long it has looked for news in vain since this was asked last.
    pub fn take_idled(&mut self) -> Duration {
        std::mem::take(&mut self.idled)
    }

    /// Ends a round of `published` events and says how it went.
    pub fn finish(&mut self, published: u64) -> Result<Tally, Failure> {
        let mut tally = std::mem::replace(&mut self.tally, Tally::new()?);
        for socket in &mut self.sockets {
            tally.lost += socket.sequence.finish(published);
        }
        Ok(tally)
    }

    fn read(&mut self, number: usize, due: &dyn Schedule) -> Result<(), Failure> {
        let socket = &mut self.sockets[number];
        let kept = socket.partial.len();
        self.scratch[..kept].copy_from_slice(&socket.partial);
        let count = match socket.stream.read(&mut self.scratch[kept..]) {
            Ok(0) => return Err(format!("socket {number} was closed by the sender").into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        socket.partial.clear();
        let now = Instant::now();
        let mut rest = &self.scratch[..kept + count];
        while let Some((payload, behind)) = split_frame(rest) {
            rest = behind;
            let Some(event) = event_number(payload, &mut self.mark_at) else {
                if payload == PING {
                    socket.stream.write_all(&self.pong)?;
                    socket.pings += 1;
                }
                continue;
            };
            if let Some(due) = due.due(event) {
                let late = now.saturating_duration_since(due).as_nanos();
                self.tally
                    .latency_ns
                    .saturating_record(u64::try_from(late)?);
            }
            socket.sequence.take(event, &mut self.tally);
        }
        socket.partial.extend_from_slice(rest);
        Ok(())
    }
}

const fn empty_event() -> epoll::Event {
    epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    }
}

/// Splits one unmasked, unfragmented frame off; `None` until it is whole.
pub fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, header) = match bytes.get(1)? {
        126 => (
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            4,
        ),
        127 => (
            usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
            10,
        ),
        &short => (usize::from(short), 2),
    };
    let end = header + length;
    Some((bytes.get(header..end)?, &bytes[end..]))
}

/// `None` for what is not one of our events.
fn event_number(payload: &[u8], mark_at: &mut usize) -> Option<u64> {
    if payload.get(*mark_at) != Some(&MARK) {
        *mark_at = payload.iter().position(|&byte| byte == MARK)?;
    }
    let digits = payload.get(*mark_at + 1..)?.get(..DIGITS)?;
    Some(
        digits
            .iter()
            .fold(0, |number, digit| number * 10 + u64::from(digit - b'0')),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;
    use crate::message::frame;
    use crate::pace::Burst;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || Ok(TcpStream::connect(address)?);
        let mut receiver = Receiver::bare(connect, 2).unwrap();
        let (mut sender, _) = listener.accept().unwrap();
        receiver.stop_reading(1).unwrap();
        let frame = |number| frame(CHANNEL, number);
        let ping = [b"\x81\x05hello".as_slice(), &frame(4)].concat();
        let stream = [frame(0), frame(1), frame(3), frame(2), ping].concat();
        for piece in stream.chunks(33) {
            sender.write_all(piece).unwrap();
            let patience = Duration::from_secs(5);
            assert!(receiver.receive(patience, &Burst::now(1)).unwrap());
        }
        assert_eq!((receiver.sockets(), receiver.frames()), (1, 5));
        let tally = receiver.finish(6).unwrap();
        assert_eq!((tally.lost, tally.doubled, tally.reordered), (1, 0, 1));
        assert_eq!(tally.latency_ns.len(), 4);
        assert_eq!(receiver.finish(0).unwrap().lost, 0);
    }
}
