//! Sockets that are made up: what each side wrote and the other has not read, with little room,
//! and a flusher that writes to them as the kernel would.

use std::collections::VecDeque;
use std::ops::Range;

use slapback::shard::flusher::{Flusher, Outgoing, Sent};
use slapback::shard::message::SessionKey;

use crate::faults::Faults;

/// Both directions of one connection.
pub(crate) struct Socket {
    pub(crate) key: SessionKey,
    pub(crate) shard: usize,
    /// What the peer wrote and the shard has not read.
    pub(crate) input: VecDeque<u8>,
    /// What the shard wrote and the peer has not read.
    pub(crate) output: VecDeque<u8>,
    /// Bytes that `output` holds at most.
    room: usize,
    pub(crate) peer: Peer,
    pub(crate) server: Server,
    /// The shard is not to read until it is resumed.
    pub(crate) is_paused: bool,
    /// A send once fell short.
    pub(crate) was_slow: bool,
}

/// How far the peer has closed its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Open,
    /// It will write nothing more, and reads on.
    Fin,
    /// It is gone; `Reset` tells whoever reads or writes.
    Reset,
}

/// How far the shard has closed its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Open,
    Fin,
    Closed,
    Reset,
}

/// All sockets, by number; a number is never used again.
pub(crate) struct Net {
    pub(crate) sockets: Vec<Socket>,
    pub(crate) faults: Faults,
    random: fastrand::Rng,
    /// Of a hundred sends, how many fall short without need.
    short_percent: u32,
    room_max: usize,
    /// What all backlogs of a shard may hold together.
    pub(crate) backlog_total: usize,
}

impl Net {
    pub(crate) fn new(mut random: fastrand::Rng, backlog_total: usize) -> Self {
        let short_percent = if random.bool() { random.u32(0..40) } else { 0 };
        let room_max = [500, 4000, 100_000][random.usize(0..3)];
        Self {
            sockets: Vec::new(),
            faults: Faults::default(),
            random,
            short_percent,
            room_max,
            backlog_total,
        }
    }

    /// Makes a socket; `open` is told its number and gives its key.
    pub(crate) fn connect(&mut self, shard: usize, open: impl FnOnce(i32) -> SessionKey) -> usize {
        let number = self.sockets.len();
        let key = open(i32::try_from(number).unwrap());
        self.sockets.push(Socket {
            key,
            shard,
            input: VecDeque::new(),
            output: VecDeque::new(),
            room: self.random.usize(self.room_max / 4..=self.room_max),
            peer: Peer::Open,
            server: Server::Open,
            is_paused: false,
            was_slow: false,
        });
        number
    }

    fn send(&mut self, number: i32, bytes: &[&[u8]]) -> Sent {
        let total = bytes.iter().map(|piece| piece.len()).sum::<usize>();
        let socket = &mut self.sockets[usize::try_from(number).unwrap()];
        assert_eq!(
            socket.server,
            Server::Open,
            "bytes for socket {number} behind its end"
        );
        if socket.peer == Peer::Reset {
            self.faults.dead_socket += 1;
            return Sent::Dead;
        }
        let mut room = socket.room.saturating_sub(socket.output.len());
        if self.random.u32(0..100) < self.short_percent {
            // The kernel takes nothing at all as often as it takes a part.
            room = if self.random.bool() {
                self.random.usize(0..=room)
            } else {
                0
            };
        }
        let taken = total.min(room);
        let all = bytes.iter().flat_map(|piece| piece.iter().copied());
        socket.output.extend(all.take(taken));
        if taken == total {
            return Sent::All;
        }
        socket.was_slow = true;
        if taken == 0 {
            self.faults.full_socket += 1;
            return Sent::Full;
        }
        self.faults.partial_write += 1;
        Sent::Part(taken)
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
            assert!(!is_twice, "two sends to socket {} at once", entry.socket);
            let own = &ranges[entry.ranges.start as usize..entry.ranges.end as usize];
            let bytes: Vec<&[u8]> = own
                .iter()
                .map(|range| &log[range.start as usize..range.end as usize])
                .collect();
            results.push(self.send(entry.socket, &bytes));
        }
    }
}

impl Socket {
    /// Is there anything for the shard to read?
    pub(crate) fn is_readable(&self) -> bool {
        let is_held = matches!(self.server, Server::Closed | Server::Reset) || self.is_paused;
        !is_held && (!self.input.is_empty() || self.peer != Peer::Open)
    }

    /// Would a send take bytes, or fail?
    pub(crate) fn is_writable(&self) -> bool {
        self.output.len() < self.room || self.peer == Peer::Reset
    }

    /// The peer writes.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if self.peer == Peer::Open && !matches!(self.server, Server::Closed | Server::Reset) {
            self.input.extend(bytes);
        }
    }

    /// The shard closes. Over unread input the kernel makes that a reset.
    pub(crate) fn close(&mut self, is_reset: bool) {
        let is_reset = is_reset || !self.input.is_empty();
        self.server = if is_reset {
            Server::Reset
        } else {
            Server::Closed
        };
        if is_reset {
            self.output.clear();
        }
        self.input.clear();
    }
}
