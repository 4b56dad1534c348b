//! What one socket has had of a run of numbered events: every one once, in order, or what is wrong.
//!
//! The receiver keeps one for each socket. Knows no socket and no clock.

use std::collections::BTreeSet;

use crate::tally::Tally;

/// The numbers that one socket is to have: `first`, `first + stride` and so on.
pub struct Sequence {
    first: u64,
    stride: u64,
    /// How many of them have come or been passed over.
    passed: u64,
    /// Those passed over that have not come.
    missing: BTreeSet<u64>,
}

impl Sequence {
    /// A socket that is to have every event.
    pub fn of_all() -> Self {
        Self::of_every(1, 0)
    }

    /// A socket that is to have each `stride`th event, from `first` on.
    pub fn of_every(stride: u64, first: u64) -> Self {
        Self {
            first,
            stride,
            passed: 0,
            missing: BTreeSet::new(),
        }
    }

    /// Takes the number that came next.
    pub fn take(&mut self, number: u64, tally: &mut Tally) {
        tally.frames += 1;
        let Some(place) = self.place(number) else {
            tally.doubled += 1;
            return;
        };
        if place >= self.passed {
            self.missing.extend(self.passed..place);
            self.passed = place + 1;
        } else if self.missing.remove(&place) {
            tally.reordered += 1;
        } else {
            tally.doubled += 1;
        }
    }

    /// Begins anew after a round of `published` events; gives how many of them never came.
    pub fn finish(&mut self, published: u64) -> u64 {
        let due = published.saturating_sub(self.first).div_ceil(self.stride);
        let lost = due.saturating_sub(self.passed) + self.missing.len() as u64;
        self.passed = 0;
        self.missing.clear();
        lost
    }

    fn place(&self, number: u64) -> Option<u64> {
        let from_first = number.checked_sub(self.first)?;
        (from_first % self.stride == 0).then_some(from_first / self.stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is lost, doubled and reordered of a round.
    fn wrong(sequence: &mut Sequence, numbers: &[u64], published: u64) -> [u64; 3] {
        let mut tally = Tally::new().unwrap();
        for &number in numbers {
            sequence.take(number, &mut tally);
        }
        assert_eq!(tally.frames, numbers.len() as u64);
        [sequence.finish(published), tally.doubled, tally.reordered]
    }

    #[test]
    fn what_comes_once_and_in_order_is_exact_round_after_round() {
        let mut sequence = Sequence::of_all();
        for _ in 0..2 {
            assert_eq!(wrong(&mut sequence, &[0, 1, 2], 3), [0, 0, 0]);
        }
    }

    #[test]
    fn lost_doubled_and_reordered_are_told_apart() {
        let mut sequence = Sequence::of_all();
        // 4 and 6 never come.
        assert_eq!(wrong(&mut sequence, &[0, 1, 3, 2, 2, 5], 7), [2, 1, 1]);
    }

    #[test]
    fn a_socket_of_a_few_channels_misses_only_its_own() {
        let mut sequence = Sequence::of_every(10, 3);
        assert_eq!(wrong(&mut sequence, &[3, 13, 23], 24), [0, 0, 0]);
        assert_eq!(wrong(&mut sequence, &[3, 13], 23), [0, 0, 0]);
        assert_eq!(wrong(&mut sequence, &[3], 24), [2, 0, 0]);
        assert_eq!(wrong(&mut sequence, &[], 3), [0, 0, 0]);
        assert_eq!(wrong(&mut sequence, &[4, 2], 0), [0, 2, 0]);
    }
}
