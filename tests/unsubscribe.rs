//! Leaving channels, one by one or all at once (R-122 to R-126).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use channels::{enter, hears_nothing_published, join, unsubscribe};
use harness::{Client, Opcode, api, invalid_message, on_every_server};

mod channels;
mod harness;

const ONE: &str = r#"{"user_id":"1","user_info":{}}"#;
const ONE_ALONE: &str = r#"{"count":1,"ids":["1"],"hash":{"1":{}}}"#;
const CHANNELS: [&str; 3] = ["news", "private-a", "presence-r"];

/// Subscribes to a channel of each kind.
fn enter_all(client: &mut Client) {
    client.subscribe("news");
    enter("1", client, "private-a");
    join("1", client, "presence-r", ONE, ONE_ALONE);
}

fn event(channel: &str) -> String {
    format!(r#"{{"event":"ev","data":"x","channel":"{channel}"}}"#)
}

#[test]
fn r122_who_unsubscribes_gets_no_answer_and_no_more_events() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        enter_all(&mut client);
        for channel in CHANNELS {
            api::publish_event(server, "1", channel, "ev", "x");
            assert_eq!(client.hear(), event(channel));
            client.say(unsubscribe(channel));
            client.hears_nothing();
            api::publish_event(server, "1", channel, "ev", "x");
            hears_nothing_published(server, "1", &mut client);
        }
        // Nobody is left in the presence channel: the next one is the first.
        let mut next = Client::of_app(server, "1");
        join("1", &mut next, "presence-r", ONE, ONE_ALONE);
    });
}

#[test]
fn r122_one_may_come_back() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for _ in 0..3 {
            enter_all(&mut client);
            for channel in CHANNELS {
                client.say(unsubscribe(channel));
            }
        }
        enter_all(&mut client);
        for channel in CHANNELS {
            api::publish_event(server, "1", channel, "ev", "x");
            assert_eq!(client.hear(), event(channel));
        }
    });
}

#[test]
fn r123_unsubscribing_from_where_one_is_not_does_nothing() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let mut member = Client::of_app(server, "1");
        enter_all(&mut member);
        for channel in ["nope", "news", "private-a", "presence-r", ""] {
            client.say(unsubscribe(channel));
        }
        client.hears_nothing();
        for channel in CHANNELS {
            api::publish_event(server, "1", channel, "ev", "x");
            assert_eq!(member.hear(), event(channel));
        }
    });
}

#[test]
fn r124_unsubscribing_without_a_channel_is_invalid() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for data in [
            "",
            r#","data":{}"#,
            r#","data":{"channel":null}"#,
            r#","data":{"channel":[]}"#,
            r#","data":"news""#,
        ] {
            client.say(format!(r#"{{"event":"pusher:unsubscribe"{data}}}"#));
            assert_eq!(client.hear(), invalid_message(), "{data}");
        }
    });
}

#[test]
fn r125_r126_who_closes_leaves_every_channel_and_the_others_stay() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let mut other = Client::of_app(server, "1");
        // The same user on both, so that the leave of one is nobody's news.
        enter_all(&mut client);
        enter_all(&mut other);
        client.send(Opcode::CLOSE, [0x03, 0xe8]);
        assert_eq!(client.hear_frame().opcode, Opcode::CLOSE);
        client.ends();
        for channel in CHANNELS {
            api::publish_event(server, "1", channel, "ev", "x");
            assert_eq!(other.hear(), event(channel));
        }
        hears_nothing_published(server, "1", &mut other);
    });
}
