//! One seed: the fleet, its sockets, and everyone at the other end of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slapback::app::{AppSettings, Apps};
use slapback::metrics::Counter;
use slapback::proto::Now;
use slapback::shard::BacklogLimits;
use slapback::shard::cache::CacheLimits;

use crate::caller::Caller;
use crate::client::{Allowed, Client};
use crate::faults::Faults;
use crate::fleet::{Draw, Fleet};
use crate::model::Model;
use crate::net::{Net, Peer, Server};

/// Who is at the other end of a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner {
    Client(usize),
    Caller(usize),
}

/// Everything that a seed draws.
pub(crate) struct World {
    pub(crate) random: fastrand::Rng,
    pub(crate) apps: Arc<Apps>,
    pub(crate) fleet: Fleet,
    pub(crate) net: Net,
    pub(crate) model: Model,
    pub(crate) clients: Vec<Client>,
    pub(crate) callers: Vec<Caller>,
    /// By socket.
    pub(crate) owners: Vec<Owner>,
    /// Sockets on which anything can still happen.
    pub(crate) live: Vec<usize>,
    pub(crate) allowed: Allowed,
    start: Instant,
    /// The shard that rarely gets to run just now, or behind the last the Redis thread.
    pub(crate) slow: usize,
    /// Channel that a client wants as soon as it is established.
    pub(crate) wishes: Vec<(usize, usize)>,
}

/// Quota of the one app that has one: large enough for every client.
pub(crate) const QUOTA: u32 = 500;

impl World {
    /// Runs one seed to its end.
    pub(crate) fn run(seed: u64) -> Faults {
        let mut world = Self::new(seed);
        let operations = world.random.usize(200..300);
        let rests_at = world.random.usize(100..200);
        let drains_at = if seed.is_multiple_of(3) {
            world.random.usize(operations * 3 / 5..operations)
        } else {
            usize::MAX
        };
        let stirs_max = [3, 8, 20][world.random.usize(0..3)];
        for at in 0..operations {
            if at == drains_at {
                trace!("{at}: drain");
                world.fleet.is_draining = true;
                world.allowed.is_draining = true;
            }
            world.operate(at);
            for _ in 0..world.random.usize(0..=stirs_max) {
                world.stir();
            }
            if at == rests_at {
                world.come_to_rest();
            }
        }
        world.finish();
        let mut faults = std::mem::take(&mut world.net.faults);
        faults.operations += operations as u64;
        world.add_counts(&mut faults);
        faults
    }

    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let apps = Arc::new(Apps::new((0..random.usize(1..=4)).map(app).collect()));
        let is_tight = random.u8(0..4) == 0;
        let is_small = random.u8(0..4) == 0;
        let start = Instant::now();
        let draw = Draw {
            shards: random.u16(2..=5),
            apps: Arc::clone(&apps),
            hears_redis: random.bool(),
            limits: BacklogLimits {
                bytes: [2000, 20_000, 1 << 20][random.usize(0..3)],
                wait: Duration::from_secs(10),
                total: [8000, 100_000, 1 << 28][random.usize(0..3)],
            },
            cache: if is_small {
                CacheLimits {
                    channels: random.usize(1..3),
                    bytes: 3000,
                }
            } else {
                CacheLimits {
                    channels: 1000,
                    bytes: 64 << 20,
                }
            },
            ring_bytes: if is_tight { 3000 } else { 64 << 20 },
            now: Now {
                instant: start,
                unix_s: 1_800_000_000,
            },
        };
        let fleet = Fleet::new(&draw, &mut random);
        let mut model = Model::new(start);
        // What is kept of a channel that is no longer heard is forgotten.
        model.cache.may_drop = is_small || draw.hears_redis;
        trace!("seed {seed}: {} shards, {:?}", draw.shards, draw.limits);
        Self {
            net: Net::new(random.fork(), draw.limits.total),
            random,
            apps,
            fleet,
            model,
            clients: Vec::new(),
            callers: Vec::new(),
            owners: Vec::new(),
            live: Vec::new(),
            allowed: Allowed {
                is_draining: false,
                has_jumped: false,
                may_refuse: is_tight,
            },
            start,
            slow: 0,
            wishes: Vec::new(),
        }
    }

    /// Lets one thing happen that is due: a part of a turn, a read, at a random place.
    pub(crate) fn stir(&mut self) {
        match self.random.u8(0..22) {
            0..9 => {
                let at = self.random.usize(0..self.fleet.nodes.len());
                if at != self.slow || self.random.u8(0..8) == 0 {
                    self.fleet.step(at, &mut self.net);
                }
            }
            9..14 => {
                if let Some(number) = self.any_live() {
                    let most = self.some_bytes();
                    self.read(number, most);
                }
            }
            14..19 => {
                if let Some(number) = self.any_live() {
                    let most = self.some_bytes();
                    self.receive(number, most);
                }
            }
            19 => {
                let at = self.random.usize(0..self.fleet.nodes.len());
                self.tell_writable(at);
            }
            _ => {
                if self.slow != self.fleet.nodes.len() || self.random.u8(0..8) == 0 {
                    self.step_redis();
                }
            }
        }
    }

    /// The Redis thread and Redis do some of what they have to do. False if that is nothing.
    pub(crate) fn step_redis(&mut self) -> bool {
        let most = self.random.usize(0..4);
        self.fleet.step_redis(most, &mut self.net)
    }

    fn any_live(&mut self) -> Option<usize> {
        let index = self.random.usize(0..self.live.len().max(1));
        self.live.get(index).copied()
    }

    /// As much as one read takes: often a piece of a frame.
    pub(crate) fn some_bytes(&mut self) -> usize {
        match self.random.u8(0..3) {
            0 => self.random.usize(1..40),
            1 => self.random.usize(40..2000),
            _ => usize::MAX,
        }
    }

    /// A shard reads from a socket. False if there is nothing.
    pub(crate) fn read(&mut self, number: usize, most: usize) -> bool {
        let is_readable = self.net.sockets[number].is_readable();
        if is_readable {
            self.fleet.read(number, most, &mut self.net);
        }
        is_readable
    }

    /// One socket that is waited for is found writable. False if none is.
    pub(crate) fn tell_writable(&mut self, at: usize) -> bool {
        let sockets = &self.net.sockets;
        let awaited = &mut self.fleet.nodes[at].awaited;
        let is_closed = |number: usize| {
            let server = sockets[number].server;
            matches!(server, Server::Closed | Server::Reset)
        };
        awaited.retain(|&(_, number)| !is_closed(number));
        let index = awaited
            .iter()
            .position(|&(_, number)| sockets[number].is_writable());
        if let Some(index) = index {
            self.fleet.tell_writable(at, index, &mut self.net);
        }
        index.is_some()
    }

    /// Whoever is at the other end reads. False if there is nothing.
    pub(crate) fn receive(&mut self, number: usize, most: usize) -> bool {
        let (owner, allowed) = (self.owners[number], self.allowed);
        let (is_stalled, is_gone) = match owner {
            Owner::Client(at) => (self.clients[at].is_stalled, self.clients[at].is_gone()),
            Owner::Caller(at) => (false, self.callers[at].is_gone()),
        };
        let socket = &mut self.net.sockets[number];
        if is_stalled || is_gone {
            return false;
        }
        if socket.output.is_empty() {
            if socket.server == Server::Open {
                return false;
            }
            let is_reset = socket.server == Server::Reset;
            if socket.peer == Peer::Open {
                socket.peer = Peer::Fin;
            }
            match owner {
                Owner::Client(at) => self.clients[at].hear_end(is_reset, allowed, socket),
                Owner::Caller(at) => self.callers[at].hear_end(is_reset, allowed, socket),
            }
            return true;
        }
        let length = socket.output.len().min(most);
        let bytes: Vec<u8> = socket.output.drain(..length).collect();
        match owner {
            Owner::Client(at) => {
                let client = &mut self.clients[at];
                let was_named = client.id.is_some();
                for said in client.hear(&bytes, &mut self.model, allowed, socket) {
                    socket.write(&said);
                }
                if !was_named && client.id.is_some() {
                    self.grant_wish(at);
                }
            }
            Owner::Caller(at) => {
                let caller = &mut self.callers[at];
                let (model, clients) = (&mut self.model, &mut self.clients);
                if caller.hear(&bytes, model, clients, allowed) > 0 && caller.chain > 0 {
                    let (app, chain) = (caller.app, caller.chain - 1);
                    self.callers[at].chain = 0;
                    self.publish(None, Some(app), chain);
                }
            }
        }
        true
    }

    /// Time passes.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.fleet.advance(by, &mut self.net);
        self.model.now = self.fleet.now.instant;
        let elapsed = self.fleet.now.instant.duration_since(self.start);
        self.allowed.has_jumped = elapsed >= Duration::from_secs(5);
    }

    fn add_counts(&self, faults: &mut Faults) {
        let count = |counter| self.fleet.count(counter);
        faults.spill += count(Counter::Spilled);
        faults.stale_answer += count(Counter::StaleAnswer);
        faults.pruned += count(Counter::Pruned);
        faults.cache_dropped += count(Counter::CacheDropped);
        faults.over_full += count(Counter::ApiOverloaded) + count(Counter::WhisperOverloaded);
        let behind = self.clients.iter().filter(|client| client.fell_behind);
        faults.closed_behind += behind.count() as u64;
        let terminated = self.clients.iter().filter(|client| client.is_terminated);
        faults.terminated += terminated.count() as u64;
        assert_eq!(count(Counter::SessionPanicked), 0, "a session panicked");
        assert_eq!(
            count(Counter::FrameViolation),
            0,
            "a client's frame was misread"
        );
    }
}

fn app(at: usize) -> AppSettings {
    AppSettings {
        ping_interval_s: 30,
        max_connections: (at == 0).then_some(QUOTA),
        ..AppSettings::new(
            format!("app-{at}"),
            format!("key-{at}"),
            format!("secret-{at}"),
        )
    }
}
