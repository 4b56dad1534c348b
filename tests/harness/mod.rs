//! The real binary over real sockets: what every socket test stands on.
//!
//! A test runs on every fleet; in it, a [`Server`] is a child process on a port of its own, a
//! [`Client`] is one TCP connection to it that speaks raw bytes, and [`api`] signs and publishes.
//! All that is awaited has a deadline; what must not come is fenced by a pong, never by a sleep.
#![allow(dead_code, unreachable_pub, unused_imports)] // each test crate uses its part of it
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs};

pub use alone::alone;
pub use certificate::Certificate;
pub use client::{ACCEPTED, Client, Frame, Opcode, close_payload, encode, upgrade_head};
pub use php::PhpNode;
pub use redis::{Redis, RedisClient, free_port};
pub use server::{Server, restart_door};

mod alone;
pub mod api;
mod apps;
mod certificate;
mod client;
mod php;
mod redis;
mod server;

/// How long anything may take to come. Only a failing test waits as long, or a starved machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The answer to `pusher:ping`.
pub const PONG: &str = r#"{"event":"pusher:pong"}"#;

/// A shape of the server: threads and driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fleet {
    pub shards: u16,
    /// `uring` or `epoll`, as `SLAPBACK_DRIVER` spells them.
    pub driver: &'static str,
}

impl fmt::Display for Fleet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} shards, {}", self.shards, self.driver)
    }
}

const fn fleet(shards: u16, driver: &'static str) -> Fleet {
    Fleet { shards, driver }
}

/// Every shape that must show the same behaviour.
pub const FLEETS: [Fleet; 6] = [
    fleet(1, "uring"),
    fleet(2, "uring"),
    fleet(4, "uring"),
    fleet(1, "epoll"),
    fleet(2, "epoll"),
    fleet(4, "epoll"),
];

/// Runs `test` on every fleet, three at a time, each in a thread that bears the fleet's name, so
/// that a panic says where it happened.
pub fn on_every_fleet(test: impl Fn(Fleet) + Sync) {
    let test = &test;
    let mut failed = Vec::new();
    for fleets in FLEETS.chunks(3) {
        std::thread::scope(|scope| {
            let run = |&fleet: &Fleet| {
                let thread = std::thread::Builder::new().name(fleet.to_string());
                let running = thread.spawn_scoped(scope, move || test(fleet)).unwrap();
                (fleet, running)
            };
            let running: Vec<_> = fleets.iter().map(run).collect();
            for (fleet, running) in running {
                if running.join().is_err() {
                    failed.push(fleet.to_string());
                }
            }
        });
    }
    assert!(failed.is_empty(), "failed on: {}", failed.join("; "));
}

/// Starts a server with the fixture's apps on every fleet and runs `test` against it.
pub fn on_every_server(test: impl Fn(&Server) + Sync) {
    on_every_fleet(|fleet| test(&Server::start(fleet, &[])));
}

/// A directory of a test's own.
pub fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// What the server says when it refuses something, as the text of its frame.
pub fn error(code: u16, message: &str) -> String {
    format!(r#"{{"event":"pusher:error","data":"{{\"code\":{code},\"message\":\"{message}\"}}"}}"#)
}

/// The error for a message that cannot be read.
pub fn invalid_message() -> String {
    error(4200, "Invalid message format")
}

/// The acknowledgement of a subscription to a channel that is not a presence channel.
pub fn subscribed(channel: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","data":"{{}}","channel":"{channel}"}}"#
    )
}
