//! Channel name → kind. Called by the session and by homes; it keeps nothing.

/// What a channel's name makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Anyone may subscribe.
    Public,
    /// Needs a signature; also `private-encrypted-…`.
    Private,
    /// Needs a signature and knows its members.
    Presence,
    /// Public, and repeats its last event to new subscribers.
    Cache,
    /// Private and cache.
    PrivateCache,
    /// Presence and cache.
    PresenceCache,
}

impl ChannelKind {
    /// By prefix, in Reverb's order: the cache kinds want their last dash, the
    /// others do not, so `privatefoo` is private and `cachefoo` a cache channel.
    pub fn of(name: &str) -> Self {
        const PREFIXES: [(&str, ChannelKind); 5] = [
            ("private-cache-", ChannelKind::PrivateCache),
            ("presence-cache-", ChannelKind::PresenceCache),
            ("cache", ChannelKind::Cache),
            ("private", ChannelKind::Private),
            ("presence", ChannelKind::Presence),
        ];
        let found = PREFIXES
            .into_iter()
            .find(|(prefix, _)| name.starts_with(prefix));
        found.map_or(Self::Public, |(_, kind)| kind)
    }

    /// Subscribing needs a signature.
    pub fn is_authorised(self) -> bool {
        match self {
            Self::Private | Self::Presence | Self::PrivateCache | Self::PresenceCache => true,
            Self::Public | Self::Cache => false,
        }
    }

    /// It has members.
    pub fn is_presence(self) -> bool {
        matches!(self, Self::Presence | Self::PresenceCache)
    }

    /// It repeats its last event.
    pub fn is_cache(self) -> bool {
        matches!(self, Self::Cache | Self::PrivateCache | Self::PresenceCache)
    }

    /// It repeats a server's event of this name: a client event never, whoever sends it.
    pub fn keeps(self, event: &str) -> bool {
        self.is_cache() && !event.starts_with(CLIENT_EVENT)
    }
}

/// How the name of an event begins that clients may send.
pub const CLIENT_EVENT: &str = "client-";

#[cfg(test)]
mod tests {
    use super::ChannelKind::{self, *};

    #[test]
    fn r080_r081_kinds_follow_the_prefix() {
        for (name, kind) in [
            ("foo", Public),
            ("", Public),
            ("Private-x", Public),
            ("xprivate-x", Public),
            ("#server-to-user-1", Public),
            ("private-foo", Private),
            ("private-", Private),
            ("privatefoo", Private),
            ("private-cache", Private),
            ("private-cachex", Private),
            ("private-encrypted-x", Private),
            ("presence-foo", Presence),
            ("presence", Presence),
            ("presencefoo", Presence),
            ("presence-cache", Presence),
            ("cache-foo", Cache),
            ("cachefoo", Cache),
            ("cached", Cache),
            ("private-cache-foo", PrivateCache),
            ("presence-cache-foo", PresenceCache),
        ] {
            assert_eq!(ChannelKind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn kinds_know_what_they_ask_for() {
        for (kind, authorised, presence, cache) in [
            (Public, false, false, false),
            (Private, true, false, false),
            (Presence, true, true, false),
            (Cache, false, false, true),
            (PrivateCache, true, false, true),
            (PresenceCache, true, true, true),
        ] {
            assert_eq!(kind.is_authorised(), authorised);
            assert_eq!(kind.is_presence(), presence);
            assert_eq!(kind.is_cache(), cache);
        }
    }

    #[test]
    fn r118_cache_channels_keep_every_event_but_client_events() {
        for (event, kept) in [
            ("upd", true),
            ("App\\Events\\T", true),
            ("clients", true),
            ("Client-x", true),
            ("", true),
            ("client-", false),
            ("client-x", false),
        ] {
            for kind in [Cache, PrivateCache, PresenceCache] {
                assert_eq!(kind.keeps(event), kept, "{event}");
            }
            for kind in [Public, Private, Presence] {
                assert!(!kind.keeps(event), "{event}");
            }
        }
    }
}
