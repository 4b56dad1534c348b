//! One node: its own bus, its connections, what its subscribers and callers were given.

use std::sync::Arc;
use std::time::Instant;

use slapback::app::AppIndex;
use slapback::broadcast::{Broadcast, Delivery};
use slapback::redis::bus::peers::Incoming;
use slapback::redis::bus::{Bus, Effect, Limits, Outgoing, PIECE_BYTES, Payload};
use slapback::shard::cache::{Cache, CacheLimits, Stamp};

use crate::redis::{Command, Connection, Heard, Told};

const APP: AppIndex = AppIndex(0);
pub(crate) const CHANNELS: u64 = 8;
const START_MS: u64 = 1_800_000_000_000;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// The first event after its birth; 0 if it was there from the beginning.
    pub(crate) born: u64,
    pub(crate) born_at: Instant,
    pub(crate) bus: Bus,
    pub(crate) publisher: Connection,
    pub(crate) subscriber: Connection,
    /// When each connection is tried again.
    pub(crate) publisher_at: Option<Instant>,
    pub(crate) subscriber_at: Option<Instant>,
    pub(crate) clock: Clock,
    pub(crate) delivered: Vec<u64>,
    cache: Cache,
    /// The number of the last message it has put on the bus.
    pub(crate) last_seq: u64,
    pub(crate) has_closed_all: bool,
}

impl Node {
    pub(crate) fn new(life: u32, born: u64, limits: Limits, now: Instant, clock: Clock) -> Self {
        let room = CacheLimits {
            channels: 100,
            bytes: usize::MAX,
        };
        let name = format!("node-{life}");
        Self {
            born,
            born_at: now,
            bus: Bus::new(&name, limits, now),
            name,
            publisher: Connection::default(),
            subscriber: Connection::default(),
            publisher_at: Some(now),
            subscriber_at: Some(now),
            clock,
            delivered: Vec::new(),
            cache: Cache::new(room, ahash::RandomState::with_seeds(1, 2, 3, 4)),
            last_seq: 0,
            has_closed_all: false,
        }
    }

    /// Takes in what Redis says.
    pub(crate) fn hear(&mut self, now: Instant, heard: Heard) -> Vec<Effect> {
        let mut effects = Vec::new();
        let (bus, out) = (&mut self.bus, &mut effects);
        match heard {
            Heard::Reply(subscribers) => bus.handle_reply(subscribers, out),
            Heard::Asked { node, receivers } => bus.handle_asked(&node, receivers),
            Heard::Subscribed => bus.handle_subscriber_up(now, out),
            Heard::Said(Command::Message { node, told }) => {
                bus.handle_message(now, &node, incoming(&told), out);
            }
            Heard::Said(Command::Foreign(event)) => bus.handle_foreign(foreign(event), out),
            Heard::Said(Command::Hello {
                node,
                seq,
                asks,
                at,
            }) => bus.handle_hello(now, &node, (seq, asks, at), out),
            Heard::Said(Command::Ask {
                from,
                after,
                within,
                ..
            }) => bus.handle_ask(now, &from, after, within, out),
            Heard::Said(Command::Replay {
                from,
                messages,
                until,
                is_whole,
                ..
            }) => {
                let messages = messages.iter().map(incoming).collect();
                bus.handle_replay(now, &from, messages, until, is_whole, out);
            }
        }
        effects
    }

    /// Delivers an event to its subscribers, and keeps it if it is its channel's last.
    pub(crate) fn deliver(&mut self, payload: &Payload, stamp: Stamp) {
        self.delivered.push(event_of(payload));
        if let Payload::Event(broadcast) = payload {
            self.cache.keep(self.born_at, broadcast, Some(stamp));
        }
    }

    /// The event that a channel's next subscriber is shown.
    pub(crate) fn last_event(&self, number: u64) -> Option<u64> {
        let kept = self.cache.last(self.born_at, APP, &channel(number));
        kept.map(|kept| number_of(kept.frame()))
    }

    /// Makes the connections that are due, if Redis is there.
    pub(crate) fn connect(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        let up = || Connection {
            is_up: true,
            ..Connection::default()
        };
        if self.publisher_at.take_if(|due| *due <= now).is_some() {
            self.publisher = up();
            self.bus.handle_publisher_up(now, &mut effects);
        }
        if self.subscriber_at.take_if(|due| *due <= now).is_some() {
            self.subscriber = up();
            self.subscriber.is_subscribed = true;
            self.subscriber.from_redis.push_back(Heard::Subscribed);
        }
        effects
    }
}

fn incoming(told: &Told) -> Incoming {
    Incoming {
        seq: told.seq,
        at: told.at,
        is_late: told.is_late,
        payload: payload(told.event),
    }
}

pub(crate) fn told(out: &Outgoing) -> Told {
    Told {
        seq: out.seq,
        at: out.at,
        is_late: out.late,
        event: event_of(&out.payload),
    }
}

/// Some are so large that a few of them are a piece. Each is kept, in one of a few channels.
pub(crate) fn payload(event: u64) -> Payload {
    payload_on(&channel(event), event)
}

fn channel(event: u64) -> String {
    format!("cache-{}", event % CHANNELS)
}

/// Who was away misses what PHP nodes said, so none of these channels is theirs.
fn foreign(event: u64) -> Payload {
    payload_on("cache-php", event)
}

fn payload_on(channel: &str, event: u64) -> Payload {
    let mut frame = vec![0x81, 8];
    frame.extend_from_slice(&event.to_be_bytes());
    if event.is_multiple_of(8) {
        frame.resize(PIECE_BYTES / 3, 0);
    }
    let broadcast = Broadcast {
        app: APP,
        deliveries: vec![Delivery {
            channel: channel.into(),
            except: None,
            frame: frame.into(),
            is_kept: true,
        }],
        is_one_event: false,
    };
    Payload::Event(Arc::new(broadcast))
}

pub(crate) fn event_of(payload: &Payload) -> u64 {
    let Payload::Event(broadcast) = payload else {
        panic!("nobody is terminated here");
    };
    number_of(&broadcast.deliveries[0].frame)
}

fn number_of(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[2..10].try_into().unwrap())
}

/// A wall clock that goes wrong by as much all the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_ms: u64,
}

impl Clock {
    pub(crate) fn new(start: Instant, ahead_ms: u64) -> Self {
        let start_ms = START_MS + ahead_ms;
        Self { start, start_ms }
    }

    pub(crate) fn unix_ms(self, now: Instant) -> u64 {
        let passed = now.duration_since(self.start).as_millis();
        self.start_ms + u64::try_from(passed).unwrap()
    }
}
