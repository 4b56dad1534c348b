//! What a session answers while its node is short of something, by plain calls.

use super::*;
use crate::app::AppSettings;

struct Subscribed;

impl Memberships for Subscribed {
    fn membership(&self, _: &str) -> Option<Option<&str>> {
        Some(None)
    }
}

fn apps() -> Apps {
    Apps::new(vec![AppSettings::new("1", "key", "secret")])
}

/// A session under pressure and what it has said so far.
struct Pair {
    apps: Apps,
    session: Session,
    turnstile: Turnstile,
    pressure: Pressure,
    effects: Effects,
}

impl Pair {
    fn new() -> Self {
        let (apps, session) = (apps(), Session::open(Instant::now()));
        Self {
            apps,
            session,
            turnstile: Turnstile::default(),
            pressure: Pressure::default(),
            effects: Effects::default(),
        }
    }

    /// Hands in bytes; returns what the session says to them.
    fn say(&mut self, input: &[u8]) -> String {
        self.effects.clear();
        let settings = Settings {
            max_request_size: 10_000,
            ..Settings::default()
        };
        let mut scratch = Scratch::default();
        let mut random = fastrand::Rng::with_seed(1);
        let mut context = Context {
            now: Now {
                instant: Instant::now(),
                unix_s: 1,
            },
            apps: &self.apps,
            settings: &settings,
            memberships: &Subscribed,
            scratch: &mut scratch,
            random: &mut random,
            turnstile: &mut self.turnstile,
            pressure: self.pressure,
        };
        let mut input = input.to_vec();
        let mut at = 0;
        while at < input.len() {
            at += self
                .session
                .handle_bytes(&mut input[at..], &mut context, &mut self.effects);
        }
        String::from_utf8_lossy(&self.effects.bytes).into_owned()
    }

    fn upgrade(&mut self) -> String {
        self.upgrade_from("http://a.test")
    }

    fn upgrade_from(&mut self, origin: &str) -> String {
        let head = format!(
            "GET /app/key HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Origin: {origin}\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.say(head.as_bytes())
    }

    /// Says a text in an unmasked-by-zero frame.
    fn say_text(&mut self, text: &str) -> String {
        let length = u8::try_from(text.len()).unwrap();
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.say(&frame)
    }

    fn asks(&self, wanted: impl Fn(&Effect) -> bool) -> bool {
        self.effects.list.iter().any(wanted)
    }
}

fn is_publish(effect: &Effect) -> bool {
    matches!(effect, Effect::Publish { .. })
}

#[test]
fn an_api_call_is_refused_whole_while_rings_are_over_full() {
    let mut pair = Pair::new();
    pair.pressure.over_full = true;
    let said = pair.say(b"POST /apps/1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    assert!(
        said.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{said}"
    );
    assert!(!pair.asks(is_publish));
    assert!(pair.asks(|effect| matches!(effect, Effect::Count(Counter::ApiOverloaded))));
    assert!(
        !pair.asks(|effect| matches!(effect, Effect::Finish)),
        "keep-alive goes on"
    );
}

#[test]
fn a_whisper_is_refused_while_rings_are_over_full_and_the_socket_lives_on() {
    let mut pair = Pair::new();
    assert!(pair.upgrade().contains("pusher:connection_established"));
    pair.pressure.over_full = true;
    let whisper = r#"{"event":"client-a","channel":"c","data":{}}"#;
    let said = pair.say_text(whisper);
    assert!(
        said.contains(r#"{\"code\":4301,\"message\":\"Server is overloaded\"}"#),
        "{said}"
    );
    assert!(!pair.asks(is_publish));
    pair.pressure.over_full = false;
    assert_eq!(pair.say_text(whisper), "");
    assert!(pair.asks(is_publish));
}

#[test]
fn a_full_or_draining_node_turns_websockets_away_in_a_way_that_lets_them_return() {
    let node_full = Pressure {
        node_full: true,
        ..Pressure::default()
    };
    let draining = Pressure {
        draining: true,
        leaving: true,
        ..Pressure::default()
    };
    for (pressure, reason) in [
        (node_full, "Server is over capacity"),
        (draining, "Server is restarting"),
    ] {
        let mut pair = Pair::new();
        pair.pressure = pressure;
        let said = pair.upgrade();
        assert!(
            said.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
            "{said}"
        );
        assert!(said.contains(&format!(r#"{{\"code\":4100,\"message\":\"{reason}\"}}"#)));
        let mut close = Vec::new();
        frame::close(&mut close, Some(4100), reason.as_bytes());
        assert!(pair.effects.bytes.ends_with(&close));
        assert!(pair.asks(|effect| matches!(effect, Effect::Close)));
        assert!(!pair.asks(|effect| matches!(effect, Effect::Established { .. })));
    }
}

/// Another session of the same shard and apps.
fn next_one(pair: &mut Pair) {
    pair.session = Session::open(Instant::now());
}

#[test]
fn too_many_at_once_are_turned_away_without_a_place_of_the_quota() {
    let mut pair = Pair::new();
    let mut app = AppSettings::new("1", "key", "secret");
    app.max_connections = Some(2);
    pair.apps = Apps::new(vec![app]);
    // One in 256 seconds: whatever this test takes, the second comes too early.
    pair.turnstile = Turnstile::new(NonZeroU32::new(1), 256);
    assert!(pair.upgrade().contains("pusher:connection_established"));
    let mut close = Vec::new();
    frame::close(&mut close, Some(4100), b"Too many new connections");
    for _ in 0..2 {
        next_one(&mut pair);
        let said = pair.upgrade();
        assert!(said.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
        assert!(said.contains(r#"{\"code\":4100,\"message\":\"Too many new connections\"}"#));
        assert!(pair.effects.bytes.ends_with(&close));
        assert!(pair.asks(|effect| matches!(effect, Effect::Count(Counter::RefusedTooFast))));
        assert!(pair.asks(|effect| matches!(effect, Effect::Close)));
    }
    pair.turnstile = Turnstile::default();
    next_one(&mut pair);
    assert!(pair.upgrade().contains("pusher:connection_established"));
}

#[test]
fn who_may_never_come_in_hears_that_and_takes_no_turn_of_another() {
    let mut pair = Pair::new();
    let mut app = AppSettings::new("1", "key", "secret");
    app.allowed_origins = vec!["a.test".to_owned()];
    pair.apps = Apps::new(vec![app]);
    pair.turnstile = Turnstile::new(NonZeroU32::new(1), 256);
    for _ in 0..3 {
        next_one(&mut pair);
        let said = pair.upgrade_from("http://b.test");
        assert!(said.contains(r#"{\"code\":4009,"#), "{said}");
    }
    next_one(&mut pair);
    assert!(
        pair.upgrade_from("http://a.test")
            .contains("pusher:connection_established")
    );
}

#[test]
fn r159_up_answers_503_while_leaving_and_says_close_while_draining() {
    let mut pair = Pair::new();
    pair.pressure.leaving = true;
    let said = pair.say(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        said.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{said}"
    );
    assert!(said.contains("Connection: keep-alive\r\n"));
    pair.pressure.draining = true;
    let said = pair.say(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(said.contains("Connection: close\r\n"), "{said}");
    assert!(pair.asks(|effect| matches!(effect, Effect::Finish)));
}
