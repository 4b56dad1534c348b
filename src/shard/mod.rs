//! One shard, sans-io: its sessions, its index, its homes, its clock wheel.
//!
//! Messages, bytes and time come in by `handle_*`; what is to be done comes out as commands for
//! the edge, messages for other shards and, through [`Shard::flush`], bytes for sockets. It owns
//! no socket and reads no clock: the edge drives it under a runtime, `tests/sim.rs` under a
//! seeded scheduler.

pub mod audience;
pub mod backlog;
pub mod cache;
pub mod connection;
pub mod drain;
mod effects;
pub mod ends;
pub mod flusher;
pub mod home;
pub mod index;
mod interest;
pub mod message;
mod outbound;
pub mod question;
pub mod turn;
pub mod wheel;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;

use crate::app::{AppIndex, Apps};
use crate::broadcast::SocketId;
use crate::metrics::{Counter, Metrics};
use crate::proto::Now;
use crate::proto::event::Scratch;
use crate::proto::session::{Effects, Pressure, Protocol, Refused, Session, Settings};
use crate::proto::turnstile::Turnstile;
use crate::shard::audience::{Audience, Seats};
use crate::shard::cache::CacheLimits;
use crate::shard::connection::{Connections, Life};
use crate::shard::drain::{Drain, Recall};
use crate::shard::ends::TURN_BYTES_MAX;
use crate::shard::flusher::{Outgoing, Sent};
use crate::shard::home::{Homes, Said};
use crate::shard::index::{Index, Slot};
use crate::shard::interest::Interests;
use crate::shard::message::{Message, SessionKey, ShardIndex};
use crate::shard::question::Questions;
pub use crate::shard::turn::Gathered;
use crate::shard::turn::{Share, Turn};
use crate::shard::wheel::Wheel;

/// Bounds of what a shard keeps for sockets that do not read.
#[derive(Debug, Clone, Copy)]
pub struct BacklogLimits {
    /// Bytes of one socket's backlog, beyond its first frame.
    pub bytes: usize,
    /// How long a socket may take nothing.
    pub wait: Duration,
    /// Bytes of all backlogs of a shard together.
    pub total: usize,
}

/// What a shard is made of.
#[derive(Debug)]
pub struct Setup {
    /// Its number.
    pub shard: ShardIndex,
    /// How many there are in the fleet.
    pub shards: u16,
    /// With scaling on: the Redis thread, which gives events their order.
    pub bus: Option<ShardIndex>,
    /// If only channels are heard in Redis that somebody is on: the Redis thread, to be told which.
    pub interest: Option<ShardIndex>,
    /// Who has somebody on a channel.
    pub audience: Arc<Audience>,
    /// All apps.
    pub apps: Arc<Apps>,
    /// Server-wide settings.
    pub settings: Arc<Settings>,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    /// Bounds of backlogs.
    pub limits: BacklogLimits,
    /// Bounds of what each app's cache channels keep.
    pub cache: CacheLimits,
    /// Seeds socket ids and hash maps.
    pub seed: u64,
    /// The time it starts.
    pub start: Instant,
}

/// What the shard wants of the edge, about one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Call [`Shard::handle_writable`] once the socket can take bytes again.
    AwaitWritable(SessionKey),
    /// Read on: input no longer waits for an answer.
    Resume(Slot),
    /// Shut the sending side: FIN behind everything sent.
    Fin(Slot),
    /// Close with a RST. The slot is free from now on.
    Reset(Slot),
    /// Close. The slot is free from now on.
    Close(Slot),
}

/// Whether the edge may read on from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Yes.
    On,
    /// Not before [`Command::Resume`].
    Paused,
    /// The slot is gone.
    Gone,
}

/// Sockets of an app that is gone which are closed in one tick.
const GONE_PER_TICK: u32 = 1000;

/// How long the peer's Close, and after our FIN its EOF, is waited for.
pub const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// One shard.
#[derive(Debug)]
pub struct Shard<S = Session> {
    me: ShardIndex,
    shards: u16,
    bus: Option<ShardIndex>,
    apps: Arc<Apps>,
    turnstile: Turnstile,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    limits: BacklogLimits,
    random: fastrand::Rng,
    connections: Connections<S>,
    by_socket: HashMap<SocketId, (AppIndex, Slot), RandomState>,
    index: Index,
    seats: Seats,
    interests: Option<Interests>,
    homes: Homes,
    questions: Questions,
    wheel: Wheel,
    turn: Turn,
    /// Replies that a large turn does not hold up.
    ahead: Turn,
    drain: Option<Drain>,
    recall: Option<Recall>,
    /// What the node is short of; the edge sets it before it hands in anything new.
    pub pressure: Pressure,
    /// Slots whose sockets are full.
    blocked: Vec<Slot>,
    /// Blocked slots whose sockets can take bytes again.
    writable: Vec<Slot>,
    /// Bytes of all backlogs.
    backlog_bytes: usize,
    outbox: Vec<(ShardIndex, Message)>,
    /// Messages to itself, in order.
    loopback: VecDeque<Message>,
    is_looping: bool,
    commands: Vec<Command>,
    refused: Vec<Refused>,
    /// Sessions whose held input is taken up as soon as the turn has room: their backlog has
    /// shrunk, or the turn was full.
    caught_up: Vec<SessionKey>,
    /// Sessions that left while their input waited.
    late: Vec<SessionKey>,
    scratch: Scratch,
    effects: Effects,
    said: Vec<Said>,
    due: Vec<Slot>,
    shares: Vec<Share>,
    ranges: Vec<Range<u32>>,
    batch: Vec<Outgoing>,
    /// The slots of `batch`.
    batched: Vec<Share>,
    results: Vec<Sent>,
}

impl<S: Protocol> Shard<S> {
    /// An empty shard.
    pub fn new(setup: Setup) -> Self {
        let mut random = fastrand::Rng::with_seed(setup.seed);
        let mut seed = || random.u64(..);
        let hasher = RandomState::with_seeds(seed(), seed(), seed(), seed());
        Self {
            me: setup.shard,
            shards: setup.shards,
            bus: setup.bus,
            apps: setup.apps,
            turnstile: Turnstile::new(setup.settings.accept_rate, setup.shards),
            settings: setup.settings,
            metrics: setup.metrics,
            limits: setup.limits,
            random,
            connections: Connections::default(),
            by_socket: HashMap::with_hasher(hasher.clone()),
            index: Index::new(hasher.clone()),
            seats: Seats::new(setup.shard, setup.audience),
            interests: setup
                .interest
                .map(|redis| Interests::new(redis, hasher.clone())),
            homes: Homes::new(setup.cache, hasher.clone()),
            questions: Questions::new(hasher),
            wheel: Wheel::new(setup.start),
            turn: Turn::default(),
            ahead: Turn::default(),
            drain: None,
            recall: None,
            pressure: Pressure::default(),
            blocked: Vec::new(),
            writable: Vec::new(),
            backlog_bytes: 0,
            outbox: Vec::new(),
            loopback: VecDeque::new(),
            is_looping: false,
            commands: Vec::new(),
            refused: Vec::new(),
            caught_up: Vec::new(),
            late: Vec::new(),
            scratch: Scratch::default(),
            effects: Effects::default(),
            said: Vec::new(),
            due: Vec::new(),
            shares: Vec::new(),
            ranges: Vec::new(),
            batch: Vec::new(),
            batched: Vec::new(),
            results: Vec::new(),
        }
    }

    /// A connection was accepted; `socket` is what the flusher will be given for it.
    pub fn handle_opened(&mut self, now: Now, socket: i32) -> SessionKey {
        self.metrics.add(Counter::Accepted, 1);
        let (slot, generation) = self.connections.open(socket, now.instant);
        self.turn.open(slot);
        self.ahead.open(slot);
        self.schedule(slot, now.instant);
        if let Some(drain) = &mut self.drain {
            drain.note_opened();
        }
        SessionKey {
            shard: self.me,
            slot,
            generation,
        }
    }

    /// Bytes came in.
    pub fn handle_bytes(&mut self, now: Now, key: SessionKey, input: &mut [u8]) -> Reading {
        let mut at = 0;
        loop {
            let Some(connection) = self.connections.at_key(key) else {
                return Reading::Gone;
            };
            let rest = input.get_mut(at..).unwrap_or_default();
            // Whoever sends faster than it reads our answers is slowed down, not cut off.
            connection.is_behind = connection.waiting.is_none()
                && connection.owed_bytes() > connection.held_from_bytes(&self.limits);
            if connection.waiting.is_some() || connection.is_behind {
                connection.held.extend_from_slice(rest);
                return Reading::Paused;
            }
            if rest.is_empty() || matches!(connection.life, Life::FinSent { .. }) {
                return Reading::On;
            }
            // A few short requests may ask for more than a turn can hold.
            if self.turn.filled_bytes() + self.ahead.filled_bytes() > TURN_BYTES_MAX {
                connection.held.extend_from_slice(rest);
                self.caught_up.push(key);
                return Reading::Paused;
            }
            let taken = self.call(now, key.slot, |session, context, effects| {
                session.handle_bytes(rest, context, effects)
            });
            // A session that takes nothing and asks for nothing would be asked for ever.
            let is_stuck = taken == 0 && self.effects.list.is_empty();
            self.execute(now, key.slot);
            if is_stuck {
                self.handle_lost(now, key);
            }
            at += taken;
        }
    }

    /// The peer will send nothing more.
    pub fn handle_eof(&mut self, now: Now, key: SessionKey) {
        let Some(connection) = self.connections.at_key(key) else {
            return;
        };
        connection.is_eof = true;
        match connection.life {
            Life::FinSent { .. } => self.free(key.slot, Command::Close(key.slot)),
            Life::Finishing { .. } => {}
            // A client that half-closes after its request still gets its answer.
            Life::Open if connection.is_answering() => {}
            Life::Open | Life::EchoAwaited { .. } => self.finish(now.instant, key.slot),
        }
        self.run_loopback(now);
    }

    /// The connection broke.
    pub fn handle_lost(&mut self, now: Now, key: SessionKey) {
        if self.connections.at_key(key).is_some() {
            self.lose(key.slot);
            self.run_loopback(now);
        }
    }

    /// The socket of a [`Command::AwaitWritable`] can take bytes.
    pub fn handle_writable(&mut self, key: SessionKey) {
        if self
            .connections
            .at_key(key)
            .is_some_and(|connection| connection.backlog.is_some())
        {
            self.writable.push(key.slot);
        }
    }

    /// A message from another shard, in the order of its ring.
    pub fn handle_message(&mut self, now: Now, message: Message) {
        self.loopback.push_back(message);
        self.run_loopback(now);
    }

    /// Time has passed: call it every [`wheel::TICK`].
    pub fn handle_tick(&mut self, now: Now) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now.instant, &mut due);
        for slot in due.drain(..) {
            self.handle_due(now, slot);
        }
        self.due = due;
        self.homes.handle_tick(now.instant);
        for key in std::mem::take(&mut self.late) {
            self.resume(now, key);
        }
        self.close_stalled(now.instant);
        self.pace_drain(now);
        self.run_loopback(now);
    }

    /// These are the apps from now on. Sockets of an app that is gone are closed, not all at once.
    pub fn handle_apps(&mut self, now: Now, apps: Arc<Apps>) {
        self.apps = apps;
        let slots: Vec<_> = self.connections.slots().collect();
        let mut gone = 0;
        for slot in slots {
            let app = self
                .connections
                .at(slot)
                .and_then(|known| known.established);
            if app.is_none_or(|(app, _)| self.apps.get(app).is_some()) {
                // Its ping interval may be shorter now.
                self.schedule(slot, now.instant);
            } else {
                let due = now.instant + wheel::TICK * (1 + gone / GONE_PER_TICK);
                self.wheel.schedule(slot, due);
                gone += 1;
            }
        }
    }

    /// What to tell other shards, in order; empties the list.
    pub fn poll_messages(&mut self) -> std::vec::Drain<'_, (ShardIndex, Message)> {
        self.outbox.drain(..)
    }

    /// What the edge is to do, in order; empties the list.
    pub fn poll_commands(&mut self) -> std::vec::Drain<'_, Command> {
        self.commands.drain(..)
    }

    /// Refusals to log; empties the list.
    pub fn poll_refused(&mut self) -> std::vec::Drain<'_, Refused> {
        self.refused.drain(..)
    }

    /// Has the shard messages to hand out?
    pub fn has_messages(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Has the shard messages, commands or bytes to hand out?
    pub fn has_output(&self) -> bool {
        !(self.outbox.is_empty()
            && self.commands.is_empty()
            && self.turn.is_empty()
            && self.ahead.is_empty()
            && self.caught_up.is_empty()
            && self.writable.is_empty())
    }

    /// What waits for the next flush; `None` while a turn is being flushed.
    pub fn gathered(&self) -> Option<Gathered> {
        self.turn.is_flushed().then(|| self.turn.gathered())
    }

    /// Bytes appended this turn: beyond a few MiB the edge flushes before it takes more in.
    pub fn filled_bytes(&self) -> usize {
        self.turn.filled_bytes() + self.ahead.filled_bytes()
    }

    /// Are there replies that wait for no turn?
    pub fn has_replies(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Connections it holds, in whatever state.
    pub fn connections_count(&self) -> usize {
        self.connections.count()
    }

    /// Subscriptions to a channel on this shard.
    pub fn subscription_count(&self, app: AppIndex, channel: &str) -> usize {
        self.index.slots(app, channel).len()
    }

    /// Presence channels that its homes keep members of.
    pub fn presence_channels_count(&self) -> usize {
        self.homes.channels_count()
    }

    /// Questions that its homes have not answered yet.
    pub fn open_questions_count(&self) -> usize {
        self.questions.count()
    }

    /// Events that the cache channels of its homes keep.
    pub fn cached_events_count(&self) -> usize {
        self.homes.cached_count()
    }

    /// Bytes of all backlogs together.
    pub fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    fn handle_due(&mut self, now: Now, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else {
            return;
        };
        let has_backlog = connection.backlog.is_some();
        match connection.life {
            Life::Open => {
                self.call(now, slot, |session, context, effects| {
                    session.handle_deadline(context, effects);
                    0
                });
                self.execute(now, slot);
            }
            Life::EchoAwaited { until } | Life::Finishing { until } if until <= now.instant => {
                if has_backlog {
                    self.reset(slot);
                } else {
                    self.finish(now.instant, slot);
                }
            }
            Life::FinSent { until } if until <= now.instant => {
                self.free(slot, Command::Close(slot));
            }
            Life::EchoAwaited { .. } | Life::Finishing { .. } | Life::FinSent { .. } => {}
        }
        self.schedule(slot, now.instant);
    }

    /// Makes sure the wheel brings a slot up when something is due for it.
    fn schedule(&mut self, slot: Slot, now: Instant) {
        let Some(connection) = self.connections.at(slot) else {
            return;
        };
        let due = match connection.life {
            Life::Open => connection.session.deadline(&self.apps),
            Life::EchoAwaited { until } | Life::Finishing { until } | Life::FinSent { until } => {
                Some(until)
            }
        };
        if let Some(due) = due {
            self.wheel.schedule(slot, due.max(now));
        }
    }
}
