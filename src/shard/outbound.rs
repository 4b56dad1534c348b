//! The way out: shares of the turn log to sockets, backlogs of the full ones, and their bounds.
//!
//! Called by the edge through [`Shard::flush`] and by the shard's own tick; writes through a
//! [`Flusher`] and never waits for a socket.

use std::ops::Range;
use std::time::Instant;

use super::{CLOSE_WAIT, Command, Shard};
use crate::metrics::Counter;
use crate::proto::session::{Effects, Protocol};
use crate::proto::{Now, frame};
use crate::shard::backlog::Backlog;
use crate::shard::connection::Life;
use crate::shard::ends::TURN_BYTES_MAX;
use crate::shard::flusher::{Flusher, Outgoing, Sent};
use crate::shard::index::Slot;
use crate::shard::turn::Share;

/// Close code of a reader that fell too far behind: pusher-js comes back after 1 s.
const CLOSE_BEHIND: (u16, &str) = (4100, "Too slow");

impl<S: Protocol> Shard<S> {
    /// Gives up to `most` sockets their share of this turn, by one operation each. Returns
    /// whether anything was left to do when it began.
    ///
    /// The messages of [`Shard::poll_messages`] must be on their rings before: an answer must
    /// not reach a client before the news it rests on is on its way.
    pub fn flush(&mut self, now: Now, flusher: &mut dyn Flusher, most: usize) -> bool {
        let had_replies = self.flush_ahead(now, flusher, most);
        let mut had_work = self.flush_chunk(now.instant, flusher, most) || had_replies;
        if self.filled_bytes() <= TURN_BYTES_MAX {
            for key in std::mem::take(&mut self.caught_up) {
                had_work = true;
                self.resume(now, key);
            }
        }
        self.run_loopback(now);
        had_work
    }

    /// Gives all sockets the replies that wait for no turn, `most` at once. Returns whether there
    /// were any. The same must be done before as before [`Shard::flush`].
    pub fn flush_ahead(&mut self, now: Now, flusher: &mut dyn Flusher, most: usize) -> bool {
        let has_work = !self.ahead.is_empty();
        while !self.ahead.is_empty() {
            std::mem::swap(&mut self.turn, &mut self.ahead);
            self.flush_chunk(now.instant, flusher, most);
            std::mem::swap(&mut self.turn, &mut self.ahead);
        }
        has_work
    }

    /// Gives one socket what is for it alone: ahead of a large turn, unless it is owed more, or so
    /// many are ahead that they make a large turn themselves.
    pub(super) fn reply(&mut self, slot: Slot, bytes: &[u8]) {
        let is_ahead =
            self.turn.is_large() && !self.turn.is_pending(slot) && !self.ahead.is_large();
        let turn = if is_ahead {
            &mut self.ahead
        } else {
            &mut self.turn
        };
        let placed = turn.place_reply(bytes);
        turn.give(slot, placed);
    }

    /// Is a socket to be sent anything that has not been tried yet?
    pub(super) fn is_owed(&self, slot: Slot) -> bool {
        self.turn.is_pending(slot) || !self.ahead.is_empty() && self.ahead.is_pending(slot)
    }

    /// Forgets what a socket has not been sent.
    pub(super) fn forget_owed(&mut self, slot: Slot) {
        self.turn.close(slot);
        if !self.ahead.is_empty() {
            self.ahead.close(slot);
        }
    }

    #[inline]
    fn flush_chunk(&mut self, now: Instant, flusher: &mut dyn Flusher, most: usize) -> bool {
        let had_writable = !self.writable.is_empty();
        self.flush_backlogs(now, flusher, most);
        let mut shares = std::mem::take(&mut self.shares);
        let mut ranges = std::mem::take(&mut self.ranges);
        let has_work = self.turn.take(most, &mut shares, &mut ranges);
        self.batch.clear();
        self.batched.clear();
        for share in &shares {
            self.batch_or_backlog(now, share, &ranges);
        }
        self.results.clear();
        flusher.flush(self.turn.log(), &ranges, &self.batch, &mut self.results);
        let mut batched = std::mem::take(&mut self.batched);
        let results = std::mem::take(&mut self.results);
        for (share, &sent) in batched.drain(..).zip(&results) {
            self.handle_sent(now, &share, &ranges, sent);
        }
        (self.batched, self.results) = (batched, results);
        (self.shares, self.ranges) = (shares, ranges);
        has_work || had_writable
    }

    fn batch_or_backlog(&mut self, now: Instant, share: &Share, ranges: &[Range<u32>]) {
        let slot = share.slot;
        let Some(socket) = self.free_socket(slot) else {
            return self.add_to_backlog(now, share, ranges);
        };
        let range = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let (start, end) = (range(share.ranges.start), range(share.ranges.end));
        self.batch.push(Outgoing {
            socket,
            ranges: start..end,
        });
        self.batched.push(share.clone());
    }

    /// The socket of a connection that owes nothing of earlier turns.
    fn free_socket(&mut self, slot: Slot) -> Option<i32> {
        let plain = self.connections.plain_socket(slot);
        plain.or_else(|| {
            let connection = self.connections.at(slot)?;
            connection.backlog.is_none().then_some(connection.socket)
        })
    }

    fn add_to_backlog(&mut self, now: Instant, share: &Share, ranges: &[Range<u32>]) {
        let Some(connection) = self.connections.at(share.slot) else {
            return;
        };
        let Some(backlog) = &mut connection.backlog else {
            return;
        };
        self.backlog_bytes -= backlog.unsent().len();
        bytes_of(self.turn.log(), share, ranges).for_each(|bytes| backlog.append(bytes));
        self.backlog_bytes += backlog.unsent().len();
        self.bound_backlogs(now, share.slot);
    }

    fn handle_sent(&mut self, now: Instant, share: &Share, ranges: &[Range<u32>], sent: Sent) {
        let slot = share.slot;
        let taken = match sent {
            Sent::All if self.connections.plain_socket(slot).is_some() => return,
            Sent::All => {
                self.fin_if_written(now, slot);
                return self.connections.note_plain(slot);
            }
            Sent::Dead => return self.lose(slot),
            Sent::Part(taken) => taken,
            Sent::Full => 0,
        };
        let key = self.key(slot);
        let Some(connection) = self.connections.at(slot) else {
            return;
        };
        let backlog = Backlog::new(bytes_of(self.turn.log(), share, ranges), taken, now);
        self.backlog_bytes += backlog.unsent().len();
        connection.backlog = Some(Box::new(backlog));
        self.blocked.push(slot);
        self.commands.push(Command::AwaitWritable(key));
        self.bound_backlogs(now, slot);
    }

    /// Sends what up to `most` sockets owe that can take bytes again.
    fn flush_backlogs(&mut self, now: Instant, flusher: &mut dyn Flusher, most: usize) {
        let mut writable = std::mem::take(&mut self.writable);
        for slot in writable.drain(..most.min(writable.len())) {
            let key = self.key(slot);
            let Some(connection) = self.connections.at(slot) else {
                continue;
            };
            let Some(backlog) = &mut connection.backlog else {
                continue;
            };
            let length = backlog.unsent().len();
            let whole = 0..u32::try_from(length).unwrap_or(u32::MAX);
            let batch = [Outgoing {
                socket: connection.socket,
                ranges: 0..1,
            }];
            self.results.clear();
            let ranges = std::slice::from_ref(&whole);
            flusher.flush(backlog.unsent(), ranges, &batch, &mut self.results);
            let taken = match self.results.first() {
                Some(Sent::All) => whole.end as usize,
                Some(&Sent::Part(taken)) => taken,
                Some(Sent::Full) | None => 0,
                Some(Sent::Dead) => {
                    self.lose(slot);
                    continue;
                }
            };
            backlog.handle_sent(taken, now);
            self.backlog_bytes -= taken;
            if connection.is_behind && length - taken <= connection.held_from_bytes(&self.limits) {
                connection.is_behind = false;
                self.caught_up.push(key);
            }
            if taken < length {
                self.commands.push(Command::AwaitWritable(key));
            } else {
                connection.backlog = None;
                self.fin_if_written(now, slot);
            }
        }
        self.writable = writable;
    }

    /// Sends FIN when a finishing socket has been given its last byte.
    pub(super) fn fin_if_written(&mut self, now: Instant, slot: Slot) {
        let is_pending = self.is_owed(slot);
        let Some(connection) = self.connections.at(slot) else {
            return;
        };
        let is_finishing = matches!(connection.life, Life::Finishing { .. });
        if !is_finishing || is_pending || connection.backlog.is_some() {
            return;
        }
        if connection.is_eof {
            self.free(slot, Command::Close(slot));
            return;
        }
        connection.life = Life::FinSent {
            until: now + CLOSE_WAIT,
        };
        self.commands.push(Command::Fin(slot));
        self.schedule(slot, now);
    }

    /// Holds the socket whose backlog grew to its bound, and all together to theirs. At once:
    /// a whole chunk of backlogs over their bounds would be gigabytes.
    fn bound_backlogs(&mut self, now: Instant, slot: Slot) {
        let limit = self.limits.bytes;
        let exceeds = self
            .connections
            .at(slot)
            .and_then(|connection| connection.backlog.as_ref())
            .is_some_and(|backlog| backlog.exceeds(limit));
        if exceeds {
            self.close_behind(now, slot, Counter::BacklogBytes);
        }
        while self.backlog_bytes > self.limits.total {
            let Some(largest) = self.largest_backlog() else {
                return;
            };
            self.close_behind(now, largest, Counter::BacklogTotal);
        }
    }

    fn largest_backlog(&mut self) -> Option<Slot> {
        let Self {
            blocked,
            connections,
            ..
        } = self;
        let mut owed = |slot: Slot| {
            connections
                .at(slot)
                .map_or(0, |connection| connection.owed_bytes())
        };
        blocked
            .iter()
            .copied()
            .max_by_key(|&slot| owed(slot))
            .filter(|&slot| owed(slot) > 0)
    }

    /// Closes the sockets that have taken nothing for too long.
    pub(super) fn close_stalled(&mut self, now: Instant) {
        let wait = self.limits.wait;
        let mut blocked = std::mem::take(&mut self.blocked);
        blocked.retain(|&slot| {
            self.connections
                .at(slot)
                .is_some_and(|known| known.backlog.is_some())
        });
        blocked.sort_unstable();
        blocked.dedup();
        self.blocked = blocked;
        for at in 0..self.blocked.len() {
            let Some(&slot) = self.blocked.get(at) else {
                return;
            };
            let is_stalled = self
                .connections
                .at(slot)
                .filter(|connection| connection.life == Life::Open)
                .and_then(|connection| connection.backlog.as_ref())
                .is_some_and(|backlog| now.saturating_duration_since(backlog.progress) >= wait);
            if is_stalled {
                self.close_behind(now, slot, Counter::BacklogSeconds);
            }
        }
    }

    /// A reader fell too far behind: everything behind the frame it has begun is dropped, a
    /// Close frame takes its place, and it has [`CLOSE_WAIT`] to take that.
    fn close_behind(&mut self, now: Instant, slot: Slot, why: Counter) {
        self.metrics.add(why, 1);
        self.forget_owed(slot);
        self.depart(slot);
        let Some(connection) = self.connections.at(slot) else {
            return;
        };
        if connection.life != Life::Open || !connection.session.is_web_socket() {
            return self.reset(slot);
        }
        connection
            .session
            .close(CLOSE_BEHIND.0, CLOSE_BEHIND.1, &mut Effects::default());
        connection.life = Life::EchoAwaited {
            until: now + CLOSE_WAIT,
        };
        if let Some(backlog) = &mut connection.backlog {
            self.backlog_bytes -= backlog.unsent().len();
            let mut last = Vec::new();
            frame::close(&mut last, Some(CLOSE_BEHIND.0), CLOSE_BEHIND.1.as_bytes());
            backlog.cut(&last);
            self.backlog_bytes += backlog.unsent().len();
        }
        self.schedule(slot, now);
    }

    /// The only RST that we send: to a peer that would not even take its Close frame.
    pub(super) fn reset(&mut self, slot: Slot) {
        self.metrics.add(Counter::Reset, 1);
        self.depart(slot);
        self.free(slot, Command::Reset(slot));
    }
}

/// What a share holds, range by range.
fn bytes_of<'a>(
    log: &'a [u8],
    share: &Share,
    ranges: &'a [Range<u32>],
) -> impl Iterator<Item = &'a [u8]> {
    let ranges = ranges.get(share.ranges.clone()).unwrap_or_default();
    ranges.iter().map(|range| {
        log.get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    })
}
