//! Thousands of WebSocket clients on one thread, as a load test needs them.
//!
//! Used by `tests/load.rs` and `tests/hostile.rs`. Each client subscribes to one public channel
//! and checks that the events on it, numbered from 0, come in order and without a gap. A crowd
//! that is not watched reads nothing: it is a crowd of stalled readers.
#![allow(dead_code, unreachable_pub)] // each test crate uses its part of it
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use super::harness::{Client as Connection, Opcode, Server, api, encode, upgrade_head};

/// How a connection ended, as the client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A Close frame with this code.
    Close(u16),
    /// FIN without a Close frame.
    Fin,
    /// RST.
    Reset,
}

/// Clients of one channel.
pub struct Crowd {
    epoll: OwnedFd,
    clients: Vec<Client>,
    /// Clients whose subscription was acknowledged.
    pub subscribed_count: usize,
    /// Events that all clients together have seen.
    pub events_count: u64,
    /// Clients whose connection has ended.
    pub ended_count: usize,
}

struct Client {
    stream: TcpStream,
    /// The beginning of a frame, or of the handshake's answer.
    partial: Vec<u8>,
    /// Its next event must carry this number.
    next: u32,
    is_open: bool,
    end: Option<End>,
}

/// What has come of one read.
#[derive(Default)]
struct News {
    subscribed: bool,
    events: u64,
}

/// Clients that connect before the first of them is waited for.
const CONNECT_BATCH: usize = 500;

impl Crowd {
    /// Connects `count` clients of app-1 and subscribes each to [`CHANNEL`]. `receive_bytes` sets
    /// how much the kernel keeps for one that does not read.
    pub fn join(server: &Server, count: usize, receive_bytes: Option<usize>) -> Self {
        raise_file_limit(count);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
        let mut crowd = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll descriptor"),
            clients: Vec::with_capacity(count),
            subscribed_count: 0,
            events_count: 0,
            ended_count: 0,
        };
        let greeting = greeting();
        while crowd.clients.len() < count {
            let wanted = count.min(crowd.clients.len() + CONNECT_BATCH);
            while crowd.clients.len() < wanted {
                crowd.connect(address, &greeting, receive_bytes);
            }
            crowd.watch(Duration::from_secs(30), |crowd| {
                crowd.subscribed_count >= wanted
            });
        }
        crowd
    }

    fn connect(&mut self, address: SocketAddr, greeting: &[u8], receive_bytes: Option<usize>) {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        if let Some(bytes) = receive_bytes {
            // Before the connection exists, or its window is already promised.
            socket.set_recv_buffer_size(bytes).expect("a small buffer");
        }
        socket
            .connect(&address.into())
            .expect("the server takes the connection");
        let mut stream = TcpStream::from(socket);
        stream.write_all(greeting).expect("room for the greeting");
        stream.set_nonblocking(true).expect("a non-blocking socket");
        let data = epoll::EventData::new_u64(self.clients.len() as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN).expect("a watched socket");
        self.clients.push(Client {
            stream,
            partial: Vec::new(),
            next: 0,
            is_open: false,
            end: None,
        });
    }

    /// Reads for all clients until `is_done`, at most so long.
    pub fn watch(&mut self, at_most: Duration, is_done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + at_most;
        let mut scratch = vec![0; 64 * 1024];
        let mut events = Vec::with_capacity(1024);
        while !is_done(self) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "after {at_most:?}: {} of {} subscribed, {} events, {} ended",
                self.subscribed_count,
                self.clients.len(),
                self.events_count,
                self.ended_count
            );
            let wait = rustix::event::Timespec::try_from(left).expect("a short wait");
            events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&self.epoll, buffer, Some(&wait)).expect("events");
            for event in &events {
                let at = usize::try_from(event.data.u64()).expect("an index");
                self.read(at, &mut scratch);
            }
        }
    }

    /// How each client's connection ended, in the order they joined.
    pub fn ends(&self) -> impl Iterator<Item = Option<End>> {
        self.clients.iter().map(|client| client.end)
    }

    /// How many events each client has seen.
    pub fn seen(&self) -> impl Iterator<Item = u32> {
        self.clients.iter().map(|client| client.next)
    }

    fn read(&mut self, at: usize, scratch: &mut [u8]) {
        let client = &mut self.clients[at];
        if client.end.is_some() {
            return;
        }
        let news = match client.stream.read(scratch) {
            Ok(0) => client.ended(End::Fin),
            Ok(length) => client.take(&scratch[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "client {at}");
                client.ended(End::Reset)
            }
        };
        self.subscribed_count += usize::from(news.subscribed);
        self.events_count += news.events;
        if client.end.is_some() {
            self.ended_count += 1;
            epoll::delete(&self.epoll, &client.stream).expect("a watched socket");
        }
    }
}

impl Client {
    fn ended(&mut self, end: End) -> News {
        self.end = Some(end);
        News::default()
    }

    /// Takes bytes in; keeps what is not a whole frame.
    fn take(&mut self, bytes: &[u8]) -> News {
        let mut news = News::default();
        if self.partial.is_empty() {
            let taken = self.take_frames(bytes, &mut news);
            self.partial.extend_from_slice(&bytes[taken..]);
        } else {
            let mut held = std::mem::take(&mut self.partial);
            held.extend_from_slice(bytes);
            let taken = self.take_frames(&held, &mut news);
            held.drain(..taken);
            self.partial = held;
        }
        // Ten thousand of these would be many megabytes.
        self.partial.shrink_to_fit();
        news
    }

    fn take_frames(&mut self, bytes: &[u8], news: &mut News) -> usize {
        let mut at = 0;
        if !self.is_open {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                return 0;
            };
            assert!(bytes.starts_with(b"HTTP/1.1 101 "), "no WebSocket");
            self.is_open = true;
            at = end + 4;
        }
        while let Some((opcode, payload, length)) = frame(&bytes[at..]) {
            at += length;
            match opcode {
                0x1 => self.take_text(payload, news),
                0x8 => {
                    let code = payload
                        .first_chunk()
                        .map_or(1005, |&two| u16::from_be_bytes(two));
                    self.end = Some(End::Close(code));
                    return bytes.len();
                }
                other => panic!("a frame of kind {other:#x}"),
            }
        }
        at
    }

    fn take_text(&mut self, payload: &[u8], news: &mut News) {
        let text = std::str::from_utf8(payload).expect("text is UTF-8");
        if let Some(number) = text.strip_prefix(NUMBERED) {
            let digits = number.split(|digit: char| !digit.is_ascii_digit()).next();
            let number: u32 = digits
                .and_then(|digits| digits.parse().ok())
                .expect("a number");
            assert_eq!(number, self.next, "an event is missing, doubled or late");
            self.next += 1;
            news.events += 1;
        } else if text.starts_with(r#"{"event":"pusher_internal:subscription_succeeded""#) {
            news.subscribed = true;
        } else {
            let greeted = text.starts_with(r#"{"event":"pusher:connection_established""#);
            assert!(greeted, "unexpected: {text}");
        }
    }
}

/// How a numbered event begins at a subscriber; digits follow.
const NUMBERED: &str = r#"{"event":"n","data":""#;

/// The channel of every crowd.
pub const CHANNEL: &str = "crowd";

/// Publishes numbered events on one connection.
pub struct Publisher {
    connection: Connection,
    padding: String,
    /// How many events have been published.
    pub count: u32,
}

impl Publisher {
    /// Events will be `padding_bytes` longer than need be.
    pub fn new(server: &Server, padding_bytes: usize) -> Self {
        Self {
            connection: Connection::open(server),
            padding: ".".repeat(padding_bytes),
            count: 0,
        }
    }

    /// Publishes the next event; it must be taken.
    pub fn publish(&mut self) {
        self.publish_burst(1);
    }

    /// Sends so many publishes at once; each must be taken.
    pub fn publish_burst(&mut self, count: u32) {
        let numbers = self.count..self.count + count;
        let padding = &self.padding;
        let request = |number| {
            let event =
                format!(r#"{{"name":"n","channel":"{CHANNEL}","data":"{number} {padding}"}}"#);
            api::publish_request("1", &event)
        };
        let requests: String = numbers.clone().map(request).collect();
        self.connection.raw(requests);
        for _ in numbers {
            let answer = self.connection.answer();
            assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
        }
        self.count += count;
    }
}

/// A crowd needs a file for each client.
fn raise_file_limit(count: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("as many files as are allowed");
    let is_enough = limit.maximum.is_none_or(|files| files > count as u64);
    assert!(is_enough, "{count} clients need more files: {limit:?}");
}

/// One unmasked frame at the front of `bytes`: opcode, payload, length of the whole.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (start, length) = match *bytes {
        [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, 127, ..] => panic!("a longer frame than any that was published"),
        [_, length, ..] => (2, usize::from(length)),
        _ => return None,
    };
    let payload = bytes.get(start..start + length)?;
    Some((bytes[0] & 0xf, payload, start + length))
}

/// Upgrade request and subscription in one segment.
fn greeting() -> Vec<u8> {
    let text = format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{CHANNEL}"}}}}"#);
    let mut bytes = upgrade_head("/app/key-1?protocol=7", "").into_bytes();
    bytes.extend(encode(Opcode::TEXT, true, text.as_bytes(), Some([7; 4])));
    bytes
}
