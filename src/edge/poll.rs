//! Waiting, on one shard's thread: for a descriptor, for another thread, for another task.
//!
//! Called by the edge's tasks; never reads or writes what it waits for.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::{Poll, Waker};

use super::flush::Driver;

/// A descriptor that can be waited for and nothing else, whatever kind it is.
///
/// The runtime offers readiness of its own socket types only, and never looks inside them: so
/// any pollable descriptor may come dressed as one.
pub struct Readiness {
    stream: monoio::net::UnixStream,
    driver: Driver,
}

impl Readiness {
    /// Watches `descriptor`; must be called on the runtime's thread.
    pub fn new(descriptor: BorrowedFd<'_>, driver: Driver) -> io::Result<Self> {
        let stream = UnixStream::from(descriptor.try_clone_to_owned()?);
        let stream = monoio::net::UnixStream::from_std(stream)?;
        Ok(Self { stream, driver })
    }

    /// Waits until it is readable, or under epoll perhaps not.
    pub async fn readable(&self) -> io::Result<()> {
        if self.driver == Driver::Sendmsg {
            // The runtime forgets that a descriptor was readable when the kernel denies it. That
            // once, it is asked; not again at the wake that follows.
            if let Poll::Ready(answer) = look(self.stream.readable(false)).await {
                return answer;
            }
            return self.stream.readable(true).await;
        }
        self.stream.readable(false).await
    }
}

/// Polls once.
async fn look<T>(wait: impl Future<Output = T>) -> Poll<T> {
    let mut wait = pin!(wait);
    poll_fn(|context| Poll::Ready(wait.as_mut().poll(context))).await
}

/// A flag that one task of a thread waits for and others raise.
#[derive(Default)]
pub struct Notify {
    is_raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Notify {
    /// Raises the flag and wakes the waiting task.
    pub fn raise(&self) {
        self.is_raised.set(true);
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }

    /// Takes the flag down.
    pub fn lower(&self) {
        self.is_raised.set(false);
    }

    /// Is the flag up?
    pub fn is_raised(&self) -> bool {
        self.is_raised.get()
    }

    /// Waits until the flag is up, and takes it down.
    pub async fn raised(&self) {
        poll_fn(|context| {
            if self.is_raised.replace(false) {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Where tasks wait until another lets all of them go on: once other tasks and the kernel's news
/// have had their turn, or at the next tick.
///
/// A task of monoio 0.2.4 that wakes itself is run again before any I/O is looked at, for ever.
/// So wakers are handed to another task that wakes them from there.
#[derive(Default)]
pub struct Bounce {
    asked: Notify,
    parked: RefCell<Vec<Waker>>,
}

impl Bounce {
    /// For the other task: waits until somebody yields.
    pub async fn asked(&self) {
        self.asked.raised().await;
    }

    /// For the other task: lets everybody who yielded go on.
    pub fn release(&self) {
        let mut parked = self.parked.take();
        parked.drain(..).for_each(Waker::wake);
        self.parked.replace(parked);
    }

    /// Yields once.
    pub async fn yield_now(&self) {
        let mut has_parked = false;
        poll_fn(|context| {
            if std::mem::replace(&mut has_parked, true) {
                return Poll::Ready(());
            }
            self.parked.borrow_mut().push(context.waker().clone());
            self.asked.raise();
            Poll::Pending
        })
        .await;
    }
}
