//! From the first byte to the first event: handshakes, apps, origins, quotas (R-001 to R-034).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use answers::{allowing, healthy, is_answered, taken, text};
use harness::{ACCEPTED, Client, Opcode, PONG, Server, api, encode, error, upgrade_head};
use harness::{on_every_fleet, on_every_server, subscribed};

mod answers;
mod harness;

/// What pusher-js asks for.
const TARGET: &str = "/app/key-1?protocol=7&client=js&version=8.4.0&flash=false";

#[test]
fn r001_r002_r003_an_upgrade_is_accepted_and_the_socket_learns_its_id() {
    on_every_server(|server| {
        // `upgrade` compares every byte of the head, `is_established` every byte of the frame.
        let mut client = Client::upgrade(server, TARGET, "");
        client.is_established(30);
        client.hears_nothing();
    });
}

#[test]
fn r004_r008_r033_header_spellings_and_offers_do_not_matter() {
    let heads = [
        // Lower-case names, mixed-case values.
        "GET /app/key-1 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_owned(),
        // Firefox.
        upgrade_head(TARGET, "").replace("Connection: ", "Connection: keep-alive, "),
        upgrade_head(TARGET, "Sec-WebSocket-Protocol: pusher, foo\r\n"),
        upgrade_head(
            TARGET,
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        ),
        // Behind nginx.
        "GET /app/key-1 HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Host: ws.example.com\r\nX-Forwarded-For: 192.0.2.1\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            .to_owned(),
    ];
    on_every_server(|server| {
        for head in &heads {
            let mut client = Client::connect_with(server, head);
            assert_eq!(client.head(), ACCEPTED, "{head}");
            client.is_established(30);
            client.hears_nothing();
        }
    });
}

#[test]
fn r005_r018_the_query_is_ignored_and_the_path_is_decoded() {
    let targets = [
        "/app/key-1",
        "/app/key-1?protocol=99",
        "/app/key-1?protocol=4",
        "/app/key-1?",
        "/app/key%2D1",
        "//app/key-1",
        "http://h/app/key-1",
    ];
    on_every_server(|server| {
        for target in targets {
            Client::connect(server, target).hears_nothing();
        }
    });
}

#[test]
fn r006_socket_ids_are_two_numbers_and_no_two_are_alike() {
    on_every_server(|server| {
        let clients: Vec<_> = (0..32).map(|_| Client::of_app(server, "1")).collect();
        for client in &clients {
            let (first, second) = client.id.split_once('.').unwrap();
            for part in [first, second] {
                let number: u32 = part.parse().unwrap();
                assert!((1..=1_000_000_000).contains(&number), "{}", client.id);
                assert_eq!(part, number.to_string(), "no padding");
            }
        }
        let ids: BTreeSet<_> = clients.iter().map(|client| &client.id).collect();
        assert_eq!(ids.len(), clients.len());
    });
}

#[test]
fn r007_the_activity_timeout_is_the_apps() {
    let variables = [
        ("REVERB_APP_ID", "env"),
        ("REVERB_APP_KEY", "env-key"),
        ("REVERB_APP_SECRET", "env-secret"),
        ("REVERB_APP_ACTIVITY_TIMEOUT", "45"),
    ];
    on_every_fleet(|fleet| {
        let server = Server::start_with(fleet, &["start"], &variables);
        Client::upgrade(&server, "/app/env-key", "").is_established(45);
    });
}

/// Sends a head, expects these lines in answer, no body, and the end of the connection.
fn refused(server: &Server, head: &str, lines: &[&str]) {
    let mut client = Client::connect_with(server, head);
    let expected = format!("{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n"));
    assert_eq!(client.head(), expected, "{head}");
    client.ends();
}

const POWERED: &str = "X-Powered-By: Laravel Reverb";

#[test]
fn r009_r010_r012_a_handshake_that_lacks_something_is_refused_and_closed() {
    let plain = upgrade_head(TARGET, "");
    let refusals = [
        (
            plain.replace("Connection: Upgrade\r\n", ""),
            "400 Connection Upgrade MUST be requested",
        ),
        (
            plain.replace("dGhlIHNhbXBsZSBub25jZQ==", "abc"),
            "400 Invalid Sec-WebSocket-Key",
        ),
        (
            plain.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
            "400 Invalid Sec-WebSocket-Key",
        ),
        (
            plain.replace("HTTP/1.1", "HTTP/1.0"),
            "505 HTTP Version not supported",
        ),
        (
            upgrade_head(
                TARGET,
                "Sec-WebSocket-Extensions: permessage-deflate; foo\r\n",
            ),
            r#"400 Option "foo"is not valid for permessage deflate"#,
        ),
    ];
    on_every_server(|server| {
        for (head, status) in &refusals {
            let status = format!("HTTP/1.1 {status}");
            refused(server, head, &[&status, "Connection: close", POWERED]);
        }
    });
}

#[test]
fn r011_r013_r014_whoever_could_have_upgraded_is_told_how() {
    let plain = upgrade_head(TARGET, "");
    let refusals = [
        (
            plain.replace("Version: 13", "Version: 8"),
            "426 Upgrade Required",
        ),
        (
            plain.replace("Sec-WebSocket-Version: 13\r\n", ""),
            "426 Upgrade Required",
        ),
        (
            plain.replace("Upgrade: websocket", "Upgrade: h2c"),
            "426 Upgrade header MUST be provided",
        ),
        (
            "GET /app/key-1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "426 Upgrade Required",
        ),
    ];
    on_every_server(|server| {
        for (head, status) in &refusals {
            let status = format!("HTTP/1.1 {status}");
            let how = ["Connection: Upgrade", "Upgrade: websocket"];
            let version = "Sec-WebSocket-Version: 13";
            refused(server, head, &[&status, how[0], how[1], version, POWERED]);
        }
    });
}

#[test]
fn r015_only_get_upgrades() {
    on_every_server(|server| {
        let head = upgrade_head("/app/key-1", "").replace("GET", "POST");
        let not_allowed = text("405 Method Not Allowed", "Method not allowed.");
        is_answered(server, head, &allowing("GET", &not_allowed));
    });
}

fn not_found() -> String {
    text("404 Not Found", "Not found.")
}

#[test]
fn r017_a_trailing_slash_or_another_path_is_not_found() {
    on_every_server(|server| {
        for target in ["/app/key-1/", "/app/", "/app", "/nothing"] {
            is_answered(server, upgrade_head(target, ""), &not_found());
        }
    });
}

/// The socket is told why and shown out with a Close frame of the same code.
fn is_turned_away(server: &Server, key: &str, headers: &str, code: u16, message: &str) {
    let mut client = Client::upgrade(server, &format!("/app/{key}?protocol=7"), headers);
    assert_eq!(client.hear(), error(code, message), "{key} {headers}");
    client.is_closed_with(code, message);
}

#[test]
fn r016_an_unknown_app_is_an_event_then_close_4001() {
    on_every_server(|server| {
        for key in ["nokey", "KEY-1", "key-1%00"] {
            is_turned_away(server, key, "", 4001, "Application does not exist");
        }
    });
}

#[test]
fn r019_apps_do_not_hear_one_another() {
    on_every_server(|server| {
        let mut one = Client::of_app(server, "1");
        let mut other = Client::of_app(server, "all");
        one.subscribe("shared");
        other.subscribe("shared");
        api::publish_event(server, "1", "shared", "E", "one");
        api::publish_event(server, "all", "shared", "E", "other");
        let event = |data| format!(r#"{{"event":"E","data":"{data}","channel":"shared"}}"#);
        assert_eq!(one.hear(), event("one"));
        assert_eq!(other.hear(), event("other"));
        one.hears_nothing();
        other.hears_nothing();
    });
}

#[test]
fn r020_with_a_path_everything_lives_under_it() {
    on_every_fleet(|fleet| {
        for path in ["ws", "/ws", "/ws/"] {
            let server = Server::start(fleet, &[("REVERB_SERVER_PATH", path)]);
            let mut client = Client::connect(&server, "/ws/app/key-1");
            client.subscribe("c");
            let get = |target: &str| api::request("GET", target, "", "");
            is_answered(&server, get("/ws/up"), &healthy());
            is_answered(&server, get("/up"), &not_found());
            is_answered(&server, upgrade_head("/app/key-1", ""), &not_found());
            // The signature is over the path without it.
            let body = r#"{"name":"E","channel":"c","data":"x"}"#;
            let target = api::signed_target("1", "POST", "/apps/app-1/events", "", body);
            let publish = api::request("POST", &format!("/ws{target}"), "", body);
            is_answered(&server, publish, &taken());
            assert_eq!(client.hear(), r#"{"event":"E","data":"x","channel":"c"}"#);
        }
    });
}

/// Apps whose key is the first of the pair and whose origins are the second.
const ORIGINS: [(&str, &str); 5] = [
    ("any", r#"["*"]"#),
    ("laravel", r#"["laravel.com"]"#),
    ("below", r#"["*.laravel.com"]"#),
    ("local", r#"["localhost"]"#),
    ("around", r#"["localhost", "*.localhost"]"#),
];

fn app(key: &str, settings: &str) -> String {
    format!("[[apps]]\napp_id = \"{key}\"\nkey = \"{key}\"\nsecret = \"s\"\n{settings}\n")
}

#[test]
fn r021_r022_r025_r026_an_allowed_origin_is_established() {
    let allowed = [
        ("any", ""),
        ("any", "Origin: http://anything.example\r\n"),
        ("any", "Origin: null\r\n"),
        ("laravel", "Origin: http://laravel.com\r\n"),
        ("laravel", "Origin: https://laravel.com\r\n"),
        ("laravel", "Origin: https://laravel.com:8443\r\n"),
        ("below", "Origin: http://a.laravel.com\r\n"),
        ("below", "Origin: https://a.b.laravel.com\r\n"),
        ("local", "Origin: http://localhost\r\n"),
        ("around", "Origin: http://localhost\r\n"),
        ("around", "Origin: http://sub.localhost\r\n"),
    ];
    let file = ORIGINS.map(|(key, origins)| app(key, &format!("allowed_origins = {origins}")));
    on_every_fleet(|fleet| {
        let server = Server::start_with_file(fleet, &file.concat(), &[]);
        for (key, origin) in allowed {
            Client::upgrade(&server, &format!("/app/{key}"), origin).is_established(30);
        }
    });
}

#[test]
fn r023_r024_r025_r027_r028_another_origin_is_an_event_then_close_4009() {
    let foreign = [
        ("laravel", ""),
        ("laravel", "Origin: http://localhost\r\n"),
        ("laravel", "Origin: http://sub.laravel.com\r\n"),
        ("laravel", "Origin: http://LARAVEL.com\r\n"),
        ("laravel", "Origin: null\r\n"),
        ("laravel", "Origin: laravel.com\r\n"),
        ("laravel", "Origin: http://laravel.com.evil.com\r\n"),
        ("below", "Origin: http://laravel.com\r\n"),
        ("local", "Origin: http://sub.localhost\r\n"),
    ];
    let file = ORIGINS.map(|(key, origins)| app(key, &format!("allowed_origins = {origins}")));
    on_every_fleet(|fleet| {
        let server = Server::start_with_file(fleet, &file.concat(), &[]);
        for (key, origin) in foreign {
            is_turned_away(&server, key, origin, 4009, "Origin not allowed");
        }
    });
}

const OVER_QUOTA: &str = "Application is over connection quota";

#[test]
fn r028_r029_r030_every_established_socket_counts_against_the_quota() {
    on_every_server(|server| {
        // The fixture's app takes two, subscribed or not.
        let mut subscribed = Client::of_app(server, "max");
        subscribed.subscribe("c");
        let mut idle = Client::of_app(server, "max");
        for _ in 0..3 {
            is_turned_away(server, "key-max", "", 4004, OVER_QUOTA);
        }
        // A place that is given back can be taken.
        idle.send(Opcode::CLOSE, []);
        idle.hear_frame();
        idle.ends();
        Client::of_app(server, "max").hears_nothing();
        subscribed.hears_nothing();
    });
}

#[test]
fn r031_r032_the_quota_is_looked_at_before_the_origin_and_zero_is_a_quota() {
    let closed = app("closed", "max_connections = 0");
    let both = app(
        "both",
        "max_connections = 0\nallowed_origins = [\"laravel.com\"]",
    );
    let open = app("open", "");
    on_every_fleet(|fleet| {
        let file = format!("{closed}{both}{open}");
        let server = Server::start_with_file(fleet, &file, &[]);
        is_turned_away(&server, "closed", "", 4004, OVER_QUOTA);
        let origin = "Origin: http://evil.test\r\n";
        is_turned_away(&server, "both", origin, 4004, OVER_QUOTA);
        let mut open: Vec<_> = (0..8)
            .map(|_| Client::connect(&server, "/app/open"))
            .collect();
        open.iter_mut().for_each(Client::hears_nothing);
    });
}

#[test]
fn r032_in_the_environment_an_empty_quota_is_none() {
    on_every_fleet(|fleet| {
        for (quota, is_open) in [("", true), ("null", true), ("0", false)] {
            let variables = [
                ("REVERB_APP_ID", "env"),
                ("REVERB_APP_KEY", "env-key"),
                ("REVERB_APP_SECRET", "env-secret"),
                ("REVERB_APP_MAX_CONNECTIONS", quota),
            ];
            let server = Server::start_with(fleet, &["start"], &variables);
            if is_open {
                Client::connect(&server, "/app/env-key").hears_nothing();
            } else {
                is_turned_away(&server, "env-key", "", 4004, OVER_QUOTA);
            }
        }
    });
}

#[test]
fn r034_frames_in_the_same_segment_as_the_handshake_are_processed() {
    let ping = encode(
        Opcode::TEXT,
        true,
        br#"{"event":"pusher:ping"}"#,
        Some([1, 2, 3, 4]),
    );
    let subscribe = encode(
        Opcode::TEXT,
        true,
        br#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#,
        Some([0; 4]),
    );
    let bytes = [upgrade_head(TARGET, "").into_bytes(), ping, subscribe].concat();
    on_every_server(|server| {
        // In one segment, then in small ones that cut the head and the frames.
        for size in [bytes.len(), 40, 7] {
            let mut client = Client::open(server);
            for piece in bytes.chunks(size) {
                client.raw(piece);
            }
            assert_eq!(client.head(), ACCEPTED);
            client.is_established(30);
            assert_eq!(client.hear(), PONG);
            assert_eq!(client.hear(), subscribed("c"));
        }
    });
}
