//! The shards of the fleet, each driven as the edge drives it: turns in parts, reads, writable
//! sockets, ticks, and sleep between them. Between two parts of one shard's turn others may run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use slapback::app::Apps;
use slapback::metrics::{Counter, Metrics};
use slapback::proto::Now;
use slapback::proto::session::{Pressure, Settings};
use slapback::ring::{Inbox, Wake};
use slapback::shard::audience::Audience;
use slapback::shard::cache::CacheLimits;
use slapback::shard::ends::{Ends, Part, TURN, mesh};
use slapback::shard::message::{SessionKey, ShardIndex};
use slapback::shard::{BacklogLimits, Command, Reading, Setup, Shard};

use crate::net::{Net, Peer, Server};
use crate::redis::Redis;

/// All shards, and the time.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Node>,
    /// The shards', then that of the Redis thread.
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    /// If only channels are heard in Redis that somebody is on.
    pub(crate) redis: Option<Redis>,
    pub(crate) now: Now,
    pub(crate) is_draining: bool,
    pub(crate) pace: Duration,
    pub(crate) audience: Arc<Audience>,
    flush_chunk: usize,
}

/// One shard with its edge.
pub(crate) struct Node {
    number: u16,
    pub(crate) shard: Shard,
    pub(crate) metrics: Arc<Metrics>,
    ends: Ends,
    woken: Arc<AtomicBool>,
    is_turn_due: bool,
    rest: Rest,
    /// The part of the turn that is next.
    part: usize,
    has_worked: bool,
    /// By slot.
    sockets: Vec<Option<usize>>,
    /// Sockets that are waited for.
    pub(crate) awaited: Vec<(SessionKey, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Awake,
    /// It has said that it will sleep, and looks once more.
    Announced,
    Asleep,
}

struct Flag(Arc<AtomicBool>);

impl Wake for Flag {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What a fleet is drawn from.
pub(crate) struct Draw {
    pub(crate) shards: u16,
    pub(crate) apps: Arc<Apps>,
    pub(crate) hears_redis: bool,
    pub(crate) limits: BacklogLimits,
    pub(crate) cache: CacheLimits,
    pub(crate) ring_bytes: usize,
    pub(crate) now: Now,
}

impl Fleet {
    pub(crate) fn new(draw: &Draw, random: &mut fastrand::Rng) -> Self {
        let all = draw.shards + u16::from(draw.hears_redis);
        let flags: Vec<Arc<AtomicBool>> = (0..all).map(|_| Arc::default()).collect();
        let inbox = |flag: &Arc<AtomicBool>| {
            Arc::new(Inbox::new(
                draw.ring_bytes,
                Box::new(Flag(Arc::clone(flag))),
            ))
        };
        let inboxes: Vec<Arc<Inbox>> = flags.iter().map(inbox).collect();
        let settings = Arc::new(Settings {
            max_request_size: 200_000,
            ..Settings::default()
        });
        let mut ends = mesh(random.usize(1..=4), &inboxes);
        let redis = draw.hears_redis.then(|| ends.pop()).flatten();
        let apps = u16::try_from(draw.apps.iter().count()).unwrap();
        let redis = redis.map(|ends| Redis::new(apps, draw.shards, ends));
        let audience = Arc::new(Audience::new(draw.shards, random.u64(..)));
        let mut nodes = Vec::new();
        for ((at, ends), woken) in (0..draw.shards).zip(ends).zip(flags) {
            let metrics = Arc::new(Metrics::default());
            let setup = Setup {
                shard: ShardIndex(at),
                shards: draw.shards,
                bus: None,
                interest: draw.hears_redis.then_some(ShardIndex(draw.shards)),
                audience: Arc::clone(&audience),
                apps: Arc::clone(&draw.apps),
                settings: Arc::clone(&settings),
                metrics: Arc::clone(&metrics),
                limits: draw.limits,
                cache: draw.cache,
                seed: random.u64(..),
                start: draw.now.instant,
            };
            nodes.push(Node {
                number: at,
                shard: Shard::new(setup),
                metrics,
                ends,
                woken,
                is_turn_due: false,
                rest: Rest::Awake,
                part: 0,
                has_worked: false,
                sockets: Vec::new(),
                awaited: Vec::new(),
            });
        }
        Self {
            nodes,
            inboxes,
            audience,
            redis,
            now: draw.now,
            is_draining: false,
            pace: Duration::from_millis(random.u64(0..4000)),
            flush_chunk: [1, 2, 5, 256][random.usize(0..4)],
        }
    }

    /// Accepts a connection.
    pub(crate) fn open(&mut self, at: usize, net: &mut Net) -> usize {
        self.end_turn(at, net);
        let (node, now) = (&mut self.nodes[at], self.now);
        let number = net.connect(at, |socket| node.shard.handle_opened(now, socket));
        let key = net.sockets[number].key;
        if key.generation > 0 {
            net.faults.reused_slot += 1;
        }
        if node.sockets.len() <= key.slot.at() {
            node.sockets.resize(key.slot.at() + 1, None);
        }
        assert!(
            node.sockets[key.slot.at()].is_none(),
            "slot {key:?} has a socket still"
        );
        node.sockets[key.slot.at()] = Some(number);
        number
    }

    /// Lets one shard do the next thing it has to do. False if it sleeps and has nothing.
    pub(crate) fn step(&mut self, at: usize, net: &mut Net) -> bool {
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.woken.swap(false, Ordering::SeqCst) {
            node.is_turn_due = true;
        }
        match node.rest {
            Rest::Asleep if !node.is_turn_due => return false,
            Rest::Asleep => {}
            Rest::Announced => {
                if !(node.is_turn_due || node.shard.has_output()) {
                    node.publish();
                    if !node.ends.has_news() {
                        node.rest = Rest::Asleep;
                        return true;
                    }
                }
            }
            Rest::Awake => {
                node.take_part(now, self.flush_chunk, net);
                if node.rest == Rest::Announced {
                    self.inboxes[at].announce_sleep();
                }
                return true;
            }
        }
        self.inboxes[at].announce_awake();
        node.rest = Rest::Awake;
        true
    }

    /// Lets the Redis thread and Redis do something. False if they have nothing to do.
    pub(crate) fn step_redis(&mut self, most: usize, net: &mut Net) -> bool {
        let now = self.now.instant;
        let redis = self.redis.as_mut();
        redis.is_some_and(|redis| redis.step(now, most, &mut net.faults))
    }

    /// Lets a shard finish the turn it is in: its thread does nothing else meanwhile.
    fn end_turn(&mut self, at: usize, net: &mut Net) {
        while self.nodes[at].part > 0 {
            self.step(at, net);
        }
    }

    /// The shard reads from a socket, up to `most` bytes.
    pub(crate) fn read(&mut self, number: usize, most: usize, net: &mut Net) {
        let socket = &net.sockets[number];
        let (at, key) = (socket.shard, socket.key);
        self.end_turn(at, net);
        let pressure = self.pressure();
        let node = &mut self.nodes[at];
        let socket = &mut net.sockets[number];
        // Meanwhile the turn may have closed it.
        if !socket.is_readable() {
            return;
        }
        node.shard.pressure = pressure;
        let length = socket.input.len().min(most);
        let mut bytes: Vec<u8> = socket.input.drain(..length).collect();
        if length > 0 {
            let reading = node.shard.handle_bytes(self.now, key, &mut bytes);
            node.carry_out(net);
            if reading == Reading::Paused {
                net.sockets[number].is_paused = true;
            }
        } else if socket.peer == Peer::Fin {
            node.shard.handle_eof(self.now, key);
            node.carry_out(net);
            net.sockets[number].is_paused = true;
        } else {
            node.shard.handle_lost(self.now, key);
            node.carry_out(net);
        }
    }

    /// Tells a shard of a socket it waits for.
    pub(crate) fn tell_writable(&mut self, at: usize, index: usize, net: &mut Net) {
        self.end_turn(at, net);
        let node = &mut self.nodes[at];
        if index < node.awaited.len() {
            let (key, number) = node.awaited.swap_remove(index);
            if !matches!(net.sockets[number].server, Server::Closed | Server::Reset) {
                node.shard.handle_writable(key);
                node.is_turn_due = true;
            }
        }
    }

    /// Time passes for every shard.
    pub(crate) fn advance(&mut self, by: Duration, net: &mut Net) {
        let before = self.now.instant;
        self.now.instant += by;
        self.now.unix_s += by.as_secs();
        if let Some(redis) = &mut self.redis {
            redis.advance(before, self.now.instant, &mut net.faults);
        }
        for at in 0..self.nodes.len() {
            self.end_turn(at, net);
            let pressure = self.pressure();
            let node = &mut self.nodes[at];
            node.shard.pressure = pressure;
            if self.is_draining && !node.shard.is_draining() {
                node.shard.begin_drain(self.now, self.pace);
                net.faults.drain += 1;
            }
            node.shard.handle_tick(self.now);
            node.carry_out(net);
        }
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.nodes
            .iter()
            .map(|node| node.metrics.get(counter))
            .sum()
    }

    fn pressure(&self) -> Pressure {
        Pressure {
            leaving: self.is_draining,
            draining: self.is_draining,
            over_full: self.inboxes.iter().any(|inbox| inbox.is_over_full()),
            node_full: false,
        }
    }
}

impl Node {
    fn take_part(&mut self, now: Now, flush_chunk: usize, net: &mut Net) {
        if self.part == 0 {
            self.is_turn_due = false;
            self.has_worked = false;
        }
        match TURN[self.part] {
            Part::Take => {
                self.has_worked |= self.ends.take(now, &mut self.shard);
                self.carry_out(net);
            }
            Part::Publish => {
                self.publish();
                net.faults.full_ring += u64::from(self.ends.has_spill());
            }
            Part::Flush => {
                let waiting = self.shard.poll_messages().count();
                assert_eq!(waiting, 0, "an answer overtakes the news it rests on");
                self.has_worked |= self.shard.flush(now, net, flush_chunk);
                let owed = self.shard.backlog_bytes();
                assert!(owed <= net.backlog_total, "backlogs hold {owed} bytes");
                self.carry_out(net);
            }
        }
        self.part = (self.part + 1) % TURN.len();
        if self.part == 0 && !self.has_worked {
            self.rest = Rest::Announced;
        }
    }

    fn publish(&mut self) {
        self.ends.publish(&mut self.shard);
    }

    fn carry_out(&mut self, net: &mut Net) {
        let commands: Vec<Command> = self.shard.poll_commands().collect();
        self.is_turn_due |= self.shard.has_output();
        for command in commands {
            trace!("    shard {}: {command:?}", self.number);
            match command {
                Command::AwaitWritable(key) => {
                    if let Some(number) = self.sockets[key.slot.at()] {
                        self.awaited.push((key, number));
                    }
                }
                Command::Resume(slot) => {
                    if let Some(number) = self.sockets[slot.at()] {
                        net.sockets[number].is_paused = false;
                    }
                }
                Command::Fin(slot) => {
                    if let Some(number) = self.sockets[slot.at()] {
                        net.sockets[number].server = Server::Fin;
                    }
                }
                Command::Reset(slot) => {
                    let number = self.sockets[slot.at()]
                        .take()
                        .expect("a reset without socket");
                    net.faults.server_reset += 1;
                    net.sockets[number].close(true);
                }
                Command::Close(slot) => {
                    let number = self.sockets[slot.at()]
                        .take()
                        .expect("a close without socket");
                    net.sockets[number].close(false);
                }
            }
        }
    }
}
