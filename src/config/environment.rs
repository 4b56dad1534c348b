//! The names of the environment and what each may hold.
//!
//! Called by `config` alone. `docs/configuration.md` lists the same names; a test holds the two
//! together. Null and empty count as unset everywhere.

use super::{ConfigError, DriverChoice, Layer, activity_timeout, client_events, number, truth};
use crate::app::{AppSettings, RateLimit};
use crate::config::Config;
use crate::env::{Environment, Value};

/// What the environment says of the server.
pub(super) fn server(environment: &Environment) -> Result<Layer, ConfigError> {
    let mut warnings = Vec::new();
    if let Some(server) = text(environment, "REVERB_SERVER").filter(|name| name != "reverb") {
        warnings.push(format!(
            "REVERB_SERVER={server} is ignored: there is only `reverb`"
        ));
    }
    Ok(Layer {
        host: text(environment, "REVERB_SERVER_HOST"),
        port: whole(environment, "REVERB_SERVER_PORT", 0, u16::MAX)?,
        path: text(environment, "REVERB_SERVER_PATH"),
        hostname: text(environment, "REVERB_HOST"),
        max_request_size: whole(environment, "REVERB_MAX_REQUEST_SIZE", 1, usize::MAX)?,
        // PHP casts to boolean here, so the words "off" and "no" switch it on.
        scaling: text(environment, "REVERB_SCALING_ENABLED").map(|text| php_true(&text)),
        warnings,
        ..Layer::default()
    })
}

/// The one app the environment can name; none if it names none of its three parts.
///
/// With `demo` an app named in part is left out with a warning, for the demo app stands in.
pub(super) fn app(
    environment: &Environment,
    demo: bool,
    warnings: &mut Vec<String>,
) -> Result<Option<AppSettings>, ConfigError> {
    let id = text(environment, "REVERB_APP_ID");
    let key = text(environment, "REVERB_APP_KEY");
    let secret = text(environment, "REVERB_APP_SECRET");
    let names = ["REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET"];
    let missing: Vec<_> = names
        .into_iter()
        .zip([id.is_none(), key.is_none(), secret.is_none()])
        .filter_map(|(name, missing)| missing.then_some(name))
        .collect();
    let (Some(id), Some(key), Some(secret)) = (id, key, secret) else {
        if missing.len() == names.len() {
            return Ok(None);
        }
        let error = ConfigError::AppIncomplete { missing };
        if demo {
            warnings.push(error.to_string());
            return Ok(None);
        }
        return Err(error);
    };
    let mut app = AppSettings::new(id, key, secret);
    limits(environment, &mut app, warnings)?;
    if let Some(origins) = text(environment, "SLAPBACK_ALLOWED_ORIGINS") {
        app.allowed_origins = origins
            .split(',')
            .map(|origin| origin.trim().to_owned())
            .filter(|origin| !origin.is_empty())
            .collect();
    }
    Ok(Some(app))
}

fn limits(
    environment: &Environment,
    app: &mut AppSettings,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    if let Some(seconds) = whole(environment, "REVERB_APP_PING_INTERVAL", 1, u32::MAX)? {
        app.ping_interval_s = seconds;
    }
    let timeout = "REVERB_APP_ACTIVITY_TIMEOUT";
    if let Some(seconds) = whole(environment, timeout, 0, u64::MAX)? {
        app.activity_timeout_s = activity_timeout(seconds).map_err(setting(timeout))?;
    }
    app.max_connections = whole(environment, "REVERB_APP_MAX_CONNECTIONS", 0, u32::MAX)?;
    if let Some(bytes) = whole(environment, "REVERB_APP_MAX_MESSAGE_SIZE", 0, u64::MAX)? {
        app.max_message_size = bytes;
    }
    if let Some(who) = text(environment, "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM") {
        app.client_events = client_events(&who);
    }
    app.rate_limit = rate_limit(environment, warnings)?;
    Ok(())
}

fn rate_limit(
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Option<RateLimit>, ConfigError> {
    let max_attempts = whole(
        environment,
        "REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS",
        0,
        u32::MAX,
    )?;
    let decay_s = whole(
        environment,
        "REVERB_APP_RATE_LIMIT_DECAY_SECONDS",
        1,
        u32::MAX,
    )?;
    let terminate = text(environment, "REVERB_APP_RATE_LIMIT_TERMINATE");
    let enabled = environment.get("REVERB_APP_RATE_LIMITING_ENABLED");
    // only the boolean itself counts; "1" is a text and leaves the limit off.
    if let Some(Value::Text(text)) = &enabled
        && php_true(text)
    {
        warnings.push(
            "REVERB_APP_RATE_LIMITING_ENABLED is on only when it is `true`: the limit is off"
                .to_owned(),
        );
    }
    Ok((enabled == Some(Value::Bool(true))).then(|| RateLimit {
        max_attempts: max_attempts.unwrap_or(60),
        decay_s: decay_s.unwrap_or(60),
        terminate: terminate.is_some_and(|text| php_true(&text)),
    }))
}

/// Our own names: a [`Config`] in which only these are filled in.
pub(super) fn tuning(environment: &Environment) -> Result<Config, ConfigError> {
    let bytes = |name, default: usize| {
        whole(environment, name, 1, usize::MAX).map(|value| value.unwrap_or(default))
    };
    let seconds = |name, min: u64, default: u64| {
        whole(environment, name, min, SECONDS_MAX).map(|value| value.unwrap_or(default))
    };
    Ok(Config {
        host: String::new(),
        port: 0,
        path: String::new(),
        hostname: None,
        max_request_size: 0,
        apps: Vec::new(),
        demo: false,
        debug: false,
        driver: driver(environment)?,
        shards: whole(environment, "SLAPBACK_SHARDS", 1, SHARDS_MAX)?,
        pin: boolean(environment, "SLAPBACK_PIN")?,
        reuse_port: boolean(environment, "SLAPBACK_REUSE_PORT")?.unwrap_or(false),
        backlog_bytes: bytes("SLAPBACK_BACKLOG_BYTES", 1 << 20)?,
        backlog_seconds: seconds("SLAPBACK_BACKLOG_SECONDS", 1, 10)?,
        backlog_total: bytes("SLAPBACK_BACKLOG_TOTAL", 256 << 20)?,
        ring_bytes: bytes("SLAPBACK_RING_BYTES", 64 << 20)?,
        cache_channels: whole(environment, "SLAPBACK_CACHE_CHANNELS", 1, usize::MAX)?
            .unwrap_or(10_000),
        cache_bytes: bytes("SLAPBACK_CACHE_BYTES", 64 << 20)?,
        drain_delay_s: seconds("SLAPBACK_DRAIN_DELAY", 0, 0)?,
        drain_seconds: seconds("SLAPBACK_DRAIN_SECONDS", 0, 5)?,
        auth_timestamp_tolerance_s: seconds("SLAPBACK_AUTH_TIMESTAMP_TOLERANCE", 0, 600)?,
        warnings: Vec::new(),
    })
}

fn driver(environment: &Environment) -> Result<DriverChoice, ConfigError> {
    match text(environment, "SLAPBACK_DRIVER").as_deref() {
        None | Some("auto") => Ok(DriverChoice::Auto),
        Some("uring") => Ok(DriverChoice::Uring),
        Some("epoll") => Ok(DriverChoice::Epoll),
        Some(_) => Err(setting("SLAPBACK_DRIVER")(
            "must be auto, uring or epoll".to_owned(),
        )),
    }
}

/// The value as text; `None` if it is unset, null or empty.
pub(super) fn text(environment: &Environment, name: &str) -> Option<String> {
    match environment.get(name)? {
        Value::Null => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::Text(text) => Some(text).filter(|text| !text.is_empty()),
    }
}

/// The value as true or false.
fn boolean(environment: &Environment, name: &'static str) -> Result<Option<bool>, ConfigError> {
    text(environment, name)
        .map(|text| truth(&text))
        .transpose()
        .map_err(setting(name))
}

/// The value as a whole number between two bounds.
fn whole<T>(
    environment: &Environment,
    name: &'static str,
    min: u64,
    max: T,
) -> Result<Option<T>, ConfigError>
where
    T: TryFrom<u64> + TryInto<u64>,
{
    let max = max.try_into().unwrap_or(u64::MAX);
    let Some(text) = text(environment, name) else {
        return Ok(None);
    };
    let value = number(&text, min, max).map_err(setting(name))?;
    T::try_from(value)
        .map(Some)
        .map_err(|_| setting(name)("is too large".to_owned()))
}

/// Truth as PHP casts it: all text but the empty one and "0", where `env()` took `false` out.
fn php_true(text: &str) -> bool {
    !matches!(text, "" | "0" | "false")
}

fn setting(name: &'static str) -> impl Fn(String) -> ConfigError {
    move |problem| ConfigError::Setting { name, problem }
}

const SHARDS_MAX: usize = 256;
const SECONDS_MAX: u64 = 86_400;
