//! What `/up?verbose` tells of Redis: whether each connection works, and for how long it did not.
//!
//! Written by the Redis thread when something changes, read by sessions of any shard; neither on a
//! hot path. It knows no clock: times are handed in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The connections to Redis that this server keeps.
#[derive(Debug, Default)]
pub struct RedisStatus {
    /// To what Laravel's redis broadcaster publishes.
    pub ingest: ConnectionStatus,
    /// To the bus between nodes.
    pub scaling: ConnectionStatus,
    has_others: AtomicBool,
}

/// One of them, if there is one.
#[derive(Debug, Default)]
pub struct ConnectionStatus(Mutex<Option<Kept>>);

#[derive(Debug, Clone, Copy)]
struct Kept {
    state: State,
    gaps: u64,
    last_gap: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has never worked.
    New,
    Works,
    Lost {
        since: Instant,
    },
}

impl RedisStatus {
    /// Are other nodes known, to which clients may go?
    pub fn has_others(&self) -> bool {
        self.has_others.load(Ordering::Relaxed)
    }

    /// Other nodes are known, or none.
    pub fn set_others(&self, has_others: bool) {
        self.has_others.store(has_others, Ordering::Relaxed);
    }

    /// The body of `/up?verbose`: health, then for each connection whether it works, how often it
    /// was lost, for how long the last time, and, if it is down now, for how long already.
    pub fn verbose(&self, now: Instant) -> String {
        let connections = [("ingest", &self.ingest), ("scaling", &self.scaling)];
        let kept = connections.iter().filter_map(|(name, status)| {
            let kept = (*status.lock())?;
            Some(format!(r#""{name}":{}"#, kept.text(now)))
        });
        let kept = kept.collect::<Vec<_>>().join(",");
        format!(r#"{{"health":"OK","redis":{{{kept}}}}}"#)
    }
}

impl ConnectionStatus {
    /// The server keeps such a connection; it does not work yet.
    pub fn begin(&self) {
        *self.lock() = Some(Kept {
            state: State::New,
            gaps: 0,
            last_gap: Duration::ZERO,
        });
    }

    /// It works no longer.
    pub fn lose(&self, now: Instant) {
        if let Some(kept) = &mut *self.lock()
            && kept.state == State::Works
        {
            kept.state = State::Lost { since: now };
        }
    }

    /// It works. Gives for how long it did not, if it had worked before.
    pub fn regain(&self, now: Instant) -> Option<Duration> {
        let mut status = self.lock();
        let kept = status.as_mut()?;
        let state = std::mem::replace(&mut kept.state, State::Works);
        let State::Lost { since } = state else {
            return None;
        };
        kept.gaps += 1;
        kept.last_gap = now.saturating_duration_since(since);
        Some(kept.last_gap)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn text(&self, now: Instant) -> String {
        let works = self.state == State::Works;
        let (gaps, last_gap) = (self.gaps, self.last_gap.as_millis());
        let down = match self.state {
            State::Lost { since } => {
                let down = now.saturating_duration_since(since).as_millis();
                format!(r#","down_ms":{down}"#)
            }
            State::New | State::Works => String::new(),
        };
        format!(r#"{{"works":{works},"gaps":{gaps},"last_gap_ms":{last_gap}{down}}}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_tells_how_often_and_how_long_it_was_gone() {
        let status = RedisStatus::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(status.verbose(at(0)), r#"{"health":"OK","redis":{}}"#);
        let is = |ms, text: &str| {
            let whole = format!(r#"{{"health":"OK","redis":{{"ingest":{{{text}}}}}}}"#);
            assert_eq!(status.verbose(at(ms)), whole);
        };
        status.ingest.begin();
        status.ingest.lose(at(1));
        is(2, r#""works":false,"gaps":0,"last_gap_ms":0"#);
        assert_eq!(status.ingest.regain(at(3)), None);
        is(4, r#""works":true,"gaps":0,"last_gap_ms":0"#);
        status.ingest.lose(at(10));
        status.ingest.lose(at(20));
        is(40, r#""works":false,"gaps":0,"last_gap_ms":0,"down_ms":30"#);
        assert_eq!(
            status.ingest.regain(at(50)),
            Some(Duration::from_millis(40))
        );
        is(60, r#""works":true,"gaps":1,"last_gap_ms":40"#);
    }
}
