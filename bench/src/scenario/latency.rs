//! A light, steady load on a server that is otherwise idle: how late an event is.

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::contender::Contender;
use crate::sample::Sample;
use crate::stage::{Load, Stage};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "latency",
    about: "100 events/s to 100 subscribers, from when each was due to when it was read",
    unit: "CPU ns per delivery",
    sockets: &[100],
    baseline: Baseline::Floor,
    missing: || None,
    rounds: 3,
    round,
};

const RATE: u64 = 100;
const EVENTS: (u64, u64) = (400, 100);

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let mut stage = Stage::to_all(contender, sockets)?;
    stage.warm_up()?;
    let load = Load::Rate(RATE);
    let name = format!("{sockets} sockets, {}", load.name());
    let events = effort.pick(EVENTS.0, EVENTS.1);
    Ok(vec![stage.measure(name, load, events)?])
}
