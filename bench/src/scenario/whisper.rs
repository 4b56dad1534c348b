//! One socket whispers to the others: how dear one delivery of a client's event is.

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::contender::Contender;
use crate::sample::Sample;
use crate::stage::{Load, Stage};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "whisper",
    about: "client events to 100 and 1,000 others on a private channel",
    unit: "CPU ns per delivery",
    sockets: &[100, 1000],
    baseline: Baseline::Floor,
    missing: || None,
    rounds: 3,
    round,
};

const CHANNEL: &str = "private-bench";
/// Deliveries of a round.
const DELIVERIES: (usize, usize) = (150_000, 30_000);

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let mut stage = match contender.start()? {
        Some(server) => Stage::whispers(server, sockets, CHANNEL)?,
        None => Stage::to_all(contender, sockets)?,
    };
    stage.warm_up()?;
    let events = effort.pick(DELIVERIES.0, DELIVERIES.1) / sockets;
    let name = format!("{sockets} sockets, one at a time");
    Ok(vec![stage.measure(name, Load::Bursts(1), events as u64)?])
}
