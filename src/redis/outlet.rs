//! What Redis brings, on its way to the shards: over the rings, each shard woken once per batch.
//!
//! Used by the Redis thread alone. Never waits for a shard: for one that has more than it should be
//! given, events become a gap, said once per channel and batch.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;

use crate::app::AppIndex;
use crate::broadcast::{Broadcast, Delivery};
use crate::metrics::{Counter, Metrics};
use crate::proto::api::{Facts, Question};
use crate::proto::channel::ChannelKind;
use crate::shard::cache::Stamp;
use crate::shard::ends::Ends;
use crate::shard::home::home_of;
use crate::shard::index::Slot;
use crate::shard::message::{Message, SessionKey, ShardIndex};
use crate::shard::question::{Ask, Part};

/// The Redis thread's ends of the rings.
pub(super) struct Outlet {
    ends: Ends,
    shards: u16,
    metrics: Arc<Metrics>,
    /// Events of one app that are sent together: no more than one read has brought.
    gathered: Broadcast,
    /// By shard: the channels of which it is told in this batch that events were lost.
    gaps: Vec<HashSet<Gap, RandomState>>,
}

/// A channel of an app, or any of them.
type Gap = (AppIndex, Option<Box<str>>);

/// Channels of one batch that a shard is told of by name; behind them it is told of whole apps.
const GAPS_MAX: usize = 256;

impl Outlet {
    pub(super) fn new(ends: Ends, shards: u16, metrics: Arc<Metrics>) -> Self {
        let gaps = (0..shards).map(|_| HashSet::default()).collect();
        Self {
            ends,
            shards,
            metrics,
            gathered: Broadcast::nothing(AppIndex(0)),
            gaps,
        }
    }

    /// Takes one event, to be sent with the others of its app: when the batch ends, or before
    /// anything else is said.
    pub(super) fn gather(&mut self, app: AppIndex, delivery: Delivery) {
        if self.gathered.app != app {
            self.send_gathered();
            self.gathered.app = app;
        }
        self.gathered.deliveries.push(delivery);
    }

    /// Sends events to their subscribers. Plain channels go straight to every shard; presence and
    /// cache channels have what must stay in one order at their home, so they go there.
    pub(super) fn deliver(&mut self, broadcast: Arc<Broadcast>, stamp: Option<Stamp>) {
        let is_of_home = |delivery: &Delivery| {
            let kind = ChannelKind::of(&delivery.channel);
            kind.is_presence() || kind.is_cache()
        };
        self.send_gathered();
        if broadcast.deliveries.is_empty() {
            return;
        }
        let ordered = broadcast
            .deliveries
            .iter()
            .filter(|delivery| is_of_home(delivery))
            .count();
        if ordered == 0 {
            self.push_plain(&broadcast);
        } else if ordered == broadcast.deliveries.len() {
            self.push_ordered(&broadcast, stamp);
        } else {
            let whole = Arc::unwrap_or_clone(broadcast);
            let (ordered, plain) = whole.deliveries.into_iter().partition(is_of_home);
            let part = |deliveries| {
                Arc::new(Broadcast {
                    deliveries,
                    ..whole
                })
            };
            self.push_plain(&part(plain));
            self.push_ordered(&part(ordered), stamp);
        }
    }

    /// Says something to one shard; it is woken by [`Self::wake`].
    pub(super) fn tell(&mut self, shard: ShardIndex, message: Message) {
        self.send_gathered();
        if self.ends.push(shard, message) {
            self.metrics.add(Counter::Spilled, 1);
        }
    }

    /// Has every shard close its sockets over this time.
    pub(super) fn recall(&mut self, over: Duration) {
        for shard in (0..self.shards).map(ShardIndex) {
            self.tell(shard, Message::Recall { over });
        }
    }

    /// Says to its home that what is kept of a channel is not its last event any longer.
    pub(super) fn forget(&mut self, app: AppIndex, channel: &str) {
        let channel = Some(channel.into());
        let home = home_of(app, self.shards);
        self.tell(home, Message::Gap { app, channel });
    }

    /// Asks every shard; the answer comes back with the number.
    pub(super) fn ask(&mut self, ticket: u32, app: AppIndex, question: Arc<Question>) {
        let session = SessionKey {
            // Where the inbox of the Redis thread stands.
            shard: ShardIndex(self.shards),
            slot: Slot(ticket),
            generation: 0,
        };
        self.put(&Ask {
            app,
            session,
            question,
        });
    }

    /// Puts a call's question to every shard; the call gets the answer.
    pub(super) fn put(&mut self, ask: &Ask) {
        for shard in (0..self.shards).map(ShardIndex) {
            self.tell(shard, Message::Ask(ask.clone()));
        }
    }

    /// Gives a call its answer.
    pub(super) fn answer(&mut self, ask: Ask, facts: Facts) {
        let shard = ask.session.shard;
        self.tell(shard, Message::Answer(Box::new(Part { ask, facts })));
    }

    /// Takes what shards have said.
    pub(super) fn take(&mut self, said: &mut Vec<Message>) {
        self.ends.take_while(|message| {
            said.push(message);
            true
        });
    }

    /// Has any shard said anything?
    pub(super) fn has_news(&self) -> bool {
        self.ends.has_news()
    }

    fn send_gathered(&mut self) {
        if !self.gathered.deliveries.is_empty() {
            let nothing = Broadcast::nothing(self.gathered.app);
            let gathered = std::mem::replace(&mut self.gathered, nothing);
            self.deliver(Arc::new(gathered), None);
        }
    }

    fn push_plain(&mut self, broadcast: &Arc<Broadcast>) {
        for shard in (0..self.shards).map(ShardIndex) {
            self.push(shard, Message::Deliver(Arc::clone(broadcast)), broadcast);
        }
    }

    fn push_ordered(&mut self, broadcast: &Arc<Broadcast>, stamp: Option<Stamp>) {
        let message = Message::Publish {
            broadcast: Arc::clone(broadcast),
            answer_to: None,
            question: None,
            stamp,
        };
        self.push(home_of(broadcast.app, self.shards), message, broadcast);
    }

    /// Ends a batch: sends what was gathered, and wakes the shards that were given anything.
    pub(super) fn wake(&mut self) {
        self.send_gathered();
        self.ends.wake();
        self.gaps.iter_mut().for_each(HashSet::clear);
    }

    fn push(&mut self, shard: ShardIndex, message: Message, broadcast: &Broadcast) {
        if !self.ends.is_over_full(shard) {
            return self.tell(shard, message);
        }
        let Some(gaps) = self.gaps.get_mut(usize::from(shard.0)) else {
            return;
        };
        let told = match message {
            // What a home cannot take, no shard gets.
            Message::Publish { .. } => 0..self.shards,
            _ => shard.0..shard.0 + 1,
        };
        let app = broadcast.app;
        for delivery in &broadcast.deliveries {
            self.metrics.add(Counter::RedisGap, 1);
            let name = (gaps.len() < GAPS_MAX).then(|| delivery.channel.clone());
            if !gaps.insert((app, name.clone())) {
                continue;
            }
            for shard in told.clone().map(ShardIndex) {
                let channel = name.clone();
                self.ends.push(shard, Message::Gap { app, channel });
            }
        }
    }
}

#[cfg(test)]
mod tests;
