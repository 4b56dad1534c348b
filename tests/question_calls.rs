//! Questions to the fleet by plain calls: what must hold whichever message travels first.
#![allow(clippy::unwrap_used)]

mod by_hand;

use by_hand::{Fleet, Peer};
use slapback::metrics::Counter;
use slapback::shard::message::Message;

const ANN: &str = r#"{"user_id":"1","user_info":1}"#;
const USERS: &str = "/channels/presence-r/users";
const TERMINATE: &str = "/users/1/terminate_connections";
const CHANNEL: &str = "/channels/presence-r?info=user_count";

fn settle(fleet: &mut Fleet) {
    fleet.settle(&mut fastrand::Rng::with_seed(0));
}

fn member(fleet: &mut Fleet, shard: usize) -> Peer {
    let peer = fleet.connect(shard);
    let subscribe = fleet.subscribe(&peer, "presence-r", Some(ANN));
    fleet.say(&peer, &[subscribe]);
    settle(fleet);
    fleet.heard(&peer);
    peer
}

fn told(status: u16, body: &str) -> (u16, String) {
    (status, body.to_owned())
}

fn is_part(message: &Message) -> bool {
    matches!(message, Message::Part(_))
}

#[test]
fn a_question_is_answered_when_every_shard_has_said_its_part() {
    let mut fleet = Fleet::new(4);
    let home = fleet.home();
    let (asking, others) = (fleet.beyond_home(1), [2, 3].map(|at| fleet.beyond_home(at)));
    for shard in 0..4 {
        let peer = fleet.connect(shard);
        fleet.say(&peer, &[fleet.subscribe(&peer, "news", None)]);
    }
    let path = "/channels/news?info=subscription_count";
    let caller = fleet.call(asking, "GET", path, "");
    // The caller's own shard and the home know at once; the others are asked.
    assert!(fleet.carry(asking, home));
    assert!(fleet.carry(asking, home));
    for other in others {
        assert!(fleet.under_way(home, asking).next().is_none());
        assert!(fleet.carry(asking, other));
        assert!(fleet.under_way(other, home).all(is_part));
        assert!(fleet.carry(other, home));
    }
    assert!(fleet.carry(home, asking));
    fleet.flush(asking);
    let expected = r#"{"occupied":true,"subscription_count":4}"#;
    assert_eq!(fleet.answer(&caller), Some(told(200, expected)));
    assert_eq!(fleet.counted(Counter::ApiAnswered), 1);
}

#[test]
fn who_is_gone_is_not_counted_though_the_home_has_not_heard_of_it() {
    for (path, expected) in [
        (USERS, told(404, "{}")),
        (CHANNEL, told(200, r#"{"occupied":false}"#)),
    ] {
        let mut fleet = Fleet::new(3);
        let (home, away, asking) = (fleet.home(), fleet.beyond_home(1), fleet.beyond_home(2));
        let peer = member(&mut fleet, away);
        fleet.lose(&peer);
        let caller = fleet.call(asking, "GET", path, "");
        // The question is at the home before the leave.
        while fleet.carry(asking, home) {}
        assert!(matches!(
            fleet.under_way(away, home).next(),
            Some(Message::Leave { .. })
        ));
        settle(&mut fleet);
        assert_eq!(fleet.answer(&caller), Some(expected));
    }
}

#[test]
fn who_was_told_that_it_is_on_a_channel_is_counted() {
    for seed in 0..200 {
        let mut fleet = Fleet::new(4);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut peers = Vec::new();
        for _ in 0..random.usize(1..6) {
            let peer = fleet.connect(random.usize(..4));
            let channel = ["news", "presence-r"][random.usize(..2)];
            let subscribe = fleet.subscribe(&peer, channel, Some(ANN));
            fleet.say(&peer, &[subscribe]);
            peers.push((channel, peer));
            for _ in 0..random.usize(..4) {
                fleet.carry(random.usize(..4), random.usize(..4));
            }
        }
        for shard in 0..4 {
            fleet.flush(shard);
        }
        let mut surely = [false; 2];
        for (channel, peer) in &peers {
            surely[usize::from(*channel == "presence-r")] |= !fleet.heard(peer).is_empty();
        }
        let caller = fleet.call(random.usize(..4), "GET", "/channels?info=user_count", "");
        fleet.settle(&mut random);
        let (status, body) = fleet.answer(&caller).unwrap();
        assert_eq!(status, 200);
        assert!(
            !surely[0] || body.contains(r#""news":{}"#),
            "seed {seed}: {body}"
        );
        let is_there = body.contains(r#""presence-r":{"user_count":1}"#);
        assert!(!surely[1] || is_there, "seed {seed}: {body}");
    }
}

#[test]
fn an_answer_to_a_caller_that_died_does_not_reach_the_next_one_in_its_slot() {
    for (method, path) in [("GET", "/connections"), ("GET", USERS), ("POST", TERMINATE)] {
        let mut fleet = Fleet::new(2);
        let (home, asking) = (fleet.home(), fleet.beyond_home(1));
        let dead = fleet.call(asking, method, path, "");
        assert!(fleet.carry(asking, home) && fleet.carry(asking, home));
        fleet.lose(&dead);
        let heir = fleet.call(asking, "GET", CHANNEL, "");
        assert_eq!(heir.key.slot, dead.key.slot);
        assert!(fleet.carry(home, asking));
        fleet.flush(asking);
        assert_eq!(fleet.answer(&heir), None);
        assert_eq!(fleet.counted(Counter::StaleAnswer), 1);
        settle(&mut fleet);
        let expected = told(200, r#"{"occupied":false}"#);
        assert_eq!(fleet.answer(&heir), Some(expected));
    }
}

#[test]
fn r222_a_shard_says_who_left_before_it_says_that_it_is_done() {
    let mut fleet = Fleet::new(2);
    let (home, away) = (fleet.home(), fleet.beyond_home(1));
    member(&mut fleet, away);
    fleet.call(home, "POST", TERMINATE, "");
    assert!(fleet.carry(home, away));
    let said: Vec<&Message> = fleet.under_way(away, home).collect();
    assert!(
        matches!(said[..], [Message::Leave { .. }, Message::Part(_)]),
        "{said:?}"
    );
    assert_eq!(fleet.subscriptions("presence-r"), 0);
}

#[test]
fn r191_what_an_event_asks_goes_to_each_shard_behind_the_event() {
    let mut fleet = Fleet::new(2);
    let (home, away) = (fleet.home(), fleet.beyond_home(1));
    let peer = fleet.connect(away);
    fleet.say(&peer, &[fleet.subscribe(&peer, "news", None)]);
    let body = r#"{"name":"e","channel":"news","data":"1","info":"subscription_count"}"#;
    let caller = fleet.call(away, "POST", "/events", body);
    assert!(fleet.carry(away, home));
    let said: Vec<&Message> = fleet.under_way(home, away).collect();
    assert!(
        matches!(said[..], [Message::Deliver(_), Message::Ask(_)]),
        "{said:?}"
    );
    settle(&mut fleet);
    let expected = told(200, r#"{"channels":{"news":{"subscription_count":1}}}"#);
    assert_eq!(fleet.answer(&caller), Some(expected));
}
