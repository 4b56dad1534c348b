//! From one shard to another.

use std::sync::Arc;

use slapback::broadcast::Broadcast;
use slapback::ring::{Inbox, Wake};
use slapback::shard::ends::{Ends, mesh};
use slapback::shard::message::{Message, ShardIndex};

use super::count;
use crate::stage::APP;

/// Entries of one batch.
const BATCH: usize = 64;
const ENTRIES_MAX: usize = 4096;
const WAITING_MAX: usize = 64 << 20;

/// Counts this path.
pub fn run() {
    let mut pair = Pair::new();
    let entry = Arc::new(Broadcast::nothing(APP));
    let batch = vec![entry; BATCH];
    count("ring_batch", BATCH, vec![batch; 3], |batch| {
        pair.push(batch);
        assert_eq!(pair.take(), BATCH);
    });
}

/// The ends of two threads' rings.
pub struct Pair {
    from: Ends,
    to: Ends,
}

/// Nobody sleeps.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

impl Pair {
    /// Two threads that have said nothing to one another.
    pub fn new() -> Self {
        let inbox = || Arc::new(Inbox::new(WAITING_MAX, Box::new(Nobody)));
        let mut ends = mesh(ENTRIES_MAX, &[inbox(), inbox()]).into_iter();
        let mut end = || ends.next().expect("two ends");
        Self {
            from: end(),
            to: end(),
        }
    }

    /// Hands over a batch.
    pub fn push(&mut self, batch: impl IntoIterator<Item = Arc<Broadcast>>) {
        for broadcast in batch {
            let has_spilled = self.from.push(ShardIndex(1), Message::Deliver(broadcast));
            assert!(!has_spilled);
        }
        self.from.wake();
    }

    /// Takes all that was handed over, and returns how many entries that was.
    pub fn take(&mut self) -> usize {
        let mut taken = 0;
        self.to.take_while(|_| {
            taken += 1;
            true
        });
        taken
    }
}
