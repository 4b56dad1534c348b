//! The file: what it may say and how it is complained about.

use proptest::prelude::*;

use crate::app::{ClientEvents, RateLimit};
use crate::config::tests::{from_file, from_named, no_file, variables};
use crate::config::{Config, ConfigError, Flags, load};

fn file_complaint(text: &str) -> String {
    from_file(text).unwrap_err().to_string()
}

const APP: &str = "[[apps]]\napp_id = \"a\"\nkey = \"k\"\nsecret = \"s\"\n";

#[test]
fn the_apps_of_the_file_replace_the_environments() {
    let config = from_file(
        "[[apps]]\napp_id = 7\nkey = \"k7\"\nsecret = \"s\"\nallowed_origins = [\"a.test\"]\n\
         ping_interval = \"9\"\nactivity_timeout = 8\nmax_connections = 0\nmax_message_size = 0\n\
         accept_client_events_from = \"all\"\noptions = []\n\
         rate_limiting = { enabled = \"true\" }\n\
         [[apps]]\napp_id = \"8\"\nkey = \"k8\"\nsecret = \"s\"\nrate_limiting = []\n",
    );
    let config = config.unwrap();
    let [one, two] = config.apps.as_slice() else {
        panic!("two apps")
    };
    assert_eq!((one.id.as_str(), two.id.as_str()), ("7", "8"));
    assert_eq!(one.allowed_origins, ["a.test"]);
    assert_eq!((one.ping_interval_s, one.activity_timeout_s), (9, 8));
    assert_eq!((one.max_connections, one.max_message_size), (Some(0), 0));
    assert_eq!(one.client_events, ClientEvents::All);
    let limit = RateLimit {
        max_attempts: 60,
        decay_s: 60,
        terminate: false,
    };
    assert_eq!((one.rate_limit, two.rate_limit), (Some(limit), None));
    assert_eq!(
        (two.ping_interval_s, two.client_events),
        (60, ClientEvents::Members)
    );
}

#[test]
fn the_file_is_complained_about_by_key_and_line() {
    for (text, said) in [
        (
            "[server]\nprot = 1",
            "line 2: server.prot: there is no such key; did you mean `port`?",
        ),
        (
            "[sever]",
            "line 1: sever: there is no such key; did you mean `server`?",
        ),
        (
            "zzz = 1",
            "line 1: zzz: there is no such key; known here: server, apps, redis_ingest",
        ),
        (
            "[server]\n\nport = true",
            "line 3: server.port: must be a whole number from 0 to 65535",
        ),
        (
            "[server]\nport = 70000",
            "line 2: server.port: must be a whole number from 0 to 65535",
        ),
        (
            "[server]\nhost = 1",
            "line 2: server.host: must be a text in quotes",
        ),
        ("server = 1", "line 1: server: must be a table"),
        (
            "[apps]\nkey = 1",
            "line 1: apps: must be a list of apps, in TOML written [[apps]]",
        ),
        (
            "[[apps]]\napp_id = \"a\"\nkey = \"k\"",
            "line 1: apps[0].secret: is missing or empty",
        ),
        (
            "[server.options.tls]\nlocal_cert = \"/a.pem\"",
            "line 2: server.options.tls.local_cert: TLS is not served in this process yet: terminate it \
             at the proxy in front, and set this key to null or remove it",
        ),
    ] {
        assert_eq!(
            file_complaint(text),
            format!("slapback.toml, {said}"),
            "{text}"
        );
    }
    assert!(file_complaint("[server\n").starts_with("slapback.toml, line 1: "));
}

#[test]
fn an_app_is_complained_about_by_key_and_line() {
    let with_app = |more: &str| file_complaint(&format!("{APP}{more}"));
    for (more, said) in [
        (APP, "line 6: apps[1].app_id: another app has the same one"),
        (
            "[[apps]]\napp_id = \"b\"\nkey = \"k\"\nsecret = \"s\"",
            "line 7: apps[1].key: another app has the same one",
        ),
        (
            "activity_timeout = 0",
            "line 5: apps[0].activity_timeout: must not be 0: pusher-js throws at it and never \
             connects",
        ),
        (
            "allowed_origins = \"*\"",
            "line 5: apps[0].allowed_origins: must be a list of texts, such as [\"*\"]",
        ),
        (
            "max_conn = 3",
            "line 5: apps[0].max_conn: there is no such key; did you mean `max_connections`?",
        ),
        (
            "rate_limiting = { enable = true }",
            "line 5: apps[0].rate_limiting.enable: there is no such key; did you mean `enabled`?",
        ),
    ] {
        assert_eq!(with_app(more), format!("slapback.toml, {said}"), "{more}");
    }
}

#[test]
fn what_is_served_is_not_warned_of() {
    let config = from_file(
        "[server]\noptions = []\n[server.scaling]\nenabled = true\n[redis_ingest]\nenabled = 1\n",
    );
    assert!(config.unwrap().warnings.is_empty());
    let config = from_file("[server.options.tls]\nlocal_cert = \"\"\nverify_peer = false\n");
    assert!(config.unwrap().warnings.is_empty());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let flags = Flags {
        config: Some("gone.toml".into()),
        ..Flags::default()
    };
    let error = load(&flags, &variables(&[]), no_file)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "gone.toml: entity not found");
}

fn from_json(text: &str) -> Result<Config, ConfigError> {
    from_named("slapback.json", text)
}

fn json_complaint(text: &str) -> String {
    from_json(text).unwrap_err().to_string()
}

/// A file in Laravel's spelling with one app, which has this too.
fn laravels(app: &str) -> String {
    format!(
        "{{\"apps\":{{\"apps\":[{{\n\"app_id\":1,\"key\":\"k\",\"secret\":\"s-e-c-r-e-t\",\n{app}}}]}}}}"
    )
}

#[test]
fn each_spelling_may_be_json_or_toml() {
    let short = "[server]\nport = \"81\"\n[[apps]]\napp_id = 1\nkey = \"k\"\nsecret = \"s\"\n";
    let short_json =
        "{\"server\":{\"port\":81},\n\"apps\":[{\"app_id\":\"1\",\"key\":\"k\",\"secret\":\"s\"}]}";
    let laravels = "[servers.reverb]\nport = 81\n[apps]\nprovider = \"config\"\n[[apps.apps]]\n\
                    app_id = \"1\"\nkey = \"k\"\nsecret = \"s\"\n";
    let laravels_json = "{\"servers\":{\"reverb\":{\"port\":\"81\"}},\"apps\":{\"apps\":[\
                         {\"app_id\":1,\"key\":\"k\",\"secret\":\"s\"}]}}";
    for (name, text, client_events) in [
        ("slapback.toml", short, ClientEvents::Members),
        ("slapback.json", short_json, ClientEvents::Members),
        ("slapback.toml", laravels, ClientEvents::All),
        ("slapback.json", laravels_json, ClientEvents::All),
        // Without a known extension the text tells.
        ("reverb", short, ClientEvents::Members),
        ("reverb.conf", laravels_json, ClientEvents::All),
        ("slapback.JSON", "\u{feff}\n{}", ClientEvents::Members),
    ] {
        let config = from_named(name, text).unwrap_or_else(|error| panic!("{text}: {error}"));
        if text.contains("81") {
            assert_eq!(
                (config.port, config.apps[0].id.as_str()),
                (81, "1"),
                "{text}"
            );
            assert_eq!(config.apps[0].client_events, client_events, "{text}");
        }
        assert_eq!(config.warnings, [""; 0], "{text}");
    }
}

#[test]
fn a_json_file_is_complained_about_by_key_and_line() {
    for (text, said) in [
        (
            "{\n\"server\": {\n\"port\": 1.5}}",
            "line 3: server.port: must be a whole number from 0 to 65535",
        ),
        (
            "{\"server\": {\"port\": 1,\n\"host\": \"a\",\n\"port\": 2}}",
            "line 3: server.port: is given twice, first on line 1",
        ),
        (
            "{\"apps\": [{},\n{\"a\":{\"b\":1, \"b\":1}}]}",
            "line 2: apps[1].a.b: is given twice, first on line 2",
        ),
        (
            "{\"server\": {},\n\"sever\": {}}",
            "line 2: sever: there is no such key; did you mean `server`?",
        ),
        ("{\n\"server\": {\n}", "line 1: JSON: Unterminated object"),
        (
            "{\"server\": {}\n// really\n}",
            "line 2: JSON: Comments are not allowed",
        ),
        (
            "{}\n{}",
            "line 2: JSON: Text cannot contain more than one JSON value",
        ),
        ("\n", "line 1: the file is empty"),
        ("[]", "line 1: the file does not hold a table"),
        ("null", "line 1: the file does not hold a table"),
        (
            "{\"server\": {}, \"servers\": {}}",
            "line 1: server is of the short spelling, servers on line 1 of Laravel's own: take one of the two",
        ),
    ] {
        let said = format!("slapback.json, {said}");
        assert_eq!(json_complaint(text), said, "{text}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(
        json_complaint(&deep),
        "slapback.json, line 1: JSON: Maximum nesting depth exceeded"
    );
}

#[test]
fn a_file_that_is_neither_json_nor_toml_is_told_what_it_was_taken_for() {
    let said = from_named("reverb.yaml", "server:\n  port: 1\n")
        .unwrap_err()
        .to_string();
    assert!(said.starts_with("reverb.yaml, line 1: "), "{said}");
    assert!(
        said.ends_with(
            "(the file is read as TOML: it is not named .json, nor does it begin with a brace)"
        ),
        "{said}"
    );
    let said = from_named("config/reverb.php", "<?php\nreturn [];\n")
        .unwrap_err()
        .to_string();
    assert!(
        said.starts_with("config/reverb.php, line 1: PHP is not read: php artisan tinker"),
        "{said}"
    );
}

#[test]
fn what_laravel_prints_of_old_and_new_versions_is_read() {
    let first = from_json(include_str!("../../../tests/fixtures/config/first.json")).unwrap();
    let middle = from_json(include_str!("../../../tests/fixtures/config/middle.json")).unwrap();
    let current = from_json(include_str!("../../../tests/fixtures/config/current.json")).unwrap();
    for config in [&first, &middle, &current] {
        assert_eq!((config.host.as_str(), config.port), ("0.0.0.0", 8080));
        assert_eq!(config.hostname.as_deref(), Some("ws.example.com"));
        assert_eq!(config.max_request_size, 10_000);
        assert_eq!(config.warnings, [""; 0]);
        let app = &config.apps[0];
        assert_eq!((app.ping_interval_s, app.activity_timeout_s), (60, 30));
        assert_eq!((app.max_connections, app.max_message_size), (None, 10_000));
        assert_eq!(app.rate_limit, None);
    }
    assert_eq!(
        middle.apps[0].allowed_origins,
        ["example.com", "*.example.com"]
    );
    assert_eq!(current.apps[0].client_events, ClientEvents::Members);
    let second = &current.apps[1];
    assert_eq!(
        (second.ping_interval_s, second.activity_timeout_s),
        (30, 30)
    );
    assert_eq!(
        (second.max_connections, second.max_message_size),
        (Some(2), 1_000_000)
    );
    let limit = RateLimit {
        max_attempts: 60,
        decay_s: 1,
        terminate: false,
    };
    assert_eq!(second.rate_limit, Some(limit));
}

#[test]
fn r144_in_laravels_spelling_a_missing_key_lets_everybody_whisper() {
    let client_events = |app: &str| from_json(&laravels(app)).unwrap().apps[0].client_events;
    assert_eq!(client_events("\"options\":[]"), ClientEvents::All);
    assert_eq!(
        client_events("\"accept_client_events_from\":null"),
        ClientEvents::All
    );
    assert_eq!(
        client_events("\"accept_client_events_from\":\"\""),
        ClientEvents::All
    );
    assert_eq!(
        client_events("\"accept_client_events_from\":\"members\""),
        ClientEvents::Members
    );
    assert_eq!(
        client_events("\"accept_client_events_from\":\"none\""),
        ClientEvents::None
    );
}

#[test]
fn in_laravels_spelling_null_and_empty_are_nothing_and_numbers_may_be_texts() {
    let file = laravels(
        "\"ping_interval\":\"\",\"max_connections\":null,\"max_message_size\":\"7\",\
         \"rate_limiting\":null,\"options\":null,\"allowed_origins\":null",
    );
    let config = from_json(&file).unwrap();
    let app = &config.apps[0];
    assert_eq!((app.ping_interval_s, app.max_connections), (60, None));
    assert_eq!((app.max_message_size, app.rate_limit), (7, None));
    assert_eq!(app.allowed_origins, ["*"]);
    let said = json_complaint(&laravels("\"ping_interval\":\"soon\""));
    assert_eq!(
        said,
        "slapback.json, line 3: apps.apps[0].ping_interval: must be a whole number, at least 1"
    );
    let said = file_complaint(&format!("{APP}ping_interval = \"\""));
    assert_eq!(
        said,
        "slapback.toml, line 5: apps[0].ping_interval: must be a whole number, at least 1"
    );
}

#[test]
fn r150_in_laravels_spelling_too_only_true_enables_the_rate_limit() {
    for (value, on, warned) in [
        ("true", true, 0),
        ("\"true\"", true, 0),
        ("1", false, 1),
        ("\"1\"", false, 1),
        ("\"on\"", false, 1),
        ("false", false, 0),
        ("0", false, 0),
        ("\"\"", false, 0),
    ] {
        let file = laravels(&format!("\"rate_limiting\":{{\"enabled\":{value}}}"));
        let config = from_json(&file).unwrap();
        assert_eq!(config.apps[0].rate_limit.is_some(), on, "{value}");
        assert_eq!(config.warnings.len(), warned, "{value}");
    }
}

#[test]
fn r249_in_laravels_spelling_scaling_is_cast_as_php_does() {
    for (value, on) in [
        ("true", true),
        ("1", true),
        ("\"off\"", true),
        ("false", false),
        ("0", false),
        ("\"0\"", false),
        ("\"\"", false),
        ("null", false),
    ] {
        let file =
            format!("{{\"servers\":{{\"reverb\":{{\"scaling\":{{\"enabled\":{value}}}}}}}}}");
        assert_eq!(from_json(&file).unwrap().scaling.is_some(), on, "{value}");
    }
    let said = file_complaint("[server.scaling]\nenabled = \"maybe\"");
    assert_eq!(
        said,
        "slapback.toml, line 2: server.scaling.enabled: must be true or false"
    );
    let off = from_file("[server.scaling]\nenabled = \"off\"").unwrap();
    assert_eq!(off.scaling, None);
}

#[test]
fn in_laravels_spelling_what_is_unknown_is_warned_of() {
    let text = "{\"default\":\"other\",\"extra\":1,\n\"servers\":{\"reverb\":{\"hots\":1},\"other\":{}},\n\
                \"apps\":{\"provider\":\"database\",\n\"apps\":[{\"app_id\":1,\"key\":\"k\",\"secret\":\"s\",\"max_conections\":1}]}}";
    let config = from_json(text).unwrap();
    let said = [
        "line 1: extra: there is no such key; known here: default, servers, apps, redis_ingest",
        "line 1: default: there is only the server `reverb`",
        "line 2: servers.other: there is no such key; known here: reverb",
        "line 2: servers.reverb.hots: there is no such key; did you mean `host`?",
        "line 3: apps.provider: only `config` is known; the apps of the file are served",
        "line 4: apps.apps[0].max_conections: there is no such key; did you mean `max_connections`?",
    ];
    let said = said.map(|line| format!("slapback.json, {line}"));
    assert_eq!(config.warnings, said);
    let many: Vec<_> = (0..100).map(|at| format!("\"x{at}\":1,")).collect();
    let many = many.concat();
    let file = laravels(&format!("{many}\"options\":[]"));
    assert_eq!(from_json(&file).unwrap().warnings.len(), 20);
}

#[test]
fn in_laravels_spelling_tls_and_missing_secrets_are_refused() {
    let tls =
        |tls: &str| format!("{{\"servers\":{{\"reverb\":{{\"options\":{{\"tls\":{tls}}}}}}}}}");
    for off in [
        "[]",
        "null",
        "{}",
        "{\"local_cert\":null,\"local_pk\":\"\",\"verify_peer\":true}",
    ] {
        assert!(from_json(&tls(off)).is_ok(), "{off}");
    }
    let said = json_complaint(&tls("{\"local_pk\":\"/key.pem\"}"));
    assert!(said.starts_with("slapback.json, line 1: servers.reverb.options.tls.local_pk: TLS is not served in this process yet"), "{said}");
    for secret in ["\"\"", "null"] {
        let file = format!(
            "{{\"apps\":{{\"apps\":[\n{{\"app_id\":1,\"key\":\"k\",\n\"secret\":{secret}}}]}}}}"
        );
        let said = json_complaint(&file);
        assert!(
            said.ends_with("apps.apps[0].secret: is missing or empty"),
            "{said}"
        );
    }
}

/// Whatever is wrong with a file, no complaint quotes what stands in it.
#[test]
fn no_complaint_shows_a_secret() {
    for text in [
        laravels("\"ping_interval\":\"s-e-c-r-e-t\""),
        laravels("\"key\":\"s-e-c-r-e-t\""),
        laravels("s-e-c-r-e-t"),
        laravels("\"x\":\"s-e-c-r-e-t"),
    ] {
        let said = json_complaint(&text);
        assert!(!said.contains("s-e-c-r-e-t"), "{said}");
    }
    for line in [
        "secret = s-e-c-r-e-t",
        "secret = \"s-e-c-r-e-t",
        "secret = \"s-e-c-r-e-t\" x",
        "secret = [\"s-e-c-r-e-t\"]",
    ] {
        let said = file_complaint(&format!("[[apps]]\napp_id = 1\nkey = \"k\"\n{line}\n"));
        assert!(!said.contains("s-e-c-r-e-t"), "{said}");
    }
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(
        text in r#"([a-z=\[\]{}"'.,:\n0-9-]|"servers?"|"apps"|apps){0,60}"#
    ) {
        let _ = from_file(&text);
        let _ = from_json(&text);
    }
}
