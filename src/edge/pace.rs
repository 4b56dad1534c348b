//! When a shard begins to flush its next turn: at once, unless it is so busy that resting pays.
//!
//! A send costs the kernel nearly the same whatever its size. A shard that flushed back to back
//! would be busy all the time from a moderate load on, with sends of a few frames each. So after
//! a long flush, during which several frames came for each socket, it rests for as long as the
//! flush took, and the sends get fewer and larger: half the CPU stays free for reads and accepts.
//! Called by the edge's turn task; reads no clock. Never delays anything at low load, and never a
//! lone publisher that waits for its answers.

use std::time::{Duration, Instant};

use crate::shard::Gathered;

/// A flush that took less had hardly anything to do.
const FLUSH: Duration = Duration::from_micros(50);
/// A flush that took less is no load.
const LONG_FLUSH: Duration = Duration::from_millis(1);
/// No rest is longer, however long the flush was.
const REST_MAX: Duration = Duration::from_millis(10);
/// A rest in which nothing came for so long is over: whoever publishes waits for us.
const SILENCE: Duration = Duration::from_millis(1);
/// Frames per socket that came during a flush, from which on there is something to gather.
const FRAMES_EACH: usize = 3;
/// With so many bytes in a turn its sends are large enough.
const BYTES_ENOUGH: usize = 64 * 1024;

/// The pace of one shard's flushes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the flush under way began.
    began: Option<Instant>,
    /// When the last one ended, and how long it took.
    last: Option<(Instant, Duration)>,
    rest: Option<Rest>,
    /// Until then the last flush has taken longer than the time since.
    busy_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    /// When to look whether anything has come since `frames` were counted.
    look: Instant,
    frames: usize,
}

impl Pace {
    /// May a flush begin? Asked only between flushes; `gathered` came since the last one began.
    pub(super) fn may_begin(&mut self, now: Instant, gathered: Gathered) -> bool {
        if let Some((ended, took)) = self.last.take()
            && took >= LONG_FLUSH
            && gathered.frames >= FRAMES_EACH * gathered.sockets.max(1)
        {
            self.rest = Some(Rest {
                until: ended + took.min(REST_MAX),
                look: now + SILENCE,
                frames: gathered.frames,
            });
        }
        if let Some(rest) = &mut self.rest
            && now < rest.until
            && gathered.bytes < BYTES_ENOUGH
        {
            if now < rest.look {
                return false;
            }
            if gathered.frames > rest.frames {
                (rest.look, rest.frames) = (now + SILENCE, gathered.frames);
                return false;
            }
        }
        self.rest = None;
        self.began = Some(now);
        true
    }

    /// Is the shard at work for more than half of its time? Asked only between flushes.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }

    /// A flush is through.
    pub(super) fn ended(&mut self, now: Instant) {
        let began = self.began.take();
        self.last = began.map(|began| (now, now.saturating_duration_since(began)));
        if let Some((_, took)) = self.last
            && took >= FLUSH
        {
            self.busy_until = Some(now + took);
        }
    }

    /// Until when the shard rests at most, before it is to ask again.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.rest.map(|rest| rest.look.min(rest.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Gathered = gathered(0);

    const fn gathered(frames: usize) -> Gathered {
        Gathered {
            frames: frames * 10,
            sockets: 10,
            bytes: frames * 200,
        }
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// A pace whose flush took 3 ms.
    fn flushed(start: Instant) -> Pace {
        let mut pace = Pace::default();
        assert!(pace.may_begin(start, NOTHING));
        pace.ended(after(start, 3));
        pace
    }

    #[test]
    fn without_load_the_next_flush_begins_at_once() {
        let start = Instant::now();
        let mut pace = flushed(start);
        assert!(pace.may_begin(after(start, 3), gathered(2)));
        pace.ended(after(start, 3)); // it took no time
        assert!(pace.may_begin(after(start, 3), gathered(5)));
        assert!(flushed(start).may_begin(after(start, 100), gathered(5)));
    }

    #[test]
    fn under_load_it_rests_as_long_as_the_flush_took() {
        let start = Instant::now();
        let mut pace = flushed(start);
        assert!(!pace.may_begin(after(start, 3), gathered(3)));
        assert_eq!(pace.rests_until(), Some(after(start, 4)));
        assert!(!pace.may_begin(after(start, 4), gathered(4)));
        assert!(!pace.may_begin(after(start, 5), gathered(5)));
        assert!(pace.may_begin(after(start, 6), gathered(6)));
        assert_eq!(pace.rests_until(), None);
    }

    #[test]
    fn a_rest_ends_when_nothing_more_comes_or_enough_has_come() {
        let start = Instant::now();
        let mut pace = flushed(start);
        assert!(!pace.may_begin(after(start, 3), gathered(3)));
        assert!(pace.may_begin(after(start, 4), gathered(3)));
        let mut pace = flushed(start);
        assert!(pace.may_begin(after(start, 3), gathered(BYTES_ENOUGH / 200 + 1)));
    }

    #[test]
    fn a_shard_is_busy_for_as_long_as_its_last_flush_took() {
        let start = Instant::now();
        let mut pace = flushed(start);
        assert!(pace.is_busy(after(start, 5)));
        assert!(!pace.is_busy(after(start, 6)));
        // Turns with nothing to flush are no work.
        assert!(pace.may_begin(after(start, 4), NOTHING));
        pace.ended(after(start, 4));
        assert!(pace.is_busy(after(start, 5)));
    }

    #[test]
    fn no_rest_is_long() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.may_begin(start, NOTHING));
        pace.ended(after(start, 500));
        for ms in 0..=10 {
            let frames = 9 + usize::try_from(ms).unwrap();
            let may = pace.may_begin(after(start, 500 + ms), gathered(frames));
            assert_eq!(may, ms == 10);
        }
    }
}
