//! How one thread wakes another that waits in the kernel: an eventfd.
//!
//! Each shard's thread and the Redis thread wait on one; producers hold clones of it. Nothing here
//! waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use crate::ring::Wake;

/// Wakes a thread from any other. A clone is the same eventfd.
#[derive(Debug, Clone)]
pub struct EventFd(Arc<OwnedFd>);

impl EventFd {
    /// A new eventfd at zero.
    ///
    /// # Errors
    /// The kernel gives no more descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(eventfd(0, flags)?)))
    }

    /// Takes all wakes so far.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // Nothing to take is fine: two wakes may have come as one.
        let _ = rustix::io::read(&*self.0, &mut count);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        // It fails only if the counter is full, and then the thread is being woken anyway.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}
