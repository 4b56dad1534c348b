//! Any text as a configuration: what is accepted has distinct apps and shows no secret, what is
//! refused is refused at a line that there is, and TOML says what it says as JSON too.
//!
//! Up to a line `---` the input is a `.env` file, behind it the configuration file; without such a
//! line it is the file alone.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use slapback::app::AppSettings;
use slapback::config::{self, Config, ConfigError, Flags, Origin};
use slapback::env::Environment;

/// The secret that the kept inputs use.
const SECRET: &str = "s3cret";

/// Loads both, and the file again as JSON.
pub fn run(input: &[u8]) {
    let Ok(input) = str::from_utf8(input) else {
        return;
    };
    let (dotenv, text) = input.split_once("---\n").unwrap_or(("", input));
    let Ok(environment) = Environment::new([], Some(dotenv.as_bytes())) else {
        return;
    };
    let config = match load(&environment, text) {
        Ok(config) => config,
        Err(error) => return check_error(&error, dotenv, text),
    };
    check_apps(&config);
    let told = input.matches(SECRET).count();
    let secrets = config.apps.iter().filter(|app| app.secret == SECRET);
    if told == secrets.count() + usize::from(is_password(&config)) {
        let shown = format!("{config:?}{:?}", config.listings);
        assert!(!shown.contains(SECRET), "a secret is shown");
    }
    if let Some(json) = as_json(text) {
        let again = load(&environment, &json).expect("JSON says the same");
        assert_eq!(essence(&again), essence(&config));
    }
}

/// Whether it is the password of Redis; both uses of Redis may share one.
fn is_password(config: &Config) -> bool {
    let scaling = config.scaling.iter().map(|scaling| &scaling.server);
    let ingest = config.ingest.iter().map(|ingest| &ingest.server);
    let mut servers = scaling.chain(ingest);
    servers.any(|server| server.password.as_deref() == Some(SECRET))
}

/// The file's name does not tell what it is.
fn load(environment: &Environment, text: &str) -> Result<Config, ConfigError> {
    let flags = Flags {
        config: Some("reverb".to_owned()),
        ..Flags::default()
    };
    let read = |path: &Path| match path.to_str() {
        Some("reverb") => Ok(text.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    config::load(&flags, environment, read)
}

fn check_error(error: &ConfigError, dotenv: &str, text: &str) {
    let (line, file) = match error {
        ConfigError::File { line, .. } => (*line, text),
        ConfigError::Setting { origin, .. } => match origin {
            Origin::File { line, .. } => (*line, text),
            Origin::Dotenv { line, .. } => (*line, dotenv),
            _ => return,
        },
        _ => return,
    };
    let breaks = file.matches(['\n', '\r']).count();
    assert!((1..=1 + breaks).contains(&line), "{error}");
}

fn check_apps(config: &Config) {
    let count = config.apps.len();
    let distinct = |name: fn(&AppSettings) -> &str| {
        let names: HashSet<&str> = config.apps.iter().map(name).collect();
        names.len() == count && !names.contains("")
    };
    assert!(distinct(|app| &app.id) && distinct(|app| &app.key));
    for app in &config.apps {
        assert!(!app.secret.is_empty());
        assert!(app.activity_timeout_s > 0 && app.ping_interval_s > 0);
    }
}

/// The same document as JSON, unless it is JSON already or holds what JSON writes otherwise.
fn as_json(text: &str) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    let value = toml::Value::Table(table);
    is_plain(&value).then(|| serde_json::to_string(&value).expect("a tree is JSON"))
}

fn is_plain(value: &toml::Value) -> bool {
    match value {
        toml::Value::Float(_) | toml::Value::Datetime(_) => false,
        toml::Value::Array(items) => items.iter().all(is_plain),
        toml::Value::Table(entries) => entries.values().all(is_plain),
        toml::Value::String(_) | toml::Value::Integer(_) | toml::Value::Boolean(_) => true,
    }
}

/// What a configuration comes to, without the places where it is said.
fn essence(config: &Config) -> String {
    let mut out = format!("{:?}", config.apps);
    for app in &config.apps {
        out.push_str(&app.secret);
    }
    for listing in &config.listings {
        for row in &listing.rows {
            write!(out, "\n{} = {}", row.label, row.value).expect("a string takes all");
        }
    }
    out
}
