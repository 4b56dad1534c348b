//! Shards by plain calls: what must hold whichever message travels first.
#![allow(clippy::unwrap_used)]

mod by_hand;

use std::time::{Duration, Instant};

use by_hand::{APP, Fleet};
use slapback::metrics::Counter;
use slapback::proto::Now;
use slapback::shard::drain::DRAIN_GRACE;
use slapback::shard::ends::TURN_BYTES_MAX;
use slapback::shard::message::Message;
use slapback::shard::{Command, Reading};

const ANN: &str = r#"{"user_id":"1","user_info":{"name":"Ann"}}"#;
const BOB: &str = r#"{"user_id":"2","user_info":{"name":"Bob"}}"#;
const ANN_REMOVED: &str = concat!(
    r#"{"event":"pusher_internal:member_removed","#,
    r#""data":"{\"user_id\":\"1\"}","channel":"presence-r"}"#
);

fn ok(channel: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","data":"{{}}","channel":"{channel}"}}"#
    )
}

fn added(member: &str) -> String {
    let member = member.replace('"', "\\\"");
    format!(
        r#"{{"event":"pusher_internal:member_added","data":"{member}","channel":"presence-r"}}"#
    )
}

fn unsubscribe(channel: &str) -> String {
    format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{channel}"}}}}"#)
}

fn whisper(channel: &str, number: usize) -> String {
    format!(r#"{{"event":"client-n","channel":"{channel}","data":{{"n":{number}}}}}"#)
}

/// Every message that is sent and answered at once, in the first order that comes.
fn settle(fleet: &mut Fleet) {
    fleet.settle(&mut fastrand::Rng::with_seed(0));
}

#[test]
fn a_subscribe_is_counted_before_it_is_acknowledged() {
    for shards in [1, 2, 4] {
        let mut fleet = Fleet::new(shards);
        for shard in 0..shards {
            let peer = fleet.connect(shard);
            for channel in ["news", "private-a", "presence-r", "cache-a"] {
                let before = fleet.subscriptions(channel);
                let subscribe = fleet.subscribe(&peer, channel, None);
                fleet.say(&peer, &[subscribe]);
                // One step at a time: an answer without its count must not exist at any moment.
                while {
                    fleet.flush(shard);
                    let is_counted = fleet.subscriptions(channel) == before + 1;
                    let heard = fleet.heard(&peer);
                    assert!(is_counted || heard.is_empty(), "{channel}: {heard:?}");
                    heard.is_empty()
                } {
                    let home = fleet.home();
                    assert!(fleet.carry(shard, home) || fleet.carry(home, shard));
                }
            }
            settle(&mut fleet);
        }
    }
}

#[test]
fn r078_channels_count_their_own_subscribers() {
    let mut fleet = Fleet::new(2);
    let (one, two) = (fleet.connect(0), fleet.connect(1));
    let channels = ["a", "private-b", "c", "presence-d"];
    for channel in channels {
        let subscribe = fleet.subscribe(&one, channel, None);
        fleet.say(&one, &[subscribe]);
        settle(&mut fleet);
    }
    assert_eq!(channels.map(|channel| fleet.subscriptions(channel)), [1; 4]);
    for channel in ["a", "c"] {
        let subscribe = fleet.subscribe(&two, channel, None);
        fleet.say(&two, &[subscribe]);
    }
    let counts = channels.map(|channel| fleet.subscriptions(channel));
    assert_eq!(counts, [2, 1, 2, 1]);
}

#[test]
fn r077_a_second_subscribe_is_no_second_subscription() {
    let mut fleet = Fleet::new(2);
    let peer = fleet.connect(1);
    for channel in ["news", "private-a", "presence-r", "cache-a"] {
        for _ in 0..2 {
            let subscribe = fleet.subscribe(&peer, channel, None);
            fleet.say(&peer, &[subscribe]);
            settle(&mut fleet);
        }
        assert_eq!(fleet.subscriptions(channel), 1, "{channel}");
    }
}

#[test]
fn r090_a_refused_subscription_makes_no_channel() {
    let mut fleet = Fleet::new(2);
    let (peer, home) = (fleet.connect(1), fleet.home());
    for channel in ["private-a", "presence-r"] {
        let subscribe = fleet.subscribe(&peer, "private-other", None);
        fleet.say(&peer, &[subscribe.replace("private-other", channel)]);
        assert_eq!(fleet.under_way(1, home).count(), 0, "{channel}");
        fleet.flush(1);
        let refused = concat!(
            r#"{"event":"pusher:error","#,
            r#""data":"{\"code\":4009,\"message\":\"Connection is unauthorized\"}"}"#
        );
        assert_eq!(fleet.heard(&peer), [refused]);
        assert_eq!(fleet.subscriptions(channel), 0, "{channel}");
    }
}

#[test]
fn r122_unsubscribing_says_nothing_and_ends_the_subscription() {
    let mut fleet = Fleet::new(2);
    let peer = fleet.connect(1);
    for channel in ["news", "private-a", "presence-r"] {
        let subscribe = fleet.subscribe(&peer, channel, Some(ANN));
        fleet.say(&peer, &[subscribe]);
        settle(&mut fleet);
        assert_eq!(
            (fleet.heard(&peer).len(), fleet.subscriptions(channel)),
            (1, 1)
        );
        fleet.say(&peer, &[unsubscribe(channel)]);
        assert_eq!(fleet.subscriptions(channel), 0, "{channel}");
        settle(&mut fleet);
        assert!(fleet.heard(&peer).is_empty(), "{channel}");
    }
}

#[test]
fn r125_a_close_leaves_every_channel_exactly_once() {
    let mut fleet = Fleet::new(2);
    let away = fleet.beyond_home(1);
    let peer = fleet.connect(away);
    let channels = ["news", "cache-a", "presence-a", "presence-cache-b"];
    for channel in channels {
        let subscribe = fleet.subscribe(&peer, channel, Some(ANN));
        fleet.say(&peer, &[subscribe]);
        settle(&mut fleet);
    }
    fleet.lose(&peer);
    fleet.lose(&peer);
    assert_eq!(channels.map(|channel| fleet.subscriptions(channel)), [0; 4]);
    let home = fleet.home();
    let mut left: Vec<String> = fleet.under_way(away, home).map(left_channel).collect();
    left.sort_unstable();
    assert_eq!(left, ["presence-a", "presence-cache-b"]);
}

fn left_channel(message: &Message) -> String {
    match message {
        Message::Leave { channel, .. } => channel.to_string(),
        other => panic!("not a leave: {other:?}"),
    }
}

#[test]
fn r096_the_home_says_member_added_before_it_answers_the_join() {
    let mut fleet = Fleet::new(2);
    let (home, away) = (fleet.home(), fleet.beyond_home(1));
    let peer = fleet.connect(away);
    let subscribe = fleet.subscribe(&peer, "presence-r", Some(ANN));
    fleet.say(&peer, &[subscribe]);
    assert!(fleet.carry(away, home));
    let said: Vec<&Message> = fleet.under_way(home, away).collect();
    assert!(
        matches!(said[..], [Message::Deliver(_), Message::Joined(_)]),
        "{said:?}"
    );
}

#[test]
fn an_answer_to_a_socket_that_died_does_not_reach_the_next_one_in_its_slot() {
    let mut fleet = Fleet::new(2);
    let (home, away) = (fleet.home(), fleet.beyond_home(1));
    let dead = fleet.connect(away);
    let subscribe = fleet.subscribe(&dead, "presence-r", Some(ANN));
    fleet.say(&dead, &[subscribe]);
    assert!(fleet.carry(away, home));
    fleet.lose(&dead);

    let heir = fleet.connect(away);
    assert_eq!(heir.key.slot, dead.key.slot);
    assert_ne!(heir.key.generation, dead.key.generation);
    // It waits for an answer about the very same channel.
    let subscribe = fleet.subscribe(&heir, "presence-r", Some(BOB));
    fleet.say(&heir, &[subscribe]);
    while fleet.carry(home, away) {}
    fleet.flush(away);
    assert_eq!(fleet.counted(Counter::StaleAnswer), 1);
    assert!(fleet.heard(&heir).is_empty());
    assert_eq!(fleet.subscriptions("presence-r"), 0);

    settle(&mut fleet);
    let own = concat!(
        r#"{"event":"pusher_internal:subscription_succeeded","data":"{\"presence\":{\"count\":1,"#,
        r#"\"ids\":[\"2\"],\"hash\":{\"2\":{\"name\":\"Bob\"}}}}","channel":"presence-r"}"#
    );
    assert_eq!(fleet.heard(&heir), [own]);
    assert_eq!(fleet.counted(Counter::StaleAnswer), 1);
}

#[test]
fn a_socket_that_dies_while_joining_leaves_behind_its_join() {
    for seed in 0..50 {
        let mut fleet = Fleet::new(4);
        let mut random = fastrand::Rng::with_seed(seed);
        let (home, away, third) = (fleet.home(), fleet.beyond_home(1), fleet.beyond_home(2));
        let watcher = fleet.connect(third);
        let subscribe = fleet.subscribe(&watcher, "presence-r", Some(BOB));
        fleet.say(&watcher, &[subscribe]);
        fleet.settle(&mut random);
        fleet.heard(&watcher);

        let peer = fleet.connect(away);
        let subscribe = fleet.subscribe(&peer, "presence-r", Some(ANN));
        fleet.say(&peer, &[subscribe]);
        // Before the home knows, while its answer is under way, or after.
        for _ in 0..seed % 3 {
            let _ = fleet.carry(away, home) || fleet.carry(home, away);
        }
        fleet.lose(&peer);
        fleet.settle(&mut random);
        assert_eq!(fleet.heard(&watcher), [added(ANN).as_str(), ANN_REMOVED]);
        assert_eq!(fleet.subscriptions("presence-r"), 1);
    }
}

#[test]
fn r100_a_connection_that_breaks_on_its_homes_own_shard_is_gone_at_once() {
    for how in 0..3 {
        let mut fleet = Fleet::new(2);
        let home = fleet.home();
        let (watcher, peer) = (fleet.connect(home), fleet.connect(home));
        for (peer, data) in [(&watcher, BOB), (&peer, ANN)] {
            let subscribe = fleet.subscribe(peer, "presence-r", Some(data));
            fleet.say(peer, &[subscribe]);
        }
        fleet.flush(home);
        fleet.heard(&watcher);
        match how {
            0 => fleet.lose(&peer),
            1 => fleet.end(&peer),
            _ => {
                fleet.kill(&peer);
                fleet.say(&peer, &[r#"{"event":"pusher:ping"}"#.to_owned()]);
            }
        }
        fleet.flush(home);
        assert_eq!(fleet.heard(&watcher), [ANN_REMOVED]);
    }
}

#[test]
fn input_behind_a_join_waits_for_its_answer() {
    let mut fleet = Fleet::new(2);
    let away = fleet.beyond_home(1);
    let peer = fleet.connect(away);
    let join = fleet.subscribe(&peer, "presence-r", Some(ANN));
    let news = fleet.subscribe(&peer, "news", None);
    let reading = fleet.say(&peer, &[join, news, whisper("presence-r", 1)]);
    assert_eq!(reading, Reading::Paused);
    fleet.flush(away);
    assert!(fleet.heard(&peer).is_empty());
    settle(&mut fleet);
    let heard = fleet.heard(&peer);
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].contains(r#"\"count\":1"#), "{heard:?}");
    assert_eq!(heard[1], ok("news"));
}

#[test]
fn a_whisper_never_overtakes_its_senders_member_added() {
    for seed in 0..200 {
        let mut fleet = Fleet::new(4);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut watchers = Vec::new();
        for shard in 0..4 {
            let watcher = fleet.connect(shard);
            let subscribe = fleet.subscribe(&watcher, "presence-r", Some(BOB));
            fleet.say(&watcher, &[subscribe]);
            fleet.settle(&mut random);
            watchers.push(watcher);
        }
        for watcher in &watchers {
            fleet.heard(watcher);
        }
        let sender = fleet.connect(random.usize(..4));
        let subscribe = fleet.subscribe(&sender, "presence-r", Some(ANN));
        fleet.say(&sender, &[subscribe, whisper("presence-r", 1)]);
        fleet.settle(&mut random);
        let said = r#"{"event":"client-n","channel":"presence-r","data":{"n":1},"user_id":"1"}"#;
        for watcher in &watchers {
            assert_eq!(
                fleet.heard(watcher),
                [added(ANN).as_str(), said],
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_socket_on_two_channels_hears_them_in_the_order_said() {
    const WHISPERS: usize = 20;
    for seed in 0..100 {
        let mut fleet = Fleet::new(4);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut peers = Vec::new();
        for shard in 0..4 {
            let peer = fleet.connect(shard);
            let subscribes =
                ["left", "private-right"].map(|name| fleet.subscribe(&peer, name, None));
            fleet.say(&peer, &subscribes);
            fleet.flush(shard);
            fleet.heard(&peer);
            peers.push(peer);
        }
        let sender = &peers[random.usize(..4)];
        let said: Vec<String> = (0..WHISPERS)
            .map(|number| whisper(["left", "private-right"][random.usize(..2)], number))
            .collect();
        let mut rest = &said[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.usize(1..=rest.len()));
            fleet.say(sender, now);
            // Some of it is delivered before the rest is said.
            for _ in 0..random.usize(..8) {
                fleet.carry(random.usize(..4), random.usize(..4));
            }
            rest = later;
        }
        fleet.settle(&mut random);
        for peer in peers.iter().filter(|&peer| peer != sender) {
            assert_eq!(fleet.heard(peer), said, "seed {seed}");
        }
        assert!(fleet.heard(sender).is_empty());
    }
}

#[test]
fn a_user_who_leaves_and_joins_at_once_is_never_announced_twice() {
    for seed in 0..100 {
        let mut fleet = Fleet::new(4);
        let mut random = fastrand::Rng::with_seed(seed);
        let watcher = fleet.connect(fleet.beyond_home(3));
        let subscribe = fleet.subscribe(&watcher, "presence-r", Some(BOB));
        fleet.say(&watcher, &[subscribe]);
        fleet.settle(&mut random);
        fleet.heard(&watcher);
        // Two sockets of one user on two shards, coming and going.
        let tabs = [
            fleet.connect(fleet.beyond_home(1)),
            fleet.connect(fleet.beyond_home(2)),
        ];
        for _ in 0..10 {
            let tab = &tabs[random.usize(..2)];
            let said = if random.bool() {
                fleet.subscribe(tab, "presence-r", Some(ANN))
            } else {
                unsubscribe("presence-r")
            };
            fleet.say(tab, &[said]);
            for _ in 0..random.usize(..4) {
                fleet.carry(random.usize(..4), random.usize(..4));
            }
        }
        for tab in &tabs {
            fleet.lose(tab);
        }
        fleet.settle(&mut random);
        let heard = fleet.heard(&watcher);
        for (at, event) in heard.iter().enumerate() {
            let expected = [added(ANN), ANN_REMOVED.to_owned()];
            assert_eq!(event, &expected[at % 2], "seed {seed}: {heard:?}");
        }
        assert_eq!(heard.len() % 2, 0, "seed {seed}: {heard:?}");
    }
}

#[test]
fn a_crowd_that_reads_on_at_once_is_served_in_chunks() {
    let mut fleet = Fleet::new(1);
    let peers: Vec<_> = (0..5).map(|_| fleet.connect(0)).collect();
    for peer in &peers {
        fleet.say(peer, &[fleet.subscribe(peer, "news", None)]);
        fleet.flush(0);
        assert_eq!(fleet.heard(peer), [ok("news")]);
        fleet.stall(peer);
    }
    let speaker = fleet.connect(0);
    fleet.say(&speaker, &[fleet.subscribe(&speaker, "news", None)]);
    fleet.say(&speaker, &[whisper("news", 1)]);
    fleet.flush(0);
    for peer in &peers {
        fleet.read_on(peer);
    }
    let mut heard = 0;
    for chunk in [2, 2, 1] {
        assert!(fleet.flush_some(0, 2));
        let counts = peers.iter().map(|peer| fleet.heard(peer).len());
        assert_eq!(counts.sum::<usize>(), chunk);
        heard += chunk;
    }
    assert_eq!(heard, peers.len());
    assert!(!fleet.flush_some(0, 2));
}

#[test]
fn nothing_follows_the_close_frame_of_the_reader_that_owes_most() {
    // The first socket served rotates, so each place is tried.
    for largest in 0..3 {
        let mut fleet = Fleet::with_backlogs_of(10_000);
        let peers: Vec<_> = (0..3).map(|_| fleet.connect(0)).collect();
        for (place, peer) in peers.iter().enumerate() {
            let own = if place == largest { "much" } else { "little" };
            for channel in ["news", own] {
                fleet.say(peer, &[fleet.subscribe(peer, channel, None)]);
            }
            fleet.flush(0);
            fleet.heard(peer);
            fleet.stall(peer);
        }
        for (channel, bytes) in [("much", 6000), ("little", 1000), ("news", 1000)] {
            let data = "x".repeat(bytes);
            let event = format!(r#"{{"name":"e","channel":"{channel}","data":"{data}"}}"#);
            fleet.call(0, "POST", "/events", &event);
            fleet.flush(0);
        }
        assert_eq!(fleet.counted(Counter::BacklogTotal), 1);
        for (place, peer) in peers.iter().enumerate() {
            fleet.read_on(peer);
            fleet.flush(0);
            let heard = fleet.heard_bytes(peer);
            assert_eq!(heard.contains("\"channel\":\"news\""), place != largest);
            assert_eq!(heard.ends_with("Too slow"), place == largest);
        }
    }
}

#[test]
fn a_peer_that_asks_for_more_than_a_turn_holds_is_served_in_several() {
    const ASKED: usize = 500;
    let mut fleet = Fleet::new(1);
    let peer = fleet.connect(0);
    let data = "x".repeat(60_000);
    let body = format!(r#"{{"name":"e","channel":"cache-a","data":"{data}"}}"#);
    fleet.call(0, "POST", "/events", &body);
    let subscribe = fleet.subscribe(&peer, "cache-a", None);
    assert_eq!(fleet.say(&peer, &vec![subscribe; ASKED]), Reading::Paused);
    let mut heard = 0;
    while heard < 2 * ASKED {
        let filled = fleet.shards[0].filled_bytes();
        assert!(filled <= TURN_BYTES_MAX + 2 * data.len(), "{filled}");
        assert!(fleet.flush_some(0, 64));
        heard += fleet.heard(&peer).len();
    }
    assert_eq!(heard, 2 * ASKED);
    assert!(!fleet.flush_some(0, 64));
}

#[test]
fn who_has_missed_events_of_a_channel_is_closed_and_no_older_one_is_shown_as_the_last() {
    let mut fleet = Fleet::new(1);
    let [there, elsewhere] = [(); 2].map(|()| fleet.connect(0));
    let cached = r#"{"name":"e","channel":"cache-a","data":"1"}"#;
    fleet.call(0, "POST", "/events", cached);
    for (peer, channel) in [(&there, "cache-a"), (&elsewhere, "news")] {
        let subscribe = fleet.subscribe(peer, channel, None);
        fleet.say(peer, &[subscribe]);
        fleet.flush(0);
        fleet.heard(peer);
    }
    let gap = |channel: Option<&str>| Message::Gap {
        app: APP,
        channel: channel.map(Into::into),
    };
    fleet.tell(0, gap(Some("cache-b")));
    fleet.tell(0, gap(Some("cache-a")));
    fleet.flush(0);
    assert!(fleet.heard_bytes(&there).contains("Events were missed"));
    assert_eq!(fleet.heard_bytes(&elsewhere), "");
    assert_eq!(fleet.counted(Counter::GapClosed), 1);
    let late = fleet.connect(0);
    let subscribe = fleet.subscribe(&late, "cache-a", None);
    fleet.say(&late, &[subscribe]);
    fleet.flush(0);
    assert!(fleet.heard_bytes(&late).contains("pusher:cache_miss"));

    fleet.call(0, "POST", "/events", cached);
    fleet.flush(0);
    fleet.heard(&late);
    fleet.tell(0, gap(None));
    fleet.flush(0);
    for peer in [&late, &elsewhere] {
        assert!(fleet.heard_bytes(peer).contains("Events were missed"));
    }
    assert_eq!(fleet.counted(Counter::GapClosed), 3);
    assert_eq!(fleet.shards[0].cached_events_count(), 0);
}

#[test]
fn the_end_of_a_drain_resets_only_who_has_not_taken_its_bytes() {
    let mut fleet = Fleet::new(1);
    let (reader, stalled) = (fleet.connect(0), fleet.connect(0));
    fleet.stall(&stalled);
    let start = Now {
        instant: Instant::now(),
        unix_s: 0,
    };
    fleet.shards[0].begin_drain(start, Duration::ZERO);
    fleet.shards[0].handle_tick(start);
    fleet.flush(0);
    let end = Now {
        instant: start.instant + DRAIN_GRACE,
        ..start
    };
    fleet.shards[0].handle_tick(end);
    let commands: Vec<_> = fleet.shards[0].poll_commands().collect();
    let (reader, stalled) = (reader.key.slot, stalled.key.slot);
    assert!(commands.contains(&Command::Close(reader)), "{commands:?}");
    assert!(!commands.contains(&Command::Reset(reader)), "{commands:?}");
    assert!(commands.contains(&Command::Reset(stalled)), "{commands:?}");
}

#[test]
fn sockets_of_an_app_that_is_gone_are_closed_a_thousand_a_tick() {
    let gone = r#"{"event":"pusher:error","data":"{\"code\":4001,\"message\":\"Application does not exist\"}"}"#;
    let mut fleet = Fleet::new(1);
    let peers: Vec<_> = (0..2500).map(|_| fleet.connect(0)).collect();
    let talkative = &peers[2400];
    fleet.serve_nothing();
    // Who says something learns of it at once.
    fleet.say(talkative, &[r#"{"event":"pusher:ping"}"#.to_owned()]);
    fleet.flush(0);
    assert!(fleet.heard_bytes(talkative).contains(gone));
    for closed in [1001, 2001, 2500] {
        fleet.tick();
        assert_eq!(fleet.counted(Counter::AppGone), closed);
    }
    fleet.flush(0);
    for peer in peers.iter().filter(|peer| *peer != talkative) {
        assert!(fleet.heard_bytes(peer).contains(gone));
    }
}
