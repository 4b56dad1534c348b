//! A home: what must be said in one order of the apps that live on this shard.
//!
//! It keeps the members of their presence channels and gives events their order. It answers by
//! filling a list of messages; the shard sends them. It never touches a socket or the index.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use crate::app::AppIndex;
use crate::broadcast::{Broadcast, Delivery, SocketId};
use crate::proto::presence::{Arrival, Departure, Presence};
use crate::proto::{event, frame};
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
    /// Homes without members; `hasher` seeds their maps.
    pub fn new(hasher: RandomState) -> Self {
        let channels = HashMap::with_hasher(hasher.clone());
        Self {
            channels,
            hasher,
            text: String::new(),
        }
    }

    /// Takes a session onto a presence channel: first the others hear of a new member, then it
    /// gets its answer.
    pub fn handle_join(&mut self, join: Join, said: &mut Vec<Said>) {
        let Join {
            app,
            channel,
            session,
            socket,
            member,
        } = join;
        let user_id = member.user_id.clone();
        let data = member.data.clone();
        let channels = self
            .channels
            .entry(app)
            .or_insert_with(|| HashMap::with_hasher(self.hasher.clone()));
        let presence = channels.entry(channel.clone()).or_default();
        if presence.join(session, member) == Arrival::NewMember {
            let frame = frame::text_frame(|out| event::member_added(out, &channel, &data));
            said.push(to_everyone(app, &channel, Some(socket), frame));
        }
        self.text.clear();
        presence.write_succeeded(&mut self.text);
        let text = &self.text;
        let frame = frame::text_frame(|out| event::presence_succeeded(out, &channel, text));
        said.push(Said::Joined(Box::new(Joined {
            app,
            channel,
            session,
            user_id,
            frame,
        })));
        self.text.shrink_to(TEXT_KEPT);
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

    /// Presence channels with members.
    pub fn channels_count(&self) -> usize {
        self.channels.values().map(HashMap::len).sum()
    }

    /// The members of a presence channel, if it has any.
    pub fn presence(&self, app: AppIndex, channel: &str) -> Option<&Presence<SessionKey>> {
        self.channels.get(&app)?.get(channel)
    }
}

fn to_everyone(app: AppIndex, channel: &str, except: Option<SocketId>, frame: Box<[u8]>) -> Said {
    let deliveries = vec![Delivery {
        channel: channel.into(),
        frame,
    }];
    Said::Everyone(Arc::new(Broadcast {
        app,
        except,
        deliveries,
    }))
}

/// A roster text longer than this is not kept for the next answer, bytes.
const TEXT_KEPT: usize = 64 * 1024;
