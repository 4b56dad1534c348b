//! Two publishes, one after the other, each on a connection of its own as Laravel does it: no
//! subscriber on any shard hears the second first.
//!
//! Meanwhile others whisper without pause, so that the rings between the shards are never empty
//! and an event that could overtake another would.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use channels::enter;
use harness::{Client, Fleet, PONG, Server, api};

mod channels;
mod harness;

/// Enough for every shard to hold some.
const SUBSCRIBERS: usize = 8;
const PUBLISHERS: usize = 4;
const WHISPERERS: usize = 4;

const PING: &str = r#"{"event":"pusher:ping"}"#;

/// Whispers that one whisperer has on their way at a time.
const WHISPERS: usize = 8;

#[test]
fn ten_thousand_pairs_are_never_reversed_with_io_uring() {
    publish_pairs("uring", 10_000);
}

#[test]
fn ten_thousand_pairs_are_never_reversed_with_epoll() {
    publish_pairs("epoll", 10_000);
}

#[test]
#[ignore = "minutes: in make test-slow"]
fn a_hundred_thousand_pairs_are_never_reversed_with_io_uring() {
    publish_pairs("uring", 100_000);
}

#[test]
#[ignore = "minutes: in make test-slow"]
fn a_hundred_thousand_pairs_are_never_reversed_with_epoll() {
    publish_pairs("epoll", 100_000);
}

fn publish_pairs(driver: &'static str, pairs: usize) {
    let server = Server::start(Fleet { shards: 4, driver }, &[]);
    let subscriber = || {
        let mut client = Client::of_app(&server, "1");
        client.subscribe("orders");
        client
    };
    let subscribers: Vec<Client> = (0..SUBSCRIBERS).map(|_| subscriber()).collect();
    let events = 2 * pairs / PUBLISHERS;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let listen = |client| scope.spawn(move || hears_each_in_order(client, events));
        let listening: Vec<_> = subscribers.into_iter().map(listen).collect();
        for _ in 0..WHISPERERS {
            scope.spawn(|| whisper_until(&server, &is_over));
        }
        let publishing: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let server = &server;
                scope.spawn(move || publish(server, publisher, events))
            })
            .collect();
        let threads = publishing.into_iter().chain(listening);
        let failed = threads.filter_map(|thread| thread.join().err()).count();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(failed, 0, "threads failed");
    });
}

/// Publishes one event behind the other, each once the one before it was answered.
fn publish(server: &Server, publisher: usize, events: usize) {
    for number in 0..events {
        let data = format!("{publisher}-{number}");
        api::publish_event(server, "1", "orders", "e", &data);
    }
}

/// Hears every event of every publisher once, and those of each in the order published.
fn hears_each_in_order(mut client: Client, events: usize) {
    let mut next = [0; PUBLISHERS];
    while next.iter().any(|&next| next < events) {
        let heard = client.hear();
        if heard == PING {
            // Long runs only: it has said nothing for a minute.
            client.say(r#"{"event":"pusher:pong"}"#);
            continue;
        }
        let is_next = |publisher: &usize| {
            let data = format!("{publisher}-{}", next[*publisher]);
            heard == format!(r#"{{"event":"e","data":"{data}","channel":"orders"}}"#)
        };
        let publisher = (0..PUBLISHERS).find(is_next);
        next[publisher.unwrap_or_else(|| panic!("{heard} where {next:?} are next"))] += 1;
    }
    client.hears_nothing();
}

/// Whispers to the others who whisper, a few at a time.
fn whisper_until(server: &Server, is_over: &AtomicBool) {
    let mut client = Client::of_app(server, "1");
    enter("1", &mut client, "private-noise");
    let whisper = r#"{"event":"client-x","channel":"private-noise","data":{}}"#;
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..WHISPERS {
            client.say(whisper);
        }
        client.say(PING);
        while client.hear() != PONG {}
    }
}
