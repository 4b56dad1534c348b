//! A shard that broadcasts without a pause still reads, accepts and answers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Client, Fleet, Opcode, PONG, Server, api, encode, upgrade_head};

mod harness;

const SUBSCRIBERS: usize = 400;
const FLOOD: Duration = Duration::from_secs(2);
/// Two cores are shared by server, readers and publisher, and by other tests.
const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn reads_and_accepts_go_on_under_a_flood_on_io_uring() {
    flood("uring");
}

#[test]
fn reads_and_accepts_go_on_under_a_flood_on_epoll() {
    flood("epoll");
}

fn flood(driver: &'static str) {
    let server = &Server::start(Fleet { shards: 1, driver }, &[]);
    let mut subscribers: Vec<_> = (0..SUBSCRIBERS)
        .map(|_| Client::of_app(server, "1"))
        .collect();
    for subscriber in &mut subscribers {
        subscriber.subscribe("flood");
    }
    let is_over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut heard = 0;
            while !is_over.load(Ordering::Relaxed) {
                for subscriber in &mut subscribers {
                    assert!(subscriber.hear().contains("flood"));
                    heard += 1;
                }
            }
            heard
        });
        let publisher = scope.spawn(move || {
            let mut connection = Client::open(server);
            let body = r#"{"name":"E","data":"x","channel":"flood"}"#;
            while !is_over.load(Ordering::Relaxed) {
                // Sixteen calls in one segment: the shard has a burst to send all the time.

                let request = api::publish_request("1", body);
                connection.raw(request.repeat(16));
                (0..16).for_each(|_| assert_eq!(connection.answer().status, 200));
            }
        });
        let (pongs, slowest) = ping_through(server);
        is_over.store(true, Ordering::Relaxed);
        publisher.join().unwrap();
        assert!(reader.join().unwrap() > SUBSCRIBERS, "there was no flood");
        assert!(
            slowest < PATIENCE,
            "one of {pongs} answers took {slowest:?}"
        );
        assert!(pongs > 4, "only {pongs} answers during the flood");
    });
}

/// New connections, each with a ping, for as long as the flood goes on.
fn ping_through(server: &Server) -> (u32, Duration) {
    let end = Instant::now() + FLOOD;
    let (mut pongs, mut slowest) = (0, Duration::ZERO);
    while Instant::now() < end {
        let begun = Instant::now();
        let mut client = Client::of_app(server, "1");
        client.say(r#"{"event":"pusher:ping","data":{}}"#);
        assert_eq!(client.hear(), PONG);
        slowest = slowest.max(begun.elapsed());
        pongs += 1;
    }
    (pongs, slowest)
}

#[test]
fn a_client_that_never_stops_sending_keeps_nobody_waiting_on_io_uring() {
    torrent("uring");
}

#[test]
fn a_client_that_never_stops_sending_keeps_nobody_waiting_on_epoll() {
    torrent("epoll");
}

/// One client sends faster than the shard reads, and is answered or not. Others are answered, and
/// the clock goes on: a drain begins on it.
fn torrent(driver: &'static str) {
    let names = r#""a","#.repeat(1700);
    let refused = format!(r#"{{"event":"client-x","channels":[{names}"a"],"data":"x"}}"#);
    for text in [r#"{"event":"unheard-of"}"#, &refused] {
        let fleet = Fleet { shards: 1, driver };
        let server = &mut Server::start(fleet, &[("SLAPBACK_DRAIN_SECONDS", "0")]);
        let mut sender = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let mut reader = sender.try_clone().unwrap();
        let head = upgrade_head("/app/key-1", "");
        sender.write_all(head.as_bytes()).unwrap();
        let frame = encode(Opcode::TEXT, true, text.as_bytes(), Some([0; 4]));
        let frames = frame.repeat(1_000_000 / frame.len());
        std::thread::scope(|scope| {
            // Both end with the server.
            scope.spawn(move || while sender.write_all(&frames).is_ok() {});
            scope.spawn(move || {
                let mut answers = vec![0; 1 << 16];
                while reader.read(&mut answers).is_ok_and(|count| count > 0) {}
            });
            let (pongs, slowest) = ping_through(server);
            let begun = Instant::now();
            let status = server.terminate();
            let drain = begun.elapsed();
            assert_eq!(status.code(), Some(0));
            assert!(
                slowest < PATIENCE,
                "one of {pongs} answers took {slowest:?}"
            );
            assert!(drain < 3 * PATIENCE, "the drain took {drain:?}");
        });
    }
}
