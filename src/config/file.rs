//! The configuration file in its short spelling: `[server]`, `[[apps]]`, as TOML.
//!
//! Called by `config` alone. Every complaint names the key and its line; a key that nobody knows
//! is one, for a limit that is misspelt would silently be no limit. Never shows a value.

use std::path::Path;

use ahash::AHashMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Layer, activity_timeout, client_events, number, truth};
use crate::app::{AppSettings, RateLimit};

/// Reads the whole file or says what is wrong first.
pub(super) fn parse(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    read(text)
        .map(|layer| Layer {
            path_of_file: Some(path.to_owned()),
            ..layer
        })
        .map_err(|Complaint { position, problem }| {
            let before = text.as_bytes().get(..position).unwrap_or(text.as_bytes());
            let line = 1 + memchr::memchr_iter(b'\n', before).count();
            ConfigError::File {
                path: path.to_owned(),
                line,
                problem,
            }
        })
}

/// What is wrong and at which byte.
struct Complaint {
    position: usize,
    problem: String,
}

fn read(text: &str) -> Result<Layer, Complaint> {
    if text.trim_start().starts_with('{') {
        let problem = "JSON is not read yet: write the file as TOML".to_owned();
        return Err(Complaint {
            position: 0,
            problem,
        });
    }
    let document = DeTable::parse(text).map_err(|error| Complaint {
        position: error.span().map_or(0, |span| span.start),
        problem: error.message().to_owned(),
    })?;
    let top = Section {
        name: "",
        position: 0,
        table: Some(document.get_ref()),
    };
    top.allow(&["server", "apps", "redis_ingest"])?;
    let mut layer = Layer::default();
    if let Some(server) = top.section("server", "server")? {
        read_server(&server, &mut layer)?;
    }
    if top.entry("redis_ingest").is_some() {
        layer
            .warnings
            .push("[redis_ingest] is not served yet and is ignored".to_owned());
    }
    layer.apps = top.entry("apps").map(read_apps).transpose()?;
    Ok(layer)
}

fn read_server(server: &Section<'_>, layer: &mut Layer) -> Result<(), Complaint> {
    server.allow(&[
        "host",
        "port",
        "path",
        "hostname",
        "max_request_size",
        "scaling",
        "options",
        "pulse_ingest_interval",
        "telescope_ingest_interval",
    ])?;
    layer.host = server.text("host")?.filter(|host| !host.is_empty());
    layer.port = server.whole("port", 0, u16::MAX)?;
    layer.path = server.text("path")?;
    layer.hostname = server.text("hostname")?.filter(|name| !name.is_empty());
    layer.max_request_size = server.whole("max_request_size", 1, usize::MAX)?;
    if let Some(scaling) = server.section("scaling", "server.scaling")? {
        scaling.allow(&["enabled", "channel", "server"])?;
        layer.scaling = scaling.truth("enabled")?;
    }
    let Some(options) = server.section("options", "server.options")? else {
        return Ok(());
    };
    let Some(tls) = options.section("tls", "server.options.tls")? else {
        return Ok(());
    };
    for key in ["local_cert", "local_pk"] {
        if tls.text(key)?.is_some_and(|file| !file.is_empty()) {
            let problem = "TLS is not served: leave it to the proxy in front and remove this key";
            return Err(tls.complaint(key, problem));
        }
    }
    Ok(())
}

fn read_apps(value: &Spanned<DeValue<'_>>) -> Result<Vec<AppSettings>, Complaint> {
    let wrong = |position, problem: &str| Complaint {
        position,
        problem: problem.to_owned(),
    };
    let list = value.get_ref().as_array().ok_or_else(|| {
        wrong(
            value.span().start,
            "apps: must be a list of tables, written [[apps]]",
        )
    })?;
    if list.len() > APPS_MAX {
        return Err(wrong(value.span().start, "apps: there are more than 65535"));
    }
    let mut apps: Vec<AppSettings> = Vec::with_capacity(list.len());
    let mut ids = AHashMap::new();
    let mut keys = AHashMap::new();
    for item in list {
        let position = item.span().start;
        let table = item.get_ref().as_table();
        let table = table.ok_or_else(|| wrong(position, "apps: each must be a table"))?;
        let section = Section {
            name: "apps",
            position,
            table: Some(table),
        };
        let app = read_app(&section)?;
        if ids.insert(app.id.clone(), ()).is_some() {
            return Err(section.complaint("app_id", "another app has the same one"));
        }
        if keys.insert(app.key.clone(), ()).is_some() {
            return Err(section.complaint("key", "another app has the same one"));
        }
        apps.push(app);
    }
    Ok(apps)
}

fn read_app(section: &Section<'_>) -> Result<AppSettings, Complaint> {
    section.allow(&[
        "app_id",
        "key",
        "secret",
        "allowed_origins",
        "ping_interval",
        "activity_timeout",
        "max_connections",
        "max_message_size",
        "accept_client_events_from",
        "redis_prefix",
        "rate_limiting",
        "options",
    ])?;
    let id = section.required("app_id")?;
    let mut app = AppSettings::new(id, section.required("key")?, section.required("secret")?);
    if let Some(origins) = section.list("allowed_origins")? {
        app.allowed_origins = origins;
    }
    if let Some(seconds) = section.whole("ping_interval", 1, u32::MAX)? {
        app.ping_interval_s = seconds;
    }
    if let Some(seconds) = section.whole("activity_timeout", 0, u64::MAX)? {
        app.activity_timeout_s = activity_timeout(seconds)
            .map_err(|problem| section.complaint("activity_timeout", &problem))?;
    }
    app.max_connections = section.whole("max_connections", 0, u32::MAX)?;
    if let Some(bytes) = section.whole("max_message_size", 0, u64::MAX)? {
        app.max_message_size = bytes;
    }
    if let Some(who) = section.text("accept_client_events_from")? {
        app.client_events = client_events(&who);
    }
    if let Some(limit) = section.section("rate_limiting", "apps.rate_limiting")? {
        app.rate_limit = read_rate_limit(&limit)?;
    }
    Ok(app)
}

fn read_rate_limit(limit: &Section<'_>) -> Result<Option<RateLimit>, Complaint> {
    limit.allow(&[
        "enabled",
        "max_attempts",
        "decay_seconds",
        "terminate_on_limit",
    ])?;
    let settings = RateLimit {
        max_attempts: limit.whole("max_attempts", 0, u32::MAX)?.unwrap_or(60),
        decay_s: limit.whole("decay_seconds", 1, u32::MAX)?.unwrap_or(60),
        terminate: limit.truth("terminate_on_limit")?.unwrap_or(false),
    };
    Ok(limit.truth("enabled")?.unwrap_or(false).then_some(settings))
}

/// One table of the file with its full name, such as `apps.rate_limiting`.
struct Section<'a> {
    name: &'a str,
    position: usize,
    /// None for `[]`, by which PHP writes an empty object.
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Section<'a> {
    fn entry(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn complaint(&self, key: &str, problem: &str) -> Complaint {
        let position = self
            .entry(key)
            .map_or(self.position, |value| value.span().start);
        Complaint {
            position,
            problem: format!("{}: {problem}", self.full(key)),
        }
    }

    /// Refuses every key that is not in the list and names the one that was probably meant.
    fn allow(&self, known: &[&str]) -> Result<(), Complaint> {
        for (key, _) in self.table.into_iter().flat_map(|table| table.iter()) {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let near = known.iter().min_by_key(|known| distance(name, known));
            let hint = match near.filter(|near| distance(name, near) <= near.len() / 2) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => format!("; known here: {}", known.join(", ")),
            };
            let problem = format!("{}: there is no such key{hint}", self.full(name));
            return Err(Complaint {
                position: key.span().start,
                problem,
            });
        }
        Ok(())
    }

    fn text(&self, key: &str) -> Result<Option<String>, Complaint> {
        let Some(value) = self.entry(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some(text.as_ref().to_owned())),
            _ => Err(self.complaint(key, "must be a text in quotes")),
        }
    }

    /// A text that must be there and must not be empty; an app id may be a bare number.
    fn required(&self, key: &str) -> Result<String, Complaint> {
        let found = match self.entry(key).map(Spanned::get_ref) {
            Some(DeValue::Integer(number)) if number.radix() == 10 => {
                Some(number.as_str().to_owned())
            }
            _ => self.text(key)?,
        };
        let found = found.filter(|text| !text.is_empty());
        found.ok_or_else(|| self.complaint(key, "is missing or empty"))
    }

    fn whole<T>(&self, key: &str, min: u64, max: T) -> Result<Option<T>, Complaint>
    where
        T: TryFrom<u64> + TryInto<u64>,
    {
        let max = max.try_into().unwrap_or(u64::MAX);
        let Some(value) = self.entry(key) else {
            return Ok(None);
        };
        let digits: &str = match value.get_ref() {
            DeValue::String(text) => text,
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => return Err(self.complaint(key, "must be a whole number")),
        };
        let number = number(digits, min, max).map_err(|problem| self.complaint(key, &problem))?;
        T::try_from(number)
            .map(Some)
            .map_err(|_| self.complaint(key, "is too large"))
    }

    fn truth(&self, key: &str) -> Result<Option<bool>, Complaint> {
        let Some(value) = self.entry(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Boolean(value) => Ok(Some(*value)),
            DeValue::String(text) => truth(text)
                .map(Some)
                .map_err(|problem| self.complaint(key, &problem)),
            _ => Err(self.complaint(key, "must be true or false")),
        }
    }

    fn list(&self, key: &str) -> Result<Option<Vec<String>>, Complaint> {
        let Some(value) = self.entry(key) else {
            return Ok(None);
        };
        let wrong = || self.complaint(key, "must be a list of texts, such as [\"*\"]");
        let items = value.get_ref().as_array().ok_or_else(wrong)?;
        let texts = items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned));
        texts.collect::<Option<_>>().map(Some).ok_or_else(wrong)
    }

    fn section(&self, key: &str, name: &'a str) -> Result<Option<Section<'a>>, Complaint> {
        let Some(value) = self.entry(key) else {
            return Ok(None);
        };
        let position = value.span().start;
        match value.get_ref() {
            DeValue::Table(table) => Ok(Some(Section {
                name,
                position,
                table: Some(table),
            })),
            DeValue::Array(list) if list.is_empty() => Ok(Some(Section {
                name,
                position,
                table: None,
            })),
            _ => Err(self.complaint(key, "must be a table")),
        }
    }
}

/// How many letters must be changed, put in or taken out to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().take(KEY_LETTERS_MAX).enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (other, above) in to.iter().zip(row.iter().skip(1)) {
            let changed = diagonal + usize::from(letter != *other);
            left = changed.min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// Positions of apps are 16 bits wide.
const APPS_MAX: usize = u16::MAX as usize;
/// No known key is as long; the rest of a longer word does not matter for a suggestion.
const KEY_LETTERS_MAX: usize = 64;

#[cfg(test)]
mod tests;
