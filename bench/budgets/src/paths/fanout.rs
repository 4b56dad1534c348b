//! An event on its way through a shard to its subscribers.

use std::sync::Arc;

use slapback::broadcast::{Broadcast, Delivery};
use slapback::proto::{event, frame};
use slapback::shard::message::Message;

use super::count;
use crate::stage::{APP, Stage};

const SUBSCRIBERS: usize = 10_000;
/// Subscribers of the channel of some.
const SOME: usize = 1_000;
/// Channels that are told at once, and the subscribers of each.
const CHANNELS: usize = 100;
const EACH: usize = 10;
/// Events of one burst.
const BURST: usize = 16;
/// Turns of one count where there is one subscriber.
const TURNS: usize = 100;
/// How often each path is run.
const RUNS: usize = 3;

/// Counts these paths.
pub fn run() {
    let mut stage = Stage::new();
    for number in 0..SUBSCRIBERS {
        let own = format!("own{}", number / EACH);
        let mut channels = vec!["all"];
        channels.extend((number < SOME).then_some("some"));
        channels.extend((number < 1).then_some("one"));
        channels.extend((number < CHANNELS * EACH).then_some(&*own));
        stage.connect_to(&channels);
    }
    let own: Vec<String> = (0..CHANNELS).map(|number| format!("own{number}")).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let mut tell = |name, turns, channels: &[&str]| tell(&mut stage, name, turns, channels);
    tell("broadcast_to_1", TURNS, &["one"]);
    tell("broadcast_to_1000", 1, &["some"]);
    tell("broadcast_to_10000", 1, &["all"]);
    tell("burst_to_1", TURNS, &["one"; BURST]);
    tell("burst_to_1000", 1, &["some"; BURST]);
    // What most of them get does not lie side by side.
    tell("torn_burst_to_10000", 1, &["all", "some", "all"]);
    tell("channels_of_10", 1, &own);
}

/// So many turns, in each of which every channel has one event.
fn tell(stage: &mut Stage, name: &str, turns: usize, channels: &[&str]) {
    let subscribers = |channel: &&str| stage.shard.subscription_count(APP, channel);
    let deliveries = turns * channels.iter().map(subscribers).sum::<usize>();
    let frame_bytes = frame("all").len();
    let turn: Vec<_> = channels.iter().map(|channel| broadcast(channel)).collect();
    let runs = vec![vec![turn; turns]; RUNS];
    count(name, deliveries, runs, |turns| {
        let (_, bytes) = stage.sent_by(|stage| {
            for turn in turns {
                for broadcast in turn {
                    stage
                        .shard
                        .handle_message(stage.now, Message::Deliver(broadcast));
                }
                stage.flush();
            }
        });
        assert_eq!(bytes, deliveries * frame_bytes);
    });
}

fn broadcast(channel: &str) -> Arc<Broadcast> {
    Arc::new(Broadcast {
        app: APP,
        deliveries: vec![Delivery {
            channel: channel.into(),
            except: None,
            frame: frame(channel),
            is_kept: false,
        }],
        is_one_event: true,
    })
}

/// As long for each channel, 200 bytes.
fn frame(channel: &str) -> Box<[u8]> {
    let data = "x".repeat(153 - channel.len());
    let frame =
        frame::text_frame(|out| event::api_event(out, "tick", &format!("\"{data}\""), channel));
    assert_eq!(frame.len(), 200);
    frame
}
