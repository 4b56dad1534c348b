//! The receiving end: many sockets, one thread, every frame checked.
//!
//! Speaks just enough of the protocol to subscribe to one public channel. The server's sockets and
//! the floor's go through the same code, so that both pay the same for being received.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};

use crate::Failure;

/// Stands in front of the ten digits of an event's number, once per frame.
pub const MARK: u8 = b'#';
/// Digits of an event's number.
pub const DIGITS: usize = 10;
/// The channel everybody subscribes to.
pub const CHANNEL: &str = "bench";

/// What was received in one round.
pub struct Tally {
    /// Frames with a number.
    pub frames: u64,
    /// Frames that came behind a later one.
    pub reordered: u64,
    /// Frames that came again.
    pub doubled: u64,
    /// Frames that had not come by the end.
    pub lost: u64,
    /// Nanoseconds from when an event was due to when its frame was read.
    pub latency_ns: Histogram<u64>,
}

/// When the events of a round are due.
pub trait Schedule {
    /// When event `number` of this round was, or is, to be published.
    fn due(&self, number: u64) -> Option<Instant>;
}

struct Socket {
    stream: TcpStream,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
    expected: u64,
}

/// All sockets to one sender.
pub struct Receiver {
    epoll: OwnedFd,
    sockets: Vec<Socket>,
    scratch: Vec<u8>,
    tally: Tally,
    /// What lower numbers a socket has not had, while a later one came.
    missing: HashSet<(usize, u64)>,
    /// Where the mark stands in a frame: always at the same place, once found.
    mark_at: usize,
}

impl Receiver {
    /// Connects `count` sockets; with a `key` each also opens a WebSocket and subscribes.
    pub fn connect(address: SocketAddr, count: usize, key: Option<&str>) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut sockets = Vec::with_capacity(count);
        for number in 0..count {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            if let Some(key) = key {
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                subscribe(&mut stream, key)?;
            }
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            sockets.push(Socket {
                stream,
                partial: Vec::new(),
                expected: 0,
            });
        }
        let tally = Tally::new()?;
        Ok(Self {
            epoll,
            sockets,
            scratch: vec![0; 1 << 18],
            tally,
            missing: HashSet::new(),
            mark_at: 0,
        })
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> u64 {
        self.sockets.len() as u64
    }

    /// Frames received in this round.
    pub fn frames(&self) -> u64 {
        self.tally.frames
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
            self.read(usize::try_from(number.u64())?, due)?;
        }
        Ok(ready > 0)
    }

    /// Ends a round of `published` events and says how it went.
    pub fn finish(&mut self, published: u64) -> Result<Tally, Failure> {
        let mut tally = std::mem::replace(&mut self.tally, Tally::new()?);
        for socket in &mut self.sockets {
            tally.lost += published.saturating_sub(socket.expected);
            socket.expected = 0;
        }
        tally.lost += self.missing.drain().count() as u64;
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
                continue;
            };
            self.tally.frames += 1;
            if let Some(due) = due.due(event) {
                let late = now.saturating_duration_since(due).as_nanos();
                self.tally
                    .latency_ns
                    .saturating_record(u64::try_from(late)?);
            }
            if event == socket.expected {
                socket.expected += 1;
            } else if event > socket.expected {
                self.missing
                    .extend((socket.expected..event).map(|lost| (number, lost)));
                socket.expected = event + 1;
            } else if self.missing.remove(&(number, event)) {
                self.tally.reordered += 1;
            } else {
                self.tally.doubled += 1;
            }
        }
        socket.partial.extend_from_slice(rest);
        Ok(())
    }
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        let latency_ns = Histogram::new_with_bounds(1000, 60_000_000_000, 3)?;
        Ok(Self {
            frames: 0,
            reordered: 0,
            doubled: 0,
            lost: 0,
            latency_ns,
        })
    }
}

const fn empty_event() -> epoll::Event {
    epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    }
}

/// Splits one unmasked, unfragmented frame off; `None` until it is whole.
fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
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

fn subscribe(stream: &mut TcpStream, key: &str) -> Result<(), Failure> {
    write!(
        stream,
        "GET /app/{key}?protocol=7&client=bench&version=1 HTTP/1.1\r\nHost: localhost\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    read_until(stream, "pusher:connection_established")?;
    let message =
        format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{CHANNEL}"}}}}"#).into_bytes();
    // A mask of zeros is a mask.
    let mut frame = vec![0x81, 0x80 | u8::try_from(message.len())?, 0, 0, 0, 0];
    frame.extend(message);
    stream.write_all(&frame)?;
    read_until(stream, r#""data":"{}","channel":"bench"}"#)
}

/// Reads up to and including a text that ends what the server says at this point.
fn read_until(stream: &mut TcpStream, text: &str) -> Result<(), Failure> {
    let mut heard = Vec::new();
    let mut buffer = [0; 1024];
    while !heard
        .windows(text.len())
        .any(|window| window == text.as_bytes())
    {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            let heard = String::from_utf8_lossy(&heard).into_owned();
            return Err(format!("the server closed instead of saying {text}: {heard}").into());
        }
        heard.extend_from_slice(&buffer[..count]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::publisher::frame;

    struct Now;

    impl Schedule for Now {
        fn due(&self, _: u64) -> Option<Instant> {
            Some(Instant::now())
        }
    }

    #[test]
    fn lost_doubled_and_reordered_frames_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut receiver = Receiver::connect(address, 1, None).unwrap();
        let (mut sender, _) = listener.accept().unwrap();
        let ping = [b"\x81\x05hello".as_slice(), &frame(5)].concat();
        let stream = [frame(0), frame(1), frame(3), frame(2), frame(2), ping].concat();
        for piece in stream.chunks(33) {
            sender.write_all(piece).unwrap();
            assert!(receiver.receive(Duration::from_secs(5), &Now).unwrap());
        }
        assert_eq!(receiver.frames(), 6);
        let tally = receiver.finish(7).unwrap();
        assert_eq!((tally.reordered, tally.doubled, tally.lost), (1, 1, 2)); // 4 and 6 never came
        assert_eq!(tally.latency_ns.len(), 6);
        assert_eq!(receiver.finish(0).unwrap().lost, 0);
    }
}
