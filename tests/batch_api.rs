//! `POST /apps/{id}/batch_events`: many events in one call, taken whole and in order (R-202 to
//! R-209).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::thread;

use answers::{bad_request, is_answered, json};
use channels::{join, member_added};
use harness::api::{call, call_request};
use harness::{Client, Server, on_every_server};

mod answers;
mod channels;
mod harness;

const TAKEN: &str = r#"{"batch":{}}"#;

fn request(body: &str) -> String {
    call_request("1", "POST", "/batch_events", body)
}

/// Publishes a batch to app-1; it must be taken and answered with this.
#[track_caller]
fn publish(server: &Server, items: &[&str], told: &str) {
    let body = format!(r#"{{"batch":[{}]}}"#, items.join(","));
    is_answered(server, request(&body), &json("200 OK", told));
}

/// Publishes a body to app-1; it must be refused with these errors.
#[track_caller]
fn refused(server: &Server, body: &str, errors: &str) {
    let expected = json("422 Unprocessable Content", errors);
    is_answered(server, request(body), &expected);
}

/// A socket of app-1 on these channels.
fn subscriber(server: &Server, channels: &[&str]) -> Client {
    let mut client = Client::of_app(server, "1");
    for channel in channels {
        client.subscribe(channel);
    }
    client
}

#[test]
fn r202_a_batch_is_delivered_with_its_own_order_of_keys() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["c1", "c2"]);
        let one = r#"{"name":"App\\Events\\E","channel":"c1","data":"{\"x\":1}"}"#;
        publish(server, &[one], TAKEN);
        let heard = r#"{"event":"App\\Events\\E","channel":"c1","data":"{\"x\":1}"}"#;
        assert_eq!(client.hear(), heard);
        let two = r#"{"name":"e2","channel":"c2","data":"\"str\"","foo":1}"#;
        let nobody = r#"{"name":"e3","channel":"nobody","data":"1"}"#;
        publish(server, &[one, nobody, two], TAKEN);
        assert_eq!(client.hear(), heard);
        assert_eq!(
            client.hear(),
            r#"{"event":"e2","channel":"c2","data":"\"str\""}"#
        );
        client.hears_nothing();
    });
}

#[test]
fn r203_r204_each_event_is_told_of_what_it_asks() {
    on_every_server(|server| {
        let mut one = subscriber(server, &["c1"]);
        let mut two = subscriber(server, &["c1"]);
        let [ann, bob] = ["1", "2"].map(|id| format!(r#"{{"user_id":"{id}","user_info":1}}"#));
        let alone = r#"{"count":1,"ids":["1"],"hash":{"1":1}}"#;
        join("1", &mut one, "presence-x", &ann, alone);
        let both = r#"{"count":2,"ids":["1","2"],"hash":{"1":1,"2":1}}"#;
        join("1", &mut two, "presence-x", &bob, both);
        assert_eq!(one.hear(), member_added("presence-x", &bob));
        let item = |channel: &str, more: &str| {
            format!(r#"{{"name":"e","channel":"{channel}","data":"1"{more}}}"#)
        };
        let counted = item("c1", r#","info":"subscription_count,user_count""#);
        let users = item("presence-x", r#","info":"user_count""#);
        let nobody = item("nobody", r#","info":"subscription_count""#);
        let blank = item("c1", r#","info":"""#);
        let plain = item("c1", "");
        publish(
            server,
            &[&counted, &users],
            r#"{"batch":[{"subscription_count":2},{"user_count":2}]}"#,
        );
        publish(
            server,
            &[&counted, &plain],
            r#"{"batch":[{"subscription_count":2},{}]}"#,
        );
        publish(server, &[&nobody], r#"{"batch":[{}]}"#);
        publish(server, &[&blank], r#"{"batch":[{}]}"#);
        publish(
            server,
            &[&counted, &counted],
            r#"{"batch":[{"subscription_count":2},{"subscription_count":2}]}"#,
        );
        for client in [&mut one, &mut two] {
            for channel in ["c1", "presence-x", "c1", "c1", "c1", "c1", "c1"] {
                let heard = format!(r#"{{"event":"e","channel":"{channel}","data":"1"}}"#);
                assert_eq!(client.hear(), heard);
            }
            client.hears_nothing();
        }
    });
}

#[test]
fn r205_each_event_leaves_out_the_socket_that_it_names() {
    on_every_server(|server| {
        let mut one = subscriber(server, &["c1"]);
        let mut two = subscriber(server, &["c1"]);
        let item = |name: &str, socket: &str| {
            format!(r#"{{"name":"{name}","channel":"c1","data":"1","socket_id":"{socket}"}}"#)
        };
        let items = [
            item("a", &one.id),
            item("b", &two.id),
            item("c", "1.1"),
            item("d", "no id"),
        ];
        publish(server, &items.each_ref().map(String::as_str), TAKEN);
        for (client, names) in [(&mut one, ["b", "c", "d"]), (&mut two, ["a", "c", "d"])] {
            for name in names {
                let heard = format!(r#"{{"event":"{name}","channel":"c1","data":"1"}}"#);
                assert_eq!(client.hear(), heard);
            }
            client.hears_nothing();
        }
    });
}

#[test]
fn r206_r207_what_is_no_batch_is_refused() {
    on_every_server(|server| {
        for body in ["nope", "5", "null", r#""batch""#, "", r#"{"batch":[}"#] {
            is_answered(server, request(body), &bad_request());
        }
        for body in ["{}", "[]", r#"{"batch":[]}"#, r#"{"batch":null}"#] {
            refused(
                server,
                body,
                r#"{"batch":["The batch field is required."]}"#,
            );
        }
        for body in [r#"{"batch":"x"}"#, r#"{"batch":1}"#] {
            refused(
                server,
                body,
                r#"{"batch":["The batch field must be an array."]}"#,
            );
        }
    });
}

#[test]
fn r208_what_is_wrong_with_one_event_refuses_the_whole_batch() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["c1"]);
        let right = r#"{"name":"e","channel":"c1","data":"1"}"#;
        let not_present = |place: &str| {
            format!(
                r#""batch.{place}.channel":["The batch.{place}.channel field is required when channels is not present."]"#
            )
        };
        refused(
            server,
            r#"{"batch":[{"name":"e"},{"channel":"c"},{"data":"1"},{"name":"e","channel":"c","data":{}}]}"#,
            &[
                r#"{"batch.1.name":["The batch.1.name field is required."]"#,
                r#""batch.2.name":["The batch.2.name field is required."]"#,
                r#""batch.0.data":["The batch.0.data field is required."]"#,
                r#""batch.1.data":["The batch.1.data field is required."]"#,
                r#""batch.3.data":["The batch.3.data field is required."]"#,
                &not_present("0"),
                &format!("{}}}", not_present("2")),
            ]
            .join(","),
        );
        refused(
            server,
            r#"{"batch":[{"name":"e","channels":["c1"],"data":"1"}]}"#,
            &format!("{{{}}}", not_present("0")),
        );
        refused(
            server,
            &format!(
                r#"{{"batch":[{right},{{"name":5,"channel":[],"data":5,"socket_id":5,"info":[]}}]}}"#
            ),
            concat!(
                r#"{"batch.1.name":["The batch.1.name field must be a string."],"#,
                r#""batch.1.data":["The batch.1.data field must be a string."],"#,
                r#""batch.1.channel":["The batch.1.channel field is required when channels is not present."],"#,
                r#""batch.1.socket_id":["The batch.1.socket id field must be a string."],"#,
                r#""batch.1.info":["The batch.1.info field must be a string."]}"#
            ),
        );
        // Here Reverb finds nothing wrong, publishes what it can, and fails.
        refused(
            server,
            &format!(r#"{{"batch":[{right},{{"name":"e","data":"1"}}],"channels":["c1"]}}"#),
            r#"{"batch.1.channel":["The batch.1.channel field is required."]}"#,
        );
        client.hears_nothing();
    });
}

#[test]
fn r209_the_number_of_events_is_not_limited() {
    on_every_server(|server| {
        let mut client = subscriber(server, &["c1"]);
        let items =
            (0..150).map(|number| format!(r#"{{"name":"e{number}","channel":"c1","data":"1"}}"#));
        let items: Vec<String> = items.collect();
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        publish(server, &items, TAKEN);
        for number in 0..150 {
            let heard = format!(r#"{{"event":"e{number}","channel":"c1","data":"1"}}"#);
            assert_eq!(client.hear(), heard);
        }
        client.hears_nothing();
    });
}

#[test]
fn r121_a_cache_channel_keeps_the_event_of_a_batch_as_it_was_sent() {
    on_every_server(|server| {
        let item = |data: &str| {
            format!(r#"{{"name":"e","channel":"cache-k","data":"{data}","info":"cache"}}"#)
        };
        let items = [
            item("1"),
            r#"{"name":"e","channel":"c","data":"2"}"#.into(),
            item("3"),
        ];
        let items = items.each_ref().map(String::as_str);
        publish(server, &items, r#"{"batch":[{},{},{}]}"#);
        let mut client = subscriber(server, &["cache-k"]);
        let kept = r#"{"event":"e","channel":"cache-k","data":"3"}"#;
        assert_eq!(client.hear(), kept);
        client.hears_nothing();
        let cache = format!(r#"{{"cache":{kept}}}"#);
        publish(
            server,
            &items,
            &format!(r#"{{"batch":[{cache},{{}},{cache}]}}"#),
        );
    });
}

/// Several callers publish batches at once; nothing comes between the events of one.
#[test]
fn a_batch_is_taken_whole() {
    const EVENTS: usize = 20;
    const BATCHES: usize = 25;
    on_every_server(|server| {
        let mut clients = [(); 4].map(|()| subscriber(server, &["c1", "c2"]));
        let batch = |publisher: usize| {
            let item = |event: usize| {
                let channel = ["c1", "c2"][event % 2];
                format!(r#"{{"name":"{publisher}","channel":"{channel}","data":"{event}"}}"#)
            };
            let items: Vec<String> = (0..EVENTS).map(item).collect();
            format!(r#"{{"batch":[{}]}}"#, items.join(","))
        };
        thread::scope(|scope| {
            for publisher in 0..4 {
                scope.spawn(move || {
                    for _ in 0..BATCHES {
                        let answer = call(server, &request(&batch(publisher)));
                        assert_eq!((answer.status, answer.body.as_str()), (200, TAKEN));
                    }
                });
            }
        });
        for client in &mut clients {
            for _ in 0..4 * BATCHES {
                let first = client.hear();
                let publisher = first.split('"').nth(3).unwrap().to_owned();
                let heard = |event: usize| {
                    let channel = ["c1", "c2"][event % 2];
                    format!(r#"{{"event":"{publisher}","channel":"{channel}","data":"{event}"}}"#)
                };
                assert_eq!(first, heard(0));
                for event in 1..EVENTS {
                    assert_eq!(client.hear(), heard(event));
                }
            }
            client.hears_nothing();
        }
    });
}
