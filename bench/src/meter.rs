//! What a round cost: the CPU of who is measured and our own, and the time by the clock.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::cpu::Time;

/// What a process and the load generator have used of their CPUs since some moment.
pub struct Meter {
    process: Option<u32>,
    theirs: Option<Time>,
    own: Time,
    started: Instant,
}

/// What was used in between.
#[derive(Clone, Copy)]
pub struct Usage {
    /// The measured process, where it is known.
    pub theirs: Option<Time>,
    /// The load generator.
    pub own: Time,
    /// What the clock says.
    pub elapsed: Duration,
}

impl Meter {
    /// Begins to measure.
    pub fn start(process: Option<u32>) -> Result<Self, Failure> {
        Ok(Self {
            process,
            theirs: process.map(Time::of).transpose()?,
            own: Time::of(std::process::id())?,
            started: Instant::now(),
        })
    }

    /// Ends it.
    pub fn stop(self) -> Result<Usage, Failure> {
        let elapsed = self.started.elapsed();
        let theirs = self.process.map(Time::of).transpose()?;
        Ok(Usage {
            theirs: theirs
                .zip(self.theirs)
                .map(|(now, before)| now.since(before)),
            own: Time::of(std::process::id())?.since(self.own),
            elapsed,
        })
    }
}
