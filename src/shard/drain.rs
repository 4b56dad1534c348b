//! Leaving: sockets close one after another over a set time, so that their clients do not all
//! come back to the other nodes in the same second. Begun by the edge, paced by the shard's tick.

use std::time::{Duration, Instant};

use super::{Command, Shard};
use crate::proto::Now;
use crate::proto::session::Protocol;
use crate::shard::connection::Life;
use crate::shard::message::SessionKey;

/// After the pace is through, what has not taken its bytes has this long before it is reset.
pub const DRAIN_GRACE: Duration = Duration::from_secs(3);

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    code: u16,
    start: Instant,
    pace: Duration,
    queue: Vec<SessionKey>,
    closed: usize,
    /// A connection was accepted since the last tick, or between the two before: it is given the
    /// time to say what it wants.
    newcomers: [bool; 2],
}

impl Drain {
    /// A connection was accepted.
    pub(super) fn note_opened(&mut self) {
        self.newcomers[0] = true;
    }

    fn is_quiet(&self) -> bool {
        self.closed == self.queue.len() && self.newcomers == [false; 2]
    }
}

impl<S: Protocol> Shard<S> {
    /// Closes every socket with `code`, evenly over `pace`. From now on upgrades are turned
    /// away with 4100 and answers say `Connection: close`.
    pub fn begin_drain(&mut self, now: Now, code: u16, pace: Duration) {
        self.pressure.leaving = true;
        self.pressure.draining = true;
        let queue = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.session.is_web_socket())
            .map(|(slot, _)| self.key(slot))
            .collect();
        self.drain = Some(Drain {
            code,
            start: now.instant,
            pace,
            queue,
            closed: 0,
            newcomers: [false; 2],
        });
    }

    /// Is a drain under way?
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Is the time up in which connections may still be answered?
    pub fn is_drain_over(&self, now: Instant) -> bool {
        let end = self
            .drain
            .as_ref()
            .map(|drain| drain.start + drain.pace + DRAIN_GRACE);
        end.is_some_and(|end| now >= end)
    }

    /// Is nothing left to be waited for? Every WebSocket is gone and no request is under way.
    ///
    /// This shard must serve on until all others are through too: it may be the home of events
    /// that they take.
    pub fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(Drain::is_quiet)
            && self.connections.iter().all(|(_, known)| known.is_at_rest())
            && self.turn.is_empty()
    }

    /// Closes what a drained shard still holds: connections on which nothing was asked.
    pub fn end_drain(&mut self) {
        let slots: Vec<_> = self.connections.slots().collect();
        for slot in slots {
            self.free(slot, Command::Close(slot));
        }
    }

    /// Closes as many sockets as are due by now.
    pub(super) fn pace_drain(&mut self, now: Now) {
        let Some(mut drain) = self.drain.take() else {
            return;
        };
        let elapsed = now.instant.saturating_duration_since(drain.start);
        let due = if elapsed >= drain.pace || drain.pace.is_zero() {
            drain.queue.len()
        } else {
            let share = elapsed.as_secs_f64() / drain.pace.as_secs_f64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a share of a length is a length"
            )]
            let due = (drain.queue.len() as f64 * share).ceil() as usize;
            due.min(drain.queue.len())
        };
        for &key in drain.queue.get(drain.closed..due).unwrap_or_default() {
            self.close_for_drain(now, key, drain.code);
        }
        drain.closed = due.max(drain.closed);
        drain.newcomers = [false, drain.newcomers[0]];
        if elapsed >= drain.pace + DRAIN_GRACE {
            self.end_all();
        }
        self.drain = Some(drain);
    }

    fn close_for_drain(&mut self, now: Now, key: SessionKey, code: u16) {
        let is_open = self
            .connections
            .at_key(key)
            .is_some_and(|known| known.life == Life::Open);
        if is_open {
            self.close_with(now, key.slot, (code, "Server is restarting"));
        }
    }

    fn end_all(&mut self) {
        let slots: Vec<_> = self.connections.slots().collect();
        for slot in slots {
            let owes_nothing = !self.turn.is_pending(slot)
                && self
                    .connections
                    .at(slot)
                    .is_some_and(|known| known.backlog.is_none());
            self.depart(slot);
            // Who has taken its bytes must not lose them to a RST.
            let how = if owes_nothing {
                Command::Close(slot)
            } else {
                Command::Reset(slot)
            };
            self.free(slot, how);
        }
    }
}
