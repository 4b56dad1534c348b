//! A server that Redis speaks to: started, and waited for until it hears.
//!
//! For the `redis` scenario and for `scale`. Knows nothing of clients.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::contender::{Driver, Server};
use crate::process::{server_command, spawn_on_sender_cpu};
use crate::redis::Redis;

/// What turns a purpose of Redis on, and what the log calls it.
pub type Purpose = (&'static str, &'static str);
/// Laravel's broadcaster.
pub const INGEST: Purpose = ("SLAPBACK_REDIS_INGEST", "ingest");
/// The bus.
pub const SCALING: Purpose = ("REVERB_SCALING_ENABLED", "scaling (hearing)");

/// A server that Redis speaks to, and what it logs.
pub struct Node {
    /// Where it is and who it is.
    pub server: Server,
    said: BufReader<ChildStdout>,
}

impl Node {
    /// Starts it on a port of its own, and waits until it says that this purpose works.
    pub fn start(
        driver: Driver,
        binary: &Path,
        redis: &Redis,
        purpose: Purpose,
    ) -> Result<Self, Failure> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let command = server_command(binary, address, driver.name());
        Self::run(command, address, redis, purpose)
    }

    /// The same with a command and an address that are given.
    pub fn run(
        mut command: Command,
        address: SocketAddr,
        redis: &Redis,
        (setting, purpose): Purpose,
    ) -> Result<Self, Failure> {
        command
            .env(setting, "true")
            .env("REDIS_PORT", redis.port.to_string())
            .stdout(Stdio::piped());
        let mut process = spawn_on_sender_cpu(&mut command)
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let said = BufReader::new(process.0.stdout.take().ok_or("no stdout")?);
        let server = Server::ours(process, address);
        let mut node = Self { server, said };
        node.line_with(&format!("redis: {purpose} works"))?;
        Ok(node)
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32, Failure> {
        Ok(self.server.pid.ok_or("no process")?)
    }

    /// Ends it, and gives how many messages it has taken in.
    pub fn stop(mut self) -> Result<u64, Failure> {
        signal(self.pid()?, Signal::TERM)?;
        let line = self.line_with("stopped: ")?;
        let taken = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("ingest_taken="));
        Ok(taken.ok_or("nothing was taken")?.parse()?)
    }

    fn line_with(&mut self, part: &str) -> Result<String, Failure> {
        let mut line = String::new();
        while self.said.read_line(&mut line)? > 0 {
            if line.contains(part) {
                return Ok(line);
            }
            line.clear();
        }
        Err(format!("the server ended without saying {part:?}").into())
    }
}

/// Sends a signal to a process.
pub fn signal(process: u32, signal: Signal) -> Result<(), Failure> {
    let pid = Pid::from_raw(i32::try_from(process)?).ok_or("no process")?;
    Ok(kill_process(pid, signal)?)
}
