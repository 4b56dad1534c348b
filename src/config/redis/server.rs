//! Where a Redis is: a URL, the parts of an address, or both, as Laravel's configuration has them.
//!
//! Called by `config::redis`, once for each Redis. Never asks whether anybody is there.

use std::fmt;
use std::path::PathBuf;

use super::url::{self, Url};
use super::{RedisAddress, RedisServer, RedisTls, Topology};
use crate::config::reader::{MASK, NONE, Names, Reader, name, names, text, truth, whole};
use crate::config::source::{Found, Origin, Said, Setting, variable};
use crate::config::{ConfigError, host_in_url};

/// Reads one Redis; reports call its settings by their keys under `heading`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    heading: &'static str,
) -> Result<RedisServer, ConfigError> {
    let mut parts = Parts::begin(reader, heading)?;
    let (address, scheme) = match parts.host()? {
        Host::Path(path) => (RedisAddress::Unix(path), Scheme::Tcp),
        Host::Name(host, scheme) => {
            let port = parts.port()?;
            (RedisAddress::Tcp { host, port }, parts.scheme(scheme)?)
        }
    };
    Ok(RedisServer {
        username: parts.username()?,
        password: parts.password()?,
        database: parts.database()?,
        tls: parts.tls(scheme)?,
        topology: parts.topology(&address)?,
        address,
    })
}

/// Reads the parts of an address, of which those in the URL count more.
struct Parts<'r, 'a> {
    reader: &'r mut Reader<'a>,
    heading: &'static str,
    url: Url,
    url_origin: Origin,
}

impl<'r, 'a> Parts<'r, 'a> {
    /// Reads the URL, unless a host is said where more counts than where the URL is said.
    fn begin(reader: &'r mut Reader<'a>, heading: &'static str) -> Result<Self, ConfigError> {
        let (setting, host) = (URL.under(heading), HOST.under(heading));
        let (url, url_origin) = match reader.overruled(&setting, &host) {
            None => reader.look(&setting, url::url)?,
            Some(warning) => {
                reader.warnings.push(warning);
                (None, Origin::Default)
            }
        };
        let shown = url.as_ref().map(ToString::to_string);
        let origin = url_origin.clone();
        reader.note(&setting, shown.unwrap_or_default(), "", origin);
        Ok(Self {
            reader,
            heading,
            url: url.unwrap_or_default(),
            url_origin,
        })
    }

    fn by_url<T>(&self, part: Option<T>) -> Option<(T, Origin)> {
        part.map(|part| (part, self.url_origin.clone()))
    }

    /// Takes the part that is given, or reads it.
    fn part<T>(
        &mut self,
        setting: Setting,
        given: Option<(T, Origin)>,
        form: impl Fn(&Found<'_>) -> Result<T, String>,
        show: impl Fn(Option<&T>) -> String,
    ) -> Result<Option<T>, ConfigError> {
        let setting = setting.under(self.heading);
        let (value, origin) = match given {
            Some((value, origin)) => (Some(value), origin),
            None => self.reader.look(&setting, form)?,
        };
        let shown = show(value.as_ref());
        self.reader.note(&setting, shown, "", origin);
        Ok(value)
    }

    fn host(&mut self) -> Result<Host, ConfigError> {
        let host = self.url.host.take();
        let given = self.by_url(host);
        let host = self.part(HOST, given, Host::of, or(HOST_DEFAULT))?;
        Ok(host.unwrap_or_else(|| Host::Name(HOST_DEFAULT.to_owned(), None)))
    }

    fn port(&mut self) -> Result<u16, ConfigError> {
        let given = self.by_url(self.url.port);
        let setting = variable("REDIS_PORT").key("port");
        let port = self.part(setting, given, whole(1, u16::MAX), or("6379"))?;
        Ok(port.unwrap_or(6379))
    }

    /// Reads whether TLS is spoken, which may also stand before the host.
    fn scheme(&mut self, of_host: Option<Scheme>) -> Result<Scheme, ConfigError> {
        let host = self.reader.find(&HOST);
        let of_host = of_host.zip(host.map(|host| host.origin));
        let given = self.by_url(self.url.scheme).or(of_host);
        let setting = variable("REDIS_SCHEME").key("scheme");
        let scheme = self.part(setting, given, Scheme::of, or("tcp"))?;
        Ok(scheme.unwrap_or(Scheme::Tcp))
    }

    fn username(&mut self) -> Result<Option<String>, ConfigError> {
        let username = self.url.username.take();
        let given = self.by_url(username);
        let setting = variable("REDIS_USERNAME").key("username");
        let username = self.part(setting, given, name, or(NONE))?;
        Ok(username.filter(|username| !username.is_empty()))
    }

    fn password(&mut self) -> Result<Option<String>, ConfigError> {
        let password = self.url.password.take();
        let given = self.by_url(password);
        let setting = variable("REDIS_PASSWORD").key("password");
        let show = |password: Option<&String>| match password {
            Some(password) if !password.is_empty() => MASK.to_owned(),
            _ => NONE.to_owned(),
        };
        let password = self.part(setting, given, name, show)?;
        Ok(password.filter(|password| !password.is_empty()))
    }

    fn database(&mut self) -> Result<u32, ConfigError> {
        let given = self.by_url(self.url.database);
        let setting = variable("REDIS_DB").key("database");
        let database = self.part(setting, given, whole(0, u32::MAX), or("0"))?;
        Ok(database.unwrap_or(0))
    }

    fn tls(&mut self, scheme: Scheme) -> Result<Option<RedisTls>, ConfigError> {
        let ca = variable("SLAPBACK_REDIS_CA").key("ca").under(self.heading);
        let path = self.reader.read_optional(ca, text, NONE)?;
        let verify = variable("SLAPBACK_REDIS_TLS_VERIFY").key("tls_verify");
        let tls = RedisTls {
            ca: path.filter(|path| !path.is_empty()).map(PathBuf::from),
            verify: self.reader.read(verify.under(self.heading), truth, true)?,
        };
        if scheme == Scheme::Tls {
            return Ok(Some(tls));
        }
        if let Some(found) = self.reader.find(&ca).filter(|_| tls.ca.is_some()) {
            let warning = format!("{} is ignored: Redis is not reached by TLS", found.origin);
            self.reader.warnings.push(warning);
        }
        Ok(None)
    }

    fn topology(&mut self, address: &RedisAddress) -> Result<Topology, ConfigError> {
        let setting = variable("REDIS_SENTINELS").key("sentinels");
        let setting = setting.under(self.heading);
        let sentinels = self.reader.read_optional(setting, Sentinels::of, NONE)?;
        let setting = variable("REDIS_SENTINEL_SERVICE").key("sentinel_service");
        let setting = setting.under(self.heading);
        let service = self.reader.read(setting, name, "mymaster".to_owned())?;
        let setting = variable("REDIS_CLUSTER").key("cluster").under(self.heading);
        let is_cluster = self.reader.read(setting, is_cluster, false)?;
        let sentinels = sentinels.filter(|sentinels| !sentinels.0.is_empty());
        let problem = match (sentinels, address) {
            (Some(Sentinels(sentinels)), _) if !is_cluster => {
                return Ok(Topology::Sentinel { sentinels, service });
            }
            (Some(_), _) => "a cluster has no sentinels: one of the two must go",
            (None, RedisAddress::Unix(_)) if is_cluster => "a cluster is reached by host and port",
            (None, _) if is_cluster => return Ok(Topology::Cluster),
            (None, _) => return Ok(Topology::Single),
        };
        let found = self.reader.find(&setting);
        Err(ConfigError::Setting {
            origin: found.map_or(Origin::Default, |found| found.origin),
            problem: problem.to_owned(),
        })
    }
}

/// Shows a value, or what counts without one.
fn or<T: fmt::Display>(unset: &'static str) -> impl Fn(Option<&T>) -> String {
    move |value| value.map_or_else(|| unset.to_owned(), ToString::to_string)
}

/// What may stand for the host.
pub(super) enum Host {
    /// An address or name, and how it is spoken to if that stands before it.
    Name(String, Option<Scheme>),
    /// The path of a Unix socket.
    Path(PathBuf),
}

impl Host {
    fn of(found: &Found<'_>) -> Result<Self, String> {
        let wrong = || "must be an address or a name, or the path of a socket".to_owned();
        Self::parse(&text(found)?).ok_or_else(wrong)
    }

    /// Reads `host`, `tls://host`, `/path` or `unix:///path`, as PHP's clients of Redis do.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') {
            return Some(Self::Path(PathBuf::from(path)));
        }
        match text.split_once("://") {
            Some((scheme, host)) => {
                Some(Self::Name(host_name(host)?, Some(Scheme::parse(scheme)?)))
            }
            None => Some(Self::Name(host_name(text)?, None)),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, _) => out.write_str(name),
            Self::Path(path) => write!(out, "{}", path.display()),
        }
    }
}

/// An IPv6 address may come with brackets; a single colon would be that of a port.
fn host_name(text: &str) -> Option<String> {
    let inside = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let name = inside.unwrap_or(text);
    let is_plain = |letter: char| !letter.is_whitespace() && !"/@?#[]".contains(letter);
    let is_name = name.matches(':').count() != 1 && name.chars().all(is_plain);
    (is_name && !name.is_empty()).then(|| name.to_owned())
}

/// How a host is spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Tcp,
    Tls,
}

impl Scheme {
    fn of(found: &Found<'_>) -> Result<Self, String> {
        Self::parse(&text(found)?).ok_or_else(|| "must be tcp or tls".to_owned())
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" | "redis" => Some(Self::Tcp),
            "tls" | "rediss" => Some(Self::Tls),
            _ => None,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        })
    }
}

/// Host and port of each sentinel.
struct Sentinels(Vec<(String, u16)>);

impl Sentinels {
    fn of(found: &Found<'_>) -> Result<Self, String> {
        let wrong =
            || "must be a list of hosts with their ports, such as 10.0.0.1:26379".to_owned();
        let Names(names) = names(found).map_err(|_| wrong())?;
        let sentinels = names.iter().map(|name| host_and_port(name));
        sentinels.collect::<Option<_>>().map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentinel = |(host, port): &(String, u16)| format!("{}:{port}", host_in_url(host));
        let sentinels: Vec<_> = self.0.iter().map(sentinel).collect();
        Names(sentinels).fmt(out)
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let is_ipv6_alone = text.ends_with(']') || text.matches(':').count() > 1;
    match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !is_ipv6_alone => {
            let port = port.parse().ok().filter(|&port| port > 0)?;
            Some((host_name(host)?, port))
        }
        _ => Some((host_name(text)?, SENTINEL_PORT)),
    }
}

/// To Laravel the variable names who looks after a cluster, and is set without there being one.
fn is_cluster(found: &Found<'_>) -> Result<bool, String> {
    match &found.said {
        Said::Text(word) if matches!(&**word, "redis" | "predis") => Ok(false),
        _ => truth(found),
    }
}

const URL: Setting = variable("REDIS_URL").key("url");
const HOST: Setting = variable("REDIS_HOST").key("host");
const HOST_DEFAULT: &str = "127.0.0.1";
const SENTINEL_PORT: u16 = 26379;
