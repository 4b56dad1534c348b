//! Flags, environment and defaults laid over one another.

use std::ffi::OsString;

use proptest::prelude::*;

use super::*;
use crate::app::{ClientEvents, RateLimit};

mod docs;
mod own;

/// The variables that the Reverb container is started with today.
const REVERB: [(&str, &str); 7] = [
    ("BROADCAST_CONNECTION", "reverb"),
    ("REVERB_APP_ID", "123456"),
    ("REVERB_APP_KEY", "reverb-key"),
    ("REVERB_APP_SECRET", "reverb-secret"),
    ("REVERB_HOST", "0.0.0.0"),
    ("REVERB_PORT", "8080"),
    ("REVERB_SCHEME", "http"),
];

pub(super) fn variables(extra: &[(&str, &str)]) -> Environment {
    let all = REVERB.iter().chain(extra);
    Environment::new(all.map(|(name, value)| (name.into(), value.into())), None).unwrap()
}

pub(super) fn no_file(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

/// Loads from the variables of the container and some more.
pub(super) fn with(extra: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load(&Flags::default(), &variables(extra), no_file)
}

pub(super) fn complaint(extra: &[(&str, &str)]) -> String {
    with(extra).unwrap_err().to_string()
}

/// Loads a file over the variables of the container.
pub(super) fn from_file(text: &str) -> Result<Config, ConfigError> {
    from_named("slapback.toml", text)
}

/// The same under another name.
pub(super) fn from_named(name: &str, text: &str) -> Result<Config, ConfigError> {
    let flags = Flags {
        config: Some(name.into()),
        ..Flags::default()
    };
    load(&flags, &variables(&[]), |path| match path.to_str() {
        Some(path) if path == name => Ok(text.to_owned()),
        _ => no_file(path),
    })
}

#[test]
fn the_environment_of_the_reverb_container_starts_as_it_is() {
    let config = with(&[]).unwrap();
    assert_eq!(
        (config.host.as_str(), config.port, config.path.as_str()),
        ("0.0.0.0", 8080, "")
    );
    assert_eq!(config.hostname.as_deref(), Some("0.0.0.0"));
    assert_eq!(config.max_request_size, 10_000);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(
        (config.driver, config.shards, config.pin),
        (DriverChoice::Auto, None, None)
    );
    assert_eq!(
        (config.backlog_bytes, config.backlog_seconds),
        (1_048_576, 10)
    );
    assert_eq!(
        (config.backlog_total, config.ring_bytes),
        (268_435_456, 67_108_864)
    );
    assert_eq!(
        (config.cache_channels, config.cache_bytes),
        (10_000, 67_108_864)
    );
    assert_eq!((config.drain_delay_s, config.drain_seconds), (0, 5));
    assert_eq!(config.auth_timestamp_tolerance_s, 600);
    let [app] = config.apps.as_slice() else {
        panic!("one app")
    };
    assert_eq!(
        (app.id.as_str(), app.key.as_str()),
        ("123456", "reverb-key")
    );
    assert_eq!(app.secret, "reverb-secret");
    assert_eq!(app.allowed_origins, ["*"]);
    assert_eq!((app.ping_interval_s, app.activity_timeout_s), (60, 30));
    assert_eq!((app.max_connections, app.max_message_size), (None, 10_000));
    assert_eq!(
        (app.client_events, app.rate_limit),
        (ClientEvents::Members, None)
    );
}

#[test]
fn the_stock_files_of_laravel_are_an_app() {
    for file in [
        include_bytes!("../../tests/fixtures/env/laravel-11.env").as_slice(),
        include_bytes!("../../tests/fixtures/env/laravel-12.env").as_slice(),
        include_bytes!("../../tests/fixtures/env/laravel-13.env").as_slice(),
    ] {
        let environment = Environment::new([], Some(file)).unwrap();
        let config = load(&Flags::default(), &environment, no_file).unwrap();
        assert!(config.apps[0].secret.starts_with("secret-of-laravel-1"));
        assert_eq!((config.host.as_str(), config.port), ("0.0.0.0", 8080));
        assert_eq!(config.warnings, Vec::<String>::new());
    }
}

#[test]
fn r007_every_setting_of_the_app_is_read() {
    let config = with(&[
        ("REVERB_APP_ACTIVITY_TIMEOUT", "45"),
        ("REVERB_APP_PING_INTERVAL", "\"10\""),
        ("REVERB_APP_MAX_CONNECTIONS", "7"),
        ("REVERB_APP_MAX_MESSAGE_SIZE", "0"),
        ("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "all"),
        ("REVERB_APP_RATE_LIMITING_ENABLED", "true"),
        ("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "5"),
        ("REVERB_APP_RATE_LIMIT_DECAY_SECONDS", "2"),
        ("REVERB_APP_RATE_LIMIT_TERMINATE", "1"),
        ("SLAPBACK_ALLOWED_ORIGINS", "laravel.com, *.laravel.com,"),
    ]);
    let app = &config.unwrap().apps[0];
    assert_eq!((app.ping_interval_s, app.activity_timeout_s), (10, 45));
    assert_eq!((app.max_connections, app.max_message_size), (Some(7), 0));
    assert_eq!(app.client_events, ClientEvents::All);
    let limit = RateLimit {
        max_attempts: 5,
        decay_s: 2,
        terminate: true,
    };
    assert_eq!(app.rate_limit, Some(limit));
    assert_eq!(app.allowed_origins, ["laravel.com", "*.laravel.com"]);
    let config = with(&[("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "nobody")]).unwrap();
    assert_eq!(config.apps[0].client_events, ClientEvents::None);
}

#[test]
fn r032_zero_connections_is_a_limit_and_empty_is_none() {
    let limit =
        |value| with(&[("REVERB_APP_MAX_CONNECTIONS", value)]).unwrap().apps[0].max_connections;
    assert_eq!(limit("0"), Some(0));
    assert_eq!(limit(""), None);
    assert_eq!(limit("null"), None);
    assert_eq!(limit("(empty)"), None);
    let config = with(&[("REVERB_SERVER_PORT", ""), ("REVERB_APP_PING_INTERVAL", "")]).unwrap();
    assert_eq!((config.port, config.apps[0].ping_interval_s), (8080, 60));
}

#[test]
fn r150_only_the_boolean_enables_the_rate_limit() {
    for (value, on, warned) in [
        ("true", true, 0),
        ("(TRUE)", true, 0),
        ("1", false, 1),
        ("on", false, 1),
        ("0", false, 0),
    ] {
        let config = with(&[("REVERB_APP_RATE_LIMITING_ENABLED", value)]).unwrap();
        assert_eq!(config.apps[0].rate_limit.is_some(), on, "{value}");
        assert_eq!(config.warnings.len(), warned, "{value}");
    }
}

#[test]
fn r249_scaling_is_on_as_php_casts_it() {
    for (value, on) in [
        ("true", true),
        ("1", true),
        ("on", true),
        ("off", true),
        ("no", true),
        ("false", false),
        ("0", false),
        ("", false),
        ("null", false),
    ] {
        let config = with(&[("REVERB_SCALING_ENABLED", value)]).unwrap();
        assert_eq!(config.scaling.is_some(), on, "{value}");
    }
}

#[test]
fn r248_flag_beats_file_beats_environment_beats_default() {
    let environment = variables(&[
        ("REVERB_SERVER_HOST", "10.0.0.1"),
        ("REVERB_SERVER_PORT", "1"),
        ("REVERB_SERVER_PATH", "environment"),
        ("SLAPBACK_CONFIG", "slapback.toml"),
    ]);
    let file = |path: &Path| match path.to_str() {
        Some("slapback.toml") => Ok("[server]\nhost = \"10.0.0.2\"\nport = \"2\"\n".to_owned()),
        _ => no_file(path),
    };
    let flags = Flags {
        host: Some("[::1]".into()),
        path: Some(String::new()),
        ..Flags::default()
    };
    let config = load(&flags, &environment, file).unwrap();
    let seen = (config.host.as_str(), config.port, config.path.as_str());
    assert_eq!(seen, ("::1", 2, "/environment"));
    assert_eq!(config.apps[0].id, "123456");
    let flags = Flags {
        port: Some("0".into()),
        ..Flags::default()
    };
    let address = load_address(&flags, &environment, file).unwrap();
    let expected = Address {
        host: "10.0.0.2".into(),
        port: 0,
        path: "/environment".into(),
        is_port_said: true,
    };
    assert_eq!(address, expected);
}

#[test]
fn r020_the_path_is_one_prefix_however_it_is_spelt() {
    for path in ["ws", "/ws", "/ws/"] {
        assert_eq!(with(&[("REVERB_SERVER_PATH", path)]).unwrap().path, "/ws");
    }
    assert_eq!(with(&[("REVERB_SERVER_PATH", "/")]).unwrap().path, "");
    assert_eq!(with(&[("REVERB_SERVER_PATH", "a/b")]).unwrap().path, "/a/b");
    let said = complaint(&[("REVERB_SERVER_PATH", "a?b")]);
    assert!(
        said.starts_with("REVERB_SERVER_PATH: must be a plain path"),
        "{said}"
    );
}

#[test]
fn a_value_that_does_not_fit_is_named() {
    for (name, value, said) in [
        (
            "REVERB_SERVER_PORT",
            "65536",
            "must be a whole number from 0 to 65535",
        ),
        (
            "REVERB_MAX_REQUEST_SIZE",
            "10k",
            "must be a whole number, at least 1",
        ),
        (
            "REVERB_APP_PING_INTERVAL",
            "0",
            "must be a whole number, at least 1",
        ),
        (
            "REVERB_APP_ACTIVITY_TIMEOUT",
            "0",
            "must not be 0: pusher-js throws at it and never connects",
        ),
        (
            "REVERB_APP_MAX_CONNECTIONS",
            "-1",
            "must be a whole number, at least 0",
        ),
        ("SLAPBACK_DRIVER", "kqueue", "must be auto, uring or epoll"),
        (
            "SLAPBACK_SHARDS",
            "0",
            "must be a whole number from 1 to 256",
        ),
        ("SLAPBACK_PIN", "maybe", "must be true or false"),
    ] {
        assert_eq!(complaint(&[(name, value)]), format!("{name}: {said}"));
    }
}

#[test]
fn without_an_app_the_three_names_are_told() {
    let none = Environment::default();
    let error = load(&Flags::default(), &none, no_file)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET"),
        "{error}"
    );
    let said = complaint(&[("REVERB_APP_KEY", ""), ("REVERB_APP_ID", "null")]);
    assert_eq!(
        said,
        "the app is incomplete: REVERB_APP_ID and REVERB_APP_KEY must be set too"
    );
    assert!(matches!(from_file("apps = []"), Err(ConfigError::NoApp)));
}

#[test]
fn demo_makes_an_app_with_fresh_secrets_on_loopback() {
    let flags = Flags {
        demo: true,
        ..Flags::default()
    };
    let demo = || load(&flags, &Environment::default(), no_file).unwrap();
    let (one, two) = (demo(), demo());
    assert_eq!(
        (one.host.as_str(), one.demo, one.apps[0].id.as_str()),
        ("127.0.0.1", true, "demo")
    );
    for word in [&one.apps[0].key, &one.apps[0].secret] {
        assert!(word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    assert_ne!(one.apps[0].secret, two.apps[0].secret);
    let config = load(&flags, &variables(&[("REVERB_SERVER_HOST", "::")]), no_file).unwrap();
    assert_eq!((config.host.as_str(), config.apps.len()), ("::", 2));
    let config = load(&flags, &variables(&[("REVERB_APP_KEY", "")]), no_file).unwrap();
    assert_eq!((config.apps.len(), config.warnings.len()), (1, 1));
    let clash = load(&flags, &variables(&[("REVERB_APP_ID", "demo")]), no_file).unwrap_err();
    assert!(clash.to_string().starts_with("--demo: an app with the id"));
}

#[test]
fn laravels_own_file_is_warned_of_unless_a_file_is_given() {
    let read = |path: &Path| match path.to_str() {
        Some("config/reverb.php") => Ok("<?php".to_owned()),
        Some("slapback.toml") => Ok("[server]".to_owned()),
        _ => no_file(path),
    };
    let config = load(&Flags::default(), &variables(&[]), read).unwrap();
    assert!(config.warnings[0].contains("php artisan tinker"));
    let flags = Flags {
        config: Some("slapback.toml".into()),
        ..Flags::default()
    };
    assert!(
        load(&flags, &variables(&[]), read)
            .unwrap()
            .warnings
            .is_empty()
    );
}

/// The origin of a setting of the server, as `check` tells it.
fn origin(config: &Config, label: &str) -> Origin {
    let rows = config.listings.iter().flat_map(|listing| &listing.rows);
    rows.into_iter()
        .find(|row| row.label == label)
        .unwrap()
        .origin
        .clone()
}

#[test]
fn r248_every_value_knows_where_it_comes_from() {
    let dotenv = b"\nREVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\nREVERB_HOST=a.test\n";
    let process = [
        ("REVERB_SERVER_PATH", "ws"),
        ("SLAPBACK_CONFIG", "slapback.toml"),
    ];
    let process = process.map(|(name, value)| (name.into(), value.into()));
    let environment = Environment::new(process, Some(dotenv)).unwrap();
    let flags = Flags {
        port: Some("1".into()),
        ..Flags::default()
    };
    let file = |path: &Path| match path.to_str() {
        Some("slapback.toml") => Ok("[server]\nhost = \"a\"\nport = 2\n".to_owned()),
        _ => no_file(path),
    };
    let config = load(&flags, &environment, file).unwrap();
    let file = |line, key: &str| Origin::File {
        path: "slapback.toml".into(),
        line,
        key: key.to_owned(),
    };
    let dotenv = |line, variable| Origin::Dotenv { variable, line };
    for (label, expected) in [
        ("config", Origin::Variable("SLAPBACK_CONFIG")),
        ("port", Origin::Flag("--port")),
        ("host", file(2, "server.host")),
        ("path", Origin::Variable("REVERB_SERVER_PATH")),
        ("hostname", dotenv(5, "REVERB_HOST")),
        ("shards", Origin::Default),
        ("key", dotenv(3, "REVERB_APP_KEY")),
        ("ping_interval", Origin::Default),
    ] {
        assert_eq!(origin(&config, label), expected, "{label}");
    }
    let rows = config.listings.iter().flat_map(|listing| &listing.rows);
    let secrets: Vec<_> = rows.filter(|row| row.label == "secret").collect();
    assert!(secrets.len() == 1 && secrets[0].value == "********");
}

#[test]
fn an_empty_flag_counts_as_not_given() {
    let flags = Flags {
        port: Some(String::new()),
        host: Some(String::new()),
        ..Flags::default()
    };
    let config = load(&flags, &variables(&[("REVERB_SERVER_PORT", "9")]), no_file).unwrap();
    assert_eq!((config.host.as_str(), config.port), ("0.0.0.0", 9));
    let flags = Flags {
        port: Some("65536".into()),
        ..Flags::default()
    };
    let error = load(&flags, &variables(&[]), no_file)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "--port: must be a whole number from 0 to 65535");
}

#[test]
fn a_broken_value_of_dotenv_is_named_with_its_line() {
    let environment = Environment::new([], Some(b"A=1\nREVERB_SERVER_PORT=x\n")).unwrap();
    let error = load_address(&Flags::default(), &environment, no_file).unwrap_err();
    assert_eq!(
        error.to_string(),
        ".env, line 2: REVERB_SERVER_PORT: must be a whole number from 0 to 65535"
    );
}

#[test]
fn a_reload_keeps_the_demo_app() {
    let flags = Flags {
        demo: true,
        ..Flags::default()
    };
    let started = load(&flags, &Environment::default(), no_file).unwrap();
    let again = reload(&started, &flags, &variables(&[]), no_file).unwrap();
    assert_eq!(again.apps.len(), 2);
    assert_eq!(again.apps[0].secret, started.apps[0].secret);
    assert_eq!(again.apps[1].id, "123456");
}

proptest! {
    #[test]
    fn no_variable_makes_the_reader_panic(value in any::<String>()) {
        for name in ["REVERB_SERVER_PORT", "REVERB_SERVER_PATH", "SLAPBACK_RING_BYTES"] {
            let pair = (OsString::from(name), OsString::from(value.as_str()));
            let _ = load(&Flags::default(), &Environment::new([pair], None).unwrap(), no_file);
        }
    }
}
