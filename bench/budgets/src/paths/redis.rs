//! What Redis brings: from the bytes of its stream to what the shards are given.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slapback::app::{AppIndex, AppSettings};
use slapback::broadcast::Broadcast;
use slapback::redis::bus::peers::Incoming;
use slapback::redis::bus::{Bus, Effect, Limits, Payload};
use slapback::redis::envelope::{self, Application, Message as OnBus, Origin};
use slapback::redis::laravel::{self, Prefixes};
use slapback::redis::php::Address;
use slapback::redis::resp::{Reader, Said};

use super::count;
use super::ring::Pair;
use crate::stage::APP;

/// Messages of one count.
const MESSAGES: usize = 100;
/// How often each path is run.
const RUNS: usize = 3;
const DATA: &str = r#"{"order":4711,"state":"shipped","at":"2026-01-01T12:00:00Z"}"#;

/// Counts these paths.
pub fn run() {
    from_laravel();
    from_the_bus();
}

fn from_laravel() {
    let text = format!(r#"{{"event":"OrderChanged","data":{DATA},"socket":null}}"#);
    let stream = message(&["pmessage", "app:*", "app:orders", &text]).repeat(MESSAGES);
    let prefixes = Prefixes::new([("app:".to_owned(), APP)].into_iter(), Vec::new());
    let mut scratch = laravel::Scratch::default();
    let mut reader = Reader::new(1 << 20);
    let mut shards = Pair::new();
    count("laravel_message", MESSAGES, vec![stream; RUNS], |stream| {
        let mut broadcast = Broadcast::nothing(APP);
        let heard = hear(&mut reader, &stream, |pattern, name, payload| {
            let (_, channel) = prefixes.find(pattern, name).expect("the app's");
            let channel = str::from_utf8(channel).expect("a name");
            let delivery = laravel::read(payload, channel, &mut scratch).expect("an event");
            broadcast.deliveries.push(delivery);
        });
        // What one read has brought goes out together.
        shards.push([Arc::new(broadcast)]);
        assert_eq!((heard, shards.take()), (MESSAGES, 1));
    });
}

fn from_the_bus() {
    let now = Instant::now();
    let limits = Limits {
        replay_bytes: 1 << 20,
        timeout: Duration::from_secs(2),
    };
    let mut bus = Bus::new("here.1", limits, now);
    let mut effects = Vec::new();
    bus.handle_publisher_up(now, &mut effects);
    bus.handle_subscriber_up(now, &mut effects);
    let mut scratch = envelope::Scratch::default();
    let mut event = envelope::Scratch::default();
    let mut reader = Reader::new(1 << 20);
    let mut shards = Pair::new();
    let streams: Vec<_> = (0..RUNS).map(stream).collect();
    count("bus_message", MESSAGES, streams, |stream| {
        effects.clear();
        let heard = hear(&mut reader, &stream, |_, _, payload| {
            let (node, incoming) = incoming(payload, &mut scratch, &mut event);
            bus.handle_message(now, node, incoming, &mut effects);
        });
        let delivered = effects.drain(..).filter_map(|effect| match effect {
            Effect::Deliver(Payload::Event(broadcast), _) => Some(broadcast),
            _ => None,
        });
        shards.push(delivered);
        assert_eq!((heard, shards.take()), (MESSAGES, MESSAGES));
    });
}

/// Another node's messages of one run, numbered on.
fn stream(run: usize) -> Vec<u8> {
    let settings = AppSettings::new("app", "key", "secret");
    let address = Address {
        host: Some("localhost"),
        port: 443,
        scheme: "https",
    };
    let application = Application::new(&settings, address);
    let one = |number: usize| {
        let mut text = Vec::new();
        let origin = Origin {
            node: "there.1",
            seq: number as u64,
            at: 1_700_000_000_000 + number as u64,
            late: false,
        };
        let payload = |out: &mut Vec<u8>| {
            envelope::event_payload(out, "order.changed", DATA, ["orders"].into_iter());
        };
        application.message(&mut text, payload, None, Some(origin));
        let text = String::from_utf8(text).expect("JSON");
        message(&["message", "reverb", &text])
    };
    let first = run * MESSAGES + 1;
    (first..first + MESSAGES).flat_map(one).collect()
}

fn incoming<'a>(
    payload: &'a [u8],
    scratch: &'a mut envelope::Scratch,
    event: &mut envelope::Scratch,
) -> (&'a str, Incoming) {
    let Ok(OnBus::Event(heard)) = envelope::read(payload, scratch) else {
        panic!("not an event");
    };
    let origin = heard.origin.expect("another node's");
    let broadcast = heard.broadcast(AppIndex(0), event).expect("an event");
    let incoming = Incoming {
        seq: origin.seq,
        at: origin.at,
        is_late: origin.late,
        payload: Payload::Event(Arc::new(broadcast)),
    };
    (origin.node, incoming)
}

/// Reads a stream whole, and returns how many messages it held.
fn hear(
    reader: &mut Reader,
    stream: &[u8],
    mut each: impl FnMut(Option<&[u8]>, &[u8], &[u8]),
) -> usize {
    reader.room()[..stream.len()].copy_from_slice(stream);
    reader.filled(stream.len());
    let mut heard = 0;
    while let Some(said) = reader.poll().expect("RESP") {
        let Said::Message {
            pattern,
            channel,
            payload,
        } = said
        else {
            panic!("not a message: {said:?}");
        };
        each(pattern, channel, payload);
        heard += 1;
    }
    heard
}

fn message(parts: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", parts.len());
    for part in parts {
        bytes += &format!("${}\r\n{part}\r\n", part.len());
    }
    bytes.into_bytes()
}
