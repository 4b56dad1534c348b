//! Subscribers far away: 25 ms each way, and one packet in a hundred lost.

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::contender::{Contender, Server};
use crate::floor;
use crate::path::{End, LongPath, SERVER};
use crate::receiver::Receiver;
use crate::sample::Sample;
use crate::source::{Api, Told};
use crate::stage::{Load, Stage};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "wan",
    about: "subscribers 25 ms away on a path that loses one packet in a hundred",
    unit: "CPU ns per delivery",
    sockets: &[20],
    baseline: Baseline::Floor,
    missing: || LongPath::open().err().map(|failure| failure.to_string()),
    rounds: 3,
    round,
};

/// How events follow one another, and how many there are; who publishes is near the server. The
/// steady ones come first, which warms the path. A burst of 1,000 is more than it takes at once.
const LOADS: [(Load, u64, u64); 2] = [
    (Load::Rate(100), 300, 100),
    (Load::Bursts(1000), 5_000, 1_000),
];

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    // Another server is where it is.
    if matches!(contender, Contender::Other(_)) {
        return Ok(Vec::new());
    }
    let path = LongPath::open()?;
    let mut stage = stage(contender, sockets, &path)?;
    let measure = |(load, whole, quick): (Load, u64, u64)| {
        stage.measure(load.name(), load, effort.pick(whole, quick))
    };
    LOADS.into_iter().map(measure).collect()
}

fn stage(contender: &Contender, sockets: usize, path: &LongPath) -> Result<Stage, Failure> {
    path.enter(End::Server)?;
    if let Some(server) = contender.start_on(SERVER)? {
        let source = Api::to_all(&server)?;
        path.enter(End::Clients)?;
        let receiver = Receiver::of(&server, sockets)?;
        return Stage::owning(server, source, receiver, sockets as u64);
    }
    let server: Server = floor::start_sender(contender.driver(), sockets, SERVER)?;
    let source = Told::connect(server.address, |_| floor::ALL)?;
    path.enter(End::Clients)?;
    let receiver = Receiver::of(&server, sockets)?;
    Stage::owning(server, source, receiver, sockets as u64)
}
