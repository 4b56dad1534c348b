//! One measured round of one contender under one load.

use std::time::Duration;

use crate::meter::Usage;
use crate::tally::Tally;

/// What a round was and what came of it.
pub struct Sample {
    /// The load, for the tables.
    pub load: String,
    /// What it cost in all: nanoseconds of CPU, or bytes. `None` where it cannot be known.
    pub cost: Option<u64>,
    /// How many the cost is for: deliveries, cycles, calls, sockets.
    pub units: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// The part of the time that the measured process ran.
    pub busy: Option<f64>,
    /// The part of the time that the load generator ran.
    pub own_busy: f64,
    /// The part of the time that one of the two was ready and had no CPU.
    pub waited: f64,
    /// What was received.
    pub tally: Tally,
    /// Of several CPUs that send, the part of the sockets that the fullest has.
    pub fullest: Option<f64>,
}

impl Sample {
    /// A round whose cost is CPU, for each frame that came.
    pub fn of_cpu(load: String, usage: Usage, tally: Tally) -> Self {
        let theirs = usage.theirs.unwrap_or_default();
        let share = |ns: u64| ns as f64 / usage.elapsed.as_nanos() as f64;
        Self {
            load,
            cost: usage.theirs.map(|time| time.ran_ns),
            units: tally.frames,
            elapsed: usage.elapsed,
            busy: usage.theirs.map(|time| share(time.ran_ns)),
            own_busy: share(usage.own.ran_ns),
            waited: share(usage.own.waited_ns.max(theirs.waited_ns)),
            tally,
            fullest: None,
        }
    }

    /// A round whose cost is memory, for each of so many sockets.
    pub fn of_bytes(load: String, bytes: u64, sockets: u64, tally: Tally) -> Self {
        Self {
            load,
            cost: Some(bytes),
            units: sockets,
            elapsed: Duration::ZERO,
            busy: None,
            own_busy: 0.0,
            waited: 0.0,
            tally,
            fullest: None,
        }
    }

    /// So many in that time, whose cost is in another row.
    pub fn of_count(load: String, elapsed: Duration, tally: Tally) -> Self {
        Self {
            load,
            cost: None,
            units: tally.frames,
            elapsed,
            busy: None,
            own_busy: 0.0,
            waited: 0.0,
            tally,
            fullest: None,
        }
    }

    /// What one of them cost.
    pub fn per_unit(&self) -> Option<f64> {
        Some(self.cost? as f64 / self.units as f64)
    }

    /// How many there were in a second; `None` where the time was not the point.
    pub fn per_second(&self) -> Option<f64> {
        (self.elapsed > Duration::ZERO).then(|| self.units as f64 / self.elapsed.as_secs_f64())
    }
}
