//! One event to everybody, published over the HTTP API: how dear one delivery is, alone, in bursts,
//! and at a rate.

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::contender::Contender;
use crate::sample::Sample;
use crate::stage::{Load, Stage};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "fanout",
    about: "one event to 1, 1,000 and 10,000 subscribers: alone, in bursts, at a rate",
    unit: "CPU ns per delivery",
    sockets: &[1, 1000, 10_000],
    baseline: Baseline::Floor,
    missing: || None,
    rounds: 5,
    round,
};

const LOADS: [Load; 5] = [
    Load::Bursts(1),
    Load::Bursts(16),
    Load::Bursts(64),
    Load::Rate(2000),
    Load::Rate(10_000),
];
/// More of them cannot be served at these rates on one core, and would only be a flood.
const SOCKETS_AT_A_RATE_MAX: usize = 1000;

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let mut stage = Stage::to_all(contender, sockets)?;
    stage.warm_up()?;
    let fits = |load: &Load| !matches!(load, Load::Rate(_)) || sockets <= SOCKETS_AT_A_RATE_MAX;
    let measure = |load: Load| {
        let name = format!("{sockets} sockets, {}", load.name());
        stage.measure(name, load, events(load, sockets as u64, effort))
    };
    LOADS.into_iter().filter(fits).map(measure).collect()
}

/// So many that a round lasts about half a second, or less.
fn events(load: Load, sockets: u64, effort: Effort) -> u64 {
    let (sends, deliveries) = effort.pick((75_000, 5_000_000), (10_000, 500_000));
    match load {
        // Each burst is one send to everybody.
        Load::Bursts(size) => size * (sends / sockets).clamp(3, effort.pick(2000, 300)),
        Load::Rate(rate) => (rate / 2).min(deliveries / sockets),
        Load::Flood => deliveries / sockets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_whole_bursts_and_never_endless() {
        for sockets in [1, 1000, 10_000] {
            for effort in [Effort::Whole, Effort::Quick] {
                assert_eq!(events(Load::Bursts(64), sockets, effort) % 64, 0);
                let events = events(Load::Rate(10_000), sockets, effort);
                assert!((1..=10_000).contains(&events));
            }
        }
        assert_eq!(events(Load::Bursts(16), 10_000, Effort::Quick), 48);
        assert_eq!(events(Load::Flood, 1000, Effort::Whole), 5_000);
    }
}
