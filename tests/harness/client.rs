//! One connection to the server, TCP or Unix: raw bytes, HTTP heads, WebSocket frames.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{DEADLINE, PONG, Server, subscribed};

/// What `dGhlIHNhbXBsZSBub25jZQ==` is answered with, in Reverb's order of headers.
pub const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    X-Powered-By: Laravel Reverb\r\n\r\n";

/// The mask of every frame that a test does not mask otherwise.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame's opcode (RFC 6455, 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opcode(pub u8);

impl Opcode {
    pub const CONTINUATION: Self = Self(0);
    pub const TEXT: Self = Self(1);
    pub const BINARY: Self = Self(2);
    pub const CLOSE: Self = Self(8);
    pub const PING: Self = Self(9);
    pub const PONG: Self = Self(10);
}

/// A whole frame that the server sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub opcode: Opcode,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(opcode: Opcode, payload: impl AsRef<[u8]>) -> Self {
        let payload = payload.as_ref().to_vec();
        Self { opcode, payload }
    }

    pub fn close(code: u16, reason: &str) -> Self {
        Self::new(Opcode::CLOSE, close_payload(code, reason.as_bytes()))
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opcode, payload } = self;
        write!(out, "[{}] {}", opcode.0, payload.escape_ascii())
    }
}

/// The payload of a Close frame.
pub fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason].concat()
}

/// The head of an upgrade request, with further header lines of a test's own.
pub fn upgrade_head(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A frame as a client sends it.
pub fn encode(opcode: Opcode, is_final: bool, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![(u8::from(is_final) << 7) | opcode.0];
    match payload.len() {
        length @ 0..126 => bytes.push(mask_bit + u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            bytes.push(mask_bit + 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(mask_bit + 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    let masked = payload.iter().zip(key.iter().cycle());
    bytes.extend(masked.map(|(byte, key)| byte ^ key));
    bytes
}

/// A connection to the server.
pub struct Client {
    /// The socket id, once the server has said it.
    pub id: String,
    /// Of a Unix socket too: what is called of it are `recv`, `send` and `shutdown`.
    socket: TcpStream,
    /// Bytes that came and are not read yet.
    input: Vec<u8>,
}

impl Client {
    /// Opens a connection and says nothing.
    pub fn open(server: &Server) -> Self {
        match &server.unix_socket {
            Some(path) => Self::open_path(path),
            None => Self::open_port(server.port),
        }
    }

    /// Opens a connection to a Unix socket.
    pub fn open_path(path: &Path) -> Self {
        let socket = UnixStream::connect(path).unwrap();
        Self::of(OwnedFd::from(socket).into())
    }

    fn open_port(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self::of(socket)
    }

    fn of(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        let (id, input) = (String::new(), Vec::new());
        Self { id, socket, input }
    }

    /// Opens a connection to a port and sends these bytes.
    pub fn to_port(port: u16, head: &str) -> Self {
        let mut client = Self::open_port(port);
        client.raw(head.as_bytes());
        client
    }

    /// Opens a connection and sends these bytes.
    pub fn connect_with(server: &Server, head: &str) -> Self {
        let mut client = Self::open(server);
        client.raw(head.as_bytes());
        client
    }

    /// Upgrades to WebSocket; what comes behind the 101 is still unread.
    pub fn upgrade(server: &Server, target: &str, headers: &str) -> Self {
        let mut client = Self::connect_with(server, &upgrade_head(target, headers));
        assert_eq!(client.head(), ACCEPTED);
        client
    }

    /// Upgrades to WebSocket and reads the socket id that the server draws.
    pub fn connect(server: &Server, target: &str) -> Self {
        let mut client = Self::upgrade(server, target, "");
        client.established();
        client
    }

    /// A WebSocket of the fixture's app `app-NAME`.
    pub fn of_app(server: &Server, name: &str) -> Self {
        Self::connect(server, &format!("/app/key-{name}?protocol=7"))
    }

    /// Reads `connection_established`, which must say this timeout, and keeps its socket id.
    pub fn is_established(&mut self, activity_timeout: u32) {
        assert_eq!(self.established(), activity_timeout);
    }

    /// Reads `connection_established`, keeps its socket id and returns its timeout.
    fn established(&mut self) -> u32 {
        let text = self.hear();
        let data = text
            .strip_prefix(r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\""#)
            .and_then(|rest| rest.strip_suffix(r#"}"}"#))
            .and_then(|rest| rest.split_once(r#"\",\"activity_timeout\":"#));
        let (id, timeout) = data.unwrap_or_else(|| panic!("not established: {text}"));
        id.clone_into(&mut self.id);
        timeout.parse().unwrap()
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends a text frame.
    pub fn say(&mut self, text: impl AsRef<str>) {
        self.send(Opcode::TEXT, text.as_ref());
    }

    /// Sends a whole masked frame.
    pub fn send(&mut self, opcode: Opcode, payload: impl AsRef<[u8]>) {
        self.send_frame(opcode, true, payload.as_ref(), true);
    }

    /// Sends a frame that need not be whole or masked.
    pub fn send_frame(&mut self, opcode: Opcode, is_final: bool, payload: &[u8], is_masked: bool) {
        self.raw(encode(opcode, is_final, payload, is_masked.then_some(MASK)));
    }

    /// Subscribes to a channel that needs no signature and reads the acknowledgement.
    pub fn subscribe(&mut self, channel: &str) {
        self.say(format!(
            r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#
        ));
        assert_eq!(self.hear(), subscribed(channel));
    }

    /// The next frame, which must be whole, unmasked and in the shortest form of its length.
    pub fn hear_frame(&mut self) -> Frame {
        let [first, second] = self.take_array();
        assert_eq!(first & 0xf0, 0x80, "FIN alone is set, in {first:#x}");
        let length = match second {
            0..126 => u64::from(second),
            126 => u64::from(u16::from_be_bytes(self.take_array())),
            127 => u64::from_be_bytes(self.take_array()),
            _ => panic!("the server masked a frame"),
        };
        let shortest = [0, 126, 65_536][usize::from(second.max(125) - 125)];
        assert!(length >= shortest, "{length} in too long a form");
        let payload = self.take(usize::try_from(length).unwrap());
        let opcode = Opcode(first & 0xf);
        Frame { opcode, payload }
    }

    /// The text of the next frame, which must be one of text.
    pub fn hear(&mut self) -> String {
        let frame = self.hear_frame();
        assert_eq!(frame.opcode, Opcode::TEXT, "not a text frame: {frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// Nothing has been sent to this socket up to now: the answer to a ping is the next frame.
    pub fn hears_nothing(&mut self) {
        self.say(r#"{"event":"pusher:ping"}"#);
        assert_eq!(self.hear(), PONG);
    }

    /// Close comes next; it is echoed, then the connection ends.
    pub fn is_closed_with(&mut self, code: u16, reason: &str) {
        assert_eq!(self.hear_frame(), Frame::close(code, reason));
        self.send(Opcode::CLOSE, close_payload(code, reason.as_bytes()));
        self.ends();
    }

    /// The server ends the connection in order (FIN, not a reset), and sends nothing before;
    /// then we end it too, as a browser does.
    pub fn ends(&mut self) {
        let more = self.read_more();
        assert!(!more, "instead of the end: {}", self.input.escape_ascii());
        // It is gone already if the server's process is.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Ends our half of the connection.
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// The next bytes up to and with the empty line.
    pub fn head(&mut self) -> String {
        loop {
            let end = self.input.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                return String::from_utf8(self.take(end + 4)).unwrap();
            }
            assert!(
                self.read_more(),
                "ended in a head: {}",
                self.input.escape_ascii()
            );
        }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            assert!(
                self.read_more(),
                "ended after {}",
                self.input.escape_ascii()
            );
        }
        let rest = self.input.split_off(count);
        std::mem::replace(&mut self.input, rest)
    }

    fn take_array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap()
    }

    /// Reads what is there; false at the end of the stream.
    fn read_more(&mut self) -> bool {
        let mut bytes = [0; 16_384];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(count) => {
                    self.input.extend_from_slice(&bytes[..count]);
                    return count > 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("after {:?}: {error}", self.input.escape_ascii().to_string()),
            }
        }
    }
}
