//! Why a call or a handshake was refused stands in the log, without secrets, and never floods it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use harness::{Client, Server, api, on_every_server};

mod harness;

/// The part of a log line behind its time and level.
fn line(server: &Server, reason: &str) -> String {
    let line = server.says(reason);
    let at = line.find("refused: ").unwrap();
    line[at..].to_owned()
}

#[test]
fn a_refused_call_is_logged_with_app_path_reason_and_size() {
    on_every_server(|server| {
        let body = r#"{"name":"E","channel":"c","data":"x"}"#;
        let late = api::signed_target_at(1, "1", "POST", "/apps/app-1/events", "", body);
        let answer = api::call(server, &api::request("POST", &late, "", body));
        assert_eq!(answer.status, 401);
        let logged = line(server, "s are tolerated");
        assert!(
            logged.starts_with("refused: auth_timestamp is "),
            "{logged}"
        );
        for field in [
            "s off, 600 s are tolerated",
            "code=401",
            r#"app="app-1""#,
            r#"path="/apps/app-1/events""#,
            "size=37",
        ] {
            assert!(logged.contains(field), "{field} is missing: {logged}");
        }
        assert!(!server.said().contains("secret-1"));
        assert!(!server.said().contains("auth_signature"));
    });
}

#[test]
fn a_refused_handshake_is_logged_with_its_code() {
    on_every_server(|server| {
        let mut client = Client::upgrade(server, "/app/nobodys-key", "");
        client.hear();
        let logged = line(server, "Application does not exist");
        for field in [
            "code=4001",
            r#"app="nobodys-key""#,
            r#"path="/app/nobodys-key""#,
        ] {
            assert!(logged.contains(field), "{field} is missing: {logged}");
        }
    });
}

#[test]
fn many_refusals_are_ten_lines_and_a_count() {
    on_every_server(|server| {
        let mut client = Client::open(server);
        for _ in 0..200 {
            client.raw("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.answer().status, 404);
        }
        let lines = |text: &str| {
            text.lines()
                .filter(|line| line.contains("refused: "))
                .count()
        };
        let begun = std::time::Instant::now();
        while !server.said().contains("refusals not logged") {
            client.raw("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.answer().status, 404);
            assert!(begun.elapsed() < harness::DEADLINE, "no count was logged");
        }
        let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
        let logged = lines(&server.said());
        assert!(
            (10..=10 * (seconds + 3)).contains(&logged),
            "{logged} lines in {seconds} s"
        );
    });
}
