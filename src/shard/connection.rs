//! The connections of one shard, by slot. Kept by the shard; decides nothing.

use std::time::Instant;

use crate::app::AppIndex;
use crate::broadcast::SocketId;
use crate::proto::session::Protocol;
use crate::shard::BacklogLimits;
use crate::shard::backlog::Backlog;
use crate::shard::index::Slot;
use crate::shard::message::{Message, SessionKey, ShardIndex};

/// One TCP connection.
#[derive(Debug)]
pub struct Connection<S> {
    /// What the flusher is given for it.
    pub socket: i32,
    /// How far its life has come.
    pub life: Life,
    /// Its protocol state.
    pub session: S,
    /// Its app and name, from the upgrade until it leaves.
    pub established: Option<(AppIndex, SocketId)>,
    /// What its input waits for.
    pub waiting: Option<Waiting>,
    /// Input that came while it waited.
    pub held: Vec<u8>,
    /// What its full socket has still to be sent.
    pub backlog: Option<Box<Backlog>>,
    /// Its input is held until it has taken more of its backlog.
    pub is_behind: bool,
    /// The peer will send nothing more.
    pub is_eof: bool,
}

/// The stages of a connection's life, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// In use.
    Open,
    /// We sent a Close frame and wait for the peer's.
    EchoAwaited {
        /// Until when.
        until: Instant,
    },
    /// FIN goes out when all is written.
    Finishing {
        /// Until when; then it is reset.
        until: Instant,
    },
    /// FIN is out, EOF is awaited: closing over unread input would send a RST.
    FinSent {
        /// Until when.
        until: Instant,
    },
}

/// Which answer a connection's input waits for.
#[derive(Debug)]
pub enum Waiting {
    /// To a join of this channel.
    Join(Box<str>),
    /// Whether Redis is heard on a channel, before it is joined.
    Redis(Box<Held>),
    /// To an API call.
    Reply,
}

/// The message that has a connection join a channel, while Redis is waited for.
#[derive(Debug)]
pub struct Held {
    /// The channel's name.
    pub channel: Box<str>,
    /// Where the message goes.
    pub to: ShardIndex,
    /// To the home that it wants to join, or to its own shard that it has.
    pub message: Message,
}

impl<S> Connection<S> {
    /// Is an HTTP request of it being answered?
    pub fn is_answering(&self) -> bool {
        matches!(self.waiting, Some(Waiting::Reply))
    }

    /// Bytes of its backlog.
    pub fn owed_bytes(&self) -> usize {
        self.backlog
            .as_ref()
            .map_or(0, |backlog| backlog.unsent().len())
    }

    /// Beyond this backlog, in bytes, its input is held: half of what it may owe. A request waits
    /// until every answer before it is taken, so that no upgrade stands behind an answer that is
    /// owed, where a Close could come before it.
    pub fn held_from_bytes(&self, limits: &BacklogLimits) -> usize {
        if self.life == Life::Open && self.established.is_none() {
            0
        } else {
            limits.bytes / 2
        }
    }

    /// Is it one that bytes may be sent to, and nothing is to be done behind them?
    pub fn is_plain(&self) -> bool {
        self.life == Life::Open && self.backlog.is_none()
    }

    /// Is nothing under way on it, so that it may close at any time?
    pub fn is_at_rest(&self) -> bool
    where
        S: Protocol,
    {
        self.is_plain() && self.session.is_idle_http()
    }
}

/// Connections by slot; free slots are used again, under another generation.
#[derive(Debug)]
pub struct Connections<S> {
    entries: Vec<Entry<S>>,
    free: Vec<Slot>,
}

/// What a flush needs of a connection that only receives stands here, in one array: following its
/// box for each delivery would cost a cache miss.
#[derive(Debug)]
struct Entry<S> {
    generation: u32,
    socket: i32,
    /// Seen to be plain, and untouched since.
    is_plain: bool,
    connection: Option<Box<Connection<S>>>,
}

impl<S> Entry<S> {
    /// Whoever changes a connection comes through here.
    fn touch(&mut self) -> Option<&mut Connection<S>> {
        self.is_plain = false;
        self.connection.as_deref_mut()
    }
}

impl<S> Default for Connections<S> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<S: Protocol> Connections<S> {
    /// Takes a slot into use.
    pub fn open(&mut self, socket: i32, now: Instant) -> (Slot, u32) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 0,
                socket,
                is_plain: false,
                connection: None,
            });
            Slot(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
        });
        let Some(entry) = self.entries.get_mut(slot.at()) else {
            return (slot, 0);
        };
        entry.socket = socket;
        entry.connection = Some(Box::new(Connection {
            socket,
            life: Life::Open,
            session: S::open(now),
            established: None,
            waiting: None,
            held: Vec::new(),
            backlog: None,
            is_behind: false,
            is_eof: false,
        }));
        (slot, entry.generation)
    }

    /// Frees a slot.
    pub fn close(&mut self, slot: Slot) -> Option<Box<Connection<S>>> {
        let entry = self.entries.get_mut(slot.at())?;
        let connection = entry.connection.take()?;
        entry.is_plain = false;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
        Some(connection)
    }

    /// The connection in a slot.
    pub fn at(&mut self, slot: Slot) -> Option<&mut Connection<S>> {
        self.entries.get_mut(slot.at())?.touch()
    }

    /// The connection a key means, unless it is gone.
    pub fn at_key(&mut self, key: SessionKey) -> Option<&mut Connection<S>> {
        let entry = self.entries.get_mut(key.slot.at())?;
        if entry.generation != key.generation {
            return None;
        }
        entry.touch()
    }

    /// The socket of a connection that is known to be plain: [`Connection::is_plain`].
    pub fn plain_socket(&self, slot: Slot) -> Option<i32> {
        let entry = self.entries.get(slot.at())?;
        entry.is_plain.then_some(entry.socket)
    }

    /// Looks whether a connection is plain, so that it is known until somebody touches it.
    pub fn note_plain(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get_mut(slot.at()) {
            entry.is_plain = entry.connection.as_ref().is_some_and(|own| own.is_plain());
        }
    }

    /// The generation of a slot.
    pub fn generation(&self, slot: Slot) -> u32 {
        self.entries
            .get(slot.at())
            .map_or(0, |entry| entry.generation)
    }

    /// Slots in use.
    pub fn count(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// All connections with their slots, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Connection<S>)> {
        self.entries.iter().enumerate().filter_map(|(at, entry)| {
            let slot = Slot(u32::try_from(at).ok()?);
            Some((slot, entry.connection.as_deref()?))
        })
    }

    /// The slots in use, lowest first.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.iter().map(|(slot, _)| slot)
    }
}
