//! Sockets that are made up: what their peers wrote, how much they will take, and a flusher that
//! hands what they take to a listener.

use std::collections::BTreeSet;
use std::ops::Range;

use slapback::proto::channel::ChannelKind;
use slapback::shard::flusher::{Flusher, Outgoing, Sent};
use slapback::shard::message::SessionKey;

use super::listener::Listener;

/// One connection.
pub(crate) struct Socket {
    pub(crate) key: SessionKey,
    pub(crate) shard: usize,
    pub(crate) listener: Listener,
    /// The app it asked for a WebSocket of, if that was the first thing it said.
    pub(crate) app: Option<usize>,
    has_written: bool,
    /// What the peer wrote and the shard has not read.
    pub(crate) input: Vec<u8>,
    /// Bytes the shard gets at one read.
    pub(crate) read_max: usize,
    /// Bytes it will take before it is full.
    pub(crate) room: usize,
    /// Channels that need a signature and were asked for with one.
    pub(crate) granted: BTreeSet<String>,
    pub(crate) peer: Peer,
    pub(crate) server: Server,
    /// The shard is not to read until it is resumed.
    pub(crate) is_paused: bool,
    /// The shard waits for room.
    pub(crate) is_awaited: bool,
}

/// How far the peer has closed its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Open,
    /// It writes nothing more; told to the shard behind all it wrote.
    Fin,
    /// It is gone.
    Reset,
}

/// How far the shard has closed its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Open,
    Fin,
    /// It has given it up.
    Closed,
    /// It has given it up before all was taken.
    Reset,
}

/// All sockets, by number.
#[derive(Default)]
pub(crate) struct Net {
    pub(crate) sockets: Vec<Socket>,
}

impl Socket {
    pub(crate) fn new(key: SessionKey, shard: usize) -> Self {
        Self {
            key,
            shard,
            listener: Listener::default(),
            app: None,
            has_written: false,
            input: Vec::new(),
            read_max: usize::MAX,
            room: usize::MAX,
            granted: BTreeSet::new(),
            peer: Peer::Open,
            server: Server::Open,
            is_paused: false,
            is_awaited: false,
        }
    }

    /// The peer asks for a WebSocket of an app.
    pub(crate) fn upgrade(&mut self, app: usize, head: &[u8]) {
        if !self.has_written {
            self.app = Some(app);
        }
        self.write(head);
    }

    /// The peer writes, if it still can.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.has_written = true;
        if self.peer == Peer::Open && !self.is_given_up() {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Is there anything for the shard to read?
    pub(crate) fn is_readable(&self) -> bool {
        let has_news = !self.input.is_empty() || self.peer != Peer::Open;
        !self.is_given_up() && !self.is_paused && has_news
    }

    /// Has the shard nothing to do with it any more?
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self.server, Server::Closed | Server::Reset)
    }

    /// The shard sends FIN behind all it wrote.
    pub(crate) fn fin(&mut self) {
        assert_eq!(self.server, Server::Open, "a second FIN");
        self.server = Server::Fin;
        let is_gone = self.peer == Peer::Reset;
        self.listener.hear_end(is_gone, self.peer == Peer::Fin);
    }

    /// The shard gives the socket up.
    pub(crate) fn close(&mut self, is_reset: bool) {
        if self.server == Server::Open {
            let is_gone = is_reset || self.peer == Peer::Reset;
            self.listener.hear_end(is_gone, self.peer == Peer::Fin);
        }
        self.server = if is_reset {
            Server::Reset
        } else {
            Server::Closed
        };
        self.input.clear();
    }

    fn take(&mut self, pieces: &[&[u8]]) -> Sent {
        assert_eq!(self.server, Server::Open, "bytes behind the end");
        if self.peer == Peer::Reset {
            return Sent::Dead;
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert!(total > 0, "a send of nothing");
        let taken = total.min(self.room);
        self.room -= taken;
        let mut bytes = pieces.concat();
        bytes.truncate(taken);
        if taken > 0 {
            for channel in self.listener.hear(&bytes) {
                let is_free = !ChannelKind::of(&channel).is_authorised();
                assert!(is_free || self.granted.contains(&channel), "overheard");
            }
        }
        match taken {
            _ if taken == total => Sent::All,
            0 => Sent::Full,
            _ => Sent::Part(taken),
        }
    }
}

impl Flusher for Net {
    fn flush(
        &mut self,
        log: &[u8],
        ranges: &[Range<u32>],
        batch: &[Outgoing],
        results: &mut Vec<Sent>,
    ) {
        results.clear();
        for (at, entry) in batch.iter().enumerate() {
            let is_twice = batch[..at].iter().any(|other| other.socket == entry.socket);
            assert!(!is_twice, "two sends to one socket at once");
            let own = &ranges[entry.ranges.start as usize..entry.ranges.end as usize];
            let pieces: Vec<&[u8]> = own
                .iter()
                .map(|range| &log[range.start as usize..range.end as usize])
                .collect();
            let number = usize::try_from(entry.socket).expect("a socket's number");
            results.push(self.sockets[number].take(&pieces));
        }
    }
}
