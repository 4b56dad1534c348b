//! What comes through Redis: Laravel's redis broadcaster, and the bus between two servers.
//!
//! With nobody to deliver to, the server stands beside a bare subscriber that reads and throws away.
//! Where both keep up Redis is what limits; what they can take shows once they find a backlog,
//! which Redis has only to write.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::contender::{Contender, Driver, Server};
use crate::floor::discarder::{Discarder, PREFIX};
use crate::meter::{Meter, Usage};
use crate::pace::Untimed;
use crate::process::{Process, server_command, spawn_on_sender_cpu};
use crate::receiver::{CHANNEL, Receiver};
use crate::redis::{Broadcaster, LARAVEL, PROGRAM, Redis, Script};
use crate::sample::Sample;
use crate::source::Api;
use crate::stage::{Load, Stage, WARM_UP};
use crate::tally::Tally;

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "redis",
    about: "messages of Laravel's redis broadcaster, and of another server on the bus",
    unit: "CPU ns per message, or per delivery to sockets",
    sockets: &[100],
    baseline: Baseline::Floor,
    needs: Some(PROGRAM),
    rounds: 3,
    round,
};

/// Messages of a round without subscribers.
const MESSAGES: (u64, u64) = (1_000_000, 200_000);
/// Events of a round with subscribers: each is delivered to all of them.
const EVENTS: (u64, u64) = (10_000, 2_000);
const PATIENCE: Duration = Duration::from_secs(60);

/// When the reader gets the messages.
#[derive(Clone, Copy)]
enum Feed {
    /// As they are published.
    Live,
    /// Once all are: it is stopped until then.
    Backlog,
}

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let messages = effort.pick(MESSAGES.0, MESSAGES.1);
    let events = effort.pick(EVENTS.0, EVENTS.1);
    match contender {
        Contender::Floor(Driver::Epoll) => floor(messages),
        // The bare subscriber is one loop only, and other servers' Redis is their own affair.
        Contender::Floor(Driver::Uring) | Contender::Uws | Contender::Other(_) => Ok(Vec::new()),
        Contender::Slapback(driver, binary) => {
            let mut samples = ingest(*driver, binary, sockets, (messages, events))?;
            samples.push(bus(*driver, binary, sockets, events)?);
            Ok(samples)
        }
    }
}

fn floor(messages: u64) -> Result<Vec<Sample>, Failure> {
    let redis = Redis::start()?;
    let mut script = Script::connect(&redis)?;
    let mut discarder = Discarder::start(redis.port)?;
    let mut measure = |feed: Feed| {
        let pid = discarder.pid();
        let usage = feed.time(&mut script, (PREFIX, pid), messages, || discarder.hear())?;
        let tally = Tally::of_answers(messages, messages)?;
        Ok(Sample::of_cpu(feed.name(), usage, tally))
    };
    [Feed::Live, Feed::Backlog]
        .into_iter()
        .map(&mut measure)
        .collect()
}

fn ingest(
    driver: Driver,
    binary: &Path,
    sockets: usize,
    (messages, events): (u64, u64),
) -> Result<Vec<Sample>, Failure> {
    let redis = Redis::start()?;
    let mut script = Script::connect(&redis)?;
    let node = Node::start(driver, binary, &redis, ("SLAPBACK_REDIS_INGEST", "ingest"))?;
    let mut receiver = Receiver::of(&node.server, sockets)?;
    let pid = node.pid()?;
    let mut samples = Vec::new();
    for feed in [Feed::Live, Feed::Backlog] {
        let ends = || hear_the_end(&mut receiver);
        let usage = feed.time(&mut script, (LARAVEL, pid), messages, ends)?;
        let tally = Tally::of_answers(messages, messages)?;
        samples.push(Sample::of_cpu(feed.name(), usage, tally));
    }
    let source = Broadcaster::connect(&redis, CHANNEL)?;
    let mut stage = Stage::new(Some(pid), source, receiver, sockets as u64)?;
    stage.warm_up()?;
    let name = format!("broadcaster, to {sockets} sockets");
    samples.push(stage.measure(name, Load::Flood, events)?);
    drop(stage);
    let published = 2 * (messages + 1) + WARM_UP + events;
    // What nobody listens to is counted by the server alone.
    samples[0].tally.lost = published.saturating_sub(node.stop()?);
    Ok(samples)
}

/// An event that is published at one server and delivered by another, which is measured.
fn bus(driver: Driver, binary: &Path, sockets: usize, events: u64) -> Result<Sample, Failure> {
    let redis = Redis::start()?;
    let scaling = ("REVERB_SCALING_ENABLED", "scaling (hearing)");
    let publishing = Node::start(driver, binary, &redis, scaling)?;
    let delivering = Node::start(driver, binary, &redis, scaling)?;
    let receiver = Receiver::of(&delivering.server, sockets)?;
    let server = &publishing.server;
    let source = Api::connect(server.address, &server.app, |_| CHANNEL.to_owned())?;
    let pid = Some(delivering.pid()?);
    let mut stage = Stage::new(pid, source, receiver, sockets as u64)?;
    stage.warm_up()?;
    stage.measure(format!("bus, to {sockets} sockets"), Load::Flood, events)
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

/// A server that Redis speaks to, and what it logs.
struct Node {
    server: Server,
    said: BufReader<ChildStdout>,
}

impl Node {
    /// Starts it with one setting on, and waits until it says that this works.
    fn start(
        driver: Driver,
        binary: &Path,
        redis: &Redis,
        (setting, purpose): (&str, &str),
    ) -> Result<Self, Failure> {
        let address: SocketAddr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = server_command(binary, address, driver.name());
        command
            .env(setting, "true")
            .env("REDIS_PORT", redis.port.to_string())
            .stdout(Stdio::piped());
        let mut process: Process = spawn_on_sender_cpu(&mut command)
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let said = BufReader::new(process.0.stdout.take().ok_or("no stdout")?);
        let server = Server::ours(process, address);
        let mut node = Self { server, said };
        node.line_with(&format!("redis: {purpose} works"))?;
        Ok(node)
    }

    fn pid(&self) -> Result<u32, Failure> {
        Ok(self.server.pid.ok_or("no process")?)
    }

    /// Ends it, and gives how many messages it has taken in.
    fn stop(mut self) -> Result<u64, Failure> {
        signal(self.pid()?, Signal::TERM)?;
        let line = self.line_with("stopped: ")?;
        let taken = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("ingest_taken="));
        Ok(taken.ok_or("nothing was taken")?.parse()?)
    }

    fn line_with(&mut self, part: &str) -> Result<String, Failure> {
        let mut line = String::new();
        while self.said.read_line(&mut line)? > 0 {
            if line.contains(part) {
                return Ok(line);
            }
            line.clear();
        }
        Err(format!("the server ended without saying {part:?}").into())
    }
}

fn signal(process: u32, signal: Signal) -> Result<(), Failure> {
    let pid = Pid::from_raw(i32::try_from(process)?).ok_or("no process")?;
    Ok(kill_process(pid, signal)?)
}
