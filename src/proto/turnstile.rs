//! How many handshakes may succeed in a second: a token bucket.
//!
//! Owned by a shard, asked by its sessions at the end of a handshake. Reads no clock.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// One shard's share of `SLAPBACK_ACCEPT_RATE`.
///
/// The bucket holds what drips into it in one second, for clients come in waves: whoever is turned
/// away with 4100 is back a second later, all of them at once. A smaller one would overflow
/// between two waves, and fewer would come in than may.
#[derive(Debug, Clone, Default)]
pub struct Turnstile {
    /// Time from one token to the next; `None` lets everybody in.
    interval: Option<Duration>,
    /// When the bucket is full again, if it is not; that alone says how many tokens are in it.
    full_at: Option<Instant>,
}

impl Turnstile {
    /// One shard's of `shards` for so many handshakes per second of the whole process, with a full
    /// bucket. `None` is without limit.
    pub fn new(rate: Option<NonZeroU32>, shards: u16) -> Self {
        let interval = rate.map(|rate| {
            let nanoseconds = SECOND_NS * u64::from(shards.max(1));
            // Rounded up, so that no more come in than were asked for.
            Duration::from_nanos(nanoseconds.div_ceil(u64::from(rate.get())))
        });
        Self {
            interval,
            full_at: None,
        }
    }

    /// Takes a token, if there is one.
    pub fn admit(&mut self, now: Instant) -> bool {
        let Some(interval) = self.interval else {
            return true;
        };
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + interval;
        // Where less than one a second drips in, there is room for that one.
        let is_admitted = full_at <= now + interval.max(HELD);
        if is_admitted {
            self.full_at = Some(full_at);
        }
        is_admitted
    }
}

/// What drips in during this time is what the bucket holds.
const HELD: Duration = Duration::from_secs(1);
const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
