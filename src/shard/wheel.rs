//! Timing wheel: one per shard, no timer per socket.
//!
//! A slot that is heard from moves its deadline without touching the wheel: when the old entry
//! comes up, the shard asks the session anew and schedules it again.

use std::time::{Duration, Instant};

use crate::shard::index::Slot;

/// One step of the wheel; deadlines are met within one step after they are due.
pub const TICK: Duration = Duration::from_millis(100);

/// Steps of one round, 102 s. What is due later comes up once a round and goes in again.
const BUCKETS: usize = 1024;

/// Slots by when they want to be looked at.
#[derive(Debug)]
pub struct Wheel {
    start: Instant,
    buckets: Vec<Vec<Entry>>,
    /// The first step that has not been taken.
    next: u64,
    /// By slot: the step at which it will come up, [`NEVER`] if not at all.
    scheduled: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    slot: Slot,
    step: u64,
}

const NEVER: u64 = u64::MAX;

impl Wheel {
    /// An empty wheel that starts turning at `start`.
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            buckets: vec![Vec::new(); BUCKETS],
            next: 0,
            scheduled: Vec::new(),
        }
    }

    /// Wants `slot` looked at when `due` has come. An earlier appointment stays.
    pub fn schedule(&mut self, slot: Slot, due: Instant) {
        let step = self
            .step_at(due)
            .clamp(self.next, self.next + BUCKETS as u64 - 1);
        if self.scheduled.len() <= slot.at() {
            self.scheduled.resize(slot.at() + 1, NEVER);
        }
        let Some(scheduled) = self.scheduled.get_mut(slot.at()) else {
            return;
        };
        if *scheduled <= step {
            return;
        }
        *scheduled = step;
        if let Some(bucket) = self.buckets.get_mut(bucket_of(step)) {
            bucket.push(Entry { slot, step });
        }
    }

    /// Forgets a slot.
    pub fn cancel(&mut self, slot: Slot) {
        if let Some(scheduled) = self.scheduled.get_mut(slot.at()) {
            *scheduled = NEVER;
        }
    }

    /// Moves the slots that are due into `due`, and forgets their appointments.
    pub fn advance(&mut self, now: Instant, due: &mut Vec<Slot>) {
        let last = now.saturating_duration_since(self.start).as_millis() / TICK.as_millis();
        let last = u64::try_from(last).unwrap_or(NEVER - 1);
        // After a long pause of the process one round meets every bucket.
        if last >= self.next + BUCKETS as u64 {
            self.next = last + 1 - BUCKETS as u64;
        }
        while self.next <= last {
            let Some(bucket) = self.buckets.get_mut(bucket_of(self.next)) else {
                return;
            };
            for Entry { slot, step } in bucket.drain(..) {
                // An entry whose slot has been cancelled or moved to an earlier step is void.
                if let Some(scheduled) = self.scheduled.get_mut(slot.at())
                    && *scheduled == step
                {
                    *scheduled = NEVER;
                    due.push(slot);
                }
            }
            if bucket.capacity() > BUCKET_KEPT {
                *bucket = Vec::new();
            }
            self.next += 1;
        }
    }

    /// The first step at which `due` has passed.
    fn step_at(&self, due: Instant) -> u64 {
        let millis = due.saturating_duration_since(self.start).as_millis();
        u64::try_from(millis.div_ceil(TICK.as_millis())).unwrap_or(NEVER - 1)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder of BUCKETS is below it"
)]
fn bucket_of(step: u64) -> usize {
    (step % BUCKETS as u64) as usize
}

/// Buckets that once held more entries than this give their memory back.
const BUCKET_KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn advance(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due.into_iter().map(|slot| slot.0).collect()
    }

    #[test]
    fn a_slot_comes_up_once_and_not_before_it_is_due() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.schedule(Slot(3), start + after(950));
        assert_eq!(advance(&mut wheel, start + after(949)), Vec::<u32>::new());
        assert_eq!(advance(&mut wheel, start + after(1000)), [3]);
        assert_eq!(advance(&mut wheel, start + after(5000)), Vec::<u32>::new());
    }

    #[test]
    fn the_earlier_of_two_appointments_counts() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.schedule(Slot(1), start + after(5000));
        wheel.schedule(Slot(1), start + after(1000));
        wheel.schedule(Slot(1), start + after(3000));
        assert_eq!(advance(&mut wheel, start + after(1000)), [1]);
        assert_eq!(advance(&mut wheel, start + after(9000)), Vec::<u32>::new());
    }

    #[test]
    fn a_deadline_beyond_one_round_comes_up_early_to_be_asked_again() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.schedule(Slot(1), start + Duration::from_secs(1000));
        assert_eq!(advance(&mut wheel, start + Duration::from_secs(103)), [1]);
    }

    #[test]
    fn a_cancelled_slot_does_not_come_up_and_its_next_owner_does() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.schedule(Slot(1), start + after(1000));
        wheel.cancel(Slot(1));
        wheel.schedule(Slot(1), start + after(2000));
        assert_eq!(advance(&mut wheel, start + after(1500)), Vec::<u32>::new());
        assert_eq!(advance(&mut wheel, start + after(2000)), [1]);
    }

    #[test]
    fn nothing_is_forgotten_over_a_pause_of_an_hour() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for slot in 0..1000 {
            wheel.schedule(Slot(slot), start + after(u64::from(slot) * 100));
        }
        let mut due = advance(&mut wheel, start + Duration::from_secs(3600));
        due.sort_unstable();
        assert_eq!(due, (0..1000).collect::<Vec<_>>());
    }
}
