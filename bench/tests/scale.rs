//! The command `scale` in small: a few servers on one port, one Redis, a few thousand sockets.
//!
//! Runs both binaries; that of the server is built if it is not there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_slapback-bench");
const SOCKETS: u64 = 3000;
const SERVERS: usize = 3;

/// What a run wrote.
struct Written {
    text: String,
    scale: Value,
}

#[test]
fn every_socket_of_several_servers_answers_pings_and_has_each_event_once() {
    for driver in ["uring", "epoll"] {
        let written = run(driver);
        let wrong = "lost 0, doubled 0, reordered 0, closed 0";
        assert!(written.text.contains(wrong), "{}", written.text);
        let scale = &written.scale;
        assert_eq!(
            (&scale["driver"], &scale["exact"]),
            (&driver.into(), &true.into())
        );
        let shares = scale["servers_files"].as_array().unwrap();
        assert_eq!(shares.len(), SERVERS);
        let files: u64 = shares.iter().map(|files| files.as_u64().unwrap()).sum();
        assert!(files > SOCKETS, "{files} files");
        assert!(scale["pings"]["least"].as_u64().unwrap() >= 1);
        for event in scale["events"].as_array().unwrap() {
            assert_eq!(event["frames"], SOCKETS);
            let latency = |name: &str| event["latency_ms"][name].as_f64().unwrap();
            assert!(latency("first") <= latency("p50") && latency("p50") <= latency("last"));
        }
        let held = |at: usize| scale["memory"][at]["servers"]["pss"].as_u64().unwrap();
        assert!(held(1) > held(0));
    }
}

fn run(driver: &str) -> Written {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("scale-{driver}"));
    // What an earlier run left.
    let _ = fs::remove_dir_all(&out);
    let run = Command::new(BENCH)
        .args(["scale", "--ping-interval", "1", "--driver", driver])
        .args([
            "--sockets",
            &SOCKETS.to_string(),
            "--servers",
            &SERVERS.to_string(),
        ])
        .arg("--server")
        .arg(server())
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{why}");
    let read = |extension| fs::read_to_string(only_file(&out, extension)).unwrap();
    let mut report: Value = serde_json::from_str(&read("json")).unwrap();
    Written {
        text: read("txt"),
        scale: report["scale"].take(),
    }
}

fn only_file(folder: &Path, extension: &str) -> PathBuf {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut files = files.filter(|file| file.extension().is_some_and(|found| found == extension));
    let file = files.next().unwrap();
    assert_eq!(files.next(), None);
    file
}

/// The server, beside the bench.
fn server() -> PathBuf {
    let server = Path::new(BENCH).with_file_name("slapback");
    if !server.is_file() {
        let build = Command::new(env!("CARGO"))
            .args(["build", "--locked", "-p", "slapback"])
            .status();
        assert!(build.unwrap().success());
    }
    server
}
