//! What shards say to one another, over the rings. Plain values: carried by the edge or the
//! simulation, acted on by the shard alone.

use std::sync::Arc;
use std::time::Duration;

use crate::app::AppIndex;
use crate::broadcast::{Broadcast, SocketId};
use crate::proto::api::Question;
use crate::proto::presence::Member;
use crate::ring::Weigh;
use crate::shard::cache::{Cached, Stamp};
use crate::shard::index::Slot;
use crate::shard::question::{Ask, Part};

/// A shard's number in its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardIndex(pub u16);

/// One session in the whole fleet. A slot that is used again has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The shard that holds it.
    pub shard: ShardIndex,
    /// Its slot there.
    pub slot: Slot,
    /// How often that slot had been used before.
    pub generation: u32,
}

/// One ring entry.
#[derive(Debug)]
pub enum Message {
    /// To a home, or with scaling on to the Redis thread: give this event its place in the app's
    /// order.
    Publish {
        /// The event.
        broadcast: Arc<Broadcast>,
        /// The API call that waits for [`Message::Published`].
        answer_to: Option<SessionKey>,
        /// What that call asks of the fleet instead, once the event is in order.
        question: Option<Arc<Question>>,
        /// When it was published, if it came from Redis.
        stamp: Option<Stamp>,
    },
    /// From a home: the event is in order, answer 200.
    Published(SessionKey),
    /// From the Redis thread: the event cannot be taken, answer 503.
    Refused(SessionKey),
    /// From a home, to every shard: hand this to the subscribers.
    Deliver(Arc<Broadcast>),
    /// To a home: a session wants to be on a presence or cache channel.
    Join(Box<Join>),
    /// From a home: it is; everything the home says from here on reaches it.
    Joined(Box<Joined>),
    /// To a home: a session has left a presence channel, or died while it was joining.
    Leave {
        /// The app of the channel.
        app: AppIndex,
        /// The channel's name.
        channel: Box<str>,
        /// Who left.
        session: SessionKey,
    },
    /// From the Redis thread, to every shard: events of this channel were lost on the way.
    Gap {
        /// The app of the channel.
        app: AppIndex,
        /// The channel's name; `None` when there are too many to name.
        channel: Option<Box<str>>,
    },
    /// To the Redis thread: whether a shard is to hear what is published on a channel in Redis.
    Interest(Interest),
    /// From the Redis thread, once for each interest: the channel is heard, or not waited for.
    Heard {
        /// The app of the channel.
        app: AppIndex,
        /// The channel's name.
        channel: Box<str>,
        /// Of the interest.
        number: u32,
    },
    /// From the Redis thread, to every shard: events were lost that nobody can name.
    Recall {
        /// The time over which all sockets are closed.
        over: Duration,
    },
    /// To every shard: say to the home what you know. To the Redis thread: ask all nodes.
    Ask(Ask),
    /// To a home: what one shard knows.
    Part(Box<Part>),
    /// From a home, or from the Redis thread: what all know.
    Answer(Box<Part>),
}

/// A request to join a presence or cache channel.
#[derive(Debug)]
pub struct Join {
    /// The app of the channel.
    pub app: AppIndex,
    /// The channel's name.
    pub channel: Box<str>,
    /// Who asks.
    pub session: SessionKey,
    /// Its public name: it does not hear its own `member_added`.
    pub socket: SocketId,
    /// Who it says it is; only presence channels keep it.
    pub member: Member,
}

/// A home's answer to [`Join`].
#[derive(Debug)]
pub struct Joined {
    /// The app of the channel.
    pub app: AppIndex,
    /// The channel's name.
    pub channel: Box<str>,
    /// Who asked.
    pub session: SessionKey,
    /// Raw `user_id`, for its whispers.
    pub user_id: Option<Box<str>>,
    /// Whole frames: `subscription_succeeded`, and `cache_miss` if a cache channel keeps nothing.
    pub frames: Box<[u8]>,
    /// The last event of a cache channel, to be sent behind them.
    pub last: Option<Cached>,
}

/// Whether a shard is to hear what is published on a channel in Redis.
#[derive(Debug)]
pub struct Interest {
    /// The app of the channel.
    pub app: AppIndex,
    /// The channel's name.
    pub channel: Box<str>,
    /// Which shard.
    pub shard: ShardIndex,
    /// From now on, or no longer. No longer is not said before it has been wanted.
    pub is_wanted: bool,
    /// The shard's own number of this interest, which the answer bears.
    pub number: u32,
}

impl Weigh for Message {
    fn weight(&self) -> usize {
        match self {
            Self::Publish { broadcast, .. } | Self::Deliver(broadcast) => broadcast.weight(),
            Self::Join(join) => join.channel.len() + join.member.data.len() + 4 * ENTRY_BYTES,
            // The cached event is the home's, or its delivery waits in the same ring.
            Self::Joined(joined) => joined.channel.len() + joined.frames.len() + 2 * ENTRY_BYTES,
            Self::Leave { channel, .. }
            | Self::Interest(Interest { channel, .. })
            | Self::Heard { channel, .. } => channel.len() + ENTRY_BYTES,
            Self::Gap { channel, .. } => {
                channel.as_ref().map_or(0, |name| name.len()) + ENTRY_BYTES
            }
            Self::Published(_) | Self::Refused(_) | Self::Recall { .. } => ENTRY_BYTES,
            Self::Ask(ask) => ask.question.weight(),
            Self::Part(part) | Self::Answer(part) => part.weight(),
        }
    }
}

/// About what an entry takes beside its texts.
const ENTRY_BYTES: usize = 64;
