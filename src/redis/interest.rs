//! Which channels are to be heard in Redis, where only those are subscribed to that somebody here
//! is on: a state machine. A channel is wanted, asked of Redis, heard; when no shard wants it any
//! longer it lingers, so that a page that is loaded again finds it heard, and then is dropped.
//!
//! Owned by `ingest`, which says to Redis what [`Interest::next_command`] gives and to shards what
//! the effects are. Each interest of a shard is answered once: when Redis has confirmed the
//! channel, after [`WAIT`], or at once while Redis is known to be away. Never waits and never
//! reads a clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::AppIndex;
use crate::redis::laravel::Prefixes;
use crate::shard::message::ShardIndex;

/// A shard is not kept waiting for longer, should Redis not answer.
pub const WAIT: Duration = Duration::from_secs(2);
/// A channel that nobody wants any longer is heard for this time.
pub const LINGER: Duration = Duration::from_secs(60);
/// Channels that linger; of more, the one that has for longest is dropped.
pub const LINGERING_MAX: usize = 4096;
/// Interests that wait for Redis; further ones do not.
pub const WAITING_MAX: usize = 1 << 16;
/// Names of one command, but for the last channel's.
pub const NAMES_MAX: usize = 1024;
/// Bytes of the names of one command, but for the last channel's.
pub const NAMES_BYTES_MAX: usize = 1 << 20;

/// A channel of an app.
pub type Channel = (AppIndex, Arc<str>);

/// A shard, and its number of the interest.
pub type Asker = (ShardIndex, u32);

/// What comes of something.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// A shard need not wait any longer for a channel.
    Heard(Asker, Channel),
    /// A channel is heard no longer: what is published now passes by.
    Dropped(Channel),
}

/// The channels.
#[derive(Debug)]
pub struct Interest {
    phase: Phase,
    /// Names longer than this are not asked of Redis.
    name_bytes_max: usize,
    channels: BTreeMap<Channel, Entry>,
    /// Those that are [`State::Wanted`].
    unasked: BTreeSet<Channel>,
    /// Names of the `SUBSCRIBE` that Redis has not answered yet. One is under way at a time.
    unconfirmed: usize,
    /// Who waits, in the order of time; some have been told meanwhile.
    waiting: VecDeque<Wait>,
    /// Those that are [`State::Lingering`], by their tickets.
    lingering: BTreeMap<Ticket, Channel>,
    last_ticket: u64,
    /// Dropped ones of which Redis has not been told.
    dropped: VecDeque<Channel>,
}

/// What is known of the connection.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// It has not been made, nor has that failed.
    New,
    Down,
    /// It is there; what was wanted before is not all heard yet.
    Returning,
    Up,
}

#[derive(Debug, Default)]
struct Entry {
    state: State,
    /// Nobody only while Redis is asked, or it lingers.
    wanted_by: Vec<Wanting>,
}

/// One shard's interest.
#[derive(Debug)]
struct Wanting {
    by: Asker,
    /// When it is told at the latest; `None` = it has been.
    until: Option<Instant>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Wanted,
    /// So many names are unconfirmed.
    Asked(usize),
    Heard,
    Lingering(Ticket),
}

/// When a channel is dropped, and a number that no other has.
type Ticket = (Instant, u64);

#[derive(Debug)]
struct Wait {
    until: Instant,
    channel: Channel,
    by: Asker,
}

impl Interest {
    /// Nothing is wanted. No name longer than `name_bytes_max` will be asked of Redis.
    pub fn new(name_bytes_max: usize) -> Self {
        Self {
            phase: Phase::New,
            name_bytes_max,
            channels: BTreeMap::new(),
            unasked: BTreeSet::new(),
            unconfirmed: 0,
            waiting: VecDeque::new(),
            lingering: BTreeMap::new(),
            last_ticket: 0,
            dropped: VecDeque::new(),
        }
    }

    /// A shard wants to hear a channel.
    pub fn handle_wanted(
        &mut self,
        now: Instant,
        prefixes: &Prefixes,
        by: Asker,
        channel: Channel,
        effects: &mut Vec<Effect>,
    ) {
        let is_too_long = |name: String| name.len() > self.name_bytes_max;
        if prefixes.names(channel.0, &channel.1).all(is_too_long) {
            return effects.push(Effect::Heard(by, channel));
        }
        let entry = self.channels.entry(channel.clone()).or_default();
        match entry.state {
            State::Wanted => {
                self.unasked.insert(channel.clone());
            }
            State::Lingering(ticket) => {
                self.lingering.remove(&ticket);
                entry.state = State::Heard;
            }
            State::Asked(_) | State::Heard => {}
        }
        let waits = !matches!(entry.state, State::Heard)
            && self.phase != Phase::Down
            && self.waiting.len() < WAITING_MAX;
        let until = waits.then(|| now + WAIT);
        entry.wanted_by.retain(|wanting| wanting.by.0 != by.0);
        entry.wanted_by.push(Wanting { by, until });
        match until {
            None => effects.push(Effect::Heard(by, channel)),
            Some(until) => self.waiting.push_back(Wait { until, channel, by }),
        }
    }

    /// A shard does not want to hear a channel any longer.
    pub fn handle_unwanted(
        &mut self,
        now: Instant,
        shard: ShardIndex,
        channel: &Channel,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.channels.get_mut(channel) else {
            return;
        };
        entry.wanted_by.retain(|wanting| wanting.by.0 != shard);
        if !entry.wanted_by.is_empty() {
            return;
        }
        match entry.state {
            State::Wanted => {
                self.unasked.remove(channel);
                self.channels.remove(channel);
            }
            State::Heard => self.linger(now, channel, effects),
            // Its answer is awaited, or there is none to be had.
            State::Asked(_) | State::Lingering(_) => {}
        }
    }

    /// There is a connection. What is wanted is asked anew.
    pub fn handle_up(&mut self) {
        self.phase = Phase::Returning;
    }

    /// There is no connection: nobody waits for it. What lingers is given up.
    pub fn handle_down(&mut self, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Down {
            return;
        }
        self.phase = Phase::Down;
        self.unconfirmed = 0;
        self.waiting.clear();
        self.lingering.clear();
        self.dropped.clear();
        self.channels.retain(|channel, entry| {
            entry.state = State::Wanted;
            entry.tell(channel, effects);
            let is_wanted = !entry.wanted_by.is_empty();
            if is_wanted {
                self.unasked.insert(channel.clone());
            } else {
                effects.push(Effect::Dropped(channel.clone()));
            }
            is_wanted
        });
    }

    /// Redis has confirmed the subscription to a name.
    pub fn handle_confirmed(
        &mut self,
        now: Instant,
        prefixes: &Prefixes,
        name: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        let found = prefixes.find(None, name);
        let found = found.and_then(|(app, channel)| Some((app, str::from_utf8(channel).ok()?)));
        let Some(channel) = found.map(|(app, channel)| (app, Arc::from(channel))) else {
            return;
        };
        let Some(entry) = self.channels.get_mut(&channel) else {
            return;
        };
        let State::Asked(unconfirmed) = &mut entry.state else {
            return;
        };
        self.unconfirmed = self.unconfirmed.saturating_sub(1);
        *unconfirmed = unconfirmed.saturating_sub(1);
        if *unconfirmed > 0 {
            return;
        }
        entry.state = State::Heard;
        entry.tell(&channel, effects);
        if entry.wanted_by.is_empty() {
            self.linger(now, &channel, effects);
        }
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while let Some(wait) = self.waiting.front()
            && wait.until <= now
            && let Some(wait) = self.waiting.pop_front()
        {
            let entry = self.channels.get_mut(&wait.channel);
            let own =
                |wanting: &&mut Wanting| wanting.by == wait.by && wanting.until == Some(wait.until);
            let wanting = entry.and_then(|entry| entry.wanted_by.iter_mut().find(own));
            if let Some(wanting) = wanting {
                wanting.until = None;
                effects.push(Effect::Heard(wait.by, wait.channel));
            }
        }
        let is_due = |lingering: &BTreeMap<Ticket, Channel>| {
            let first = lingering.first_key_value();
            first.is_some_and(|((until, _), _)| *until <= now)
        };
        while is_due(&self.lingering) {
            self.drop_first(effects);
        }
    }

    /// When [`Self::handle_tick`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|wait| wait.until);
        let lingering = self.lingering.first_key_value();
        let lingering = lingering.map(|((until, _), _)| *until);
        waiting.into_iter().chain(lingering).min()
    }

    /// What is to be said to Redis next, `SUBSCRIBE` or `UNSUBSCRIBE` and the names.
    pub fn next_command(&mut self, prefixes: &Prefixes) -> Option<(&'static str, Vec<String>)> {
        if !matches!(self.phase, Phase::Returning | Phase::Up) {
            return None;
        }
        let mut names = Names::default();
        while !names.is_full()
            && let Some(channel) = self.dropped.pop_front()
        {
            names.add(prefixes, &channel, self.name_bytes_max);
        }
        if !names.list.is_empty() {
            return Some(("UNSUBSCRIBE", names.list));
        }
        if self.unconfirmed > 0 {
            return None;
        }
        while !names.is_full()
            && let Some(channel) = self.unasked.pop_first()
        {
            let count = names.add(prefixes, &channel, self.name_bytes_max);
            if let Some(entry) = self.channels.get_mut(&channel) {
                entry.state = State::Asked(count);
            }
        }
        self.unconfirmed = names.list.len();
        (self.unconfirmed > 0).then_some(("SUBSCRIBE", names.list))
    }

    /// Is everything heard again that is wanted? True once for each connection.
    pub fn has_returned(&mut self) -> bool {
        let has_returned =
            self.phase == Phase::Returning && self.unconfirmed == 0 && self.unasked.is_empty();
        if has_returned {
            self.phase = Phase::Up;
        }
        has_returned
    }

    fn linger(&mut self, now: Instant, channel: &Channel, effects: &mut Vec<Effect>) {
        self.last_ticket += 1;
        let ticket = (now + LINGER, self.last_ticket);
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.state = State::Lingering(ticket);
            self.lingering.insert(ticket, channel.clone());
        }
        if self.lingering.len() > LINGERING_MAX {
            self.drop_first(effects);
        }
    }

    fn drop_first(&mut self, effects: &mut Vec<Effect>) {
        if let Some((_, channel)) = self.lingering.pop_first() {
            self.channels.remove(&channel);
            self.dropped.push_back(channel.clone());
            effects.push(Effect::Dropped(channel));
        }
    }
}

impl Entry {
    /// Tells all who wait.
    fn tell(&mut self, channel: &Channel, effects: &mut Vec<Effect>) {
        for wanting in &mut self.wanted_by {
            if wanting.until.take().is_some() {
                effects.push(Effect::Heard(wanting.by, channel.clone()));
            }
        }
    }
}

/// The names of one command.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    bytes: usize,
}

impl Names {
    fn is_full(&self) -> bool {
        self.list.len() >= NAMES_MAX || self.bytes >= NAMES_BYTES_MAX
    }

    /// Adds those of a channel; tells how many they are.
    fn add(&mut self, prefixes: &Prefixes, channel: &Channel, bytes_max: usize) -> usize {
        let before = self.list.len();
        let names = prefixes.names(channel.0, &channel.1);
        for name in names.filter(|name| name.len() <= bytes_max) {
            self.bytes += name.len();
            self.list.push(name);
        }
        self.list.len() - before
    }
}

#[cfg(test)]
mod tests;
