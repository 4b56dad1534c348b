//! Replies by plain calls: what is for one socket alone waits for no large turn, and keeps its
//! place behind what that socket was owed before.
#![allow(clippy::unwrap_used)]

mod by_hand;

use by_hand::{Fleet, Peer};

/// An event to so many makes a turn large.
const CROWD: usize = 300;
const PING: &str = r#"{"event":"pusher:ping","data":{}}"#;
const EVENT: &str = r#"{"name":"e","channel":"news","data":"x"}"#;

/// A shard with a crowd on one channel.
fn crowd() -> (Fleet, Vec<Peer>) {
    let mut fleet = Fleet::new(1);
    let peers: Vec<_> = (0..CROWD).map(|_| fleet.connect(0)).collect();
    for peer in &peers {
        let subscribe = fleet.subscribe(peer, "news", None);
        fleet.say(peer, &[subscribe]);
    }
    fleet.flush(0);
    for peer in &peers {
        fleet.heard(peer);
    }
    (fleet, peers)
}

/// Somebody else, who has been greeted.
fn newcomer(fleet: &mut Fleet) -> Peer {
    let peer = fleet.connect(0);
    fleet.flush(0);
    fleet.heard(&peer);
    peer
}

fn ping(fleet: &mut Fleet, peer: &Peer) {
    fleet.say(peer, &[PING.to_owned()]);
}

/// Which of an event and a pong a peer has heard, in order.
fn heard(fleet: &mut Fleet, peer: &Peer) -> Vec<&'static str> {
    let is_pong = |text: &String| text.contains("pusher:pong");
    let name = |text| if is_pong(&text) { "pong" } else { "event" };
    fleet.heard(peer).into_iter().map(name).collect()
}

/// How many frames they have heard together.
fn count(fleet: &mut Fleet, peers: &[Peer]) -> usize {
    peers.iter().map(|peer| fleet.heard(peer).len()).sum()
}

#[test]
fn a_reply_goes_out_before_a_large_turn_and_while_one_is_under_way() {
    let (mut fleet, peers) = crowd();
    let other = newcomer(&mut fleet);
    fleet.call(0, "POST", "/events", EVENT);
    ping(&mut fleet, &other);
    assert!(fleet.flush_ahead(0));
    assert_eq!(heard(&mut fleet, &other), ["pong"]);
    assert!(!fleet.flush_ahead(0));
    assert!(fleet.flush_some(0, 64));
    ping(&mut fleet, &other);
    assert!(fleet.flush_some(0, 1));
    assert_eq!(heard(&mut fleet, &other), ["pong"]);
    fleet.flush(0);
    for peer in &peers {
        assert_eq!(heard(&mut fleet, peer), ["event"]);
    }
}

#[test]
fn a_reply_stays_behind_what_its_socket_was_owed_before() {
    let (mut fleet, peers) = crowd();
    fleet.call(0, "POST", "/events", EVENT);
    fleet.flush_ahead(0);
    ping(&mut fleet, &peers[0]);
    assert!(!fleet.flush_ahead(0));
    // Under way: some have had the event, and nobody's reply comes before it.
    assert!(fleet.flush_some(0, 64));
    for peer in &peers[1..] {
        ping(&mut fleet, peer);
    }
    fleet.flush(0);
    for peer in &peers {
        assert_eq!(heard(&mut fleet, peer), ["event", "pong"]);
    }
}

#[test]
fn an_event_stays_behind_the_reply_that_came_before_it() {
    let (mut fleet, peers) = crowd();
    let other = newcomer(&mut fleet);
    fleet.call(0, "POST", "/events", EVENT);
    ping(&mut fleet, &other);
    let subscribe = fleet.subscribe(&other, "news", None);
    fleet.say(&other, &[subscribe]);
    fleet.call(0, "POST", "/events", EVENT);
    ping(&mut fleet, &other);
    fleet.flush(0);
    let all = fleet.heard(&other);
    let order = [
        "pusher:pong",
        "subscription_succeeded",
        r#""event":"e""#,
        "pusher:pong",
    ];
    assert_eq!(all.len(), order.len(), "{all:?}");
    assert!(
        all.iter()
            .zip(order)
            .all(|(text, part)| text.contains(part)),
        "{all:?}"
    );
    assert_eq!(heard(&mut fleet, &peers[0]), ["event", "event"]);
}

#[test]
fn many_replies_do_not_hold_up_an_event() {
    let (mut fleet, peers) = crowd();
    let others: Vec<_> = (0..4 * CROWD).map(|_| fleet.connect(0)).collect();
    fleet.flush(0);
    for other in &others {
        fleet.heard(other);
    }
    fleet.call(0, "POST", "/events", EVENT);
    for other in &others {
        ping(&mut fleet, other);
    }
    assert!(fleet.flush_some(0, CROWD));
    // A small turn, and a chunk of the large one, where all other replies stand.
    let early = count(&mut fleet, &others);
    assert!((1..2 * CROWD).contains(&early), "{early}");
    fleet.flush(0);
    assert_eq!(early + count(&mut fleet, &others), others.len());
    assert_eq!(count(&mut fleet, &peers), CROWD);
}

#[test]
fn every_socket_hears_all_in_the_order_in_which_it_was_placed() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut fleet, peers) = crowd();
        let mut placed = vec![Vec::new(); CROWD];
        let mut heard_of = vec![Vec::new(); CROWD];
        for _ in 0..200 {
            match random.u32(..8) {
                0 => {
                    fleet.call(0, "POST", "/events", EVENT);
                    for of_one in &mut placed {
                        of_one.push("event");
                    }
                }
                1 | 2 => _ = fleet.flush_ahead(0),
                3 | 4 => _ = fleet.flush_some(0, random.usize(1..200)),
                _ => {
                    let one = random.usize(..CROWD);
                    ping(&mut fleet, &peers[one]);
                    placed[one].push("pong");
                    heard_of[one].extend(heard(&mut fleet, &peers[one]));
                }
            }
        }
        fleet.flush(0);
        for (one, peer) in peers.iter().enumerate() {
            heard_of[one].extend(heard(&mut fleet, peer));
        }
        assert_eq!(heard_of, placed, "seed {seed}");
    }
}

#[test]
fn a_socket_that_goes_takes_its_reply_with_it() {
    let (mut fleet, _peers) = crowd();
    let other = fleet.connect(0);
    fleet.flush(0);
    fleet.call(0, "POST", "/events", EVENT);
    ping(&mut fleet, &other);
    fleet.lose(&other);
    fleet.heard(&other);
    fleet.flush(0);
    assert!(fleet.heard(&other).is_empty());
}
