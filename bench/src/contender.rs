//! Who is measured: the floor, this server, or any other that speaks the protocol.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::message::App;
use crate::process::{
    APP, Process, SECRET, SocketFile, server_command, spawn_on_sender_cpu, start_on_own_port,
    wait_for,
};
use crate::publisher::KEY;
use crate::{Failure, floor};

/// Who the floor's figures belong to.
pub const FLOOR: &str = "floor";
/// Who this server's figures belong to.
pub const OURS: &str = "slapback";

/// The bare uWebSockets server, from the root of the tree.
const UWS_SCRIPT: &str = "bench/uws/server.mjs";
/// What it needs.
const UWS_PACKAGES: &str = "bench/uws/node_modules";

/// How a sender hands its bytes to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// Batches of sends through `io_uring`.
    Uring,
    /// One call per send.
    Epoll,
}

impl Driver {
    /// As `SLAPBACK_DRIVER` and the tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Somebody who is put under every load in turn.
pub enum Contender {
    /// The bare loops.
    Floor(Driver),
    /// This server, which is started for each round.
    Slapback(Driver, PathBuf),
    /// A bare uWebSockets server, which is started for each round too.
    Uws,
    /// A server that is running already.
    Other(Other),
}

/// What is known of a server that is running already.
#[derive(Clone)]
pub struct Other {
    /// Where it listens.
    pub address: SocketAddr,
    /// An app that it serves.
    pub app: App,
    /// Its process, where that is on this machine.
    pub process: Option<u32>,
}

/// A server that can be connected to.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// An app that it serves.
    pub app: App,
    /// Its process, where that is known.
    pub pid: Option<u32>,
    /// Where clients connect, if not at the address.
    pub unix: Option<SocketFile>,
    _process: Option<Process>,
}

impl Contender {
    /// Floor and server on both drivers.
    pub fn ours(binary: &Path) -> Vec<Self> {
        [Driver::Uring, Driver::Epoll]
            .into_iter()
            .flat_map(|driver| {
                let server = Self::Slapback(driver, binary.to_owned());
                [Self::Floor(driver), server]
            })
            .collect()
    }

    /// The bare uWebSockets server, where it is installed and runs.
    pub fn uws() -> Result<Self, Failure> {
        if !Path::new(UWS_PACKAGES).exists() {
            return Err("bench/uws is not installed".into());
        }
        Self::Uws.start()?;
        Ok(Self::Uws)
    }

    /// For the tables.
    pub fn who(&self) -> String {
        match self {
            Self::Floor(_) => FLOOR.to_owned(),
            Self::Slapback(..) => OURS.to_owned(),
            Self::Uws => "uws".to_owned(),
            Self::Other(other) => other.address.to_string(),
        }
    }

    /// For the tables; nobody knows how another server sends.
    pub fn driver(&self) -> &'static str {
        match self {
            Self::Floor(driver) | Self::Slapback(driver, _) => driver.name(),
            Self::Uws => Driver::Epoll.name(),
            Self::Other(_) => "-",
        }
    }

    /// A server; `None` for the floor, which is no server.
    pub fn start(&self) -> Result<Option<Server>, Failure> {
        self.start_on(Ipv4Addr::LOCALHOST)
    }

    /// This server with one more setting; `None` for every other.
    pub fn start_with(&self, setting: (&str, &OsStr)) -> Result<Option<Server>, Failure> {
        match self {
            Self::Slapback(driver, binary) => {
                start_ours(*driver, binary, Ipv4Addr::LOCALHOST, Some(setting)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// As [`Self::start`] on an address of this host; one that runs already stays where it is.
    pub fn start_on(&self, host: Ipv4Addr) -> Result<Option<Server>, Failure> {
        match self {
            Self::Floor(_) => Ok(None),
            Self::Slapback(driver, binary) => start_ours(*driver, binary, host, None).map(Some),
            Self::Uws => {
                let mut command = Command::new("node");
                command.args([UWS_SCRIPT, &host.to_string()]);
                let (process, address) = start_on_own_port(&mut command, host)?;
                Ok(Some(Server::ours(process, address)))
            }
            Self::Other(other) => Ok(Some(Server {
                address: other.address,
                app: other.app.clone(),
                pid: other.process,
                unix: None,
                _process: None,
            })),
        }
    }

    /// Somebody who answers: a server, or for the floor the loop that answers without looking.
    /// `None` for a driver that this loop does not have.
    pub fn start_answering(&self) -> Result<Option<Server>, Failure> {
        match self {
            Self::Floor(Driver::Epoll) => floor::start_replier().map(Some),
            _ => self.start(),
        }
    }
}

fn start_ours(
    driver: Driver,
    binary: &Path,
    host: Ipv4Addr,
    setting: Option<(&str, &OsStr)>,
) -> Result<Server, Failure> {
    let address = TcpListener::bind((host, 0))?.local_addr()?;
    let mut command = server_command(binary, address, driver.name());
    let process = spawn_on_sender_cpu(command.envs(setting))
        .map_err(|error| format!("{}: {error}", binary.display()))?;
    wait_for(address)?;
    Ok(Server::ours(process, address))
}

impl Server {
    /// A server of our own, by its process.
    pub fn ours(process: Process, address: SocketAddr) -> Self {
        Self {
            pid: Some(process.0.id()),
            _process: Some(process),
            ..Self::at(address)
        }
    }

    /// A server of our own that somebody else has started.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            app: App {
                id: APP.into(),
                key: KEY.into(),
                secret: SECRET.into(),
            },
            pid: None,
            unix: None,
            _process: None,
        }
    }

    /// A client's connection.
    pub fn connect(&self) -> Result<TcpStream, Failure> {
        if let Some(SocketFile(path)) = &self.unix {
            // Reading and writing never look inside: it may come dressed as the other kind.
            return Ok(OwnedFd::from(UnixStream::connect(path)?).into());
        }
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
