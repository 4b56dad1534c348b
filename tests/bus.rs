//! The bus under one seed: several nodes' own machines, a Redis that dies, stands still and cuts
//! connections, a PHP node that listens. Whatever the order of things, every event reaches every
//! node once, in its publisher's order.
//!
//! `SLAPBACK_SIM_SEEDS` says how many seeds are tried, `SLAPBACK_SIM_SEED` replays one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Command, Connection, Heard, Redis};
use slapback::app::AppIndex;
use slapback::broadcast::{Broadcast, Delivery};
use slapback::redis::bus::peers::Incoming;
use slapback::redis::bus::{Bus, Caller, Effect, Limits};
use slapback::shard::index::Slot;
use slapback::shard::message::{SessionKey, ShardIndex};

#[path = "bus_model/mod.rs"]
mod model;

const SEEDS: u64 = 300;
const STEPS: usize = 600;
/// A connection is made anew within so long once Redis is there.
const RECONNECT_MAX_MS: u64 = 1200;
const AMPLE: Limits = Limits {
    replay_bytes: 1 << 20,
    timeout: Duration::from_secs(2),
};
const TIGHT: Limits = Limits {
    replay_bytes: 2000,
    timeout: Duration::from_secs(2),
};

/// What one seed may bring about.
#[derive(Debug, Clone, Copy)]
struct Faults {
    limits: Limits,
    may_die: bool,
}

struct Node {
    name: String,
    bus: Bus,
    publisher: Connection,
    subscriber: Connection,
    /// When each connection is tried again.
    publisher_at: Option<Instant>,
    subscriber_at: Option<Instant>,
    delivered: Vec<u64>,
    has_closed_all: bool,
    answers: HashMap<u32, bool>,
}

struct World {
    random: fastrand::Rng,
    faults: Faults,
    now: Instant,
    redis: Redis,
    nodes: Vec<Node>,
    dead: HashSet<String>,
    /// Who published an event, in order; an event that was refused is not here.
    published: Vec<(String, u64)>,
    next_event: u64,
    next_call: u32,
    lives: u32,
    is_traced: bool,
    counts: HashMap<&'static str, u64>,
}

#[test]
fn every_event_reaches_every_node_once_and_in_order_through_outages_within_the_bound() {
    let faults = Faults {
        limits: AMPLE,
        may_die: false,
    };
    let counts = run(faults, |world| {
        for node in &world.nodes {
            assert!(!node.has_closed_all, "{} gave up", node.name);
            world.check_complete(node);
        }
    });
    for fault in ["kill", "cut", "pause", "away", "replayed", "late", "redial"] {
        assert!(
            counts.get(fault).is_some_and(|&count| count > 0),
            "no {fault}: {counts:?}"
        );
    }
}

#[test]
fn beyond_the_bound_clients_are_told_to_come_back_and_nothing_is_doubled() {
    let faults = Faults {
        limits: TIGHT,
        may_die: false,
    };
    let counts = run(faults, |world| {
        for node in world.nodes.iter().filter(|node| !node.has_closed_all) {
            world.check_complete(node);
        }
    });
    for fault in ["closed all", "refused"] {
        assert!(
            counts.get(fault).is_some_and(|&count| count > 0),
            "no {fault}: {counts:?}"
        );
    }
}

#[test]
fn a_node_that_dies_takes_nothing_of_the_others_with_it() {
    let faults = Faults {
        limits: AMPLE,
        may_die: true,
    };
    let counts = run(faults, |world| {
        for node in world.nodes.iter().filter(|node| !node.has_closed_all) {
            world.check_complete(node);
        }
    });
    assert!(
        counts.get("death").is_some_and(|&count| count > 0),
        "{counts:?}"
    );
}

/// Plays all seeds, checks what holds for each, and gives what happened in all together.
fn run(faults: Faults, check: impl Fn(&World)) -> HashMap<&'static str, u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seeds = match number("SLAPBACK_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SLAPBACK_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let is_traced = number("SLAPBACK_SIM_SEED").is_some();
    let mut counts = HashMap::new();
    for seed in seeds {
        let played = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, faults, is_traced);
            world.play();
            world.check_order();
            world
        });
        let Ok(world) = played else {
            panic!("seed {seed}");
        };
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&world)));
        assert!(checked.is_ok(), "seed {seed}");
        for (fault, count) in world.counts {
            *counts.entry(fault).or_default() += count;
        }
    }
    counts
}

impl World {
    fn new(seed: u64, faults: Faults, is_traced: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let count = random.usize(2..=3);
        let mut world = Self {
            random,
            faults,
            now,
            redis: Redis::default(),
            nodes: Vec::new(),
            dead: HashSet::new(),
            published: Vec::new(),
            next_event: 0,
            next_call: 0,
            lives: 0,
            is_traced,
            counts: HashMap::new(),
        };
        for _ in 0..count {
            let node = world.node();
            world.nodes.push(node);
        }
        // They have heard of one another before anything goes wrong.
        world.settle();
        world
    }

    fn node(&mut self) -> Node {
        self.lives += 1;
        let name = format!("node-{}", self.lives);
        Node {
            bus: Bus::new(&name, self.faults.limits, self.now),
            name,
            publisher: Connection::default(),
            subscriber: Connection::default(),
            publisher_at: Some(self.now),
            subscriber_at: Some(self.now),
            delivered: Vec::new(),
            has_closed_all: false,
            answers: HashMap::new(),
        }
    }

    fn play(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.redis.is_paused = false;
        self.redis.is_up = true;
        self.settle();
    }

    fn step(&mut self) {
        let at = self.random.usize(0..self.nodes.len());
        match self.random.u32(0..1000) {
            0..=249 => self.publish(at),
            250..=549 => self.carry_to_redis(at),
            550..=849 => self.carry_from_redis(at),
            850..=969 => {
                let passed = self.random.u64(1..150);
                self.advance(passed);
            }
            970..=976 => self.kill_redis(),
            977..=984 => self.redis.is_up = true,
            985..=989 => self.cut(at),
            990..=993 => {
                self.redis.is_paused = !self.redis.is_paused;
                self.count("pause");
                let passed = self.random.u64(1..4000);
                self.advance(passed);
            }
            994 if self.faults.may_die => {
                self.count("death");
                let heir = self.node();
                let dead = std::mem::replace(&mut self.nodes[at], heir);
                self.trace(|| format!("{} dies", dead.name));
                self.dead.insert(dead.name);
            }
            _ => {}
        }
    }

    /// Lets everything arrive, and time pass.
    fn settle(&mut self) {
        for _ in 0..400 {
            for at in 0..self.nodes.len() {
                for _ in 0..30 {
                    self.carry_to_redis(at);
                    self.carry_from_redis(at);
                }
            }
            self.advance(60);
        }
    }

    fn publish(&mut self, at: usize) {
        let count = if self.random.u32(0..10) == 0 { 3 } else { 1 };
        let events: Vec<u64> = (0..count).map(|number| self.next_event + number).collect();
        self.next_event += count;
        self.next_call += 1;
        let caller = Caller {
            session: SessionKey {
                shard: ShardIndex(0),
                slot: Slot(self.next_call),
                generation: 0,
            },
            asks: None,
        };
        let broadcasts = events.iter().map(|&event| broadcast(event)).collect();
        let (now, call) = (self.now, self.next_call);
        let node = &mut self.nodes[at];
        let name = node.name.clone();
        let mut effects = Vec::new();
        node.bus
            .handle_publish(now, 0, broadcasts, Some(caller), &mut effects);
        let is_refused = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Refused(_)));
        self.trace(|| format!("{name} publishes {events:?}, call {call}, refused {is_refused}"));
        if is_refused {
            self.count("refused");
        } else {
            self.published
                .extend(events.into_iter().map(|event| (name.clone(), event)));
        }
        self.carry_out(at, effects);
    }

    fn carry_out(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            let name = self.nodes[at].name.clone();
            match effect {
                Effect::Publish(out) => {
                    if out.late {
                        self.count("late");
                    }
                    let event = event_of(&out.broadcast);
                    let command = Command::Message {
                        node: name,
                        seq: out.seq,
                        event,
                    };
                    self.nodes[at].publisher.say(command);
                }
                Effect::Deliver(broadcast) => {
                    let event = event_of(&broadcast);
                    if !self.nodes[at].bus.is_live() {
                        self.count("away");
                    }
                    self.trace(|| format!("{name} delivers {event}"));
                    self.nodes[at].delivered.push(event);
                }
                Effect::Taken(caller) => {
                    let former = self.nodes[at].answers.insert(caller.session.slot.0, true);
                    assert!(former.is_none(), "answered twice");
                }
                Effect::Refused(caller) => {
                    let former = self.nodes[at].answers.insert(caller.session.slot.0, false);
                    assert!(former.is_none(), "answered twice");
                }
                Effect::Dropped => panic!("somebody waits for each event"),
                Effect::Hello { seq } => {
                    self.nodes[at]
                        .publisher
                        .say(Command::Hello { node: name, seq });
                }
                Effect::Ask { node, after } => {
                    let command = Command::Ask {
                        from: name,
                        to: node.into(),
                        after,
                    };
                    self.nodes[at].publisher.say(command);
                }
                Effect::Replay {
                    node,
                    messages,
                    until,
                    is_whole,
                } => {
                    self.count("replayed");
                    let messages = messages
                        .iter()
                        .map(|out| (out.seq, event_of(&out.broadcast)));
                    let messages = messages.collect();
                    let to = node.into();
                    let command = Command::Replay {
                        from: name,
                        to,
                        messages,
                        until,
                        is_whole,
                    };
                    self.nodes[at].publisher.say(command);
                }
                Effect::CloseAll => {
                    self.count("closed all");
                    self.trace(|| format!("{name} closes all"));
                    self.nodes[at].has_closed_all = true;
                }
                Effect::Redial => {
                    self.count("redial");
                    self.trace(|| format!("{name} redials"));
                    self.lose_publisher(at);
                    self.lose_subscriber(at);
                }
            }
        }
    }

    /// Redis carries out a node's next command, or those of both its connections.
    fn carry_to_redis(&mut self, at: usize) {
        if !self.redis.is_up || self.redis.is_paused {
            return;
        }
        let Some(command) = self.nodes[at].publisher.to_redis.pop_front() else {
            return;
        };
        let mut subscribers = 0;
        for node in self
            .nodes
            .iter_mut()
            .filter(|node| node.subscriber.is_subscribed)
        {
            if command.is_for(&node.name) {
                node.subscriber
                    .from_redis
                    .push_back(Heard::Said(command.clone()));
                subscribers += 1;
            }
        }
        self.redis.php_hears(&command);
        let replies = &mut self.nodes[at].publisher.from_redis;
        match command {
            // The PHP node is a subscriber too.
            Command::Message { .. } => replies.push_back(Heard::Reply(subscribers + 1)),
            Command::Ask { to, .. } => replies.push_back(Heard::Asked {
                node: to,
                receivers: subscribers,
            }),
            Command::Hello { .. } | Command::Replay { .. } => {}
        }
    }

    fn carry_from_redis(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let is_reply = self.random.bool();
        let connection = if is_reply {
            &mut node.publisher
        } else {
            &mut node.subscriber
        };
        let Some(heard) = connection.from_redis.pop_front() else {
            return;
        };
        let mut effects = Vec::new();
        let out = &mut effects;
        let incoming = |seq, event| Incoming {
            seq,
            broadcast: broadcast(event),
        };
        match heard {
            Heard::Reply(subscribers) => node.bus.handle_reply(subscribers, out),
            Heard::Asked {
                node: asked,
                receivers,
            } => node.bus.handle_asked(&asked, receivers),
            Heard::Subscribed => node.bus.handle_subscriber_up(now, out),
            Heard::Said(Command::Message {
                node: from,
                seq,
                event,
            }) => {
                node.bus
                    .handle_message(now, &from, incoming(seq, event), out);
            }
            Heard::Said(Command::Hello { node: from, seq }) => {
                node.bus.handle_hello(now, &from, seq, out);
            }
            Heard::Said(Command::Ask { from, after, .. }) => node.bus.handle_ask(&from, after, out),
            Heard::Said(Command::Replay {
                from,
                messages,
                until,
                is_whole,
                ..
            }) => {
                let messages = messages
                    .into_iter()
                    .map(|(seq, event)| incoming(seq, event));
                let messages = messages.collect();
                node.bus
                    .handle_replay(now, &from, messages, until, is_whole, out);
            }
        }
        self.carry_out(at, effects);
    }

    fn advance(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for at in 0..self.nodes.len() {
            let (now, is_up) = (self.now, self.redis.is_up && !self.redis.is_paused);
            let node = &mut self.nodes[at];
            let mut effects = Vec::new();
            if is_up && node.publisher_at.is_some_and(|due| due <= now) {
                node.publisher_at = None;
                node.publisher = Connection {
                    is_up: true,
                    ..Connection::default()
                };
                node.bus.handle_publisher_up(now, &mut effects);
            }
            if is_up && node.subscriber_at.is_some_and(|due| due <= now) {
                node.subscriber_at = None;
                node.subscriber = Connection {
                    is_up: true,
                    ..Connection::default()
                };
                node.subscriber.is_subscribed = true;
                node.subscriber.from_redis.push_back(Heard::Subscribed);
            }
            node.bus.handle_tick(now, &mut effects);
            let bound = 2 * self.faults.limits.replay_bytes + (1 << 16);
            assert!(
                node.bus.held_bytes() <= bound,
                "{} holds too much",
                node.name
            );
            self.carry_out(at, effects);
        }
    }

    /// Redis dies: what it was told may have been done or not, what it said may arrive or not.
    fn kill_redis(&mut self) {
        if !std::mem::replace(&mut self.redis.is_up, false) {
            return;
        }
        self.count("kill");
        self.trace(|| "Redis dies".to_owned());
        for at in 0..self.nodes.len() {
            self.redis.is_up = true;
            for _ in 0..self.random.usize(0..4) {
                self.carry_to_redis(at);
            }
            self.redis.is_up = false;
        }
        for at in 0..self.nodes.len() {
            for _ in 0..self.random.usize(0..6) {
                self.carry_from_redis(at);
            }
            self.lose_publisher(at);
            self.lose_subscriber(at);
        }
    }

    fn cut(&mut self, at: usize) {
        self.count("cut");
        if self.random.bool() {
            self.lose_publisher(at);
        } else {
            self.lose_subscriber(at);
        }
    }

    fn lose_publisher(&mut self, at: usize) {
        let due = self.now + Duration::from_millis(self.random.u64(1..RECONNECT_MAX_MS));
        let node = &mut self.nodes[at];
        if std::mem::take(&mut node.publisher).is_up {
            node.publisher_at = Some(due);
            let mut effects = Vec::new();
            node.bus.handle_publisher_down(&mut effects);
            self.trace(|| format!("publisher of {at} lost"));
            self.carry_out(at, effects);
        }
    }

    fn lose_subscriber(&mut self, at: usize) {
        let due = self.now + Duration::from_millis(self.random.u64(1..RECONNECT_MAX_MS));
        let node = &mut self.nodes[at];
        if std::mem::take(&mut node.subscriber).is_up {
            node.subscriber_at = Some(due);
            let mut effects = Vec::new();
            node.bus.handle_subscriber_down(&mut effects);
            self.trace(|| format!("subscriber of {at} lost"));
            self.carry_out(at, effects);
        }
    }

    /// Every node has each event of the living ones.
    fn check_complete(&self, node: &Node) {
        let delivered: HashSet<_> = node.delivered.iter().collect();
        for (publisher, event) in &self.published {
            let is_missing = !self.dead.contains(publisher) && !delivered.contains(event);
            // Who was born later has no claim to what was before.
            let is_of_its_time = !self.faults.may_die || publisher == &node.name;
            assert!(
                !(is_missing && is_of_its_time),
                "{} misses {event} of {publisher}",
                node.name
            );
        }
    }

    /// Nothing comes twice, and what one node publishes comes in order; calls are answered.
    fn check_order(&self) {
        let publishers: HashMap<u64, &str> = self
            .published
            .iter()
            .map(|(node, event)| (*event, node.as_str()))
            .collect();
        for node in &self.nodes {
            let mut last: HashMap<&str, u64> = HashMap::new();
            for event in &node.delivered {
                let publisher = publishers[event];
                let before = last.insert(publisher, *event);
                assert!(
                    before.is_none_or(|before| before < *event),
                    "{} hears {event} of {publisher} behind {before:?}",
                    node.name
                );
            }
        }
        for (event, times) in &self.redis.heard_by_php {
            assert!(*times == 1, "the PHP node hears {event} {times} times");
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{}", what());
        }
    }
}

fn broadcast(event: u64) -> Arc<Broadcast> {
    Arc::new(Broadcast {
        app: AppIndex(0),
        deliveries: vec![Delivery {
            channel: "c".into(),
            except: None,
            frame: event.to_be_bytes().into(),
            is_kept: false,
        }],
        is_one_event: false,
    })
}

fn event_of(broadcast: &Broadcast) -> u64 {
    u64::from_be_bytes(broadcast.deliveries[0].frame[..].try_into().unwrap())
}
