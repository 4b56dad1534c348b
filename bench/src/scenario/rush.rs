//! Sockets come and go by the hundred: what those notice that are there already, and what they
//! notice where only so many are let in.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::storm::come_if_let_in;
use super::{Baseline, Effort, Scenario};
use crate::client::AT_ONCE;
use crate::contender::{Contender, Server};
use crate::receiver::Receiver;
use crate::sample::Sample;
use crate::source::Api;
use crate::stage::{Load, Stage};
use crate::tally::Tally;
use crate::{Failure, cpu};

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
const STORM: &str = "the storm: who comes in";
/// Who is let in in a second, where that is limited.
const LIMIT: &str = "1000";
const AMID_LIMITED: &str = "amid a storm, 1000/s let in";
const LET_IN: &str = "that storm: who comes in";
const TURNED_AWAY: &str = "that storm: who is turned away";
const RATE: u64 = 100;
const EVENTS: (u64, u64) = (300, 100);

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    // The bare loops do only one thing each.
    let Some(server) = contender.start()? else {
        return Ok(Vec::new());
    };
    let events = effort.pick(EVENTS.0, EVENTS.1);
    let mut stage = stage(&server, sockets)?;
    let alone = stage.measure(ALONE.to_owned(), Load::Rate(RATE), events)?;
    let (amid, storm) = amid_a_storm(&server, || {
        stage.measure(AMID.to_owned(), Load::Rate(RATE), events)
    })?;
    let mut samples = vec![alone, amid, storm.count(STORM, storm.came)?];
    drop((stage, server));
    let limit = ("SLAPBACK_ACCEPT_RATE", OsStr::new(LIMIT));
    if let Some(server) = contender.start_with(limit)? {
        let mut stage = self::stage(&server, sockets)?;
        let (amid, storm) = amid_a_storm(&server, || {
            stage.measure(AMID_LIMITED.to_owned(), Load::Rate(RATE), events)
        })?;
        samples.push(amid);
        samples.push(storm.count(LET_IN, storm.came)?);
        samples.push(storm.count(TURNED_AWAY, storm.turned_away)?);
    }
    Ok(samples)
}

fn stage(server: &Server, sockets: usize) -> Result<Stage, Failure> {
    let receiver = Receiver::of(server, sockets)?;
    let source = Api::to_all(server)?;
    let mut stage = Stage::new(server.pid, source, receiver, sockets as u64)?;
    stage.warm_up()?;
    Ok(stage)
}

/// A storm that is over.
struct Storm {
    came: u64,
    turned_away: u64,
    elapsed: Duration,
}

impl Storm {
    fn count(&self, name: &str, count: u64) -> Result<Sample, Failure> {
        let tally = Tally::of_answers(count, count)?;
        Ok(Sample::of_count(name.to_owned(), self.elapsed, tally))
    }
}

fn amid_a_storm(
    server: &Server,
    measure: impl FnOnce() -> Result<Sample, Failure>,
) -> Result<(Sample, Storm), Failure> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let storm = scope.spawn(|| {
            // A failure crosses to the other thread as its text.
            storm_until(server, &is_over).map_err(|failure| failure.to_string())
        });
        let sample = measure();
        is_over.store(true, Ordering::Relaxed);
        let storm = storm.join().map_err(|_| "the storm panicked")??;
        Ok((sample?, storm))
    })
}

fn storm_until(server: &Server, is_over: &AtomicBool) -> Result<Storm, Failure> {
    // Who receives shares this thread's CPU, and must not wait for it.
    cpu::stand_back()?;
    let started = Instant::now();
    let (mut all, mut came) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        came += come_if_let_in(server)?;
        all += AT_ONCE as u64;
    }
    Ok(Storm {
        came,
        turned_away: all - came,
        elapsed: started.elapsed(),
    })
}
