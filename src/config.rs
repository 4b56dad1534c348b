//! Flags, file, environment and defaults laid over one another: one checked [`Config`].
//!
//! Called by `main` before any thread or socket exists; what is wrong is said here, by name and
//! line, and nowhere later. Never opens a socket.

mod environment;
mod file;
mod flags;
mod report;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::app::{AppSettings, ClientEvents};
use crate::env::Environment;
use crate::hex;

pub use self::flags::Flags;

/// Everything the operator decided, checked.
#[derive(Debug, Clone)]
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
    /// What the operator should know and the start log shall say.
    pub warnings: Vec<String>,
}

/// Which driver the operator asks for (`SLAPBACK_DRIVER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverChoice {
    /// `io_uring` if this kernel does what we need, else epoll.
    Auto,
    /// `io_uring` or no start.
    Uring,
    /// epoll, as on hosts that forbid `io_uring`.
    Epoll,
}

/// Where a running server is reached, as `slapback health` needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As [`Config::host`].
    pub host: String,
    /// As [`Config::port`].
    pub port: u16,
    /// As [`Config::path`].
    pub path: String,
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
    /// A flag or a variable has a value that does not fit.
    #[error("{name}: {problem}")]
    Setting {
        /// The flag or the variable.
        name: &'static str,
        /// What is wrong; never the value of a secret.
        problem: String,
    },
    /// The file has something that does not fit.
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
    let layers = Layers::read(flags, environment, &read_file)?;
    let address = layers.address(flags)?;
    let Layers {
        file,
        environment: fallback,
    } = layers;
    let mut warnings = file.warnings;
    if file.path_of_file.is_none() && read_file(Path::new(LARAVEL_FILE)).is_ok() {
        warnings.push(LARAVEL_FILE_WARNING.to_owned());
    }
    let mut apps = match file.apps {
        Some(apps) => apps,
        None => environment::app(environment, flags.demo, &mut warnings)?
            .into_iter()
            .collect(),
    };
    if flags.demo {
        apps.insert(0, demo_app()?);
    }
    refuse_clash_with_demo(&apps)?;
    let tuning = environment::tuning(environment)?;
    warnings.extend(fallback.warnings);
    if file.scaling.or(fallback.scaling).unwrap_or(false) {
        warnings.push(SCALING_WARNING.to_owned());
    }
    if tuning.reuse_port {
        warnings.push(REUSE_PORT_WARNING.to_owned());
    }
    Ok(Config {
        host: address.host,
        port: address.port,
        path: address.path,
        hostname: present(flags.hostname.as_ref())
            .or(file.hostname)
            .or(fallback.hostname),
        max_request_size: file
            .max_request_size
            .or(fallback.max_request_size)
            .unwrap_or(MAX_REQUEST_SIZE),
        apps,
        demo: flags.demo,
        debug: flags.debug,
        warnings,
        ..tuning
    })
}

/// Finds out where the server listens, without asking for an app.
pub fn load_address(
    flags: &Flags,
    environment: &Environment,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Address, ConfigError> {
    Layers::read(flags, environment, &read_file)?.address(flags)
}

/// What one source says of the server; `None` = nothing.
#[derive(Debug, Default)]
struct Layer {
    path_of_file: Option<PathBuf>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<String>,
    hostname: Option<String>,
    max_request_size: Option<usize>,
    scaling: Option<bool>,
    apps: Option<Vec<AppSettings>>,
    warnings: Vec<String>,
}

struct Layers {
    file: Layer,
    environment: Layer,
}

impl Layers {
    fn read(
        flags: &Flags,
        environment: &Environment,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let path = match &flags.config {
            Some(path) => Some(path.clone()),
            None => environment::text(environment, "SLAPBACK_CONFIG").map(PathBuf::from),
        };
        let file = match path {
            Some(path) => match read_file(&path) {
                Ok(text) => file::parse(&path, &text)?,
                Err(source) => return Err(ConfigError::Unreadable { path, source }),
            },
            None => Layer::default(),
        };
        Ok(Self {
            file,
            environment: environment::server(environment)?,
        })
    }

    fn address(&self, flags: &Flags) -> Result<Address, ConfigError> {
        let Self { file, environment } = self;
        let first = |flag: &Option<String>, file: &Option<String>, variable: &Option<String>| {
            present(flag.as_ref())
                .or_else(|| file.clone())
                .or_else(|| variable.clone())
        };
        let host = first(&flags.host, &file.host, &environment.host);
        let path = first(&flags.path, &file.path, &environment.path).unwrap_or_default();
        let default_host = if flags.demo { DEMO_HOST } else { HOST };
        Ok(Address {
            host: bare_host(host.as_deref().unwrap_or(default_host)),
            port: flags
                .port
                .or(file.port)
                .or(environment.port)
                .unwrap_or(PORT),
            path: route_prefix(&path).ok_or_else(|| ConfigError::Setting {
                name: "path",
                problem: "must be a plain path such as `ws`, without spaces, `?` or `#`".to_owned(),
            })?,
        })
    }
}

/// A flag given as an empty word counts as not given.
fn present(flag: Option<&String>) -> Option<String> {
    flag.filter(|text| !text.is_empty()).cloned()
}

/// The host as it stands in a URL: an IPv6 address in brackets.
pub fn host_in_url(host: &str) -> Cow<'_, str> {
    if host.contains(':') {
        Cow::Owned(format!("[{host}]"))
    } else {
        Cow::Borrowed(host)
    }
}

fn bare_host(host: &str) -> String {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
        .to_owned()
}

/// `ws`, `/ws` and `/ws/` are one prefix.
fn route_prefix(path: &str) -> Option<String> {
    let path = path.trim_matches('/');
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    match path {
        "" => Some(String::new()),
        _ if path.bytes().all(plain) => Some(format!("/{path}")),
        _ => None,
    }
}

/// Reads a number written in digits, between two bounds.
fn number(text: &str, min: u64, max: u64) -> Result<u64, String> {
    match text.trim().parse::<u64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ if max >= LARGEST => Err(format!("must be a whole number, at least {min}")),
        _ => Err(format!("must be a whole number from {min} to {max}")),
    }
}

/// Reads a truth in the words people use for it.
fn truth(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn client_events(text: &str) -> ClientEvents {
    match text {
        "all" => ClientEvents::All,
        "members" => ClientEvents::Members,
        _ => ClientEvents::None,
    }
}

/// The reason why an activity timeout of 0 is refused, also by `check`.
fn activity_timeout(seconds: u64) -> Result<u32, String> {
    match u32::try_from(seconds) {
        Ok(0) => Err("must not be 0: pusher-js throws at it and never connects".to_owned()),
        Ok(seconds) => Ok(seconds),
        Err(_) => Err("is too long".to_owned()),
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

/// A file refuses its own duplicates, with their lines; only the demo app can still clash.
fn refuse_clash_with_demo(apps: &[AppSettings]) -> Result<(), ConfigError> {
    let Some((first, others)) = apps.split_first() else {
        return Err(ConfigError::NoApp);
    };
    if others.iter().any(|app| app.id == first.id) {
        return Err(ConfigError::Setting {
            name: "--demo",
            problem: format!("an app with the id \"{DEMO_ID}\" is configured already"),
        });
    }
    Ok(())
}

const HOST: &str = "0.0.0.0";
const DEMO_HOST: &str = "127.0.0.1";
const DEMO_ID: &str = "demo";
const PORT: u16 = 8080;
const MAX_REQUEST_SIZE: usize = 10_000;
const SCALING_WARNING: &str = "scaling (REVERB_SCALING_ENABLED, server.scaling) is not served yet: \
     this node hears no other node";
const REUSE_PORT_WARNING: &str =
    "SLAPBACK_REUSE_PORT: without scaling, servers on one port do not hear each other";
const LARAVEL_FILE: &str = "config/reverb.php";
const LARAVEL_FILE_WARNING: &str = "config/reverb.php is not read: if it sets origins, further \
     apps or limits, give them in a file with --config; \
     php artisan tinker --execute 'echo json_encode(config(\"reverb\"));' prints what it holds";
/// Bounds from here on are not worth telling.
const LARGEST: u64 = 1 << 31;

#[cfg(test)]
mod tests;
