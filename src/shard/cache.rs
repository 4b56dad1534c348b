//! The last event of each cache channel, until it is replaced or too old, also while nobody
//! subscribes.
//!
//! Filled and asked by the homes, swept by the shard's tick. Of every app it keeps so many events
//! and so many bytes at most; over that the oldest goes. It shares what was serialised for the
//! delivery and never writes a frame of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;

use crate::app::AppIndex;
use crate::broadcast::{Broadcast, Delivery};
use crate::proto::frame;

/// How long an event is kept at most.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 60);

/// Bounds of what is kept for one app.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Cache channels whose last event is kept.
    pub channels: usize,
    /// Bytes of these events.
    pub bytes: usize,
}

/// The cached events of all apps whose home is one shard.
#[derive(Debug)]
pub struct Cache {
    apps: HashMap<AppIndex, Store, RandomState>,
    limits: CacheLimits,
    hasher: RandomState,
}

/// A cached event: a delivery that is alone in its broadcast.
#[derive(Debug, Clone)]
pub struct Cached(Arc<Broadcast>);

/// When an event was published, and by which node: by this nodes agree on which of two is the last,
/// in whatever order they heard them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Unix milliseconds, or later: no event has the time of one before it.
    pub at: u64,
    /// The node's number.
    pub node: u64,
}

/// The cached events of one app.
#[derive(Debug)]
struct Store {
    /// By channel: where its event stands in `events`.
    places: HashMap<Box<str>, u64, RandomState>,
    /// The oldest first; a place is never used twice.
    events: BTreeMap<u64, Entry>,
    next_place: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    event: Cached,
    stamp: Option<Stamp>,
    until: Instant,
}

impl Cache {
    /// A cache that holds nothing; `hasher` seeds its maps.
    pub fn new(limits: CacheLimits, hasher: RandomState) -> Self {
        Self {
            apps: HashMap::with_hasher(hasher.clone()),
            limits,
            hasher,
        }
    }

    /// Keeps the deliveries of a broadcast that their channels are to keep, each in place of the
    /// one before, unless that one was published later. Gives how many events were dropped for
    /// want of room.
    pub fn keep(&mut self, now: Instant, broadcast: &Arc<Broadcast>, stamp: Option<Stamp>) -> u64 {
        let mut dropped = 0;
        for delivery in &broadcast.deliveries {
            if delivery.is_kept {
                let store = self
                    .apps
                    .entry(broadcast.app)
                    .or_insert_with(|| Store::new(self.hasher.clone()));
                let last = store.stamp(&delivery.channel);
                let is_behind = stamp.zip(last).is_some_and(|(stamp, last)| stamp <= last);
                if !is_behind {
                    let event = Cached::of(broadcast, delivery);
                    let until = now + KEPT_FOR;
                    let entry = Entry {
                        event,
                        stamp,
                        until,
                    };
                    dropped += store.put(entry, self.limits);
                }
            }
        }
        dropped
    }

    /// The event that a channel's next subscriber is to get.
    pub fn last(&self, now: Instant, app: AppIndex, channel: &str) -> Option<&Cached> {
        let store = self.apps.get(&app)?;
        let entry = store.events.get(store.places.get(channel)?)?;
        (now < entry.until).then_some(&entry.event)
    }

    /// Keeps no event of a channel any longer, or of a whole app.
    pub fn forget(&mut self, app: AppIndex, channel: Option<&str>) {
        let Some(channel) = channel else {
            self.apps.remove(&app);
            return;
        };
        if let Some(store) = self.apps.get_mut(&app) {
            store.forget(channel);
        }
    }

    /// Gives back the memory of what is too old.
    pub fn sweep(&mut self, now: Instant) {
        self.apps.retain(|_, store| {
            while store.oldest().is_some_and(|oldest| oldest.until <= now) {
                store.drop_oldest();
            }
            !store.events.is_empty()
        });
    }

    /// Events it holds, those that are too old and not swept yet among them.
    pub fn events_count(&self) -> usize {
        self.apps.values().map(|store| store.events.len()).sum()
    }
}

impl Cached {
    /// Shares a broadcast that is this delivery alone. Of one to several channels it copies the
    /// frame, or the event of one channel would hold the memory of all.
    fn of(broadcast: &Arc<Broadcast>, delivery: &Delivery) -> Self {
        if let [_] = broadcast.deliveries[..] {
            return Self(Arc::clone(broadcast));
        }
        Self(Arc::new(Broadcast {
            app: broadcast.app,
            deliveries: vec![delivery.clone()],
            is_one_event: broadcast.is_one_event,
        }))
    }

    /// The whole WebSocket frame, as the subscribers got it.
    pub fn frame(&self) -> &[u8] {
        self.0
            .deliveries
            .first()
            .map_or(&[], |delivery| &delivery.frame)
    }

    /// The event as JSON text, as the subscribers got it.
    pub fn text(&self) -> &[u8] {
        frame::payload(self.frame())
    }

    fn channel(&self) -> &str {
        self.0
            .deliveries
            .first()
            .map_or("", |delivery| &delivery.channel)
    }

    /// Bytes that keeping it costs.
    fn weight(&self) -> usize {
        self.0.weight() + self.channel().len() + ENTRY_BYTES
    }
}

impl Store {
    fn new(hasher: RandomState) -> Self {
        Self {
            places: HashMap::with_hasher(hasher),
            events: BTreeMap::new(),
            next_place: 0,
            bytes: 0,
        }
    }

    /// Puts an event in place of its channel's last one, which goes even if the new one is too
    /// large to stay: nobody is to be shown a value that is no longer true.
    fn put(&mut self, entry: Entry, limits: CacheLimits) -> u64 {
        let event = &entry.event;
        self.forget(event.channel());
        if event.weight() > limits.bytes {
            return 1;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.bytes += event.weight();
        self.places.insert(event.channel().into(), place);
        self.events.insert(place, entry);
        let mut dropped = 0;
        while self.events.len() > limits.channels || self.bytes > limits.bytes {
            self.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    /// When the last event of a channel was published.
    fn stamp(&self, channel: &str) -> Option<Stamp> {
        self.events.get(self.places.get(channel)?)?.stamp
    }

    fn forget(&mut self, channel: &str) {
        let place = self.places.remove(channel);
        if let Some(entry) = place.and_then(|place| self.events.remove(&place)) {
            self.bytes -= entry.event.weight();
        }
    }

    fn oldest(&self) -> Option<&Entry> {
        self.events.values().next()
    }

    fn drop_oldest(&mut self) {
        if let Some((_, entry)) = self.events.pop_first() {
            self.bytes -= entry.event.weight();
            self.places.remove(entry.event.channel());
        }
    }
}

/// About what an event's two places take beside its texts.
const ENTRY_BYTES: usize = 128;

#[cfg(test)]
mod tests;
