//! What a client may say, and what it is told when it may not (R-055 to R-065).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use harness::{Client, PONG, invalid_message, on_every_server, subscribed};

mod harness;

/// Each of these is answered with the error for an invalid message; the socket stays usable.
fn are_invalid(said: &[&str]) {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for text in said {
            client.say(text);
            assert_eq!(client.hear(), invalid_message(), "{text}");
        }
        client.subscribe("still-usable");
    });
}

#[test]
fn r055_r056_what_is_not_an_object_with_an_event_is_invalid_and_closes_nothing() {
    are_invalid(&[
        "Hi",
        "hello",
        "{",
        "",
        "5",
        "null",
        r#""str""#,
        "true",
        "[]",
        r#"["pusher:ping"]"#,
        "{}",
        r#"{"data":{}}"#,
        "\u{feff}{\"event\":\"pusher:ping\"}",
    ]);
}

#[test]
fn r057_an_event_is_a_string_with_something_in_it() {
    are_invalid(&[
        r#"{"event":[]}"#,
        r#"{"event":["pusher:ping"]}"#,
        r#"{"event":5}"#,
        r#"{"event":null}"#,
        r#"{"event":""}"#,
        r#"{"event":" "}"#,
    ]);
}

#[test]
fn r058_unknown_pusher_events_are_invalid() {
    are_invalid(&[
        r#"{"event":"pusher:nope"}"#,
        r#"{"event":"pusher:"}"#,
        r#"{"event":"pusher:signin","data":{"auth":"x","user_data":"{}"}}"#,
        r#"{"event":"pusher:pusher:ping"}"#,
        r#"{"event":"pusher:error","data":{}}"#,
        r#"{"event":"pusher:cache_miss"}"#,
        r#"{"event":"PUSHER:SUBSCRIBE","data":{"channel":"a"}}"#,
    ]);
}

#[test]
fn r059_r060_an_event_of_no_known_kind_needs_a_channel_and_reaches_nobody() {
    are_invalid(&[
        r#"{"event":"foo"}"#,
        r#"{"event":"pusher_internal:subscription_succeeded"}"#,
    ]);
    on_every_server(|server| {
        let mut speaker = Client::of_app(server, "1");
        let mut listener = Client::of_app(server, "1");
        speaker.subscribe("x");
        listener.subscribe("x");
        let ignored = [
            r#"{"event":"foo","channel":"x"}"#,
            r#"{"event":"foo","channel":"x","data":{}}"#,
            r#"{"event":"Pusher:Ping","channel":"x"}"#,
            r#"{"event":"pusher_internal:x","channel":"x"}"#,
            r#"{"event":"pusher_internal:member_added","channel":"x","data":{}}"#,
        ];
        for text in ignored {
            speaker.say(text);
            speaker.hears_nothing();
        }
        // What the speaker had said would have come before this, through the same home.
        harness::api::publish_event(server, "1", "x", "last", "1");
        let last = r#"{"event":"last","data":"1","channel":"x"}"#;
        assert_eq!(listener.hear(), last);
        assert_eq!(speaker.hear(), last);
    });
}

#[test]
fn r061_json_ends_where_the_message_does() {
    are_invalid(&[
        r#"{"event":"pusher:ping"}extra"#,
        r#"{"event":"pusher:ping"}{}"#,
        r#"{"event":"pusher:ping","x":"\ud800"}"#,
    ]);
}

#[test]
fn r062_a_ping_is_answered_whatever_else_it_carries() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let pings = [
            r#"{"event":"pusher:ping"}"#,
            r#"{"event":"pusher:ping","data":{}}"#,
            r#"{"event":"pusher:ping","data":{},"x":1}"#,
            r#"{"event":"pusher:ping","data":"{}"}"#,
            "  {\"event\":\"pusher:ping\"}\n",
            // Of two like names the last counts.
            r#"{"event":"pusher:foo","event":"pusher:ping"}"#,
        ];
        for ping in pings {
            client.say(ping);
            assert_eq!(client.hear(), PONG, "{ping}");
        }
    });
}

#[test]
fn nesting_is_read_to_the_depth_that_php_reads() {
    let nested = |depth: usize| {
        let lists = depth - 1;
        let (open, close) = ("[".repeat(lists), "]".repeat(lists));
        format!(r#"{{"event":"pusher:ping","data":{open}{close}}}"#)
    };
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.say(nested(511));
        assert_eq!(client.hear(), PONG);
        for depth in [512, 513, 4_000] {
            client.say(nested(depth));
            assert_eq!(client.hear(), invalid_message(), "{depth}");
        }
    });
}

#[test]
fn r063_a_pong_is_not_answered() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.say(r#"{"event":"pusher:pong","data":{}}"#);
        client.hears_nothing();
        client.say(r#"{"event":"pusher:pong"}"#);
        client.hears_nothing();
    });
}

#[test]
fn r064_asked_for_its_establishment_a_socket_hears_its_own_id_again() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let id = client.id.clone();
        client.say(r#"{"event":"pusher:connection_established"}"#);
        client.is_established(30);
        assert_eq!(client.id, id);
    });
}

#[test]
fn r065_empty_data_harms_nobody() {
    on_every_server(|server| {
        let mut bystander = Client::of_app(server, "1");
        let mut client = Client::of_app(server, "1");
        let mut answer = |event: &str, expected: &str| {
            client.say(format!(r#"{{"event":"pusher:{event}","data":""}}"#));
            assert_eq!(client.hear(), expected, "{event}");
        };
        answer("ping", PONG);
        answer("subscribe", &invalid_message());
        answer("unsubscribe", &invalid_message());
        answer("nope", &invalid_message());
        client.say(r#"{"event":"pusher:pong","data":""}"#);
        client.hears_nothing();
        bystander.hears_nothing();
    });
}

#[test]
fn data_may_be_json_in_a_string() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.say(r#"{"event":"pusher:subscribe","data":"{\"channel\":\"double\"}"}"#);
        assert_eq!(client.hear(), subscribed("double"));
        for data in [r#""abc""#, "{}", "[]", "null"] {
            client.say(format!(r#"{{"event":"pusher:subscribe","data":{data}}}"#));
            assert_eq!(client.hear(), invalid_message(), "{data}");
        }
    });
}
