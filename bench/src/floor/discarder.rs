//! The bare subscriber to Redis: reads and throws away, and tells of each message that ends a
//! round.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{ChildStdout, Command, Stdio};

use crate::Failure;
use crate::process::{Process, spawn_on_sender_cpu};
use crate::receiver::CHANNEL;

/// First argument of the process.
pub const ROLE: &str = "floor-discarder";
/// What stands before the names of its channels, as long as Laravel's, for Redis to do the same for
/// everyone.
pub const PREFIX: &str = "bare_subscribers_";

const BUFFER_BYTES: usize = 256 * 1024;

/// The process that reads and throws away.
pub struct Discarder {
    process: Process,
    said: BufReader<ChildStdout>,
}

impl Discarder {
    /// Subscribes to a Redis of this host.
    pub fn start(port: u16) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([ROLE, &port.to_string()])
            .stdout(Stdio::piped());
        let mut process = spawn_on_sender_cpu(&mut command)?;
        let said = BufReader::new(process.0.stdout.take().ok_or("no stdout")?);
        let mut discarder = Self { process, said };
        discarder.hear()?; // that it has subscribed
        Ok(discarder)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Waits until it has read a message on [`CHANNEL`], the end of a round.
    pub fn hear(&mut self) -> Result<(), Failure> {
        match self.said.read_line(&mut String::new())? {
            0 => Err("the bare subscriber has ended".into()),
            _ => Ok(()),
        }
    }
}

/// Reads until Redis closes.
pub fn run(port: u16) -> Result<(), Failure> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let pattern = format!("{PREFIX}*");
    let length = pattern.len();
    write!(
        stream,
        "*2\r\n$10\r\nPSUBSCRIBE\r\n${length}\r\n{pattern}\r\n"
    )?;
    let end = format!("{PREFIX}{CHANNEL}\r\n");
    let finder = memchr::memmem::Finder::new(&end);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut kept = 0;
    let mut is_subscribed = false;
    loop {
        let count = stream.read(&mut buffer[kept..])?;
        if count == 0 {
            return Ok(());
        }
        let filled = kept + count;
        // Before anything is published the only thing to read is that it has subscribed.
        if finder.find(&buffer[..filled]).is_some() || !is_subscribed {
            is_subscribed = true;
            writeln!(io::stdout(), "end")?;
            kept = 0;
            continue;
        }
        // The name may come in two pieces.
        kept = filled.min(end.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}
