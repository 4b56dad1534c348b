//! Which shards have somebody on a channel: each says so for itself, and homes look there before
//! they hand an event on. Else a fleet of many shards would wake all of them for one subscriber.
//!
//! Channels share places by a hash, so a shard may get an event in vain, but none is passed over:
//! it says so before anybody is told that they are on the channel, and takes it back behind the
//! last one. Called by the shard; knows nothing of rings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;

use crate::app::AppIndex;
use crate::broadcast::Broadcast;
use crate::shard::message::ShardIndex;

/// Places; a power of two. Twice as many halve what goes out in vain where channels are many.
const PLACES: usize = 1 << 16;

/// What all shards of a fleet say.
#[derive(Debug)]
pub struct Audience {
    /// For each place a bit per shard, in so many words.
    words: Box<[AtomicU64]>,
    words_per_place: usize,
    hasher: RandomState,
}

impl Audience {
    /// Of a fleet that nobody is connected to yet. One shard alone keeps nothing.
    pub fn new(shards: u16, seed: u64) -> Self {
        let is_alone = shards <= 1;
        let words_per_place = if is_alone {
            0
        } else {
            usize::from(shards).div_ceil(64)
        };
        Self {
            words: (0..PLACES * words_per_place)
                .map(|_| AtomicU64::new(0))
                .collect(),
            words_per_place,
            hasher: RandomState::with_seeds(seed, 1, 2, 3),
        }
    }

    /// Is nobody on any channel, nor about to be?
    pub fn is_empty(&self) -> bool {
        let mut words = self.words.iter();
        words.all(|word| word.load(Ordering::SeqCst) == 0)
    }

    fn place(&self, app: AppIndex, channel: &str) -> usize {
        let hash = self.hasher.hash_one((app, channel));
        usize::try_from(hash % PLACES as u64).unwrap_or_default()
    }

    fn words_of(&self, place: usize) -> &[AtomicU64] {
        let first = place * self.words_per_place;
        let words = self.words.get(first..first + self.words_per_place);
        words.unwrap_or_default()
    }
}

/// One shard's say in it.
#[derive(Debug)]
pub(super) struct Seats {
    me: ShardIndex,
    audience: Arc<Audience>,
    /// By place: subscriptions, and those who are joining.
    taken: Vec<u32>,
}

impl Seats {
    pub(super) fn new(me: ShardIndex, audience: Arc<Audience>) -> Self {
        let places = audience.words.len() / audience.words_per_place.max(1);
        Self {
            me,
            audience,
            taken: vec![0; places],
        }
    }

    /// Somebody is on a channel, or about to be. To be called before they or anybody hear of it.
    pub(super) fn take(&mut self, app: AppIndex, channel: &str) {
        let place = self.place(app, channel);
        let Some(taken) = self.taken.get_mut(place) else {
            return;
        };
        *taken += 1;
        if *taken == 1
            && let Some((word, bit)) = self.own(place)
        {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// That is over.
    pub(super) fn leave(&mut self, app: AppIndex, channel: &str) {
        let place = self.place(app, channel);
        let Some(taken) = self.taken.get_mut(place) else {
            return;
        };
        *taken = taken.saturating_sub(1);
        if *taken == 0
            && let Some((word, bit)) = self.own(place)
        {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// The other shards that an event is for, and perhaps a few more.
    pub(super) fn others(&self, broadcast: &Broadcast) -> impl Iterator<Item = ShardIndex> {
        let word = move |number: usize| {
            let deliveries = broadcast.deliveries.iter();
            let places = deliveries.map(|one| self.audience.place(broadcast.app, &one.channel));
            let words = places.filter_map(move |place| self.audience.words_of(place).get(number));
            words.fold(0, |all, word| all | word.load(Ordering::SeqCst))
        };
        let numbers = 0..self.audience.words_per_place;
        numbers
            .flat_map(move |number| bits(word(number)).map(move |bit| number * 64 + bit))
            .filter_map(|shard| u16::try_from(shard).ok().map(ShardIndex))
            .filter(move |&shard| shard != self.me)
    }

    /// One shard alone need not work it out: it has no place.
    fn place(&self, app: AppIndex, channel: &str) -> usize {
        if self.taken.is_empty() {
            return 0;
        }
        self.audience.place(app, channel)
    }

    fn own(&self, place: usize) -> Option<(&AtomicU64, u64)> {
        let at = usize::from(self.me.0);
        let word = self.audience.words_of(place).get(at / 64)?;
        Some((word, 1 << (at % 64)))
    }
}

/// The places of the ones in a word.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then_some(word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broadcast::Delivery;

    const APP: AppIndex = AppIndex(0);

    fn seats(shards: u16) -> Vec<Seats> {
        let audience = Arc::new(Audience::new(shards, 7));
        let seats = |at| Seats::new(ShardIndex(at), Arc::clone(&audience));
        (0..shards).map(seats).collect()
    }

    /// The other shards that hear of an event on these channels.
    fn others(seats: &Seats, channels: &[&str]) -> Vec<u16> {
        let mut broadcast = Broadcast::nothing(APP);
        broadcast.deliveries = channels
            .iter()
            .map(|&channel| Delivery {
                channel: channel.into(),
                except: None,
                frame: Box::default(),
                is_kept: false,
            })
            .collect();
        seats.others(&broadcast).map(|shard| shard.0).collect()
    }

    #[test]
    fn an_event_is_for_the_shards_that_somebody_is_on_one_of_its_channels_of() {
        let mut seats = seats(130);
        for (shard, channel) in [(0, "a"), (1, "a"), (64, "a"), (129, "b"), (64, "b")] {
            seats[shard].take(APP, channel);
        }
        assert_eq!(others(&seats[1], &["a"]), [0, 64]);
        assert_eq!(others(&seats[1], &["a", "b"]), [0, 64, 129]);
        assert!(others(&seats[1], &["c"]).is_empty());
    }

    #[test]
    fn a_shard_hears_of_a_channel_until_the_last_has_left_it() {
        let mut seats = seats(2);
        seats[1].take(APP, "a");
        seats[1].take(APP, "a");
        seats[1].leave(APP, "a");
        assert_eq!(others(&seats[0], &["a"]), [1]);
        seats[1].leave(APP, "a");
        assert!(others(&seats[0], &["a"]).is_empty());
    }

    #[test]
    fn one_shard_alone_keeps_nothing() {
        let mut seats = seats(1);
        seats[0].take(APP, "a");
        assert!(seats[0].taken.is_empty());
        assert!(others(&seats[0], &["a"]).is_empty());
        seats[0].leave(APP, "a");
    }
}
