//! Laravel's redis broadcaster on a real Redis, and a server that listens to it.
#![allow(dead_code, unreachable_pub)] // each test crate uses its part of it
#![allow(clippy::unwrap_used)]

use crate::channels::escaped;
use crate::harness::{Fleet, Redis, Server, on_every_fleet};

/// What Laravel puts before each channel when nothing else is said: of Laravel 11 and 12, of 13.
pub const PREFIXES: [&str; 2] = ["laravel_database_", "laravel-database-"];

/// The server hears Redis.
pub const WORKS: &str = "redis: ingest works";

/// A server of the fixture's apps that takes events of app-1 from this Redis.
pub fn listening(fleet: Fleet, redis: &Redis, environment: &[(&str, &str)]) -> Server {
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
    let server = Server::start(fleet, &environment);
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

/// What a subscriber hears of it: `data` is JSON.
pub fn heard(event: &str, data: &str, channel: &str) -> String {
    let data = escaped(data);
    format!(r#"{{"event":"{event}","data":"{data}","channel":"{channel}"}}"#)
}

/// Publishes one event on a channel of app-1.
pub fn publish(redis: &Redis, channel: &str, payload: &str) {
    let subscribers = redis
        .client()
        .publish(&format!("{}{channel}", PREFIXES[0]), payload);
    assert_eq!(subscribers, 1);
}
