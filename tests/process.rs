//! The process: what starts it, where it listens, what stops it (R-246, R-248, R-249).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use harness::{Client, FLEETS, Fleet, Opcode, Server, api, directory, on_every_fleet};
use rustix::process::Signal;

mod harness;

/// An app from the environment, on a free port of 127.0.0.1.
const APP: [(&str, &str); 5] = [
    ("REVERB_SERVER_HOST", "127.0.0.1"),
    ("REVERB_SERVER_PORT", "0"),
    ("REVERB_APP_ID", "env"),
    ("REVERB_APP_KEY", "env-key"),
    ("REVERB_APP_SECRET", "env-secret"),
];

#[test]
fn r246_it_listens_where_it_is_told_and_nowhere_else() {
    on_every_fleet(|fleet| {
        let server = Server::start(fleet, &[("REVERB_SERVER_HOST", "127.0.0.2")]);
        TcpStream::connect(("127.0.0.2", server.port)).unwrap();
        TcpStream::connect(("127.0.0.1", server.port)).unwrap_err();
        let named = Server::start(fleet, &[("REVERB_SERVER_HOST", "localhost")]);
        Client::of_app(&named, "1").hears_nothing();
    });
}

#[test]
fn r246_a_second_start_on_a_taken_port_exits_1_with_one_line() {
    on_every_fleet(|fleet| {
        let first = Server::start(fleet, &[]);
        let port = first.port.to_string();
        let taken = [APP.as_slice(), &[("REVERB_SERVER_PORT", &port)]].concat();
        let mut second = Server::launch(&["start"], &taken);
        assert_eq!(second.exit_status().code(), Some(1));
        assert_eq!(
            second.said(),
            format!(
                "slapback: cannot listen on 127.0.0.1:{port}: Address already in use (os error 98)"
            )
        );
        Client::of_app(&first, "1").hears_nothing();
    });
}

#[test]
fn r246_a_port_is_shared_only_on_purpose() {
    on_every_fleet(|fleet| {
        let shared = ("SLAPBACK_REUSE_PORT", "true");
        let first = Server::start(fleet, &[shared]);
        let port = first.port.to_string();
        let second = Server::start(fleet, &[shared, ("REVERB_SERVER_PORT", &port)]);
        assert_eq!(second.port, first.port);
        Client::of_app(&second, "1").hears_nothing();
    });
}

#[test]
fn r248_flags_count_more_than_the_environment_and_the_banner_tells() {
    let variables = [
        ("REVERB_SERVER_HOST", "192.0.2.1"),
        ("REVERB_SERVER_PORT", "1"),
        ("REVERB_SERVER_PATH", "environment"),
        ("REVERB_HOST", "environment.example"),
    ];
    let flags = ["--host=127.0.0.1", "--port=0", "--path=/flag"];
    let spellings: [&[&str]; 3] = [
        &["start"],
        &["reverb:start"],
        &["php", "artisan", "reverb:start"],
    ];
    for spelling in spellings {
        for (hostname, shown) in [("ws.example", " (ws.example)"), ("127.0.0.1", "")] {
            let hostname = format!("--hostname={hostname}");
            let arguments = [spelling, &flags, &[&hostname]].concat();
            let mut server = Server::launch(&arguments, &[&APP[..], &variables].concat());
            let banner = server.listens();
            let port = server.port;
            assert_eq!(
                banner,
                format!("   INFO  Starting server on 127.0.0.1:{port}/flag{shown}.")
            );
            Client::connect(&server, "/flag/app/env-key").hears_nothing();
        }
    }
}

#[test]
fn r248_the_file_counts_more_than_the_environment_and_that_more_than_dotenv() {
    let directory = directory("precedence");
    let dotenv = "REVERB_SERVER_PATH=dotenv\nREVERB_HOST=dotenv.example\nREVERB_APP_ID=1\n\
                  REVERB_APP_KEY=k\nREVERB_APP_SECRET=s\n";
    fs::write(directory.join(".env"), dotenv).unwrap();
    let banner = |arguments: &[&str], variables: &[(&str, &str)]| {
        let address = [("REVERB_SERVER_PORT", "0")];
        let variables = [&address, variables].concat();
        let mut server = Server::launch_in(&directory, arguments, &variables);
        let banner = server.listens();
        banner.replace(&server.port.to_string(), "PORT")
    };
    let said = |what: &str| format!("   INFO  Starting server on 0.0.0.0:PORT{what}.");
    assert_eq!(banner(&["start"], &[]), said("/dotenv (dotenv.example)"));
    let path = [("REVERB_SERVER_PATH", "environment")];
    assert_eq!(
        banner(&["start"], &path),
        said("/environment (dotenv.example)")
    );
    let file = "[server]\npath = \"file\"\n[[apps]]\napp_id = \"1\"\nkey = \"k\"\nsecret = \"s\"\n";
    fs::write(directory.join("slapback.toml"), file).unwrap();
    let with_file = ["start", "--config", "slapback.toml"];
    assert_eq!(banner(&with_file, &path), said("/file (dotenv.example)"));
}

#[test]
fn r249_scaling_is_on_as_php_casts_it() {
    let is = |value: &str| {
        let variables = [&APP[..], &[("REVERB_SCALING_ENABLED", value)]].concat();
        let mut check = Server::launch(&["check"], &variables);
        assert_eq!(check.exit_status().code(), Some(0));
        let line = check.says("REVERB_SCALING_ENABLED");
        line.split_whitespace().nth(1).map(str::to_owned)
    };
    for value in ["on", "1", "true", "(true)", "yes"] {
        assert_eq!(is(value).as_deref(), Some("true"), "{value:?}");
    }
    for value in ["false", "0", "", "null"] {
        assert_eq!(is(value).as_deref(), Some("false"), "{value:?}");
    }
}

#[test]
fn a_missing_app_exits_2_and_names_the_three_variables() {
    let names = ["REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET"];
    let missing = |variables: &[(&str, &str)]| {
        let mut server = Server::launch(&["start"], variables);
        assert_eq!(server.exit_status().code(), Some(2));
        server.said()
    };
    let said = missing(&[]);
    assert!(names.iter().all(|name| said.contains(name)), "{said}");
    let said = missing(&[("REVERB_APP_ID", "1"), ("REVERB_APP_KEY", "null")]);
    assert_eq!(
        said,
        "slapback: the app is incomplete: REVERB_APP_KEY and REVERB_APP_SECRET must be set too"
    );
}

#[test]
fn exit_codes_do_not_depend_on_whether_anybody_reads() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let code = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slapback"));
        command.args(arguments).env_clear();
        command.envs(variables.iter().copied());
        command.stdout(full()).stderr(full());
        command.status().unwrap().code()
    };
    let fleet = FLEETS[0];
    let server = Server::start(fleet, &[]);
    let port = format!("--port={}", server.port);
    assert_eq!(code(&["health", &port], &[]), Some(0));
    assert_eq!(code(&["check"], &APP), Some(0));
    assert_eq!(code(&["check"], &[]), Some(2));
    assert_eq!(code(&["start"], &[]), Some(2));
    assert_eq!(code(&["start", &port], &APP), Some(1));
    let port = format!("--port={}", free_port(fleet));
    assert_eq!(code(&["health", &port], &[]), Some(1));
}

#[test]
fn after_any_end_the_next_start_binds_at_once() {
    on_every_fleet(|fleet| {
        let port = free_port(fleet).to_string();
        let environment = [("REVERB_SERVER_PORT", port.as_str())];
        for round in 0..40 {
            let mut server = Server::start(fleet, &environment);
            let mut client = Client::of_app(&server, "1");
            let up = api::call(&server, &api::request("GET", "/up", "", ""));
            assert_eq!(up.status, 200);
            if round % 2 == 0 {
                server.signal(Signal::TERM);
                client.is_closed_with(4100, "Server is restarting");
                assert_eq!(server.exit_status().code(), Some(0), "round {round}");
            } else {
                server.signal(Signal::KILL);
                assert_eq!(server.exit_status().code(), None, "round {round}");
            }
        }
    });
}

/// A port that no outgoing connection takes by chance: below those that Linux gives out.
fn free_port(fleet: Fleet) -> u16 {
    let place = FLEETS.iter().position(|&other| other == fleet).unwrap();
    let first = std::process::id() as usize * FLEETS.len() + place;
    (0..1_000)
        .map(|step| u16::try_from(10_000 + (first + step * FLEETS.len()) % 20_000).unwrap())
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .unwrap()
}

#[test]
fn with_too_few_files_it_says_so_instead_of_serving_nobody() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"]);
    let mut server = Server::launch_by(
        command,
        &["start"],
        &[APP.as_slice(), &[("SLAPBACK_SHARDS", "1")]].concat(),
    );
    server.says("slapback: 64 open files are too few: 176 are needed (ulimit -n)");
    assert_eq!(server.exit_status().code(), Some(2));
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_slapback"))
        .args(["start", "--debug"])
        .env_clear()
        .envs(APP)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map(Ended)
        .unwrap();
    let mut log = BufReader::new(child.0.stdout.take().unwrap());
    let port: u16 = loop {
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        if let Some((_, address)) = line.split_once("127.0.0.1:") {
            break address.trim_end().trim_end_matches('.').parse().unwrap();
        }
    };
    // From here on nobody reads. A pipe holds 64 KiB; these messages are a megabyte of log.
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    let head = harness::upgrade_head("/app/env-key", "");
    let ping = harness::encode(
        Opcode::TEXT,
        true,
        br#"{"event":"pusher:ping"}"#,
        Some([1; 4]),
    );
    socket
        .write_all(&[head.as_bytes(), &ping.repeat(3000)].concat())
        .unwrap();
    let (mut answers, mut bytes) = (Vec::new(), [0; 4096]);
    while answers
        .windows(11)
        .filter(|part| part == b"pusher:pong")
        .count()
        < 3000
    {
        let count = socket.read(&mut bytes).unwrap();
        assert!(count > 0, "the connection ended");
        answers.extend_from_slice(&bytes[..count]);
    }
}

/// A child that is gone when this is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
