//! What must hold when a seed has been played.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::node::{CHANNELS, Node};
use crate::world::{PHP, World};

/// A node has heard by then of all that were there before it.
const ALL_KNOWN_AFTER: Duration = Duration::from_secs(7);

/// Nothing comes twice, and what one node publishes comes in its order, the PHP node included.
pub(crate) fn order(world: &World) {
    for node in &world.nodes {
        let mut last: HashMap<&str, u64> = HashMap::new();
        for event in &node.delivered {
            let publisher = world.events[event].publisher.as_str();
            let before = last.insert(publisher, *event);
            assert!(
                before.is_none_or(|before| before < *event),
                "{} hears {event} of {publisher} behind {before:?}",
                node.name
            );
        }
    }
    for (event, times) in &world.redis.heard_by_php {
        assert!(*times == 1, "the PHP node hears {event} {times} times");
    }
}

/// Each living node has every event of each living node: all of them if it was there from the
/// beginning, or for a while before the other was; else from the first it had after its birth.
pub(crate) fn complete(world: &World, node: &Node) {
    let delivered: HashSet<_> = node.delivered.iter().copied().collect();
    for publisher in &world.nodes {
        let theirs = world.events.iter();
        let theirs = theirs.filter(|(_, event)| event.publisher == publisher.name);
        let has = |event: u64| delivered.contains(&event);
        let is_there_before = node.born == 0
            || node.name == publisher.name
            || node.born_at + ALL_KNOWN_AFTER < publisher.born_at;
        let due = theirs
            .map(|(&event, _)| event)
            .skip_while(|&event| !is_there_before && (event < node.born || !has(event)));
        for event in due {
            let name = &publisher.name;
            assert!(has(event), "{} misses {event} of {name}", node.name);
        }
    }
}

/// From this event on, every node has all but the PHP node's, and shows the same for the last.
pub(crate) fn recovered(world: &World, first: u64) {
    for node in &world.nodes {
        assert!(node.bus.is_live(), "{} is not back", node.name);
        let delivered: HashSet<_> = node.delivered.iter().copied().collect();
        for (event, from) in world.events.range(first..) {
            let is_there = from.publisher == PHP || delivered.contains(event);
            assert!(is_there, "{} misses {event} at the end", node.name);
        }
    }
    for channel in 0..CHANNELS {
        let last = |node: &Node| node.last_event(channel);
        let last: Vec<_> = world.nodes.iter().map(last).collect();
        let is_same = last.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(
            is_same && last[0] >= Some(first),
            "shown on {channel}: {last:?}"
        );
    }
}

/// Would all nodes show a channel's next subscriber the same event? Two that were said while a node
/// was coming back may stand in another order there.
pub(crate) fn agree(world: &World) -> bool {
    let shown = |node: &Node| {
        (0..CHANNELS)
            .map(|channel| node.last_event(channel))
            .collect()
    };
    let all: Vec<Vec<_>> = world.nodes.iter().map(shown).collect();
    all.windows(2).all(|pair| pair[0] == pair[1])
}

/// While the bus is up, the event that is shown is the one that came last, whatever its clock says.
pub(crate) fn last_is_shown(world: &World) {
    for node in &world.nodes {
        for channel in 0..CHANNELS {
            let is_on =
                |event: &u64| world.events[event].publisher != PHP && event % CHANNELS == channel;
            let last = node.delivered.iter().copied().rfind(is_on);
            assert_eq!(node.last_event(channel), last, "on {channel}");
        }
    }
}

/// Every caller of a living node has its answer.
pub(crate) fn answered(world: &World) {
    let living = world.living();
    let calls = world.calls.iter();
    for call in calls.filter(|call| living.contains(call.node.as_str())) {
        assert!(call.is_answered, "{:?} is not answered", call.events);
    }
}

/// Nobody hears an event before the one that its caller had seen taken.
pub(crate) fn causality(world: &World) -> usize {
    let mut pairs = 0;
    for node in &world.nodes {
        let places = node.delivered.iter().enumerate();
        let places: HashMap<u64, usize> = places.map(|(place, event)| (*event, place)).collect();
        for (event, from) in &world.events {
            if let Some(cause) = from.cause {
                assert!(places[&cause] < places[event], "{cause} behind {event}");
                pairs += 1;
            }
        }
    }
    pairs
}
