//! What the API tells of channels, users and connections, whichever shard is asked (R-210 to
//! R-221).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use answers::{allowing, closing, hears, is_answered, json, text};
use channels::{join, joined, member_added, signed, subscribe_to, unsubscribe};
use harness::api::{call, call_request, publish_event, request};
use harness::{Client, Opcode, Server, close_payload, on_every_server, subscribed};

mod answers;
mod channels;
mod harness;

const ONE: &str = r#"{"user_id":"1","user_info":{"n":"x"}}"#;
const TWO: &str = r#"{"user_id":"2","user_info":{"n":"x"}}"#;
const ONE_ALONE: &str = r#"{"count":1,"ids":["1"],"hash":{"1":{"n":"x"}}}"#;
const BOTH: &str = r#"{"count":2,"ids":["1","2"],"hash":{"1":{"n":"x"},"2":{"n":"x"}}}"#;

/// A call of app-1 is answered 200 with this.
#[track_caller]
fn tells(server: &Server, path: &str, expected: &str) {
    is_told(server, path, "200 OK", expected);
}

#[track_caller]
fn is_told(server: &Server, path: &str, status: &str, expected: &str) {
    let request = call_request("1", "GET", path, "");
    is_answered(server, request, &json(status, expected));
}

/// A socket of app-1 on these channels, none of which shows members or events.
fn subscriber(server: &Server, channels: &[&str]) -> Client {
    let mut client = Client::of_app(server, "1");
    for channel in channels {
        client.say(signed("1", &client, channel, None));
        assert_eq!(client.hear(), subscribed(channel));
    }
    client
}

/// Three sockets as they were when Reverb's answers were captured: user 1 twice, and user 2.
fn crowd(server: &Server) -> [Client; 3] {
    let mut one = subscriber(server, &["c1", "private-p"]);
    let mut other = subscriber(server, &["c1"]);
    let mut two = Client::of_app(server, "1");
    join("1", &mut one, "presence-x", ONE, ONE_ALONE);
    join("1", &mut other, "presence-x", ONE, ONE_ALONE);
    join("1", &mut two, "presence-x", TWO, BOTH);
    for client in [&mut one, &mut other] {
        assert_eq!(client.hear(), member_added("presence-x", TWO));
    }
    one.say(subscribe_to("cache-k"));
    assert_eq!(one.hear(), subscribed("cache-k"));
    assert!(one.hear().contains("pusher:cache_miss"));
    [one, other, two]
}

/// The socket closes, and the server has said goodbye.
fn leave(client: &mut Client) {
    client.send(Opcode::CLOSE, close_payload(1000, b"bye"));
    while client.hear_frame().opcode != Opcode::CLOSE {}
    client.ends();
}

#[test]
fn r210_r211_r212_r213_channels_with_subscribers_are_listed_by_name() {
    on_every_server(|server| {
        tells(server, "/channels", r#"{"channels":{}}"#);
        tells(server, "/channels?info=user_count", r#"{"channels":{}}"#);
        let mut crowd = crowd(server);
        let listed = r#"{"channels":{"c1":{},"cache-k":{},"presence-x":{},"private-p":{}}}"#;
        tells(server, "/channels", listed);
        tells(server, "/channels?info=bogus", listed);
        tells(
            server,
            "/channels?info=user_count",
            r#"{"channels":{"c1":{},"cache-k":{},"presence-x":{"user_count":2},"private-p":{}}}"#,
        );
        tells(
            server,
            "/channels?info=subscription_count",
            r#"{"channels":{"c1":{"subscription_count":2},"cache-k":{"subscription_count":1},"presence-x":{},"private-p":{"subscription_count":1}}}"#,
        );
        tells(
            server,
            "/channels?info=user_count,subscription_count,occupied,cache",
            r#"{"channels":{"c1":{"occupied":true,"subscription_count":2},"cache-k":{"occupied":true,"subscription_count":1},"presence-x":{"occupied":true,"user_count":2},"private-p":{"occupied":true,"subscription_count":1}}}"#,
        );
        tells(
            server,
            "/channels?filter_by_prefix=presence-&info=user_count",
            r#"{"channels":{"presence-x":{"user_count":2}}}"#,
        );
        tells(
            server,
            "/channels?filter_by_prefix=p",
            r#"{"channels":{"presence-x":{},"private-p":{}}}"#,
        );
        tells(server, "/channels?filter_by_prefix=x", r#"{"channels":{}}"#);
        for client in &mut crowd {
            leave(client);
        }
        tells(server, "/channels?info=occupied", r#"{"channels":{}}"#);
    });
}

#[test]
fn r122_r211_what_is_left_is_not_listed() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["c1", "c2", "private-p"]);
        join("1", &mut client, "presence-x", ONE, ONE_ALONE);
        for channel in ["c1", "presence-x", "private-p"] {
            client.say(unsubscribe(channel));
        }
        client.hears_nothing();
        tells(server, "/channels", r#"{"channels":{"c2":{}}}"#);
        tells(server, "/channels/presence-x", r#"{"occupied":false}"#);
    });
}

#[test]
fn r211_channels_are_those_of_the_app_and_may_have_any_name() {
    on_every_server(|server| {
        let mut one = subscriber(server, &["12", "a b!", "a<b>&'"]);
        one.say(subscribe_to("0"));
        assert!(one.hear().contains("subscription_succeeded"));
        let mut other = Client::of_app(server, "all");
        other.subscribe("zz");
        tells(
            server,
            "/channels?info=subscription_count",
            concat!(
                r#"{"channels":{"0":{"subscription_count":1},"12":{"subscription_count":1},"#,
                r#""a b!":{"subscription_count":1},"#,
                r#""a\u003Cb\u003E\u0026\u0027":{"subscription_count":1}}}"#
            ),
        );
    });
}

#[test]
fn r214_r215_r218_a_channel_tells_what_its_kind_has() {
    on_every_server(|server| {
        let all = "info=user_count,subscription_count,cache";
        tells(server, "/channels/c1", r#"{"occupied":false}"#);
        tells(
            server,
            &format!("/channels/c1?{all}"),
            r#"{"occupied":false}"#,
        );
        let _crowd = crowd(server);
        for (path, expected) in [
            ("c1", r#"{"occupied":true}"#),
            ("c1?info=user_count", r#"{"occupied":true}"#),
            ("c1?info=cache", r#"{"occupied":true}"#),
            ("c1?info=bogus,occupied", r#"{"occupied":true}"#),
            (
                &format!("c1?{all}"),
                r#"{"occupied":true,"subscription_count":2}"#,
            ),
            ("private%2Dp", r#"{"occupied":true}"#),
            (
                "presence-x?info=user_count,subscription_count",
                r#"{"occupied":true,"user_count":2}"#,
            ),
            (&format!("nobody?{all}"), r#"{"occupied":false}"#),
            ("users", r#"{"occupied":false}"#),
        ] {
            tells(server, &format!("/channels/{path}"), expected);
        }
        for path in ["/channels/a/b", "/channels/a%2Fb", "/channels/"] {
            let request = call_request("1", "GET", path, "");
            is_answered(server, request, &text("404 Not Found", "Not found."));
        }
    });
}

#[test]
fn r216_a_cache_channel_tells_its_last_event_while_somebody_is_there() {
    on_every_server(|server| {
        let path = "/channels/cache-k?info=subscription_count,cache";
        publish_event(server, "1", "cache-k", "upd", r#"{"v":1}"#);
        tells(server, path, r#"{"occupied":false}"#);
        let crowd = [(); 3].map(|()| {
            let mut client = Client::of_app(server, "1");
            client.subscribe("cache-k");
            client.hear();
            client
        });
        let event = r#"{"event":"upd","data":"{\u0022v\u0022:1}","channel":"cache-k"}"#;
        tells(
            server,
            path,
            &format!(r#"{{"occupied":true,"subscription_count":3,"cache":{event}}}"#),
        );
        tells(
            server,
            "/channels?info=cache",
            &format!(r#"{{"channels":{{"cache-k":{{"cache":{event}}}}}}}"#),
        );
        publish_event(server, "1", "cache-k", "<é>", "plain & simple");
        let event =
            r#"{"event":"\u003C\u00e9\u003E","data":"plain \u0026 simple","channel":"cache-k"}"#;
        tells(
            server,
            "/channels/cache-k?info=cache",
            &format!(r#"{{"occupied":true,"cache":{event}}}"#),
        );
        drop(crowd);
        let mut member = Client::of_app(server, "1");
        let channel = "presence-cache-k";
        publish_event(server, "1", channel, "upd", "2");
        member.say(signed("1", &member, channel, Some(ONE)));
        assert_eq!(member.hear(), joined(channel, ONE_ALONE));
        tells(
            server,
            "/channels/presence-cache-k?info=user_count,cache",
            r#"{"occupied":true,"user_count":1,"cache":{"event":"upd","data":"2","channel":"presence-cache-k"}}"#,
        );
    });
}

#[test]
fn r217_members_without_an_id_count_as_one_user_and_are_not_listed() {
    on_every_server(|server| {
        let nobody = r#"{"count":0,"ids":[],"hash":[]}"#;
        let mut clients = [(); 2].map(|()| Client::of_app(server, "1"));
        for client in &mut clients {
            join("1", client, "presence-x", r#"{"user_info":{}}"#, nobody);
        }
        let path = "/channels/presence-x?info=user_count";
        tells(server, path, r#"{"occupied":true,"user_count":1}"#);
        tells(server, "/channels/presence-x/users", r#"{"users":[]}"#);
        let mut named = Client::of_app(server, "1");
        join("1", &mut named, "presence-x", ONE, nobody);
        tells(server, path, r#"{"occupied":true,"user_count":2}"#);
        tells(
            server,
            "/channels/presence-x/users",
            r#"{"users":[{"id":"1"}]}"#,
        );
    });
}

#[test]
fn r219_r220_users_are_told_once_in_the_order_they_came() {
    on_every_server(|server| {
        is_told(server, "/channels/presence-x/users", "404 Not Found", "{}");
        is_told(server, "/channels/c1/users", "404 Not Found", "{}");
        let _crowd = crowd(server);
        tells(
            server,
            "/channels/presence-x/users",
            r#"{"users":[{"id":"1"},{"id":"2"}]}"#,
        );
        is_told(server, "/channels/c1/users", "400 Bad Request", "{}");
        is_told(server, "/channels/cache-k/users", "400 Bad Request", "{}");
        let mut clients = [3, 2, 1].map(|_| Client::of_app(server, "1"));
        for (client, id) in clients.iter_mut().zip([r"3", r#""a'b""#, r#""3""#]) {
            let data = format!(r#"{{"user_id":{id},"user_info":{{}}}}"#);
            client.say(signed("1", client, "presence-y", Some(&data)));
            assert!(client.hear().contains("subscription_succeeded"));
        }
        tells(
            server,
            "/channels/presence-y/users",
            r#"{"users":[{"id":3},{"id":"a\u0027b"}]}"#,
        );
    });
}

#[test]
fn r221_r250_every_established_socket_of_the_app_is_counted() {
    on_every_server(|server| {
        tells(server, "/connections", r#"{"connections":0}"#);
        let mut clients = [(); 5].map(|()| Client::of_app(server, "1"));
        clients[0].subscribe("c1");
        clients[0].subscribe("c2");
        clients[1].subscribe("c1");
        let _other = Client::of_app(server, "all");
        tells(server, "/connections", r#"{"connections":5}"#);
        for (gone, client) in clients.iter_mut().enumerate() {
            leave(client);
            let left = format!(r#"{{"connections":{}}}"#, 4 - gone);
            tells(server, "/connections", &left);
        }
    });
}

#[test]
fn r091_a_refused_subscription_makes_no_channel_to_tell_of() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for channel in ["private-y", "presence-y"] {
            client.say(subscribe_to(channel));
            assert_eq!(client.hear(), channels::unauthorised());
        }
        let path = "/channels/private-y?info=subscription_count";
        tells(server, path, r#"{"occupied":false}"#);
        is_told(server, "/channels/presence-y/users", "404 Not Found", "{}");
        tells(server, "/channels", r#"{"channels":{}}"#);
    });
}

#[test]
fn an_acknowledged_subscription_is_counted_whoever_is_asked_and_one_that_ended_is_not() {
    on_every_server(|server| {
        for round in 0..10 {
            let channel = format!("c{round}");
            let room = format!("presence-{round}");
            let mut clients = Vec::new();
            for count in 1..=4 {
                let mut client = subscriber(server, &[&channel]);
                let member = format!(r#"{{"user_id":{count},"user_info":1}}"#);
                client.say(signed("1", &client, &room, Some(&member)));
                assert!(client.hear().contains("subscription_succeeded"));
                clients.push(client);
                let info = format!("/channels/{channel}?info=subscription_count");
                let told = format!(r#"{{"occupied":true,"subscription_count":{count}}}"#);
                tells(server, &info, &told);
                let info = format!("/channels/{room}?info=user_count");
                let told = format!(r#"{{"occupied":true,"user_count":{count}}}"#);
                tells(server, &info, &told);
            }
            for id in 1..=4 {
                leave(&mut clients[id - 1]);
                let left = (id + 1..=4).map(|id| format!(r#"{{"id":{id}}}"#));
                let users = left.collect::<Vec<_>>().join(",");
                let (status, told) = match id {
                    4 => ("404 Not Found", "{}".to_owned()),
                    _ => ("200 OK", format!(r#"{{"users":[{users}]}}"#)),
                };
                is_told(server, &format!("/channels/{room}/users"), status, &told);
            }
        }
    });
}

#[test]
fn r160_r163_questions_are_asked_with_get_or_head() {
    on_every_server(|server| {
        let mut client = Client::open(server);
        for path in [
            "/channels",
            "/channels/c1",
            "/channels/presence-x/users",
            "/connections",
        ] {
            for method in ["POST", "DELETE", "OPTIONS"] {
                let refused = text("405 Method Not Allowed", "Method not allowed.");
                let request = call_request("1", method, path, "");
                is_answered(server, request, &allowing("GET", &refused));
            }
            // Its answer has the length of the other's body, and none itself.
            let other = call(server, &call_request("1", "GET", path, ""));
            client.raw(call_request("1", "HEAD", path, ""));
            let head = client.head();
            let length = format!("Content-Length: {}\r\n", other.body.len());
            assert!(head.contains(&length), "{head}");
            assert_eq!(head.lines().next(), other.head.lines().next());
        }
        client.raw(request("GET", "/up", "", ""));
        hears(&mut client, &answers::healthy(), "nothing was left over");
    });
}

#[test]
fn r179_a_parameter_that_is_a_list_is_signed_as_one_and_refused_by_name() {
    on_every_server(|server| {
        for (name, spoken) in [("info", "info"), ("filter_by_prefix", "filter by prefix")] {
            let request = call_request("1", "GET", &format!("/channels?{name}=a,b"), "");
            let request =
                request.replacen(&format!("{name}=a,b"), &format!("{name}[]=a&{name}[]=b"), 1);
            let body = format!(r#"{{"{name}":["The {spoken} field must be a string."]}}"#);
            is_answered(server, request, &json("422 Unprocessable Content", &body));
        }
    });
}

#[test]
fn questions_that_are_pipelined_are_answered_in_order() {
    on_every_server(|server| {
        let _crowd = crowd(server);
        let mut client = Client::open(server);
        let event = r#"{"name":"e","channel":"c1","data":"1","info":"subscription_count"}"#;
        let calls = [
            call_request("1", "GET", "/connections", ""),
            call_request("1", "POST", "/events", event),
            call_request("1", "GET", "/channels/c1", ""),
            call_request("1", "GET", "/channels?filter_by_prefix=c1", "")
                .replace("Host:", "Connection: close\r\nHost:"),
        ];
        client.raw(calls.concat());
        // It writes no more, and is answered all the same.
        client.finish();
        for body in [
            r#"{"connections":3}"#,
            r#"{"channels":{"c1":{"subscription_count":2}}}"#,
            r#"{"occupied":true}"#,
        ] {
            hears(&mut client, &json("200 OK", body), body);
        }
        let last = json("200 OK", r#"{"channels":{"c1":{}}}"#);
        hears(&mut client, &closing(&last), "the last");
        client.ends();
    });
}

#[test]
fn an_answer_larger_than_a_backlog_reaches_a_caller_that_reads_late() {
    let settings = [("SLAPBACK_BACKLOG_BYTES", "65536")];
    harness::on_every_fleet(|fleet| {
        let server = &Server::start(fleet, &settings);
        let mut client = Client::of_app(server, "1");
        let name = "n".repeat(9000);
        for number in 0..1000 {
            client.subscribe(&format!("{number:03}{name}"));
        }
        let mut caller = Client::open(server);
        caller.raw(call_request("1", "GET", "/channels", ""));
        // A second call goes through the same shard or another; the first answer is not read yet.
        tells(server, "/connections", r#"{"connections":1}"#);
        let answer = caller.answer();
        assert_eq!(answer.status, 200);
        let listed = (0..1000).map(|number| format!(r#""{number:03}{name}":{{}}"#));
        let listed = listed.collect::<Vec<_>>().join(",");
        assert_eq!(answer.body, format!(r#"{{"channels":{{{listed}}}}}"#));
    });
}
