//! What one client says.

use std::hint::black_box;

use slapback::proto::event::{self, Scratch};
use slapback::proto::frame::{Decoder, Incoming};

use super::count;
use crate::stage::{Stage, masked, whisper};

const PING: &str = r#"{"event":"pusher:ping","data":{}}"#;
const PONG: &str = r#"{"event":"pusher:pong","data":{}}"#;
/// Messages of one count.
const MESSAGES: usize = 100;

/// Counts these paths.
pub fn run() {
    parse("parse_ping", PING);
    parse("parse_event", &whisper("private-room"));
    say("ping", PING, &[], 1);
    say("pong", PONG, &[], 0);
    say("whisper", &whisper("private-room"), &["private-room"], 1);
}

/// Several messages, as often as a path is run.
fn messages(text: &str) -> Vec<Vec<Vec<u8>>> {
    vec![vec![masked(text); MESSAGES]; 3]
}

fn parse(name: &str, text: &str) {
    let mut decoder = Decoder::default();
    let mut scratch = Scratch::default();
    count(name, MESSAGES, messages(text), |mut frames| {
        for frame in &mut frames {
            let (_, item) = decoder.decode(frame, 10_000);
            let Ok(Some(Incoming::Message { payload, .. })) = item else {
                panic!("not a message");
            };
            assert!(black_box(event::parse(payload, &mut scratch)).is_ok());
        }
    });
}

/// One of two sockets on the same channels says something; so many sends come of it.
fn say(name: &str, text: &str, channels: &[&str], sends: usize) {
    let mut stage = Stage::new();
    let speaker = stage.connect_to(channels);
    stage.connect_to(channels);
    count(name, MESSAGES, messages(text), |mut frames| {
        let (sent, _) = stage.sent_by(|stage| {
            for frame in &mut frames {
                stage.turn(speaker.key, frame);
            }
        });
        assert_eq!(sent, sends * MESSAGES);
    });
}
