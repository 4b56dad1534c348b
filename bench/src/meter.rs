//! What a round cost: the CPU of who is measured and our own, and the time by the clock.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::cpu::Time;

/// What processes and the load generator have used of their CPUs since some moment.
pub struct Meter {
    processes: Vec<u32>,
    theirs: Option<Time>,
    own: Time,
    started: Instant,
}

/// What was used in between.
#[derive(Clone, Copy)]
pub struct Usage {
    /// The measured processes, where they are known.
    pub theirs: Option<Time>,
    /// The load generator.
    pub own: Time,
    /// What the clock says.
    pub elapsed: Duration,
}

impl Meter {
    /// Begins to measure.
    pub fn start(processes: impl IntoIterator<Item = u32>) -> Result<Self, Failure> {
        let processes: Vec<u32> = processes.into_iter().collect();
        Ok(Self {
            theirs: sum(&processes)?,
            processes,
            own: Time::of(std::process::id())?,
            started: Instant::now(),
        })
    }

    /// What was used until now.
    pub fn stop(&self) -> Result<Usage, Failure> {
        let elapsed = self.started.elapsed();
        let theirs = sum(&self.processes)?;
        Ok(Usage {
            theirs: theirs
                .zip(self.theirs)
                .map(|(now, before)| now.since(before)),
            own: Time::of(std::process::id())?.since(self.own),
            elapsed,
        })
    }
}

impl Usage {
    /// What was used in both.
    pub fn and(self, other: Self) -> Self {
        Self {
            theirs: self.theirs.zip(other.theirs).map(|(a, b)| a.and(b)),
            own: self.own.and(other.own),
            elapsed: self.elapsed + other.elapsed,
        }
    }
}

/// `None` of no process.
fn sum(processes: &[u32]) -> Result<Option<Time>, Failure> {
    let times: Result<Vec<_>, _> = processes.iter().copied().map(Time::of).collect();
    Ok(times?.into_iter().reduce(Time::and))
}
