//! `POST /apps/{id}/users/{user}/terminate_connections`: a user's sockets are closed wherever they
//! are, and those of others stay (R-222 to R-225).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use answers::{allowing, is_answered, json, taken, text};
use channels::{member_removed, signed, unsubscribe};
use harness::api::call_request;
use harness::{Client, Frame, Opcode, Server, on_every_server};

mod answers;
mod channels;
mod harness;

const CLOSED: (u16, &str) = (4009, "Terminated by the application");

/// Terminates a user of app-1; it must be answered `{}`.
#[track_caller]
fn terminate(server: &Server, user: &str) {
    let path = format!("/users/{user}/terminate_connections");
    is_answered(server, call_request("1", "POST", &path, ""), &taken());
}

/// The next frames are these members that came or went, and then this.
fn hears_behind_members(client: &mut Client) -> Frame {
    loop {
        let frame = client.hear_frame();
        let text = String::from_utf8_lossy(&frame.payload);
        if frame.opcode != Opcode::TEXT || !text.contains("pusher_internal:member_") {
            return frame;
        }
    }
}

/// The socket is closed with the code that keeps pusher-js away, and nothing else is said.
#[track_caller]
fn is_terminated(client: &mut Client) {
    let (code, reason) = CLOSED;
    assert_eq!(hears_behind_members(client), Frame::close(code, reason));
    client.send(
        Opcode::CLOSE,
        harness::close_payload(code, reason.as_bytes()),
    );
    client.ends();
}

/// Nothing but members has been said to it, and it is open.
#[track_caller]
fn lives(client: &mut Client) {
    client.say(r#"{"event":"pusher:ping"}"#);
    let frame = hears_behind_members(client);
    assert_eq!(frame.payload, harness::PONG.as_bytes());
}

/// A socket of app-1 on a presence channel; `id` is JSON.
fn member(server: &Server, channel: &str, id: &str) -> Client {
    let mut client = Client::of_app(server, "1");
    enter(&mut client, channel, id);
    client
}

fn enter(client: &mut Client, channel: &str, id: &str) {
    let data = format!(r#"{{"user_id":{id},"user_info":{{}}}}"#);
    client.say(signed("1", client, channel, Some(&data)));
    let frame = hears_behind_members(client);
    let text = String::from_utf8(frame.payload).unwrap();
    assert!(text.contains("subscription_succeeded"), "{text}");
}

fn told(server: &Server, path: &str, expected: &str) {
    let request = call_request("1", "GET", path, "");
    is_answered(server, request, &json("200 OK", expected));
}

#[test]
fn r222_all_sockets_of_a_user_are_closed_and_gone_from_every_channel() {
    on_every_server(|server| {
        let mut others = [(); 4].map(|()| member(server, "presence-x", r#""2""#));
        let mut theirs = [(); 8].map(|()| member(server, "presence-x", r#""1""#));
        for client in &mut theirs {
            client.subscribe("news");
            enter(client, "presence-y", r#""1""#);
        }
        for client in &mut others {
            lives(client);
        }
        terminate(server, "1");
        // They are gone when the answer is there, whoever is asked.
        told(server, "/connections", r#"{"connections":4}"#);
        told(
            server,
            "/channels?info=user_count,subscription_count",
            r#"{"channels":{"presence-x":{"user_count":1}}}"#,
        );
        told(
            server,
            "/channels/presence-x/users",
            r#"{"users":[{"id":"2"}]}"#,
        );
        for client in &mut theirs {
            is_terminated(client);
        }
        for client in &mut others {
            assert_eq!(client.hear(), member_removed("presence-x", r#""1""#));
            client.hears_nothing();
        }
    });
}

#[test]
fn r222_ids_are_compared_as_strings() {
    on_every_server(|server| {
        let sent = ["1", r#""1""#, r#""\u0031""#, "true", "1.0"];
        let mut theirs = sent.map(|id| member(server, "presence-x", id));
        let mut others =
            ["11", r#""a""#, "0", r#""1 ""#].map(|id| member(server, "presence-x", id));
        terminate(server, "1");
        for client in &mut theirs {
            is_terminated(client);
        }
        for client in &mut others {
            lives(client);
        }
        terminate(server, "%61");
        is_terminated(&mut others[1]);
        let mut odd = member(server, "presence-x", r#""a b/\u00e9\"""#);
        let path = "/users/a%20b%2F%C3%A9%22/terminate_connections";
        let missing = text("404 Not Found", "Not found.");
        is_answered(server, call_request("1", "POST", path, ""), &missing);
        let mut quoted = member(server, "presence-x", r#""é\"""#);
        terminate(server, "%C3%A9%22");
        is_terminated(&mut quoted);
        lives(&mut odd);
    });
}

#[test]
fn r222_every_presence_channel_of_a_socket_is_looked_at_and_no_other() {
    on_every_server(|server| {
        let mut late = Client::of_app(server, "1");
        late.subscribe("news");
        enter(&mut late, "presence-x", r#""2""#);
        enter(&mut late, "presence-y", r#""1""#);
        let mut former = member(server, "presence-x", r#""1""#);
        former.say(unsubscribe("presence-x"));
        lives(&mut former);
        let mut renamed = member(server, "presence-x", r#""1""#);
        enter(&mut renamed, "presence-x", r#""3""#);
        // Data of a public channel names no user.
        let mut public = Client::of_app(server, "1");
        public.say(channels::subscribe(
            r#""channel":"news","channel_data":"{\"user_id\":\"1\"}""#,
        ));
        assert!(public.hear().contains("subscription_succeeded"));
        let mut cached = member(server, "presence-cache-k", "1");
        assert!(cached.hear().contains("pusher:cache_miss"));
        terminate(server, "1");
        is_terminated(&mut late);
        is_terminated(&mut cached);
        for client in [&mut former, &mut renamed, &mut public] {
            lives(client);
        }
    });
}

#[test]
fn r222_other_apps_users_stay() {
    on_every_server(|server| {
        let mut foreign = Client::of_app(server, "all");
        let data = r#"{"user_id":"1","user_info":{}}"#;
        foreign.say(signed("all", &foreign, "presence-x", Some(data)));
        assert!(foreign.hear().contains("subscription_succeeded"));
        let mut own = member(server, "presence-x", r#""1""#);
        terminate(server, "1");
        is_terminated(&mut own);
        foreign.hears_nothing();
    });
}

#[test]
fn r222_a_user_may_come_back_and_be_terminated_again() {
    on_every_server(|server| {
        let mut watcher = member(server, "presence-x", r#""w""#);
        for _ in 0..5 {
            let mut client = member(server, "presence-x", r#""1""#);
            assert!(watcher.hear().contains("member_added"));
            terminate(server, "1");
            assert_eq!(watcher.hear(), member_removed("presence-x", r#""1""#));
            is_terminated(&mut client);
        }
        watcher.hears_nothing();
    });
}

#[test]
fn r222_what_is_sent_as_a_body_does_not_matter() {
    on_every_server(|server| {
        for body in ["", "{}", "nope"] {
            let mut client = member(server, "presence-x", r#""1""#);
            let path = "/users/1/terminate_connections";
            is_answered(server, call_request("1", "POST", path, body), &taken());
            is_terminated(&mut client);
        }
    });
}

#[test]
fn r224_who_has_no_user_is_no_hindrance() {
    on_every_server(|server| {
        terminate(server, "1");
        let mut before = Client::of_app(server, "1");
        before.subscribe("pub");
        let mut client = Client::of_app(server, "1");
        client.subscribe("pub");
        enter(&mut client, "presence-x", r#""1""#);
        let mut nameless = Client::of_app(server, "1");
        nameless.say(signed("1", &nameless, "presence-x", None));
        assert!(hears_behind_members(&mut nameless).opcode == Opcode::TEXT);
        let mut after = Client::of_app(server, "1");
        terminate(server, "nobody");
        terminate(server, "1");
        is_terminated(&mut client);
        for client in [&mut before, &mut nameless, &mut after] {
            lives(client);
        }
    });
}

#[test]
fn r223_r225_there_is_one_path_and_one_method() {
    on_every_server(|server| {
        let mut client = member(server, "presence-x", r#""1""#);
        let path = "/users/1/terminate_connections";
        let refused = text("405 Method Not Allowed", "Method not allowed.");
        for method in ["GET", "HEAD", "DELETE"] {
            let mut expected = allowing("POST", &refused);
            if method == "HEAD" {
                expected.truncate(expected.len() - "Method not allowed.".len());
            }
            is_answered(server, call_request("1", method, path, ""), &expected);
        }
        let missing = text("404 Not Found", "Not found.");
        for path in [
            "/channels/users/1/terminate_connections",
            "/users/1",
            "/users//terminate_connections",
        ] {
            is_answered(server, call_request("1", "POST", path, ""), &missing);
        }
        client.hears_nothing();
    });
}
