//! Many channels with few subscribers each: what it costs to find them.

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::client::Client;
use crate::contender::{Contender, Server};
use crate::floor::Sockets;
use crate::receiver::Receiver;
use crate::sample::Sample;
use crate::sequence::Sequence;
use crate::stage::{Load, Stage};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "channels",
    about: "10,000 channels with 10 subscribers each, an event to one channel after the other",
    unit: "CPU ns per delivery",
    sockets: &[SOCKETS],
    baseline: Baseline::Floor,
    missing: || None,
    rounds: 2,
    round,
};

const CHANNELS: u64 = 10_000;
/// Sockets that are on the same channels: the subscribers of each.
const GROUP: u64 = 10;
/// Group `g` has the channels `g`, `g + GROUPS` and so on.
const GROUPS: u64 = 100;
const SOCKETS: usize = (GROUPS * GROUP) as usize;
/// How events follow one another, and how many there are. Of those that wait together a server
/// sends what is for the same socket in one go; the floor, which knows no backlog, does not.
const LOADS: [(Load, u64, u64); 2] = [
    (Load::Bursts(1), 5_000, 1_000),
    (Load::Flood, 50_000, 10_000),
];

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let mut stage = match contender.start()? {
        Some(server) => {
            let receiver = subscribe(&server)?;
            Stage::api(server, receiver, GROUP, channel)?
        }
        None => Stage::floor(contender, sockets, group, |socket| {
            Sequence::of_every(GROUPS, socket / GROUP)
        })?,
    };
    stage.warm_up()?;
    let measure = |(load, whole, quick): (Load, u64, u64)| {
        stage.measure(load.name(), load, effort.pick(whole, quick))
    };
    LOADS.into_iter().map(measure).collect()
}

fn subscribe(server: &Server) -> Result<Receiver, Failure> {
    let mut receiver = Receiver::new()?;
    for group in 0..GROUPS {
        let channels: Vec<_> = of_group(group).map(channel).collect();
        for client in Client::join(server, &channels, usize::try_from(GROUP)?)? {
            receiver.take_over(client, Sequence::of_every(GROUPS, group))?;
        }
    }
    Ok(receiver)
}

/// The channels of a group, by the first events on them.
fn of_group(group: u64) -> impl Iterator<Item = u64> {
    (0..CHANNELS / GROUPS).map(move |number| group + number * GROUPS)
}

/// The channel of an event.
fn channel(number: u64) -> String {
    format!("bench-{:04}", number % CHANNELS)
}

/// The sockets that are on the channel of an event: one group, as they connected.
fn group(number: u64) -> Sockets {
    let first = number % GROUPS * GROUP;
    Sockets {
        first: first as u32,
        count: GROUP as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_the_sockets_that_the_floor_sends_its_events_to() {
        for number in [0, 7, 9_999, 12_345] {
            let Sockets { first, .. } = group(number);
            let own = of_group(u64::from(first) / GROUP);
            assert!(own.map(channel).any(|name| name == channel(number)));
        }
        assert_eq!(group(GROUPS + 1), group(1));
        assert_eq!((0..GROUPS).flat_map(of_group).count() as u64, CHANNELS);
    }
}
