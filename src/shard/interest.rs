//! Which channels this shard is to hear in Redis, where only those are subscribed to that somebody
//! is on: the Redis thread is told of the first who comes and of the last one's leave.
//!
//! Who comes to a channel before it is heard waits until it is, so that no event is missed that is
//! published behind the acknowledgement. Then it joins as it would have without: what passes
//! between shards and homes is the same and in the same order. Called by `effects`; without Redis,
//! or where everything is heard, it does nothing.

use std::collections::{BTreeSet, HashMap};

use ahash::RandomState;

use super::Shard;
use crate::app::AppIndex;
use crate::metrics::Counter;
use crate::proto::session::Protocol;
use crate::shard::connection::{Held, Waiting};
use crate::shard::index::{Key, Slot};
use crate::shard::message::{Interest, Joined, Message, ShardIndex};

/// What the Redis thread has been told.
#[derive(Debug)]
pub(super) struct Interests {
    redis: ShardIndex,
    /// Of the latest interest.
    last_number: u32,
    /// The channels that somebody is on or joining, and no others.
    wanted: HashMap<(AppIndex, Box<str>), Wanted, RandomState>,
}

/// One channel.
#[derive(Debug, Default)]
struct Wanted {
    /// Of the interest that the Redis thread was told of.
    number: u32,
    /// Redis is heard on it, or not waited for any longer.
    is_heard: bool,
    /// Who waits until it is, or for the answer to its join.
    joining: BTreeSet<Slot>,
}

impl Interests {
    pub(super) fn new(redis: ShardIndex, hasher: RandomState) -> Self {
        Self {
            redis,
            last_number: 0,
            wanted: HashMap::with_hasher(hasher),
        }
    }

    fn wanted(&mut self, app: AppIndex, channel: &str) -> Option<&mut Wanted> {
        self.wanted.get_mut(&(app, channel) as &dyn Key)
    }
}

impl<S: Protocol> Shard<S> {
    /// Puts a session on a channel that has no home, and sends it the frame that says so.
    pub(super) fn subscribe(
        &mut self,
        slot: Slot,
        channel: Box<str>,
        user_id: Option<Box<str>>,
        frame: &[u8],
    ) {
        let Some((app, _)) = self.connections.at(slot).and_then(|own| own.established) else {
            return;
        };
        let is_heard = self.interests.as_mut().is_none_or(|interests| {
            let wanted = interests.wanted(app, &channel);
            wanted.is_some_and(|wanted| wanted.is_heard)
        });
        if is_heard {
            self.sit_down(app, &channel, slot, user_id);
            return self.reply(slot, frame);
        }
        let joined = Message::Joined(Box::new(Joined {
            app,
            channel: channel.clone(),
            session: self.key(slot),
            user_id,
            frames: frame.into(),
            last: None,
        }));
        self.join(slot, app, channel, self.me, joined);
    }

    /// Puts a session on a channel; events of it are for this shard from now on.
    pub(super) fn sit_down(
        &mut self,
        app: AppIndex,
        channel: &str,
        slot: Slot,
        user_id: Option<Box<str>>,
    ) {
        if self.index.join(app, channel, slot, user_id) {
            self.seats.take(app, channel);
        }
    }

    /// Sends the message that has a session join a channel, once Redis is heard on it if that
    /// matters; its input waits for the answer.
    pub(super) fn join(
        &mut self,
        slot: Slot,
        app: AppIndex,
        channel: Box<str>,
        to: ShardIndex,
        message: Message,
    ) {
        let is_heard = self.begin_join(slot, app, &channel);
        let Some(connection) = self.connections.at(slot) else {
            return;
        };
        self.seats.take(app, &channel);
        if is_heard {
            connection.waiting = Some(Waiting::Join(channel));
            self.send(to, message);
        } else {
            connection.waiting = Some(Waiting::Redis(Box::new(Held {
                channel,
                to,
                message,
            })));
        }
    }

    /// Redis is heard on a channel, or not waited for any longer: who waits for it joins. An answer
    /// to an interest that was given up meanwhile says nothing of a later one: in between the
    /// channel may have been dropped.
    pub(super) fn handle_heard(&mut self, app: AppIndex, channel: &str, number: u32) {
        let interests = self.interests.as_mut();
        let Some(wanted) = interests.and_then(|interests| interests.wanted(app, channel)) else {
            return;
        };
        if wanted.number != number {
            self.metrics.add(Counter::StaleAnswer, 1);
            return;
        }
        wanted.is_heard = true;
        let joining: Vec<_> = wanted.joining.iter().copied().collect();
        for slot in joining {
            let Some(connection) = self.connections.at(slot) else {
                continue;
            };
            let waiting = &mut connection.waiting;
            if let Some(Waiting::Redis(held)) =
                waiting.take_if(|waiting| matches!(waiting, Waiting::Redis(_)))
            {
                *waiting = Some(Waiting::Join(held.channel));
                self.send(held.to, held.message);
            }
        }
    }

    /// A session is on the channel that it was joining, or has given up.
    pub(super) fn end_join(&mut self, slot: Slot, app: AppIndex, channel: &str) {
        self.seats.leave(app, channel);
        let interests = self.interests.as_mut();
        if let Some(wanted) = interests.and_then(|interests| interests.wanted(app, channel)) {
            wanted.joining.remove(&slot);
        }
        self.lose_interest(app, channel);
    }

    /// Somebody may have been the last on a channel, or joining it: says so if that is true.
    pub(super) fn lose_interest(&mut self, app: AppIndex, channel: &str) {
        let Some(interests) = &mut self.interests else {
            return;
        };
        let wanted = interests.wanted(app, channel);
        if wanted.is_some_and(|wanted| wanted.joining.is_empty())
            && self.index.slots(app, channel).is_empty()
        {
            let gone = interests.wanted.remove(&(app, channel) as &dyn Key);
            let number = gone.unwrap_or_default().number;
            self.tell_interest(app, channel, number, false);
        }
    }

    /// Notes that a session is joining a channel, and says so if it is the first. Is Redis heard
    /// on it, or none of its business?
    fn begin_join(&mut self, slot: Slot, app: AppIndex, channel: &str) -> bool {
        let Some(interests) = &mut self.interests else {
            return true;
        };
        if let Some(wanted) = interests.wanted(app, channel) {
            wanted.joining.insert(slot);
            return wanted.is_heard;
        }
        interests.last_number = interests.last_number.wrapping_add(1);
        let number = interests.last_number;
        let wanted = Wanted {
            number,
            is_heard: false,
            joining: BTreeSet::from([slot]),
        };
        interests.wanted.insert((app, channel.into()), wanted);
        self.tell_interest(app, channel, number, true);
        false
    }

    fn tell_interest(&mut self, app: AppIndex, channel: &str, number: u32, is_wanted: bool) {
        if let Some(redis) = self.interests.as_ref().map(|interests| interests.redis) {
            let interest = Interest {
                app,
                channel: channel.into(),
                shard: self.me,
                is_wanted,
                number,
            };
            self.send(redis, Message::Interest(interest));
        }
    }
}
