//! One connection at the edge: its descriptor, its read task, its writable wait.
//!
//! The task is parked in `readable()` and holds no buffer: reading borrows the shard's scratch.
//! It never writes; the flusher does.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use super::Edge;
use super::flush::{self, Driver};
use super::poll::Notify;
use crate::proto::session::Protocol;
use crate::shard::message::SessionKey;

/// A connection's descriptor, open as long as its slot is in the shard's table.
pub(super) struct Socket {
    stream: monoio::net::TcpStream,
    /// Tasks that are parked until it is readable or writable.
    parked: Cell<u8>,
    is_paused: Cell<bool>,
    is_closed: Cell<bool>,
    changed: Notify,
}

impl Socket {
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            stream: monoio::net::TcpStream::from_std(TcpStream::from(descriptor))?,
            parked: Cell::new(0),
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
        if self.parked.get() > 0 {
            // Wakes them: each holds the descriptor open. A peer that is gone already is no news.
            let _ = flush::shutdown_both(self.descriptor());
        }
    }

    /// Waits until there is something to read, or under epoll perhaps not.
    async fn readable(&self, driver: Driver) -> io::Result<()> {
        if driver == Driver::Sendmsg {
            // The runtime forgets that a socket was readable when the kernel denies it. That once,
            // it is asked; not again at the wake that follows, for then we read.
            if let Poll::Ready(answer) = look(self.stream.readable(false)).await {
                return answer;
            }
            return self.park(self.stream.readable(true)).await;
        }
        self.park(self.stream.readable(false)).await
    }

    async fn writable(&self) -> io::Result<()> {
        self.park(self.stream.writable(false)).await
    }

    async fn park(&self, wait: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        self.parked.update(|parked| parked + 1);
        let waited = wait.await;
        self.parked.update(|parked| parked - 1);
        waited
    }
}

/// Reads until the shard gives the slot up.
pub(super) async fn read_task<S: Protocol>(edge: Rc<Edge<S>>, socket: Rc<Socket>, key: SessionKey) {
    // Most who connect have spoken by the time they are accepted.
    let mut may_have_spoken = true;
    while !socket.is_closed.get() {
        if socket.is_paused.get() {
            socket.changed.raised().await;
            continue;
        }
        if !std::mem::take(&mut may_have_spoken) && socket.readable(edge.driver).await.is_err() {
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

/// Polls once.
async fn look<T>(wait: impl Future<Output = T>) -> Poll<T> {
    let mut wait = pin!(wait);
    poll_fn(|context| Poll::Ready(wait.as_mut().poll(context))).await
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
    let _ = socket.writable().await;
    if !socket.is_closed.get() {
        edge.handle_writable(key);
    }
}
