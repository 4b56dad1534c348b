//! Closing every socket, one after another over a set time, so that their clients do not all come
//! back in the same second: when the server leaves, and when it has missed what it cannot name.
//!
//! Begun by the edge or the Redis thread, paced by the shard's tick.

use std::time::{Duration, Instant};

use super::{Command, Shard};
use crate::metrics::Counter;
use crate::proto::Now;
use crate::proto::session::Protocol;
use crate::shard::connection::Life;
use crate::shard::message::SessionKey;

/// After the pace is through, what has not taken its bytes has this long before it is reset.
pub const DRAIN_GRACE: Duration = Duration::from_secs(3);

/// Close code of a drain: pusher-js comes back after 1 s.
const CLOSE_ALONE: u16 = 4100;
/// The same while other nodes are known: it comes back at once, to one of them.
const CLOSE_AMONG_OTHERS: u16 = 4200;
/// Close code of sockets that may have missed events: pusher-js comes back after 1 s.
const CLOSE_MISSED: (u16, &str) = (4100, "Events were missed");

/// Sockets that are closed evenly.
#[derive(Debug)]
struct Pace {
    start: Instant,
    over: Duration,
    queue: Vec<SessionKey>,
    closed: usize,
}

impl Pace {
    /// Those that are due by now and were not before.
    fn due(&mut self, now: Instant) -> Vec<SessionKey> {
        let elapsed = now.saturating_duration_since(self.start);
        let due = if elapsed >= self.over {
            self.queue.len()
        } else {
            let share = elapsed.as_secs_f64() / self.over.as_secs_f64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a share of a length is a length"
            )]
            let due = (self.queue.len() as f64 * share).ceil() as usize;
            due.min(self.queue.len())
        };
        let due = due.max(self.closed);
        let from = std::mem::replace(&mut self.closed, due);
        self.queue.get(from..due).unwrap_or_default().to_vec()
    }

    fn is_over(&self) -> bool {
        self.closed == self.queue.len()
    }
}

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    code: u16,
    pace: Pace,
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
        self.pace.is_over() && self.newcomers == [false; 2]
    }

    /// When what is still there is reset.
    fn end(&self) -> Instant {
        self.pace.start + self.pace.over + DRAIN_GRACE
    }
}

/// All clients are asked to come back.
#[derive(Debug)]
pub(super) struct Recall {
    pace: Pace,
    /// More was missed meanwhile, also by those who have come back.
    is_due_again: bool,
}

impl<S: Protocol> Shard<S> {
    /// Closes every socket, evenly over `over`. From now on upgrades are turned away with 4100 and
    /// answers say `Connection: close`.
    pub fn begin_drain(&mut self, now: Now, over: Duration) {
        self.pressure.leaving = true;
        self.pressure.draining = true;
        let has_others = self.settings.redis.has_others();
        self.drain = Some(Drain {
            code: if has_others {
                CLOSE_AMONG_OTHERS
            } else {
                CLOSE_ALONE
            },
            pace: self.pace_of_all(now, over),
            newcomers: [false; 2],
        });
    }

    /// Events were lost that nobody can name: all clients come back and ask their application. No
    /// older event is shown to them as the last one.
    pub(super) fn handle_recall(&mut self, now: Now, over: Duration) {
        for (app, _) in self.apps.iter() {
            self.homes.forget(app, None);
        }
        match &mut self.recall {
            Some(recall) => recall.is_due_again = true,
            None => {
                self.recall = Some(Recall {
                    pace: self.pace_of_all(now, over),
                    is_due_again: false,
                });
            }
        }
    }

    fn pace_of_all(&self, now: Now, over: Duration) -> Pace {
        let all = self.connections.iter();
        let web_sockets = all.filter(|(_, connection)| connection.session.is_web_socket());
        Pace {
            start: now.instant,
            over,
            queue: web_sockets.map(|(slot, _)| self.key(slot)).collect(),
            closed: 0,
        }
    }

    /// Is a drain under way?
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Is the time up in which connections may still be answered?
    pub fn is_drain_over(&self, now: Instant) -> bool {
        self.drain.as_ref().is_some_and(|drain| now >= drain.end())
    }

    /// Is nothing left to be waited for? Every WebSocket is gone and no request is under way.
    ///
    /// This shard must serve on until all others are through too: it may be the home of events
    /// that they take.
    pub fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(Drain::is_quiet)
            && self.connections.iter().all(|(_, known)| known.is_at_rest())
            && self.turn.is_empty()
            && self.ahead.is_empty()
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
        if let Some(mut drain) = self.drain.take() {
            for key in drain.pace.due(now.instant) {
                self.close_in_turn(now, key, (drain.code, "Server is restarting"));
            }
            drain.newcomers = [false, drain.newcomers[0]];
            if now.instant >= drain.end() {
                self.end_all();
            }
            self.drain = Some(drain);
        } else if let Some(mut recall) = self.recall.take() {
            for key in recall.pace.due(now.instant) {
                self.metrics.add(Counter::GapClosed, 1);
                self.close_in_turn(now, key, CLOSE_MISSED);
            }
            if !recall.pace.is_over() {
                self.recall = Some(recall);
            } else if recall.is_due_again {
                self.handle_recall(now, recall.pace.over);
            }
        }
    }

    fn close_in_turn(&mut self, now: Now, key: SessionKey, how: (u16, &str)) {
        let is_open = self
            .connections
            .at_key(key)
            .is_some_and(|known| known.life == Life::Open);
        if is_open {
            self.close_with(now, key.slot, how);
        }
    }

    fn end_all(&mut self) {
        let slots: Vec<_> = self.connections.slots().collect();
        for slot in slots {
            let owes_nothing = !self.is_owed(slot)
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
