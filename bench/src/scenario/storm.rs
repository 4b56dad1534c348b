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
    Ok(vec![measure(&server, format!("{sockets} at once"), all)?])
}

/// Lets so many come to a server and go again, and measures that.
pub fn measure(server: &Server, name: String, all: u64) -> Result<Sample, Failure> {
    come_and_go(server, WARM_UP)?;
    let meter = Meter::start(server.pid)?;
    let gone = come_and_go(server, all)?;
    let usage = meter.stop()?;
    let tally = Tally::of_answers(gone, all)?;
    Ok(Sample::of_cpu(name, usage, tally))
}

/// Lets at least so many do all of it, and gives how many did.
fn come_and_go(server: &Server, all: u64) -> Result<u64, Failure> {
    let mut gone = 0;
    while gone < all {
        gone += leave(Client::join(server, &[CHANNEL.to_owned()], AT_ONCE)?)?;
    }
    Ok(gone)
}

/// Lets [`AT_ONCE`] do all of it once, as far as they are let in, and gives how many were.
pub fn come_if_let_in(server: &Server) -> Result<u64, Failure> {
    leave(Client::try_to_join(server, &[CHANNEL.to_owned()], AT_ONCE)?)
}

fn leave(mut clients: Vec<Client>) -> Result<u64, Failure> {
    let gone = clients.len() as u64;
    clients.iter_mut().try_for_each(Client::close)?;
    clients.into_iter().try_for_each(Client::hear_the_end)?;
    Ok(gone)
}
