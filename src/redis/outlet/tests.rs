//! Where events go from the Redis thread, and what becomes of them when a shard is over-full.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::broadcast::SocketId;
use crate::ring::{Inbox, Wake};
use crate::shard::ends::mesh;

const APP: AppIndex = AppIndex(1);
const SHARDS: u16 = 2;
/// What one of the events below weighs, or somewhat more.
const LIMIT_BYTES: usize = 1000;

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// The Redis thread's end, and those of the shards.
fn outlet() -> (Outlet, Vec<Ends>) {
    let inbox = || Arc::new(Inbox::new(LIMIT_BYTES, Box::new(Nobody)));
    let inboxes: Vec<_> = (0..=SHARDS).map(|_| inbox()).collect();
    let mut ends = mesh(64, &inboxes);
    let own = ends.pop().unwrap();
    (Outlet::new(own, SHARDS, Arc::default()), ends)
}

fn event(channels: &[&str], bytes: usize) -> Broadcast {
    let delivery = |channel: &&str| Delivery {
        channel: (*channel).into(),
        except: None::<SocketId>,
        frame: vec![0; bytes].into(),
        is_kept: false,
    };
    Broadcast {
        app: APP,
        deliveries: channels.iter().map(delivery).collect(),
        is_one_event: false,
    }
}

/// What a shard is given, in order.
fn given(ends: &mut Ends) -> Vec<String> {
    let mut given = Vec::new();
    ends.take_while(|message| {
        given.push(told(&message));
        true
    });
    given
}

fn told(message: &Message) -> String {
    let channels = |broadcast: &Broadcast| {
        let channels = broadcast
            .deliveries
            .iter()
            .map(|delivery| &*delivery.channel);
        channels.collect::<Vec<_>>().join(" ")
    };
    match message {
        Message::Deliver(broadcast) => format!("deliver {}", channels(broadcast)),
        Message::Publish { broadcast, .. } => format!("publish {}", channels(broadcast)),
        Message::Gap { channel, .. } => format!("gap {}", channel.as_deref().unwrap_or("*")),
        other => format!("{other:?}"),
    }
}

#[test]
fn plain_channels_go_to_every_shard_and_the_others_to_their_home() {
    let (mut outlet, mut shards) = outlet();
    outlet.deliver(
        Arc::new(event(&["a", "presence-b", "c", "private-cache-d"], 10)),
        None,
    );
    outlet.deliver(Arc::new(event(&["presence-e"], 10)), None);
    outlet.wake();
    let home = usize::from(home_of(APP, SHARDS).0);
    let away = 1 - home;
    assert_eq!(given(&mut shards[away]), ["deliver a c"]);
    let at_home = [
        "deliver a c",
        "publish presence-b private-cache-d",
        "publish presence-e",
    ];
    assert_eq!(given(&mut shards[home]), at_home);
}

#[test]
fn a_home_alone_is_told_that_what_it_keeps_is_not_the_last_event() {
    let (mut outlet, mut shards) = outlet();
    outlet.forget(APP, "cache-c");
    let home = usize::from(home_of(APP, SHARDS).0);
    assert_eq!(given(&mut shards[home]), ["gap cache-c"]);
    assert_eq!(given(&mut shards[1 - home]), [""; 0]);
}

#[test]
fn what_is_gathered_goes_as_one_for_each_app_in_turn() {
    let (mut outlet, mut shards) = outlet();
    let home = usize::from(home_of(APP, SHARDS).0);
    let other = AppIndex(0);
    for (app, channel) in [(APP, "a"), (APP, "presence-b"), (APP, "c"), (other, "d")] {
        let deliveries = event(&[channel], 10).deliveries;
        outlet.gather(app, deliveries.into_iter().next().unwrap());
    }
    let before_the_end = ["deliver a c", "publish presence-b"];
    assert_eq!(given(&mut shards[home]), before_the_end);
    outlet.wake();
    assert_eq!(given(&mut shards[home]), ["deliver d"]);
    outlet.wake();
    assert!(given(&mut shards[home]).is_empty());
}

#[test]
fn what_is_gathered_goes_before_what_is_said_next() {
    let (mut outlet, mut shards) = outlet();
    let home = usize::from(home_of(APP, SHARDS).0);
    let deliveries = event(&["cache-a"], 10).deliveries;
    outlet.gather(APP, deliveries.into_iter().next().unwrap());
    outlet.forget(APP, "cache-a");
    let in_order = ["publish cache-a", "gap cache-a"];
    assert_eq!(given(&mut shards[home]), in_order);
}

#[test]
fn an_over_full_shard_is_told_once_a_batch_of_each_channel_that_it_misses() {
    let (mut outlet, mut shards) = outlet();
    let home = usize::from(home_of(APP, SHARDS).0);
    let away = 1 - home;
    outlet.deliver(Arc::new(event(&["a"], 2 * LIMIT_BYTES)), None);
    assert_eq!(given(&mut shards[away]), ["deliver a"]);
    for _ in 0..3 {
        outlet.deliver(Arc::new(event(&["b"], 10)), None);
    }
    outlet.deliver(Arc::new(event(&["cache-c"], 10)), None);
    outlet.wake();
    outlet.deliver(Arc::new(event(&["b"], 10)), None);
    outlet.wake();
    // Its own ring is empty; only what its home could not order is lost to it.
    let elsewhere = [
        "deliver b",
        "deliver b",
        "deliver b",
        "gap cache-c",
        "deliver b",
    ];
    assert_eq!(given(&mut shards[away]), elsewhere);
    assert_eq!(
        given(&mut shards[home]),
        ["deliver a", "gap b", "gap cache-c", "gap b"]
    );
    assert_eq!(outlet.metrics.get(Counter::RedisGap), 5);
    outlet.deliver(Arc::new(event(&["b"], 10)), None);
    assert_eq!(given(&mut shards[home]), ["deliver b"]);
}

#[test]
fn of_more_channels_than_can_be_named_the_app_is_told() {
    let (mut outlet, mut shards) = outlet();
    let home = usize::from(home_of(APP, SHARDS).0);
    outlet.deliver(Arc::new(event(&["a"], 2 * LIMIT_BYTES)), None);
    for number in 0..2 * GAPS_MAX {
        outlet.deliver(Arc::new(event(&[&format!("c{number}")], 10)), None);
    }
    outlet.wake();
    let mut all = Vec::new();
    loop {
        let some = given(&mut shards[home]);
        if some.is_empty() {
            break;
        }
        all.extend(some);
        // What had no room in the ring comes behind.
        outlet.wake();
    }
    assert_eq!(all.len(), 1 + GAPS_MAX + 1);
    assert_eq!(
        (all[1].as_str(), all[GAPS_MAX].as_str()),
        ("gap c0", "gap c255")
    );
    assert_eq!(all.last().unwrap(), "gap *");
}
