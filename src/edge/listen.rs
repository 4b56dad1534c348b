//! Listening: bind, accept, admit. Called by the fleet at start and by each shard's accept task;
//! never reads from a connection.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use socket2::{Domain, Protocol as SocketProtocol, Socket as RawSocket, Type};
use tracing::warn;

use super::Edge;
use super::flush::Driver;
use super::poll::Readiness;
use super::unix::Unix;
use crate::proto::session::Protocol;

/// Connections the kernel keeps for us while we are busy.
pub(super) const BACKLOG: i32 = 4096;

/// A stalled reader's unsent bytes that the kernel may hold (inherited by accepted sockets).
const NOTSENT_LOWAT: u32 = 16 * 1024;

/// Connections accepted in a row before anything else gets its turn.
const ACCEPT_BURST: usize = 64;

const NO_ADDRESS: &str = "the name has no address";

/// How long a taken address is asked for again, and how often.
///
/// The kernel takes down an io_uring some milliseconds after its process has ended, and until
/// then the ring holds the listener: a restart would find its own port taken.
const TAKEN_WAIT: Duration = Duration::from_secs(2);
const TAKEN_PAUSE: Duration = Duration::from_millis(10);

/// What a shard accepts from.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// If it is a Unix-domain socket.
    unix: Option<Unix>,
}

/// Opens `count` listeners on one address, after making sure that nobody else listens there.
///
/// `host`: a name, an IPv4 or an IPv6 address without brackets; `::` listens on both families.
/// Port 0 takes a free one. With `is_shared` other processes may listen there too.
///
/// # Errors
/// The address is taken, unknown or not ours.
pub fn bind(
    host: &str,
    port: u16,
    count: usize,
    is_shared: bool,
) -> io::Result<(SocketAddr, Vec<Listener>)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, NO_ADDRESS);
    for address in (host, port).to_socket_addrs()? {
        match bind_all(address, count, is_shared) {
            Ok(bound) => return Ok(bound),
            // Another server is here already: its name's next address must not hide that.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_all(
    address: SocketAddr,
    count: usize,
    is_shared: bool,
) -> io::Result<(SocketAddr, Vec<Listener>)> {
    let mut address = address;
    if !is_shared {
        // With SO_REUSEPORT alone a second server would silently take half the browsers.
        address = wait_until_free(|| listen_once(address))?;
    }
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = open(address, true)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound;
        }
        socket.listen(BACKLOG)?;
        let socket = socket.into();
        listeners.push(Listener { socket, unix: None });
    }
    Ok((address, listeners))
}

/// Looks whether a host and port could be bound, as [`bind`] would.
///
/// # Errors
/// As of [`bind`].
pub fn probe(host: &str, port: u16, is_shared: bool) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, NO_ADDRESS);
    for address in (host, port).to_socket_addrs()? {
        match open(address, is_shared) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Tries until what is wanted is not taken any more, for a while.
pub(super) fn wait_until_free<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + TAKEN_WAIT;
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                thread::sleep(TAKEN_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Makes sure that nobody listens on the address. Returns it with the port that it stands for.
fn listen_once(address: SocketAddr) -> io::Result<SocketAddr> {
    let probe = open(address, false)?;
    probe.listen(1)?;
    Ok(probe.local_addr()?.as_socket().unwrap_or(address))
}

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<RawSocket> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(SocketProtocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    // Connections in TIME_WAIT would make every restart fail for a minute.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What came of accepting for a while.
pub(super) struct Burst {
    /// Connections that came.
    pub(super) count: usize,
    /// Somebody may wait who cannot be accepted now.
    is_stuck: bool,
}

enum Look {
    Came,
    Nobody,
    Stuck,
}

impl Listener {
    pub(super) fn of_unix(socket: OwnedFd, unix: Unix) -> Self {
        let unix = Some(unix);
        Self { socket, unix }
    }

    /// Something to wait on; on the shard's thread.
    pub(super) fn readiness(&self, driver: Driver) -> io::Result<Readiness> {
        Readiness::new(self.socket.as_fd(), driver)
    }

    /// Accepts what waits, up to one burst.
    pub(super) fn accept_all<S: Protocol>(&self, edge: &Edge<S>) -> Burst {
        for count in 0..ACCEPT_BURST {
            match self.accept(edge) {
                Look::Came => {}
                Look::Nobody => {
                    let is_stuck = false;
                    return Burst { count, is_stuck };
                }
                Look::Stuck => {
                    let is_stuck = true;
                    return Burst { count, is_stuck };
                }
            }
        }
        Burst {
            count: ACCEPT_BURST,
            is_stuck: false,
        }
    }

    /// Stops listening at once. Dropping it would not: an io_uring holds what it polls until the
    /// kernel takes it down, some milliseconds after the process has ended, and whoever connects
    /// in between is reset.
    pub(super) fn close(&self) {
        if let Some(unix) = &self.unix {
            unix.close();
        }
        if let Err(error) = shutdown(&self.socket, Shutdown::Both) {
            warn!(%error, "a listener is let go of only as the process ends");
        }
    }

    fn accept<S: Protocol>(&self, edge: &Edge<S>) -> Look {
        if edge.files.is_full() {
            edge.say_full();
            return Look::Stuck;
        }
        match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(descriptor) => {
                edge.files.open();
                let own = match &self.unix {
                    Some(unix) => unix.hand_round(edge, descriptor),
                    None => Some(descriptor),
                };
                if let Some(descriptor) = own {
                    edge.admit(descriptor);
                }
                Look::Came
            }
            Err(Errno::MFILE | Errno::NFILE) => {
                edge.say_full();
                Look::Stuck
            }
            // The peer of this one went away while it waited; others may wait behind it.
            Err(Errno::CONNABORTED | Errno::INTR) => Look::Came,
            Err(Errno::AGAIN) => Look::Nobody,
            // Short of memory, perhaps. Whoever waits keeps the listener readable.
            Err(_) => Look::Stuck,
        }
    }
}

/// Accepts connections, for ever.
pub(super) async fn accept_task<S: Protocol>(
    edge: Rc<Edge<S>>,
    listener: Rc<Listener>,
    accepts: Readiness,
) {
    loop {
        if let Err(error) = accepts.readable().await {
            warn!(%error, "waiting for connections failed");
            edge.next_tick().await;
        }
        if listener.accept_all(&edge).is_stuck {
            edge.next_tick().await;
        }
        edge.bounce.yield_now().await;
    }
}

impl<S: Protocol> Edge<S> {
    /// Accepting failed, as when no file is left, and rests for a while.
    async fn next_tick(&self) {
        self.tick_passed.yield_now().await;
    }

    fn say_full(&self) {
        if self.files.pause() {
            warn!("no file is left for another connection: accepting pauses until one closes");
        }
    }
}
