//! Sockets on which nothing happens: what one takes of memory.

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::client::Client;
use crate::contender::Contender;
use crate::memory::{Resident, slab_bytes};
use crate::receiver::CHANNEL;
use crate::sample::Sample;
use crate::tally::Tally;

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "idle",
    about: "memory of subscribed sockets on which nothing happens",
    unit: "bytes per socket",
    sockets: &[15_000],
    baseline: Baseline::Floor,
    missing: || None,
    rounds: 1,
    round,
};

/// A quick run opens one socket in so many.
const QUICK: usize = 3;
/// Sockets before the first look, so that what is taken once is taken.
const WARM_UP: usize = 100;

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let Some(server) = contender.start_answering()? else {
        return Ok(Vec::new());
    };
    let Some(pid) = server.pid else {
        return Ok(Vec::new());
    };
    let sockets = effort.pick(sockets, sockets / QUICK);
    let channels = [CHANNEL.to_owned()];
    let mut clients = Client::join(&server, &channels, WARM_UP)?;
    let before = (Resident::of(pid)?.rss, slab_bytes()?);
    clients.extend(Client::join(&server, &channels, sockets)?);
    let after = (Resident::of(pid)?.rss, slab_bytes()?);
    let sample = |load: &str, before: u64, after: u64| {
        let tally = Tally::of_answers(sockets as u64, sockets as u64)?;
        let bytes = after.saturating_sub(before);
        Ok::<_, Failure>(Sample::of_bytes(
            load.to_owned(),
            bytes,
            sockets as u64,
            tally,
        ))
    };
    Ok(vec![
        sample("process", before.0, after.0)?,
        sample("kernel, both ends", before.1, after.1)?,
    ])
}
