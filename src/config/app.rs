//! One app: what a file's table or the environment says of it.
//!
//! Called by `config` alone.

use super::reader::{Listing, Names, Reader, names, php_truth, text, truth, whole};
use super::redis::Fed;
use super::source::{Found, Manner, Said, Setting, Source, Table, variable};
use super::{ConfigError, Spelling};
use crate::app::{AppSettings, ClientEvents, RateLimit};
use crate::env::Environment;

/// An app with what is to be told of it.
pub(super) struct Read {
    pub(super) settings: AppSettings,
    pub(super) fed: Fed,
    pub(super) listing: Listing,
    pub(super) warnings: Vec<String>,
}

/// The app of one table of the file.
pub(super) fn of_table(table: &Table) -> Result<Read, ConfigError> {
    read(table, Fallbacks::of(Some(table.spelling)))
}

/// The one app that the environment can name; none if it names none of its three parts.
pub(super) fn of_environment(environment: &Environment) -> Result<Option<Read>, ConfigError> {
    let names = [ID, KEY, SECRET];
    let is_missing = |setting: &&Setting| {
        let found = environment.find(setting);
        found.is_none_or(|found| found.is_nothing())
    };
    let missing: Vec<_> = names
        .iter()
        .filter(is_missing)
        .map(|name| name.variable)
        .collect();
    match missing.len() {
        0 => read(environment, Fallbacks::of(None)).map(Some),
        count if count == names.len() => Ok(None),
        _ => Err(ConfigError::AppIncomplete { missing }),
    }
}

/// What counts where nothing is said, which depends on who says nothing.
#[derive(Clone, Copy)]
struct Fallbacks {
    client_events: ClientEvents,
    decay_s: u32,
}

impl Fallbacks {
    /// A `config/reverb.php` that was published before these keys existed lacks them, and Reverb
    /// then takes other values than those it publishes today.
    fn of(spelling: Option<Spelling>) -> Self {
        let is_laravels = spelling == Some(Spelling::Laravel);
        Self {
            client_events: if is_laravels {
                ClientEvents::All
            } else {
                ClientEvents::Members
            },
            decay_s: if is_laravels { 1 } else { 60 },
        }
    }
}

fn read(source: &dyn Source, fallbacks: Fallbacks) -> Result<Read, ConfigError> {
    let mut reader = Reader::new(vec![source]);
    let id = reader.require(ID)?;
    let key = reader.require(KEY)?;
    let secret = reader.require_secret(SECRET)?;
    let title = format!("app {id}");
    let defaults = AppSettings::new(id, key, secret);
    let settings = AppSettings {
        allowed_origins: reader
            .read(
                variable("SLAPBACK_ALLOWED_ORIGINS").key("allowed_origins"),
                names,
                Names(defaults.allowed_origins.clone()),
            )?
            .0,
        ping_interval_s: reader.read(
            variable("REVERB_APP_PING_INTERVAL")
                .key("ping_interval")
                .counts("s"),
            whole(1, u32::MAX),
            defaults.ping_interval_s,
        )?,
        activity_timeout_s: reader.read(
            variable("REVERB_APP_ACTIVITY_TIMEOUT")
                .key("activity_timeout")
                .counts("s"),
            activity_timeout,
            defaults.activity_timeout_s,
        )?,
        max_connections: reader.read_optional(
            variable("REVERB_APP_MAX_CONNECTIONS").key("max_connections"),
            whole(0, u32::MAX),
            "unlimited",
        )?,
        max_message_size: reader.read(
            variable("REVERB_APP_MAX_MESSAGE_SIZE")
                .key("max_message_size")
                .counts("bytes"),
            whole(0, u64::MAX),
            defaults.max_message_size,
        )?,
        client_events: reader.read(
            variable("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM").key("accept_client_events_from"),
            client_events,
            fallbacks.client_events,
        )?,
        rate_limit: read_rate_limit(&mut reader, fallbacks.decay_s)?,
        ..defaults
    };
    let fed = read_fed(&mut reader, source, settings.id.clone())?;
    let Reader { rows, warnings, .. } = reader;
    Ok(Read {
        settings,
        fed,
        listing: Listing { title, rows },
        warnings,
    })
}

fn read_rate_limit(
    reader: &mut Reader<'_>,
    decay_s: u32,
) -> Result<Option<RateLimit>, ConfigError> {
    let enabled = variable("REVERB_APP_RATE_LIMITING_ENABLED").key("rate_limiting.enabled");
    let is_enabled = reader.read(enabled, strict_truth, false)?;
    if let Some(found) = reader.find(&enabled)
        && !is_enabled
        && php_truth(&found).unwrap_or(false)
    {
        let origin = found.origin;
        reader.warnings.push(format!("{origin}: {ENABLED_WARNING}"));
    }
    let limit = RateLimit {
        max_attempts: reader.read(
            variable("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS").key("rate_limiting.max_attempts"),
            whole(0, u32::MAX),
            60,
        )?,
        decay_s: reader.read(
            variable("REVERB_APP_RATE_LIMIT_DECAY_SECONDS")
                .key("rate_limiting.decay_seconds")
                .counts("s"),
            whole(1, u32::MAX),
            decay_s,
        )?,
        terminate: reader.read(
            variable("REVERB_APP_RATE_LIMIT_TERMINATE").key("rate_limiting.terminate_on_limit"),
            php_truth,
            false,
        )?,
    };
    Ok(is_enabled.then_some(limit))
}

/// The app's own prefix in Redis, which only a file can say; it is told where it is said.
fn read_fed(
    reader: &mut Reader<'_>,
    source: &dyn Source,
    app_id: String,
) -> Result<Fed, ConfigError> {
    let setting = variable("").key("redis_prefix");
    let (prefix, origin) = match reader.look_for_text(&setting)? {
        Some((prefix, origin)) => (Some(prefix), origin),
        None => (None, source.place(&setting)),
    };
    if let Some(prefix) = &prefix {
        reader.note(&setting, prefix.clone(), "", origin.clone());
    }
    Ok(Fed {
        app_id,
        prefix,
        origin,
    })
}

/// to Reverb only the boolean itself is true; "1" is a text and leaves the limit off.
fn strict_truth(found: &Found<'_>) -> Result<bool, String> {
    match (&found.said, found.manner) {
        (_, Manner::File(Spelling::Short)) => truth(found),
        (Said::Text(text), Manner::File(Spelling::Laravel)) => Ok(text == "true"),
        (said, _) => Ok(matches!(said, Said::Truth(true))),
    }
}

/// Refuses 0, of which pusher-js never recovers.
fn activity_timeout(found: &Found<'_>) -> Result<u32, String> {
    match whole(0, u32::MAX)(found)? {
        0 => Err("must not be 0: pusher-js throws at it and never connects".to_owned()),
        seconds => Ok(seconds),
    }
}

fn client_events(found: &Found<'_>) -> Result<ClientEvents, String> {
    Ok(match text(found)?.as_str() {
        "all" => ClientEvents::All,
        "members" => ClientEvents::Members,
        _ => ClientEvents::None,
    })
}

pub(super) const ID: Setting = variable("REVERB_APP_ID").key("app_id");
pub(super) const KEY: Setting = variable("REVERB_APP_KEY").key("key");
const SECRET: Setting = variable("REVERB_APP_SECRET").key("secret");
const ENABLED_WARNING: &str = "is on only when it is `true`: the rate limit is off";
