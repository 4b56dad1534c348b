//! Laravel's redis broadcaster on a real Redis, and a server that listens to it.
#![allow(dead_code, unreachable_pub)] // each test crate uses its part of it
#![allow(clippy::unwrap_used)]

use crate::harness::{Fleet, Redis, Server, on_every_fleet};

/// What Laravel puts before each channel when nothing else is said: of Laravel 11 and 12, of 13.
pub const PREFIXES: [&str; 2] = ["laravel_database_", "laravel-database-"];

/// The server hears Redis.
pub const WORKS: &str = "redis: ingest works";

/// A server of the fixture's apps that takes events of app-1 from this Redis, if it gets in.
pub fn start(fleet: Fleet, redis: &Redis, environment: &[(&str, &str)]) -> Server {
    let port = redis.port.to_string();
    let environment = [
        &[
            ("SLAPBACK_REDIS_INGEST", "true"),
            ("SLAPBACK_REDIS_INGEST_APP_ID", "app-1"),
            ("REDIS_PORT", &port),
        ],
        environment,
    ]
    .concat();
    Server::start(fleet, &environment)
}

/// The same once it has got in.
pub fn listening(fleet: Fleet, redis: &Redis, environment: &[(&str, &str)]) -> Server {
    let server = start(fleet, redis, environment);
    server.says(WORKS);
    server
}

/// Runs a test on every fleet, each with a Redis of its own.
pub fn on_every_ingest(test: impl Fn(&Server, &Redis) + Sync) {
    on_every_fleet(|fleet| {
        let redis = Redis::start();
        test(&listening(fleet, &redis, &[]), &redis);
    });
}

/// What Laravel publishes, of an event with these members.
pub fn payload(event: &str, data: &str, socket: &str) -> String {
    format!(r#"{{"event":"{event}","data":{data},"socket":{socket}}}"#)
}

/// Publishes one event on a channel of app-1.
pub fn publish(redis: &Redis, channel: &str, payload: &str) {
    let subscribers = redis
        .client()
        .publish(&format!("{}{channel}", PREFIXES[0]), payload);
    assert_eq!(subscribers, 1);
}
