//! The shape of a configuration file in its two spellings: Laravel's own and a short one.
//!
//! Called by `config` alone. It takes the file apart into the tables of the server and of each app
//! and looks at every key. In the short spelling a key that nobody knows is an error, for a limit
//! that is misspelt would silently be no limit; in Laravel's, where others may have put keys of
//! their own, it is a warning.

use std::path::Path;

use super::ConfigError;
use super::document::{self, Complaint, Entry, Node, Value};
use super::source::Table;

/// How a file is spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `config("reverb")` as Laravel prints it: `servers.reverb`, `apps.apps`.
    Laravel,
    /// `server` and `apps`.
    Short,
}

/// A file taken apart; no value of it has been looked at yet.
#[derive(Debug)]
pub(super) struct File {
    pub(super) server: Table,
    /// The Redis that the servers hear each other through.
    pub(super) scaling_server: Option<Table>,
    /// Laravel's broadcasts through Redis, and the Redis they come from.
    pub(super) ingest: Option<Table>,
    pub(super) ingest_server: Option<Table>,
    /// `None` if the file says nothing of apps.
    pub(super) apps: Option<Vec<Table>>,
    pub(super) warnings: Vec<String>,
}

/// Takes a file apart or says what is wrong first.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    let read = document::parse(path, text).and_then(|node| File::of(path, node));
    read.map_err(|Complaint { line, problem }| ConfigError::File {
        path: path.to_owned(),
        line,
        problem,
    })
}

impl File {
    fn of(path: &Path, root: Node) -> Result<Self, Complaint> {
        let Value::Table(mut top) = root.value else {
            // Such as the `null` that Laravel prints where there is no config/reverb.php.
            return Err(Complaint::new(root.line, "the file does not hold a table"));
        };
        let spelling = spelling_of(&top)?;
        let server = Table {
            path: path.to_owned(),
            spelling,
            name: server_name(spelling).to_owned(),
            line: 1,
            entries: Vec::new(),
        };
        let mut file = Self {
            server,
            scaling_server: None,
            ingest: None,
            ingest_server: None,
            apps: None,
            warnings: Vec::new(),
        };
        match spelling {
            Spelling::Short => file.take_short(&mut top)?,
            Spelling::Laravel => file.take_laravels(&mut top)?,
        }
        if let Some(ingest) = take(&mut top, INGEST_NAME) {
            file.take_ingest(ingest)?;
        }
        Ok(file)
    }

    fn take_short(&mut self, top: &mut Vec<Entry>) -> Result<(), Complaint> {
        self.allow("", top, SHORT)?;
        if let Some(server) = take(top, "server") {
            self.take_server(server)?;
        }
        if let Some(apps) = take(top, "apps") {
            self.take_apps("apps", apps)?;
        }
        Ok(())
    }

    fn take_laravels(&mut self, top: &mut Vec<Entry>) -> Result<(), Complaint> {
        self.allow("", top, LARAVELS)?;
        if let Some(default) = take(top, "default")
            && !matches!(&default.node.value, Value::Text(name) if name == "reverb")
        {
            let line = default.line;
            self.warn(&format!(
                "line {line}: default: there is only the server `reverb`"
            ));
        }
        if let Some(servers) = take(top, "servers") {
            let mut servers = entries_of("servers", servers.node)?;
            self.allow("servers", &servers, LARAVELS_SERVERS)?;
            if let Some(server) = take(&mut servers, "reverb") {
                self.take_server(server)?;
            }
        }
        let Some(apps) = take(top, "apps") else {
            return Ok(());
        };
        let mut apps = entries_of("apps", apps.node)?;
        self.allow("apps", &apps, LARAVELS_APPS)?;
        if let Some(provider) = take(&mut apps, "provider")
            && !matches!(&provider.node.value, Value::Text(name) if name == "config")
        {
            let line = provider.line;
            self.warn(&format!(
                "line {line}: apps.provider: only `config` is known; the apps of the file are served"
            ));
        }
        match take(&mut apps, "apps") {
            Some(apps) => self.take_apps("apps.apps", apps),
            None => Ok(()),
        }
    }

    fn take_server(&mut self, server: Entry) -> Result<(), Complaint> {
        let name = server_name(self.server.spelling);
        let mut entries = entries_of(name, server.node)?;
        self.allow(name, &entries, SERVER)?;
        let scaling = entries.iter_mut().find(|entry| entry.key == "scaling");
        if let Some(scaling) = scaling
            && let Value::Table(scaling) = &mut scaling.node.value
            && let Some(redis) = take(scaling, "server")
        {
            let name = format!("{name}.scaling.server");
            self.scaling_server = Some(self.table(name, redis.line, redis.node)?);
        }
        self.server.line = server.line;
        self.server.entries = entries;
        Ok(())
    }

    fn take_ingest(&mut self, ingest: Entry) -> Result<(), Complaint> {
        let mut table = self.table(INGEST_NAME.to_owned(), ingest.line, ingest.node)?;
        if let Some(redis) = take(&mut table.entries, "server") {
            let name = format!("{INGEST_NAME}.server");
            self.ingest_server = Some(self.table(name, redis.line, redis.node)?);
        }
        self.ingest = Some(table);
        Ok(())
    }

    fn take_apps(&mut self, name: &str, apps: Entry) -> Result<(), Complaint> {
        let problem = match (apps.node.value, self.server.spelling) {
            (Value::Null, _) => return Ok(()),
            (Value::List(apps), _) => return self.take_list(name, apps),
            (_, Spelling::Laravel) => "must be a list of apps",
            (_, Spelling::Short) => "must be a list of apps, in TOML written [[apps]]",
        };
        Err(Complaint::new(apps.line, format!("{name}: {problem}")))
    }

    fn take_list(&mut self, name: &str, apps: Vec<Node>) -> Result<(), Complaint> {
        let mut tables = Vec::with_capacity(apps.len());
        for (at, app) in apps.into_iter().enumerate() {
            let table = self.table(format!("{name}[{at}]"), app.line, app)?;
            self.allow(&table.name, &table.entries, APP)?;
            tables.push(table);
        }
        self.apps = Some(tables);
        Ok(())
    }

    /// A table that is read on its own, by its full name.
    fn table(&self, name: String, line: usize, node: Node) -> Result<Table, Complaint> {
        let entries = entries_of(&name, node)?;
        Ok(Table {
            path: self.server.path.clone(),
            spelling: self.server.spelling,
            name,
            line,
            entries,
        })
    }

    /// Looks at every key of a table; what is unknown is refused with the one that was probably
    /// meant, or warned of.
    fn allow(&mut self, table: &str, entries: &[Entry], known: &[Key]) -> Result<(), Complaint> {
        for Entry { key, line, node } in entries {
            let name = full_name(table, key);
            let Some(found) = known.iter().find(|known| known.name == key) else {
                let problem = format!("{name}: there is no such key{}", hint(key, known));
                if self.server.spelling == Spelling::Short {
                    return Err(Complaint::new(*line, problem));
                }
                self.warn(&format!("line {line}: {problem}"));
                continue;
            };
            if found.inner.is_empty() {
                continue;
            }
            match &node.value {
                Value::Table(entries) => self.allow(&name, entries, found.inner)?,
                Value::Null => {}
                Value::List(items) if items.is_empty() => {}
                _ => return Err(Complaint::new(*line, format!("{name}: must be a table"))),
            }
        }
        Ok(())
    }

    fn warn(&mut self, warning: &str) {
        if self.warnings.len() < WARNINGS_MAX {
            let path = self.server.path.display();
            self.warnings.push(format!("{path}, {warning}"));
        }
    }
}

/// Laravel's spelling has a table of servers, and a table around the list of apps.
fn spelling_of(top: &[Entry]) -> Result<Spelling, Complaint> {
    let has = |key| document::entry(top, key);
    let apps = has("apps").filter(|apps| match &apps.node.value {
        Value::Table(inner) => ["apps", "provider"]
            .iter()
            .any(|key| document::entry(inner, key).is_some()),
        _ => false,
    });
    let Some(laravels) = has("servers").or(has("default")).or(apps) else {
        return Ok(Spelling::Short);
    };
    match has("server") {
        None => Ok(Spelling::Laravel),
        Some(short) => {
            let problem = format!(
                "{} is of the short spelling, {} on line {} of Laravel's own: take one of the two",
                short.key, laravels.key, laravels.line
            );
            Err(Complaint::new(short.line, problem))
        }
    }
}

fn server_name(spelling: Spelling) -> &'static str {
    match spelling {
        Spelling::Laravel => "servers.reverb",
        Spelling::Short => "server",
    }
}

fn full_name(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.to_owned()
    } else {
        format!("{table}.{key}")
    }
}

/// The keys of a table. PHP writes an empty one as `[]`.
fn entries_of(name: &str, node: Node) -> Result<Vec<Entry>, Complaint> {
    match node.value {
        Value::Table(entries) => Ok(entries),
        Value::Null => Ok(Vec::new()),
        Value::List(items) if items.is_empty() => Ok(Vec::new()),
        _ => Err(Complaint::new(
            node.line,
            format!("{name}: must be a table"),
        )),
    }
}

fn take(entries: &mut Vec<Entry>, key: &str) -> Option<Entry> {
    let at = entries.iter().position(|entry| entry.key == key)?;
    Some(entries.swap_remove(at))
}

/// What was probably meant, or what is known.
fn hint(key: &str, known: &[Key]) -> String {
    let key: String = key.chars().take(KEY_LETTERS_MAX).collect();
    let distance = |near: &&Key| strsim::levenshtein(&key, near.name);
    let near = known
        .iter()
        .filter(|near| distance(near) <= near.name.len() / 2);
    if let Some(near) = near.min_by_key(distance) {
        return format!("; did you mean `{}`?", near.name);
    }
    let known: Vec<_> = known.iter().map(|key| key.name).collect();
    format!("; known here: {}", known.join(", "))
}

/// A key that a table may hold.
struct Key {
    name: &'static str,
    /// The keys of the table that it stands for; none if it stands for a value, or for a table
    /// that is not looked into.
    inner: &'static [Key],
}

const fn key(name: &'static str) -> Key {
    Key { name, inner: &[] }
}

const SHORT: &[Key] = &[key("server"), key("apps"), INGEST];
const LARAVELS: &[Key] = &[key("default"), key("servers"), key("apps"), INGEST];
const LARAVELS_SERVERS: &[Key] = &[key("reverb")];
const LARAVELS_APPS: &[Key] = &[key("provider"), key("apps")];
const SERVER: &[Key] = &[
    key("host"),
    key("port"),
    key("path"),
    key("hostname"),
    key("max_request_size"),
    Key {
        name: "scaling",
        inner: &[key("enabled"), key("channel"), REDIS],
    },
    key("options"),
    key("pulse_ingest_interval"),
    key("telescope_ingest_interval"),
];
const INGEST: Key = Key {
    name: INGEST_NAME,
    inner: &[key("enabled"), key("prefix"), key("app_id"), REDIS],
};
const REDIS: Key = Key {
    name: "server",
    inner: &[
        key("url"),
        key("host"),
        key("port"),
        key("scheme"),
        key("username"),
        key("password"),
        key("database"),
        key("timeout"),
        key("ca"),
        key("tls_verify"),
        key("sentinels"),
        key("sentinel_service"),
        key("cluster"),
    ],
};
const APP: &[Key] = &[
    key("app_id"),
    key("key"),
    key("secret"),
    key("allowed_origins"),
    key("ping_interval"),
    key("activity_timeout"),
    key("max_connections"),
    key("max_message_size"),
    key("accept_client_events_from"),
    key("redis_prefix"),
    Key {
        name: "rate_limiting",
        inner: &[
            key("enabled"),
            key("max_attempts"),
            key("decay_seconds"),
            key("terminate_on_limit"),
        ],
    },
    key("options"),
];
const INGEST_NAME: &str = "redis_ingest";
/// No known key is as long; the rest of a longer word does not matter for a suggestion.
const KEY_LETTERS_MAX: usize = 64;
/// More warnings of unknown keys help nobody.
const WARNINGS_MAX: usize = 20;

/// The names of all settings that a file can hold, with those left out that Laravel alone reads or
/// that have the same meaning elsewhere.
#[cfg(test)]
pub(super) fn keys() -> Vec<String> {
    fn full(key: &Key) -> Vec<String> {
        let inner = key.inner.iter().flat_map(full);
        let inner: Vec<_> = inner.map(|inner| format!("{}.{inner}", key.name)).collect();
        if inner.is_empty() {
            vec![key.name.to_owned()]
        } else {
            inner
        }
    }
    let ignored = [
        "options",
        "pulse_ingest_interval",
        "telescope_ingest_interval",
        "redis_prefix",
        "scaling.server.timeout",
    ];
    let known = SERVER.iter().chain(APP).chain([&INGEST]).flat_map(full);
    let is_served =
        |key: &String| !ignored.contains(&key.as_str()) && !key.starts_with("redis_ingest.server.");
    known.filter(is_served).collect()
}

#[cfg(test)]
mod tests;
