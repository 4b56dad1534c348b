//! How often each fault struck: a simulation in which one never does shows nothing about it.

use std::fmt;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Counts of one seed or of many.
        #[derive(Debug, Default)]
        pub(crate) struct Faults { $($(#[$doc])* pub(crate) $name: u64,)+ }

        impl Faults {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }

            fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }
    };
}

faults! {
    /// Operations drawn.
    operations,
    /// Ring entries that went through a spill.
    spill,
    /// Times a shard left messages behind because a ring had no room.
    full_ring,
    /// Sends of which a socket took a part.
    partial_write,
    /// Sends of which a socket took nothing.
    full_socket,
    /// Sends to a peer that had gone.
    dead_socket,
    /// Answers of a home to a session that had gone.
    stale_answer,
    /// Slots taken into use again.
    reused_slot,
    /// Shards that were drained.
    drain,
    /// Readers closed with 4100 for their backlog.
    closed_behind,
    /// Connections reset by a shard.
    server_reset,
    /// Sockets pruned for silence.
    pruned,
    /// Whispers or calls refused because a ring was over-full.
    over_full,
    /// Events that a client was due and got.
    delivered_due,
    /// Events that had an exception who was subscribed.
    excepted,
    /// Events shown to who subscribed to a cache channel.
    cache_shown,
    /// Subscriptions to a cache channel that kept nothing.
    cache_missed,
    /// Those of them that came when what was kept had become too old.
    cache_expired,
    /// Events that a cache had no room for.
    cache_dropped,
    /// Batches published.
    batches,
    /// Questions answered while things happened.
    questions,
    /// Sockets closed because their user was terminated.
    terminated,
    /// Questions answered at rest.
    questions_at_rest,
    /// Interests in a channel that waited for Redis.
    redis_waited_for,
    /// Channels that lingered and were dropped.
    redis_dropped,
    /// Events published in Redis that a client was due and got.
    redis_delivered_due,
    /// Presence rosters compared at rest.
    rosters_compared,
}

impl Faults {
    /// Those that never struck.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let each = self.each().into_iter();
        each.filter(|(_, count)| *count == 0)
            .map(|(name, _)| name)
            .collect()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.each() {
            writeln!(f, "{count:>10} {name}")?;
        }
        Ok(())
    }
}
