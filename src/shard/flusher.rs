//! What the shard wants of whoever writes to sockets. The edge has two drivers, the simulation one.

use std::ops::Range;

/// One socket's bytes of this turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The socket: a file descriptor at the edge, a number in the simulation.
    pub socket: i32,
    /// Its part of the range list.
    pub ranges: Range<u32>,
}

/// What a socket took of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Every byte.
    All,
    /// The first so many, and it is full now.
    Part(usize),
    /// None: it was full.
    Full,
    /// None, and it never will: the peer is gone.
    Dead,
}

/// Writes to sockets, one operation per socket and call, without waiting for any of them.
pub trait Flusher {
    /// Sends each entry's ranges of `log` in order. `results` is cleared, then gets one outcome
    /// per entry. The buffers are free on return.
    fn flush(
        &mut self,
        log: &[u8],
        ranges: &[Range<u32>],
        batch: &[Outgoing],
        results: &mut Vec<Sent>,
    );
}

/// Ranges that one send carries; the shard copies together what has more.
pub const RANGES_PER_SEND_MAX: usize = 64;
