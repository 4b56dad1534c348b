//! Calls to the HTTP API on one keep-alive connection: requests are pipelined, answers counted.

use std::net::{SocketAddr, TcpStream};

use crate::Failure;
use crate::wire::Wire;

/// The key of the app that every server of our own runs.
pub const KEY: &str = "bench-key";

/// Bytes of one answer at most.
const ANSWER_MAX: usize = 4096;
/// Headers of one answer at most.
const HEADERS_MAX: usize = 32;

/// One API connection.
pub struct Publisher {
    wire: Wire,
    heard: Vec<u8>,
    published: u64,
    answered: u64,
}

impl Publisher {
    /// Connects to the server's API.
    pub fn connect(address: SocketAddr) -> Result<Self, Failure> {
        Ok(Self {
            wire: Wire::new(TcpStream::connect(address)?)?,
            heard: Vec::new(),
            published: 0,
            answered: 0,
        })
    }

    /// The socket, for whoever waits for answers.
    pub fn stream(&self) -> &TcpStream {
        &self.wire.stream
    }

    /// Queues one request; it goes out with the next [`Self::work`].
    pub fn publish(&mut self, request: &[u8]) {
        self.wire.queue(request);
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
        self.write()?;
        self.read()
    }

    /// Writes what the socket takes.
    pub fn write(&mut self) -> Result<(), Failure> {
        self.wire.write()
    }

    /// Reads what is there.
    pub fn read(&mut self) -> Result<(), Failure> {
        self.wire.read(&mut self.heard)?;
        let (answers, length) = count_answers(&self.heard)?;
        self.answered += answers;
        self.heard.drain(..length);
        if self.heard.len() > ANSWER_MAX {
            let heard = String::from_utf8_lossy(&self.heard).into_owned();
            return Err(format!("not an answer to an event: {heard}").into());
        }
        Ok(())
    }
}

/// How many whole answers there are, and their length in all.
pub fn count_answers(heard: &[u8]) -> Result<(u64, usize), Failure> {
    let (mut answers, mut length) = (0, 0);
    while let Some(answer) = answer_bytes(&heard[length..])? {
        answers += 1;
        length += answer;
    }
    Ok((answers, length))
}

/// The length of the answer at the front; `None` until it is whole.
fn answer_bytes(heard: &[u8]) -> Result<Option<usize>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = answer.parse(heard)? else {
        return Ok(None);
    };
    if answer.code != Some(200) {
        let heard = String::from_utf8_lossy(heard).into_owned();
        return Err(format!("an event was refused: {heard}").into());
    }
    let mut headers = answer.headers.iter();
    let body = headers.find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body = body.ok_or("an answer does not tell its length")?.value;
    let end = head + std::str::from_utf8(body)?.trim().parse::<usize>()?;
    Ok((heard.len() >= end).then_some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_counted_and_refusals_told() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let heard = [answer.as_slice(), answer, &answer[..answer.len() - 1]].concat();
        let (answers, length) = count_answers(&heard).unwrap();
        assert_eq!((answers, length), (2, 2 * answer.len()));
        assert!(count_answers(b"HTTP/1.1 401 Unauthorized\r\n\r\n").is_err());
        assert!(count_answers(b"HTTP/1.1 200 OK\r\n\r\n{}").is_err());
    }
}
