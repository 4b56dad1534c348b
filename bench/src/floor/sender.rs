//! The bare send loop: each event goes to its sockets, one send each, with nothing looked up.
//!
//! Same flags, batch, pinning and payload as the server's flusher; and as there, events that came
//! together for the same sockets go out in one send.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use io_uring::{IoUring, opcode, squeue, types};

use super::replier::answer;
use super::{Command, Sockets};
use crate::Failure;
use crate::message::frame;
use crate::receiver::CHANNEL;

/// First argument of the process.
pub const ROLE: &str = "floor-sender";

/// Sends per `io_uring_enter`.
pub const BATCH: usize = 256;
/// Commands read at once, and so frames in one send.
const COMMANDS: usize = 256;
/// Of each of them, so that it ends inside the call.
pub const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

/// Accepts whoever commands and then `connections` subscribers, these at `unix` if there is such a
/// path, and sends what is commanded.
pub fn run(
    driver: &str,
    connections: usize,
    host: Ipv4Addr,
    unix: Option<&Path>,
) -> Result<(), Failure> {
    let listener = TcpListener::bind((host, 0))?;
    let unix = unix.map(UnixListener::bind).transpose()?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    let (mut commander, _) = listener.accept()?;
    let mut sockets = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut socket = match &unix {
            // Reading and writing never look inside.
            Some(unix) => OwnedFd::from(unix.accept()?.0).into(),
            None => accept(&listener)?,
        };
        subscribe(&mut socket)?;
        sockets.push(socket);
    }
    let mut sender = Sender {
        sockets,
        ring: match driver {
            "uring" => Some(ring()?),
            _ => None,
        },
    };
    let mut commands = Commands::default();
    while commands.read(&mut commander)? {
        while let Some((sockets, frames)) = commands.next_run() {
            sender.send(sockets, &frames)?;
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener) -> Result<TcpStream, Failure> {
    let (socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Answers an upgrade and a subscription.
///
/// A peer that has spoken itself acknowledges what it hears less often, and so its packets stay in
/// the sender's memory for longer: without this the floor would send to sockets that no WebSocket
/// has.
fn subscribe(socket: &mut TcpStream) -> Result<(), Failure> {
    if answer(socket)? && answer(socket)? {
        return Ok(());
    }
    Err("a subscriber has gone".into())
}

fn ring() -> Result<IoUring, Failure> {
    Ok(IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(1024)
        .build(512)?)
}

/// Commands that have come and are not yet carried out.
#[derive(Default)]
struct Commands {
    waiting: Vec<u8>,
}

impl Commands {
    /// False once nobody commands any more.
    fn read(&mut self, commander: &mut TcpStream) -> Result<bool, Failure> {
        let mut buffer = [0; COMMANDS * Command::BYTES];
        let count = commander.read(&mut buffer)?;
        self.waiting.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }

    /// Takes the commands off the front that are for the same sockets, and gives their frames.
    fn next_run(&mut self) -> Option<(Sockets, Vec<u8>)> {
        let (chunks, _) = self.waiting.as_chunks::<{ Command::BYTES }>();
        let sockets = Command::from_bytes(*chunks.first()?).sockets;
        let mut frames = Vec::new();
        let mut taken = 0;
        for command in chunks.iter().copied().map(Command::from_bytes) {
            if command.sockets != sockets {
                break;
            }
            frames.extend(frame(CHANNEL, command.number));
            taken += Command::BYTES;
        }
        self.waiting.drain(..taken);
        Some((sockets, frames))
    }
}

struct Sender {
    sockets: Vec<TcpStream>,
    /// `None` sends by one call each.
    ring: Option<IoUring>,
}

impl Sender {
    fn send(&mut self, sockets: Sockets, frames: &[u8]) -> Result<(), Failure> {
        let first = usize::try_from(sockets.first)?;
        let end = first.saturating_add(usize::try_from(sockets.count)?);
        let sockets = &self.sockets[first..end.min(self.sockets.len())];
        match &mut self.ring {
            Some(ring) => send_by_ring(ring, sockets, frames),
            None => send_by_call(sockets, frames),
        }
    }
}

fn send_by_ring(ring: &mut IoUring, sockets: &[TcpStream], frames: &[u8]) -> Result<(), Failure> {
    let length = u32::try_from(frames.len())?;
    for batch in sockets.chunks(BATCH) {
        for (number, socket) in batch.iter().enumerate() {
            let send = opcode::Send::new(types::Fd(socket.as_raw_fd()), frames.as_ptr(), length)
                .flags(FLAGS)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(number as u64);
            // SAFETY: with MSG_DONTWAIT the send ends inside `submit`, while `frames` lives.
            unsafe { ring.submission().push(&send) }?;
        }
        if ring.submit()? != batch.len() {
            return Err("the ring did not take a whole batch".into());
        }
        for short in ring.completion() {
            let taken = match short.result() {
                result if result == -libc::EAGAIN => 0,
                result => usize::try_from(result)?,
            };
            finish(
                &batch[usize::try_from(short.user_data())?],
                &frames[taken..],
            )?;
        }
    }
    Ok(())
}

fn send_by_call(sockets: &[TcpStream], frames: &[u8]) -> Result<(), Failure> {
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    for socket in sockets {
        let taken = match rustix::net::send(socket, frames, flags) {
            Err(rustix::io::Errno::AGAIN) => 0,
            taken => taken?,
        };
        finish(socket, &frames[taken..])?;
    }
    Ok(())
}

/// Waits for a receiver that is slow to take the rest.
fn finish(mut socket: &TcpStream, rest: &[u8]) -> Result<(), Failure> {
    Ok(socket.write_all(rest)?)
}

#[cfg(test)]
mod tests {
    use super::super::ALL;
    use super::*;

    #[test]
    fn commands_for_the_same_sockets_are_one_send() {
        let few = Sockets { first: 2, count: 3 };
        let mut commands = Commands::default();
        for (number, sockets) in [(0, ALL), (1, ALL), (2, few), (3, ALL)] {
            let command = Command { number, sockets };
            commands.waiting.extend(command.to_bytes());
        }
        commands.waiting.pop(); // the last one has not wholly come
        let both = [frame(CHANNEL, 0), frame(CHANNEL, 1)].concat();
        assert_eq!(commands.next_run(), Some((ALL, both)));
        assert_eq!(commands.next_run(), Some((few, frame(CHANNEL, 2))));
        assert_eq!(commands.next_run(), None);
        assert_eq!(commands.waiting.len(), Command::BYTES - 1);
    }
}
