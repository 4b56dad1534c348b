//! A million published messages from end to end: each is looked for by its number at each
//! subscriber.

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::contender::Contender;
use crate::sample::Sample;
use crate::stage::{Load, Stage};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "million",
    about: "a million events to 10 subscribers, as fast as they are taken",
    unit: "CPU ns per delivery",
    sockets: &[10],
    baseline: Baseline::Floor,
    missing: || None,
    rounds: 1,
    round,
};

const EVENTS: (u64, u64) = (1_000_000, 50_000);

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    // A million calls take it a minute, and what they cost it is in `http` and `fanout`.
    if matches!(contender, Contender::Uws) {
        return Ok(Vec::new());
    }
    let mut stage = Stage::to_all(contender, sockets)?;
    stage.warm_up()?;
    let events = effort.pick(EVENTS.0, EVENTS.1);
    let name = format!("{sockets} sockets");
    Ok(vec![stage.measure(name, Load::Flood, events)?])
}
