//! CPUs: where a thread runs, and what a process has used of them.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Failure;

/// Where senders run, the server and the floor.
pub const SENDER: usize = 0;
/// Where the receiver and publisher run.
pub const RECEIVER: usize = 1;

/// Pins the calling thread, and what it spawns, to one CPU.
pub fn pin(cpu: usize) -> Result<(), Failure> {
    place(None, &[cpu])
}

/// Lets a process of one thread, or else the calling thread and what it spawns, run on these CPUs
/// alone.
pub fn place(process: Option<u32>, cpus: &[usize]) -> Result<(), Failure> {
    let process = process.map(pid).transpose()?;
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    sched_setaffinity(process, &set)
        .map_err(|errno| format!("cannot run on CPUs {cpus:?}: {errno}").into())
}

/// As system calls have it.
pub fn pid(process: u32) -> Result<Pid, Failure> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| format!("{process} is no process").into())
}

/// From here on the calling thread runs only while no other wants its CPU.
///
/// Being nice is not enough: whoever wakes then waits until the nice one's slice is over.
pub fn stand_back() -> Result<(), Failure> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter outlives the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const priority) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// Nanoseconds of a process's living threads.
#[derive(Clone, Copy, Default)]
pub struct Time {
    /// They ran, in user space and in the kernel, softirqs inside their calls included.
    pub ran_ns: u64,
    /// They were ready to run, and something else had the CPU.
    pub waited_ns: u64,
}

impl Time {
    /// Of a process until now.
    pub fn of(process: u32) -> Result<Self, Failure> {
        let mut sum = Self::default();
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue; // it has ended in between
            };
            let mut words = text.split_whitespace().map(str::parse::<u64>);
            let mut next = || words.next().ok_or("schedstat is cut short");
            sum.ran_ns += next()??;
            sum.waited_ns += next()??;
        }
        Ok(sum)
    }

    /// Of several processes together.
    pub fn of_all(processes: &[u32]) -> Result<Self, Failure> {
        let mut times = processes.iter().map(|&process| Self::of(process));
        times.try_fold(Self::default(), |sum, one| Ok(sum.and(one?)))
    }

    /// Takes off what was no work.
    pub fn take_off(&mut self, idled: Duration) {
        let idled_ns = u64::try_from(idled.as_nanos()).unwrap_or(u64::MAX);
        self.ran_ns = self.ran_ns.saturating_sub(idled_ns);
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            ran_ns: self.ran_ns + other.ran_ns,
            waited_ns: self.waited_ns + other.waited_ns,
        }
    }

    /// What came since; a thread that has ended takes its time with it.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            ran_ns: self.ran_ns.saturating_sub(earlier.ran_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
        }
    }
}
