//! Where `io_uring` is forbidden, as in many containers, the server runs on epoll and says why.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use harness::{Client, Server, api};

mod harness;

/// Runs a command of the server behind a filter that refuses `io_uring`.
fn run(what: &str, driver: &str) -> Server {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/forbidden/without_io_uring.py"
    );
    let mut command = Command::new("python3");
    command.arg(script);
    let path = std::env::var("PATH").unwrap();
    let environment = [
        ("PATH", path.as_str()),
        ("SLAPBACK_DRIVER", driver),
        ("REVERB_SERVER_HOST", "127.0.0.1"),
        ("REVERB_SERVER_PORT", "0"),
        ("REVERB_APP_ID", "app-1"),
        ("REVERB_APP_KEY", "key-1"),
        ("REVERB_APP_SECRET", "secret-1"),
    ];
    Server::launch_by(command, &[what], &environment)
}

#[test]
fn auto_serves_on_epoll_and_says_how_to_allow_io_uring() {
    let mut server = run("start", "auto");
    server.listens();
    let line = server.says("driver: ");
    assert!(
        line.contains(
            "driver: epoll (io_uring is not available here (Operation not permitted (os error 1)); \
             to allow io_uring in a container, permit io_uring_setup, io_uring_enter and \
             io_uring_register in its seccomp profile)"
        ),
        "{line}"
    );
    let mut client = Client::of_app(&server, "1");
    client.subscribe("news");
    api::publish_event(&server, "1", "news", "E", "x");
    assert_eq!(
        client.hear(),
        r#"{"event":"E","data":"x","channel":"news"}"#
    );
    drop(client);
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn who_asks_for_io_uring_alone_gets_exit_70_and_check_says_so() {
    let refusal = "slapback: io_uring is not available here (Operation not permitted (os error 1))";
    for what in ["start", "check"] {
        let mut server = run(what, "uring");
        server.says(refusal);
        assert_eq!(server.exit_status().code(), Some(70), "{what}");
    }
}

#[test]
fn check_says_why_io_uring_does_not_work_and_how_to_allow_it() {
    let mut server = run("check", "auto");
    let line = server.says("io_uring  ");
    let words: Vec<_> = line.split_whitespace().collect();
    let why = "io_uring does not work io_uring is not available here (Operation not permitted (os error 1))";
    assert_eq!(words.join(" "), why);
    server.says("to allow io_uring in a container, permit io_uring_setup");
    assert_eq!(server.exit_status().code(), Some(0));
}
