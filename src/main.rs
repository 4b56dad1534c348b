//! The `slapback` command: reads the configuration, raises limits, builds the fleet, waits for
//! signals, reloads, drains.

use std::io::{self, Read as _, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use slapback::app::{App, Apps};
use slapback::check;
use slapback::cli::{self, Command};
use slapback::config::{self, Config, Flags};
use slapback::edge::flush;
use slapback::env::Environment;
use slapback::fleet::{Blueprint, Fleet, Shards};
use slapback::health;
use slapback::limits::OpenFiles;
use slapback::log;
use slapback::proto::api::ApiSettings;
use slapback::proto::session::{Session, Settings};
use slapback::reload::Running;
use slapback::restart::{self, Door, Failure};
use slapback::shard::BacklogLimits;
use slapback::shard::cache::CacheLimits;
use slapback::{EXIT_CANNOT_BIND, EXIT_CONFIGURATION, EXIT_INTERNAL, EXIT_STOPPED};
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The page of `--demo`.
const DEMO_PAGE: &str = include_str!("demo.html");

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
        Command::Health(flags) => health(&cli::with_flags_of_the_container(flags), &environment),
        Command::Restart(flags) => restart(&flags, &environment, Nobody::IsAFailure),
        Command::ReverbRestart(flags) => restart(&flags, &environment, Nobody::IsFine),
    }
}

fn fail(code: i32, problem: &str) -> ExitCode {
    // Nobody may be reading; the exit code tells all the same.
    let _ = writeln!(io::stderr(), "slapback: {problem}");
    exit_code(code)
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn read_environment() -> Result<Environment, String> {
    let dotenv = match read_bounded(Path::new(".env")) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!(".env cannot be read: {error}")),
    };
    Environment::new(std::env::vars_os(), dotenv.as_deref()).map_err(|error| error.to_string())
}

fn read_file(path: &Path) -> io::Result<String> {
    String::from_utf8(read_bounded(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Reads a file of settings. A wrong path, to a device or a dump, must not take all memory, and
/// who waits for a pipe takes no signal meanwhile.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(SETTINGS_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SETTINGS_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 16 MiB",
        ));
    }
    Ok(bytes)
}

/// A file of settings has at most so many bytes.
const SETTINGS_BYTES_MAX: u64 = 16 << 20;

fn health(flags: &Flags, environment: &Environment) -> ExitCode {
    match config::load_address(flags, environment, read_file) {
        Err(problem) => fail(EXIT_CONFIGURATION, &problem.to_string()),
        Ok(address) => match health::check(&address) {
            Ok(line) => {
                print(&format!("{line}\n"));
                exit_code(EXIT_STOPPED)
            }
            Err(line) => fail(EXIT_CANNOT_BIND, &line),
        },
    }
}

fn check(flags: &Flags, environment: &Environment) -> ExitCode {
    let config = match config::load(flags, environment, read_file) {
        Ok(config) => config,
        Err(problem) => return fail(EXIT_CONFIGURATION, &problem.to_string()),
    };
    let checked = check::check(&config);
    print(&checked.report);
    match checked.failure {
        None => exit_code(EXIT_STOPPED),
        Some((code, problem)) => fail(code, &problem),
    }
}

/// What it means that no server runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nobody {
    /// Whoever asks by our name means a server.
    IsAFailure,
    /// Scripts that deploy say `reverb:restart` whether one runs yet or not.
    IsFine,
}

fn restart(flags: &Flags, environment: &Environment, nobody: Nobody) -> ExitCode {
    let address = match config::load_address(flags, environment, read_file) {
        Ok(address) => address,
        Err(problem) => return fail(EXIT_CONFIGURATION, &problem.to_string()),
    };
    match restart::restart(&address) {
        Ok(()) => {
            print(&console_line(RESTART_LINE));
            exit_code(EXIT_STOPPED)
        }
        Err(Failure::Nobody(why)) if nobody == Nobody::IsFine => {
            print(&console_line(RESTART_LINE));
            fail(EXIT_STOPPED, &why)
        }
        Err(Failure::Nobody(why) | Failure::Refused(why)) => fail(EXIT_CANNOT_BIND, &why),
    }
}

fn start(flags: &Flags, environment: &Environment) -> ExitCode {
    let config = match config::load(flags, environment, read_file) {
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
    let files = OpenFiles::raise();
    let connections_max = match files.for_connections(shards.count) {
        Ok(connections) => connections,
        Err(problem) => return fail(EXIT_CONFIGURATION, &problem),
    };
    let mut running = Running::new(config);
    let blueprint = blueprint(&running, &chosen, shards.clone(), connections_max);
    let fleet = match Fleet::start::<Session>(&blueprint) {
        Ok(fleet) => fleet,
        Err(error) => return fail(EXIT_CANNOT_BIND, &error.to_string()),
    };
    let door = Door::open(fleet.address.port());
    say_start(&running, &fleet, &chosen, &shards, files);
    wait_for_stop(&mut signals, || {
        let read = reload(flags, running.config());
        if let Some(apps) = running.reload(read) {
            fleet.reload(apps);
        }
    });
    door.leave();
    stop(fleet, running.config(), signals)
}

/// Reads anew what the apps were read from at start.
fn reload(flags: &Flags, running: &Config) -> Result<Config, String> {
    let environment = read_environment()?;
    let read = config::reload(running, flags, &environment, read_file);
    read.map_err(|problem| problem.to_string())
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
        (flush::Driver::Sendmsg, Some(why)) => format!("epoll ({why}; {})", flush::URING_ADVICE),
    };
    Ok(Chosen {
        driver: opened.driver,
        line,
    })
}

fn blueprint(
    running: &Running,
    chosen: &Chosen,
    shards: Shards,
    connections_max: usize,
) -> Blueprint {
    let (config, apps) = (running.config(), Arc::clone(running.apps()));
    let api = ApiSettings {
        path_prefix: config.path.clone(),
        timestamp_tolerance_s: config.auth_timestamp_tolerance_s,
        publish_bytes_max: config
            .scaling
            .as_ref()
            .map(|scaling| scaling.replay_bytes / 2),
    };
    let redis = Arc::default();
    let demo_page = config.demo.then(|| demo_page(&apps));
    let max_request_size = config.max_request_size;
    Blueprint {
        host: config.host.clone(),
        port: config.port,
        is_shared: config.reuse_port,
        unix_socket: config.unix_socket.clone(),
        shards,
        driver: chosen.driver,
        apps,
        settings: Arc::new(Settings {
            api,
            max_request_size,
            accept_rate: config.accept_rate,
            demo_page,
            redis: Arc::clone(&redis),
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
        connections_max,
        drain: Duration::from_secs(config.drain_seconds),
        ingest: config.ingest.clone(),
        scaling: config.scaling.clone(),
        redis,
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

fn say_start(running: &Running, fleet: &Fleet, chosen: &Chosen, shards: &Shards, files: OpenFiles) {
    let (config, apps) = (running.config(), running.apps());
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
    if let Some(socket) = &config.unix_socket {
        info!("unix socket: {}", socket.path.display());
    }
    info!("driver: {}", chosen.line);
    info!("shards: {}, {}", shards.count, shards.placement());
    info!("open files: {}", files.limit);
    for (_, app) in apps.iter() {
        info!("{}", describe(app));
    }
    if config.demo {
        say_demo(config, fleet, apps);
    }
}

/// A line in the form of Laravel's console.
fn say(line: &str) {
    log::print(&console_line(line));
}

fn console_line(line: &str) -> String {
    format!("\n   INFO  {line}\n\n")
}

/// Writes to stdout. That nobody reads it must neither stop a server nor change an exit code.
fn print(text: &str) {
    let mut out = io::stdout().lock();
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

/// Waits for a signal that asks to stop, and does what SIGHUP asks for meanwhile.
fn wait_for_stop(signals: &mut Signals, mut reload: impl FnMut()) {
    for signal in signals.forever() {
        if signal != SIGHUP {
            return;
        }
        reload();
    }
}

/// Leaves, then drains; a second signal ends it at once.
fn stop(fleet: Fleet, config: &Config, mut signals: Signals) -> ExitCode {
    std::thread::spawn(move || {
        wait_for_stop(&mut signals, || {
            warn!("reload: ignored, the server is leaving");
        });
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

const RESTART_LINE: &str = "Broadcasting Reverb restart signal.";
