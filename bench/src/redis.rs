//! Messages of Laravel's redis broadcaster: how many a second one ingest thread takes, next to a
//! bare subscriber that reads and throws away, behind the same publisher.
//!
//! Starts a `redis-server` of its own. Redis and the publisher run on CPU 1, whoever reads on CPU 0;
//! a script in Redis publishes, so that the publisher is never what limits. Where the server keeps
//! up with the bare subscriber Redis is what limits; what the server can take shows once it finds a
//! backlog, which Redis has only to write.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::fanout::{Process, server_command, spawn_on_sender_cpu, wait_for};
use crate::publisher::KEY;
use crate::receiver::{CHANNEL, DIGITS, MARK, Receiver, Schedule};
use crate::table::median;
use crate::{Failure, Options, cpu};

/// First argument of the process that reads and throws away.
pub const ROLE: &str = "redis-floor";

/// Bytes of one payload.
const PAYLOAD_BYTES: usize = 200;
/// Calls that are under way beside the last, so that Redis never waits for the next.
const UNANSWERED_MAX: usize = 1;
/// Messages that one call of the script publishes. Redis writes 64 KiB to a reader in a turn of its
/// loop, and all calls under way may come in one turn: of larger ones more and more would lie there
/// until the last, and Redis and the reader would work one after the other instead of at once.
const CHUNK: u64 = 100;
/// Messages that a backlog holds.
const BACKLOG: u64 = 300_000;
/// Sockets of the row with subscribers.
const SUBSCRIBERS: usize = 100;
/// Messages of a round with subscribers: each is delivered to all of them.
const DELIVERED: u64 = 20_000;
/// Messages on their way to subscribers at once.
const AHEAD_MAX: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes `{…"#0000000001xxx"…}`: on channel `ARGV[1]`, from number `ARGV[2]` on, `ARGV[3]` times.
const SCRIPT: &str = "for i = 0, ARGV[3] - 1 do redis.call('PUBLISH', ARGV[1], \
                      ARGV[4] .. string.format('%010d', ARGV[2] + i) .. ARGV[5]) end";

/// Whose messages these are: the others do not read them. All are of one length, for Redis to do
/// the same for everyone.
#[derive(Clone, Copy)]
enum Prefix {
    Floor,
    Laravel,
}

impl Prefix {
    fn text(self) -> &'static str {
        match self {
            Self::Floor => "bare_subscribers_",
            Self::Laravel => "laravel_database_",
        }
    }
}

/// When the reader gets the messages.
#[derive(Clone, Copy, PartialEq)]
enum Feed {
    /// As they are published.
    Live,
    /// Once all are: it is stopped until then.
    Backlog,
}

/// One row: rounds of messages a second and of nanoseconds of the reader's CPU for each.
#[derive(Default)]
struct Row {
    per_second: Vec<f64>,
    cpu_ns: Vec<f64>,
}

/// Measures and prints. False if a message was lost.
pub fn measure(options: &Options) -> Result<bool, Failure> {
    cpu::pin(cpu::RECEIVER)?;
    let binary = options.binary()?;
    let mut redis = Redis::start()?;
    let mut floor = Floor::start(redis.port)?;
    let mut server = Server::start(&binary, redis.port)?;
    let messages = options.events * 3000;
    let (mut rows, mut is_exact) = (<[Row; 4]>::default(), true);
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let [bare, live, backlog, subscribed] = &mut rows;
        let reader = (Prefix::Floor, floor.process.0.id());
        let ends = || floor.ends();
        bare.add(messages, redis.time(reader, Feed::Live, messages, ends)?);
        let reader = (Prefix::Laravel, server.process.0.id());
        for (row, feed, messages) in [
            (live, Feed::Live, messages),
            (backlog, Feed::Backlog, BACKLOG),
        ] {
            row.add(
                messages,
                redis.time(reader, feed, messages, || server.ends())?,
            );
        }
        is_exact &= server.deliver(&mut redis, subscribed)?;
    }
    let published = options.rounds as u64 * (messages + 1 + BACKLOG + 1 + DELIVERED);
    let taken = server.stop()?;
    let lost = published.saturating_sub(taken);
    print(&rows);
    println!("published {published}, lost {lost}");
    Ok(is_exact && lost == 0)
}

fn print(rows: &[Row; 4]) {
    println!(
        "{:<34} {:>12} {:>14} {:>8}",
        "redis, 200 bytes", "messages/s", "CPU ns each", "ratio"
    );
    let base = median(rows[0].per_second.iter().copied());
    for (name, row) in [
        "bare subscriber",
        "server, no subscribers",
        "server, no subscribers, a backlog",
        "server, 100 subscribers",
    ]
    .into_iter()
    .zip(rows)
    {
        let (rate, ns) = (
            median(row.per_second.iter().copied()),
            median(row.cpu_ns.iter().copied()),
        );
        println!("{name:<34} {rate:>12.0} {ns:>14.0} {:>8.2}", rate / base);
    }
}

/// The process that reads and throws away, until Redis closes.
pub fn read_and_discard(port: u16) -> Result<(), Failure> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let prefix = Prefix::Floor.text();
    let pattern = format!("{prefix}*");
    let length = pattern.len();
    write!(
        stream,
        "*2\r\n$10\r\nPSUBSCRIBE\r\n${length}\r\n{pattern}\r\n"
    )?;
    let end = format!("{prefix}{CHANNEL}\r\n");
    let finder = memchr::memmem::Finder::new(&end);
    let mut buffer = vec![0; 256 * 1024];
    let mut kept = 0;
    loop {
        let count = stream.read(&mut buffer[kept..])?;
        if count == 0 {
            return Ok(());
        }
        let filled = kept + count;
        if finder.find(&buffer[..filled]).is_some() {
            println!("end");
            std::io::stdout().flush()?;
            kept = 0;
            continue;
        }
        // The name may come in two pieces.
        kept = filled.min(end.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

impl Row {
    fn add(&mut self, messages: u64, (elapsed, cpu_ns): (Duration, u64)) {
        self.per_second
            .push(messages as f64 / elapsed.as_secs_f64());
        self.cpu_ns.push(cpu_ns as f64 / messages as f64);
    }
}

struct Redis {
    port: u16,
    stream: BufReader<TcpStream>,
    /// Calls that Redis has not answered.
    unanswered: usize,
    _process: Process,
}

impl Redis {
    fn start() -> Result<Self, Failure> {
        let port = free_port()?;
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            // A reader that falls behind is to be measured, not cut.
            .args(["--client-output-buffer-limit", "pubsub 0 0 0"])
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server cannot be started: {error}"))?;
        let process = Process(process);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for(address)?;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            port,
            stream: BufReader::new(stream),
            unanswered: 0,
            _process: process,
        })
    }

    /// Publishes so many messages, then one to the subscribers, and gives how long it took until the
    /// reader has had it, and what its process ran meanwhile. A backlog takes its time from when the
    /// reader goes on.
    fn time(
        &mut self,
        (prefix, reader): (Prefix, u32),
        feed: Feed,
        messages: u64,
        ends: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(Duration, u64), Failure> {
        let before = cpu::used_ns(reader)?;
        let mut started = Instant::now();
        if feed == Feed::Backlog {
            signal(reader, Signal::STOP)?;
        }
        for from in (0..messages).step_by(usize::try_from(CHUNK)?) {
            self.publish(prefix, "numbers", from, CHUNK.min(messages - from))?;
        }
        self.publish(prefix, CHANNEL, 0, 1)?;
        if feed == Feed::Backlog {
            self.settle(0)?;
            started = Instant::now();
            signal(reader, Signal::CONT)?;
        }
        ends()?;
        self.settle(0)?;
        Ok((started.elapsed(), cpu::used_ns(reader)? - before))
    }

    fn publish(
        &mut self,
        prefix: Prefix,
        channel: &str,
        from: u64,
        times: u64,
    ) -> Result<(), Failure> {
        let (head, tail) = (
            format!(r#"{{"event":"tick","data":"{}"#, char::from(MARK)),
            r#"","socket":null}"#,
        );
        let filler = PAYLOAD_BYTES - head.len() - DIGITS - tail.len();
        let tail = format!("{}{tail}", "x".repeat(filler));
        let channel = format!("{}{channel}", prefix.text());
        let (from, times) = (from.to_string(), times.to_string());
        let parts = ["EVAL", SCRIPT, "0", &channel, &from, &times, &head, &tail];
        let mut command = format!("*{}\r\n", parts.len());
        for part in parts {
            command += &format!("${}\r\n{part}\r\n", part.len());
        }
        self.stream.get_mut().write_all(command.as_bytes())?;
        self.unanswered += 1;
        self.settle(UNANSWERED_MAX)
    }

    /// Reads answers until no more than so many calls are without one.
    fn settle(&mut self, unanswered: usize) -> Result<(), Failure> {
        while self.unanswered > unanswered {
            let mut answer = String::new();
            self.stream.read_line(&mut answer)?;
            if answer.starts_with('-') {
                return Err(format!("Redis refuses to publish: {answer}").into());
            }
            self.unanswered -= 1;
        }
        Ok(())
    }
}

struct Floor {
    process: Process,
    said: BufReader<ChildStdout>,
}

impl Floor {
    fn start(port: u16) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([ROLE, &port.to_string()])
            .stdout(Stdio::piped());
        let mut process = spawn_on_sender_cpu(&mut command)?;
        let said = BufReader::new(process.0.stdout.take().ok_or("no stdout")?);
        Ok(Self { process, said })
    }

    fn ends(&mut self) -> Result<(), Failure> {
        self.said.read_line(&mut String::new())?;
        Ok(())
    }
}

struct Server {
    process: Process,
    said: BufReader<ChildStdout>,
    subscribers: Receiver,
}

impl Server {
    fn start(binary: &Path, redis: u16) -> Result<Self, Failure> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = server_command(binary, address, "uring");
        command
            .env("SLAPBACK_REDIS_INGEST", "true")
            .env("REDIS_PORT", redis.to_string())
            .stdout(Stdio::piped());
        let mut process = spawn_on_sender_cpu(&mut command)
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut said = BufReader::new(process.0.stdout.take().ok_or("no stdout")?);
        line_with(&mut said, "redis: ingest works")?;
        let subscribers = Receiver::connect(address, SUBSCRIBERS, Some(KEY))?;
        Ok(Self {
            process,
            said,
            subscribers,
        })
    }

    /// Waits until every subscriber has heard event 0, the end of a round.
    fn ends(&mut self) -> Result<(), Failure> {
        self.hear(1)?;
        self.subscribers.finish(1)?;
        Ok(())
    }

    /// Publishes to the subscribers, no faster than they take it. Tells whether all was heard once.
    fn deliver(&mut self, redis: &mut Redis, row: &mut Row) -> Result<bool, Failure> {
        let before = cpu::used_ns(self.process.0.id())?;
        let started = Instant::now();
        for from in (0..DELIVERED).step_by(usize::try_from(AHEAD_MAX)?) {
            redis.publish(Prefix::Laravel, CHANNEL, from, AHEAD_MAX)?;
            self.hear(from + AHEAD_MAX)?;
        }
        let elapsed = started.elapsed();
        let cpu_ns = cpu::used_ns(self.process.0.id())? - before;
        row.add(DELIVERED, (elapsed, cpu_ns));
        let tally = self.subscribers.finish(DELIVERED)?;
        Ok(tally.lost + tally.doubled + tally.reordered == 0)
    }

    fn hear(&mut self, events: u64) -> Result<(), Failure> {
        let started = Instant::now();
        while self.subscribers.frames() < events * self.subscribers.sockets() {
            if !self.subscribers.receive(Duration::from_secs(1), &Untimed)?
                && started.elapsed() > PATIENCE
            {
                return Err("the subscribers miss events".into());
            }
        }
        Ok(())
    }

    /// Ends it, and gives how many messages it has taken.
    fn stop(mut self) -> Result<u64, Failure> {
        signal(self.process.0.id(), Signal::TERM)?;
        let line = line_with(&mut self.said, "stopped: ")?;
        let taken = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("ingest_taken="));
        Ok(taken.ok_or("nothing was taken")?.parse()?)
    }
}

fn signal(process: u32, signal: Signal) -> Result<(), Failure> {
    let pid = Pid::from_raw(i32::try_from(process)?).ok_or("no process")?;
    Ok(kill_process(pid, signal)?)
}

/// Nobody asks for latencies here.
struct Untimed;

impl Schedule for Untimed {
    fn due(&self, _: u64) -> Option<Instant> {
        None
    }
}

fn line_with(said: &mut impl BufRead, part: &str) -> Result<String, Failure> {
    let mut line = String::new();
    while said.read_line(&mut line)? > 0 {
        if line.contains(part) {
            return Ok(line);
        }
        line.clear();
    }
    Err(format!("the server ended without saying {part:?}").into())
}

/// A port that nobody listens on.
fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
