//! A `redis-server` of the bench's own, and who publishes through it in the form of Laravel's redis
//! broadcaster.
//!
//! Redis and whoever publishes run on the CPU of the load.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Failure;
use crate::process::{Process, spawn, wait_for};
use crate::receiver::{DIGITS, MARK};
use crate::source::Source;
use crate::wire::Wire;

/// The program.
pub const PROGRAM: &str = "redis-server";
/// What Laravel puts before the names of channels.
pub const LARAVEL: &str = "laravel_database_";

/// Bytes of one payload.
const PAYLOAD_BYTES: usize = 200;
/// Calls that are under way beside the last, so that Redis never waits for the next.
const UNANSWERED_MAX: usize = 1;
/// Messages that one call of the script publishes. Redis writes 64 KiB to a reader in a turn of its
/// loop, and all calls under way may come in one turn: of larger ones more and more would lie there
/// until the last, and Redis and the reader would work one after the other instead of at once.
const CHUNK: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes `{…"#0000000001xxx"…}`: on channel `ARGV[1]`, from number `ARGV[2]` on, `ARGV[3]`
/// times.
const SCRIPT: &str = "for i = 0, ARGV[3] - 1 do redis.call('PUBLISH', ARGV[1], \
                      ARGV[4] .. string.format('%010d', ARGV[2] + i) .. ARGV[5]) end";

/// A Redis that ends with the run.
pub struct Redis {
    /// Where it listens on this host.
    pub port: u16,
    _process: Process,
}

impl Redis {
    /// Starts it on a free port.
    pub fn start() -> Result<Self, Failure> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let mut command = Command::new(PROGRAM);
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            // A reader that falls behind is to be measured, not cut.
            .args(["--client-output-buffer-limit", "pubsub 0 0 0"])
            .stdout(Stdio::null());
        let process =
            spawn(&mut command).map_err(|error| format!("{PROGRAM} cannot be started: {error}"))?;
        wait_for(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    fn connect(&self) -> Result<TcpStream, Failure> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Publishes by a script inside Redis, so that the publisher is never what limits.
pub struct Script {
    stream: BufReader<TcpStream>,
    unanswered: usize,
}

impl Script {
    /// Connects to Redis.
    pub fn connect(redis: &Redis) -> Result<Self, Failure> {
        let stream = redis.connect()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            unanswered: 0,
        })
    }

    /// Publishes so many events on a channel, by its full name.
    pub fn publish(&mut self, channel: &str, events: u64) -> Result<(), Failure> {
        for from in (0..events).step_by(usize::try_from(CHUNK)?) {
            let (first, count) = (from.to_string(), CHUNK.min(events - from).to_string());
            let (head, tail) = around_number();
            let parts = ["EVAL", SCRIPT, "0", channel, &first, &count, &head, &tail];
            self.stream.get_mut().write_all(&command(&parts))?;
            self.unanswered += 1;
            self.settle(UNANSWERED_MAX)?;
        }
        Ok(())
    }

    /// Reads answers until no more than so many calls are without one.
    pub fn settle(&mut self, unanswered: usize) -> Result<(), Failure> {
        while self.unanswered > unanswered {
            let mut answer = String::new();
            self.stream.read_line(&mut answer)?;
            if !answer.starts_with('$') {
                return Err(format!("Redis refuses to publish: {answer}").into());
            }
            self.unanswered -= 1;
        }
        Ok(())
    }
}

/// Publishes one event at a time, as Laravel does.
pub struct Broadcaster {
    channel: String,
    wire: Wire,
    heard: Vec<u8>,
    published: u64,
    answered: u64,
}

impl Broadcaster {
    /// Connects to Redis, for a channel by Laravel's name for it.
    pub fn connect(redis: &Redis, channel: &str) -> Result<Self, Failure> {
        Ok(Self {
            channel: format!("{LARAVEL}{channel}"),
            wire: Wire::new(redis.connect()?)?,
            heard: Vec::new(),
            published: 0,
            answered: 0,
        })
    }
}

impl Source for Broadcaster {
    fn queue(&mut self, number: u64) -> Result<(), Failure> {
        let (head, tail) = around_number();
        let payload = format!("{head}{number:0DIGITS$}{tail}");
        self.wire
            .queue(&command(&["PUBLISH", &self.channel, &payload]));
        self.published += 1;
        Ok(())
    }

    fn work(&mut self) -> Result<(), Failure> {
        self.wire.write()?;
        self.wire.read(&mut self.heard)?;
        if self.heard.contains(&b'-') {
            let heard = String::from_utf8_lossy(&self.heard).into_owned();
            return Err(format!("Redis refuses to publish: {heard}").into());
        }
        self.answered += memchr::memchr_iter(b'\n', &self.heard).count() as u64;
        self.heard.clear();
        Ok(())
    }

    fn is_settled(&self) -> bool {
        self.answered == self.published
    }

    fn stream(&self) -> &TcpStream {
        &self.wire.stream
    }
}

/// What stands before and behind the number in a payload of Laravel's broadcaster.
fn around_number() -> (String, String) {
    let head = format!(r#"{{"event":"tick","data":"{}"#, char::from(MARK));
    let tail = r#"","socket":null}"#;
    let filler = PAYLOAD_BYTES - head.len() - DIGITS - tail.len();
    (head, format!("{}{tail}", "x".repeat(filler)))
}

fn command(parts: &[&str]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", parts.len());
    for part in parts {
        command += &format!("${}\r\n{part}\r\n", part.len());
    }
    command.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_the_length_it_is_said_to_have() {
        let (head, tail) = around_number();
        let payload = format!("{head}{:0DIGITS$}{tail}", 7);
        assert_eq!(payload.len(), PAYLOAD_BYTES);
        let event: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert!(event["data"].as_str().unwrap().starts_with("#0000000007x"));
    }

    #[test]
    fn a_command_tells_the_length_of_each_part() {
        assert_eq!(command(&["GET", "a"]), b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    }
}
