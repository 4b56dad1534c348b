//! What comes through Redis: Laravel's redis broadcaster, and the bus between two servers.
//!
//! With nobody to deliver to, the server stands beside a bare subscriber that reads and throws
//! away. Where both keep up Redis is what limits; what they can take shows once they find a
//! backlog, which Redis has only to write.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::contender::{Contender, Driver};
use crate::floor::discarder::{Discarder, PREFIX};
use crate::meter::{Meter, Usage};
use crate::node::{INGEST, Node, SCALING, signal};
use crate::pace::Untimed;
use crate::process::is_missing;
use crate::receiver::{CHANNEL, Receiver};
use crate::redis::{Broadcaster, LARAVEL, PROGRAM, Redis, Script};
use crate::sample::Sample;
use crate::source::Api;
use crate::stage::{Load, Stage};
use crate::tally::Tally;

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "redis",
    about: "messages of Laravel's redis broadcaster, and of another server on the bus",
    unit: "CPU ns per message, or per delivery to sockets",
    sockets: &[NOBODY, 100, 1000],
    baseline: Baseline::Floor,
    missing: || is_missing(PROGRAM),
    rounds: 2,
    round,
};

/// No subscribers at all.
const NOBODY: usize = 0;
/// Messages of a round without subscribers.
const MESSAGES: (u64, u64) = (1_000_000, 200_000);
/// Deliveries of a round with subscribers.
const DELIVERIES: (u64, u64) = (1_000_000, 100_000);
/// Events a second of the steady load.
const RATE: u64 = 2000;
/// How long that lasts at most.
const SECONDS_MAX: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(60);

/// When the reader gets the messages.
#[derive(Clone, Copy)]
enum Feed {
    /// As they are published.
    Live,
    /// Once all are: it is stopped until then.
    Backlog,
}

const FEEDS: [Feed; 2] = [Feed::Live, Feed::Backlog];

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let messages = effort.pick(MESSAGES.0, MESSAGES.1);
    match (contender, sockets) {
        (Contender::Floor(Driver::Epoll), NOBODY) => discard(messages),
        // The bare subscriber is one loop only, and other servers' Redis is their own affair.
        (Contender::Floor(Driver::Uring), NOBODY) | (Contender::Uws | Contender::Other(_), _) => {
            Ok(Vec::new())
        }
        (Contender::Slapback(driver, binary), NOBODY) => ingest(*driver, binary, messages),
        (Contender::Floor(_), _) => {
            let mut stage = Stage::to_all(contender, sockets)?;
            let mut samples = deliver(&mut stage, "broadcaster", sockets, effort)?;
            samples.extend(deliver(&mut stage, "bus", sockets, effort)?);
            Ok(samples)
        }
        (Contender::Slapback(driver, binary), _) => {
            let mut samples = broadcaster(*driver, binary, sockets, effort)?;
            samples.extend(bus(*driver, binary, sockets, effort)?);
            Ok(samples)
        }
    }
}

/// The bare subscriber.
fn discard(messages: u64) -> Result<Vec<Sample>, Failure> {
    let redis = Redis::start()?;
    let mut script = Script::connect(&redis)?;
    let mut discarder = Discarder::start(redis.port)?;
    let mut measure = |feed: Feed| {
        let reader = (PREFIX, discarder.pid());
        let usage = feed.time(&mut script, reader, messages, || discarder.hear())?;
        let tally = Tally::of_answers(messages, messages)?;
        Ok(Sample::of_cpu(feed.name(), usage, tally))
    };
    FEEDS.into_iter().map(&mut measure).collect()
}

/// The server as a subscriber, with one socket that hears only the ends.
fn ingest(driver: Driver, binary: &Path, messages: u64) -> Result<Vec<Sample>, Failure> {
    let redis = Redis::start()?;
    let mut script = Script::connect(&redis)?;
    let node = Node::start(driver, binary, &redis, INGEST)?;
    let mut receiver = Receiver::of(&node.server, 1)?;
    let mut samples = Vec::new();
    for feed in FEEDS {
        let reader = (LARAVEL, node.pid()?);
        let usage = feed.time(&mut script, reader, messages, || {
            hear_the_end(&mut receiver)
        })?;
        let tally = Tally::of_answers(messages, messages)?;
        samples.push(Sample::of_cpu(feed.name(), usage, tally));
    }
    drop(receiver);
    // What nobody listens to is counted by the server alone.
    let published = FEEDS.len() as u64 * (messages + 1);
    samples[0].tally.lost = published.saturating_sub(node.stop()?);
    Ok(samples)
}

/// Events that Laravel publishes to Redis.
fn broadcaster(
    driver: Driver,
    binary: &Path,
    sockets: usize,
    effort: Effort,
) -> Result<Vec<Sample>, Failure> {
    let redis = Redis::start()?;
    let node = Node::start(driver, binary, &redis, INGEST)?;
    let receiver = Receiver::of(&node.server, sockets)?;
    let source = Broadcaster::connect(&redis, CHANNEL)?;
    let mut stage = Stage::new(node.server.pid, source, receiver, sockets as u64)?;
    deliver(&mut stage, "broadcaster", sockets, effort)
}

/// Events that are published at one server and delivered by another, which is measured.
fn bus(
    driver: Driver,
    binary: &Path,
    sockets: usize,
    effort: Effort,
) -> Result<Vec<Sample>, Failure> {
    let redis = Redis::start()?;
    let publishing = Node::start(driver, binary, &redis, SCALING)?;
    let delivering = Node::start(driver, binary, &redis, SCALING)?;
    let receiver = Receiver::of(&delivering.server, sockets)?;
    let source = Api::to_all(&publishing.server)?;
    let mut stage = Stage::new(delivering.server.pid, source, receiver, sockets as u64)?;
    deliver(&mut stage, "bus", sockets, effort)
}

fn deliver(
    stage: &mut Stage,
    way: &str,
    sockets: usize,
    effort: Effort,
) -> Result<Vec<Sample>, Failure> {
    stage.warm_up()?;
    let most = effort.pick(DELIVERIES.0, DELIVERIES.1) / sockets as u64;
    let measure = |load: Load| {
        let events = match load {
            Load::Rate(rate) => most.min(rate * SECONDS_MAX),
            _ => most,
        };
        let name = format!("{way} to {sockets}, {}", load.name());
        stage.measure(name, load, events)
    };
    [Load::Rate(RATE), Load::Flood]
        .into_iter()
        .map(measure)
        .collect()
}

/// Waits until every subscriber has had event 0, which ends a round.
fn hear_the_end(receiver: &mut Receiver) -> Result<(), Failure> {
    let started = Instant::now();
    while receiver.frames() < receiver.sockets() {
        if !receiver.receive(Duration::from_secs(1), &Untimed)? && started.elapsed() > PATIENCE {
            return Err("the subscribers miss events".into());
        }
    }
    if receiver.finish(1)?.is_exact() {
        return Ok(());
    }
    Err("the end of a round came more than once".into())
}

impl Feed {
    fn name(self) -> String {
        match self {
            Self::Live => "broadcaster, nobody listens".into(),
            Self::Backlog => "broadcaster, a backlog".into(),
        }
    }

    /// Publishes so many messages, then one to the subscribers, and measures until the reader has
    /// had it; with a backlog from when the reader goes on.
    fn time(
        self,
        script: &mut Script,
        (prefix, reader): (&str, u32),
        messages: u64,
        ends: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Usage, Failure> {
        let numbers = format!("{prefix}numbers");
        let last = format!("{prefix}{CHANNEL}");
        let meter = match self {
            Self::Live => {
                let meter = Meter::start(Some(reader))?;
                script.publish(&numbers, messages)?;
                script.publish(&last, 1)?;
                meter
            }
            Self::Backlog => {
                signal(reader, Signal::STOP)?;
                script.publish(&numbers, messages)?;
                script.publish(&last, 1)?;
                script.settle(0)?;
                let meter = Meter::start(Some(reader))?;
                signal(reader, Signal::CONT)?;
                meter
            }
        };
        ends()?;
        script.settle(0)?;
        meter.stop()
    }
}
