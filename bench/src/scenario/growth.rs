//! One event to 1,000 subscribers and to 15,000: what a delivery costs more where there are more,
//! beside what it costs the floor more. A sender that walks more memory per socket than the kernel
//! does would show it here.

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::contender::Contender;
use crate::sample::Sample;
use crate::stage::{Load, Stage};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "growth",
    about: "one event at a time to 1,000 subscribers, and to 15,000",
    unit: "CPU ns per delivery",
    sockets: &[1000, 15_000],
    baseline: Baseline::Floor,
    missing: || None,
    rounds: 2,
    round,
};

const WARM_UP: u64 = 2;
/// A quick run opens one socket in so many.
const QUICK: usize = 3;
/// Deliveries of a round, in a whole run and in a quick one.
const DELIVERIES: (u64, u64) = (150_000, 30_000);

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    if !matches!(contender, Contender::Floor(_) | Contender::Slapback(..)) {
        return Ok(Vec::new());
    }
    let sockets = effort.pick(sockets, sockets / QUICK);
    let mut stage = Stage::to_all(contender, sockets)?;
    // Fewer events than elsewhere: to so many sockets each takes long.
    stage.measure(String::new(), Load::Bursts(1), WARM_UP)?;
    let events = effort.pick(DELIVERIES.0, DELIVERIES.1) / sockets as u64;
    let name = format!("{sockets} sockets");
    Ok(vec![stage.measure(name, Load::Bursts(1), events)?])
}
