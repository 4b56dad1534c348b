//! Sockets that come and go: each connects, subscribes to a private channel, and closes.

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::client::{AT_ONCE, Client};
use crate::contender::{Contender, Server};
use crate::meter::Meter;
use crate::sample::Sample;
use crate::tally::Tally;

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "storm",
    about: "sockets that connect, authenticate, subscribe and close",
    unit: "CPU ns per socket that came and went",
    sockets: &[AT_ONCE],
    baseline: Baseline::Floor,
    missing: || None,
    rounds: 3,
    round,
};

const CHANNEL: &str = "private-bench";
const SOCKETS: (u64, u64) = (12_800, 2_560);
/// Sockets that nobody measures.
const WARM_UP: u64 = 256;

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let Some(server) = contender.start_answering()? else {
        return Ok(Vec::new());
    };
    let all = effort.pick(SOCKETS.0, SOCKETS.1);
    come_and_go(&server, sockets, WARM_UP)?;
    let meter = Meter::start(server.pid)?;
    let gone = come_and_go(&server, sockets, all)?;
    let usage = meter.stop()?;
    let tally = Tally::of_answers(gone, all)?;
    Ok(vec![Sample::of_cpu(
        format!("{sockets} at once"),
        usage,
        tally,
    )])
}

/// Lets at least so many do all of it, and gives how many did.
pub fn come_and_go(server: &Server, at_once: usize, all: u64) -> Result<u64, Failure> {
    let channels = [CHANNEL.to_owned()];
    let mut gone = 0;
    while gone < all {
        let mut clients = Client::join(server, &channels, at_once)?;
        clients.iter_mut().try_for_each(Client::close)?;
        for client in clients {
            client.hear_the_end()?;
            gone += 1;
        }
    }
    Ok(gone)
}
