//! More sockets at once than one process may hold: many servers that share one port and one Redis,
//! and as many processes of clients.
//!
//! Every socket is opened and subscribed, answers its server's pings, and has every event that is
//! then published at one of the servers; what each of these takes is told. A command of its own: it
//! needs minutes, and gigabytes.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::cli::Scale;
use crate::contender::Server;
use crate::cpu::Time;
use crate::host::Host;
use crate::memory::{Kernel, Resident};
use crate::node::{Node, SCALING};
use crate::process::server_command;
use crate::receiver::CHANNEL;
use crate::redis::Redis;
use crate::source::{Api, Source};
use crate::tally::Tally;
use crate::{Failure, cpu, process, report};

use crowd::{Crowd, Pings};
use outcome::{Counted, Event, Held, Outcome, Pinged, Work};

pub mod crowd;
mod outcome;

/// Events, one after the other: whichever server the port leads to is told.
const EVENTS: usize = 3;
/// Every silent socket is pinged so many times before the first event.
const PING_ROUNDS: u64 = 2;
/// Seconds by which the last ping may be late.
const PING_LATE: u64 = 2;
/// An event is due so long after the clients have been told of it.
const LEAD: Duration = Duration::from_secs(1);
const GLANCE: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// False if an event was lost, doubled or out of order, or a socket was never pinged.
pub fn run(scale: &Scale) -> Result<bool, Failure> {
    process::raise_file_limit();
    cpu::pin(cpu::RECEIVER)?;
    let host = Host::ask();
    let mut fleet = Fleet::start(scale, &scale.paths.binary()?)?;
    let outcome = fleet.measure(scale)?;
    let text = format!("{}\n{}", host.text(), outcome.text());
    println!("{text}");
    let json = json!({ "host": host.json(), "scale": outcome.json() });
    let file = report::write(&scale.paths.out, &host.stem("scale"), &text, &json)?;
    println!("\nwritten to {}", file.display());
    Ok(outcome.is_exact())
}

/// All that runs.
struct Fleet {
    address: SocketAddr,
    crowds: Vec<Crowd>,
    nodes: Vec<Node>,
    _redis: Redis,
}

impl Fleet {
    fn start(scale: &Scale, binary: &Path) -> Result<Self, Failure> {
        let (sockets, servers) = (scale.sockets, scale.servers);
        eprintln!("scale: {servers} servers are started, then {sockets} sockets opened");
        let redis = Redis::start()?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let node = |_| {
            let mut command = server_command(binary, address, scale.driver.name());
            command
                .env("SLAPBACK_REUSE_PORT", "true")
                .env("REVERB_APP_PING_INTERVAL", scale.ping_interval.to_string());
            Node::run(command, address, &redis, SCALING)
        };
        let nodes = (0..servers).map(node).collect::<Result<_, _>>()?;
        let crowd = |number| {
            // The first ones have one more where it does not come out even.
            let sockets = (sockets + servers - 1 - number) / servers;
            Crowd::start(address, number, sockets)
        };
        Ok(Self {
            address,
            crowds: (0..servers).map(crowd).collect::<Result<_, _>>()?,
            nodes,
            _redis: redis,
        })
    }

    fn measure(&mut self, scale: &Scale) -> Result<Outcome, Failure> {
        let mut held = vec![self.held("before")?];
        let opened = self.open()?;
        held.push(self.held("opened")?);
        let counted = self.count()?;
        let pinged = self.ping(scale.ping_interval * PING_ROUNDS + PING_LATE)?;
        held.push(self.held("pinged")?);
        let events = (0..EVENTS).map(|_| self.publish());
        let events = events.collect::<Result<_, _>>()?;
        held.push(self.held("published")?);
        let closed = counted.sockets.saturating_sub(self.count()?.sockets);
        Ok(Outcome {
            driver: scale.driver.name(),
            sockets: scale.sockets as u64,
            ping_interval: scale.ping_interval,
            shares: self.nodes.iter().map(files).collect::<Result<_, _>>()?,
            opened,
            counted,
            pinged,
            events,
            closed,
            held,
        })
    }

    fn open(&mut self) -> Result<Work, Failure> {
        let meter = Meter::start(self)?;
        for crowd in &mut self.crowds {
            crowd.open()?;
        }
        for crowd in &mut self.crowds {
            crowd.opened()?;
        }
        let seconds = meter.started.elapsed().as_secs();
        eprintln!("scale: all sockets are open after {seconds} s");
        meter.stop(self)
    }

    /// Asks one server, who has to ask all others.
    fn count(&self) -> Result<Counted, Failure> {
        let server = Server::at(self.address);
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let asked = Instant::now();
        stream.write_all(&server.app.count_request(CHANNEL)?)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let elapsed = asked.elapsed();
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("half an answer")?;
        let body: Value = serde_json::from_str(body)?;
        let sockets = body["subscription_count"].as_u64();
        let sockets = sockets.ok_or_else(|| format!("the sockets are not counted: {answer}"))?;
        Ok(Counted { sockets, elapsed })
    }

    /// Counts, second by second, which pings are answered.
    fn ping(&mut self, seconds: u64) -> Result<Pinged, Failure> {
        let meter = Meter::start(self)?;
        let first = self.pings()?;
        let (mut last, mut most_per_second) = (first, 0);
        for second in 1..=seconds {
            let due = meter.started + Duration::from_secs(second);
            sleep(due.saturating_duration_since(Instant::now()));
            let now = self.pings()?;
            most_per_second = most_per_second.max(now.answered - last.answered);
            last = now;
        }
        eprintln!(
            "scale: {} pings answered in {seconds} s",
            last.answered - first.answered
        );
        Ok(Pinged {
            work: meter.stop(self)?,
            answered: last.answered - first.answered,
            least: last.least,
            most_per_second,
        })
    }

    fn pings(&mut self) -> Result<Pings, Failure> {
        for crowd in &mut self.crowds {
            crowd.ask_for_pings()?;
        }
        let mut sum = Pings {
            answered: 0,
            least: u64::MAX,
        };
        for crowd in &mut self.crowds {
            let pings = crowd.pings()?;
            sum.answered += pings.answered;
            sum.least = sum.least.min(pings.least);
        }
        Ok(sum)
    }

    /// One event to every socket.
    fn publish(&mut self) -> Result<Event, Failure> {
        let mut api = Api::to_all(&Server::at(self.address))?;
        api.queue(0)?;
        let due = SystemTime::now() + LEAD;
        for crowd in &mut self.crowds {
            crowd.expect_event(due)?;
        }
        let meter = Meter::start(self)?;
        // A clock that is past it waits no more.
        sleep(due.duration_since(SystemTime::now()).unwrap_or_default());
        api.work()?;
        let asked = Instant::now();
        while !api.is_settled() {
            if asked.elapsed() > PATIENCE {
                return Err("an event was never answered".into());
            }
            sleep(GLANCE);
            api.work()?;
        }
        let mut tally = Tally::new()?;
        for crowd in &mut self.crowds {
            tally.add(&crowd.tally()?);
        }
        let work = meter.stop(self)?;
        eprintln!("scale: an event came {} times", tally.frames);
        Ok(Event { tally, work })
    }

    fn held(&self, when: &'static str) -> Result<Held, Failure> {
        Ok(Held {
            when,
            servers: Resident::of_all(&self.servers())?,
            clients: Resident::of_all(&self.clients())?,
            kernel: Kernel::now()?,
        })
    }

    fn servers(&self) -> Vec<u32> {
        self.nodes
            .iter()
            .filter_map(|node| node.server.pid)
            .collect()
    }

    fn clients(&self) -> Vec<u32> {
        self.crowds.iter().map(Crowd::pid).collect()
    }
}

/// The CPU of all servers and of all clients from here on.
struct Meter {
    servers: Time,
    clients: Time,
    started: Instant,
}

impl Meter {
    fn start(fleet: &Fleet) -> Result<Self, Failure> {
        Ok(Self {
            servers: Time::of_all(&fleet.servers())?,
            clients: Time::of_all(&fleet.clients())?,
            started: Instant::now(),
        })
    }

    fn stop(self, fleet: &Fleet) -> Result<Work, Failure> {
        Ok(Work {
            elapsed: self.started.elapsed(),
            servers: Time::of_all(&fleet.servers())?.since(self.servers),
            clients: Time::of_all(&fleet.clients())?.since(self.clients),
        })
    }
}

/// Files of a server; all but a few are sockets of clients.
fn files(node: &Node) -> Result<u64, Failure> {
    Ok(fs::read_dir(format!("/proc/{}/fd", node.pid()?))?.count() as u64)
}
