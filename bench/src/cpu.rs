//! CPUs: where a thread runs, and what a process has used of them.

use std::fs;
use std::path::Path;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Failure;

/// Where senders run, the server and the floor.
pub const SENDER: usize = 0;
/// Where the receiver and publisher run.
pub const RECEIVER: usize = 1;

/// Pins the calling thread, and what it spawns, to one CPU.
pub fn pin(cpu: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
        .map_err(|errno| format!("cannot run on CPU {cpu}: {errno}").into())
}

/// Nanoseconds that a process's living threads have run, in user space and in the kernel, softirqs
/// inside their calls included.
pub fn used_ns(process: u32) -> Result<u64, Failure> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        sum += run_ns(&task?.path().join("schedstat"))?;
    }
    Ok(sum)
}

fn run_ns(schedstat: &Path) -> Result<u64, Failure> {
    let text = fs::read_to_string(schedstat)?;
    let first = text.split_whitespace().next().ok_or("an empty schedstat")?;
    Ok(first.parse()?)
}
