//! Questions that only the whole fleet can answer: every shard says what it knows, the app's home
//! adds it up, and the session that asked gets the sum. A user's sockets are closed that way too.
//!
//! A shard's part goes to the home over the ring of its joins and leaves, so the home has heard of
//! every leave that the shard had said before: nobody who is gone is counted. A subscription is in
//! its shard's index before it is acknowledged, so nobody who was told is left out. Every shard
//! answers, whether or not the session still waits, so a question never stays open.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use ahash::RandomState;

use super::Shard;
use crate::app::AppIndex;
use crate::metrics::Counter;
use crate::proto::Now;
use crate::proto::api::{Facts, Info, Occupied, Question, Word};
use crate::proto::channel::ChannelKind;
use crate::proto::presence::{self, Presence};
use crate::proto::session::{Protocol, Reply};
use crate::shard::home::{Homes, home_of};
use crate::shard::message::{Message, SessionKey, ShardIndex};

/// One question and who waits for its answer.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The app that it is about.
    pub app: AppIndex,
    /// Who waits.
    pub session: SessionKey,
    /// What is asked.
    pub question: Arc<Question>,
}

/// What is known of a question: by one shard, or in the end by all.
#[derive(Debug)]
pub struct Part {
    /// What was asked.
    pub ask: Ask,
    /// What is known of it.
    pub facts: Facts,
}

impl Part {
    /// Bytes it keeps in memory while it waits in a ring.
    pub fn weight(&self) -> usize {
        self.ask.question.weight() + self.facts.weight()
    }
}

/// The questions of a home that some shard has not answered yet: one at most of each connection
/// of the fleet, for its input waits meanwhile.
#[derive(Debug)]
pub(super) struct Questions {
    open: HashMap<SessionKey, Open, RandomState>,
}

#[derive(Debug, Default)]
struct Open {
    parts: u16,
    facts: Facts,
}

impl Questions {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            open: HashMap::with_hasher(hasher),
        }
    }

    /// Questions that are open.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Adds what one shard knows; gives the sum with the last.
    fn add(&mut self, part: Part, shards: u16) -> Option<Part> {
        let Part { ask, facts } = part;
        let open = self.open.entry(ask.session).or_default();
        open.parts += 1;
        open.facts.add(facts);
        if open.parts < shards {
            return None;
        }
        let facts = self.open.remove(&ask.session)?.facts;
        Some(Part { ask, facts })
    }
}

/// A socket whose user is terminated may not come back by itself: what pusher-js makes of 4009.
const CLOSE_TERMINATED: (u16, &str) = (4009, "Terminated by the application");

impl<S: Protocol> Shard<S> {
    /// Puts a session's question to every shard, or with scaling on to all nodes.
    pub(super) fn put(&mut self, ask: Ask) {
        match self.bus {
            Some(bus) => self.send(bus, Message::Ask(ask)),
            None => self.ask(&ask),
        }
    }

    /// Puts a question to every shard.
    pub(super) fn ask(&mut self, ask: &Ask) {
        for shard in (0..self.shards).map(ShardIndex) {
            self.send(shard, Message::Ask(ask.clone()));
        }
    }

    /// Says to the home what this shard knows.
    pub(super) fn handle_ask(&mut self, now: Now, ask: Ask) {
        let mut facts = Facts::default();
        match &*ask.question {
            Question::Connections => {
                let sockets = self.by_socket.values();
                facts.connections = sockets.filter(|(app, _)| *app == ask.app).count();
            }
            Question::Sockets => {
                let sockets = self.by_socket.iter();
                let sockets = sockets.filter(|(_, (app, _))| *app == ask.app);
                facts.sockets = sockets.map(|(socket, _)| *socket).collect();
            }
            Question::Channels { prefix, .. } => {
                let all = self.index.channels(ask.app);
                let asked = all.filter(|(channel, _)| channel.starts_with(prefix.as_ref()));
                facts.channels = asked.filter_map(plain).collect();
            }
            Question::Terminate { user } => self.terminate(now, ask.app, user),
            question => {
                let named = question.named().into_keys();
                let count = |channel| (channel, self.index.slots(ask.app, channel).len());
                facts.channels = named.map(count).filter_map(plain).collect();
            }
        }
        let home = home_of(ask.app, self.shards);
        self.send(home, Message::Part(Box::new(Part { ask, facts })));
    }

    /// At the home: adds a shard's part, and answers when all are there.
    pub(super) fn handle_part(&mut self, now: Now, part: Part) {
        if let Some(mut whole) = self.questions.add(part, self.shards) {
            add_home(&self.homes, now.instant, &mut whole);
            self.send(whole.ask.session.shard, Message::Answer(Box::new(whole)));
        }
    }

    /// At the shard that asked: the session gets its answer.
    pub(super) fn handle_answer(&mut self, now: Now, whole: Part) {
        let Part { ask, facts } = whole;
        let question = ask.question;
        self.handle_reply(now, ask.session, Reply::Known { question, facts });
    }

    /// Closes this shard's sockets of a user. Their leaves are said before the home hears that it
    /// is done.
    fn terminate(&mut self, now: Now, app: AppIndex, user: &str) {
        let channels = self.index.channels(app).map(|(channel, _)| channel);
        let theirs: BTreeSet<_> = channels
            .filter(|channel| ChannelKind::of(channel).is_presence())
            .flat_map(|channel| self.index.users(app, channel))
            .filter(|(_, id)| presence::is_user(id, user))
            .map(|(slot, _)| slot)
            .collect();
        for slot in theirs {
            self.metrics.add(Counter::Terminated, 1);
            self.close_with(now, slot, CLOSE_TERMINATED);
        }
    }
}

/// What a shard knows of a channel. Of presence channels the home knows all, and earlier.
fn plain((channel, subscriptions): (&str, usize)) -> Option<Occupied> {
    if subscriptions == 0 || ChannelKind::of(channel).is_presence() {
        return None;
    }
    Some(Occupied {
        channel: channel.into(),
        subscriptions,
        ..Occupied::default()
    })
}

/// Adds what the home alone knows: who is on presence channels, and the last events of cache
/// channels.
fn add_home(homes: &Homes, now: Instant, whole: &mut Part) {
    let Part { ask, facts } = whole;
    if let Question::Channels { prefix, info } = &*ask.question {
        let all = homes.channels(ask.app);
        let asked = all.filter(|(channel, _)| channel.starts_with(prefix.as_ref()));
        facts.channels.extend(asked.map(with_members));
        if info.has(Word::Cache) {
            add_last_events(homes, now, ask.app, facts, |_| true);
        }
        return;
    }
    let named = ask.question.named();
    let asked = named.keys().filter_map(|&channel| {
        let presence = homes.presence(ask.app, channel)?;
        Some(with_members((channel, presence)))
    });
    facts.channels.extend(asked);
    let is_shown = |info: &Info| info.has(Word::Cache);
    if named.values().any(is_shown) {
        let is_wanted = |channel: &str| named.get(channel).is_some_and(is_shown);
        add_last_events(homes, now, ask.app, facts, is_wanted);
    }
    if let Question::Users { channel } = &*ask.question {
        let presence = homes.presence(ask.app, channel).into_iter();
        let ids = presence.flat_map(Presence::user_ids);
        facts.users = ids.map(Into::into).collect();
    }
}

fn with_members((channel, presence): (&str, &Presence<SessionKey>)) -> Occupied {
    Occupied {
        channel: channel.into(),
        users: presence.user_count(),
        ..Occupied::default()
    }
}

fn add_last_events(
    homes: &Homes,
    now: Instant,
    app: AppIndex,
    facts: &mut Facts,
    is_wanted: impl Fn(&str) -> bool,
) {
    // A channel that several shards know must not bring its event as often.
    facts.merge();
    for known in &mut facts.channels {
        if is_wanted(&known.channel) {
            let event = homes.cached(now, app, &known.channel);
            known.cached = event.map(|event| String::from_utf8_lossy(event).into());
        }
    }
}
