//! One subscriber in a hundred stops reading: what the others notice of it.

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::contender::Contender;
use crate::sample::Sample;
use crate::stage::{Load, Stage};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "slow",
    about: "1 of 100 subscribers stops reading: how late the others' events are",
    unit: "CPU ns per delivery to those who read",
    sockets: &[1000],
    baseline: Baseline::Load(ALL_READ),
    missing: || None,
    rounds: 2,
    round,
};

const ALL_READ: &str = "all read";
const SOME_STOPPED: &str = "1 of 100 has stopped";
/// Of so many subscribers one stops.
const STOPPED_OF: usize = 100;
/// Events a second; a whole round is long enough for a backlog to reach its limit.
const RATE: u64 = 2000;
const SECONDS: (u64, u64) = (4, 1);

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    // The bare loop keeps no backlog: it would wait for those who have stopped.
    if matches!(contender, Contender::Floor(_)) {
        return Ok(Vec::new());
    }
    let events = RATE * effort.pick(SECONDS.0, SECONDS.1);
    let mut stage = Stage::to_all(contender, sockets)?;
    stage.warm_up()?;
    let without = stage.measure(ALL_READ.to_owned(), Load::Rate(RATE), events)?;
    stage.stop_reading(sockets / STOPPED_OF)?;
    let with = stage.measure(SOME_STOPPED.to_owned(), Load::Rate(RATE), events)?;
    Ok(vec![without, with])
}
