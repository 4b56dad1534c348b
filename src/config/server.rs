//! The server: what flags, file and environment say of it, the strongest first.
//!
//! Called by `config` alone.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::file::File;
use super::reader::{Listing, Reader, text, truth, whole};
use super::source::{Found, Said, Setting, Source, Table, variable};
use super::{Address, Config, ConfigError, DriverChoice, FileMode, Flags, UnixSocket};
use crate::env::Environment;

/// The sources of all settings but the apps'.
pub(super) struct Sources<'a> {
    pub(super) flags: &'a Flags,
    pub(super) file: Option<&'a File>,
    pub(super) environment: &'a Environment,
}

const CONFIG: Setting = variable("SLAPBACK_CONFIG").flag("--config");

/// The file that flags or environment name.
pub(super) fn config_file(
    flags: &Flags,
    environment: &Environment,
) -> Result<Option<PathBuf>, ConfigError> {
    let mut reader = Reader::new(vec![flags, environment]);
    let path = reader.read_optional(CONFIG, text, "none")?;
    Ok(path.map(PathBuf::from))
}

impl<'a> Sources<'a> {
    /// Of the server, and of the bus.
    pub(super) fn reader(&self) -> Reader<'a> {
        self.reader_of(|file| Some(&file.server))
    }

    /// Of the Redis that carries the bus.
    pub(super) fn reader_of_scaling_server(&self) -> Reader<'a> {
        self.reader_of(|file| file.scaling_server.as_ref())
    }

    /// Of Laravel's broadcasts through Redis.
    pub(super) fn reader_of_ingest(&self) -> Reader<'a> {
        self.reader_of(|file| file.ingest.as_ref())
    }

    /// Of the Redis that these come from, if it has a table of its own. The environment is left
    /// out: a password for one Redis is not shown to another.
    pub(super) fn reader_of_ingest_server(&self) -> Option<Reader<'a>> {
        let table = self.file?.ingest_server.as_ref()?;
        (!table.entries.is_empty()).then(|| Reader::new(vec![table]))
    }

    fn reader_of(&self, table: impl Fn(&'a File) -> Option<&'a Table>) -> Reader<'a> {
        let table = self.file.and_then(table);
        let sources = [
            Some(self.flags as &dyn Source),
            table.map(|table| table as &dyn Source),
            Some(self.environment),
        ];
        Reader::new(sources.into_iter().flatten().collect())
    }

    /// Where the server listens.
    pub(super) fn address(&self) -> Result<Address, ConfigError> {
        read_address(&mut self.reader(), self.flags.demo)
    }

    /// Everything but the apps and Redis.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        if let Some(file) = self.file {
            refuse_tls(&file.server)?;
        }
        let mut reader = self.reader();
        reader.read_optional(CONFIG, text, "none")?;
        let name = reader.read(variable("REVERB_SERVER"), text, "reverb".to_owned())?;
        if name != "reverb" {
            let warning = format!("REVERB_SERVER={name} is ignored: there is only `reverb`");
            reader.warnings.push(warning);
        }
        let Address {
            host, port, path, ..
        } = read_address(&mut reader, self.flags.demo)?;
        let hostname = variable("REVERB_HOST").key("hostname").flag("--hostname");
        let hostname = reader.read_optional(hostname, text, "none")?;
        let request_size = variable("REVERB_MAX_REQUEST_SIZE")
            .key("max_request_size")
            .counts("bytes");
        let max_request_size = reader.read(request_size, whole(1, usize::MAX), 10_000)?;
        let config = Config {
            host,
            port,
            path,
            hostname: hostname.filter(|name| !name.is_empty()),
            max_request_size,
            demo: self.flags.demo,
            debug: self.flags.debug,
            ..read_tuning(&mut reader)?
        };
        if config.reuse_port {
            reader.warnings.push(REUSE_PORT_WARNING.to_owned());
        }
        let Reader { rows, warnings, .. } = reader;
        let title = "server".to_owned();
        Ok(Config {
            listings: vec![Listing { title, rows }],
            warnings,
            ..config
        })
    }
}

fn read_address(reader: &mut Reader<'_>, is_demo: bool) -> Result<Address, ConfigError> {
    let default = if is_demo { "127.0.0.1" } else { "0.0.0.0" };
    let host = variable("REVERB_SERVER_HOST").key("host").flag("--host");
    let host = reader.read(host, host_name, default.to_owned())?;
    let port_setting = variable("REVERB_SERVER_PORT").key("port").flag("--port");
    let port = reader.read(port_setting, whole(0, u16::MAX), 8080)?;
    let path = variable("REVERB_SERVER_PATH").key("path").flag("--path");
    let path = reader.read(path, route_prefix, String::new())?;
    Ok(Address {
        host,
        port,
        path,
        is_port_said: reader
            .find(&port_setting)
            .is_some_and(|found| !found.is_nothing()),
    })
}

/// What only the environment can say: a [`Config`] in which only this is filled in.
fn read_tuning(reader: &mut Reader<'_>) -> Result<Config, ConfigError> {
    let bytes = || whole(1, usize::MAX);
    let seconds = |min| whole(min, SECONDS_MAX);
    Ok(Config {
        driver: reader.read(variable("SLAPBACK_DRIVER"), driver, DriverChoice::Auto)?,
        shards: reader.read_optional(
            variable("SLAPBACK_SHARDS"),
            whole(1, SHARDS_MAX),
            "one per CPU",
        )?,
        pin: reader.read_optional(variable("SLAPBACK_PIN"), truth, "automatic")?,
        reuse_port: reader.read(variable("SLAPBACK_REUSE_PORT"), truth, false)?,
        unix_socket: read_unix_socket(reader)?,
        accept_rate: reader
            .read_optional(
                variable("SLAPBACK_ACCEPT_RATE").counts("per s"),
                whole(0, ACCEPT_RATE_MAX),
                "unlimited",
            )?
            .and_then(NonZeroU32::new),
        backlog_bytes: reader.read(
            variable("SLAPBACK_BACKLOG_BYTES").counts("bytes"),
            bytes(),
            1 << 20,
        )?,
        backlog_seconds: reader.read(
            variable("SLAPBACK_BACKLOG_SECONDS").counts("s"),
            seconds(1),
            10,
        )?,
        backlog_total: reader.read(
            variable("SLAPBACK_BACKLOG_TOTAL").counts("bytes"),
            bytes(),
            256 << 20,
        )?,
        ring_bytes: reader.read(
            variable("SLAPBACK_RING_BYTES").counts("bytes"),
            bytes(),
            64 << 20,
        )?,
        cache_channels: reader.read(
            variable("SLAPBACK_CACHE_CHANNELS"),
            whole(1, usize::MAX),
            10_000,
        )?,
        cache_bytes: reader.read(
            variable("SLAPBACK_CACHE_BYTES").counts("bytes"),
            bytes(),
            64 << 20,
        )?,
        drain_delay_s: reader.read(variable("SLAPBACK_DRAIN_DELAY").counts("s"), seconds(0), 0)?,
        drain_seconds: reader.read(
            variable("SLAPBACK_DRAIN_SECONDS").counts("s"),
            seconds(0),
            5,
        )?,
        auth_timestamp_tolerance_s: reader.read(
            variable("SLAPBACK_AUTH_TIMESTAMP_TOLERANCE").counts("s"),
            seconds(0),
            600,
        )?,
        ..Config::default()
    })
}

fn read_unix_socket(reader: &mut Reader<'_>) -> Result<Option<UnixSocket>, ConfigError> {
    let path = reader.read_optional(variable("SLAPBACK_UNIX_SOCKET"), socket_path, "none")?;
    let mode = variable("SLAPBACK_UNIX_SOCKET_MODE");
    let mode = reader.read(mode, file_mode, SOCKET_MODE)?;
    Ok(path.map(|path| UnixSocket {
        path: PathBuf::from(path),
        mode,
    }))
}

/// A certificate makes Reverb serve TLS; whoever set one must not be served without.
fn refuse_tls(table: &Table) -> Result<(), ConfigError> {
    for key in ["options.tls.local_cert", "options.tls.local_pk"] {
        if let Some(found) = table.find(&variable("").key(key))
            && !matches!(found.said, Said::Empty | Said::Truth(false))
        {
            return Err(ConfigError::Setting {
                origin: found.origin,
                problem: TLS_PROBLEM.to_owned(),
            });
        }
    }
    Ok(())
}

fn driver(found: &Found<'_>) -> Result<DriverChoice, String> {
    match text(found)?.as_str() {
        "auto" => Ok(DriverChoice::Auto),
        "uring" => Ok(DriverChoice::Uring),
        "epoll" => Ok(DriverChoice::Epoll),
        _ => Err("must be auto, uring or epoll".to_owned()),
    }
}

impl fmt::Display for DriverChoice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        })
    }
}

/// An IPv6 address may come with brackets, as in a URL.
fn host_name(found: &Found<'_>) -> Result<String, String> {
    let host = text(found)?;
    let inside = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match inside.unwrap_or(&host) {
        "" => Err("must be an address or a name".to_owned()),
        host => Ok(host.to_owned()),
    }
}

/// `ws`, `/ws` and `/ws/` are one prefix.
fn route_prefix(found: &Found<'_>) -> Result<String, String> {
    let path = text(found)?;
    let path = path.trim_matches('/');
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    match path {
        "" => Ok(String::new()),
        _ if path.bytes().all(plain) => Ok(format!("/{path}")),
        _ => Err("must be a plain path such as `ws`, without spaces, `?` or `#`".to_owned()),
    }
}

/// A path that means the same to the proxy, whatever folder either was started in.
fn socket_path(found: &Found<'_>) -> Result<String, String> {
    let path = text(found)?;
    if !path.starts_with('/') {
        return Err("must be a whole path, such as /run/slapback/socket".to_owned());
    }
    if path.len() > SOCKET_PATH_MAX {
        return Err(format!("must be at most {SOCKET_PATH_MAX} bytes long"));
    }
    Ok(path)
}

fn file_mode(found: &Found<'_>) -> Result<FileMode, String> {
    let digits = text(found)?;
    u32::from_str_radix(&digits, 8)
        .ok()
        .filter(|&mode| mode <= 0o777 && !digits.starts_with('+'))
        .map(FileMode)
        .ok_or_else(|| "must be permissions in octal, such as 0660".to_owned())
}

impl fmt::Display for FileMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:04o}", self.0)
    }
}

/// What the kernel has room for.
const SOCKET_PATH_MAX: usize = 107;
/// Whoever may connect may say that he is any browser, but so may whoever reaches the port. Owner
/// and group are enough where the proxy's user is in our group, or the folder is of its group.
const SOCKET_MODE: FileMode = FileMode(0o660);
const SHARDS_MAX: usize = 256;
const ACCEPT_RATE_MAX: u32 = 1_000_000;
pub(super) const SECONDS_MAX: u64 = 86_400;
const REUSE_PORT_WARNING: &str =
    "SLAPBACK_REUSE_PORT: without scaling, servers on one port do not hear each other";
const TLS_PROBLEM: &str = "TLS is not served in this process yet: terminate it at the proxy in \
     front, and set this key to null or remove it";
