//! One node: its own bus, its connections, what its subscribers and callers were given.

use std::sync::Arc;
use std::time::Instant;

use slapback::app::AppIndex;
use slapback::broadcast::{Broadcast, Delivery};
use slapback::redis::bus::peers::Incoming;
use slapback::redis::bus::{Bus, Effect, Limits, PIECE_BYTES, Payload};

use crate::redis::{Command, Connection, Heard};

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
    pub(crate) delivered: Vec<u64>,
    /// The number of the last message it has put on the bus.
    pub(crate) last_seq: u64,
    pub(crate) has_closed_all: bool,
}

impl Node {
    pub(crate) fn new(life: u32, born: u64, limits: Limits, now: Instant) -> Self {
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
            delivered: Vec::new(),
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
            Heard::Said(Command::Message { node, seq, event }) => {
                bus.handle_message(now, &node, incoming(seq, event), out);
            }
            Heard::Said(Command::Foreign(event)) => bus.handle_foreign(payload(event), out),
            Heard::Said(Command::Hello { node, seq, asks }) => {
                bus.handle_hello(now, &node, (seq, asks), out);
            }
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
                let messages = messages.into_iter();
                let messages = messages.map(|(seq, event)| incoming(seq, event)).collect();
                bus.handle_replay(now, &from, messages, until, is_whole, out);
            }
        }
        effects
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

fn incoming(seq: u64, event: u64) -> Incoming {
    Incoming {
        seq,
        payload: payload(event),
    }
}

/// Some are so large that a few of them are a piece.
pub(crate) fn payload(event: u64) -> Payload {
    let mut frame = event.to_be_bytes().to_vec();
    if event.is_multiple_of(8) {
        frame.resize(PIECE_BYTES / 3, 0);
    }
    let broadcast = Broadcast {
        app: AppIndex(0),
        deliveries: vec![Delivery {
            channel: "c".into(),
            except: None,
            frame: frame.into(),
            is_kept: false,
        }],
        is_one_event: false,
    };
    Payload::Event(Arc::new(broadcast), None)
}

pub(crate) fn event_of(payload: &Payload) -> u64 {
    let Payload::Event(broadcast, _) = payload else {
        panic!("nobody is terminated here");
    };
    u64::from_be_bytes(broadcast.deliveries[0].frame[..8].try_into().unwrap())
}
