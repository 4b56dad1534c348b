//! The publishing end: signed API calls on one keep-alive connection, and the frames of the floor.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::Failure;
use crate::receiver::{CHANNEL, DIGITS, MARK};

/// The app every measured server runs.
pub const APP: &str = "bench-app";
/// Its key.
pub const KEY: &str = "bench-key";
/// Its secret.
pub const SECRET: &str = "bench-secret";

/// Bytes of one event's frame on the wire.
pub const FRAME_BYTES: usize = 200;
const HEADER_BYTES: usize = 4;

/// The message subscribers get, as long as makes a frame of [`FRAME_BYTES`].
fn message(data: &str) -> String {
    format!(r#"{{"event":"tick","data":"{data}","channel":"{CHANNEL}"}}"#)
}

fn data(number: u64) -> String {
    let length = FRAME_BYTES - HEADER_BYTES - message("").len();
    let mut data = format!("{}{number:0DIGITS$}", char::from(MARK));
    data.extend(std::iter::repeat_n('x', length - data.len()));
    data
}

/// The frame of event `number`, byte for byte as long as the server's.
pub fn frame(number: u64) -> Vec<u8> {
    let message = message(&data(number));
    let length = (FRAME_BYTES - HEADER_BYTES) as u16;
    let mut frame = vec![0x81, 126];
    frame.extend(length.to_be_bytes());
    frame.extend(message.as_bytes());
    frame
}

/// The signed request that publishes event `number`.
pub fn request(number: u64) -> Result<Vec<u8>, Failure> {
    let body = format!(
        r#"{{"name":"tick","channel":"{CHANNEL}","data":"{}"}}"#,
        data(number)
    );
    let path = format!("/apps/{APP}/events");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let digest = hex(&Md5::digest(&body));
    let query = format!("auth_key={KEY}&auth_timestamp={now}&auth_version=1.0&body_md5={digest}");
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
    mac.update(format!("POST\n{path}\n{query}").as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    let length = body.len();
    Ok(format!(
        "POST {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

/// One API connection; requests are pipelined, answers counted.
pub struct Publisher {
    stream: TcpStream,
    unwritten: Vec<u8>,
    heard: Vec<u8>,
    published: u64,
    answered: u64,
}

impl Publisher {
    /// Connects to the server's API.
    pub fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            unwritten: Vec::new(),
            heard: Vec::new(),
            published: 0,
            answered: 0,
        })
    }

    /// Queues one request; it goes out with the next [`Self::work`].
    pub fn publish(&mut self, request: &[u8]) {
        self.unwritten.extend_from_slice(request);
        self.published += 1;
    }

    /// Events queued so far.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Events answered with 200 so far.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Writes and reads what the socket allows.
    pub fn work(&mut self) -> Result<(), Failure> {
        if !self.unwritten.is_empty() {
            match self.stream.write(&self.unwritten) {
                Ok(count) => drop(self.unwritten.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut buffer = [0; 16384];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("the server closed the API connection".into()),
            Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.count_answers()
    }

    /// An answer is a head and the two bytes `{}`.
    fn count_answers(&mut self) -> Result<(), Failure> {
        let mut at = 0;
        while let Some(end) = self.heard[at..].windows(6).position(|w| w == b"\r\n\r\n{}") {
            let answer = &self.heard[at..at + end];
            if !answer.starts_with(b"HTTP/1.1 200") {
                let answer = String::from_utf8_lossy(answer).into_owned();
                return Err(format!("an event was refused: {answer}").into());
            }
            self.answered += 1;
            at += end + 6;
        }
        self.heard.drain(..at);
        if self.heard.len() > 4096 {
            let heard = String::from_utf8_lossy(&self.heard).into_owned();
            return Err(format!("not an answer to an event: {heard}").into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_has_the_length_it_is_said_to_have() {
        assert_eq!(
            (frame(0).len(), frame(9_999_999_999).len()),
            (FRAME_BYTES, FRAME_BYTES)
        );
    }
}
