//! The nodes, Redis and time, moved on by one seed.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use slapback::redis::bus::{Caller, Effect};
use slapback::shard::index::Slot;
use slapback::shard::message::{SessionKey, ShardIndex};

use crate::faults::{Counts, Faults};
use crate::node::{CHANNELS, Clock, Node, event_of, payload, told};
use crate::redis::{Command, Heard, Redis};

const STEPS: usize = 600;
/// A connection is made anew within so long once Redis is there.
const RECONNECT_MAX_MS: u64 = 1200;
/// A node's clock is ahead by as much at most.
const CLOCK_AHEAD_MAX_MS: u64 = 5000;
/// The publisher of a PHP node.
pub(crate) const PHP: &str = "php";

/// An event that was taken.
pub(crate) struct Event {
    pub(crate) publisher: String,
    /// Its caller had seen 200 for this one.
    pub(crate) cause: Option<u64>,
}

pub(crate) struct Call {
    pub(crate) node: String,
    pub(crate) events: Vec<u64>,
    pub(crate) is_answered: bool,
}

pub(crate) struct World {
    random: fastrand::Rng,
    faults: Faults,
    now: Instant,
    pub(crate) redis: Redis,
    pub(crate) nodes: Vec<Node>,
    pub(crate) events: BTreeMap<u64, Event>,
    pub(crate) calls: Vec<Call>,
    /// For which a caller saw 200.
    answered: Vec<u64>,
    next_event: u64,
    lives: u32,
    is_traced: bool,
    pub(crate) counts: Counts,
}

impl World {
    /// Nodes that have heard of one another before anything goes wrong.
    pub(crate) fn new(seed: u64, faults: Faults, is_traced: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(2..=3);
        let mut world = Self {
            random,
            faults,
            now: Instant::now(),
            redis: Redis::default(),
            nodes: Vec::new(),
            events: BTreeMap::new(),
            calls: Vec::new(),
            answered: Vec::new(),
            next_event: 0,
            lives: 0,
            is_traced,
            counts: Counts::default(),
        };
        for _ in 0..count {
            let node = world.born();
            world.nodes.push(node);
        }
        world.next_event = 1;
        world.settle();
        world
    }

    /// Plays the seed to its end, when everything works and has arrived.
    pub(crate) fn play(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.redis.is_paused = false;
        self.redis.is_up = true;
        self.settle();
    }

    /// Publishes on each node and in each channel, with nothing in its way; gives the first of these
    /// events.
    pub(crate) fn say_something(&mut self) -> u64 {
        let first = self.next_event;
        for at in (0..self.nodes.len()).cycle() {
            if self.next_event >= first + CHANNELS {
                break;
            }
            self.publish(at);
        }
        self.settle();
        first
    }

    fn step(&mut self) {
        let at = self.random.usize(0..self.nodes.len());
        match self.random.u32(0..1000) {
            0..=179 => self.publish(at),
            180..=199 => self.publish_foreign(),
            200..=449 => self.carry_to_redis(at),
            450..=839 => self.carry_from_redis(at),
            840..=849 => self.carry_strays(),
            850..=969 => {
                let passed = self.random.u64(1..100);
                self.advance(passed);
            }
            _ if !self.faults.may_fail => {}
            970..=975 => self.kill_redis(),
            976..=983 => self.redis.is_up = true,
            984..=988 => self.cut(at),
            989 => {
                self.counts.count("all subscribers cut");
                (0..self.nodes.len()).for_each(|at| self.lose_subscriber(at));
            }
            990..=993 => {
                self.redis.is_paused = !self.redis.is_paused;
                self.counts.count("pause");
                let passed = self.random.u64(1..4000);
                self.advance(passed);
            }
            994..=995 if self.faults.may_die => self.die(at),
            996 if self.faults.may_part && self.random.u32(0..4) == 0 => self.part_for_long(at),
            _ => {}
        }
    }

    fn born(&mut self) -> Node {
        self.lives += 1;
        let ahead_ms = self.random.u64(0..CLOCK_AHEAD_MAX_MS);
        let clock = Clock::new(self.now, ahead_ms);
        let limits = self.faults.limits;
        Node::new(self.lives, self.next_event, limits, self.now, clock)
    }

    fn die(&mut self, at: usize) {
        self.counts.count("death");
        self.leave_publisher(at);
        let heir = self.born();
        let dead = std::mem::replace(&mut self.nodes[at], heir);
        self.trace(|| format!("{} dies", dead.name));
    }

    /// One node does not reach Redis for more than a minute, the others do.
    fn part_for_long(&mut self, at: usize) {
        self.counts.count("long parting");
        (self.redis.is_up, self.redis.is_paused) = (true, false);
        self.lose_publisher(at);
        self.lose_subscriber(at);
        let back = self.now + Duration::from_secs(self.random.u64(30..100));
        let node = &mut self.nodes[at];
        (node.publisher_at, node.subscriber_at) = (Some(back), Some(back));
        while self.now < back {
            self.carry_everything();
            self.advance(500);
        }
    }

    fn settle(&mut self) {
        for _ in 0..400 {
            self.carry_everything();
            self.advance(60);
        }
    }

    fn carry_everything(&mut self) {
        for at in 0..self.nodes.len() {
            for _ in 0..8 {
                self.carry_to_redis(at);
                self.carry_from_redis(at);
            }
        }
        self.carry_strays();
    }

    fn publish(&mut self, at: usize) {
        let count = if self.random.u32(0..10) == 0 { 3 } else { 1 };
        let events: Vec<u64> = (self.next_event..).take(count).collect();
        self.next_event += count as u64;
        let slot = Slot(u32::try_from(self.calls.len()).unwrap());
        let session = SessionKey {
            shard: ShardIndex(0),
            slot,
            generation: 0,
        };
        let caller = Caller {
            session,
            asks: None,
        };
        let cause = match self.answered.len() {
            0 => None,
            count => Some(self.answered[count - 1 - self.random.usize(0..count.min(4))]),
        };
        let payloads = events.iter().map(|&event| payload(event));
        let node = &mut self.nodes[at];
        let (name, unix_ms) = (node.name.clone(), node.clock.unix_ms(self.now));
        let mut effects = Vec::new();
        node.bus.handle_publish(
            self.now,
            unix_ms,
            payloads.collect(),
            Some(caller),
            &mut effects,
        );
        let is_refused = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Refused(_)));
        self.trace(|| format!("{name} publishes {events:?}, refused: {is_refused}"));
        if !is_refused {
            self.events.extend(events.iter().map(|&event| {
                let publisher = name.clone();
                (event, Event { publisher, cause })
            }));
        }
        self.calls.push(Call {
            node: name,
            events,
            is_answered: false,
        });
        self.carry_out(at, effects);
    }

    fn publish_foreign(&mut self) {
        if !self.redis.works() {
            return;
        }
        let publisher = PHP.to_owned();
        let cause = None;
        self.events
            .insert(self.next_event, Event { publisher, cause });
        self.execute(&Command::Foreign(self.next_event));
        self.next_event += 1;
        self.counts.count("foreign");
    }

    fn carry_out(&mut self, at: usize, effects: Vec<Effect>) {
        let name = self.nodes[at].name.clone();
        for effect in effects {
            let command = match effect {
                Effect::Publish(out) => {
                    if out.late {
                        self.counts.count("late");
                    }
                    self.check_publish(at, out.seq);
                    let (node, told) = (name.clone(), told(&out));
                    Command::Message { node, told }
                }
                Effect::Deliver(payload, stamp) => {
                    let event = event_of(&payload);
                    if !self.nodes[at].bus.is_live() {
                        self.counts.count("away");
                    }
                    self.trace(|| format!("{name} delivers {event}, {stamp:?}"));
                    self.nodes[at].deliver(&payload, stamp);
                    continue;
                }
                Effect::Taken(caller) => {
                    let call = self.answer(&caller, true);
                    let delivered = &self.nodes[at].delivered;
                    let is_here = |event| delivered.contains(event);
                    assert!(self.calls[call].events.iter().all(is_here), "200 before it");
                    continue;
                }
                Effect::Refused(caller) => {
                    self.counts.count("refused");
                    self.answer(&caller, false);
                    continue;
                }
                Effect::Dropped => panic!("somebody waits for each event"),
                Effect::Hello { seq, asks, at } => Command::Hello {
                    node: name.clone(),
                    seq,
                    asks,
                    at,
                },
                Effect::Ask {
                    node,
                    after,
                    within,
                } => Command::Ask {
                    from: name.clone(),
                    to: node.into(),
                    after,
                    within,
                },
                Effect::Replay {
                    node,
                    messages,
                    until,
                    is_whole,
                } => {
                    self.counts.count("replayed");
                    Command::Replay {
                        from: name.clone(),
                        to: node.into(),
                        messages: messages.iter().map(told).collect(),
                        until,
                        is_whole,
                    }
                }
                Effect::CloseAll => {
                    self.counts.count("closed all");
                    self.trace(|| format!("{name} closes all"));
                    self.nodes[at].has_closed_all = true;
                    continue;
                }
                Effect::Redial => {
                    self.counts.count("redial");
                    self.trace(|| format!("{name} redials"));
                    self.lose_publisher(at);
                    self.lose_subscriber(at);
                    continue;
                }
            };
            self.trace(|| format!("{name} says {command:?}"));
            self.nodes[at].publisher.say(command);
        }
    }

    /// Each message goes on the bus once, in order; none is left out within the bound.
    fn check_publish(&mut self, at: usize, seq: u64) {
        let last = std::mem::replace(&mut self.nodes[at].last_seq, seq);
        let is_next = seq == last + 1 || self.faults.is_tight() && seq > last;
        assert!(is_next, "{seq} is published behind {last}");
    }

    /// Gives the number of the call.
    fn answer(&mut self, caller: &Caller, is_taken: bool) -> usize {
        let number = caller.session.slot.0 as usize;
        let call = &mut self.calls[number];
        assert!(
            !std::mem::replace(&mut call.is_answered, true),
            "answered twice"
        );
        if is_taken {
            self.answered.extend(&call.events);
        }
        number
    }

    /// Redis carries out some of a node's commands.
    fn carry_to_redis(&mut self, at: usize) {
        for _ in 0..self.random.usize(1..8) {
            if !self.redis.works() {
                return;
            }
            let Some(command) = self.nodes[at].publisher.to_redis.pop_front() else {
                return;
            };
            let receivers = self.execute(&command);
            if command.is_aside() && self.faults.may_fail && self.random.u32(0..20) == 0 {
                self.counts.count("doubled");
                self.redis.doubled.push(command.clone());
            }
            let replies = &mut self.nodes[at].publisher.from_redis;
            match command {
                Command::Message { .. } => replies.push_back(Heard::Reply(receivers + 1)),
                Command::Ask { to: node, .. } => {
                    replies.push_back(Heard::Asked { node, receivers });
                }
                _ => {}
            }
        }
    }

    fn carry_strays(&mut self) {
        if !self.redis.works() {
            return;
        }
        for command in self.redis.strays(&mut self.random) {
            self.counts.count("stray");
            self.trace(|| format!("late: {command:?}"));
            self.execute(&command);
        }
    }

    /// Gives it to all who are subscribed, and how many of the nodes are.
    fn execute(&mut self, command: &Command) -> i64 {
        self.redis.php_hears(command);
        let nodes = self.nodes.iter_mut();
        let nodes = nodes.filter(|node| node.subscriber.is_subscribed);
        let mut receivers = 0;
        for node in nodes.filter(|node| command.is_for(&node.name)) {
            let said = Heard::Said(command.clone());
            node.subscriber.from_redis.push_back(said);
            receivers += 1;
        }
        receivers
    }

    fn carry_from_redis(&mut self, at: usize) {
        for _ in 0..self.random.usize(1..16) {
            let node = &mut self.nodes[at];
            let connection = match self.random.bool() {
                true => &mut node.publisher,
                false => &mut node.subscriber,
            };
            if let Some(heard) = connection.from_redis.pop_front() {
                let effects = node.hear(self.now, heard);
                self.carry_out(at, effects);
            }
        }
    }

    fn advance(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for at in 0..self.nodes.len() {
            let now = self.now;
            if self.redis.works() {
                let effects = self.nodes[at].connect(now);
                self.carry_out(at, effects);
            }
            let node = &mut self.nodes[at];
            let mut effects = Vec::new();
            let unix_ms = node.clock.unix_ms(now);
            node.bus.handle_tick(now, unix_ms, &mut effects);
            let bound = 2 * self.faults.limits.replay_bytes + (1 << 16);
            assert!(node.bus.held_bytes() <= bound, "{} holds", node.name);
            self.carry_out(at, effects);
        }
    }

    /// Redis dies: what it was told may have been done or not, what it said may arrive or not.
    fn kill_redis(&mut self) {
        if !self.redis.is_up {
            return;
        }
        self.counts.count("kill");
        self.trace(|| "Redis dies".to_owned());
        for at in 0..self.nodes.len() {
            if self.random.bool() {
                self.carry_to_redis(at);
            }
        }
        self.redis.die();
        for at in 0..self.nodes.len() {
            if self.random.bool() {
                self.carry_from_redis(at);
            }
            self.lose_publisher(at);
            self.lose_subscriber(at);
        }
        self.redis.die();
    }

    fn cut(&mut self, at: usize) {
        self.counts.count("cut");
        match self.random.bool() {
            true => self.lose_publisher(at),
            false => self.lose_subscriber(at),
        }
    }

    /// What the connection carried may still be read by Redis, all or some of it.
    fn leave_publisher(&mut self, at: usize) {
        let mut commands = std::mem::take(&mut self.nodes[at].publisher.to_redis);
        commands.truncate(self.random.usize(0..=commands.len()));
        if !commands.is_empty() && self.redis.is_up && self.random.bool() {
            self.redis.leftovers.push(commands);
        }
    }

    fn lose_publisher(&mut self, at: usize) {
        self.leave_publisher(at);
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

    pub(crate) fn living(&self) -> HashSet<&str> {
        self.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{}", what());
        }
    }
}
