//! The file: what it may say and how it is complained about.

use proptest::prelude::*;

use crate::app::{ClientEvents, RateLimit};
use crate::config::tests::{from_file, no_file, variables};
use crate::config::{Flags, load};

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
            "line 3: server.port: must be a whole number",
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
            "line 1: apps: must be a list of tables, written [[apps]]",
        ),
        (
            "[[apps]]\napp_id = \"a\"\nkey = \"k\"",
            "line 1: apps.secret: is missing or empty",
        ),
        (
            "{\"server\": {}}",
            "line 1: JSON is not read yet: write the file as TOML",
        ),
        (
            "[server.options.tls]\nlocal_cert = \"/a.pem\"",
            "line 2: server.options.tls.local_cert: TLS is not served: leave it to the proxy in \
             front and remove this key",
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
        (APP, "line 6: apps.app_id: another app has the same one"),
        (
            "[[apps]]\napp_id = \"b\"\nkey = \"k\"\nsecret = \"s\"",
            "line 7: apps.key: another app has the same one",
        ),
        (
            "activity_timeout = 0",
            "line 5: apps.activity_timeout: must not be 0: pusher-js throws at it and never \
             connects",
        ),
        (
            "allowed_origins = \"*\"",
            "line 5: apps.allowed_origins: must be a list of texts, such as [\"*\"]",
        ),
        (
            "rate_limiting = { enable = true }",
            "line 5: apps.rate_limiting.enable: there is no such key; did you mean `enabled`?",
        ),
    ] {
        assert_eq!(with_app(more), format!("slapback.toml, {said}"), "{more}");
    }
}

#[test]
fn what_is_not_served_yet_is_warned_of() {
    let config = from_file(
        "[server]\noptions = []\n[server.scaling]\nenabled = true\n[redis_ingest]\nenabled = 1\n",
    );
    let warnings = config.unwrap().warnings;
    assert!(warnings[0].starts_with("[redis_ingest] is not served yet"));
    assert!(warnings[1].starts_with("scaling (REVERB_SCALING_ENABLED, server.scaling)"));
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

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(text in r#"([a-z=\[\]{}"'.,\n0-9-]|server|apps){0,60}"#) {
        let _ = from_file(&text);
    }
}
