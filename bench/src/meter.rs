//! What a round cost: the CPU of who is measured and our own, and the time by the clock.

use std::time::{Duration, Instant};

use crate::{Failure, cpu};

/// What a process and the load generator have used of their CPUs since some moment.
pub struct Meter {
    process: Option<u32>,
    theirs: u64,
    own: u64,
    started: Instant,
}

/// What was used in between.
#[derive(Clone, Copy)]
pub struct Usage {
    /// Nanoseconds that the measured process ran, where that is known.
    pub cpu_ns: Option<u64>,
    /// Nanoseconds that the load generator ran.
    pub own_ns: u64,
    /// What the clock says.
    pub elapsed: Duration,
}

impl Meter {
    /// Begins to measure.
    pub fn start(process: Option<u32>) -> Result<Self, Failure> {
        Ok(Self {
            process,
            theirs: used_ns(process)?.unwrap_or_default(),
            own: cpu::used_ns(std::process::id())?,
            started: Instant::now(),
        })
    }

    /// Ends it.
    pub fn stop(self) -> Result<Usage, Failure> {
        Ok(Usage {
            elapsed: self.started.elapsed(),
            cpu_ns: used_ns(self.process)?.map(|now| now.saturating_sub(self.theirs)),
            own_ns: cpu::used_ns(std::process::id())? - self.own,
        })
    }
}

fn used_ns(process: Option<u32>) -> Result<Option<u64>, Failure> {
    process.map(cpu::used_ns).transpose()
}
