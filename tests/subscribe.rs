//! Subscribing to public and private channels (R-066 to R-092).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use channels::{
    enter, escaped, hears_nothing_published, signed, subscribe, subscribe_to, unauthorised,
};
use harness::{Client, api, error, invalid_message, on_every_server, subscribed};

mod channels;
mod harness;

/// An acknowledgement without a channel, as Reverb writes it where PHP takes the name for false.
const SUBSCRIBED_NAMELESS: &str =
    r#"{"event":"pusher_internal:subscription_succeeded","data":"{}"}"#;

/// An event of the API, as a subscriber hears it.
fn event(channel: &str) -> String {
    format!(r#"{{"event":"ev","data":"{{\"a\":1}}","channel":"{channel}"}}"#)
}

#[test]
fn r066_a_public_channel_is_joined_at_once_and_heard() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.say(r#"{"event":"pusher:subscribe","data":{"channel":"test-channel"}}"#);
        assert_eq!(
            client.hear(),
            concat!(
                r#"{"event":"pusher_internal:subscription_succeeded","#,
                r#""data":"{}","channel":"test-channel"}"#
            )
        );
        api::publish_event(server, "1", "test-channel", "ev", r#"{"a":1}"#);
        assert_eq!(client.hear(), event("test-channel"));
    });
}

#[test]
fn r067_r075_a_public_channel_asks_for_no_signature() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for auth in [r#""123""#, r#""""#, "null", "5"] {
            client.say(subscribe(&format!(r#""channel":"news","auth":{auth}"#)));
            assert_eq!(client.hear(), subscribed("news"), "{auth}");
        }
        for channel in ["news", "private-a", "presence-a"] {
            client.say(subscribe(&format!(r#""channel":"{channel}","auth":["x"]"#)));
            assert_eq!(client.hear(), invalid_message(), "{channel}");
        }
    });
}

#[test]
fn r068_an_empty_channel_name_is_refused_and_the_connection_stays_open() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.say(subscribe_to(""));
        assert_eq!(client.hear(), unauthorised());
        client.subscribe("still-open");
    });
}

#[test]
fn r069_channel_0_is_acknowledged_without_its_name() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.say(subscribe_to("0"));
        assert_eq!(client.hear(), SUBSCRIBED_NAMELESS);
        api::publish_event(server, "1", "0", "ev", r#"{"a":1}"#);
        assert_eq!(client.hear(), event("0"));
    });
}

#[test]
fn r070_numbers_and_true_are_read_as_names() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for (value, name) in [("5", "5"), ("12", "12"), ("1.5", "1.5"), ("true", "1")] {
            client.say(subscribe(&format!(r#""channel":{value}"#)));
            assert_eq!(client.hear(), subscribed(name), "{value}");
            api::publish_event(server, "1", name, "ev", r#"{"a":1}"#);
            assert_eq!(client.hear(), event(name));
        }
    });
}

#[test]
fn r071_r072_a_subscription_without_a_channel_is_invalid() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for data in [
            r#","data":{"channel":null}"#,
            r#","data":{"channel":[]}"#,
            r#","data":{"channel":["a"]}"#,
            r#","data":{"channel":{"a":1}}"#,
            r#","data":{"auth":"x"}"#,
            r#","data":{}"#,
            r#","data":[]"#,
            r#","data":null"#,
            r#","data":5"#,
            "",
            r#","data":"""#,
            r#","data":"sfsfsfs""#,
            r#","data":"5""#,
        ] {
            client.say(format!(r#"{{"event":"pusher:subscribe"{data}}}"#));
            assert_eq!(client.hear(), invalid_message(), "{data}");
        }
        client.subscribe("still-open");
    });
}

#[test]
fn r073_data_may_be_a_string_that_holds_json() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.say(r#"{"event":"pusher:subscribe","data":"{\"channel\":\"dbl\"}"}"#);
        assert_eq!(client.hear(), subscribed("dbl"));
        api::publish_event(server, "1", "dbl", "ev", r#"{"a":1}"#);
        assert_eq!(client.hear(), event("dbl"));
    });
}

#[test]
fn r074_channel_data_is_looked_at_on_public_channels_too() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let refused = [
            r#""Hello""#,
            "[]",
            r#"{"user_id":"7"}"#,
            r#""5""#,
            r#""\"x\"""#,
            r#""null""#,
        ];
        for data in refused {
            client.say(subscribe(&format!(
                r#""channel":"pubdata","channel_data":{data}"#
            )));
            assert_eq!(client.hear(), invalid_message(), "{data}");
        }
        api::publish_event(server, "1", "pubdata", "ev", r#"{"a":1}"#);
        hears_nothing_published(server, "1", &mut client);
        for data in [r#""""#, r#""0""#, "null", r#""{\"user_id\":\"7\"}""#] {
            client.say(subscribe(&format!(
                r#""channel":"pubdata","channel_data":{data}"#
            )));
            assert_eq!(client.hear(), subscribed("pubdata"), "{data}");
        }
    });
}

#[test]
fn r076_names_may_hold_anything_and_come_back_as_php_writes_them() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for (sent, said) in [
            (r"a/b é <x>", r"a\/b \u00e9 <x>"),
            ("#server-to-user-1", "#server-to-user-1"),
            ("a b", "a b"),
            ("a;b!#$%^&*()", "a;b!#$%^&*()"),
            (r#"a\"b"#, r#"a\"b"#),
            (r"a\\b", r"a\\b"),
            (r"a\nb", r"a\nb"),
            (r"a\u0000b", r"a\u0000b"),
            ("-", "-"),
            ("...", "..."),
            (
                "канал-é-😀",
                r"\u043a\u0430\u043d\u0430\u043b-\u00e9-\ud83d\ude00",
            ),
        ] {
            client.say(subscribe_to(sent));
            assert_eq!(client.hear(), subscribed(said));
        }
        for length in [164, 165, 300, 5000] {
            client.subscribe(&"n".repeat(length));
        }
    });
}

#[test]
fn r077_whoever_subscribes_twice_hears_an_event_once() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.subscribe("news");
        client.subscribe("news");
        enter("1", &mut client, "private-d");
        enter("1", &mut client, "private-d");
        for channel in ["news", "private-d"] {
            api::publish_event(server, "1", channel, "ev", r#"{"a":1}"#);
            assert_eq!(client.hear(), event(channel));
        }
        hears_nothing_published(server, "1", &mut client);
    });
}

#[test]
fn r078_each_socket_hears_its_own_channels() {
    on_every_server(|server| {
        let mut one = Client::of_app(server, "1");
        let mut two = Client::of_app(server, "1");
        one.subscribe("a");
        enter("1", &mut one, "private-b");
        one.subscribe("c");
        enter("1", &mut one, "private-d");
        two.subscribe("a");
        two.subscribe("c");
        for channel in ["a", "private-b", "c", "private-d"] {
            api::publish_event(server, "1", channel, "ev", r#"{"a":1}"#);
        }
        for channel in ["a", "private-b", "c", "private-d"] {
            assert_eq!(one.hear(), event(channel));
        }
        assert_eq!(two.hear(), event("a"));
        assert_eq!(two.hear(), event("c"));
        hears_nothing_published(server, "1", &mut two);
    });
}

#[test]
fn r079_ten_subscriptions_in_one_write_are_ten_answers_in_order() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for number in 0..10 {
            client.say(subscribe_to(&format!("channel-{number}")));
        }
        for number in 0..10 {
            assert_eq!(client.hear(), subscribed(&format!("channel-{number}")));
        }
        client.hears_nothing();
    });
}

#[test]
fn r080_r081_the_prefix_decides_who_must_sign() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for channel in ["foo", "Private-x", "xprivate-x", "x-presence-foo"] {
            client.subscribe(channel);
        }
        for channel in [
            "private-foo",
            "private-",
            "privatefoo",
            "private-cache",
            "private-cachex",
            "private-encrypted-x",
            "presence-foo",
            "presencefoo",
            "presence",
            "presence-cache",
        ] {
            client.say(subscribe_to(channel));
            assert_eq!(client.hear(), unauthorised(), "{channel}");
        }
        client.subscribe("still-open");
    });
}

#[test]
fn r082_r088_a_private_channel_is_entered_with_its_signature_and_heard() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for channel in ["private-test-channel", "private-encrypted-vault"] {
            enter("1", &mut client, channel);
            api::publish_event(server, "1", channel, "ev", r#"{"a":1}"#);
            assert_eq!(client.hear(), event(channel));
        }
    });
}

#[test]
fn r088_an_encrypted_event_is_relayed_as_it_is_and_not_looked_into() {
    const CHANNEL: &str = "private-encrypted-vault";
    on_every_server(|server| {
        let (mut client, mut other) = (Client::of_app(server, "1"), Client::of_app(server, "1"));
        for client in [&mut client, &mut other] {
            enter("1", client, CHANNEL);
        }
        let sealed = r#"{"nonce":"4sVYwy4j+cP3/Q==","ciphertext":"/96+D//l7A5b3iV8+w=="}"#;
        api::publish_event(server, "1", CHANNEL, "ev", sealed);
        let data = escaped(sealed);
        let said = format!(r#"{{"event":"ev","data":"{data}","channel":"{CHANNEL}"}}"#);
        assert_eq!(client.hear(), said);
        assert_eq!(other.hear(), said);
        let whisper = format!(r#"{{"event":"client-x","channel":"{CHANNEL}","data":{sealed}}}"#);
        other.say(&whisper);
        assert_eq!(client.hear(), whisper);
        // It keeps nothing, as any private channel.
        enter("1", &mut client, CHANNEL);
        hears_nothing_published(server, "1", &mut client);
    });
}

#[test]
fn r082_r085_r092_the_signature_stands_behind_the_apps_own_key() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let auth = api::channel_auth("1", &client.id, "private-a", None);
        let signature = auth.strip_prefix("key-1:").unwrap().to_owned();
        for auth in [
            format!("app-key:{signature}"),
            format!("key-2:{signature}"),
            format!("key-none:{signature}"),
            format!(":{signature}"),
            signature.clone(),
            format!("key-1:x:{signature}"),
            format!("k:k2:{signature}"),
            format!("key-1:{signature} "),
        ] {
            client.say(subscribe(&format!(
                r#""channel":"private-a","auth":"{auth}""#
            )));
            assert_eq!(client.hear(), unauthorised(), "{auth}");
        }
        enter("1", &mut client, "private-a");
    });
}

#[test]
fn r083_r086_a_wrong_signature_is_an_event_only() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let other = Client::of_app(server, "1");
        let own = api::channel_auth("1", &client.id, "private-a", None);
        let upper_case = own.to_uppercase().replace("KEY-1", "key-1");
        let of_another_app = api::channel_auth("none", &client.id, "private-a", None);
        for auth in [
            "key-1:deadbeef".to_owned(),
            "invalid-signature".to_owned(),
            "key-1:".to_owned(),
            upper_case,
            api::channel_auth("1", &other.id, "private-a", None),
            api::channel_auth("1", &client.id, "private-b", None),
            of_another_app.replace("key-none", "key-1"),
        ] {
            client.say(subscribe(&format!(
                r#""channel":"private-a","auth":"{auth}""#
            )));
            assert_eq!(client.hear(), unauthorised(), "{auth}");
        }
        // Not one of them let it in, and none cost it the connection.
        api::publish_event(server, "1", "private-a", "ev", r#"{"a":1}"#);
        hears_nothing_published(server, "1", &mut client);
        enter("1", &mut client, "private-a");
    });
}

#[test]
fn r084_a_private_channel_without_a_signature_is_refused() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for auth in ["", r#","auth":null"#, r#","auth":"""#, r#","auth":5"#] {
            client.say(subscribe(&format!(r#""channel":"private-a"{auth}"#)));
            assert_eq!(client.hear(), unauthorised(), "{auth}");
        }
        client.subscribe("still-open");
    });
}

#[test]
fn r087_channel_data_on_a_private_channel_is_part_of_what_is_signed() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let data = r#"{"user_id":"9"}"#;
        let without = api::channel_auth("1", &client.id, "private-a", None);
        client.say(subscribe(&format!(
            r#""channel":"private-a","channel_data":"{}","auth":"{without}""#,
            escaped(data)
        )));
        assert_eq!(client.hear(), unauthorised());
        client.say(signed("1", &client, "private-a", Some(data)));
        assert_eq!(client.hear(), subscribed("private-a"));
    });
}

#[test]
fn r090_a_refused_subscriber_hears_nothing_and_is_no_member() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.say(subscribe_to("private-ghost"));
        assert_eq!(client.hear(), unauthorised());
        api::publish_event(server, "1", "private-ghost", "ev", r#"{"a":1}"#);
        hears_nothing_published(server, "1", &mut client);
        client.say(r#"{"event":"client-x","channel":"private-ghost","data":{}}"#);
        let not_a_member = "The client is not a member of the specified channel.";
        assert_eq!(client.hear(), error(4009, not_a_member));
    });
}

#[test]
fn further_members_of_data_are_ignored() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.say(subscribe(
            r#""channel":"ex","foo":1,"filter":{"a":1},"delta":true"#,
        ));
        assert_eq!(client.hear(), subscribed("ex"));
    });
}

#[test]
fn apps_do_not_hear_one_another() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let mut stranger = Client::of_app(server, "all");
        client.subscribe("news");
        stranger.subscribe("news");
        api::publish_event(server, "1", "news", "ev", r#"{"a":1}"#);
        assert_eq!(client.hear(), event("news"));
        hears_nothing_published(server, "all", &mut stranger);
    });
}
