//! `POST /apps/{id}/events`: what is taken, what subscribers get, what is refused (R-188 to
//! R-201).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use answers::{bad_request, is_answered, json, taken};
use channels::join;
use harness::api::{publish_request, request, sign, signed_target};
use harness::{Client, Server, on_every_fleet, on_every_server};

mod answers;
mod channels;
mod harness;

/// Publishes a body to app-1; it must be taken.
#[track_caller]
fn publish(server: &Server, body: &str) {
    is_answered(server, publish_request("1", body), &taken());
}

/// Publishes a body to app-1; it must be refused with these errors.
#[track_caller]
fn refused(server: &Server, body: &str, errors: &str) {
    let expected = json("422 Unprocessable Content", errors);
    is_answered(server, publish_request("1", body), &expected);
}

/// A socket of app-1 on these channels.
fn subscriber(server: &Server, channels: &[&str]) -> Client {
    let mut client = Client::of_app(server, "1");
    for channel in channels {
        client.subscribe(channel);
    }
    client
}

const NAME_MISSING: &str = r#""name":["The name field is required."]"#;
const DATA_MISSING: &str = r#""data":["The data field is required."]"#;
const CHANNEL_MISSING: &str = concat!(
    r#""channels":["The channels field is required when channel is not present."],"#,
    r#""channel":["The channel field is required when channels is not present."]"#
);

#[test]
fn r188_an_event_for_one_channel_reaches_its_subscribers() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["test-channel"]);
        let mut other = subscriber(server, &["other"]);
        let event = r#"{"name":"NewEvent","channel":"test-channel","data":"{\"some\":\"data\"}"}"#;
        publish(server, event);
        let heard = r#"{"event":"NewEvent","data":"{\"some\":\"data\"}","channel":"test-channel"}"#;
        assert_eq!(client.hear(), heard);
        other.hears_nothing();
        // The class names that Laravel sends, and a data that is no JSON.
        publish(
            server,
            r#"{"name":"App\\Events\\E","channel":"test-channel","data":"plain text"}"#,
        );
        let heard = r#"{"event":"App\\Events\\E","data":"plain text","channel":"test-channel"}"#;
        assert_eq!(client.hear(), heard);
        publish(server, r#"{"name":"e","channel":"nobody","data":"1"}"#);
        client.hears_nothing();
    });
}

#[test]
fn r188_names_of_the_protocol_and_further_members_are_not_refused() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["c1"]);
        for name in ["pusher:fake", "client-fake"] {
            publish(
                server,
                &format!(
                    r#"{{"name":"{name}","channels":["c1"],"data":"1","foo":1,"t":{{"a":1}}}}"#
                ),
            );
            let heard = format!(r#"{{"event":"{name}","data":"1","channel":"c1"}}"#);
            assert_eq!(client.hear(), heard);
        }
    });
}

#[test]
fn r189_each_of_several_channels_gets_its_own_name() {
    on_every_server(|server| {
        let mut clients = [
            subscriber(server, &["c1", "c2"]),
            subscriber(server, &["c2"]),
            subscriber(server, &["c1"]),
        ];
        publish(
            server,
            r#"{"name":"ev","channels":["c1","c2","c3"],"data":"{\"id\":7}"}"#,
        );
        let heard = |channel: &str| {
            format!(r#"{{"event":"ev","data":"{{\"id\":7}}","channel":"{channel}"}}"#)
        };
        for (client, channels) in clients
            .iter_mut()
            .zip([&["c1", "c2"][..], &["c2"], &["c1"]])
        {
            for channel in channels {
                assert_eq!(client.hear(), heard(channel));
            }
            client.hears_nothing();
        }
        publish(
            server,
            r#"{"name":"ev","channels":{"x":"c1"},"data":"{\"id\":7}"}"#,
        );
        assert_eq!(clients[2].hear(), heard("c1"));
    });
}

#[test]
fn r190_the_socket_named_is_left_out_and_an_unknown_one_leaves_out_nobody() {
    on_every_server(|server| {
        let mut sender = subscriber(server, &["c1"]);
        let mut others = [(); 4].map(|()| subscriber(server, &["c1"]));
        let elsewhere = subscriber(server, &["zz"]);
        let event = |socket: &str| {
            format!(r#"{{"name":"ev","channels":["c1"],"data":"1","socket_id":"{socket}"}}"#)
        };
        let heard = r#"{"event":"ev","data":"1","channel":"c1"}"#;
        publish(server, &event(&sender.id));
        for other in &mut others {
            assert_eq!(other.hear(), heard);
        }
        sender.hears_nothing();
        for socket in ["1.1", "not an id", "", elsewhere.id.as_str()] {
            publish(server, &event(socket));
            assert_eq!(sender.hear(), heard, "{socket:?} is left out");
            for other in &mut others {
                assert_eq!(other.hear(), heard);
            }
        }
    });
}

#[test]
fn r193_r199_missing_members_and_wrong_types_are_named() {
    on_every_server(|server| {
        let missing = [NAME_MISSING, DATA_MISSING, CHANNEL_MISSING].join(",");
        let cases = [
            ("{}", missing.as_str()),
            ("[]", &missing),
            ("[1]", &missing),
            (r#"{"channels":["c"],"data":"1"}"#, NAME_MISSING),
            (r#"{"name":"e","channels":["c"]}"#, DATA_MISSING),
            (r#"{"name":"e","data":"1"}"#, CHANNEL_MISSING),
            (r#"{"name":"e","data":"1","channels":[]}"#, CHANNEL_MISSING),
            (
                r#"{"name":5,"data":"1","channel":"c"}"#,
                r#""name":["The name field must be a string."]"#,
            ),
            (
                r#"{"name":"e","data":"1","channels":"c"}"#,
                r#""channels":["The channels field must be an array."]"#,
            ),
            (
                r#"{"name":"e","data":"1","channel":["c"]}"#,
                r#""channel":["The channel field must be a string."]"#,
            ),
            (
                r#"{"name":"e","data":"1","channel":"c","socket_id":1234}"#,
                r#""socket_id":["The socket id field must be a string."]"#,
            ),
            (
                r#"{"name":"e","data":"1","channel":"c","info":1234}"#,
                r#""info":["The info field must be a string."]"#,
            ),
            (
                r#"{"name":"e","data":"1","channel":"c","socket_id":null,"info":null}"#,
                concat!(
                    r#""socket_id":["The socket id field must be a string."],"#,
                    r#""info":["The info field must be a string."]"#
                ),
            ),
        ];
        for (body, errors) in cases {
            refused(server, body, &format!("{{{errors}}}"));
        }
    });
}

#[test]
fn r193_channels_that_cannot_be_names_refuse_the_whole_event() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["c1"]);
        let body = r#"{"name":"e","channels":["c1",5,null],"data":"1"}"#;
        refused(
            server,
            body,
            r#"{"channels.2":["The channels.2 field must be a string."]}"#,
        );
        client.hears_nothing();
    });
}

#[test]
fn r194_data_must_be_a_string() {
    on_every_server(|server| {
        let errors = r#"{"data":["The data field must be a string."]}"#;
        for data in [r#"{"a":1}"#, "[1]", "5", "true"] {
            let body = format!(r#"{{"name":"e","channels":["c1"],"data":{data}}}"#);
            refused(server, &body, errors);
        }
    });
}

#[test]
fn r195_blank_data_is_missing_data() {
    on_every_server(|server| {
        for data in [r#""""#, r#""  ""#, "null", "{}", "[]"] {
            let body = format!(r#"{{"name":"e","channels":["c1"],"data":{data}}}"#);
            refused(server, &body, &format!("{{{DATA_MISSING}}}"));
        }
    });
}

#[test]
fn r196_channels_win_over_channel() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["c1", "c2"]);
        publish(
            server,
            r#"{"name":"ev","channel":"c1","channels":["c2"],"data":"1"}"#,
        );
        assert_eq!(client.hear(), r#"{"event":"ev","data":"1","channel":"c2"}"#);
        client.hears_nothing();
    });
}

#[test]
fn r197_a_channel_named_twice_gets_the_event_twice() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["c1"]);
        publish(server, r#"{"name":"ev","channels":["c1","c1"],"data":"1"}"#);
        for _ in 0..2 {
            assert_eq!(client.hear(), r#"{"event":"ev","data":"1","channel":"c1"}"#);
        }
        client.hears_nothing();
    });
}

#[test]
fn r198_the_number_and_spelling_of_channels_is_not_limited() {
    on_every_server(|server| {
        let long = "l".repeat(201);
        let mut client = subscriber(server, &["c100", "a b!", &long]);
        let names: Vec<String> = (0..=100).map(|number| format!(r#""c{number}""#)).collect();
        let names = names.join(",");
        publish(
            server,
            &format!(r#"{{"name":"e","channels":[{names}],"data":"1"}}"#),
        );
        assert_eq!(
            client.hear(),
            r#"{"event":"e","data":"1","channel":"c100"}"#
        );
        let name = "n".repeat(300);
        for channel in ["a b!", &long] {
            publish(
                server,
                &format!(r#"{{"name":"{name}","channel":"{channel}","data":"1"}}"#),
            );
            let heard = format!(r#"{{"event":"{name}","data":"1","channel":"{channel}"}}"#);
            assert_eq!(client.hear(), heard);
        }
        client.hears_nothing();
    });
}

#[test]
fn r199_a_body_that_is_neither_object_nor_list_is_400() {
    on_every_server(|server| {
        for body in [
            "nope",
            "5",
            r#""text""#,
            "null",
            "true",
            "",
            "{",
            r#"{"name":}"#,
        ] {
            is_answered(server, publish_request("1", body), &bad_request());
        }
        // Signed over the bytes that are sent, which are no text.
        let query = "auth_key=key-1&body_md5=ab8c14026d04228fda39b6aecbfe1142";
        let path = "/apps/app-1/events";
        let signature = sign("secret-1", &format!("POST\n{path}\n{query}"));
        let target = format!("{path}?{query}&auth_signature={signature}");
        let text = r#"{"name":"e","channels":["c1"],"data":"?"}"#;
        let mut bytes = request("POST", &target, "", text).into_bytes();
        let mark = bytes.iter().rposition(|&byte| byte == b'?').unwrap();
        bytes[mark] = 0xff;
        is_answered(server, bytes, &bad_request());
    });
}

#[test]
fn r200_what_is_not_ascii_is_the_same_after_decoding() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["c1"]);
        publish(
            server,
            r#"{"name":"ev/é","channels":["c1"],"data":"{\"u\":\"é/<b>&'😀\",\"n\":1.0}"}"#,
        );
        let heard = concat!(
            r#"{"event":"ev\/\u00e9","data":"{\"u\":\"\u00e9\/<b>&'\ud83d\ude00\",\"n\":1.0}","#,
            r#""channel":"c1"}"#
        );
        assert_eq!(client.hear(), heard);
    });
}

#[test]
fn r201_each_app_has_its_own_secret_and_its_own_channels() {
    on_every_fleet(|fleet| {
        let server = Server::start(fleet, &[]);
        let mut first = subscriber(&server, &["c1"]);
        let mut second = Client::of_app(&server, "all");
        second.subscribe("c1");
        let body = r#"{"name":"e","channel":"c1","data":"1"}"#;
        is_answered(&server, publish_request("all", body), &taken());
        assert_eq!(second.hear(), r#"{"event":"e","data":"1","channel":"c1"}"#);
        first.hears_nothing();
        let path = "/apps/app-all/events";
        let target = signed_target("1", "POST", path, "", body);
        let foreign = request("POST", &target, "", body);
        is_answered(&server, foreign, &answers::unauthorised());
        second.hears_nothing();
    });
}

#[test]
fn r191_r192_info_tells_of_each_channel_what_its_kind_has() {
    on_every_server(|server| {
        let mut clients = [(); 2].map(|()| subscriber(server, &["c1"]));
        let member = r#"{"user_id":"1","user_info":{"n":"x"}}"#;
        for client in &mut clients {
            let present = r#"{"count":1,"ids":["1"],"hash":{"1":{"n":"x"}}}"#;
            join("1", client, "presence-x", member, present);
        }
        for (channels, info, told) in [
            (
                r#"["c1","presence-x","nobody"]"#,
                "user_count,subscription_count",
                r#"{"channels":{"c1":{"subscription_count":2},"presence-x":{"user_count":1},"nobody":{}}}"#,
            ),
            (
                r#"["presence-x","c1"]"#,
                "user_count",
                r#"{"channels":{"presence-x":{"user_count":1},"c1":{}}}"#,
            ),
            (
                r#"["presence-x","c1"]"#,
                "subscription_count",
                r#"{"channels":{"presence-x":{},"c1":{"subscription_count":2}}}"#,
            ),
            (
                r#"["c1","nobody"]"#,
                "occupied,bogus",
                r#"{"channels":{"c1":{"occupied":true},"nobody":{"occupied":false}}}"#,
            ),
            (r#"["c1","c1"]"#, "", r#"{"channels":{"c1":{}}}"#),
        ] {
            let body =
                format!(r#"{{"name":"ev","channels":{channels},"data":"1","info":"{info}"}}"#);
            is_answered(server, publish_request("1", &body), &json("200 OK", told));
        }
        let body = r#"{"name":"ev","channel":"c1","data":"1","info":"subscription_count"}"#;
        let told = r#"{"channels":{"c1":{"subscription_count":2}}}"#;
        is_answered(server, publish_request("1", body), &json("200 OK", told));
        let heard = |channel: &str| format!(r#"{{"event":"ev","data":"1","channel":"{channel}"}}"#);
        for client in &mut clients {
            for channel in [
                "c1",
                "presence-x",
                "presence-x",
                "c1",
                "presence-x",
                "c1",
                "c1",
                "c1",
                "c1",
                "c1",
            ] {
                assert_eq!(client.hear(), heard(channel));
            }
            client.hears_nothing();
        }
    });
}

#[test]
fn r191_info_is_of_the_time_after_the_event() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["cache-k"]);
        let miss = r#"{"event":"pusher:cache_miss","channel":"cache-k"}"#;
        assert_eq!(client.hear(), miss);
        for number in 0..20 {
            let body =
                format!(r#"{{"name":"e","channel":"cache-k","data":"{number}","info":"cache"}}"#);
            let event = format!(r#"{{"event":"e","data":"{number}","channel":"cache-k"}}"#);
            let told = format!(r#"{{"channels":{{"cache-k":{{"cache":{event}}}}}}}"#);
            is_answered(server, publish_request("1", &body), &json("200 OK", &told));
            assert_eq!(client.hear(), event);
        }
    });
}
