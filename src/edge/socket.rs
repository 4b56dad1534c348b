//! One connection at the edge: its descriptor, its read task, its writable wait.
//!
//! The task is parked in `readable()` and holds no buffer: reading borrows the shard's scratch.
//! It never writes; the flusher does.

use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use super::Edge;
use super::flush;
use super::poll::Notify;
use crate::proto::session::Protocol;
use crate::shard::message::SessionKey;

/// A connection's descriptor, open as long as its slot is in the shard's table.
pub(super) struct Socket {
    stream: monoio::net::TcpStream,
    is_paused: Cell<bool>,
    is_closed: Cell<bool>,
    changed: Notify,
}

impl Socket {
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            stream: monoio::net::TcpStream::from_std(TcpStream::from(descriptor))?,
            is_paused: Cell::new(false),
            is_closed: Cell::new(false),
            changed: Notify::default(),
        })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    pub(super) fn set_paused(&self, is_paused: bool) {
        self.is_paused.set(is_paused);
    }

    pub(super) fn resume(&self) {
        self.is_paused.set(false);
        self.changed.raise();
    }

    /// The slot is gone: the read task ends, and the descriptor closes with it.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.changed.raise();
        // Wakes the tasks that are parked in `readable()` and `writable()`: each holds the
        // descriptor open. A peer that is gone already is no news.
        let _ = flush::shutdown_both(self.descriptor());
    }
}

/// Reads until the shard gives the slot up.
pub(super) async fn read_task<S: Protocol>(edge: Rc<Edge<S>>, socket: Rc<Socket>, key: SessionKey) {
    while !socket.is_closed.get() {
        if socket.is_paused.get() {
            socket.changed.raised().await;
            continue;
        }
        if socket.stream.readable(false).await.is_err() {
            edge.handle_lost(key);
            break;
        }
        if socket.is_closed.get() {
            break;
        }
        match edge.read(&socket, key) {
            Ok(()) => {}
            Err(error) if is_passing(&error) => {}
            Err(_) => edge.handle_lost(key),
        }
        // Under epoll a socket with more to read is readable at once, and a peer that sends faster
        // than we read would keep the thread.
        edge.bounce.yield_now().await;
    }
    edge.files.close();
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Tells the shard once the socket can take bytes again.
pub(super) async fn writable_task<S: Protocol>(
    edge: Rc<Edge<S>>,
    socket: Rc<Socket>,
    key: SessionKey,
) {
    // An error is found by the flusher, which then tries and is told.
    let _ = socket.stream.writable(false).await;
    if !socket.is_closed.get() {
        edge.handle_writable(key);
    }
}
