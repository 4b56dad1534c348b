//! What one seed may bring about, and how often each came about.

use std::collections::BTreeMap;

use slapback::redis::bus::{Limits, PIECE_BYTES};

/// What may go wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) limits: Limits,
    /// Redis dies, stands still, cuts connections.
    pub(crate) may_fail: bool,
    /// A node does not reach Redis for longer than the others wait for it.
    pub(crate) may_part: bool,
    /// Nodes die, and others are born in their place.
    pub(crate) may_die: bool,
}

impl Faults {
    /// Is so little kept that something may be dropped?
    pub(crate) fn is_tight(&self) -> bool {
        self.limits.replay_bytes <= PIECE_BYTES
    }
}

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// What cannot be ruled out is to be rare.
    pub(crate) fn require_at_most(&self, most: u64, what: &'static str) {
        let count = self.0.get(what).copied().unwrap_or_default();
        assert!(count <= most, "{what}: {count} times");
    }

    /// A fault that never struck shows nothing.
    pub(crate) fn require(&self, all: &[&'static str]) {
        println!("{:?}", self.0);
        for what in all {
            assert!(self.0.contains_key(what), "no {what}: {:?}", self.0);
        }
    }
}
