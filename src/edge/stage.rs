//! What the fleet tells every shard: where the process is in its life, and which apps it serves.
//!
//! Set by the fleet, looked at by each edge at every tick, so within a tenth of a second. Nothing
//! here wakes anybody or waits.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::app::Apps;

/// Where the whole process is in its life.
#[derive(Debug, Default)]
pub struct Stage {
    reached: AtomicU8,
    /// Shards that have nothing left to wait for.
    drained: AtomicUsize,
}

impl Stage {
    /// `/up` says that the node is leaving.
    pub const LEAVING: u8 = 1;
    /// Sockets are being closed.
    pub const DRAINING: u8 = 2;

    /// Goes on to a stage.
    pub fn set(&self, stage: u8) {
        self.reached.store(stage, Ordering::Release);
    }

    pub(super) fn get(&self) -> u8 {
        self.reached.load(Ordering::Acquire)
    }

    /// Counts a shard that was or was not drained as what it is now. Returns how many are.
    pub(super) fn count_drained(&self, was: bool, is: bool) -> usize {
        match (was, is) {
            (false, true) => self.drained.fetch_add(1, Ordering::AcqRel) + 1,
            (true, false) => self.drained.fetch_sub(1, Ordering::AcqRel) - 1,
            _ => self.drained.load(Ordering::Acquire),
        }
    }
}

/// The apps that the whole process serves.
#[derive(Debug)]
pub struct Serving {
    /// How often they have been replaced: a look at it costs no lock.
    edition: AtomicU64,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    apps: Arc<Apps>,
    /// Shards that have not taken them.
    missing: usize,
}

/// Apps that a shard has just learnt of.
pub(super) struct Taken {
    pub(super) apps: Arc<Apps>,
    /// No other shard is behind.
    pub(super) by_all: bool,
}

impl Serving {
    /// What every shard begins with.
    pub fn new(apps: Arc<Apps>) -> Self {
        Self {
            edition: AtomicU64::new(0),
            latest: Mutex::new(Latest { apps, missing: 0 }),
        }
    }

    /// Puts other apps in their place, for as many shards to take.
    pub fn replace(&self, apps: Arc<Apps>, shards: usize) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = Latest {
            apps,
            missing: shards,
        };
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// The apps, if they are others than those of the caller's edition.
    pub(super) fn take(&self, edition: &Cell<u64>) -> Option<Taken> {
        if self.edition.load(Ordering::Acquire) == edition.get() {
            return None;
        }
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        edition.set(self.edition.load(Ordering::Acquire));
        latest.missing = latest.missing.saturating_sub(1);
        Some(Taken {
            apps: Arc::clone(&latest.apps),
            by_all: latest.missing == 0,
        })
    }
}
