//! A home: what must be said in one order of the apps that live on this shard.
//!
//! It keeps the members of their presence channels and the last events of their cache channels,
//! and gives events their order. It answers by filling a list of messages; the shard sends them.
//! It never touches a socket or the index.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ahash::RandomState;

use crate::app::AppIndex;
use crate::broadcast::{Broadcast, Delivery, SocketId};
use crate::proto::channel::ChannelKind;
use crate::proto::presence::{Arrival, Departure, Presence};
use crate::proto::{event, frame};
use crate::shard::cache::{Cache, CacheLimits, Cached, Stamp};
use crate::shard::message::{Join, Joined, SessionKey, ShardIndex};

/// The shard that is home to an app: the same on every shard of a fleet.
pub fn home_of(app: AppIndex, shards: u16) -> ShardIndex {
    // Fibonacci hashing spreads neighbouring indices over the fleet.
    let mixed = u32::from(app.0).wrapping_mul(0x9E37_79B9) >> 16;
    ShardIndex((mixed % u32::from(shards.max(1))) as u16)
}

/// The homes on one shard.
#[derive(Debug)]
pub struct Homes {
    channels: HashMap<AppIndex, HashMap<Box<str>, Presence<SessionKey>, RandomState>, RandomState>,
    cache: Cache,
    hasher: RandomState,
    text: String,
}

/// What a home wants said, in order.
#[derive(Debug)]
pub enum Said {
    /// To every shard.
    Everyone(Arc<Broadcast>),
    /// To the shard of one session.
    Joined(Box<Joined>),
}

impl Homes {
    /// Homes that keep nothing yet; `hasher` seeds their maps.
    pub fn new(cache: CacheLimits, hasher: RandomState) -> Self {
        let channels = HashMap::with_hasher(hasher.clone());
        Self {
            channels,
            cache: Cache::new(cache, hasher.clone()),
            hasher,
            text: String::new(),
        }
    }

    /// Takes a session onto a presence or cache channel. The others hear of a new member first;
    /// then it gets its answer, on a cache channel with the last event behind it.
    pub fn handle_join(&mut self, now: Instant, join: Join, said: &mut Vec<Said>) {
        let kind = ChannelKind::of(&join.channel);
        let Join {
            app,
            channel,
            session,
            socket,
            member,
        } = join;
        let user_id = member.user_id.clone();
        let mut frames = Vec::new();
        if kind.is_presence() {
            let channels = self
                .channels
                .entry(app)
                .or_insert_with(|| HashMap::with_hasher(self.hasher.clone()));
            let presence = channels.entry(channel.clone()).or_default();
            let data = member.data.clone();
            if presence.join(session, member) == Arrival::NewMember {
                let frame = frame::text_frame(|out| event::member_added(out, &channel, &data));
                said.push(to_everyone(app, &channel, Some(socket), frame));
            }
            self.text.clear();
            presence.write_succeeded(&mut self.text);
            let text = &self.text;
            frame::text(&mut frames, |out| {
                event::presence_succeeded(out, &channel, text);
            });
            self.text.shrink_to(TEXT_KEPT);
        } else {
            frame::text(&mut frames, |out| {
                event::subscription_succeeded(out, &channel);
            });
        }
        let last = self.cache.last(now, app, &channel).cloned();
        if kind.is_cache() && last.is_none() {
            frame::text(&mut frames, |out| event::cache_miss(out, &channel));
        }
        said.push(Said::Joined(Box::new(Joined {
            app,
            channel,
            session,
            user_id,
            frames: frames.into(),
            last,
        })));
    }

    /// Takes a session off a presence channel; the rest hear of it if its user is gone.
    pub fn handle_leave(
        &mut self,
        app: AppIndex,
        channel: &str,
        session: SessionKey,
        said: &mut Vec<Said>,
    ) {
        let Some(channels) = self.channels.get_mut(&app) else {
            return;
        };
        let Some(presence) = channels.get_mut(channel) else {
            return;
        };
        if let Departure::MemberGone { user_id } = presence.leave(session) {
            let frame = frame::text_frame(|out| event::member_removed(out, channel, &user_id));
            said.push(to_everyone(app, channel, None, frame));
        }
        if presence.is_empty() {
            channels.remove(channel);
        }
    }

    /// Takes an event into its app's order, and keeps it where it is to be kept; `stamp` says when
    /// it was published, if that may count. Gives how many cached events were dropped for want of
    /// room.
    pub fn handle_publish(
        &mut self,
        now: Instant,
        broadcast: &Arc<Broadcast>,
        stamp: Option<Stamp>,
    ) -> u64 {
        self.cache.keep(now, broadcast, stamp)
    }

    /// Later events of a channel, or of any of the app, were lost: what is kept is no longer the
    /// last.
    pub fn forget(&mut self, app: AppIndex, channel: Option<&str>) {
        self.cache.forget(app, channel);
    }

    /// Time has passed: what was kept too long goes.
    pub fn handle_tick(&mut self, now: Instant) {
        self.cache.sweep(now);
    }

    /// The last event of a cache channel whose app has its home here, as JSON text, byte for byte
    /// as it was delivered: `{"event":…,"data":…,"channel":…}`. For the query API's `info=cache`;
    /// `None` if nothing was published on it for 30 minutes, or what was has been dropped.
    pub fn cached(&self, now: Instant, app: AppIndex, channel: &str) -> Option<&[u8]> {
        self.cache.last(now, app, channel).map(Cached::text)
    }

    /// Events that its cache channels keep.
    pub fn cached_count(&self) -> usize {
        self.cache.events_count()
    }

    /// Presence channels with members.
    pub fn channels_count(&self) -> usize {
        self.channels.values().map(HashMap::len).sum()
    }

    /// The presence channels of an app.
    pub fn channels(&self, app: AppIndex) -> impl Iterator<Item = (&str, &Presence<SessionKey>)> {
        let channels = self.channels.get(&app).into_iter().flatten();
        channels.map(|(channel, presence)| (channel.as_ref(), presence))
    }

    /// The members of a presence channel, if it has any.
    pub fn presence(&self, app: AppIndex, channel: &str) -> Option<&Presence<SessionKey>> {
        self.channels.get(&app)?.get(channel)
    }
}

fn to_everyone(app: AppIndex, channel: &str, except: Option<SocketId>, frame: Box<[u8]>) -> Said {
    let deliveries = vec![Delivery {
        channel: channel.into(),
        except,
        frame,
        is_kept: false,
    }];
    Said::Everyone(Arc::new(Broadcast {
        app,
        deliveries,
        is_one_event: false,
    }))
}

/// A roster text longer than this is not kept for the next answer, bytes.
const TEXT_KEPT: usize = 64 * 1024;

#[cfg(test)]
mod tests;
