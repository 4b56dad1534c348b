//! The bare answering loop: accepts, reads, and writes an answer that was ready before, by the
//! first byte of what it read. Checks nothing and keeps nothing.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use crate::Failure;

/// First argument of the process.
pub const ROLE: &str = "floor-replier";

const LISTENER: u64 = 0;
/// Sockets looked at per wait.
const EVENTS: usize = 256;

/// To `POST`, an API call.
const CALL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
    Content-Length: 2\r\nConnection: keep-alive\r\n\r\n{}";
/// To `GET`, an upgrade.
const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\
    \x81\x72{\"event\":\"pusher:connection_established\",\
    \"data\":\"{\\\"socket_id\\\":\\\"123456789.987654321\\\",\\\"activity_timeout\\\":30}\"}";
/// To a text frame, a subscription.
const SUBSCRIPTION: &[u8] = b"\x81\x50{\"event\":\"pusher_internal:subscription_succeeded\",\
    \"data\":\"{}\",\"channel\":\"bench\"}";
/// To a Close frame.
const CLOSE: &[u8] = b"\x88\x00";

/// Answers until it is killed.
pub fn run() -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let wanted = epoll::EventFlags::IN;
    epoll::add(
        &epoll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        wanted,
    )?;
    let mut sockets: HashMap<u64, TcpStream> = HashMap::new();
    let mut last = LISTENER;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            let number = event.data;
            let number = number.u64();
            if number != LISTENER {
                if let Some(socket) = sockets.get_mut(&number)
                    && !answer(socket)?
                {
                    sockets.remove(&number);
                }
                continue;
            }
            while let Ok((socket, _)) = listener.accept() {
                socket.set_nodelay(true)?;
                last += 1;
                epoll::add(&epoll, &socket, epoll::EventData::new_u64(last), wanted)?;
                sockets.insert(last, socket);
            }
        }
    }
}

/// Reads once and answers. False if the socket is to be closed.
pub(super) fn answer(socket: &mut TcpStream) -> Result<bool, Failure> {
    let mut buffer = [0; 4096];
    let count = socket.read(&mut buffer).unwrap_or(0); // reset is closed as well
    let answer = match buffer[..count].first() {
        Some(b'P') => CALL,
        Some(b'G') => UPGRADE,
        Some(0x81) => SUBSCRIPTION,
        Some(0x88) => CLOSE,
        _ => return Ok(false),
    };
    socket.write_all(answer)?;
    Ok(answer != CLOSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::socket_id;
    use crate::receiver::split_frame;

    #[test]
    fn the_answers_are_whole_frames() {
        let end = memchr::memmem::find(UPGRADE, b"\r\n\r\n").unwrap();
        let (hello, rest) = split_frame(&UPGRADE[end + 4..]).unwrap();
        assert!(socket_id(hello).is_some() && rest.is_empty());
        let (told, rest) = split_frame(SUBSCRIPTION).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(told).is_ok() && rest.is_empty());
    }
}
