//! The answers of Reverb's own tests, each with the length in figures (R-159 to R-221).
//!
//! Elsewhere a test computes the length that it expects; here it is written down.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use channels::{signed, unsubscribe};
use harness::api::{call, call_request, request};
use harness::{Client, Server, on_every_server, subscribed};

mod answers;
mod channels;
mod harness;

/// A call is answered with this status, this body, and this length in its head.
#[track_caller]
fn is_told(server: &Server, request: &str, status: u16, body: &str, length: &str) {
    let answer = call(server, request);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (status, body),
        "{request}"
    );
    let [told, kind] = ["Content-Length", "Content-Type"].map(|name| answer.header(name));
    assert_eq!((told, kind), (Some(length), Some("application/json")));
}

/// A question of app-1 is answered 200 with this.
#[track_caller]
fn tells(server: &Server, path: &str, body: &str, length: &str) {
    is_told(
        server,
        &call_request("1", "GET", path, ""),
        200,
        body,
        length,
    );
}

/// What is posted to app-1 is answered 200 with this.
#[track_caller]
fn posts(server: &Server, path: &str, sent: &str, body: &str, length: &str) {
    is_told(
        server,
        &call_request("1", "POST", path, sent),
        200,
        body,
        length,
    );
}

/// A socket of app-1 on a channel without members.
fn subscriber(server: &Server, channel: &str) -> Client {
    let mut client = Client::of_app(server, "1");
    client.subscribe(channel);
    client
}

/// A socket of app-1 on a presence channel; `data` is its whole `channel_data`.
fn member(server: &Server, channel: &str, data: &str) -> Client {
    let mut client = Client::of_app(server, "1");
    client.say(signed("1", &client, channel, Some(data)));
    assert!(client.hear().contains("subscription_succeeded"));
    client
}

fn user(server: &Server, channel: &str, id: u32) -> Client {
    let data = format!(r#"{{"user_id":{id},"user_info":{{"name":"Test User"}}}}"#);
    member(server, channel, &data)
}

#[test]
fn r159_health_is_15_bytes() {
    on_every_server(|server| {
        let up = request("GET", "/up", "", "");
        is_told(server, &up, 200, r#"{"health":"OK"}"#, "15");
    });
}

#[test]
fn r188_r189_r191_r192_an_event_is_answered_in_2_bytes_or_with_what_it_asks() {
    on_every_server(|server| {
        let mut plain = subscriber(server, "test-channel-two");
        let mut present = user(server, "presence-test-channel-one", 1);
        let event = r#""name":"NewEvent","data":"{\"some\":\"data\"}""#;
        let one = format!(r#"{{{event},"channel":"test-channel-two"}}"#);
        posts(server, "/events", &one, "{}", "2");
        let channels = r#""channels":["presence-test-channel-one","test-channel-two"]"#;
        posts(
            server,
            "/events",
            &format!("{{{event},{channels}}}"),
            "{}",
            "2",
        );
        let asking = |info: &str| format!(r#"{{{event},{channels},"info":"{info}"}}"#);
        posts(
            server,
            "/events",
            &asking("user_count"),
            r#"{"channels":{"presence-test-channel-one":{"user_count":1},"test-channel-two":{}}}"#,
            "81",
        );
        posts(
            server,
            "/events",
            &asking("subscription_count"),
            concat!(
                r#"{"channels":{"presence-test-channel-one":{},"#,
                r#""test-channel-two":{"subscription_count":1}}}"#
            ),
            "89",
        );
        let heard = |channel: &str| {
            format!(
                r#"{{"event":"NewEvent","data":"{{\"some\":\"data\"}}","channel":"{channel}"}}"#
            )
        };
        for (client, channel, times) in [
            (&mut plain, "test-channel-two", 4),
            (&mut present, "presence-test-channel-one", 3),
        ] {
            for _ in 0..times {
                assert_eq!(client.hear(), heard(channel));
            }
            client.hears_nothing();
        }
    });
}

#[test]
fn r202_r203_r204_a_batch_is_answered_in_12_bytes_or_with_what_it_asks() {
    on_every_server(|server| {
        let _clients = [
            user(server, "presence-test-channel", 1),
            subscriber(server, "test-channel-two"),
            subscriber(server, "test-channel-three"),
        ];
        let item = |channel: &str, info: &str| {
            let info = match info {
                "" => String::new(),
                words => format!(r#","info":"{words}""#),
            };
            format!(
                r#"{{"name":"NewEvent","channel":"{channel}","data":"{{\"some\":\"data\"}}"{info}}}"#
            )
        };
        let batch = |items: &[String]| format!(r#"{{"batch":[{}]}}"#, items.join(","));
        let plain = item("test-channel-two", "");
        let users = item("presence-test-channel", "user_count");
        let [two, three] = ["test-channel-two", "test-channel-three"]
            .map(|channel| item(channel, "subscription_count"));
        for plain in [
            batch(std::slice::from_ref(&plain)),
            batch(&[plain.clone(), plain.clone()]),
        ] {
            posts(server, "/batch_events", &plain, r#"{"batch":{}}"#, "12");
        }
        posts(
            server,
            "/batch_events",
            &batch(&[users.clone(), two, three]),
            r#"{"batch":[{"user_count":1},{"subscription_count":1},{"subscription_count":1}]}"#,
            "78",
        );
        posts(
            server,
            "/batch_events",
            &batch(&[users, plain]),
            r#"{"batch":[{"user_count":1},{}]}"#,
            "31",
        );
    });
}

#[test]
fn r210_r211_two_channels_with_one_user_are_81_bytes() {
    on_every_server(|server| {
        let _one = subscriber(server, "test-channel-one");
        let mut two = user(server, "presence-test-channel-two", 1);
        tells(
            server,
            "/channels?info=user_count",
            r#"{"channels":{"presence-test-channel-two":{"user_count":1},"test-channel-one":{}}}"#,
            "81",
        );
        two.say(unsubscribe("presence-test-channel-two"));
        two.subscribe("test-channel-two");
        tells(
            server,
            "/channels",
            r#"{"channels":{"test-channel-one":{},"test-channel-two":{}}}"#,
            "58",
        );
    });
}

#[test]
fn r214_r215_r218_a_channel_of_two_sockets_is_40_bytes() {
    on_every_server(|server| {
        let path = "/channels/test-channel-one?info=user_count,subscription_count,cache";
        tells(server, path, r#"{"occupied":false}"#, "18");
        let _clients = [(); 2].map(|()| subscriber(server, "test-channel-one"));
        let told = r#"{"occupied":true,"subscription_count":2}"#;
        tells(server, path, told, "40");
        let path = "/channels/test-channel-one?info=cache";
        tells(server, path, r#"{"occupied":true}"#, "17");
    });
}

#[test]
fn r216_a_cache_channel_is_111_bytes_with_its_event() {
    on_every_server(|server| {
        let mut client = subscriber(server, "cache-k");
        assert_eq!(
            client.hear(),
            r#"{"event":"pusher:cache_miss","channel":"cache-k"}"#
        );
        let path = "/channels/cache-k?info=subscription_count,cache";
        let told = r#"{"occupied":true,"subscription_count":1}"#;
        tells(server, path, told, "40");
        harness::api::publish_event(server, "1", "cache-k", "upd", r#"{"v":1}"#);
        tells(
            server,
            path,
            concat!(
                r#"{"occupied":true,"subscription_count":1,"#,
                r#""cache":{"event":"upd","data":"{\u0022v\u0022:1}","channel":"cache-k"}}"#
            ),
            "111",
        );
    });
}

#[test]
fn r217_r219_r220_users_are_38_bytes_for_three_and_2_for_none() {
    on_every_server(|server| {
        let channel = "presence-test-channel-one";
        let path = format!("/channels/{channel}/users");
        let users = call_request("1", "GET", &path, "");
        is_told(server, &users, 404, "{}", "2");
        let _plain = subscriber(server, "test-channel-one");
        let plain = call_request("1", "GET", "/channels/test-channel-one/users", "");
        is_told(server, &plain, 400, "{}", "2");
        let _three = [1, 2, 3].map(|id| user(server, channel, id));
        let told = r#"{"users":[{"id":1},{"id":2},{"id":3}]}"#;
        is_told(server, &users, 200, told, "38");
        // A user that is there twice.
        let _twice = [3, 2, 3].map(|id| user(server, "presence-twice", id));
        let told = r#"{"users":[{"id":3},{"id":2}]}"#;
        tells(server, "/channels/presence-twice/users", told, "29");
        // Two sockets that name no user.
        let _nameless = [(); 2].map(|()| member(server, "presence-nameless", "{}"));
        let told = r#"{"occupied":true,"user_count":1}"#;
        tells(
            server,
            "/channels/presence-nameless?info=user_count",
            told,
            "32",
        );
    });
}

#[test]
fn r221_two_connections_are_17_bytes() {
    on_every_server(|server| {
        tells(server, "/connections", r#"{"connections":0}"#, "17");
        let mut one = subscriber(server, "test-channel-one");
        one.say(signed("1", &one, "presence-test-channel-two", Some("{}")));
        assert!(one.hear().contains("subscription_succeeded"));
        tells(server, "/connections", r#"{"connections":1}"#, "17");
        let mut two = Client::of_app(server, "1");
        tells(server, "/connections", r#"{"connections":2}"#, "17");
        two.say(signed("1", &two, "private-cache-k", None));
        assert_eq!(two.hear(), subscribed("private-cache-k"));
        tells(server, "/connections", r#"{"connections":2}"#, "17");
    });
}
