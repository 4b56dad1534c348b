//! What subscribing does to the numbers that the API tells (R-066 to R-122).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use answers::{is_answered, json};
use channels::{enter, join, signed, subscribe_to, unauthorised, unsubscribe};
use harness::api::call_request;
use harness::{Client, Server, invalid_message, on_every_server, subscribed};

mod answers;
mod channels;
mod harness;

const ONE: &str = r#"{"user_id":1,"user_info":{"name":"Test User"}}"#;
const ONE_ALONE: &str = r#"{"count":1,"ids":[1],"hash":{"1":{"name":"Test User"}}}"#;
/// The kinds of channels that may be entered without member data.
const PLAIN: [&str; 6] = [
    "test-channel",
    "private-k",
    "private-encrypted-k",
    "cache-k",
    "cachefoo",
    "private-cache-k",
];

/// A question of app-1 is answered 200 with this.
#[track_caller]
fn tells(server: &Server, path: &str, expected: &str) {
    let request = call_request("1", "GET", path, "");
    is_answered(server, request, &json("200 OK", expected));
}

/// So many sockets are on a channel that shows no members.
#[track_caller]
fn counts(server: &Server, channel: &str, count: usize) {
    let path = format!("/channels/{channel}?info=subscription_count");
    let told = format!(r#"{{"occupied":true,"subscription_count":{count}}}"#);
    tells(server, &path, &told);
}

/// Subscribes, and reads what a cache channel says behind the acknowledgement.
fn subscribe(client: &mut Client, channel: &str) {
    client.say(signed("1", client, channel, None));
    assert_eq!(client.hear(), subscribed(channel));
    if channel.contains("cache") {
        let miss = format!(r#"{{"event":"pusher:cache_miss","channel":"{channel}"}}"#);
        assert_eq!(client.hear(), miss);
    }
}

#[test]
fn r066_r122_a_subscription_is_one_socket_until_it_ends() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for channel in PLAIN {
            let path = format!("/channels/{channel}?info=subscription_count");
            tells(server, &path, r#"{"occupied":false}"#);
            subscribe(&mut client, channel);
            counts(server, channel, 1);
            tells(
                server,
                "/channels",
                &format!(r#"{{"channels":{{"{channel}":{{}}}}}}"#),
            );
            client.say(unsubscribe(channel));
            client.hears_nothing();
            tells(server, &path, r#"{"occupied":false}"#);
            tells(server, "/channels", r#"{"channels":{}}"#);
        }
    });
}

#[test]
fn r077_who_subscribes_twice_is_counted_once_and_gone_after_one_unsubscribe() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for channel in PLAIN {
            for _ in 0..2 {
                subscribe(&mut client, channel);
                counts(server, channel, 1);
            }
            client.say(unsubscribe(channel));
            client.hears_nothing();
            tells(server, "/channels", r#"{"channels":{}}"#);
        }
    });
}

#[test]
fn r078_four_channels_of_three_kinds_count_their_own_sockets() {
    on_every_server(|server| {
        let (mut one, mut two) = (Client::of_app(server, "1"), Client::of_app(server, "1"));
        one.subscribe("test-1");
        enter("1", &mut one, "private-2");
        one.subscribe("test-3");
        join("1", &mut one, "presence-4", ONE, ONE_ALONE);
        let counted = |both: u8| {
            let told = [
                r#"{"channels":{"presence-4":{"user_count":1}"#.to_owned(),
                r#""private-2":{"subscription_count":1}"#.to_owned(),
                format!(r#""test-1":{{"subscription_count":{both}}}"#),
                format!(r#""test-3":{{"subscription_count":{both}}}}}}}"#),
            ];
            let path = "/channels?info=user_count,subscription_count";
            tells(server, path, &told.join(","));
        };
        counted(1);
        two.subscribe("test-1");
        two.subscribe("test-3");
        counted(2);
    });
}

#[test]
fn r089_r090_what_is_refused_is_not_listed() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for channel in [
            "private-y",
            "presence-y",
            "private-cache-y",
            "presence-cache-y",
            "private-encrypted-y",
            "privatefoo",
        ] {
            client.say(subscribe_to(channel));
            assert_eq!(client.hear(), unauthorised(), "{channel}");
            let other = signed("1", &client, "private-other", None);
            client.say(other.replace("private-other", channel));
            assert_eq!(client.hear(), unauthorised(), "{channel}");
            tells(server, "/channels", r#"{"channels":{}}"#);
            let path = format!("/channels/{channel}?info=user_count,subscription_count");
            tells(server, &path, r#"{"occupied":false}"#);
        }
        client.subscribe("still-open");
        tells(server, "/channels", r#"{"channels":{"still-open":{}}}"#);
    });
}

#[test]
fn r105_who_has_a_list_for_an_id_is_not_on_the_channel() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for id in ["[1]", r#"{"a":1}"#] {
            let data = format!(r#"{{"user_id":{id},"user_info":{{}}}}"#);
            for channel in ["presence-arr", "presence-cache-arr"] {
                client.say(signed("1", &client, channel, Some(&data)));
                assert_eq!(client.hear(), invalid_message(), "{channel}, {id}");
            }
            tells(server, "/channels", r#"{"channels":{}}"#);
        }
        join("1", &mut client, "presence-arr", ONE, ONE_ALONE);
        let told = r#"{"channels":{"presence-arr":{"user_count":1}}}"#;
        tells(server, "/channels?info=user_count", told);
    });
}
