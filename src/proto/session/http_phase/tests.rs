//! How long a request may take.

use std::time::Duration;

use super::*;
use crate::app::Apps;
use crate::proto::Now;
use crate::proto::event::Scratch;
use crate::proto::session::{Memberships, Pressure, Protocol, Session, Settings};
use crate::proto::turnstile::Turnstile;

/// A connection on a clock that stands until it is told to go on.
struct Line {
    session: Session,
    apps: Apps,
    settings: Settings,
    start: Instant,
    seconds: u64,
}

struct NoMember;

impl Memberships for NoMember {
    fn membership(&self, _channel: &str) -> Option<Option<&str>> {
        None
    }
}

impl Line {
    fn open() -> Self {
        let start = Instant::now();
        let settings = Settings {
            max_request_size: 10_000,
            ..Settings::default()
        };
        Self {
            session: Session::open(start),
            apps: Apps::new(Vec::new()),
            settings,
            start,
            seconds: 0,
        }
    }

    fn call(&mut self, call: impl Fn(&mut Session, &mut Context<'_>, &mut Effects)) -> Effects {
        let mut effects = Effects::default();
        let mut context = Context {
            now: Now {
                instant: self.start + Duration::from_secs(self.seconds),
                unix_s: self.seconds,
            },
            apps: &self.apps,
            settings: &self.settings,
            memberships: &NoMember,
            scratch: &mut Scratch::default(),
            random: &mut fastrand::Rng::with_seed(1),
            turnstile: &mut Turnstile::default(),
            pressure: Pressure::default(),
        };
        call(&mut self.session, &mut context, &mut effects);
        effects
    }

    fn hears(&mut self, bytes: &[u8]) -> String {
        let effects = self.call(|session, context, effects| {
            let taken = session.handle_bytes(&mut bytes.to_vec(), context, effects);
            assert_eq!(taken, bytes.len());
        });
        String::from_utf8(effects.bytes).unwrap()
    }

    /// Asserts that the connection ends this many seconds after it was opened, not before.
    fn ends_at(&mut self, seconds: u64) {
        let due = self.session.deadline(&self.apps).unwrap();
        assert_eq!(due, self.start + Duration::from_secs(seconds));
        self.seconds = seconds;
        let effects = self.call(Session::handle_deadline);
        let [Effect::Count(Counter::HttpTimeout), Effect::Finish] = effects.list.as_slice() else {
            panic!("{effects:?}");
        };
    }
}

#[test]
fn the_first_head_must_be_there_10_s_after_the_connection() {
    Line::open().ends_at(10);
    let mut line = Line::open();
    for second in 1..9 {
        line.seconds = second;
        assert_eq!(line.hears(b"x"), "");
    }
    line.ends_at(10);
}

#[test]
fn empty_lines_before_a_head_gain_no_time() {
    let mut line = Line::open();
    for second in 1..9 {
        line.seconds = second;
        assert_eq!(line.hears(b"\r\n"), "");
    }
    line.ends_at(10);
    let mut line = Line::open();
    line.hears(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n");
    line.seconds = 70;
    assert_eq!(line.hears(b"\r\n"), "");
    line.ends_at(75);
}

#[test]
fn a_next_request_may_take_75_s_to_begin_and_10_s_to_be_there() {
    let mut line = Line::open();
    line.seconds = 5;
    assert!(
        line.hears(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
            .starts_with("HTTP/1.1 200 OK")
    );
    line.seconds = 60;
    assert_eq!(line.hears(b"GET"), "");
    line.seconds = 65;
    assert_eq!(line.hears(b" /up"), "");
    line.ends_at(70);
    let mut line = Line::open();
    assert!(
        line.hears(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
            .starts_with("HTTP/1.1 200 OK")
    );
    line.ends_at(75);
}

#[test]
fn r169_a_body_must_be_there_75_s_after_its_head() {
    let head = b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
    let mut line = Line::open();
    line.seconds = 4;
    assert_eq!(line.hears(head), "");
    for second in [5, 50, 78] {
        line.seconds = second;
        assert_eq!(line.hears(b"x"), "");
    }
    line.ends_at(79);
    let mut line = Line::open();
    assert_eq!(line.hears(head), "");
    line.seconds = 70;
    assert!(line.hears(&[b'x'; 100]).starts_with("HTTP/1.1 405 "));
    line.ends_at(145);
}

#[test]
fn without_a_length_there_is_no_body_to_wait_for() {
    let mut line = Line::open();
    let said = line.hears(b"POST /up HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 405 "), "{said}");
    line.ends_at(75);
}
