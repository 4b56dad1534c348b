//! When events are due. A latency counts from there, so that an event that was sent late because an
//! earlier one held things up is as late as whoever waited for it says: no coordinated omission.

use std::time::{Duration, Instant};

use crate::receiver::Schedule;

/// So many events a second, from a beginning on.
pub struct Pace {
    start: Instant,
    rate: u64,
}

impl Pace {
    /// Event 0 is due at once.
    pub fn from_now(rate: u64) -> Self {
        Self {
            start: Instant::now(),
            rate,
        }
    }

    /// When an event is due.
    pub fn at(&self, number: u64) -> Instant {
        let (seconds, rest) = (number / self.rate, number % self.rate);
        self.start
            + Duration::from_secs(seconds)
            + Duration::from_nanos(rest * 1_000_000_000 / self.rate)
    }
}

impl Schedule for Pace {
    fn due(&self, number: u64) -> Option<Instant> {
        Some(self.at(number))
    }
}

/// Events that are sent together, and when.
pub struct Burst {
    first: u64,
    at: Instant,
}

impl Burst {
    /// A burst that goes out now and begins with this number.
    pub fn now(first: u64) -> Self {
        Self::at(first, Instant::now())
    }

    /// The same at some other time.
    pub fn at(first: u64, at: Instant) -> Self {
        Self { first, at }
    }
}

impl Schedule for Burst {
    fn due(&self, number: u64) -> Option<Instant> {
        (number >= self.first).then_some(self.at)
    }
}

/// Events that are due whenever there is room for them: their latency says nothing.
pub struct Untimed;

impl Schedule for Untimed {
    fn due(&self, _: u64) -> Option<Instant> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_does_not_drift() {
        let pace = Pace::from_now(3);
        let after = |number| pace.at(number).duration_since(pace.start);
        assert_eq!(after(0), Duration::ZERO);
        assert_eq!(after(1), Duration::from_nanos(333_333_333));
        assert_eq!(after(3_000_000), Duration::from_secs(1_000_000));
        assert_eq!(pace.due(3), Some(pace.at(3)));
    }

    #[test]
    fn a_frame_of_an_earlier_burst_has_no_latency_in_this_one() {
        let burst = Burst::now(16);
        assert_eq!(burst.due(15), None);
        assert_eq!(burst.due(31), burst.due(16));
        assert_eq!(Untimed.due(0), None);
    }
}
