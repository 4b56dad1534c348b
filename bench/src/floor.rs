//! The floor: what the kernel alone costs. Loops with nothing around them, each in a process of its
//! own, as the server is.
//!
//! [`sender`] is what a broadcast cannot be cheaper than; [`replier`] is that for whatever is
//! answered: a connection, a subscription, an API call; [`discarder`] for what is read from Redis.

use std::net::Ipv4Addr;

use crate::Failure;
use crate::contender::Server;
use crate::process::{SocketFile, start_on_own_port};

pub mod discarder;
pub mod replier;
pub mod sender;

/// Sockets that one event goes to, by the order in which they connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// The first of them.
    pub first: u32,
    /// How many; those beyond the last socket do not count.
    pub count: u32,
}

/// All sockets.
pub const ALL: Sockets = Sockets {
    first: 0,
    count: u32::MAX,
};

/// What the sender is told: one event and who gets it.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// The number of the event.
    pub number: u64,
    /// Who gets it.
    pub sockets: Sockets,
}

impl Command {
    /// Bytes of one command.
    pub const BYTES: usize = 16;

    /// As it is sent.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let [number, first, count] = [
            self.number,
            self.sockets.first.into(),
            self.sockets.count.into(),
        ];
        (u128::from(number) << 64 | u128::from(first) << 32 | u128::from(count)).to_be_bytes()
    }

    /// What was sent.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let all = u128::from_be_bytes(bytes);
        Self {
            number: (all >> 64) as u64,
            sockets: Sockets {
                first: (all >> 32) as u32,
                count: all as u32,
            },
        }
    }
}

/// Starts the loop that sends, on an address of this host.
pub fn start_sender(driver: &str, sockets: usize, host: Ipv4Addr) -> Result<Server, Failure> {
    let (host_text, sockets) = (host.to_string(), sockets.to_string());
    start(&[sender::ROLE, driver, &sockets, &host_text], host)
}

/// The same, with a Unix socket for all but who commands.
pub fn start_unix_sender(driver: &str, sockets: usize) -> Result<Server, Failure> {
    let (host, sockets, file) = (Ipv4Addr::LOCALHOST, sockets.to_string(), SocketFile::new());
    let path = file
        .0
        .to_str()
        .ok_or("the folder for files that pass has no name")?;
    let mut server = start(
        &[sender::ROLE, driver, &sockets, &host.to_string(), path],
        host,
    )?;
    server.unix = Some(file);
    Ok(server)
}

/// Starts the loop that answers.
pub fn start_replier() -> Result<Server, Failure> {
    start(&[replier::ROLE], Ipv4Addr::LOCALHOST)
}

fn start(arguments: &[&str], host: Ipv4Addr) -> Result<Server, Failure> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    let (process, address) = start_on_own_port(command.args(arguments), host)?;
    Ok(Server::ours(process, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let command = Command {
            number: u64::MAX - 1,
            sockets: Sockets { first: 7, ..ALL },
        };
        assert_eq!(Command::from_bytes(command.to_bytes()), command);
    }
}
