//! How many files the process has left for connections.
//!
//! Counted by the edges of all shards; close to the limit they turn new clients away, at the limit
//! they stop accepting. Never closes anything itself.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// So many files below the limit new `WebSockets` are turned away, while API calls are served.
const FILES_RESERVED: usize = 64;

/// Descriptors of the process that are connections, counted over all shards.
#[derive(Debug)]
pub struct Files {
    open: AtomicUsize,
    /// Connections that the file limit leaves room for.
    limit: usize,
    is_paused: AtomicBool,
}

impl Files {
    /// `limit`: connections that the file limit leaves room for.
    pub fn new(limit: usize) -> Self {
        Self {
            open: AtomicUsize::new(0),
            limit,
            is_paused: AtomicBool::new(false),
        }
    }

    /// Are new `WebSockets` to be turned away?
    pub(super) fn is_nearly_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) + FILES_RESERVED > self.limit
    }

    /// Is there no file left?
    pub(super) fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.limit
    }

    /// One more is open.
    pub(super) fn open(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// One less is open.
    pub(super) fn close(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        // At the limit every close lets one in and fills the files again: that is no new episode.
        if !self.is_nearly_full() {
            self.is_paused.store(false, Ordering::Relaxed);
        }
    }

    /// True the first time in an episode.
    pub(super) fn pause(&self) -> bool {
        !self.is_paused.swap(true, Ordering::Relaxed)
    }
}
