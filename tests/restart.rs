//! `restart` and `reverb:restart`: finding the server that runs here, and whom it listens to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use harness::{Client, FLEETS, Server, directory, on_every_fleet};

mod harness;

const BROADCAST: &str = "\n   INFO  Broadcasting Reverb restart signal.\n\n";

/// What a command said and how it left.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(mut command: Command, arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let output = command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn slapback(arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slapback"));
    command.current_dir(env!("CARGO_TARGET_TMPDIR"));
    run(command, arguments, environment)
}

fn asked() -> Outcome {
    said(0, BROADCAST, "")
}

#[test]
fn the_server_on_the_port_drains_and_exits_0_and_no_other() {
    on_every_fleet(|fleet| {
        let spellings: [&[&str]; 3] = [
            &["restart"],
            &["reverb:restart"],
            &["php", "artisan", "reverb:restart", "--no-interaction"],
        ];
        let mut other = Server::start(fleet, &[]);
        for spelling in spellings {
            let mut server = Server::start(fleet, &[]);
            let mut client = Client::of_app(&server, "1");
            let port = server.port.to_string();
            assert_eq!(
                slapback(spelling, &[("REVERB_SERVER_PORT", &port)]),
                asked()
            );
            client.is_closed_with(4100, "Server is restarting");
            assert_eq!(server.exit_status().code(), Some(0));
            server.says("Gracefully terminating connections.");
        }
        let port = format!("--port={}", other.port);
        Client::of_app(&other, "1").hears_nothing();
        assert_eq!(slapback(&["restart", &port], &[]), asked());
        assert_eq!(other.exit_status().code(), Some(0));
    });
}

#[test]
fn servers_that_share_a_port_are_all_asked() {
    on_every_fleet(|fleet| {
        let shared = ("SLAPBACK_REUSE_PORT", "true");
        let mut first = Server::start(fleet, &[shared]);
        let port = first.port.to_string();
        let mut second = Server::start(fleet, &[shared, ("REVERB_SERVER_PORT", &port)]);
        assert_eq!(slapback(&["restart", "--port", &port], &[]), asked());
        for server in [&mut first, &mut second] {
            assert_eq!(server.exit_status().code(), Some(0));
        }
    });
}

/// A second signal would end the drain at once; a second restart does not.
#[test]
fn a_second_restart_leaves_the_drain_alone() {
    on_every_fleet(|fleet| {
        let mut server = Server::start(fleet, &[("SLAPBACK_DRAIN_DELAY", "1")]);
        let mut client = Client::of_app(&server, "1");
        let port = server.port.to_string();
        for _ in 0..3 {
            assert_eq!(slapback(&["restart", "--port", &port], &[]), asked());
        }
        client.is_closed_with(4100, "Server is restarting");
        assert_eq!(server.exit_status().code(), Some(0));
    });
}

/// Runs a script where no other server is, in a network namespace of its own. In it `start FIFO
/// FLAGS…` runs a server in the background and returns when it listens.
fn alone(script: &str, environment: &[(&str, &str)]) -> Outcome {
    const PRELUDE: &str = r#"
        slapback="$1"
        servers=""
        trap 'kill $servers 2>/dev/null || true' EXIT
        start() {
            log="$1"; shift
            rm -f "$log"; mkfifo "$log"
            $wrapper "$slapback" start "$@" > "$log" &
            server=$!
            servers="$servers $server"
            exec 3< "$log"
            while read -r line <&3; do
                case "$line" in *"Starting server on"*) break;; esac
            done
            cat <&3 > /dev/null &
        }
    "#;
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-euc"]);
    command.current_dir(directory("restart"));
    let script = format!("{PRELUDE}\n{script}");
    let app = [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("wrapper", ""),
        ("SLAPBACK_DRIVER", "epoll"),
        ("REVERB_APP_ID", "a"),
        ("REVERB_APP_KEY", "k"),
        ("REVERB_APP_SECRET", "s"),
    ];
    let arguments = [&script, "sh", env!("CARGO_BIN_EXE_slapback")];
    run(command, &arguments, &[&app, environment].concat())
}

fn said(code: i32, out: &str, err: &str) -> Outcome {
    Outcome {
        code: Some(code),
        out: out.to_owned(),
        err: err.to_owned(),
    }
}

#[test]
fn without_a_server_restart_fails_and_reverbs_spelling_does_not() {
    let nobody = "slapback: no server runs here\n";
    let ours = alone(r#""$slapback" restart"#, &[]);
    assert_eq!(ours, said(1, "", nobody));
    let reverbs = alone(r#""$slapback" artisan reverb:restart"#, &[]);
    assert_eq!(reverbs, said(0, BROADCAST, nobody));
}

#[test]
fn the_only_server_is_meant_if_nobody_says_a_port() {
    let script = r#"start only --port=8099; "$slapback" restart; wait $server"#;
    assert_eq!(alone(script, &[]), said(0, BROADCAST, ""));
}

#[test]
fn a_port_that_is_said_means_no_other_server() {
    let script = r#"
        start said --port=8099
        "$slapback" restart && exit 99
        "$slapback" restart --port=8099; wait $server
    "#;
    let outcome = alone(script, &[("REVERB_SERVER_PORT", "8098")]);
    let nobody = "slapback: no server runs on port 8098; --port names another: 8099\n";
    assert_eq!(outcome, said(0, BROADCAST, nobody));
}

#[test]
fn of_several_servers_none_is_guessed() {
    let script = r#"
        start first --port=8097; first=$server
        start second --port=8099; second=$server
        "$slapback" reverb:restart
        "$slapback" restart --port=8097; wait $first
        "$slapback" restart; wait $second
    "#;
    let nobody = "slapback: no server runs on port 8080; --port names another: 8097, 8099\n";
    assert_eq!(alone(script, &[]), said(0, &BROADCAST.repeat(3), nobody));
}

/// As in a container whose file system is read-only: no file is needed, and no process id.
#[test]
fn a_server_that_is_process_1_is_found_without_a_file() {
    let script = r#"start one --port=8099; "$slapback" restart; wait $server"#;
    let wrapper = ("wrapper", "unshare --pid --fork --kill-child");
    assert_eq!(alone(script, &[wrapper]), said(0, BROADCAST, ""));
}

#[test]
fn a_connection_that_says_something_else_stops_nothing() {
    on_every_fleet(|fleet| {
        let server = Server::start(fleet, &[]);
        let mut socket = harness::restart_door(server.port);
        socket.write_all(b"restart?").unwrap();
        let mut said = Vec::new();
        socket.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"");
        drop(harness::restart_door(server.port));
        Client::of_app(&server, "1").hears_nothing();
    });
}

#[test]
#[ignore = "only root may become another user: part of make test-slow"]
fn another_user_is_refused() {
    let server = Server::start(FLEETS[0], &[]);
    let port = server.port;
    let stranger = move || {
        // Of this thread alone.
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let mut socket = harness::restart_door(port);
        let mut said = Vec::new();
        socket.read_to_end(&mut said).unwrap();
        said
    };
    let said = std::thread::spawn(stranger).join().unwrap();
    assert_eq!(said, b"refused\n");
    Client::of_app(&server, "1").hears_nothing();
}
