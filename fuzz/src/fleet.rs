//! A fleet of shards in one thread, without rings, clock or kernel: what shards say to one
//! another is carried when the target says so, and so is what peers write.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slapback::app::{App, AppIndex, AppSettings, Apps};
use slapback::metrics::{Counter, Metrics};
use slapback::proto::Now;
use slapback::proto::session::{Pressure, Settings};
use slapback::shard::audience::Audience;
use slapback::shard::cache::{CacheLimits, KEPT_FOR};
use slapback::shard::message::{Message, ShardIndex};
use slapback::shard::{BacklogLimits, Command, Reading, Setup, Shard};

use super::net::{Net, Peer, Socket};
use super::wire;

/// Shards and sockets.
pub(crate) struct Fleet {
    pub(crate) apps: Arc<Apps>,
    pub(crate) net: Net,
    pub(crate) now: Now,
    pub(crate) pressure: Pressure,
    /// The apps are not those it began with.
    pub(crate) is_reloaded: bool,
    nodes: Vec<Node>,
    bounds: Bounds,
}

/// What a shard may keep for others.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) backlogs: BacklogLimits,
    pub(crate) caches: CacheLimits,
}

/// Bounds that few scripts meet.
pub(crate) const WIDE: Bounds = Bounds {
    backlogs: BacklogLimits {
        bytes: 1 << 20,
        wait: Duration::from_secs(10),
        total: 1 << 26,
    },
    caches: CacheLimits {
        channels: 100,
        bytes: 1 << 20,
    },
};

/// Bounds that a few messages meet.
pub(crate) const TIGHT: Bounds = Bounds {
    backlogs: BacklogLimits {
        bytes: 300,
        wait: Duration::from_secs(10),
        total: 700,
    },
    caches: CacheLimits {
        channels: 2,
        bytes: 300,
    },
};

struct Node {
    shard: Shard,
    metrics: Arc<Metrics>,
    /// What it has said to each shard and nobody has carried.
    said: Vec<VecDeque<Message>>,
    /// Sockets by slot.
    sockets: Vec<Option<usize>>,
}

/// A fleet that takes longer to come to rest never will.
const ROUNDS_MAX: usize = 1000;

/// The time at which every fleet starts, seconds since 1970.
const START_UNIX_S: u64 = 1_800_000_000;

/// The base64 of 16 bytes.
const WEB_SOCKET_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

impl Fleet {
    pub(crate) fn new(shards: u16, apps: Vec<AppSettings>, bounds: Bounds) -> Self {
        let apps = Arc::new(Apps::new(apps));
        let settings = Arc::new(Settings {
            max_request_size: 4000,
            ..Settings::default()
        });
        let audience = Arc::new(Audience::new(shards, 1));
        let start = Instant::now();
        let node = |at| {
            let metrics = Arc::new(Metrics::default());
            let setup = Setup {
                audience: Arc::clone(&audience),
                shard: ShardIndex(at),
                shards,
                bus: None,
                interest: None,
                apps: Arc::clone(&apps),
                settings: Arc::clone(&settings),
                metrics: Arc::clone(&metrics),
                limits: bounds.backlogs,
                cache: bounds.caches,
                seed: u64::from(at),
                start,
            };
            Node {
                shard: Shard::new(setup),
                metrics,
                said: (0..shards).map(|_| VecDeque::new()).collect(),
                sockets: Vec::new(),
            }
        };
        Self {
            nodes: (0..shards).map(node).collect(),
            apps,
            net: Net::default(),
            now: Now {
                instant: start,
                unix_s: START_UNIX_S,
            },
            pressure: Pressure::default(),
            is_reloaded: false,
            bounds,
        }
    }

    pub(crate) fn shards(&self) -> usize {
        self.nodes.len()
    }

    /// None if a reload has taken it away.
    pub(crate) fn app(&self, at: usize) -> Option<&App> {
        let index = u16::try_from(at).ok().map(AppIndex)?;
        self.apps.get(index)
    }

    pub(crate) fn metrics(&self) -> Vec<Arc<Metrics>> {
        let metrics = |node: &Node| Arc::clone(&node.metrics);
        self.nodes.iter().map(metrics).collect()
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        let count = |node: &Node| node.metrics.get(counter);
        self.nodes.iter().map(count).sum()
    }

    /// A peer connects to a shard.
    pub(crate) fn open(&mut self, at: usize) -> usize {
        let number = self.net.sockets.len();
        let node = &mut self.nodes[at];
        let socket = i32::try_from(number).expect("few sockets");
        let key = node.shard.handle_opened(self.now, socket);
        node.sockets
            .resize(node.sockets.len().max(key.slot.at() + 1), None);
        let former = node.sockets[key.slot.at()].replace(number);
        assert_eq!(former, None, "a slot is used twice");
        self.net.sockets.push(Socket::new(key, at));
        number
    }

    /// A peer asks for a WebSocket.
    pub(crate) fn upgrade(&mut self, number: usize, app: usize) {
        let Some(known) = self.app(app) else {
            return;
        };
        let head = wire::upgrade(known, WEB_SOCKET_KEY);
        self.net.sockets[number].upgrade(app, &head);
    }

    /// A peer asks for a channel, with the signature that it needs.
    pub(crate) fn subscribe(&mut self, number: usize, channel: &str, member: &str) {
        self.read_all();
        if self.net.sockets[number].listener.socket_id.is_none() {
            self.flush(self.net.sockets[number].shard, usize::MAX);
        }
        let socket = &self.net.sockets[number];
        let app = socket.app.and_then(|app| self.app(app));
        let (Some(app), Some(id)) = (app, &socket.listener.socket_id) else {
            return;
        };
        let text = wire::subscribe(app, id, channel, member);
        let socket = &mut self.net.sockets[number];
        socket.granted.insert(channel.to_owned());
        socket.write(&wire::masked(1, text.as_bytes(), [7; 4]));
    }

    /// Every shard reads what there is, until nobody may read on.
    pub(crate) fn read_all(&mut self) {
        while (0..self.net.sockets.len()).any(|number| self.read(number)) {}
    }

    /// The shard of a socket reads from it once. False if there is nothing to read.
    fn read(&mut self, number: usize) -> bool {
        let socket = &mut self.net.sockets[number];
        if !socket.is_readable() {
            return false;
        }
        let (at, key) = (socket.shard, socket.key);
        let shard = &mut self.nodes[at].shard;
        shard.pressure = self.pressure;
        if socket.peer == Peer::Reset {
            shard.handle_lost(self.now, key);
            assert_eq!(shard.handle_bytes(self.now, key, &mut []), Reading::Gone);
        } else if socket.input.is_empty() {
            socket.is_paused = true;
            shard.handle_eof(self.now, key);
        } else {
            let length = socket.input.len().min(socket.read_max);
            let mut bytes: Vec<u8> = socket.input.drain(..length).collect();
            let reading = shard.handle_bytes(self.now, key, &mut bytes);
            socket.is_paused = reading == Reading::Paused;
        }
        self.carry_out(at);
        true
    }

    /// Carries up to `most` messages from one shard to another, in order.
    pub(crate) fn carry(&mut self, from: usize, to: usize, most: usize) -> bool {
        self.collect(from);
        let said = &mut self.nodes[from].said[to];
        let carried: Vec<Message> = said.drain(..most.min(said.len())).collect();
        let has_news = !carried.is_empty();
        for message in carried {
            self.nodes[to].shard.handle_message(self.now, message);
        }
        self.carry_out(to);
        has_news
    }

    /// One shard writes to up to `most` sockets. What it has said is on its way before.
    pub(crate) fn flush(&mut self, at: usize, most: usize) -> bool {
        self.collect(at);
        let shard = &mut self.nodes[at].shard;
        let had_work = shard.flush(self.now, &mut self.net, most);
        assert!(
            shard.backlog_bytes() <= self.bounds.backlogs.total,
            "backlogs over their bound"
        );
        self.carry_out(at);
        had_work
    }

    /// A peer takes bytes again, and the shard that waits for that is told.
    pub(crate) fn make_room(&mut self, number: usize, room: usize) -> bool {
        let socket = &mut self.net.sockets[number];
        socket.room = room;
        let is_awaited = std::mem::take(&mut socket.is_awaited);
        if is_awaited && !socket.is_given_up() {
            let (at, key) = (socket.shard, socket.key);
            self.nodes[at].shard.handle_writable(key);
        }
        is_awaited
    }

    /// What cache channels keep is bounded, and goes with time.
    pub(crate) fn check_caches(&mut self) {
        let apps = self.apps.iter().count();
        let kept = |fleet: &Self| -> usize {
            let nodes = fleet.nodes.iter();
            nodes.map(|node| node.shard.cached_events_count()).sum()
        };
        assert!(kept(self) <= apps * self.bounds.caches.channels);
        if kept(self) > 0 {
            self.advance(KEPT_FOR);
            assert_eq!(kept(self), 0, "an event is kept for too long");
        }
    }

    /// Time passes.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.now.instant += by;
        self.now.unix_s += by.as_secs();
        for at in 0..self.nodes.len() {
            self.nodes[at].shard.pressure = self.pressure;
            self.nodes[at].shard.handle_tick(self.now);
            self.carry_out(at);
        }
    }

    /// There are other apps now; one shard has heard of it.
    pub(crate) fn reload(&mut self, at: usize, apps: Vec<AppSettings>) {
        let apps = self.apps.reloaded(apps).expect("there are few apps");
        self.apps = Arc::new(apps);
        self.is_reloaded = true;
        self.hand_out_apps(at);
    }

    /// Every shard has heard of the latest apps.
    pub(crate) fn finish_reload(&mut self) {
        if self.is_reloaded {
            (0..self.nodes.len()).for_each(|at| self.hand_out_apps(at));
        }
    }

    fn hand_out_apps(&mut self, at: usize) {
        let apps = Arc::clone(&self.apps);
        self.nodes[at].shard.handle_apps(self.now, apps);
        self.carry_out(at);
    }

    /// Every shard begins to close its sockets.
    pub(crate) fn begin_drain(&mut self, pace: Duration) {
        self.pressure.leaving = true;
        self.pressure.draining = true;
        for node in &mut self.nodes {
            if !node.shard.is_draining() {
                node.shard.begin_drain(self.now, pace);
            }
        }
    }

    /// Everything is read, carried and taken until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.read_all();
            let mut has_moved = false;
            for at in 0..self.nodes.len() {
                for to in 0..self.nodes.len() {
                    has_moved |= self.carry(at, to, usize::MAX);
                }
                has_moved |= self.flush(at, usize::MAX);
            }
            for number in 0..self.net.sockets.len() {
                has_moved |= self.make_room(number, usize::MAX);
            }
            if !has_moved {
                return;
            }
        }
        panic!("the fleet does not come to rest");
    }

    /// Is no socket left, and no drain under way?
    pub(crate) fn is_over(&self) -> bool {
        self.nodes.iter().all(|node| {
            let is_under_way = node.shard.is_draining() && !node.shard.is_drained();
            node.shard.connections_count() == 0 && !is_under_way
        })
    }

    /// Nothing is left of any socket.
    pub(crate) fn check_nothing_remains(&mut self) {
        for node in &mut self.nodes {
            assert_eq!(node.shard.connections_count(), 0, "a slot is kept");
            assert_eq!(node.shard.backlog_bytes(), 0, "a backlog is kept");
            assert_eq!(node.shard.presence_channels_count(), 0, "a member is kept");
            assert!(!node.shard.is_draining() || node.shard.is_drained());
        }
        for (_, app) in self.apps.iter() {
            if let Some(most) = app.settings.max_connections {
                assert!((0..most).all(|_| app.admit()), "a place is kept");
                assert!(!app.admit(), "a place was given back twice");
            }
        }
    }

    /// Puts what a shard has said where it waits to be carried.
    fn collect(&mut self, at: usize) {
        let Node { shard, said, .. } = &mut self.nodes[at];
        for (to, message) in shard.poll_messages() {
            assert_ne!(usize::from(to.0), at, "a message to itself");
            said[usize::from(to.0)].push_back(message);
        }
    }

    /// Does to sockets what their shard wants done.
    fn carry_out(&mut self, at: usize) {
        let Node { shard, sockets, .. } = &mut self.nodes[at];
        for command in shard.poll_commands() {
            let slot = match command {
                Command::AwaitWritable(key) => key.slot,
                Command::Resume(slot)
                | Command::Fin(slot)
                | Command::Reset(slot)
                | Command::Close(slot) => slot,
            };
            let number = sockets[slot.at()];
            let socket = number.and_then(|number| self.net.sockets.get_mut(number));
            let Some(socket) = socket else {
                // It has been closed by a command before this one.
                assert!(!matches!(command, Command::Close(_) | Command::Reset(_)));
                continue;
            };
            match command {
                Command::AwaitWritable(key) => socket.is_awaited = key == socket.key,
                Command::Resume(_) => socket.is_paused = false,
                Command::Fin(_) => socket.fin(),
                Command::Reset(_) | Command::Close(_) => {
                    socket.close(matches!(command, Command::Reset(_)));
                    sockets[slot.at()] = None;
                }
            }
        }
        let open = sockets.iter().flatten().count();
        assert_eq!(shard.connections_count(), open, "a slot without socket");
        drop(shard.poll_refused());
    }
}
