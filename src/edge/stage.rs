//! Where the process is in its life.
//!
//! Set by the fleet, looked at by each edge at every tick, so within a tenth of a second. Nothing
//! here wakes anybody or waits.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

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
