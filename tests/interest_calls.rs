//! What shards want to hear in Redis, by plain calls: who waits for what, and that nothing wanted
//! is left behind, whichever message travels first.
#![allow(clippy::unwrap_used)]

mod by_hand;

use std::collections::BTreeSet;
use std::sync::Arc;

use by_hand::{APP, Fleet, Peer};
use slapback::broadcast::{Broadcast, Delivery};
use slapback::proto::frame;
use slapback::shard::Shard;
use slapback::shard::message::{Interest, Message};

const ANN: &str = r#"{"user_id":"1","user_info":1}"#;
const PING: &str = r#"{"event":"pusher:ping"}"#;
const PONG: &str = r#"{"event":"pusher:pong"}"#;

fn ok(channel: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","data":"{{}}","channel":"{channel}"}}"#
    )
}

fn unsubscribe(channel: &str) -> String {
    format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{channel}"}}}}"#)
}

fn subscribe(fleet: &mut Fleet, peer: &Peer, channel: &str) {
    let data = channel.starts_with("presence-").then_some(ANN);
    let subscribe = fleet.subscribe(peer, channel, data);
    fleet.say(peer, &[subscribe]);
}

/// What a shard has said to the Redis thread: `+` a channel that it wants, `-` one no longer.
fn told(fleet: &mut Fleet, shard: usize) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(message) = fleet.told_redis(shard) {
        let Message::Interest(Interest {
            channel, is_wanted, ..
        }) = message
        else {
            panic!("{message:?}");
        };
        told.push(format!("{}{channel}", if is_wanted { '+' } else { '-' }));
    }
    told
}

/// The Redis thread answers the shard's first interest, or second.
fn heard(fleet: &mut Fleet, shard: usize, number: u32, channel: &str) {
    let heard = Message::Heard {
        app: APP,
        channel: channel.into(),
        number,
    };
    fleet.tell(shard, heard);
}

/// An event that the Redis thread has read.
fn event(channel: &str) -> Message {
    let frame = frame::text_frame(|out| out.extend_from_slice(b"event"));
    let deliveries = vec![Delivery {
        channel: channel.into(),
        except: None,
        frame,
        is_kept: false,
    }];
    Message::Deliver(Arc::new(Broadcast {
        app: APP,
        deliveries,
        is_one_event: false,
    }))
}

/// Presence channels that homes keep members of.
fn members(fleet: &Fleet) -> usize {
    let shards = fleet.shards.iter();
    shards.map(Shard::presence_channels_count).sum()
}

fn settle(fleet: &mut Fleet) {
    fleet.settle(&mut fastrand::Rng::with_seed(0));
}

#[test]
fn who_comes_before_redis_is_heard_waits_and_who_comes_later_does_not() {
    let mut fleet = Fleet::hearing_redis(1);
    let peers = [(); 3].map(|()| fleet.connect(0));
    subscribe(&mut fleet, &peers[0], "news");
    assert_eq!(told(&mut fleet, 0), ["+news"]);
    subscribe(&mut fleet, &peers[1], "news");
    fleet.tell(0, event("news"));
    settle(&mut fleet);
    for peer in &peers[..2] {
        assert_eq!(fleet.heard(peer), [""; 0]);
    }
    // What Redis publishes behind its confirmation comes behind the acknowledgement.
    heard(&mut fleet, 0, 1, "news");
    fleet.tell(0, event("news"));
    settle(&mut fleet);
    for peer in &peers[..2] {
        assert_eq!(fleet.heard(peer), [ok("news"), "event".to_owned()]);
    }
    subscribe(&mut fleet, &peers[2], "news");
    settle(&mut fleet);
    assert_eq!(fleet.heard(&peers[2]), [ok("news")]);
    assert_eq!(told(&mut fleet, 0), [""; 0]);
    // A second answer is to nobody.
    heard(&mut fleet, 0, 1, "news");
    settle(&mut fleet);
    assert_eq!(fleet.heard(&peers[0]), [""; 0]);
}

#[test]
fn what_a_session_says_behind_its_subscription_waits_with_it() {
    let mut fleet = Fleet::hearing_redis(1);
    let peer = fleet.connect(0);
    let subscribe = fleet.subscribe(&peer, "private-a", None);
    fleet.say(&peer, &[subscribe, PING.to_owned()]);
    settle(&mut fleet);
    assert_eq!(fleet.heard(&peer), [""; 0]);
    heard(&mut fleet, 0, 1, "private-a");
    settle(&mut fleet);
    assert_eq!(fleet.heard(&peer), [ok("private-a"), PONG.to_owned()]);
}

#[test]
fn a_home_is_asked_when_redis_is_heard() {
    for channel in ["presence-r", "cache-a", "presence-cache-a"] {
        let mut fleet = Fleet::hearing_redis(2);
        let (home, away) = (fleet.home(), fleet.beyond_home(1));
        let peer = fleet.connect(away);
        subscribe(&mut fleet, &peer, channel);
        assert_eq!(told(&mut fleet, away), [format!("+{channel}")]);
        assert_eq!(fleet.under_way(away, home).count(), 0);
        heard(&mut fleet, away, 1, channel);
        assert_eq!(fleet.under_way(away, home).count(), 1);
        settle(&mut fleet);
        assert!(fleet.heard(&peer)[0].contains("subscription_succeeded"));
        // The next on this shard goes to the home at once.
        let next = fleet.connect(away);
        subscribe(&mut fleet, &next, channel);
        assert_eq!(fleet.under_way(away, home).count(), 1);
        settle(&mut fleet);
        assert_eq!(fleet.subscriptions(channel), 2);
        assert_eq!(told(&mut fleet, away), [""; 0]);
        assert_eq!(told(&mut fleet, home), [""; 0]);
    }
}

#[test]
fn the_last_who_leaves_a_channel_or_gives_up_on_it_ends_the_interest() {
    for channel in ["news", "presence-r", "cache-a"] {
        let mut fleet = Fleet::hearing_redis(1);
        let peers = [(); 2].map(|()| fleet.connect(0));
        for peer in &peers {
            subscribe(&mut fleet, peer, channel);
        }
        assert_eq!(told(&mut fleet, 0), [format!("+{channel}")]);
        fleet.lose(&peers[0]);
        assert_eq!(told(&mut fleet, 0), [""; 0]);
        fleet.end(&peers[1]);
        assert_eq!(told(&mut fleet, 0), [format!("-{channel}")]);
        heard(&mut fleet, 0, 1, channel);
        settle(&mut fleet);
        assert_eq!((fleet.subscriptions(channel), members(&fleet)), (0, 0));

        let peers = [(); 2].map(|()| fleet.connect(0));
        for peer in &peers {
            subscribe(&mut fleet, peer, channel);
        }
        // The answer to the first interest says nothing of the second.
        heard(&mut fleet, 0, 1, channel);
        settle(&mut fleet);
        assert_eq!(fleet.subscriptions(channel), 0);
        heard(&mut fleet, 0, 2, channel);
        settle(&mut fleet);
        assert_eq!(fleet.subscriptions(channel), 2);
        assert_eq!(told(&mut fleet, 0), [format!("+{channel}")]);
        fleet.say(&peers[0], &[unsubscribe(channel)]);
        assert_eq!(told(&mut fleet, 0), [""; 0]);
        fleet.lose(&peers[1]);
        assert_eq!(told(&mut fleet, 0), [format!("-{channel}")]);
    }
}

#[test]
fn two_who_waited_on_their_home_see_one_another() {
    const BOB: &str = r#"{"user_id":"2","user_info":1}"#;
    let mut fleet = Fleet::hearing_redis(1);
    let peers = [ANN, BOB].map(|data| {
        let peer = fleet.connect(0);
        let subscribe = fleet.subscribe(&peer, "presence-r", Some(data));
        fleet.say(&peer, &[subscribe]);
        peer
    });
    heard(&mut fleet, 0, 1, "presence-r");
    settle(&mut fleet);
    let (first, second) = (fleet.heard(&peers[0]), fleet.heard(&peers[1]));
    assert!(first[0].contains(r#"\"ids\":[\"1\"]"#), "{first:?}");
    assert!(first[1].contains("member_added"), "{first:?}");
    assert_eq!((first.len(), second.len()), (2, 1));
    assert!(second[0].contains(r#"\"ids\":[\"1\",\"2\"]"#), "{second:?}");
}

#[test]
fn a_join_under_way_keeps_the_interest() {
    let mut fleet = Fleet::hearing_redis(2);
    let (home, away) = (fleet.home(), fleet.beyond_home(1));
    let peers = [(); 2].map(|()| fleet.connect(away));
    for peer in &peers {
        subscribe(&mut fleet, peer, "presence-r");
    }
    heard(&mut fleet, away, 1, "presence-r");
    assert_eq!(fleet.under_way(away, home).count(), 2);
    // Who comes now need not wait for Redis, though nobody is on it yet.
    let next = fleet.connect(away);
    subscribe(&mut fleet, &next, "presence-r");
    assert_eq!(fleet.under_way(away, home).count(), 3);
    for peer in [&peers[0], &next] {
        fleet.lose(peer);
    }
    settle(&mut fleet);
    assert_eq!(told(&mut fleet, away), ["+presence-r"]);
    assert_eq!(fleet.subscriptions("presence-r"), 1);
    fleet.lose(&peers[1]);
    assert_eq!(told(&mut fleet, away), ["-presence-r"]);
}

#[test]
fn whatever_happens_what_is_wanted_is_what_somebody_is_on() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.act();
            world.follow();
            if world.random.bool() {
                world.answer();
            }
        }
        world.rest();
        for (at, shard) in world.fleet.shards.iter().enumerate() {
            let is_on = |channel: &&&str| shard.subscription_count(APP, channel) > 0;
            let on = CHANNELS.iter().filter(is_on);
            let on: BTreeSet<String> = on.map(ToString::to_string).collect();
            assert_eq!(world.wanted[at], on, "seed {seed}, shard {at}");
        }
        for peer in std::mem::take(&mut world.peers) {
            world.fleet.say(&peer, &[PING.to_owned()]);
            world.rest();
            let last = world.fleet.heard(&peer).pop();
            assert_eq!(last.as_deref(), Some(PONG), "seed {seed}: it waits");
            world.fleet.lose(&peer);
        }
        world.rest();
        assert_eq!(world.wanted, [const { BTreeSet::new() }; SHARDS]);
        assert_eq!(members(&world.fleet), 0, "seed {seed}");
    }
}

const CHANNELS: [&str; 4] = ["news", "private-a", "presence-r", "cache-a"];
const SHARDS: usize = 2;

/// A fleet, who is connected to it, and a Redis thread that answers when it likes.
struct World {
    random: fastrand::Rng,
    fleet: Fleet,
    peers: Vec<Peer>,
    /// By shard.
    wanted: [BTreeSet<String>; SHARDS],
    /// The number of the latest interest, by shard.
    numbers: [u32; SHARDS],
    /// Also those that were given up.
    unanswered: BTreeSet<(usize, String, u32)>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            fleet: Fleet::hearing_redis(SHARDS),
            peers: Vec::new(),
            wanted: Default::default(),
            numbers: [0; SHARDS],
            unanswered: BTreeSet::new(),
        }
    }

    /// Somebody does something, or a message travels.
    fn act(&mut self) {
        let (random, fleet) = (&mut self.random, &mut self.fleet);
        let channel = CHANNELS[random.usize(..CHANNELS.len())];
        let at = (!self.peers.is_empty()).then(|| random.usize(..self.peers.len()));
        match (random.u8(0..7), at) {
            (1..4, Some(at)) => subscribe(fleet, &self.peers[at], channel),
            (4, Some(at)) => {
                fleet.say(&self.peers[at], &[unsubscribe(channel)]);
            }
            (5, Some(at)) => fleet.lose(&self.peers.swap_remove(at)),
            (6, _) => {
                fleet.carry(random.usize(..SHARDS), random.usize(..SHARDS));
            }
            _ => self.peers.push(fleet.connect(random.usize(..SHARDS))),
        }
    }

    /// The Redis thread takes what shards have said. True if that was anything.
    fn follow(&mut self) -> bool {
        let mut was_told = false;
        for (shard, wanted) in self.wanted.iter_mut().enumerate() {
            for told in told(&mut self.fleet, shard) {
                was_told = true;
                let (sign, channel) = told.split_at(1);
                if sign == "-" {
                    assert!(wanted.remove(channel), "{told} was not wanted");
                    continue;
                }
                assert!(wanted.insert(channel.to_owned()), "{told} twice");
                self.numbers[shard] += 1;
                let number = self.numbers[shard];
                self.unanswered.insert((shard, channel.to_owned(), number));
            }
        }
        was_told
    }

    /// One interest is answered. True if there was one.
    fn answer(&mut self) -> bool {
        let Some((shard, channel, number)) = self.unanswered.pop_first() else {
            return false;
        };
        heard(&mut self.fleet, shard, number, &channel);
        true
    }

    /// Nothing is under way any longer.
    fn rest(&mut self) {
        loop {
            settle(&mut self.fleet);
            if !self.follow() && !self.answer() {
                break;
            }
        }
    }
}
