//! How `slapback restart` finds the servers of this host and asks one to leave.
//!
//! Every server listens on a Unix socket in the abstract namespace: it needs no file, so it works
//! where all is read-only, and it is gone with its process, so none is ever stale. The name tells
//! the port; all names stand in `/proc/net/unix`. No process is signalled from outside: the server
//! itself looks at who asks, and takes it as a SIGTERM.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::process::geteuid;
use signal_hook::consts::SIGTERM;
use signal_hook::low_level::raise;
use tracing::warn;

use crate::config::Address;

/// Where a server waits for whoever asks it to leave.
#[derive(Debug, Clone, Default)]
pub struct Door {
    /// It leaves already: a second signal would cut its drain short.
    is_leaving: Arc<AtomicBool>,
}

impl Door {
    /// Waits from now on, on a thread of its own. If it cannot, the server serves all the same.
    pub fn open(port: u16) -> Self {
        let door = Self::default();
        let waiting = listen(port).and_then(|listener| {
            let door = door.clone();
            let thread = thread::Builder::new().name("restart".to_owned());
            thread.spawn(move || door.wait(&listener))
        });
        if let Err(error) = waiting {
            warn!(%error, "reverb:restart will not find this server; SIGTERM does the same");
        }
        door
    }

    /// The server leaves: who asks from now on is told that all is well.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    fn wait(&self, listener: &UnixListener) {
        for caller in listener.incoming() {
            match caller {
                // Who does not ask in time, or cannot be told, has not asked.
                Ok(caller) => drop(self.answer(caller)),
                // Without a file left the kernel refuses at once, whether anybody asks or not.
                Err(_) => thread::sleep(ACCEPT_PAUSE),
            }
        }
    }

    fn answer(&self, mut caller: UnixStream) -> io::Result<()> {
        caller.set_read_timeout(Some(CALL_WAIT))?;
        caller.set_write_timeout(Some(CALL_WAIT))?;
        if !is_ours(&caller)? {
            return caller.write_all(REFUSED);
        }
        let mut question = [0; RESTART.len()];
        caller.read_exact(&mut question)?;
        if question != RESTART {
            return Ok(());
        }
        if !self.is_leaving.swap(true, Ordering::Relaxed) {
            raise(SIGTERM)?;
        }
        caller.write_all(TAKEN)
    }
}

/// Why no server was asked to leave, in words for the operator.
#[derive(Debug)]
pub enum Failure {
    /// There is none to be asked.
    Nobody(String),
    /// There is one on the port, but it does not listen to us.
    Refused(String),
}

/// Asks the servers on a port to leave. If nobody has said which port, and none is on the default
/// one, it is the only server there is: its port may be a flag that we have not been given.
///
/// # Errors
/// No server has taken it.
pub fn restart(address: &Address) -> Result<(), Failure> {
    let table = fs::read_to_string(SOCKETS)
        .map_err(|error| Failure::Refused(format!("{SOCKETS}: {error}")))?;
    let all = servers_in(&table);
    let port = address.port;
    let (meant, others): (Vec<_>, Vec<_>) = all.iter().partition(|server| server.port == port);
    match (meant.as_slice(), others.as_slice()) {
        ([], []) => Err(Failure::Nobody("no server runs here".to_owned())),
        // It may be another user's: then there is none for us.
        ([], [only]) if !address.is_port_said => only.restart().map_err(Failure::Nobody),
        ([], others) => {
            let ports: Vec<_> = others
                .iter()
                .map(|server| server.port.to_string())
                .collect();
            Err(Failure::Nobody(format!(
                "no server runs on port {port}; --port names another: {}",
                ports.join(", ")
            )))
        }
        (meant, _) => {
            let results: Vec<_> = meant.iter().map(|server| server.restart()).collect();
            let is_taken = results.iter().any(Result::is_ok);
            let refusal = results.into_iter().find_map(Result::err);
            refusal
                .filter(|_| !is_taken)
                .map_or(Ok(()), |why| Err(Failure::Refused(why)))
        }
    }
}

/// One server that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    port: u16,
    name: String,
}

impl Server {
    fn restart(&self) -> Result<(), String> {
        let said = self.ask().unwrap_or_default();
        let port = self.port;
        match said.as_slice() {
            TAKEN => Ok(()),
            REFUSED => Err(format!("the server on port {port} belongs to another user")),
            _ => Err(format!("the server on port {port} did not answer")),
        }
    }

    fn ask(&self) -> io::Result<Vec<u8>> {
        let address = SocketAddr::from_abstract_name(&self.name)?;
        let mut server = UnixStream::connect_addr(&address)?;
        server.set_read_timeout(Some(CALL_WAIT))?;
        server.set_write_timeout(Some(CALL_WAIT))?;
        server.write_all(&RESTART)?;
        let mut said = Vec::new();
        server.take(TAKEN.len() as u64).read_to_end(&mut said)?;
        Ok(said)
    }
}

/// The servers among the sockets that the kernel lists, lowest port first.
fn servers_in(table: &str) -> Vec<Server> {
    let server = |line: &str| {
        let name = line.split_whitespace().last()?.strip_prefix('@')?;
        let (port, _) = name.strip_prefix(PREFIX)?.split_once('/')?;
        Some(Server {
            port: port.parse().ok()?,
            name: name.to_owned(),
        })
    };
    let mut servers: Vec<_> = table.lines().filter_map(server).collect();
    servers.sort_by(|one, other| (one.port, &one.name).cmp(&(other.port, &other.name)));
    servers.dedup();
    servers
}

/// Listens under a name that tells the port. What follows it is drawn, so that nobody can take the
/// name before us, and servers that share a port each have their own.
fn listen(port: u16) -> io::Result<UnixListener> {
    let name = format!("{PREFIX}{port}/{:016x}", fastrand::u64(..));
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Only our own user and root may end what we run.
fn is_ours(caller: &UnixStream) -> io::Result<bool> {
    let uid = getsockopt(caller, PeerCredentials)?.uid();
    Ok(uid == geteuid().as_raw() || uid == ROOT)
}

const ROOT: u32 = 0;
const SOCKETS: &str = "/proc/net/unix";
const PREFIX: &str = "slapback/";
const RESTART: [u8; 8] = *b"restart\n";
const TAKEN: &[u8] = b"leaving\n";
const REFUSED: &[u8] = b"refused\n";
/// How long either side waits for the other.
const CALL_WAIT: Duration = Duration::from_secs(2);
/// How long the server waits before it looks again whether there is a file for who calls.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_are_found_among_the_sockets() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 21 @slapback/8081/00ff\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 22 /run/slapback/8080/x\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 23 @slapback/8080/00fe\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 24 @slapback/8080/00fe\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 25\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 26 @slapback/99999/00fd\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 27 @/tmp/.X11-unix/X0\n";
        let found = servers_in(table);
        let names: Vec<_> = found.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["slapback/8080/00fe", "slapback/8081/00ff"]);
    }
}
