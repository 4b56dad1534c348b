//! Opening one connection to one Redis: name, TCP or Unix socket, TLS, password; and asking it
//! something.
//!
//! Called by `topology`, which knows whom to dial. Blocks. What goes wrong is said in a few words
//! that never hold a secret.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::{SockRef, TcpKeepalive};

use crate::config::{RedisServer, RedisTls};
use crate::redis::resp::{self, Reader, Said};
use crate::redis::tls::tls_config;

/// Each step of a dial takes this long at most.
const STEP: Duration = Duration::from_secs(5);

/// What was sent and not acknowledged for this long is sent to a machine that is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);

/// Bytes of an answer: a cluster of a thousand nodes tells of them in less.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The network's reason.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// What is there is not the master.
    #[error("there is no master: {0}")]
    NoMaster(String),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// Redis let us in, then said no.
    #[error("{command} is refused: {answer}")]
    Refused {
        /// Without its arguments.
        command: &'static str,
        /// Redis's words.
        answer: String,
    },
}

/// A connection past its handshake.
pub(super) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Opens a connection over TCP, by TLS if it is to be.
pub(super) fn connect(host: &str, port: u16, tls: Option<&RedisTls>) -> Result<Stream, DialError> {
    let mut last = DialError::NoAddress;
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STEP) {
            Ok(stream) => {
                prepare(&stream)?;
                return match tls {
                    None => Ok(Stream::Tcp(stream)),
                    Some(tls) => over_tls(tls, host, stream),
                };
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// Opens a connection over a Unix socket.
pub(super) fn connect_unix(path: &Path) -> Result<Stream, DialError> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
    Ok(Stream::Unix(stream))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(UNACKNOWLEDGED_MAX))?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))
}

fn over_tls(tls: &RedisTls, host: &str, stream: TcpStream) -> Result<Stream, DialError> {
    let wrong = |error: &dyn fmt::Display| DialError::Tls(error.to_string());
    let config = tls_config(tls).map_err(|error| wrong(&error))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| wrong(&error))?;
    let connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| wrong(&error))?;
    let mut stream = StreamOwned::new(connection, stream);
    // At once, so that a wrong certificate is told as such.
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Lets itself in, if there is a password.
pub(super) fn enter(stream: &mut Stream, server: &RedisServer) -> Result<(), DialError> {
    let password = server.password.as_deref().unwrap_or_default();
    if password.is_empty() {
        return Ok(());
    }
    let mut parts: Vec<&[u8]> = vec![b"AUTH"];
    parts.extend(server.username.as_deref().map(str::as_bytes));
    parts.push(password.as_bytes());
    ask(stream, "AUTH", &parts, is_ok)
}

/// Says one command and reads its answer.
pub(super) fn ask<T>(
    stream: &mut Stream,
    command: &'static str,
    parts: &[&[u8]],
    answer: impl Fn(Said<'_>) -> Option<T>,
) -> Result<T, DialError> {
    let mut out = Vec::new();
    resp::command(&mut out, parts);
    stream.write_all(&out)?;
    stream.flush()?;
    let refused = |answer: &[u8]| DialError::Refused {
        command,
        answer: String::from_utf8_lossy(answer).into_owned(),
    };
    let mut reader = Reader::new(ANSWER_BYTES_MAX);
    loop {
        let length = stream.read(reader.room())?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        reader.filled(length);
        return match reader.poll() {
            Ok(None) => continue,
            Ok(Some(Said::Error(why))) => Err(refused(why)),
            Ok(Some(said)) => answer(said).ok_or_else(|| refused(b"no Redis answers so")),
            Err(malformed) => Err(refused(malformed.0.as_bytes())),
        };
    }
}

/// Takes `OK`.
pub(super) fn is_ok(said: Said<'_>) -> Option<()> {
    matches!(said, Said::Status(_)).then_some(())
}

impl Stream {
    /// From now on nobody waits for it.
    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(true),
            Self::Unix(stream) => stream.set_nonblocking(true),
            Self::Tls(stream) => stream.sock.set_nonblocking(true),
        }
    }

    /// Does TLS itself wait to write?
    pub(super) fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.conn.wants_write())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
