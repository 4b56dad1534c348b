//! `slapback-bench`: what one delivery costs the server, next to what the kernel alone would cost.
//!
//! Runs the real server and a bare send loop, the floor, on CPU 0, in turns, on both drivers; one
//! receiver and publisher on CPU 1 serves them all. Only ratios within one run mean much: absolute
//! figures belong to the machine. Exits 1 if a single frame was lost, doubled or out of order.

use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};

mod cpu;
mod fanout;
mod floor;
mod publisher;
mod receiver;
mod redis;
mod table;

/// Whatever ends a run: a sentence for the operator.
type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "\
usage: slapback-bench [--quick] [--connections N] [--server PATH] [--out DIR] fanout | floor | redis

  fanout   server and floor, interleaved, on both drivers
  floor    the bare send loops alone
  redis    what Laravel's redis broadcaster publishes, next to a bare subscriber
  --server      the binary to measure; else $SLAPBACK_BIN, else the slapback beside this one
  --connections subscribed sockets, 1000
  --out         where the JSON goes, target/bench; what is worth keeping goes to bench/results
  --quick       fewer and shorter rounds";

/// What the command line asks for.
struct Options {
    server: Option<PathBuf>,
    connections: usize,
    rounds: usize,
    /// Events sent one at a time, per round.
    events: u64,
    /// Length of an open-loop round.
    seconds: u64,
    out: PathBuf,
}

impl Options {
    /// The server to measure.
    fn binary(&self) -> Result<PathBuf, Failure> {
        Ok(match &self.server {
            Some(binary) => binary.clone(),
            None => std::env::current_exe()?.with_file_name("slapback"),
        })
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("slapback-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// False if a stream was not exact.
fn run(arguments: &[String]) -> Result<bool, Failure> {
    if let [role, driver, connections] = arguments
        && role == floor::ROLE
    {
        floor::send_on_request(driver, connections.parse()?)?;
        return Ok(true);
    }
    if let [role, port] = arguments
        && role == redis::ROLE
    {
        redis::read_and_discard(port.parse()?)?;
        return Ok(true);
    }
    let (options, scenario) = parse(arguments)?;
    raise_file_limit();
    let rows = match scenario {
        Scenario::Redis => return redis::measure(&options),
        Scenario::Fanout => fanout::measure(&options, true)?,
        Scenario::Floor => fanout::measure(&options, false)?,
    };
    print!("{}", table::text(&rows));
    let file = table::write_json(&rows, &options.out)?;
    println!("\nwritten to {}", file.display());
    Ok(rows.iter().all(table::Row::is_exact))
}

/// What is measured.
enum Scenario {
    Fanout,
    Floor,
    Redis,
}

fn parse(arguments: &[String]) -> Result<(Options, Scenario), Failure> {
    let mut options = Options {
        server: std::env::var_os("SLAPBACK_BIN").map(PathBuf::from),
        connections: 1000,
        rounds: 5,
        events: 300,
        seconds: 3,
        out: PathBuf::from("target/bench"),
    };
    let mut scenario = None;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(USAGE);
        match argument.as_str() {
            "fanout" => scenario = Some(Scenario::Fanout),
            "floor" => scenario = Some(Scenario::Floor),
            "redis" => scenario = Some(Scenario::Redis),
            "--quick" => (options.rounds, options.events, options.seconds) = (3, 100, 1),
            "--connections" => options.connections = value()?.parse()?,
            "--server" => options.server = Some(value()?.into()),
            "--out" => options.out = value()?.into(),
            _ => return Err(USAGE.into()),
        }
    }
    Ok((options, scenario.ok_or(USAGE)?))
}

/// Servers and floors inherit it. If it cannot be raised, connecting fails with the reason.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
