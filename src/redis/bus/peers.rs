//! The other nodes of this kind: what was had of each, what is missing, and what is held until it
//! is here.
//!
//! Owned by the bus. A node's messages are delivered in the order of their numbers, each once. What
//! it sends while an answer of it is due is held, for a while and within a bound. The first that is
//! heard of a node is where it begins, as long as this one has just started. Later it is the other
//! that has, and its first words may be lost: it is asked what it has sent since this one started.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Effect, Limits, Payload, clock};
use crate::shard::cache::Stamp;

/// Nodes that are remembered, gone or not; whoever was silent for longest goes first.
const PEERS_MAX: usize = 1024;
/// A node that was silent for so long is not counted, nor asked. What was had of it is remembered:
/// it may only have lost Redis.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Whoever was there before this node has said so by then; who is heard later is new.
const ALL_KNOWN_AFTER: Duration = Duration::from_secs(7);
/// A question is asked again this long after the last time, once Redis has passed that on.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// A question may be under way for so long.
const UNDER_WAY_MAX: Duration = Duration::from_secs(2);
/// A node that hears the question may be about to find out that it cannot publish, which takes
/// `timeout`, and then so long to come back. After that it will not answer.
const RETURN: Duration = Duration::from_secs(2);
/// A node that was not there so often, when it was asked, has died: 10 s.
const MISSED_MAX: u32 = 40;

/// A message of another node.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its number there.
    pub seq: u64,
    /// When it was said, Unix milliseconds or later.
    pub at: u64,
    /// It has waited, or is said again.
    pub is_late: bool,
    /// What it says.
    pub payload: Payload,
}

/// The other nodes, by name.
#[derive(Debug)]
pub(super) struct Peers {
    limits: Limits,
    by_name: BTreeMap<Box<str>, Peer>,
    held_bytes: usize,
    /// How many are counted.
    present: usize,
    /// Since when what others send is for this node too; later if one had to be forgotten.
    listens_since: Instant,
    /// The subscription has been missing since then.
    has_missed: bool,
}

#[derive(Debug)]
struct Peer {
    /// The last number delivered.
    last: u64,
    /// The highest number that is known to be sent.
    known: u64,
    /// It is not known yet which number is the first for this node.
    is_new: bool,
    is_present: bool,
    held: BTreeMap<u64, (Payload, Stamp)>,
    asked: Option<Asked>,
    heard_at: Instant,
}

/// A question that is open. Its time is counted in what Redis says of it, so that a Redis that
/// stands still takes none of it.
#[derive(Debug)]
struct Asked {
    again_at: Instant,
    /// Redis has not said whether it passed it on.
    is_under_way: bool,
    /// How often it reached the node.
    reached: u32,
    /// How often the node was not there.
    missed: u32,
}

impl Peers {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            by_name: BTreeMap::new(),
            held_bytes: 0,
            present: 0,
            listens_since: now,
            has_missed: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.present
    }

    pub(super) fn is_empty(&self) -> bool {
        self.present == 0
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The subscription is there again: everybody may have said something meanwhile.
    pub(super) fn handle_return(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let since = self.listens_since;
        self.has_missed |= now.saturating_duration_since(since) > self.limits.timeout;
        let present = self.by_name.iter_mut().filter(|(_, peer)| peer.is_present);
        for (node, peer) in present {
            peer.heard_at = now;
            peer.ask(node, now, since, effects);
        }
    }

    /// The subscription is lost.
    pub(super) fn handle_loss(&mut self) {
        self.has_missed = true;
    }

    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        node: &str,
        message: Incoming,
        effects: &mut Vec<Effect>,
    ) {
        let first = message.seq.saturating_sub(1);
        let (peer, since) = self.heard(now, node, first, effects);
        peer.known = peer.known.max(message.seq);
        let stamp = clock::stamp(Some(node), message.at);
        if message.seq <= peer.last {
            return;
        }
        if peer.asked.is_none() && !peer.is_new && message.seq == peer.last + 1 {
            peer.last = message.seq;
            effects.push(Effect::Deliver(message.payload, stamp));
            return;
        }
        let weight = message.payload.weight();
        if peer.asked.is_none() {
            peer.ask(node, now, since, effects);
        }
        let told = (message.payload, stamp);
        if peer.held.insert(message.seq, told).is_none() {
            self.held_bytes += weight;
        }
        if self.held_bytes > self.limits.replay_bytes {
            self.give_up(node, effects);
        }
    }

    pub(super) fn handle_hello(
        &mut self,
        now: Instant,
        node: &str,
        seq: u64,
        effects: &mut Vec<Effect>,
    ) {
        let (peer, since) = self.heard(now, node, seq, effects);
        if peer.asked.is_none() && (seq > peer.last || peer.is_new) {
            peer.ask(node, now, since, effects);
        }
    }

    /// A node leaves. Of one from which all was had nothing will be asked again.
    pub(super) fn handle_goodbye(&mut self, node: &str, seq: u64) {
        let is_settled = |peer: &Peer| peer.asked.is_none() && peer.last >= seq;
        if self.by_name.get(node).is_some_and(is_settled)
            && let Some(peer) = self.by_name.remove(node)
        {
            self.present -= usize::from(peer.is_present);
        }
    }

    pub(super) fn handle_replay(
        &mut self,
        now: Instant,
        node: &str,
        messages: Vec<Incoming>,
        (until, is_whole): (u64, bool),
        effects: &mut Vec<Effect>,
    ) {
        let since = self.listens_since;
        let Some(peer) = self
            .by_name
            .get_mut(node)
            .filter(|peer| peer.asked.is_some())
        else {
            return;
        };
        peer.heard_at = now;
        peer.known = peer.known.max(until);
        let first = messages.first().map(|first| first.seq);
        let first = first.unwrap_or(until.saturating_add(1));
        if std::mem::take(&mut peer.is_new) {
            peer.last = peer.last.max(first.saturating_sub(1));
        }
        if !is_whole || first > peer.last.saturating_add(1) && until > peer.last {
            self.give_up(node, effects);
            return;
        }
        for message in messages {
            if message.seq == peer.last.saturating_add(1) {
                peer.last = message.seq;
                let stamp = clock::stamp(Some(node), message.at);
                effects.push(Effect::Deliver(message.payload, stamp));
            }
        }
        let released = peer.release(effects);
        if peer.last < until {
            peer.ask(node, now, since, effects);
        } else if peer.last >= peer.known {
            peer.asked = None;
        }
        self.held_bytes -= released;
    }

    /// A question to a node was passed on to so many.
    pub(super) fn handle_asked(&mut self, node: &str, receivers: i64) {
        let peer = self.by_name.get_mut(node);
        if let Some(asked) = peer.and_then(|peer| peer.asked.as_mut()) {
            asked.is_under_way = false;
            if receivers > 0 {
                asked.reached += 1;
            } else {
                asked.missed += 1;
            }
        }
    }

    /// What was under way may not have got anywhere.
    pub(super) fn handle_publisher_up(&mut self) {
        let asked = self
            .by_name
            .values_mut()
            .filter_map(|peer| peer.asked.as_mut());
        asked.for_each(|asked| asked.is_under_way = false);
    }

    /// Asks again, as long as both connections work.
    pub(super) fn handle_tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let since = self.listens_since;
        let wait = self.limits.timeout + RETURN;
        let reached_max = u32::try_from(wait.as_millis() / ASK_EVERY.as_millis());
        let reached_max = reached_max.unwrap_or(u32::MAX);
        let mut given_up = Vec::new();
        self.present = 0;
        for (node, peer) in &mut self.by_name {
            let is_silent = now.saturating_duration_since(peer.heard_at) >= SILENCE_MAX;
            peer.is_present &= !is_silent || peer.asked.is_some();
            self.present += usize::from(peer.is_present);
            let due = peer.asked.as_mut();
            let due = due.filter(|asked| !asked.is_under_way && asked.again_at <= now);
            let Some(asked) = due else {
                continue;
            };
            if asked.reached >= reached_max || asked.missed >= MISSED_MAX {
                // A node that was never there and has sent nothing is but a name.
                let is_name = peer.is_new && asked.reached == 0 && peer.held.is_empty();
                given_up.push((node.clone(), !is_name));
                continue;
            }
            (asked.again_at, asked.is_under_way) = (now + ASK_EVERY, true);
            effects.push(peer.question(node, now, since));
        }
        for (node, is_missed) in given_up {
            if is_missed {
                self.give_up(&node, effects);
            } else if let Some(peer) = self.by_name.get_mut(&node) {
                self.held_bytes -= peer.stop_asking(effects);
            }
        }
    }

    /// What is missing of a node will not come: all clients are to ask their application.
    fn give_up(&mut self, node: &str, effects: &mut Vec<Effect>) {
        if let Some(peer) = self.by_name.get_mut(node) {
            self.held_bytes -= peer.stop_asking(effects);
            (peer.last, peer.is_new) = (peer.last.max(peer.known), false);
            effects.push(Effect::CloseAll);
        }
    }

    /// The node, remembered from now on, which had sent messages up to this number; and since when
    /// this node listens.
    fn heard(
        &mut self,
        now: Instant,
        node: &str,
        seq: u64,
        effects: &mut Vec<Effect>,
    ) -> (&mut Peer, Instant) {
        if !self.by_name.contains_key(node) && self.by_name.len() >= PEERS_MAX {
            self.forget_one(now, effects);
        }
        let since = self.listens_since;
        let is_new = self.has_missed || now.saturating_duration_since(since) > ALL_KNOWN_AFTER;
        let peer = self.by_name.entry(node.into()).or_insert_with(|| Peer {
            last: if is_new { 0 } else { seq },
            known: seq,
            is_new,
            is_present: false,
            held: BTreeMap::new(),
            asked: None,
            heard_at: now,
        });
        self.present += usize::from(!peer.is_present);
        peer.is_present = true;
        peer.heard_at = now;
        peer.known = peer.known.max(seq);
        (peer, since)
    }

    /// Makes room for another node. Should the forgotten one come back, it is not asked for what
    /// may have been had of it.
    fn forget_one(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let oldest = self.by_name.iter().min_by_key(|(_, peer)| peer.heard_at);
        let oldest = oldest.map(|(node, _)| node.clone());
        if let Some(mut peer) = oldest.and_then(|node| self.by_name.remove(&node)) {
            self.present -= usize::from(peer.is_present);
            self.held_bytes -= peer.stop_asking(effects);
            (self.listens_since, self.has_missed) = (now, false);
        }
    }
}

impl Peer {
    fn ask(&mut self, node: &str, now: Instant, since: Instant, effects: &mut Vec<Effect>) {
        self.asked = Some(Asked {
            again_at: now + ASK_EVERY,
            is_under_way: true,
            reached: 0,
            missed: 0,
        });
        effects.push(self.question(node, now, since));
    }

    fn question(&self, node: &str, now: Instant, since: Instant) -> Effect {
        Effect::Ask {
            node: node.into(),
            after: self.last,
            within: self
                .is_new
                .then(|| now.saturating_duration_since(since) + UNDER_WAY_MAX),
        }
    }

    /// Delivers what is held, whatever is missing before it. Gives the bytes that are no longer
    /// held.
    fn stop_asking(&mut self, effects: &mut Vec<Effect>) -> usize {
        self.asked = None;
        let held = std::mem::take(&mut self.held);
        self.last = held
            .keys()
            .next_back()
            .copied()
            .unwrap_or(self.last)
            .max(self.last);
        let mut released = 0;
        for (payload, stamp) in held.into_values() {
            released += payload.weight();
            effects.push(Effect::Deliver(payload, stamp));
        }
        released
    }

    /// Delivers what is held and stands right behind what was delivered. Gives the bytes that are
    /// no longer held.
    fn release(&mut self, effects: &mut Vec<Effect>) -> usize {
        let mut released = 0;
        while let Some(first) = self.held.first_entry() {
            let seq = *first.key();
            if seq > self.last.saturating_add(1) {
                break;
            }
            let (payload, stamp) = first.remove();
            released += payload.weight();
            if seq > self.last {
                self.last = seq;
                effects.push(Effect::Deliver(payload, stamp));
            }
        }
        released
    }
}
