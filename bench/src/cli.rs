//! The command line: what to measure, how long, and where the results go.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use clap::{Args, Parser, Subcommand};

use crate::Failure;
use crate::contender::{Contender, Driver, Other};
use crate::floor::{discarder, replier, sender};
use crate::message::App;
use crate::process::{APP, SECRET};
use crate::publisher::KEY;
use crate::scale::crowd;
use crate::scenario::{ALL, Effort, Scenario};

/// Measures Slapback next to bare loops that only send and answer.
#[derive(Parser)]
#[command(name = "slapback-bench", args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// None is to measure.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to measure.
    #[command(flatten)]
    pub run: Run,
}

/// Everything else.
#[derive(Subcommand)]
pub enum Command {
    /// The same with another server beside, which speaks the Pusher protocol and runs already
    Compare(Compare),
    /// Hundreds of thousands of sockets at once, to many servers that are one over Redis
    Scale(Scale),
    /// What each setting of an io_uring is worth to whoever only sends
    Flags,
    /// A process of clients.
    #[command(name = crowd::ROLE, hide = true)]
    Crowd {
        server: SocketAddr,
        number: usize,
        sockets: usize,
    },
    /// A process of the floor.
    #[command(name = sender::ROLE, hide = true)]
    FloorSender {
        driver: String,
        sockets: usize,
        host: Ipv4Addr,
        unix: Option<PathBuf>,
    },
    /// A process of the floor.
    #[command(name = replier::ROLE, hide = true)]
    FloorReplier,
    /// A process of the floor.
    #[command(name = discarder::ROLE, hide = true)]
    FloorDiscarder { port: u16 },
}

/// What to measure and how.
#[derive(Args)]
pub struct Run {
    /// What to measure; all if nothing is named
    #[arg(value_name = "SCENARIO", value_parser = names())]
    scenarios: Vec<String>,
    /// One short round of each
    #[arg(long)]
    quick: bool,
    /// Whom to measure, and where it is written down.
    #[command(flatten)]
    pub paths: Paths,
}

/// Whom to measure, and where it is written down.
#[derive(Args)]
pub struct Paths {
    /// The binary to measure; else $SLAPBACK_BIN, else the slapback beside this one
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Where text, JSON and chart go
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    pub out: PathBuf,
}

/// More sockets than one process may hold.
#[derive(Args)]
pub struct Scale {
    /// Sockets in all
    #[arg(long, default_value_t = 407_000)]
    pub sockets: usize,
    /// Servers, and processes of clients
    #[arg(long, default_value_t = 22, value_parser = servers())]
    pub servers: usize,
    /// How the servers send
    #[arg(long, value_enum, default_value_t = Driver::Uring)]
    pub driver: Driver,
    /// Seconds of silence before a server pings
    #[arg(long, default_value_t = 60)]
    pub ping_interval: u64,
    /// Whom to measure, and where it is written down.
    #[command(flatten)]
    pub paths: Paths,
}

/// Another server.
#[derive(Args)]
pub struct Compare {
    /// Where it listens
    #[arg(value_name = "HOST:PORT")]
    address: String,
    /// The id of an app that it serves
    #[arg(long, default_value = APP)]
    app_id: String,
    /// Its key
    #[arg(long, default_value = KEY)]
    app_key: String,
    /// Its secret
    #[arg(long, default_value = SECRET)]
    app_secret: String,
    /// Its process, to measure CPU and memory if it runs here; pin it to CPU 0 yourself
    #[arg(long)]
    pid: Option<u32>,
    /// What to measure.
    #[command(flatten)]
    pub run: Run,
}

impl Paths {
    /// The server to measure.
    pub fn binary(&self) -> Result<PathBuf, Failure> {
        let named = self
            .server
            .clone()
            .or_else(|| std::env::var_os("SLAPBACK_BIN").map(Into::into));
        let binary = match named {
            Some(binary) => std::path::absolute(binary)?,
            None => std::env::current_exe()?.with_file_name("slapback"),
        };
        if !binary.is_file() {
            return Err(format!("there is no server {}: build it", binary.display()).into());
        }
        Ok(binary)
    }
}

impl Run {
    /// How long it may take.
    pub fn effort(&self) -> Effort {
        if self.quick {
            Effort::Quick
        } else {
            Effort::Whole
        }
    }

    /// What was named, in the order of [`ALL`].
    pub fn scenarios(&self) -> impl Iterator<Item = &'static Scenario> {
        ALL.into_iter().filter(|scenario| {
            self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == scenario.name)
        })
    }
}

impl Compare {
    /// The other server as a contender.
    pub fn other(&self) -> Result<Contender, Failure> {
        let mut addresses = self.address.to_socket_addrs()?;
        Ok(Contender::Other(Other {
            address: addresses.next().ok_or("the host has no address")?,
            app: App {
                id: self.app_id.clone(),
                key: self.app_key.clone(),
                secret: self.app_secret.clone(),
            },
            process: self.pid,
        }))
    }
}

fn servers() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=crowd::CROWDS_MAX as u64)
}

fn names() -> PossibleValuesParser {
    let value =
        |scenario: &Scenario| clap::builder::PossibleValue::new(scenario.name).help(scenario.about);
    PossibleValuesParser::new(ALL.map(value))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn names_of(arguments: &[&str]) -> Vec<&'static str> {
        let arguments = ["slapback-bench"].iter().chain(arguments);
        let cli = Cli::try_parse_from(arguments).unwrap();
        cli.run.scenarios().map(|scenario| scenario.name).collect()
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn scenarios_run_in_one_order_and_all_if_none_is_named() {
        assert_eq!(names_of(&["--quick"]).len(), ALL.len());
        assert_eq!(names_of(&["latency", "fanout"]), ["fanout", "latency"]);
        assert!(Cli::try_parse_from(["slapback-bench", "fan-out"]).is_err());
    }

    #[test]
    fn another_server_is_an_address_and_an_app() {
        let arguments = [
            "slapback-bench",
            "compare",
            "127.0.0.1:6001",
            "--quick",
            "fanout",
        ];
        let Some(Command::Compare(compare)) = Cli::try_parse_from(arguments).unwrap().command
        else {
            panic!("not a comparison");
        };
        assert_eq!(compare.run.scenarios().count(), 1);
        assert_eq!(compare.other().unwrap().who(), "127.0.0.1:6001");
    }
}
