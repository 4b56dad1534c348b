//! The bus between nodes: order, outage and return, as a state machine. What is said and heard on
//! it goes through here; bytes and sockets do not.
//!
//! - While both connections to Redis work, an own event is published and delivered when it comes
//!   back: one order for every node. Its caller gets 200 behind that, once Redis has answered.
//! - When one breaks, or Redis is late, whatever has not been delivered here is, in order; what
//!   comes after is delivered at once and waits to be published, within a bound.
//! - Back again, the node subscribes first, then publishes what waits, in pieces, each when the one
//!   before has come back; until the last has, new events join the end.
//! - Each message bears its node and a number. A number that was had is dropped; one that is
//!   missing is asked for ([`peers`]). What may or may not have been published when a connection
//!   broke is never published again: the other nodes of this kind ask for it.

mod clock;
mod own;
pub mod peers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::clock::Clock;
use self::own::Own;
use self::peers::{Incoming, Peers};
use crate::app::AppIndex;
use crate::broadcast::Broadcast;
use crate::shard::cache::Stamp;
use crate::shard::message::SessionKey;
use crate::shard::question::Ask;

/// Bytes of a piece of what waits to be published, or is asked for.
pub const PIECE_BYTES: usize = 1 << 20;
/// A node says that it is there this often.
const HELLO_EVERY: Duration = Duration::from_secs(5);

/// Bounds of the bus.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of own messages that wait or are kept, and of another node's that are held.
    pub replay_bytes: usize,
    /// How late Redis may be.
    pub timeout: Duration,
}

/// What one message says.
#[derive(Debug, Clone)]
pub enum Payload {
    /// To the subscribers of channels.
    Event(Arc<Broadcast>),
    /// All sockets that a user has on presence channels are to go.
    Terminate {
        /// The user's app.
        app: AppIndex,
        /// The user's id as a string.
        user: Box<str>,
    },
}

impl Payload {
    /// Bytes that it keeps in memory while it waits.
    pub fn weight(&self) -> usize {
        match self {
            Self::Event(broadcast) => broadcast.weight(),
            Self::Terminate { user, .. } => user.len() + RECORD_BYTES,
        }
    }
}

/// About what a message takes beside its texts.
const RECORD_BYTES: usize = 64;

/// An API call that waits for its events to be taken.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its connection.
    pub session: SessionKey,
    /// What it asks of the fleet then.
    pub asks: Option<Ask>,
}

/// One own message as it goes out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its number, counted from 1.
    pub seq: u64,
    /// When it was taken, Unix milliseconds or later; as it counts, once it has come back.
    pub at: u64,
    /// It has waited, or is said again.
    pub late: bool,
    /// What it says.
    pub payload: Payload,
}

/// What the bus wants done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Publish it on the bus.
    Publish(Outgoing),
    /// Give it to this node's subscribers; it was said then.
    Deliver(Payload, Stamp),
    /// The call's events are taken: 200, or what it asks.
    Taken(Caller),
    /// They are not: 503.
    Refused(Caller),
    /// There was no room for events that nobody waits for.
    Dropped,
    /// Tell the others that this node is there, and its last number.
    Hello {
        /// The last own number.
        seq: u64,
        /// The others are to say the same: this node has not heard them, or not all the time.
        asks: bool,
        /// When it is said, Unix milliseconds or later.
        at: u64,
    },
    /// Ask a node for its messages behind a number.
    Ask {
        /// Whom.
        node: Box<str>,
        /// The last one that was had.
        after: u64,
        /// Only for what it has sent within this time: nothing was had of it before.
        within: Option<Duration>,
    },
    /// Answer such a question with one piece.
    Replay {
        /// Who asked.
        node: Box<str>,
        /// In order.
        messages: Vec<Outgoing>,
        /// The last own number: there are more to ask for if the piece ends before it.
        until: u64,
        /// The first of them is the one that was asked for.
        is_whole: bool,
    },
    /// Something was missed that nobody can give: every client is to come back.
    CloseAll,
    /// Redis is late: dial both connections again.
    Redial,
}

/// The bus as one node sees it.
#[derive(Debug)]
pub struct Bus {
    node: Box<str>,
    limits: Limits,
    publisher_works: bool,
    subscriber_works: bool,
    state: State,
    clock: Clock,
    own: Own,
    peers: Peers,
    /// Somebody else has been heard, or Redis had more than one subscriber for our last message.
    has_company: bool,
    hello: Hello,
}

/// When this node says next that it is there.
#[derive(Debug)]
struct Hello {
    due: Instant,
    /// The others have been asked to say the same, since this node hears them.
    has_asked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Own messages are delivered when they come back.
    Live,
    /// A connection is missing: they are delivered at once.
    Away,
    /// The same until this number, the end of a piece sent then, has come back.
    Returning { until: u64, since: Instant },
}

impl Bus {
    /// The bus of a node of this name, without connections.
    pub fn new(node: &str, limits: Limits, now: Instant) -> Self {
        Self {
            node: node.into(),
            limits,
            publisher_works: false,
            subscriber_works: false,
            state: State::Away,
            clock: Clock::new(node),
            own: Own::default(),
            peers: Peers::new(limits, now),
            has_company: false,
            hello: Hello {
                due: now,
                has_asked: false,
            },
        }
    }

    /// Takes what this node says, all or none: each is one message, the caller is one for all.
    pub fn handle_publish(
        &mut self,
        now: Instant,
        unix_ms: u64,
        payloads: Vec<Payload>,
        caller: Option<Caller>,
        effects: &mut Vec<Effect>,
    ) {
        let bytes: usize = payloads.iter().map(Payload::weight).sum();
        let is_over = self.own.waiting_bytes() + bytes > self.limits.replay_bytes;
        if is_over && (self.has_company || self.state == State::Live) {
            effects.push(caller.map_or(Effect::Dropped, Effect::Refused));
            return;
        }
        let is_returning = matches!(self.state, State::Returning { .. });
        let is_sent = self.publisher_works && !is_returning && !self.own.has_unsent();
        let is_delivered = self.state != State::Live;
        let last = payloads.len().saturating_sub(1);
        let mut caller = caller;
        for (number, payload) in payloads.into_iter().enumerate() {
            let caller = caller.take_if(|_| is_sent && number == last);
            let at = self.clock.say(unix_ms);
            let out = self.own.push(now, at, payload, caller);
            if is_delivered {
                let stamp = self.clock.stamp(at);
                effects.push(Effect::Deliver(out.payload.clone(), stamp));
                self.own.delivered_to(out.seq);
            }
            if is_sent {
                self.own.sent_to(out.seq);
                effects.push(Effect::Publish(out));
            }
        }
        effects.extend(caller.map(Effect::Taken));
        self.own.trim(self.limits.replay_bytes, !self.has_company);
    }

    /// The connection that publishes works.
    pub fn handle_publisher_up(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.publisher_works = true;
        self.peers.handle_publisher_up();
        self.come_back(now, effects);
    }

    /// Every subscription is confirmed.
    pub fn handle_subscriber_up(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.subscriber_works = true;
        (self.hello.due, self.hello.has_asked) = (now, false);
        self.clock.come_back();
        self.peers.handle_return(now, effects);
        self.come_back(now, effects);
    }

    /// The connection that publishes is lost. What it had no answer for may have been published.
    pub fn handle_publisher_down(&mut self, effects: &mut Vec<Effect>) {
        (self.publisher_works, self.hello.has_asked) = (false, false);
        self.own.answer_all();
        self.go_away(effects);
    }

    /// Redis has refused the oldest message that has no answer, for want of a right: so it will
    /// those behind it. The connection is lost next.
    pub fn handle_refusal(&mut self) {
        self.own.unsend();
    }

    /// The subscription is lost.
    pub fn handle_subscriber_down(&mut self, effects: &mut Vec<Effect>) {
        self.subscriber_works = false;
        self.peers.handle_loss();
        self.go_away(effects);
    }

    /// Redis has answered the oldest message that has no answer: it had so many subscribers.
    pub fn handle_reply(&mut self, receivers: i64, effects: &mut Vec<Effect>) {
        self.has_company = receivers > 1 || !self.peers.is_empty();
        self.own.answer();
        effects.extend(self.own.taken().map(Effect::Taken));
    }

    /// Redis has passed a question to a node on to so many.
    pub fn handle_asked(&mut self, node: &str, receivers: i64) {
        self.peers.handle_asked(node, receivers);
    }

    /// A message of a node of this kind came on the bus.
    pub fn handle_message(
        &mut self,
        now: Instant,
        node: &str,
        mut message: Incoming,
        effects: &mut Vec<Effect>,
    ) {
        message.at = self.clock.hear(message.at, message.is_late);
        if self.is_own(node) {
            return self.handle_echo(now, message.seq, message.at, effects);
        }
        self.has_company = true;
        self.peers.handle_message(now, node, message, effects);
    }

    /// A message of a PHP node came on the bus: it has no number, and does not say when.
    pub fn handle_foreign(&mut self, payload: Payload, effects: &mut Vec<Effect>) {
        self.has_company = true;
        let stamp = clock::stamp(None, self.clock.hear(0, false));
        effects.push(Effect::Deliver(payload, stamp));
    }

    /// A node says that it is there: its last number, whether it wants the same said in return, and
    /// when it says so.
    pub fn handle_hello(
        &mut self,
        now: Instant,
        node: &str,
        (seq, asks, at): (u64, bool, u64),
        effects: &mut Vec<Effect>,
    ) {
        self.clock.hear(at, true);
        if !self.is_own(node) {
            self.has_company = true;
            if asks {
                self.hello.due = now;
            }
            self.peers.handle_hello(now, node, seq, effects);
        }
    }

    /// A node leaves in good order, having said messages up to this number.
    pub fn handle_goodbye(&mut self, node: &str, seq: u64) {
        self.peers.handle_goodbye(node, seq);
    }

    /// A node asks for our messages behind a number, or for those sent within a time.
    pub fn handle_ask(
        &mut self,
        now: Instant,
        node: &str,
        after: u64,
        within: Option<Duration>,
        effects: &mut Vec<Effect>,
    ) {
        let since = within.and_then(|within| now.checked_sub(within));
        let (messages, is_whole) = self.own.behind(after, since);
        effects.push(Effect::Replay {
            node: node.into(),
            messages,
            // What is not sent yet will come on the bus.
            until: self.own.last_sent(),
            is_whole,
        });
    }

    /// A node answers what was asked of it.
    pub fn handle_replay(
        &mut self,
        now: Instant,
        node: &str,
        mut messages: Vec<Incoming>,
        until: u64,
        is_whole: bool,
        effects: &mut Vec<Effect>,
    ) {
        for message in &mut messages {
            message.at = self.clock.hear(message.at, true);
        }
        self.peers
            .handle_replay(now, node, messages, (until, is_whole), effects);
    }

    /// Does what is due. `unix_ms` is Unix milliseconds.
    pub fn handle_tick(&mut self, now: Instant, unix_ms: u64, effects: &mut Vec<Effect>) {
        if self.is_late(now) {
            effects.push(Effect::Redial);
        }
        if self.publisher_works && self.subscriber_works {
            self.peers.handle_tick(now, effects);
        }
        if self.publisher_works && self.hello.due <= now {
            self.hello.due = now + HELLO_EVERY;
            let asks = self.subscriber_works && !self.hello.has_asked;
            self.hello.has_asked |= asks;
            let seq = self.own.last_sent();
            let at = self.clock.greet(unix_ms);
            effects.push(Effect::Hello { seq, asks, at });
        }
    }

    /// What to tell the others when this node leaves: its last number. Nothing may follow it.
    pub fn last_sent(&self) -> u64 {
        self.own.last_sent()
    }

    /// Bytes of own messages, those that are kept included, and of what is held of other nodes.
    pub fn held_bytes(&self) -> usize {
        self.own.bytes() + self.peers.held_bytes()
    }

    /// Nodes of this kind that have been heard lately, this one not counted.
    pub fn peers_count(&self) -> usize {
        self.peers.len()
    }

    /// The name of this node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Is there a connection that publishes?
    pub fn publisher_works(&self) -> bool {
        self.publisher_works
    }

    /// Is there a subscription?
    pub fn subscriber_works(&self) -> bool {
        self.subscriber_works
    }

    /// Is this the name of this node?
    pub fn is_own(&self, node: &str) -> bool {
        *node == *self.node
    }

    /// Are there others, as far as is known?
    pub fn has_company(&self) -> bool {
        self.has_company
    }

    /// Are own messages delivered when they come back?
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Is the queue full, so that more would be refused?
    pub fn is_full(&self) -> bool {
        self.has_company && self.own.waiting_bytes() >= self.limits.replay_bytes
    }

    fn handle_echo(&mut self, now: Instant, seq: u64, at: u64, effects: &mut Vec<Effect>) {
        self.own.counts_at(seq, at);
        self.deliver_to(seq, effects);
        self.own.trim(self.limits.replay_bytes, false);
        if matches!(self.state, State::Returning { until, .. } if until == seq) {
            self.publish_waiting(now, effects);
        }
    }

    fn come_back(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.publisher_works && self.subscriber_works && self.state == State::Away {
            self.publish_waiting(now, effects);
        }
    }

    /// Publishes the next piece of what waits; when there is none, all is as it should be.
    fn publish_waiting(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let piece = self.own.send_piece(now);
        if let Some(last) = piece.last() {
            let (until, since) = (last.seq, now);
            self.state = State::Returning { until, since };
            effects.extend(piece.into_iter().map(Effect::Publish));
            return;
        }
        self.state = State::Live;
        // The others see by it what they have missed of what may not have been published.
        self.hello.due = now;
    }

    fn go_away(&mut self, effects: &mut Vec<Effect>) {
        self.state = State::Away;
        self.deliver_to(self.own.last(), effects);
        self.own.trim(self.limits.replay_bytes, !self.has_company);
    }

    /// Delivers here what has not been, up to a number.
    fn deliver_to(&mut self, seq: u64, effects: &mut Vec<Effect>) {
        effects.extend(self.own.undelivered(seq).map(|out| {
            let stamp = self.clock.stamp(out.at);
            Effect::Deliver(out.payload.clone(), stamp)
        }));
        self.own.delivered_to(seq);
        effects.extend(self.own.taken().map(Effect::Taken));
    }

    /// Has an answer or an echo been due for too long?
    fn is_late(&self, now: Instant) -> bool {
        let echo = match self.state {
            State::Live => self.own.undelivered_since(),
            State::Away => None,
            State::Returning { since, .. } => Some(since),
        };
        let oldest = echo.into_iter().chain(self.own.unanswered_since()).min();
        oldest.is_some_and(|oldest| now.saturating_duration_since(oldest) > self.limits.timeout)
    }
}

#[cfg(test)]
mod tests;
