//! Redis: where it is, and what for: the bus between servers, Laravel's `redis` broadcaster.
//!
//! Called by `config` when the apps are known. What is off is not looked at, for the variables of
//! Redis are Laravel's and mostly meant for others. Never opens a socket, never shows a password.

mod prefixes;
mod server;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub(super) use self::prefixes::Fed;
use super::reader::{MASK, Reader, Row, php_truth, text, truth, whole};
use super::server::{SECONDS_MAX, Sources};
use super::source::{Found, Setting, variable};
use super::{ConfigError, host_in_url};

/// Where a Redis is and how to get in.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisServer {
    /// The server itself; of a cluster any node. Of no use behind sentinels: they know.
    pub address: RedisAddress,
    /// How to speak TLS, if at all.
    pub tls: Option<RedisTls>,
    /// The ACL user; `None` is Redis's default user.
    pub username: Option<String>,
    /// The password, never shown.
    pub password: Option<String>,
    /// The database; a cluster has only 0, and channels belong to none.
    pub database: u32,
    /// What stands at the address.
    pub topology: Topology,
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer")
            .field("address", &self.address)
            .field("tls", &self.tls)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| MASK))
            .field("database", &self.database)
            .field("topology", &self.topology)
            .finish()
    }
}

/// Where it is, without what opens it.
impl fmt::Display for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tls.is_some() {
            f.write_str("tls://")?;
        }
        if let Topology::Sentinel { sentinels, service } = &self.topology {
            return write!(f, "{service} of {} sentinels", sentinels.len());
        }
        match &self.address {
            RedisAddress::Tcp { host, port } => write!(f, "{}:{port}", host_in_url(host)),
            RedisAddress::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Where a Redis listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// Over TCP.
    Tcp {
        /// Address or name, an IPv6 address without its brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// On a Unix socket.
    Unix(PathBuf),
}

/// How the certificate of a Redis is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTls {
    /// The file with the certificates to trust, in PEM; `None` = those that everybody trusts.
    pub ca: Option<PathBuf>,
    /// Whether it is looked at; if not, whoever answers is taken for Redis.
    pub verify: bool,
}

/// What a Redis is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// A master that changes, and sentinels that know which it is.
    Sentinel {
        /// Host and port of each.
        sentinels: Vec<(String, u16)>,
        /// What they call the master.
        service: String,
    },
    /// Redis Cluster.
    Cluster,
}

/// The bus by which servers hear each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaling {
    /// The Redis that carries it.
    pub server: RedisServer,
    /// The channel, as it stands.
    pub channel: String,
    /// Bytes of own messages kept for whoever missed them.
    pub replay_bytes: usize,
    /// How late Redis may be before the bus counts as lost.
    pub timeout: Duration,
    /// Where Laravel publishes to: nodes of Reverb are told, as each tells the others.
    pub public: PublicAddress,
}

/// Where Laravel publishes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicAddress {
    /// `None` = not said.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
    /// `https` is TLS, all else is not.
    pub scheme: String,
}

/// Laravel's `redis` broadcaster as a source of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// The Redis that Laravel publishes to.
    pub server: RedisServer,
    /// Every prefix once; of several apps, or of one that is spelt in two ways.
    pub sources: Vec<IngestSource>,
    /// Whether only channels are subscribed to that somebody here listens to.
    pub by_interest: bool,
    /// Bytes of one message at most.
    pub message_bytes: usize,
}

/// What a prefix of channels in Redis stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestSource {
    /// What the names begin with; may be empty.
    pub prefix: String,
    /// The app whose channels they are.
    pub app_id: String,
}

/// What the configuration says of Redis, with what is to be told of it.
pub(super) struct Read {
    pub(super) scaling: Option<Scaling>,
    pub(super) ingest: Option<Ingest>,
    pub(super) rows: Vec<Row>,
    pub(super) warnings: Vec<String>,
}

/// Reads all there is of Redis, for these apps.
pub(super) fn read(sources: &Sources<'_>, apps: &[Fed]) -> Result<Read, ConfigError> {
    let (mut bus, mut ingest) = (sources.reader(), sources.reader_of_ingest());
    let is_scaling = bus.read(SCALING, php_truth, false)?;
    let is_ingesting = ingest.read(INGEST, truth, false)?;
    let own = sources.reader_of_ingest_server().filter(|_| is_ingesting);
    let own = own.map(|reader| read_server(&mut ingest, reader, "redis_ingest.server."));
    let own = own.transpose()?;
    let common = (is_scaling || (is_ingesting && own.is_none()))
        .then(|| sources.reader_of_scaling_server())
        .map(|reader| read_server(&mut bus, reader, "scaling.server."));
    let common = common.transpose()?;
    let of_bus = common.clone().filter(|_| is_scaling);
    let of_ingest = own.or(common).filter(|_| is_ingesting);
    Ok(Read {
        scaling: of_bus
            .map(|server| read_scaling(&mut bus, server))
            .transpose()?,
        ingest: of_ingest
            .map(|server| read_ingest(&mut ingest, server, apps))
            .transpose()?,
        rows: [bus.rows, ingest.rows].concat(),
        warnings: [bus.warnings, ingest.warnings].concat(),
    })
}

fn read_server(
    into: &mut Reader<'_>,
    mut reader: Reader<'_>,
    heading: &'static str,
) -> Result<RedisServer, ConfigError> {
    let server = server::read(&mut reader, heading)?;
    into.rows.extend(reader.rows);
    into.warnings.extend(reader.warnings);
    Ok(server)
}

fn read_scaling(reader: &mut Reader<'_>, server: RedisServer) -> Result<Scaling, ConfigError> {
    Ok(Scaling {
        server,
        channel: reader.read(
            variable("REVERB_SCALING_CHANNEL").key("scaling.channel"),
            channel,
            "reverb".to_owned(),
        )?,
        replay_bytes: reader.read(
            variable("SLAPBACK_BUS_REPLAY").counts("bytes"),
            whole(1, usize::MAX),
            16 << 20,
        )?,
        timeout: Duration::from_secs(reader.read(
            variable("SLAPBACK_BUS_TIMEOUT").counts("s"),
            whole(1, SECONDS_MAX),
            2,
        )?),
        public: PublicAddress {
            host: reader.look(&variable("REVERB_HOST"), text)?.0,
            port: reader.read(variable("REVERB_PORT"), whole(0, u16::MAX), 443)?,
            scheme: reader.read(variable("REVERB_SCHEME"), text, "https".to_owned())?,
        },
    })
}

fn read_ingest(
    reader: &mut Reader<'_>,
    server: RedisServer,
    apps: &[Fed],
) -> Result<Ingest, ConfigError> {
    let subscribed_by = reader.read(variable("SLAPBACK_INGEST"), subscribed_by, BY_PREFIX)?;
    Ok(Ingest {
        server,
        sources: prefixes::read(reader, apps)?,
        by_interest: subscribed_by == BY_INTEREST,
        message_bytes: reader.read(
            variable("SLAPBACK_REDIS_MESSAGE_BYTES").counts("bytes"),
            whole(MESSAGE_BYTES_MIN, usize::MAX),
            64 << 20,
        )?,
    })
}

fn channel(found: &Found<'_>) -> Result<String, String> {
    let name = text(found)?;
    if name.is_empty() {
        Err("must be the name of a channel".to_owned())
    } else {
        Ok(name)
    }
}

fn subscribed_by(found: &Found<'_>) -> Result<&'static str, String> {
    match text(found)?.as_str() {
        BY_INTEREST => Ok(BY_INTEREST),
        BY_PREFIX => Ok(BY_PREFIX),
        _ => Err(format!("must be {BY_PREFIX} or {BY_INTEREST}")),
    }
}

/// The names of channels must fit too.
const MESSAGE_BYTES_MIN: u64 = 1024;
const SCALING: Setting = variable("REVERB_SCALING_ENABLED").key("scaling.enabled");
const INGEST: Setting = variable("SLAPBACK_REDIS_INGEST")
    .key("enabled")
    .under(INGEST_HEADING);
const INGEST_HEADING: &str = "redis_ingest.";
const BY_INTEREST: &str = "interest";
const BY_PREFIX: &str = "prefix";

#[cfg(test)]
mod tests;
