//! What is kept in `fuzz/corpus/`, played by the fuzz targets' own code: found once, right ever
//! after. The fuzzing itself is `make fuzz`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use slapback::metrics::Counter;

#[allow(
    unreachable_pub,
    reason = "the fuzz targets call them from another crate"
)]
#[path = "../fuzz/src/lib.rs"]
mod targets;

const FILES_MAX: usize = 40;
const FILE_BYTES_MAX: usize = 4096;

#[test]
fn http_requests_are_read_the_same_however_they_are_cut() {
    replay("http", targets::http::run);
}

#[test]
fn frames_are_read_the_same_however_they_are_cut() {
    replay("frame", targets::frame::run);
}

#[test]
fn client_messages_are_taken_and_passed_on_as_json() {
    replay("client_event", targets::client_event::run);
}

#[test]
fn queries_are_signed_as_a_plain_reading_has_them() {
    replay("query", targets::query::run);
}

#[test]
fn api_calls_publish_what_another_reader_finds_in_them() {
    replay("api", targets::api::run);
}

#[test]
fn messages_of_the_bus_are_heard_on_the_channels_they_name() {
    replay("bus", targets::bus::run);
}

#[test]
fn environment_files_are_read_again_as_they_were_read() {
    replay("dotenv", targets::dotenv::run);
}

#[test]
fn configuration_files_are_accepted_whole_or_refused_at_a_line() {
    replay("config", targets::config::run);
}

#[test]
fn what_redis_says_is_read_the_same_however_it_is_cut() {
    replay("resp", targets::resp::run);
}

#[test]
fn messages_of_laravels_redis_broadcaster_are_what_another_reader_finds_in_them() {
    replay("laravel", targets::laravel::run);
}

#[test]
fn scripts_leave_every_socket_told_and_nothing_behind() {
    let mut counted: Vec<(Counter, u64)> = EXPECTED.iter().map(|&counter| (counter, 0)).collect();
    replay("session", |script| {
        for metrics in targets::session::run(script) {
            for (counter, count) in &mut counted {
                *count += metrics.get(*counter);
            }
        }
    });
    counted.retain(|(_, count)| *count == 0);
    assert!(counted.is_empty(), "no script brings about {counted:?}");
}

#[test]
fn every_target_is_built_and_replayed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    let targets = fs::read_dir(root.join("fuzz/fuzz_targets")).unwrap();
    for target in targets {
        let path = target.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        assert!(
            include_str!("corpora.rs").contains(&format!("replay(\"{name}\"")),
            "{name}"
        );
    }
}

/// What the scripts in the corpus bring about together.
const EXPECTED: [Counter; 19] = [
    Counter::Established,
    Counter::RefusedAppUnknown,
    Counter::RefusedQuota,
    Counter::RefusedNodeFull,
    Counter::RefusedDraining,
    Counter::RefusedHandshake,
    Counter::ApiAnswered,
    Counter::ApiRefused,
    Counter::ApiOverloaded,
    Counter::WhisperOverloaded,
    Counter::RateLimited,
    Counter::FrameViolation,
    Counter::Pruned,
    Counter::HttpTimeout,
    Counter::Delivered,
    Counter::BacklogBytes,
    Counter::BacklogSeconds,
    Counter::BacklogTotal,
    Counter::Reset,
];

/// Runs a target over its corpus, and names the file that it fails on.
fn replay(target: &str, mut run: impl FnMut(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root.join("fuzz/corpus").join(target)).unwrap();
    let mut count = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        assert!(
            input.len() <= FILE_BYTES_MAX,
            "{} is too long",
            path.display()
        );
        let ran = catch_unwind(AssertUnwindSafe(|| run(&input)));
        assert!(ran.is_ok(), "{target} fails on {}", path.display());
        count += 1;
    }
    assert!(
        (1..=FILES_MAX).contains(&count),
        "{target} keeps {count} files"
    );
}
