//! Silent sockets: pinged, then pruned (R-151 to R-158).
//!
//! Time here is real. Everything is silent at once, on all fleets at once, so that the whole of it
//! takes as long as one prune: 2 s to the ping, 5 more to the close.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::thread;
use std::time::{Duration, Instant};

use channels::{join, member_added, member_removed};
use harness::{Client, FLEETS, Frame, Opcode, Server, error};

mod channels;
mod harness;

const PING: &str = r#"{"event":"pusher:ping"}"#;
const PONG: &str = r#"{"event":"pusher:pong","data":{}}"#;

/// `ping_interval` of the fixture's app `app-fast`.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a pong is waited for: the interval, but at least this.
const PONG_WAIT: Duration = Duration::from_secs(5);
/// How late a busy machine may be.
const LATE: Duration = Duration::from_secs(2);

#[test]
fn r151_r152_r153_r154_r155_r156_r157_r158_the_silent_are_pinged_and_then_pruned() {
    let scenarios: [fn(&Server); 7] = [
        a_silent_subscriber_is_pinged_once_and_pruned,
        a_socket_without_a_subscription_is_pinged_and_pruned_too,
        who_answers_is_pinged_again_and_never_pruned,
        who_says_anything_is_never_pinged,
        who_once_sent_a_control_frame_is_pinged_by_one_and_pruned,
        who_answers_control_frames_stays,
        a_pruned_member_is_announced_as_gone,
    ];
    thread::scope(|scope| {
        for fleet in FLEETS {
            scope.spawn(move || {
                let server = Server::start(fleet, &[]);
                let server = &server;
                thread::scope(|scope| {
                    for scenario in scenarios {
                        let thread = thread::Builder::new().name(fleet.to_string());
                        let run = move || scenario(server);
                        thread.spawn_scoped(scope, run).unwrap();
                    }
                });
            });
        }
    });
}

/// A socket of `app-fast`, silent from the instant given.
fn fast(server: &Server) -> (Client, Instant) {
    let mut client = Client::upgrade(server, "/app/key-fast?protocol=7", "");
    client.is_established(3);
    (client, Instant::now())
}

fn is_about(since: Instant, wait: Duration) {
    let elapsed = since.elapsed();
    assert!(
        (wait..wait + LATE).contains(&elapsed),
        "{elapsed:?} instead of {wait:?}"
    );
}

/// The error, the Close frame and the end of a socket that was silent for too long.
fn is_pruned(client: &mut Client) {
    let reason = "Pong reply not received in time";
    assert_eq!(client.hear(), error(4201, reason));
    client.is_closed_with(4201, reason);
}

fn a_silent_subscriber_is_pinged_once_and_pruned(server: &Server) {
    let (mut client, _) = fast(server);
    client.subscribe("a");
    let start = Instant::now();
    client.subscribe("b");
    assert_eq!(client.hear(), PING);
    is_about(start, INTERVAL);
    is_pruned(&mut client);
    is_about(start, INTERVAL + PONG_WAIT);
}

fn a_socket_without_a_subscription_is_pinged_and_pruned_too(server: &Server) {
    let start = Instant::now();
    let (mut client, _) = fast(server);
    assert_eq!(client.hear(), PING);
    is_about(start, INTERVAL);
    is_pruned(&mut client);
    is_about(start, INTERVAL + PONG_WAIT);
}

fn who_answers_is_pinged_again_and_never_pruned(server: &Server) {
    // An app of another interval is not concerned.
    let mut slow = Client::of_app(server, "1");
    let (mut client, mut silent) = fast(server);
    client.subscribe("a");
    // Past the time at which one that never answered is pruned.
    for answer in [PONG, r#"{"event":"pusher:pong"}"#, PONG, PONG] {
        assert_eq!(client.hear(), PING);
        is_about(silent, INTERVAL);
        silent = Instant::now();
        client.say(answer);
    }
    client.hears_nothing();
    slow.hears_nothing();
}

fn who_says_anything_is_never_pinged(server: &Server) {
    let (mut client, _) = fast(server);
    client.subscribe("a");
    for text in ["nonsense", PONG, "{}", PONG, "", PONG] {
        thread::sleep(INTERVAL / 2);
        client.say(text);
        if text != PONG {
            assert_eq!(client.hear(), harness::invalid_message());
        }
    }
    client.hears_nothing();
}

fn who_once_sent_a_control_frame_is_pinged_by_one_and_pruned(server: &Server) {
    let (mut client, _) = fast(server);
    client.subscribe("a");
    let start = Instant::now();
    client.send(Opcode::PING, "hb");
    assert_eq!(client.hear_frame(), Frame::new(Opcode::PONG, "hb"));
    assert_eq!(client.hear_frame(), Frame::new(Opcode::PING, ""));
    is_about(start, INTERVAL);
    is_pruned(&mut client);
    is_about(start, INTERVAL + PONG_WAIT);
}

fn who_answers_control_frames_stays(server: &Server) {
    let (mut client, _) = fast(server);
    // An unasked pong counts as a control frame, too.
    client.send(Opcode::PONG, "");
    for _ in 0..4 {
        assert_eq!(client.hear_frame(), Frame::new(Opcode::PING, ""));
        client.send(Opcode::PONG, "");
    }
    client.hears_nothing();
}

fn a_pruned_member_is_announced_as_gone(server: &Server) {
    let (mut live, _) = fast(server);
    let (mut dead, _) = fast(server);
    let data = |user: &str| format!(r#"{{"user_id":"{user}"}}"#);
    let alone = r#"{"count":1,"ids":["live"],"hash":{"live":null}}"#;
    let both = r#"{"count":2,"ids":["live","dead"],"hash":{"live":null,"dead":null}}"#;
    join("fast", &mut live, "presence-p", &data("live"), alone);
    join("fast", &mut dead, "presence-p", &data("dead"), both);
    assert_eq!(live.hear(), member_added("presence-p", &data("dead")));
    loop {
        let heard = live.hear();
        if heard != PING {
            assert_eq!(heard, member_removed("presence-p", r#""dead""#));
            break;
        }
        live.say(PONG);
    }
    // It was told before the others heard.
    assert_eq!(dead.hear(), PING);
    is_pruned(&mut dead);
    live.hears_nothing();
}
