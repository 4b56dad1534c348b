//! What an API call asks of the whole fleet, and what the fleet knows of it.
//!
//! A question is read here from a call, answered in part by every shard and by the app's home,
//! and written by `answer`. Nothing here knows who is asked or how.

use std::collections::BTreeMap;

use crate::broadcast::SocketId;
use crate::proto::api::Refusal;
use crate::proto::api::validation::{Errors, MUST_BE_A_STRING};
use crate::proto::auth::query::Query;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// How many sockets the app has.
    Connections,
    /// Which these are.
    Sockets,
    /// Which channels have subscribers.
    Channels {
        /// What their names begin with.
        prefix: Box<str>,
        /// What to say of each.
        info: Info,
    },
    /// What there is to say of one channel.
    Channel {
        /// Its name.
        channel: Box<str>,
        /// What to say, beside whether it has subscribers.
        info: Info,
    },
    /// Who is on a presence channel.
    Users {
        /// Its name.
        channel: Box<str>,
    },
    /// What there is to say of the channels of an event that was just published.
    Event {
        /// Their names, each once.
        channels: Vec<Box<str>>,
        /// What to say of each.
        info: Info,
    },
    /// What there is to say of the channels of a batch that was just published.
    Batch {
        /// Each event's channel and what to say of it, if anything.
        items: Vec<Option<(Box<str>, Info)>>,
    },
    /// Close all sockets that a user has on presence channels.
    Terminate {
        /// The user's id as a string.
        user: Box<str>,
    },
}

impl Question {
    /// Is the answer as long as there are sockets, channels or members?
    pub fn is_list(&self) -> bool {
        matches!(
            self,
            Self::Sockets | Self::Channels { .. } | Self::Users { .. }
        )
    }

    /// Reads the query of `GET /channels`.
    pub(super) fn channels(query: &Query<'_>) -> Result<Self, Refusal> {
        // PHP takes "0" for no filter too.
        let prefix = text_of(query, "filter_by_prefix")?.filter(|prefix| prefix != "0");
        Ok(Self::Channels {
            prefix: prefix.unwrap_or_default().into(),
            info: info_of(query)?,
        })
    }

    /// Reads the query of `GET /channels/{channel}`.
    pub(super) fn channel(channel: &str, query: &Query<'_>) -> Result<Self, Refusal> {
        Ok(Self::Channel {
            channel: channel.into(),
            info: info_of(query)?.with(Word::Occupied),
        })
    }

    /// The channels it names, each once, and all that it wants to know of each.
    pub fn named(&self) -> BTreeMap<&str, Info> {
        let mut named: BTreeMap<&str, Info> = BTreeMap::new();
        let mut add = |channel, info: Info| named.entry(channel).or_default().0 |= info.0;
        match self {
            Self::Connections | Self::Sockets | Self::Channels { .. } | Self::Terminate { .. } => {}
            Self::Users { channel } => add(channel, Info::default()),
            Self::Channel { channel, info } => add(channel, *info),
            Self::Event { channels, info } => {
                for channel in channels {
                    add(channel, *info);
                }
            }
            Self::Batch { items } => {
                for (channel, info) in items.iter().flatten() {
                    add(channel, *info);
                }
            }
        }
        named
    }

    /// Bytes it keeps in memory while it waits in a ring.
    pub fn weight(&self) -> usize {
        let named = |channel: &str| channel.len() + RECORD_BYTES;
        let held = match self {
            Self::Connections | Self::Sockets => 0,
            Self::Channels { prefix: name, .. }
            | Self::Channel { channel: name, .. }
            | Self::Users { channel: name }
            | Self::Terminate { user: name } => name.len(),
            Self::Event { channels, .. } => channels.iter().map(|channel| named(channel)).sum(),
            Self::Batch { items } => {
                let held = |item: &Option<(Box<str>, Info)>| {
                    item.as_ref().map_or(0, |(channel, _)| channel.len()) + RECORD_BYTES
                };
                items.iter().map(held).sum()
            }
        };
        held + RECORD_BYTES
    }
}

/// What to say of a channel: a set of [`Word`]s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Info(u8);

/// One thing to say of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Whether it has subscribers.
    Occupied = 1,
    /// How many users are on it: of presence channels only.
    UserCount = 2,
    /// How many sockets are on it: of all others.
    SubscriptionCount = 4,
    /// Its last event: of cache channels only.
    Cache = 8,
}

impl Info {
    /// Reads words joined by commas; unknown ones say nothing.
    pub fn parse(words: &str) -> Self {
        let known = |word| match word {
            "occupied" => Some(Word::Occupied),
            "user_count" => Some(Word::UserCount),
            "subscription_count" => Some(Word::SubscriptionCount),
            "cache" => Some(Word::Cache),
            _ => None,
        };
        let words = words.split(',').filter_map(known);
        words.fold(Self::default(), Self::with)
    }

    /// The words joined by commas, as [`Info::parse`] reads them.
    pub fn text(self) -> String {
        let all = [
            (Word::UserCount, "user_count"),
            (Word::SubscriptionCount, "subscription_count"),
            (Word::Cache, "cache"),
            (Word::Occupied, "occupied"),
        ];
        let words = all.iter().filter(|(word, _)| self.has(*word));
        words.map(|(_, text)| *text).collect::<Vec<_>>().join(",")
    }

    /// The same and all the words of another.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The same and one word more.
    #[must_use]
    pub fn with(self, word: Word) -> Self {
        Self(self.0 | word as u8)
    }

    /// Is the word among them?
    pub fn has(self, word: Word) -> bool {
        self.0 & word as u8 != 0
    }
}

fn info_of(query: &Query<'_>) -> Result<Info, Refusal> {
    Ok(Info::parse(&text_of(query, "info")?.unwrap_or_default()))
}

/// A parameter that must not be a list.
fn text_of(query: &Query<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let value = query.text(name.as_bytes());
    if value.is_none() && query.has(name.as_bytes()) {
        let mut errors = Errors::default();
        errors.push(name, MUST_BE_A_STRING);
        errors.refuse()?;
    }
    Ok(value.map(|value| String::from_utf8_lossy(value).into_owned()))
}

/// What is known, by one shard or by more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Sockets of the app.
    pub connections: usize,
    /// Which these are, if that was asked.
    pub sockets: Vec<SocketId>,
    /// Channels that have subscribers, as far as they were asked for.
    pub channels: Vec<Occupied>,
    /// Ids of the users on the channel asked for, JSON, in order of subscription.
    pub users: Vec<Box<str>>,
    /// Somebody knows more than can be told.
    pub is_cut: bool,
}

/// A channel that has subscribers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occupied {
    /// Its name.
    pub channel: Box<str>,
    /// Sockets on it, unless it is a presence channel.
    pub subscriptions: usize,
    /// Users on it, if it is a presence channel.
    pub users: usize,
    /// Its last event, JSON, if that was asked for.
    pub cached: Option<Box<str>>,
}

impl Facts {
    /// Adds what somebody else knows. A channel that both know then stands twice.
    pub fn add(&mut self, others: Self) {
        self.connections += others.connections;
        self.sockets.extend(others.sockets);
        self.is_cut |= others.is_cut;
        self.channels.extend(others.channels);
        self.users.extend(others.users);
    }

    /// Makes one entry of all those of a channel, and sorts by name. Of several last events the
    /// first counts.
    pub fn merge(&mut self) {
        self.channels
            .sort_by(|one, other| one.channel.cmp(&other.channel));
        self.channels.dedup_by(|later, kept| {
            let is_same = later.channel == kept.channel;
            if is_same {
                kept.subscriptions += later.subscriptions;
                kept.users += later.users;
                kept.cached = kept.cached.take().or(later.cached.take());
            }
            is_same
        });
    }

    /// A channel's entry, once they are merged.
    pub fn channel(&self, name: &str) -> Option<&Occupied> {
        let found = self
            .channels
            .binary_search_by(|known| known.channel.as_ref().cmp(name));
        self.channels.get(found.ok()?)
    }

    /// Bytes they keep in memory while they wait in a ring.
    pub fn weight(&self) -> usize {
        let channel = |known: &Occupied| {
            known.channel.len() + known.cached.as_deref().map_or(0, str::len) + RECORD_BYTES
        };
        let users = self.users.iter().map(|user| user.len() + RECORD_BYTES);
        let sockets = self.sockets.len() * size_of::<SocketId>();
        let channels = self.channels.iter().map(channel).sum::<usize>();
        channels + users.sum::<usize>() + sockets + RECORD_BYTES
    }
}

/// About what an entry takes beside its texts.
const RECORD_BYTES: usize = 64;

#[cfg(test)]
mod tests;
