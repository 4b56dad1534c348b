//! The other nodes of this kind: what was had of each, what is missing, and what is held until it
//! is here.
//!
//! Owned by the bus. A node's messages are delivered in the order of their numbers, each once. What
//! it sends while an answer of it is due is held, for a while and within a bound.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Effect, Limits};
use crate::broadcast::Broadcast;

/// Nodes that are remembered; whoever was silent for longest goes first.
const PEERS_MAX: usize = 1024;
/// A node that was silent for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A question is asked again this long after the last time, once Redis has passed that on.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// A node that was asked so often and has not answered will not: 2 s.
const REACHED_MAX: u32 = 8;
/// A node that was not there so often, when it was asked, has died: 10 s.
const MISSED_MAX: u32 = 40;

/// A message of another node.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its number there.
    pub seq: u64,
    /// What it says.
    pub broadcast: Arc<Broadcast>,
}

/// The other nodes, by name.
#[derive(Debug)]
pub(super) struct Peers {
    limits: Limits,
    by_name: HashMap<Box<str>, Peer>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Peer {
    /// The last number delivered.
    last: u64,
    held: BTreeMap<u64, Arc<Broadcast>>,
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
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            by_name: HashMap::new(),
            held_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The subscription is there again: everybody may have said something meanwhile.
    pub(super) fn handle_return(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for (node, peer) in &mut self.by_name {
            peer.ask(node, now, effects);
        }
    }

    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        node: &str,
        message: Incoming,
        effects: &mut Vec<Effect>,
    ) {
        // The first that is heard of a node is where it begins.
        let peer = self.heard(now, node, message.seq.saturating_sub(1));
        if message.seq <= peer.last {
            return;
        }
        if peer.asked.is_none() && message.seq == peer.last + 1 {
            peer.last = message.seq;
            effects.push(Effect::Deliver(message.broadcast));
            return;
        }
        let weight = message.broadcast.weight();
        if peer.asked.is_none() {
            peer.ask(node, now, effects);
        }
        if peer.held.insert(message.seq, message.broadcast).is_none() {
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
        let peer = self.heard(now, node, seq);
        if peer.asked.is_none() && seq > peer.last {
            peer.ask(node, now, effects);
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
        let Some(peer) = self
            .by_name
            .get_mut(node)
            .filter(|peer| peer.asked.is_some())
        else {
            return;
        };
        peer.heard_at = now;
        let first = messages
            .first()
            .map_or(until.saturating_add(1), |first| first.seq);
        if !is_whole || first > peer.last + 1 && until > peer.last {
            return self.give_up(node, effects);
        }
        for message in messages {
            if message.seq == peer.last + 1 {
                peer.last = message.seq;
                effects.push(Effect::Deliver(message.broadcast));
            }
        }
        if peer.last < until {
            return peer.ask(node, now, effects);
        }
        peer.asked = None;
        let released = peer.release(effects);
        if !peer.held.is_empty() {
            peer.ask(node, now, effects);
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
        let mut given_up = Vec::new();
        for (node, peer) in &mut self.by_name {
            let due = peer.asked.as_mut();
            let due = due.filter(|asked| !asked.is_under_way && asked.again_at <= now);
            let Some(asked) = due else {
                continue;
            };
            if asked.reached >= REACHED_MAX || asked.missed >= MISSED_MAX {
                given_up.push(node.clone());
                continue;
            }
            (asked.again_at, asked.is_under_way) = (now + ASK_EVERY, true);
            let (node, after) = (node.clone(), peer.last);
            effects.push(Effect::Ask { node, after });
        }
        for node in given_up {
            self.give_up(&node, effects);
        }
        self.by_name.retain(|_, peer| {
            peer.asked.is_some() || now.saturating_duration_since(peer.heard_at) < SILENCE_MAX
        });
    }

    /// What is missing of a node will not come. What is held is delivered all the same, and all
    /// clients are to ask their application.
    fn give_up(&mut self, node: &str, effects: &mut Vec<Effect>) {
        let Some(peer) = self.by_name.get_mut(node) else {
            return;
        };
        peer.asked = None;
        let held = std::mem::take(&mut peer.held);
        peer.last = held
            .keys()
            .next_back()
            .copied()
            .unwrap_or(peer.last)
            .max(peer.last);
        self.held_bytes -= held
            .values()
            .map(|broadcast| broadcast.weight())
            .sum::<usize>();
        effects.extend(held.into_values().map(Effect::Deliver));
        effects.push(Effect::CloseAll);
    }

    /// The node, remembered from now on, its messages up to `last` taken for had if it is new.
    fn heard(&mut self, now: Instant, node: &str, last: u64) -> &mut Peer {
        if !self.by_name.contains_key(node) && self.by_name.len() >= PEERS_MAX {
            let oldest = self.by_name.iter().min_by_key(|(_, peer)| peer.heard_at);
            let oldest = oldest.map(|(node, _)| node.clone());
            if let Some(peer) = oldest.and_then(|node| self.by_name.remove(&node)) {
                self.held_bytes -= peer.held.values().map(|held| held.weight()).sum::<usize>();
            }
        }
        let peer = self.by_name.entry(node.into()).or_insert_with(|| Peer {
            last,
            held: BTreeMap::new(),
            asked: None,
            heard_at: now,
        });
        peer.heard_at = now;
        peer
    }
}

impl Peer {
    fn ask(&mut self, node: &str, now: Instant, effects: &mut Vec<Effect>) {
        self.asked = Some(Asked {
            again_at: now + ASK_EVERY,
            is_under_way: true,
            reached: 0,
            missed: 0,
        });
        effects.push(Effect::Ask {
            node: node.into(),
            after: self.last,
        });
    }

    /// Delivers what is held and stands right behind what was delivered. Gives the bytes that are
    /// no longer held.
    fn release(&mut self, effects: &mut Vec<Effect>) -> usize {
        let mut released = 0;
        while let Some(first) = self.held.first_entry() {
            let seq = *first.key();
            if seq > self.last + 1 {
                break;
            }
            let broadcast = first.remove();
            released += broadcast.weight();
            if seq == self.last + 1 {
                self.last = seq;
                effects.push(Effect::Deliver(broadcast));
            }
        }
        released
    }
}
