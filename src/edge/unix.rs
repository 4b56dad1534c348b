//! The Unix-domain listener for a proxy on the same host: its file, and who serves what comes.
//!
//! `SO_REUSEPORT` spreads TCP alone, and shards that all waited for one socket would all be woken
//! by each connection, and share them unevenly. So the first shard accepts for all and hands round
//! what it accepts. Called by the fleet at start, by `check`, and by the accept task; never reads
//! from a connection.

use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use socket2::{Domain, SockAddr, Socket as RawSocket, Type};
use tracing::warn;

use super::Edge;
use super::listen::{BACKLOG, Listener, wait_until_free};
use super::stage::Stage;
use crate::config::{FileMode, UnixSocket};
use crate::proto::session::Protocol;
use crate::ring::Wake as _;
use crate::wake::EventFd;

/// Asked for as a connection's send buffer, bytes; the kernel doubles it, and overdraws it by one
/// send. A reader that has stalled holds no more in the kernel, as `TCP_NOTSENT_LOWAT` sees to for
/// TCP.
const SEND_BUFFER: usize = 32 * 1024;

/// Connections that may wait for one shard to take them.
const HANDED_MAX: usize = 1024;

/// The end at which a shard takes the connections that it is handed.
pub type Handed = Receiver<OwnedFd>;

/// What the listener has beside its socket.
#[derive(Debug)]
pub(super) struct Unix {
    file: SocketFile,
    others: Vec<Hand>,
    next: Cell<usize>,
}

/// The way to another shard.
#[derive(Debug)]
struct Hand {
    shard: SyncSender<OwnedFd>,
    event: EventFd,
}

/// Listens for as many shards as there are `events`. The first shard gets the listener, every
/// other what it is handed.
///
/// # Errors
/// A living server listens there, something else has the name, or the folder takes no file.
pub fn bind(
    UnixSocket { path, mode }: &UnixSocket,
    events: &[EventFd],
) -> io::Result<(Listener, Vec<Handed>)> {
    let Claim {
        socket,
        file,
        folder,
    } = wait_until_free(|| claim(path, *mode))?;
    socket.listen(BACKLOG)?;
    drop(folder);
    let (others, handed) = events
        .iter()
        .skip(1)
        .map(|event| {
            let (shard, handed) = sync_channel(HANDED_MAX);
            let event = event.clone();
            (Hand { shard, event }, handed)
        })
        .unzip();
    let unix = Unix {
        file,
        others,
        next: Cell::default(),
    };
    Ok((Listener::of_unix(socket.into(), unix), handed))
}

/// Looks whether [`bind`] could listen there now.
///
/// # Errors
/// As of [`bind`].
pub fn probe(UnixSocket { path, mode }: &UnixSocket) -> io::Result<()> {
    let claim = claim(path, *mode)?;
    claim.file.remove();
    Ok(())
}

/// A name that is ours, at which nobody listens yet.
struct Claim {
    socket: RawSocket,
    file: SocketFile,
    /// Locked. To whoever else starts now our file is a dead server's until we listen.
    folder: File,
}

/// Takes the name, in place of a dead server if need be. Nobody can connect before `listen`.
fn claim(path: &Path, FileMode(mode): FileMode) -> io::Result<Claim> {
    let folder = File::open(path.parent().unwrap_or(path))?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        Errno::WOULDBLOCK => Errno::ADDRINUSE,
        error => error,
    })?;
    make_way(path)?;
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(Claim {
        socket,
        file,
        folder,
    })
}

/// Takes away the file of a server that is dead.
fn make_way(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        let problem = "there is a file that is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
    }
    let caller = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    caller.set_nonblocking(true)?;
    match caller.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Also one that is too busy to let us in, or will not, is alive.
        _ => Err(Errno::ADDRINUSE.into()),
    }
}

/// The file that stands for the listener.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            device_and_inode: device_and_inode(path)?,
        })
    }

    /// Removes it, unless somebody has put another in its place.
    fn remove(&self) {
        let found = device_and_inode(&self.path);
        if found.is_ok_and(|found| found == self.device_and_inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            warn!(%error, "the file of the Unix socket is left behind");
        }
    }
}

fn device_and_inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl Unix {
    /// Takes the name away. To be done before the socket is closed: whoever starts in between must
    /// find a living server or no file, for a dead one's file is removed by whoever finds it.
    pub(super) fn close(&self) {
        self.file.remove();
    }

    /// Gives a new connection to the shard whose turn it is; `Some` if that is the calling one.
    ///
    /// A shard that leaves keeps what it accepts: the others may be gone. So does one that hands to
    /// a shard that has no room.
    pub(super) fn hand_round<S: Protocol>(
        &self,
        edge: &Edge<S>,
        connection: OwnedFd,
    ) -> Option<OwnedFd> {
        if let Err(error) = set_socket_send_buffer_size(&connection, SEND_BUFFER) {
            warn!(%error, "a connection keeps the kernel's own buffer");
        }
        if edge.stage.get() >= Stage::DRAINING {
            return Some(connection);
        }
        let turn = self.next.get();
        self.next.set((turn + 1) % (self.others.len() + 1));
        // The turn behind the last of the others is our own.
        let Some(hand) = self.others.get(turn) else {
            return Some(connection);
        };
        match hand.shard.try_send(connection) {
            Ok(()) => {
                hand.event.wake();
                None
            }
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => Some(back),
        }
    }
}

impl<S: Protocol> Edge<S> {
    /// Takes the connections that the first shard has accepted for this one. Returns how many.
    pub(super) fn take_handed(&self) -> usize {
        let Some(handed) = &self.handed else {
            return 0;
        };
        let handed = handed.try_iter().take(HANDED_MAX);
        handed.map(|connection| self.admit(connection)).count()
    }
}
