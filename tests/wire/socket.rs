//! One connection to the server that says what it got instead of failing the test.
//!
//! Called by the player. Frames must be whole, unmasked and of the shortest form; knows nothing of
//! what is expected.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::harness::{DEADLINE, Opcode, Server, encode};

/// What came instead of what was waited for, in words.
pub(crate) type Instead = String;

/// A whole frame: its opcode and payload.
pub(crate) type Frame = (u8, Vec<u8>);

/// A connection.
pub(crate) struct Socket {
    stream: TcpStream,
    /// Bytes that came and are not read yet.
    input: Vec<u8>,
    /// Bytes that go out with the next.
    held: Vec<u8>,
    /// A 101 has come, so frames are spoken.
    pub(crate) speaks_frames: bool,
    /// Pings of the protocol are answered as they come.
    pub(crate) answers_pings: bool,
    pub(crate) state: State,
}

/// What is left to be seen of a connection when its entry is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// The server waits for more, so it cannot be asked whether that was all.
    Waiting,
    Ended,
}

impl Socket {
    pub(crate) fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            input: Vec::new(),
            held: Vec::new(),
            speaks_frames: false,
            answers_pings: false,
            state: State::Open,
        }
    }

    /// Keeps bytes for the next write.
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Writes what is held and these bytes, in pieces of `size` if there is one.
    pub(crate) fn send(&mut self, bytes: &[u8], size: Option<usize>) -> Result<(), Instead> {
        self.hold(bytes);
        let bytes = std::mem::take(&mut self.held);
        let pieces = bytes.chunks(size.unwrap_or(bytes.len()).max(1));
        for piece in pieces {
            let written = self.stream.write_all(piece);
            written.map_err(|error| format!("cannot write: {error}"))?;
        }
        Ok(())
    }

    /// Sends a whole masked frame.
    pub(crate) fn send_frame(&mut self, opcode: u8, payload: &[u8]) -> Result<(), Instead> {
        self.send(&encode(Opcode(opcode), true, payload, Some(MASK)), None)
    }

    /// The next frame.
    pub(crate) fn frame(&mut self) -> Result<Frame, Instead> {
        loop {
            let frame = self.any_frame()?;
            if !self.answers_pings || frame.1 != br#"{"event":"pusher:ping"}"# {
                return Ok(frame);
            }
            self.send_frame(Opcode::TEXT.0, br#"{"event":"pusher:pong"}"#)?;
        }
    }

    fn any_frame(&mut self) -> Result<Frame, Instead> {
        self.await_bytes(2)?;
        let length_bytes = match self.input[1] & 0x7f {
            0..126 => 0,
            126 => 2,
            _ => 8,
        };
        self.await_bytes(2 + length_bytes)?;
        let mut length = u64::from(self.input[1] & 0x7f);
        if length_bytes > 0 {
            let bytes = self.input[2..2 + length_bytes].iter();
            length = bytes.fold(0, |length, byte| length << 8 | u64::from(*byte));
        }
        let head_bytes = 2 + length_bytes;
        let frame_bytes = head_bytes + usize::try_from(length).unwrap();
        let bytes = self.take(frame_bytes)?;
        let (opcode, payload) = (bytes[0] & 0xf, bytes[head_bytes..].to_vec());
        if bytes != encode(Opcode(opcode), true, &payload, None) {
            return Err(format!("an odd frame: {}", bytes.escape_ascii()));
        }
        Ok((opcode, payload))
    }

    /// The next bytes up to and with the empty line.
    pub(crate) fn head(&mut self) -> Result<String, Instead> {
        loop {
            let end = self.input.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.take(end + 4)?;
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            self.await_bytes(self.input.len() + 1)?;
        }
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<u8>, Instead> {
        self.await_bytes(count)?;
        let rest = self.input.split_off(count);
        Ok(std::mem::replace(&mut self.input, rest))
    }

    /// The server ends the connection in order, and says nothing before.
    pub(crate) fn end(&mut self) -> Result<(), Instead> {
        if self.input.is_empty() && self.read_more(DEADLINE)? == 0 {
            return Ok(());
        }
        Err(if self.speaks_frames {
            shown(&self.frame()?)
        } else {
            format!("bytes {}", self.input.escape_ascii())
        })
    }

    /// Reads until the server ends the connection, whatever comes.
    pub(crate) fn drain(&mut self) {
        while self.read_more(DEADLINE).is_ok_and(|count| count > 0) {}
    }

    /// Nothing has come up to now.
    pub(crate) fn has_heard_nothing(&mut self) -> Result<(), Instead> {
        match self.read_more(Duration::from_millis(1)) {
            Err(_) if self.input.is_empty() => Ok(()),
            Ok(0) => Err("end".to_owned()),
            _ => Err(format!("bytes {}", self.input.escape_ascii())),
        }
    }

    /// Ends our half.
    pub(crate) fn finish(&mut self) {
        // It may be gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(&mut self) {
        let socket = SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads until so many bytes are there.
    fn await_bytes(&mut self, count: usize) -> Result<(), Instead> {
        while self.input.len() < count {
            if self.read_more(DEADLINE)? == 0 {
                return Err(match self.input.as_slice() {
                    [] => "end".to_owned(),
                    bytes => format!("end after {}", bytes.escape_ascii()),
                });
            }
        }
        Ok(())
    }

    /// Reads what is there; 0 at the end of the stream.
    fn read_more(&mut self, wait: Duration) -> Result<usize, Instead> {
        let mut bytes = [0; 16_384];
        self.stream.set_read_timeout(Some(wait)).unwrap();
        loop {
            match self.stream.read(&mut bytes) {
                Ok(count) => {
                    self.input.extend_from_slice(&bytes[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("nothing: {error}")),
            }
        }
    }
}

/// A frame as the data files write it.
pub(crate) fn shown((opcode, payload): &Frame) -> String {
    let name = super::step::name_of(*opcode);
    match (std::str::from_utf8(payload), payload.as_slice()) {
        (_, [high, low, reason @ ..]) if *opcode == super::step::CLOSE => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("{name} {code} {}", String::from_utf8_lossy(reason))
        }
        (Ok(text), _) => format!("{name} {text}"),
        (Err(_), bytes) => format!("{name} {}", bytes.escape_ascii()),
    }
}

/// The mask of every frame that an entry does not write out itself.
pub(crate) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
