//! Questions that all nodes are to answer: whom they were put to, what has come, when it is enough.
//!
//! Owned by `scaling`; sans-io. A question goes to this node's shards and, on the bus, to all who
//! hear it. Redis says how many that were; each is to answer once. Somebody who never does is no
//! node: a question waits 10 s for it once, then 250 ms as long as it stays silent. What other
//! nodes ask is put to this node's shards alone.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;

use crate::app::AppIndex;
use crate::proto::api::{Facts, Question};
use crate::proto::json::{self, Value, Workspace};
use crate::shard::question::Ask;

/// Questions that are open, own ones and those of others alike; more are refused.
pub const OPEN_MAX: usize = 16_384;
/// Whoever has not answered by then is silent.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// For those that are known to be silent.
const SILENT_WAIT: Duration = Duration::from_millis(250);
/// How long they are known, unless they stay silent.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// Lists that are asked of the other nodes at once: Redis cuts a subscriber that is owed too much.
const LISTS_MAX: usize = 2;
/// Questions of which a late answer is noticed.
const CUT_SHORT_MAX: usize = 64;
/// Letters of a key, as Reverb draws it.
const KEY_LETTERS: usize = 10;

/// What answers to an own question bear.
pub type Key = Box<str>;

/// Who wants to know.
#[derive(Debug)]
pub enum Asker {
    /// A call to this node.
    Call(Ask),
    /// Another node of this kind.
    Node {
        /// Its name.
        node: Box<str>,
        /// What it wants the answer to bear.
        key: Key,
    },
    /// A PHP node.
    Php {
        /// What it wants the answer to bear.
        key: Key,
        /// What it asks.
        question: Arc<Question>,
    },
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Put it to this node's shards; the answer is to bear the number.
    AskShards {
        /// The number.
        ticket: u32,
        /// The app that it is about.
        app: AppIndex,
        /// What is asked.
        question: Arc<Question>,
    },
    /// Put it to the other nodes; their answers are to bear the key.
    AskNodes {
        /// The key.
        key: Key,
        /// The app that it is about.
        app: AppIndex,
        /// What is asked.
        question: Arc<Question>,
    },
    /// All is known that will be.
    Answer(Asker, Facts),
    /// There are too many questions.
    Refuse(Asker),
}

/// The open questions.
#[derive(Debug)]
pub struct Gather {
    open: HashMap<u32, Open, RandomState>,
    by_key: HashMap<Key, u32, RandomState>,
    last_ticket: u32,
    /// This node's shards have ended: it has nothing that could be told of.
    is_over: bool,
    random: fastrand::Rng,
    silent: Silent,
    /// Lists that the other nodes are being asked for.
    lists: usize,
    /// Who wants a list that is to be asked for next; those who want the same get the same.
    waiting: VecDeque<Vec<Ask>>,
    /// When the next question may have waited long enough.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    /// Who wants to know, all the same.
    askers: Vec<Asker>,
    is_list: bool,
    facts: Facts,
    /// This node's shards have answered.
    has_own: bool,
    others: Option<Others>,
}

/// Those on the bus to whom a question was put.
#[derive(Debug)]
struct Others {
    key: Key,
    since: Instant,
    /// How many heard it; not known before Redis says so.
    heard: Option<usize>,
    answered: usize,
}

/// Who hears questions and does not answer.
#[derive(Debug, Default)]
struct Silent {
    count: usize,
    /// How many heard the question by which that is known.
    heard: usize,
    until: Option<Instant>,
    /// Keys of questions that did not wait for everybody.
    cut_short: VecDeque<Key>,
}

impl Gather {
    /// Without questions; `seed` draws the keys.
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut seed = || random.u64(..);
        let hasher = RandomState::with_seeds(seed(), seed(), seed(), seed());
        Self {
            open: HashMap::with_hasher(hasher.clone()),
            by_key: HashMap::with_hasher(hasher),
            last_ticket: 0,
            is_over: false,
            random,
            silent: Silent::default(),
            lists: 0,
            waiting: VecDeque::new(),
            due: None,
        }
    }

    /// A call asks; the other nodes are asked too, if they can be.
    pub fn handle_ask(&mut self, now: Instant, ask: Ask, has_bus: bool, effects: &mut Vec<Effect>) {
        if has_bus && ask.question.is_list() && self.lists >= LISTS_MAX {
            return self.wait(ask, effects);
        }
        self.put(now, vec![ask], has_bus, effects);
    }

    fn wait(&mut self, ask: Ask, effects: &mut Vec<Effect>) {
        let waiting = self.waiting.iter().map(Vec::len).sum::<usize>();
        if self.open.len() + waiting >= OPEN_MAX {
            return effects.push(Effect::Refuse(Asker::Call(ask)));
        }
        let wants_the_same = |asks: &&mut Vec<Ask>| {
            let first = asks.first();
            first.is_some_and(|first| first.app == ask.app && first.question == ask.question)
        };
        match self.waiting.iter_mut().find(wants_the_same) {
            Some(asks) => asks.push(ask),
            None => self.waiting.push_back(vec![ask]),
        }
    }

    fn put(&mut self, now: Instant, asks: Vec<Ask>, has_bus: bool, effects: &mut Vec<Effect>) {
        let Some(first) = asks.first() else {
            return;
        };
        let (app, question) = (first.app, Arc::clone(&first.question));
        let is_list = has_bus && question.is_list();
        let others = has_bus.then(|| Others {
            key: self.draw_key(),
            since: now,
            heard: None,
            answered: 0,
        });
        let key = others.as_ref().map(|others| others.key.clone());
        let askers = asks.into_iter().map(Asker::Call).collect();
        let Some(ticket) = self.begin(askers, app, &question, others, effects) else {
            return;
        };
        self.lists += usize::from(is_list);
        if let Some(key) = key {
            self.by_key.insert(key.clone(), ticket);
            effects.push(Effect::AskNodes { key, app, question });
            self.is_due_at(now + SILENT_WAIT);
        }
    }

    /// Another node asks, about an app that may not be served here.
    pub fn handle_foreign_ask(
        &mut self,
        asker: Asker,
        app: Option<AppIndex>,
        question: &Arc<Question>,
        effects: &mut Vec<Effect>,
    ) {
        match app.filter(|_| !self.is_over) {
            Some(app) => {
                self.begin(vec![asker], app, question, None, effects);
            }
            None => effects.push(Effect::Answer(asker, Facts::default())),
        }
    }

    /// This node's shards have answered.
    pub fn handle_own(
        &mut self,
        now: Instant,
        ticket: u32,
        facts: Facts,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(open) = self.open.get_mut(&ticket) {
            // What is known here stands first.
            let others = std::mem::replace(&mut open.facts, facts);
            open.facts.add(others);
            open.has_own = true;
            self.end_if_known(now, ticket, effects);
        }
    }

    /// This node's shards have ended, and what they were asked with them.
    pub fn handle_end(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.is_over = true;
        for ticket in self.open.keys().copied().collect::<Vec<_>>() {
            self.handle_own(now, ticket, Facts::default(), effects);
        }
    }

    /// Redis has put a question to so many, this node among them.
    pub fn handle_heard(
        &mut self,
        now: Instant,
        key: &str,
        receivers: i64,
        effects: &mut Vec<Effect>,
    ) {
        if let Some((ticket, open)) = self.by_key(key) {
            let receivers = usize::try_from(receivers).unwrap_or_default();
            if let Some(others) = &mut open.others {
                others.heard = Some(receivers.saturating_sub(1));
            }
            self.end_if_known(now, ticket, effects);
        }
    }

    /// The question whose answers bear this key. If it has ended, whoever answers is but slow.
    pub fn question(&mut self, key: &str) -> Option<Arc<Question>> {
        let Some(ticket) = self.by_key.get(key) else {
            self.silent.note_late(key);
            return None;
        };
        match self.open.get(ticket)?.askers.first()? {
            Asker::Call(ask) => Some(Arc::clone(&ask.question)),
            Asker::Node { .. } | Asker::Php { .. } => None,
        }
    }

    /// Somebody on the bus has answered.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        key: &str,
        facts: Facts,
        effects: &mut Vec<Effect>,
    ) {
        if let Some((ticket, open)) = self.by_key(key) {
            open.facts.add(facts);
            if let Some(others) = &mut open.others {
                others.answered += 1;
            }
            self.end_if_known(now, ticket, effects);
        }
    }

    /// Nothing more will come from the bus: what is known must do.
    pub fn handle_loss(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.lists = 0;
        for asks in std::mem::take(&mut self.waiting) {
            self.put(now, asks, false, effects);
        }
        for ticket in std::mem::take(&mut self.by_key).into_values() {
            if let Some(open) = self.open.get_mut(&ticket) {
                open.others = None;
                self.end_if_known(now, ticket, effects);
            }
        }
    }

    /// Ends what has waited long enough.
    pub fn handle_tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        for ticket in self.by_key.values().copied().collect::<Vec<_>>() {
            self.end_if_known(now, ticket, effects);
        }
    }

    /// When [`Self::handle_tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// A number that no open question has: its answer is for nobody.
    pub fn draw_ticket(&mut self) -> u32 {
        loop {
            self.last_ticket = self.last_ticket.wrapping_add(1);
            if !self.open.contains_key(&self.last_ticket) {
                return self.last_ticket;
            }
        }
    }

    fn by_key(&mut self, key: &str) -> Option<(u32, &mut Open)> {
        let ticket = *self.by_key.get(key)?;
        Some((ticket, self.open.get_mut(&ticket)?))
    }

    fn begin(
        &mut self,
        askers: Vec<Asker>,
        app: AppIndex,
        question: &Arc<Question>,
        others: Option<Others>,
        effects: &mut Vec<Effect>,
    ) -> Option<u32> {
        if self.open.len() >= OPEN_MAX {
            effects.extend(askers.into_iter().map(Effect::Refuse));
            return None;
        }
        let ticket = self.draw_ticket();
        let open = Open {
            askers,
            is_list: question.is_list(),
            facts: Facts::default(),
            has_own: false,
            others,
        };
        self.open.insert(ticket, open);
        let question = Arc::clone(question);
        effects.push(Effect::AskShards {
            ticket,
            app,
            question,
        });
        Some(ticket)
    }

    fn end_if_known(&mut self, now: Instant, ticket: u32, effects: &mut Vec<Effect>) {
        let Some(open) = self.open.get(&ticket) else {
            return;
        };
        let others = open.others.as_ref();
        let due = others.and_then(|others| others.due(now, &self.silent));
        if let Some(due) = due {
            return self.is_due_at(due);
        }
        if !open.has_own {
            return;
        }
        let Some(Open {
            askers,
            is_list,
            mut facts,
            others,
            ..
        }) = self.open.remove(&ticket)
        else {
            return;
        };
        keep_each_user_once(&mut facts);
        let answer = |asker| Effect::Answer(asker, facts.clone());
        effects.extend(askers.into_iter().map(answer));
        let Some(others) = others else {
            return;
        };
        self.by_key.remove(&others.key);
        self.silent.note(now, others);
        if is_list {
            self.lists -= 1;
            if let Some(next) = self.waiting.pop_front() {
                self.put(now, next, true, effects);
            }
        }
    }

    fn is_due_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn draw_key(&mut self) -> Key {
        let letters = (0..KEY_LETTERS).map(|_| self.random.alphanumeric());
        letters.collect::<String>().into()
    }
}

impl Others {
    /// Until when somebody is still waited for.
    fn due(&self, now: Instant, silent: &Silent) -> Option<Instant> {
        let most = self.since + WAIT_MAX;
        let least = self.since + SILENT_WAIT;
        let is_missing = |but: usize| {
            let heard = self.heard.map(|heard| heard.saturating_sub(but));
            heard.is_none_or(|heard| self.answered < heard)
        };
        let silent = self.heard.map_or(0, |heard| silent.count(now, heard));
        let until = if is_missing(silent) { most } else { least };
        (is_missing(0) && now < until).then_some(until)
    }
}

impl Silent {
    /// A question has ended: how many of those that heard it have said nothing?
    fn note(&mut self, now: Instant, others: Others) {
        self.heard = others.heard.unwrap_or_default();
        self.count = self.heard.saturating_sub(others.answered);
        self.until = (self.count > 0).then(|| now + SILENT_FOR);
        if self.count > 0 {
            self.cut_short.push_back(others.key);
            if self.cut_short.len() > CUT_SHORT_MAX {
                self.cut_short.pop_front();
            }
        }
    }

    /// Somebody answers a question that has ended: it is slow, and will be waited for.
    fn note_late(&mut self, key: &str) {
        if self.cut_short.iter().any(|cut_short| **cut_short == *key) {
            *self = Self::default();
        }
    }

    /// How many are known to be silent, where so many hear a question. Whoever has left since may
    /// have been one of them: somebody who is but slow must not be taken for it.
    fn count(&self, now: Instant, heard: usize) -> usize {
        let is_known = self.until.is_some_and(|until| now < until);
        let left = self.heard.saturating_sub(heard);
        if is_known {
            self.count.saturating_sub(left)
        } else {
            0
        }
    }
}

/// A user may be on several nodes; where ids are the same text, it is the same user.
fn keep_each_user_once(facts: &mut Facts) {
    let mut workspace = Workspace::default();
    let mut seen = HashSet::new();
    facts.users.retain(|id| {
        let value = json::visit(id, &mut workspace, |_| {});
        let text = value.ok().and_then(Value::coerced);
        text.is_none_or(|text| seen.insert(text.into_owned()))
    });
}

#[cfg(test)]
mod tests;
