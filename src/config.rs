//! Flags, file, environment and defaults laid over one another: one checked [`Config`].
//!
//! Called by `main` before any thread or socket exists; what is wrong is said here, by name and
//! line, and nowhere later. Never opens a socket.

mod app;
mod document;
mod file;
mod flags;
mod reader;
mod redis;
mod server;
mod source;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use ahash::AHashMap;

use self::file::Spelling;
pub use self::flags::Flags;
pub use self::reader::{Listing, Row};
use self::redis::Fed;
pub use self::redis::{
    Ingest, IngestSource, PublicAddress, RedisAddress, RedisServer, RedisTls, Scaling, Topology,
};
use self::server::Sources;
pub use self::source::Origin;
use self::source::{Source as _, Table};
use crate::app::{APPS_MAX, AppSettings};
use crate::env::Environment;
use crate::hex;

/// Everything the operator decided, checked.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Address or name to bind, an IPv6 address without its brackets.
    pub host: String,
    /// Port to bind; 0 lets the kernel choose.
    pub port: u16,
    /// Prefix of every route: empty, or with a leading and no trailing slash.
    pub path: String,
    /// Public name, for the start banner only.
    pub hostname: Option<String>,
    /// Bytes of one HTTP request, head and body.
    pub max_request_size: usize,
    /// Every app, ids and keys distinct; with `demo` the demo app comes first.
    pub apps: Vec<AppSettings>,
    /// Whether the demo app and its page are served.
    pub demo: bool,
    /// Whether the log tells of each connection and message.
    pub debug: bool,
    /// How frames are written to the kernel.
    pub driver: DriverChoice,
    /// Number of shards; `None` = one per CPU at hand.
    pub shards: Option<usize>,
    /// Whether shards are pinned; `None` = if the CPUs are ours alone.
    pub pin: Option<bool>,
    /// Whether another server may listen on the same port.
    pub reuse_port: bool,
    /// The Unix socket to listen on as well.
    pub unix_socket: Option<UnixSocket>,
    /// Handshakes per second that succeed; `None` = as many as come.
    pub accept_rate: Option<NonZeroU32>,
    /// Bytes one socket may owe before it is closed.
    pub backlog_bytes: usize,
    /// Seconds a socket may owe without taking a byte.
    pub backlog_seconds: u64,
    /// Bytes all sockets together may owe.
    pub backlog_total: usize,
    /// Bytes on their way from one shard to another.
    pub ring_bytes: usize,
    /// Cache channels of one app whose last event is kept.
    pub cache_channels: usize,
    /// Bytes of the events that the cache channels of one app keep.
    pub cache_bytes: usize,
    /// Seconds between `/up` answering 503 and the first close.
    pub drain_delay_s: u64,
    /// Seconds over which the sockets are closed.
    pub drain_seconds: u64,
    /// Seconds the timestamp of an API call may be off; 0 = any.
    pub auth_timestamp_tolerance_s: u64,
    /// The bus by which servers hear each other, if there is to be one.
    pub scaling: Option<Scaling>,
    /// Laravel's `redis` broadcaster, if it is to be heard.
    pub ingest: Option<Ingest>,
    /// What the operator should know and the start log shall say.
    pub warnings: Vec<String>,
    /// What each setting came to be and why: of the server, then of each app but the demo's.
    pub listings: Vec<Listing>,
}

/// A Unix socket to listen on (`SLAPBACK_UNIX_SOCKET`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its whole path.
    pub path: PathBuf,
    /// Who may connect.
    pub mode: FileMode,
}

/// The permissions of a file, shown in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

/// Which driver the operator asks for (`SLAPBACK_DRIVER`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// `io_uring` if this kernel does what we need, else epoll.
    #[default]
    Auto,
    /// `io_uring` or no start.
    Uring,
    /// epoll, as on hosts that forbid `io_uring`.
    Epoll,
}

/// Where a running server is reached, as `slapback health` and `slapback restart` need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As [`Config::host`].
    pub host: String,
    /// As [`Config::port`].
    pub port: u16,
    /// As [`Config::path`].
    pub path: String,
    /// Whether anybody says the port: it is not just the default.
    pub is_port_said: bool,
}

/// A configuration that cannot be served; `main` exits 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nothing names an app.
    #[error(
        "no app to serve: set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET, name a file \
         with --config, or try `slapback start --demo`"
    )]
    NoApp,
    /// The environment names an app in part.
    #[error("the app is incomplete: {} must be set too", missing.join(" and "))]
    AppIncomplete {
        /// The names without a value.
        missing: Vec<&'static str>,
    },
    /// A setting has a value that does not fit, or lacks one.
    #[error("{origin}: {problem}")]
    Setting {
        /// Where the value stands, or would.
        origin: Origin,
        /// What is wrong; never a value, for some are secrets.
        problem: String,
    },
    /// There is no number left for another app.
    #[error("there are more than {APPS_MAX} apps")]
    TooManyApps,
    /// The file cannot be understood.
    #[error("{}, line {line}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key and what is wrong with it.
        problem: String,
    },
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no random bytes for the demo app's secret.
    #[error("/dev/urandom: {0}")]
    NoRandom(io::Error),
}

/// Lays flags over file over environment over defaults and checks the result.
pub fn load(
    flags: &Flags,
    environment: &Environment,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Config, ConfigError> {
    let file = read_config_file(flags, environment, &read_file)?;
    let sources = sources(flags, file.as_ref(), environment);
    let mut config = sources.config()?;
    if let Some(file) = &file {
        config.warnings.extend_from_slice(&file.warnings);
    } else if read_file(Path::new(LARAVEL_FILE)).is_ok() {
        config.warnings.push(LARAVEL_FILE_WARNING.to_owned());
    }
    let mut fed = match file.as_ref().and_then(|file| file.apps.as_ref()) {
        Some(tables) => config.take_apps_of_file(tables)?,
        None => config.take_app_of_environment(environment)?,
    };
    if flags.demo {
        config.add_demo_app(demo_app()?)?;
    }
    if config.apps.is_empty() {
        return Err(ConfigError::NoApp);
    }
    if fed.is_empty() {
        fed.push(Fed::nameless(DEMO_ID));
    }
    config.take_redis(redis::read(&sources, &fed)?, &read_file)?;
    Ok(config)
}

/// Loads anew while a server runs: the demo app it made stays as it is.
pub fn reload(
    running: &Config,
    flags: &Flags,
    environment: &Environment,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Config, ConfigError> {
    let mut config = load(flags, environment, read_file)?;
    if running.demo {
        let pairs = config.apps.iter_mut().zip(&running.apps);
        pairs.take(1).for_each(|(app, made)| app.clone_from(made));
    }
    Ok(config)
}

/// Finds out where the server listens, without asking for an app.
pub fn load_address(
    flags: &Flags,
    environment: &Environment,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Address, ConfigError> {
    let file = read_config_file(flags, environment, &read_file)?;
    sources(flags, file.as_ref(), environment).address()
}

fn sources<'a>(
    flags: &'a Flags,
    file: Option<&'a file::File>,
    environment: &'a Environment,
) -> Sources<'a> {
    Sources {
        flags,
        file,
        environment,
    }
}

fn read_config_file(
    flags: &Flags,
    environment: &Environment,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Option<file::File>, ConfigError> {
    let Some(path) = server::config_file(flags, environment)? else {
        return Ok(None);
    };
    match read_file(&path) {
        Ok(text) => file::parse(&path, &text).map(Some),
        Err(source) => Err(ConfigError::Unreadable { path, source }),
    }
}

impl Config {
    /// Every app of the file, their ids and keys distinct.
    fn take_apps_of_file(&mut self, tables: &[Table]) -> Result<Vec<Fed>, ConfigError> {
        let mut fed = Vec::with_capacity(tables.len());
        let mut seen = [AHashMap::new(), AHashMap::new()];
        for table in tables {
            let app = app::of_table(table)?;
            let names = [(app::ID, &app.settings.id), (app::KEY, &app.settings.key)];
            for ((setting, name), seen) in names.into_iter().zip(&mut seen) {
                if seen.insert(name.clone(), ()).is_some() {
                    let origin = table
                        .find(&setting)
                        .map_or_else(|| table.place(&setting), |found| found.origin);
                    let problem = "another app has the same one".to_owned();
                    return Err(ConfigError::Setting { origin, problem });
                }
            }
            fed.push(self.add_app(app));
        }
        if self.apps.len() > APPS_MAX {
            return Err(ConfigError::TooManyApps);
        }
        Ok(fed)
    }

    /// With `demo` an app named in part is left out with a warning, for the demo app stands in.
    fn take_app_of_environment(
        &mut self,
        environment: &Environment,
    ) -> Result<Vec<Fed>, ConfigError> {
        match app::of_environment(environment) {
            Ok(app) => Ok(app.into_iter().map(|app| self.add_app(app)).collect()),
            Err(error @ ConfigError::AppIncomplete { .. }) if self.demo => {
                self.warnings.push(error.to_string());
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    fn add_app(&mut self, app: app::Read) -> Fed {
        self.apps.push(app.settings);
        self.listings.push(app.listing);
        self.warnings.extend(app.warnings);
        app.fed
    }

    /// What is read of Redis, told with the server's settings. A file of certificates that is not
    /// there shall be known before anything is served.
    fn take_redis(
        &mut self,
        read: redis::Read,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<(), ConfigError> {
        let scaling = read.scaling.iter().map(|scaling| &scaling.server);
        let servers = scaling.chain(read.ingest.iter().map(|ingest| &ingest.server));
        for path in servers.filter_map(|server| server.tls.as_ref()?.ca.as_ref()) {
            read_file(path).map_err(|source| ConfigError::Unreadable {
                path: path.clone(),
                source,
            })?;
        }
        if let Some(server) = self.listings.first_mut() {
            server.rows.extend(read.rows);
        }
        self.scaling = read.scaling;
        self.ingest = read.ingest;
        self.warnings.extend(read.warnings);
        Ok(())
    }

    fn add_demo_app(&mut self, app: AppSettings) -> Result<(), ConfigError> {
        if self.apps.iter().any(|other| other.id == app.id) {
            return Err(ConfigError::Setting {
                origin: Origin::Flag("--demo"),
                problem: format!("an app with the id \"{DEMO_ID}\" is configured already"),
            });
        }
        self.apps.insert(0, app);
        Ok(())
    }
}

/// The host as it stands in a URL: an IPv6 address in brackets.
pub fn host_in_url(host: &str) -> Cow<'_, str> {
    if host.contains(':') {
        Cow::Owned(format!("[{host}]"))
    } else {
        Cow::Borrowed(host)
    }
}

fn demo_app() -> Result<AppSettings, ConfigError> {
    let key = random_hex().map_err(ConfigError::NoRandom)?;
    let secret = random_hex().map_err(ConfigError::NoRandom)?;
    Ok(AppSettings::new(DEMO_ID, key, secret))
}

/// 128 bits of the system's randomness in 32 hex digits.
fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(&bytes).map(char::from).collect())
}

const DEMO_ID: &str = "demo";
const LARAVEL_FILE: &str = "config/reverb.php";
const LARAVEL_FILE_WARNING: &str = "config/reverb.php is not read: if it sets origins, further \
     apps or limits, give them in a file with --config; \
     php artisan tinker --execute 'echo json_encode(config(\"reverb\"));' prints what it holds";

#[cfg(test)]
mod tests;
