//! Leaving: signals, the pace of a drain, and what is still served meanwhile (R-245).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use harness::on_every_fleet;
use harness::{Client, Fleet, Frame, Opcode, Server, api, close_payload, error};
use rustix::process::Signal;

mod harness;

const LEAVING: &str = "Server is restarting";

#[test]
fn r245_each_signal_closes_the_sockets_and_exits_0() {
    on_every_fleet(|fleet| {
        for signal in [Signal::TERM, Signal::INT, Signal::QUIT, Signal::TSTP] {
            let mut server = Server::start(fleet, &[]);
            let mut client = Client::of_app(&server, "1");
            client.subscribe("c");
            server.signal(signal);
            client.is_closed_with(4100, LEAVING);
            assert_eq!(server.exit_status().code(), Some(0), "{signal:?}");
            server.says("Gracefully terminating connections.");
        }
    });
}

#[test]
fn r245_without_sockets_it_ends_at_once() {
    on_every_fleet(|fleet| {
        let mut server = Server::start(fleet, &[("SLAPBACK_DRAIN_SECONDS", "60")]);
        let mut idle = Client::connect_with(&server, &api::request("GET", "/up", "", ""));
        assert_eq!(idle.answer().status, 200);
        server.signal(Signal::TERM);
        idle.ends();
        assert_eq!(server.exit_status().code(), Some(0));
    });
}

/// A connection that the port of a dead server still took would be reset, which to a browser is a
/// failed attempt: it would sit out 15 s.
#[test]
fn r245_once_it_has_ended_its_port_takes_nobody() {
    on_every_fleet(|fleet| {
        for round in 0..10 {
            let mut server = Server::start(fleet, &[]);
            server.signal(Signal::TERM);
            assert_eq!(server.exit_status().code(), Some(0));
            let refused = TcpStream::connect(("127.0.0.1", server.port)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{round}");
        }
    });
}

#[test]
fn r245_a_second_signal_ends_it_at_once() {
    on_every_fleet(|fleet| {
        let mut server = Server::start(fleet, &[("SLAPBACK_DRAIN_SECONDS", "60")]);
        let clients: Vec<_> = (0..16).map(|_| Client::of_app(&server, "1")).collect();
        server.signal(Signal::TERM);
        server.says("Gracefully terminating connections.");
        server.signal(Signal::INT);
        assert_eq!(server.exit_status().code(), Some(0));
        drop(clients);
    });
}

#[test]
fn r245_during_the_delay_only_up_says_that_the_node_leaves() {
    on_every_fleet(|fleet| {
        let mut server = Server::start(fleet, &[("SLAPBACK_DRAIN_DELAY", "2")]);
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        server.signal(Signal::TERM);
        let signalled = Instant::now();
        let up = || api::call(&server, &api::request("GET", "/up", "", ""));
        let mut answer = up();
        while answer.status == 200 {
            assert!(
                signalled.elapsed() < Duration::from_secs(2),
                "never leaving"
            );
            answer = up();
        }
        assert_eq!(answer.status, 503);
        assert_eq!(answer.body, r#"{"health":"LEAVING"}"#);
        let mut newcomer = Client::of_app(&server, "1");
        newcomer.subscribe("c");
        api::publish_event(&server, "1", "c", "E", "x");
        let event = r#"{"event":"E","data":"x","channel":"c"}"#;
        assert_eq!([client.hear(), newcomer.hear()], [event, event]);
        for client in [&mut client, &mut newcomer] {
            client.is_closed_with(4100, LEAVING);
        }
        assert_eq!(server.exit_status().code(), Some(0));
        assert!(signalled.elapsed() >= Duration::from_secs(2));
    });
}

#[test]
fn r245_sockets_close_evenly_while_calls_are_served_and_upgrades_sent_elsewhere() {
    on_every_fleet(|fleet| drains_evenly(fleet, 100));
}

#[test]
#[ignore = "a thousand sockets: part of make test-slow"]
fn a_thousand_sockets_close_evenly() {
    on_every_fleet(|fleet| drains_evenly(fleet, 1_000));
}

/// Drains `count` sockets in one second, each read by a thread of its own.
fn drains_evenly(fleet: Fleet, count: usize) {
    let mut server = Server::start(fleet, &[("SLAPBACK_DRAIN_SECONDS", "1")]);
    let connect = |_| {
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        client
    };
    let clients: Vec<_> = (0..count).map(connect).collect();
    let begin = Instant::now();
    server.signal(Signal::TERM);
    let mut closed_after: Vec<Duration> = std::thread::scope(|scope| {
        let wait = |mut client: Client| {
            scope.spawn(move || {
                let closed = client.hears_until_closed();
                closed.duration_since(begin)
            })
        };
        let waiting: Vec<_> = clients.into_iter().map(wait).collect();
        server.says("Gracefully terminating connections.");
        serves_while_it_drains(&server, begin);
        waiting.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(server.exit_status().code(), Some(0));
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    closed_after.sort();
    let [first, median, last] = [0, count / 2, count - 1].map(|at| closed_after[at].as_secs_f64());
    assert!(last - first >= 0.5, "{closed_after:?}");
    assert!((0.2..1.5).contains(&median), "{closed_after:?}");
}

/// Calls and upgrades, one after another over all shards, until the drain is half through.
fn serves_while_it_drains(server: &Server, begin: Instant) {
    let mut turned_away = 0;
    while begin.elapsed() < Duration::from_millis(600) {
        turned_away += usize::from(an_upgrade_is_turned_away(server));
        publishes(server);
    }
    // Every shard looks at the stage each 100 ms.
    assert!(turned_away > 0 && an_upgrade_is_turned_away(server));
    assert_eq!(publishes(server).header("Connection"), Some("close"));
}

/// Upgrades; a shard that drains already says so.
fn an_upgrade_is_turned_away(server: &Server) -> bool {
    let mut newcomer = Client::upgrade(server, "/app/key-1?protocol=7", "");
    let text = newcomer.hear();
    if text.contains("connection_established") {
        return false;
    }
    assert_eq!(text, error(4100, LEAVING));
    newcomer.is_closed_with(4100, LEAVING);
    true
}

fn publishes(server: &Server) -> api::Answer {
    let answer = api::publish(server, "1", r#"{"name":"E","channel":"c","data":"x"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    answer
}

/// A peer that never echoes Close is waited for, but not for ever.
#[test]
fn r245_it_ends_in_time_whatever_peers_do() {
    on_every_fleet(|fleet| {
        let mut server = Server::start(fleet, &[("SLAPBACK_DRAIN_SECONDS", "0")]);
        let mut mute = Client::of_app(&server, "1");
        // A request that is never finished.
        let _half =
            Client::connect_with(&server, "POST /apps/app-1/events HTTP/1.1\r\nHost: x\r\n");
        mute.hears_nothing();
        let begin = Instant::now();
        assert_eq!(server.terminate().code(), Some(0));
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
        assert_eq!(mute.hear_frame(), Frame::close(4100, LEAVING));
    });
}

/// A socket that does not echo Close is waited for; until then no shard may leave the others.
#[test]
fn r245_every_home_takes_events_until_the_last_socket_is_gone() {
    on_every_fleet(|fleet| {
        let mut server = Server::start(fleet, &[]);
        let mut last = Client::of_app(&server, "1");
        server.signal(Signal::TERM);
        assert_eq!(last.hear_frame(), Frame::close(4100, LEAVING));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            for app in ["1", "all", "none", "small", "fast", "origin"] {
                api::publish_event(&server, app, "c", "E", "x");
            }
        }
        last.send(Opcode::CLOSE, close_payload(4100, LEAVING.as_bytes()));
        last.ends();
        assert_eq!(server.exit_status().code(), Some(0));
    });
}

trait Leaves {
    /// Reads the events that still come, then Close 4100, echoes it and waits for the end.
    /// Returns when Close came.
    fn hears_until_closed(&mut self) -> Instant;
}

impl Leaves for Client {
    fn hears_until_closed(&mut self) -> Instant {
        let event = r#"{"event":"E","data":"x","channel":"c"}"#;
        loop {
            let frame = self.hear_frame();
            if frame == Frame::close(4100, LEAVING) {
                let now = Instant::now();
                self.send(Opcode::CLOSE, frame.payload);
                self.ends();
                return now;
            }
            assert_eq!(frame, Frame::new(Opcode::TEXT, event));
        }
    }
}
