//! The `slapback` command: reads the configuration, raises limits, builds the fleet, waits for
//! signals, drains.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use slapback::app::{App, Apps};
use slapback::cli::{self, Command};
use slapback::config::{self, Config, Flags};
use slapback::edge::flush;
use slapback::env::Environment;
use slapback::fleet::{Blueprint, Fleet, Shards};
use slapback::log;
use slapback::proto::api::ApiSettings;
use slapback::proto::session::{Session, Settings};
use slapback::shard::BacklogLimits;
use slapback::shard::cache::CacheLimits;
use slapback::{EXIT_CANNOT_BIND, EXIT_CONFIGURATION, EXIT_INTERNAL, EXIT_STOPPED};
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The page of `--demo`.
const DEMO_PAGE: &str = include_str!("demo.html");

/// Descriptors besides connections: rings, listeners, wakes, standard streams, with room to spare.
const FILES_OF_OUR_OWN: usize = 32;
/// The same, for each shard.
const FILES_PER_SHARD: usize = 16;
/// With fewer left for connections there is no use in starting: 64 are kept for API calls.
const FILES_FOR_CONNECTIONS_MIN: usize = 128;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(usage) => usage.exit(),
    };
    let environment = match read_environment() {
        Ok(environment) => environment,
        Err(problem) => return fail(EXIT_CONFIGURATION, &problem),
    };
    match command {
        Command::Start(flags) => {
            let code = start(&flags, &environment);
            log::flush();
            code
        }
        Command::Check(flags) => check(&flags, &environment),
        Command::Health(flags) => health(&flags, &environment),
    }
}

fn fail(code: i32, problem: &str) -> ExitCode {
    // Nobody may be reading; the exit code tells all the same.
    let _ = writeln!(std::io::stderr(), "slapback: {problem}");
    exit_code(code)
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn read_environment() -> Result<Environment, String> {
    let dotenv = match std::fs::read(".env") {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!(".env cannot be read: {error}")),
    };
    Environment::new(std::env::vars_os(), dotenv.as_deref()).map_err(|error| error.to_string())
}

fn read_file(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

fn health(flags: &Flags, environment: &Environment) -> ExitCode {
    match config::load_address(flags, environment, read_file) {
        Err(problem) => fail(EXIT_CONFIGURATION, &problem.to_string()),
        Ok(address) => match cli::health(&address) {
            Ok(line) => {
                print(&format!("{line}\n"));
                exit_code(EXIT_STOPPED)
            }
            Err(line) => fail(EXIT_CANNOT_BIND, &line),
        },
    }
}

fn check(flags: &Flags, environment: &Environment) -> ExitCode {
    match config::load(flags, environment, read_file) {
        Err(problem) => fail(EXIT_CONFIGURATION, &problem.to_string()),
        Ok(config) => match choose_driver(&config) {
            Ok(chosen) => {
                print(&cli::check_report(&config, &chosen.line));
                exit_code(EXIT_STOPPED)
            }
            Err(problem) => {
                print(&cli::check_report(&config, "none"));
                fail(EXIT_INTERNAL, &problem)
            }
        },
    }
}

fn start(flags: &Flags, environment: &Environment) -> ExitCode {
    let mut config = match config::load(flags, environment, read_file) {
        Ok(config) => config,
        Err(problem) => return fail(EXIT_CONFIGURATION, &problem.to_string()),
    };
    if let Err(error) = log::start(config.debug) {
        return fail(
            EXIT_INTERNAL,
            &format!("the log cannot be started: {error}"),
        );
    }
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let Ok(mut signals) = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGTSTP, SIGHUP]) else {
        return fail(EXIT_INTERNAL, "signals cannot be caught");
    };
    let chosen = match choose_driver(&config) {
        Ok(chosen) => chosen,
        Err(problem) => return fail(EXIT_INTERNAL, &problem),
    };
    let shards = Shards::choose(config.shards, config.pin);
    let files = raise_file_limit();
    let needed = files_of_our_own(shards.count) + FILES_FOR_CONNECTIONS_MIN;
    if files < needed {
        let problem = format!("{files} open files are too few: {needed} are needed (ulimit -n)");
        return fail(EXIT_CONFIGURATION, &problem);
    }
    let apps = Arc::new(Apps::new(std::mem::take(&mut config.apps)));
    let blueprint = blueprint(&config, &chosen, shards.clone(), files, Arc::clone(&apps));
    let fleet = match Fleet::start::<Session>(&blueprint) {
        Ok(fleet) => fleet,
        Err(error) => {
            let (host, port) = (&config.host, config.port);
            return fail(
                EXIT_CANNOT_BIND,
                &format!("cannot listen on {host}:{port}: {error}"),
            );
        }
    };
    say_start(&config, &fleet, &chosen, &shards, files, &apps);
    wait_for_stop(&mut signals);
    stop(fleet, &config, signals)
}

/// The driver all shards use, and what to say of it.
struct Chosen {
    driver: flush::Driver,
    line: String,
}

fn choose_driver(config: &Config) -> Result<Chosen, String> {
    let opened = flush::open(config.driver).map_err(|problem| problem.to_string())?;
    let line = match (&opened.driver, &opened.fallback) {
        (flush::Driver::Uring, _) => "io_uring (self-test passed)".to_owned(),
        (flush::Driver::Sendmsg, None) => "epoll (asked for)".to_owned(),
        (flush::Driver::Sendmsg, Some(why)) => format!(
            "epoll ({why}; to allow io_uring in a container, permit io_uring_setup, \
             io_uring_enter and io_uring_register in its seccomp profile)"
        ),
    };
    Ok(Chosen {
        driver: opened.driver,
        line,
    })
}

/// Descriptors that are no connections.
fn files_of_our_own(shards: u16) -> usize {
    FILES_OF_OUR_OWN + FILES_PER_SHARD * usize::from(shards)
}

/// Raises the limit of open files to the hard one. Returns what it is now.
fn raise_file_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit of open files could not be raised");
    }
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}

fn blueprint(
    config: &Config,
    chosen: &Chosen,
    shards: Shards,
    files: usize,
    apps: Arc<Apps>,
) -> Blueprint {
    let own = files_of_our_own(shards.count);
    let api = ApiSettings {
        path_prefix: config.path.clone(),
        timestamp_tolerance_s: config.auth_timestamp_tolerance_s,
    };
    let demo_page = config.demo.then(|| demo_page(&apps));
    let max_request_size = config.max_request_size;
    Blueprint {
        host: config.host.clone(),
        port: config.port,
        is_shared: config.reuse_port,
        shards,
        driver: chosen.driver,
        apps,
        settings: Arc::new(Settings {
            api,
            max_request_size,
            demo_page,
        }),
        limits: BacklogLimits {
            bytes: config.backlog_bytes,
            wait: Duration::from_secs(config.backlog_seconds),
            total: config.backlog_total,
        },
        cache: CacheLimits {
            channels: config.cache_channels,
            bytes: config.cache_bytes,
        },
        ring_bytes: config.ring_bytes,
        connections_max: files.saturating_sub(own),
        drain: Duration::from_secs(config.drain_seconds),
    }
}

fn demo_page(apps: &Apps) -> String {
    let Some((_, app)) = apps.iter().next() else {
        return String::new();
    };
    DEMO_PAGE
        .replace("{{APP_ID}}", &app.settings.id)
        .replace("{{APP_KEY}}", &app.settings.key)
        .replace("{{APP_SECRET}}", &app.settings.secret)
}

fn say_start(
    config: &Config,
    fleet: &Fleet,
    chosen: &Chosen,
    shards: &Shards,
    files: usize,
    apps: &Apps,
) {
    let host = config::host_in_url(&config.host);
    let (port, path) = (fleet.address.port(), &config.path);
    let hostname = config
        .hostname
        .as_ref()
        .filter(|name| **name != config.host);
    let hostname = hostname
        .map(|name| format!(" ({name})"))
        .unwrap_or_default();
    say(&format!(
        "Starting server on {host}:{port}{path}{hostname}."
    ));
    info!("driver: {}", chosen.line);
    let pinned = shards
        .cpus
        .as_ref()
        .map_or("not pinned".to_owned(), |cpus| {
            format!("pinned to CPUs {cpus:?}")
        });
    info!("shards: {}, {pinned}", shards.count);
    info!("open files: {files}");
    for (_, app) in apps.iter() {
        info!("{}", describe(app));
    }
    if config.demo {
        say_demo(config, fleet, apps);
    }
}

/// A line in the form of Laravel's console.
fn say(line: &str) {
    log::print(&format!("\n   INFO  {line}\n\n"));
}

/// Writes to stdout. That nobody reads it must neither stop a server nor change an exit code.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

fn describe(app: &App) -> String {
    let settings = &app.settings;
    let connections = settings
        .max_connections
        .map_or("unlimited".to_owned(), |limit| limit.to_string());
    format!(
        "app {}: origins {}, client events {}, connections {connections}, \
         message bytes {}",
        settings.id,
        settings.allowed_origins.join(" "),
        settings.client_events,
        settings.max_message_size,
    )
}

fn say_demo(config: &Config, fleet: &Fleet, apps: &Apps) {
    if let Some((_, app)) = apps.iter().next() {
        let settings = &app.settings;
        info!(
            "demo: open http://{}{}/ in two tabs",
            fleet.address, config.path
        );
        info!(
            "demo: id {} key {} secret {}",
            settings.id, settings.key, settings.secret
        );
    }
}

/// Waits for a signal that asks to stop. SIGHUP asks for nothing yet.
fn wait_for_stop(signals: &mut Signals) {
    for signal in signals.forever() {
        if signal != SIGHUP {
            return;
        }
    }
}

/// Leaves, then drains; a second signal ends it at once.
fn stop(fleet: Fleet, config: &Config, mut signals: Signals) -> ExitCode {
    std::thread::spawn(move || {
        wait_for_stop(&mut signals);
        log::flush();
        std::process::exit(EXIT_STOPPED);
    });
    say("Gracefully terminating connections.");
    if config.drain_delay_s > 0 {
        fleet.announce_leaving();
        std::thread::sleep(Duration::from_secs(config.drain_delay_s));
    }
    fleet.drain();
    exit_code(EXIT_STOPPED)
}
