//! Sockets come and go by the hundred: what those notice that are there already.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::setpriority_process;

use super::storm::come_and_go;
use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::client::AT_ONCE;
use crate::contender::{Contender, Server};
use crate::receiver::Receiver;
use crate::sample::Sample;
use crate::source::Api;
use crate::stage::{Load, Stage};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "rush",
    about: "100 events/s to 100 subscribers while others connect, subscribe and close",
    unit: "CPU ns per delivery, of all that the server does",
    sockets: &[100],
    baseline: Baseline::Load(ALONE),
    missing: || None,
    rounds: 3,
    round,
};

const ALONE: &str = "nobody else";
const AMID: &str = "amid a storm";
const RATE: u64 = 100;
const EVENTS: (u64, u64) = (300, 100);
/// Of the thread that makes the storm: who receives shares its CPU and must not wait for it.
const NICE: i32 = 19;

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    // The bare loops do only one thing each.
    let Some(server) = contender.start()? else {
        return Ok(Vec::new());
    };
    let events = effort.pick(EVENTS.0, EVENTS.1);
    let receiver = Receiver::of(&server, sockets)?;
    let source = Api::to_all(&server)?;
    let mut stage = Stage::new(server.pid, source, receiver, sockets as u64)?;
    stage.warm_up()?;
    let alone = stage.measure(ALONE.to_owned(), Load::Rate(RATE), events)?;
    let amid = amid_a_storm(&server, || {
        stage.measure(AMID.to_owned(), Load::Rate(RATE), events)
    })?;
    Ok(vec![alone, amid])
}

fn amid_a_storm(
    server: &Server,
    measure: impl FnOnce() -> Result<Sample, Failure>,
) -> Result<Sample, Failure> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let storm = scope.spawn(|| {
            // A failure crosses to the other thread as its text.
            storm_until(server, &is_over).map_err(|failure| failure.to_string())
        });
        let sample = measure();
        is_over.store(true, Ordering::Relaxed);
        storm.join().map_err(|_| "the storm panicked")??;
        sample
    })
}

fn storm_until(server: &Server, is_over: &AtomicBool) -> Result<(), Failure> {
    setpriority_process(None, NICE)?;
    while !is_over.load(Ordering::Relaxed) {
        come_and_go(server, AT_ONCE, 1)?;
    }
    Ok(())
}
