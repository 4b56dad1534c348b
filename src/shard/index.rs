//! Channel → slots: who on this shard is subscribed to what.
//!
//! Each channel keeps its slots as one dense array, so that a broadcast walks memory in order
//! (a hash set costs twice as much per subscriber). Joining and leaving are O(1): every
//! subscription knows its place in the array, and the array's twin knows the subscription. Called
//! by the shard; knows nothing of sockets or presence.

use std::collections::HashMap;

use ahash::RandomState;

use crate::app::AppIndex;

/// Position of a session in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// As an index into a dense array.
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

/// The subscriptions of one shard, of all its apps.
#[derive(Debug)]
pub struct Index {
    names: HashMap<(AppIndex, Box<str>), u32, RandomState>,
    channels: Vec<Channel>,
    free: Vec<u32>,
    /// By slot.
    sessions: Vec<Vec<Subscription>>,
}

#[derive(Debug, Default)]
struct Channel {
    app: Option<AppIndex>,
    name: Box<str>,
    slots: Vec<Slot>,
    /// Twin of `slots`: where in that session's list the subscription stands.
    places: Vec<u32>,
}

/// One session on one channel.
#[derive(Debug)]
struct Subscription {
    channel: u32,
    /// Place in the channel's `slots`.
    place: u32,
    user_id: Option<Box<str>>,
}

impl Index {
    /// An empty index; `hasher` seeds its map.
    pub fn new(hasher: RandomState) -> Self {
        Self {
            names: HashMap::with_hasher(hasher),
            channels: Vec::new(),
            free: Vec::new(),
            sessions: Vec::new(),
        }
    }

    /// Puts a session on a channel, or replaces the `user_id` it whispers under.
    /// True if it was not there before.
    pub fn join(
        &mut self,
        app: AppIndex,
        channel: &str,
        slot: Slot,
        user_id: Option<Box<str>>,
    ) -> bool {
        let id = self.intern(app, channel);
        if self.sessions.len() <= slot.at() {
            self.sessions.resize_with(slot.at() + 1, Vec::new);
        }
        let known = self.position(id, slot);
        let (Some(session), Some(entry)) = (
            self.sessions.get_mut(slot.at()),
            self.channels.get_mut(id as usize),
        ) else {
            return false;
        };
        if let Some(subscription) = known.and_then(|position| session.get_mut(position)) {
            subscription.user_id = user_id;
            return false;
        }
        entry.places.push(narrow(session.len()));
        session.push(Subscription {
            channel: id,
            place: narrow(entry.slots.len()),
            user_id,
        });
        entry.slots.push(slot);
        true
    }

    /// Takes a session off a channel. True if it was on it.
    pub fn leave(&mut self, app: AppIndex, channel: &str, slot: Slot) -> bool {
        let Some(id) = self.find(app, channel) else {
            return false;
        };
        let Some(position) = self.position(id, slot) else {
            return false;
        };
        self.remove(slot, position);
        true
    }

    /// Takes a session off its latest channel, and names that channel. `None`: it was on none.
    pub fn leave_any(&mut self, slot: Slot) -> Option<(AppIndex, Box<str>)> {
        let session = self.sessions.get(slot.at())?;
        let id = session.last()?.channel;
        let position = session.len() - 1;
        let channel = self.channels.get(id as usize)?;
        let named = (channel.app?, channel.name.clone());
        self.remove(slot, position);
        Some(named)
    }

    /// Forgets a slot's list, so that an idle slot holds no memory.
    pub fn release(&mut self, slot: Slot) {
        if let Some(session) = self.sessions.get_mut(slot.at()) {
            debug_assert!(
                session.is_empty(),
                "slot {slot:?} is released while subscribed"
            );
            *session = Vec::new();
        }
    }

    /// The slots subscribed to a channel, each once.
    pub fn slots(&self, app: AppIndex, channel: &str) -> &[Slot] {
        let entry = self
            .find(app, channel)
            .and_then(|id| self.channels.get(id as usize));
        entry.map_or(&[], |channel| &channel.slots)
    }

    /// The raw `user_id` a session subscribed with: see [`crate::proto::session::Memberships`].
    pub fn membership(&self, app: AppIndex, channel: &str, slot: Slot) -> Option<Option<&str>> {
        let id = self.find(app, channel)?;
        let position = self.position(id, slot)?;
        let subscription = self.sessions.get(slot.at())?.get(position)?;
        Some(subscription.user_id.as_deref())
    }

    /// The channels of an app and how many slots are subscribed to each.
    pub fn channels(&self, app: AppIndex) -> impl Iterator<Item = (&str, usize)> {
        let own = self.channels.iter();
        let own = own.filter(move |channel| channel.app == Some(app));
        own.map(|channel| (channel.name.as_ref(), channel.slots.len()))
    }

    /// The slots that subscribed to a channel with a `user_id`, and that, raw.
    pub fn users(&self, app: AppIndex, channel: &str) -> impl Iterator<Item = (Slot, &str)> {
        let found = self.find(app, channel);
        let entry = found.and_then(|id| self.channels.get(id as usize));
        let subscribed = entry
            .into_iter()
            .flat_map(|entry| entry.slots.iter().copied().zip(&entry.places));
        subscribed.filter_map(|(slot, &place)| {
            let subscription = self.sessions.get(slot.at())?.get(place as usize)?;
            Some((slot, subscription.user_id.as_deref()?))
        })
    }

    fn find(&self, app: AppIndex, channel: &str) -> Option<u32> {
        self.names.get(&(app, channel) as &dyn Key).copied()
    }

    /// Where in a session's list a channel stands. The shorter of the two lists is looked through:
    /// a socket on very many channels, or a channel with very many sockets, costs nothing.
    fn position(&self, id: u32, slot: Slot) -> Option<usize> {
        let session = self.sessions.get(slot.at())?;
        let channel = self.channels.get(id as usize)?;
        if channel.slots.len() < session.len() {
            let at = channel.slots.iter().position(|&known| known == slot)?;
            return channel.places.get(at).map(|&place| place as usize);
        }
        session.iter().position(|known| known.channel == id)
    }

    fn intern(&mut self, app: AppIndex, name: &str) -> u32 {
        if let Some(id) = self.find(app, name) {
            return id;
        }
        let channel = Channel {
            app: Some(app),
            name: name.into(),
            ..Channel::default()
        };
        let id = if let Some(id) = self.free.pop() {
            if let Some(entry) = self.channels.get_mut(id as usize) {
                *entry = channel;
            }
            id
        } else {
            self.channels.push(channel);
            narrow(self.channels.len() - 1)
        };
        self.names.insert((app, name.into()), id);
        id
    }

    /// Both arrays fill the hole with their last entry, and tell its twin where it now stands.
    fn remove(&mut self, slot: Slot, position: usize) {
        let Some(session) = self.sessions.get_mut(slot.at()) else {
            return;
        };
        let Subscription {
            channel: id, place, ..
        } = session.swap_remove(position);
        if let Some(moved) = session.get(position)
            && let Some(channel) = self.channels.get_mut(moved.channel as usize)
            && let Some(twin) = channel.places.get_mut(moved.place as usize)
        {
            *twin = narrow(position);
        }
        let Some(channel) = self.channels.get_mut(id as usize) else {
            return;
        };
        channel.slots.swap_remove(place as usize);
        channel.places.swap_remove(place as usize);
        if let (Some(&moved), Some(&twin)) = (
            channel.slots.get(place as usize),
            channel.places.get(place as usize),
        ) && let Some(session) = self.sessions.get_mut(moved.at())
            && let Some(subscription) = session.get_mut(twin as usize)
        {
            subscription.place = place;
        }
        if channel.slots.is_empty() {
            let Channel { app, name, .. } = std::mem::take(channel);
            if let Some(app) = app {
                self.names.remove(&(app, name.as_ref()) as &dyn Key);
            }
            self.free.push(id);
        }
    }
}

/// A count that fits: there are fewer than 2^32 slots, and no more channels than subscriptions.
#[expect(
    clippy::cast_possible_truncation,
    reason = "counts of subscriptions stay below 2^32"
)]
fn narrow(count: usize) -> u32 {
    count as u32
}

/// Lets a map by app and name be asked with a borrowed name.
pub(super) trait Key {
    fn parts(&self) -> (AppIndex, &str);
}

impl Key for (AppIndex, Box<str>) {
    fn parts(&self) -> (AppIndex, &str) {
        (self.0, &self.1)
    }
}

impl Key for (AppIndex, &str) {
    fn parts(&self) -> (AppIndex, &str) {
        (self.0, self.1)
    }
}

impl<'a> std::borrow::Borrow<dyn Key + 'a> for (AppIndex, Box<str>) {
    fn borrow(&self) -> &(dyn Key + 'a) {
        self
    }
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Key + '_ {}

impl std::hash::Hash for dyn Key + '_ {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // As the derived hash of the owned tuple: `Box<str>` hashes like `str`.
        self.parts().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const APP: AppIndex = AppIndex(0);

    fn index() -> Index {
        Index::new(RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn r077_second_subscribe_is_one_subscription() {
        let mut index = index();
        assert!(index.join(APP, "a", Slot(0), None));
        assert!(!index.join(APP, "a", Slot(0), Some("7".into())));
        assert_eq!(index.slots(APP, "a"), [Slot(0)]);
        assert_eq!(index.membership(APP, "a", Slot(0)), Some(Some("7")));
    }

    #[test]
    fn a_socket_on_very_many_channels_is_found_on_each_at_once() {
        let mut index = index();
        let names: Vec<_> = (0..100_000).map(|number| number.to_string()).collect();
        let begun = std::time::Instant::now();
        for name in &names {
            assert!(index.join(APP, name, Slot(0), None));
        }
        for name in &names {
            assert_eq!(index.membership(APP, name, Slot(0)), Some(None));
        }
        for name in &names {
            assert!(index.leave(APP, name, Slot(0)));
        }
        // To look through the list each time takes many times as long.
        let took = begun.elapsed();
        assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    }

    #[test]
    fn r019_same_name_in_two_apps_is_two_channels() {
        let mut index = index();
        index.join(APP, "a", Slot(0), None);
        index.join(AppIndex(1), "a", Slot(1), None);
        assert_eq!(index.slots(APP, "a"), [Slot(0)]);
        assert_eq!(index.slots(AppIndex(1), "a"), [Slot(1)]);
    }

    #[test]
    fn r126_leaving_everything_leaves_others_alone() {
        let mut index = index();
        for name in ["a", "b", "c"] {
            index.join(APP, name, Slot(0), None);
            index.join(APP, name, Slot(1), None);
        }
        let mut left = BTreeSet::new();
        while let Some((_, name)) = index.leave_any(Slot(0)) {
            left.insert(name.into_string());
        }
        assert_eq!(left, ["a", "b", "c"].map(str::to_owned).into());
        assert_eq!(index.slots(APP, "b"), [Slot(1)]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(u8, u8),
        Leave(u8, u8),
        LeaveAll(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6u8, 0..8u8).prop_map(|(channel, slot)| Step::Join(channel, slot)),
            2 => (0..6u8, 0..8u8).prop_map(|(channel, slot)| Step::Leave(channel, slot)),
            1 => (0..8u8).prop_map(Step::LeaveAll),
        ]
    }

    proptest! {
        #[test]
        fn index_equals_a_map_of_sets(steps in proptest::collection::vec(step(), 0..200)) {
            let mut index = index();
            let mut model: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Join(channel, slot) => {
                        let (name, slot) = (format!("c{channel}"), u32::from(slot));
                        let added = index.join(APP, &name, Slot(slot), None);
                        prop_assert_eq!(added, model.entry(name).or_default().insert(slot));
                    }
                    Step::Leave(channel, slot) => {
                        let (name, slot) = (format!("c{channel}"), u32::from(slot));
                        let left = index.leave(APP, &name, Slot(slot));
                        let known = model.get_mut(&name).is_some_and(|set| set.remove(&slot));
                        prop_assert_eq!(left, known);
                    }
                    Step::LeaveAll(slot) => {
                        while let Some((_, name)) = index.leave_any(Slot(u32::from(slot))) {
                            let set = model.get_mut(name.as_ref());
                            prop_assert!(set.is_some_and(|set| set.remove(&u32::from(slot))));
                        }
                        prop_assert!(model.values().all(|set| !set.contains(&u32::from(slot))));
                    }
                }
                for channel in 0..6 {
                    let name = format!("c{channel}");
                    let slots: BTreeSet<u32> =
                        index.slots(APP, &name).iter().map(|slot| slot.0).collect();
                    prop_assert_eq!(slots.len(), index.slots(APP, &name).len());
                    prop_assert_eq!(slots, model.get(&name).cloned().unwrap_or_default());
                }
                prop_assert_eq!(
                    index.names.len(),
                    model.values().filter(|set| !set.is_empty()).count()
                );
            }
        }
    }
}
