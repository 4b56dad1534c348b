//! Counters: one set per shard, written by that shard alone, merged on read.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)+) => {
        /// What is counted. The text of each is its name in the log.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $name,)+ }

        const NAMES: &[&str] = &[$($text,)+];
        const ALL: &[Counter] = &[$(Counter::$name,)+];
    };
}

counters! {
    /// TCP connections accepted.
    Accepted => "accepted",
    /// WebSocket sessions established.
    Established => "established",
    /// Upgrades for a key that no app has (4001).
    RefusedAppUnknown => "refused_app_unknown",
    /// Upgrades over `max_connections` (4004).
    RefusedQuota => "refused_quota",
    /// Upgrades from an origin that is not allowed (4009).
    RefusedOrigin => "refused_origin",
    /// Upgrades refused with 4100 because files are nearly used up.
    RefusedNodeFull => "refused_node_full",
    /// Upgrades refused with 4100 during a drain.
    RefusedDraining => "refused_draining",
    /// Upgrades refused with 4100 because too many came at once.
    RefusedTooFast => "refused_too_fast",
    /// Handshakes answered with 4xx or 5xx.
    RefusedHandshake => "refused_handshake",
    /// API calls answered with 200.
    ApiAnswered => "api_answered",
    /// API calls answered with an error other than 503.
    ApiRefused => "api_refused",
    /// API calls answered with 503 because a shard's rings were over-full.
    ApiOverloaded => "api_overloaded",
    /// Whispers refused with 4301 because a shard's rings were over-full.
    WhisperOverloaded => "whisper_overloaded",
    /// Client messages answered with `pusher:error`.
    MessageRefused => "message_refused",
    /// Messages over a socket's rate limit (4301).
    RateLimited => "rate_limited",
    /// WebSocket protocol violations (1002, 1007, 1009).
    FrameViolation => "frame_violation",
    /// Sockets closed with 4201 for silence.
    Pruned => "pruned",
    /// Sockets closed with 4009 because a call terminated their user.
    Terminated => "terminated",
    /// Sockets closed with 4001 because a reload took their app away.
    AppGone => "app_gone",
    /// HTTP connections closed because a head or the next request did not come in time.
    HttpTimeout => "http_timeout",
    /// Broadcasts taken by homes on this shard.
    BroadcastTaken => "broadcast_taken",
    /// Events handed to sockets.
    Delivered => "delivered",
    /// Last events of cache channels dropped for want of room.
    CacheDropped => "cache_dropped",
    /// Sockets closed with 4100 because events of their channel were lost on the way from Redis.
    GapClosed => "gap_closed",
    /// Messages of Laravel's redis broadcaster that were taken.
    IngestTaken => "ingest_taken",
    /// Messages under the prefix of Laravel's redis broadcaster that are none of its events.
    IngestRefused => "ingest_refused",
    /// Own events published on the bus.
    BusPublished => "bus_published",
    /// Whispers for which there was no room while Redis was away.
    BusDropped => "bus_dropped",
    /// Messages that came on the bus, own ones among them.
    BusTaken => "bus_taken",
    /// Messages on the bus that mean nothing here.
    BusRefused => "bus_refused",
    /// Events from Redis that a shard had no room for.
    RedisGap => "redis_gap",
    /// Connections to Redis that were lost.
    RedisLost => "redis_lost",
    /// Backlogs closed for their bytes.
    BacklogBytes => "backlog_bytes",
    /// Backlogs closed for want of progress.
    BacklogSeconds => "backlog_seconds",
    /// Backlogs closed because all of a shard's together were too large.
    BacklogTotal => "backlog_total",
    /// Connections reset because they took not even their Close frame.
    Reset => "reset",
    /// Ring entries that went through a spill.
    Spilled => "spilled",
    /// Answers of a home to a session that is gone.
    StaleAnswer => "stale_answer",
    /// Panics caught in one connection's protocol code.
    SessionPanicked => "session_panicked",
}

/// One shard's counters.
#[derive(Debug)]
pub struct Metrics {
    values: [AtomicU64; ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            values: [const { AtomicU64::new(0) }; ALL.len()],
        }
    }
}

impl Metrics {
    /// Adds to a counter. Only the owning shard may call it: it is not a read-modify-write.
    pub fn add(&self, counter: Counter, amount: u64) {
        if let Some(value) = self.values.get(counter as usize) {
            value.store(value.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
        }
    }

    /// Reads a counter, from any thread.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values
            .get(counter as usize)
            .map_or(0, |value| value.load(Ordering::Relaxed))
    }
}

/// The counters of several shards, merged: `name=value` of each that is not zero.
#[derive(Debug)]
pub struct Merged<'a>(pub &'a [std::sync::Arc<Metrics>]);

impl fmt::Display for Merged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (&counter, name) in ALL.iter().zip(NAMES) {
            let sum: u64 = self.0.iter().map(|metrics| metrics.get(counter)).sum();
            if sum > 0 {
                write!(f, "{separator}{name}={sum}")?;
                separator = " ";
            }
        }
        if separator.is_empty() {
            f.write_str("nothing to count")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn merging_adds_shards_and_leaves_out_zeros() {
        let shards = [Arc::new(Metrics::default()), Arc::new(Metrics::default())];
        shards[0].add(Counter::Accepted, 2);
        shards[1].add(Counter::Accepted, 3);
        shards[1].add(Counter::SessionPanicked, 1);
        assert_eq!(Merged(&shards).to_string(), "accepted=5 session_panicked=1");
        assert_eq!(Merged(&[]).to_string(), "nothing to count");
    }
}
