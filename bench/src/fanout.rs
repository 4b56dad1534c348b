//! One event to many sockets: the measured rounds, floor and server in turns.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::publisher::{APP, KEY, Publisher, SECRET, request};
use crate::receiver::{Receiver, Schedule};
use crate::table::{Round, Row};
use crate::{Failure, Options, cpu, floor};

/// Events a second of the open loops.
const RATES: [u64; 2] = [2000, 10_000];
/// An open loop runs no further ahead of its receivers: what they cannot take, the server would have
/// to close them for.
const AHEAD_MAX: u64 = 1000;
/// Without a frame for so long a round is over, and what is missing is lost.
const SILENCE: Duration = Duration::from_secs(5);
/// Events before the first round, so that every path is warm.
const WARM_UP: u64 = 20;

/// How events follow one another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// The next one once everybody has the last.
    OneAtATime,
    /// So many a second, unless the receivers fall [`AHEAD_MAX`] behind.
    Open(u64),
}

/// Who is told to send an event.
enum Source {
    Floor(std::process::ChildStdin),
    Server(Publisher),
}

/// One sender with all its sockets, and one row for each load it is put under.
struct Target {
    rows: Vec<(Load, Row)>,
    process: Process,
    source: Source,
    receiver: Receiver,
}

/// Runs every round of every target; without `servers` the floors alone.
pub fn measure(options: &Options, servers: bool) -> Result<Vec<Row>, Failure> {
    cpu::pin(cpu::RECEIVER)?;
    let binary = options.binary()?;
    let mut targets = Vec::new();
    for driver in ["uring", "epoll"] {
        targets.push(Target::floor(driver, options)?);
        if servers {
            targets.push(Target::server(driver, &binary, options)?);
        }
    }
    for target in &mut targets {
        target.warm_up()?;
    }
    // Turn by turn, so that whatever else the machine does falls on all of them alike.
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for target in &mut targets {
            target.round(options)?;
        }
    }
    Ok(targets.into_iter().flat_map(Target::end).collect())
}

impl Target {
    fn floor(driver: &'static str, options: &Options) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([floor::ROLE, driver, &options.connections.to_string()]);
        let mut process =
            spawn_on_sender_cpu(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let mut port = String::new();
        BufReader::new(process.0.stdout.take().ok_or("no stdout")?).read_line(&mut port)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.trim().parse()?));
        let receiver = Receiver::connect(address, options.connections, None)?;
        let source = Source::Floor(process.0.stdin.take().ok_or("no stdin")?);
        let rows = vec![(Load::OneAtATime, Row::new("one at a time", "floor", driver))];
        Ok(Self {
            rows,
            process,
            source,
            receiver,
        })
    }

    fn server(driver: &'static str, binary: &Path, options: &Options) -> Result<Self, Failure> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let process = spawn_on_sender_cpu(&mut server_command(binary, address, driver))
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        wait_for(address)?;
        let receiver = Receiver::connect(address, options.connections, Some(KEY))?;
        let source = Source::Server(Publisher::connect(address)?);
        let mut rows = vec![(
            Load::OneAtATime,
            Row::new("one at a time", "server", driver),
        )];
        rows.extend(RATES.map(|rate| {
            (
                Load::Open(rate),
                Row::new(format!("{rate} events/s"), "server", driver),
            )
        }));
        Ok(Self {
            rows,
            process,
            source,
            receiver,
        })
    }

    fn warm_up(&mut self) -> Result<(), Failure> {
        self.one_at_a_time(WARM_UP)?;
        self.receiver.finish(WARM_UP)?;
        Ok(())
    }

    fn round(&mut self, options: &Options) -> Result<(), Failure> {
        for row in 0..self.rows.len() {
            let load = self.rows[row].0;
            let before = cpu::used_ns(self.process.0.id())?;
            let started = Instant::now();
            let published = match load {
                Load::OneAtATime => self.one_at_a_time(options.events)?,
                Load::Open(rate) => self.open_loop(rate, options.seconds * rate)?,
            };
            let elapsed = started.elapsed();
            let cpu_ns = cpu::used_ns(self.process.0.id())? - before;
            let tally = self.receiver.finish(published)?;
            self.rows[row].1.add(Round {
                cpu_ns,
                elapsed,
                tally,
            });
        }
        Ok(())
    }

    fn one_at_a_time(&mut self, events: u64) -> Result<u64, Failure> {
        let sockets = self.receiver.sockets();
        for number in 0..events {
            let request = request(number)?;
            let sent = Sent(number, Instant::now());
            self.source.send(number, &request)?;
            let all = (number + 1) * sockets;
            while self.receiver.frames() < all {
                self.source.work()?;
                if !self.receiver.receive(SILENCE, &sent)? {
                    return Ok(number + 1);
                }
            }
        }
        self.source.settle()?;
        Ok(events)
    }

    fn open_loop(&mut self, rate: u64, events: u64) -> Result<u64, Failure> {
        let sockets = self.receiver.sockets();
        let requests: Vec<_> = (0..events).map(request).collect::<Result<_, _>>()?;
        let pace = Pace {
            start: Instant::now(),
            rate,
        };
        let mut next = 0;
        let mut last_news = Instant::now();
        while self.receiver.frames() < events * sockets && last_news.elapsed() < SILENCE {
            let taken = self.receiver.frames() / sockets;
            while next < events.min(taken + AHEAD_MAX) && pace.at(next) <= Instant::now() {
                self.source.send(next, &requests[usize::try_from(next)?])?;
                next += 1;
            }
            self.source.work()?;
            let patience = if next < events.min(taken + AHEAD_MAX) {
                pace.at(next).saturating_duration_since(Instant::now())
            } else {
                Duration::from_millis(10)
            };
            if self.receiver.receive(patience, &pace)? {
                last_news = Instant::now();
            }
        }
        self.source.settle()?;
        Ok(events)
    }

    fn end(self) -> Vec<Row> {
        self.rows.into_iter().map(|(_, row)| row).collect()
    }
}

/// A child that does not outlive the run, however it ends.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already; what was measured stands.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Source {
    fn send(&mut self, number: u64, request: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Floor(stdin) => Ok(stdin.write_all(&number.to_le_bytes())?),
            Self::Server(publisher) => {
                publisher.publish(request);
                publisher.work()
            }
        }
    }

    fn work(&mut self) -> Result<(), Failure> {
        match self {
            Self::Floor(_) => Ok(()),
            Self::Server(publisher) => publisher.work(),
        }
    }

    /// Waits until every event is answered.
    fn settle(&mut self) -> Result<(), Failure> {
        let Self::Server(publisher) = self else {
            return Ok(());
        };
        let started = Instant::now();
        while publisher.answered() < publisher.published() {
            if started.elapsed() > SILENCE {
                return Err("an event was never answered".into());
            }
            publisher.work()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// The one event under way, and when it was sent.
struct Sent(u64, Instant);

impl Schedule for Sent {
    fn due(&self, number: u64) -> Option<Instant> {
        (number == self.0).then_some(self.1)
    }
}

/// So many events a second.
struct Pace {
    start: Instant,
    rate: u64,
}

impl Pace {
    fn at(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos(number * (1_000_000_000 / self.rate))
    }
}

impl Schedule for Pace {
    fn due(&self, number: u64) -> Option<Instant> {
        Some(self.at(number))
    }
}

/// The server, with one shard and nothing of our own environment.
pub fn server_command(binary: &Path, address: SocketAddr, driver: &str) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("start")
        .env_clear()
        .current_dir(std::env::temp_dir())
        .env("REVERB_APP_ID", APP)
        .env("REVERB_APP_KEY", KEY)
        .env("REVERB_APP_SECRET", SECRET)
        .env("REVERB_APP_PING_INTERVAL", "3600")
        .env("REVERB_SERVER_HOST", address.ip().to_string())
        .env("REVERB_SERVER_PORT", address.port().to_string())
        .env("SLAPBACK_SHARDS", "1")
        .env("SLAPBACK_PIN", "false")
        .env("SLAPBACK_DRIVER", driver)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Runs a child on the senders' CPU: it inherits that of the thread that spawns it.
pub fn spawn_on_sender_cpu(command: &mut Command) -> Result<Process, Failure> {
    cpu::pin(cpu::SENDER)?;
    let child = command.spawn();
    cpu::pin(cpu::RECEIVER)?;
    Ok(Process(child?))
}

pub fn wait_for(address: SocketAddr) -> Result<(), Failure> {
    for _ in 0..100 {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("the server does not listen on {address}").into())
}
