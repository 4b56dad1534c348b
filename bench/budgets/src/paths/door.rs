//! Coming in, onto channels, off them and away.

use super::count;
use crate::stage::{Peer, Stage, UPGRADE, masked};

/// Sockets of one count.
const SOCKETS: usize = 100;
/// How often each path is run.
const RUNS: usize = 3;
const ANN: &str = r#"{"user_id":"1","user_info":{"name":"Ann"}}"#;
const BOB: &str = r#"{"user_id":"2","user_info":{"name":"Bob"}}"#;

/// Counts these paths.
pub fn run() {
    upgrade();
    subscribe("subscribe_public", "unsubscribe_public", "news");
    subscribe("subscribe_private", "unsubscribe_private", "private-room");
    join();
    lose();
}

fn upgrade() {
    let mut stage = Stage::new();
    let requests = vec![vec![UPGRADE.as_bytes().to_vec(); SOCKETS]; RUNS];
    count("upgrade", SOCKETS, requests, |mut requests| {
        let (sends, _) = stage.sent_by(|stage| {
            for request in &mut requests {
                let key = stage.accept();
                stage.turn(key, request);
            }
        });
        assert_eq!(sends, SOCKETS);
    });
}

/// What each of some sockets says.
type Said = Vec<(Peer, Vec<u8>)>;

/// Makes the sockets of every run, and has each say something.
fn said(stage: &mut Stage, text: impl Fn(&mut Stage, &Peer, usize) -> String) -> Vec<Said> {
    let mut socket = |number| {
        let peer = stage.connect();
        let text = text(stage, &peer, number);
        (peer, masked(&text))
    };
    let mut run = |run| {
        (0..SOCKETS)
            .map(|number| socket(run * SOCKETS + number))
            .collect()
    };
    (0..RUNS).map(&mut run).collect()
}

/// Hands in what they say; each is sent so many answers.
fn say(stage: &mut Stage, said: &mut Said, sends: usize) {
    let (sent, _) = stage.sent_by(|stage| {
        for (peer, frame) in said {
            stage.turn(peer.key, frame);
        }
    });
    assert_eq!(sent, sends * SOCKETS);
}

fn subscribe(on: &str, off: &str, channel: &str) {
    let mut stage = Stage::new();
    let all = said(&mut stage, |stage, peer, _| {
        stage.subscribe(peer, channel, None)
    });
    let leave = format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{channel}"}}}}"#);
    let keys: Vec<_> = all.iter().flatten().map(|(peer, _)| peer.key).collect();
    count(on, SOCKETS, all, |mut said| say(&mut stage, &mut said, 1));
    let left = keys
        .chunks(SOCKETS)
        .map(|keys| (keys, vec![masked(&leave); SOCKETS]));
    count(off, SOCKETS, left, |(keys, mut frames)| {
        for (&key, frame) in keys.iter().zip(&mut frames) {
            stage.turn(key, frame);
        }
    });
    assert_eq!(
        stage.shard.subscription_count(crate::stage::APP, channel),
        0
    );
}

/// Each joins a channel where one member is, who is told.
fn join() {
    let mut stage = Stage::new();
    let name = |number| format!("presence-{number}");
    for number in 0..RUNS * SOCKETS {
        let host = stage.connect();
        let subscribe = stage.subscribe(&host, &name(number), Some(ANN));
        stage.turn(host.key, &mut masked(&subscribe));
    }
    let all = said(&mut stage, |stage, peer, number| {
        stage.subscribe(peer, &name(number), Some(BOB))
    });
    count("join_presence", SOCKETS, all, |mut said| {
        say(&mut stage, &mut said, 2)
    });
}

/// Connections on one private channel break.
fn lose() {
    let mut stage = Stage::new();
    let mut run = || {
        (0..SOCKETS)
            .map(|_| stage.connect_to(&["private-room"]).key)
            .collect()
    };
    let all: Vec<Vec<_>> = (0..RUNS).map(|_| run()).collect();
    count("lost", SOCKETS, all, |keys| {
        for key in keys {
            stage.shard.handle_lost(stage.now, key);
            stage.flush();
        }
    });
    assert_eq!(stage.shard.connections_count(), 0);
}
