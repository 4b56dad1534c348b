//! What the API tells of several nodes, and what PHP's nodes are told by ours (R-230 to R-234).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use channels::{enter, heard, member_added, signed};
use harness::{Client, Server, api};
use nodes::{Cluster, FLEETS, on_nodes, on_slapback_nodes, subscribed};
use rustix::process::Signal;
use serde_json::json;

mod channels;
mod harness;
mod nodes;

/// A question that nobody keeps waiting is answered long before.
const AT_ONCE: Duration = Duration::from_secs(3);

fn told(node: &Server, path: &str) -> (u16, String) {
    let answer = api::call(node, &api::call_request("1", "GET", path, ""));
    (answer.status, answer.body)
}

/// Whichever node is asked says so.
#[track_caller]
fn all_tell(nodes: &[Server], path: &str, expected: &str) {
    for node in nodes {
        let since = Instant::now();
        assert_eq!(told(node, path), (200, expected.to_owned()), "{path}");
        assert!(
            since.elapsed() < AT_ONCE,
            "{path} took {:?}",
            since.elapsed()
        );
    }
}

/// A socket of app-1 on a presence channel, beside whatever it is told of others.
fn member(node: &Server, channel: &str, user: &str) -> Client {
    let mut client = Client::of_app(node, "1");
    let data = format!(r#"{{"user_id":"{user}","user_info":{{"n":"x"}}}}"#);
    client.say(signed("1", &client, channel, Some(&data)));
    let text = client.hear();
    assert!(
        text.contains("pusher_internal:subscription_succeeded"),
        "{text}"
    );
    client
}

/// Two on c1 at the first node and one at the second; on presence-x user 1 at both, user 2 at the
/// second; presence-y and private-p at the second alone; one socket on nothing.
fn crowd(nodes: &[Server]) -> Vec<Client> {
    let [a, b] = [&nodes[0], &nodes[1]];
    let mut private = Client::of_app(b, "1");
    enter("1", &mut private, "private-p");
    vec![
        subscribed(a, "c1"),
        subscribed(a, "c1"),
        subscribed(b, "c1"),
        member(a, "presence-x", "1"),
        member(b, "presence-x", "1"),
        member(b, "presence-x", "2"),
        member(b, "presence-y", "3"),
        private,
        Client::of_app(a, "1"),
    ]
}

#[test]
fn r231_all_nodes_together_are_what_the_api_tells_of() {
    on_slapback_nodes(2, |nodes, _redis| {
        let _crowd = crowd(nodes);
        for (path, expected) in [
            ("/connections", r#"{"connections":9}"#),
            (
                "/channels",
                r#"{"channels":{"c1":{},"presence-x":{},"presence-y":{},"private-p":{}}}"#,
            ),
            (
                "/channels?info=subscription_count",
                concat!(
                    r#"{"channels":{"c1":{"subscription_count":3},"presence-x":{},"#,
                    r#""presence-y":{},"private-p":{"subscription_count":1}}}"#,
                ),
            ),
            (
                "/channels?filter_by_prefix=presence-&info=user_count",
                r#"{"channels":{"presence-x":{"user_count":3},"presence-y":{"user_count":1}}}"#,
            ),
            (
                "/channels/c1?info=subscription_count",
                r#"{"occupied":true,"subscription_count":3}"#,
            ),
            ("/channels/nobody", r#"{"occupied":false}"#),
            (
                "/channels/presence-x?info=user_count",
                r#"{"occupied":true,"user_count":3}"#,
            ),
        ] {
            all_tell(nodes, path, expected);
        }
        let (status, users) = told(&nodes[1], "/channels/presence-x/users");
        assert_eq!(
            (status, &*users),
            (200, r#"{"users":[{"id":"1"},{"id":"2"}]}"#)
        );
    });
}

#[test]
fn r231_a_channel_that_only_another_node_has_is_there_at_all() {
    on_slapback_nodes(2, |nodes, _redis| {
        let _crowd = crowd(nodes);
        all_tell(
            nodes,
            "/channels/presence-y/users",
            r#"{"users":[{"id":"3"}]}"#,
        );
        all_tell(nodes, "/channels/private-p", r#"{"occupied":true}"#);
        for node in nodes.iter() {
            assert_eq!(told(node, "/channels/private-p/users").0, 400);
            assert_eq!(told(node, "/channels/presence-z/users").0, 404);
        }
    });
}

#[test]
fn r231_an_event_and_a_batch_tell_of_all_nodes_what_was_asked() {
    on_slapback_nodes(2, |nodes, _redis| {
        let mut crowd = crowd(nodes);
        let body = concat!(
            r#"{"name":"e","channels":["c1","none"],"data":"1","#,
            r#""info":"subscription_count,user_count"}"#,
        );
        let answer = api::publish(&nodes[0], "1", body);
        let expected = r#"{"channels":{"c1":{"subscription_count":3},"none":{}}}"#;
        assert_eq!((answer.status, &*answer.body), (200, expected));
        let body = concat!(
            r#"{"batch":[{"name":"e","channel":"c1","data":"2","info":"subscription_count"},"#,
            r#"{"name":"e","channel":"c1","data":"3"},"#,
            r#"{"name":"e","channel":"presence-x","data":"4","info":"user_count"}]}"#,
        );
        let answer = api::call(
            &nodes[1],
            &api::call_request("1", "POST", "/batch_events", body),
        );
        let expected = r#"{"batch":[{"subscription_count":3},{},{"user_count":3}]}"#;
        assert_eq!((answer.status, &*answer.body), (200, expected));
        for client in &mut crowd[..3] {
            for data in ["1", "2", "3"] {
                let text = client.hear();
                assert!(text.contains(&format!(r#""data":"{data}""#)), "{text}");
            }
        }
    });
}

#[test]
fn r231_what_a_php_node_knows_is_counted_too() {
    on_nodes(2, |Cluster { nodes, php, .. }| {
        let _crowd = crowd(nodes);
        php.knows("CONNECTIONS", &json!({"1.1": {}, "2.2": {}}));
        php.knows(
            "CHANNEL",
            &json!({"occupied": true, "subscription_count": 41}),
        );
        php.knows("CHANNEL_USERS", &json!([{"id": "2"}, {"id": "9"}]));
        php.knows(
            "CHANNELS",
            &json!({
                "c1": {"subscription_count": 40},
                "php": {"subscription_count": 2},
            }),
        );
        all_tell(nodes, "/connections", r#"{"connections":11}"#);
        all_tell(
            nodes,
            "/channels/c1?info=subscription_count",
            r#"{"occupied":true,"subscription_count":44}"#,
        );
        all_tell(
            nodes,
            "/channels?filter_by_prefix=c&info=subscription_count",
            r#"{"channels":{"c1":{"subscription_count":43},"php":{"subscription_count":2}}}"#,
        );
        let users = r#"{"users":[{"id":"1"},{"id":"2"},{"id":"9"}]}"#;
        assert_eq!(
            told(&nodes[1], "/channels/presence-x/users"),
            (200, users.to_owned())
        );
        let body = r#"{"name":"e","channel":"c1","data":"1","info":"subscription_count"}"#;
        let answer = api::publish(&nodes[0], "1", body);
        assert_eq!(
            answer.body,
            r#"{"channels":{"c1":{"subscription_count":43}}}"#
        );
    });
}

#[test]
fn questions_are_put_to_php_nodes_as_reverb_puts_them() {
    on_nodes(1, |Cluster { nodes, php, .. }| {
        let event = r#"{"name":"e","channel":"c1","data":"1","info":"subscription_count"}"#;
        for (path, metric, options) in [
            ("/connections", "CONNECTIONS", json!([])),
            (
                "/channels",
                "CHANNELS",
                json!({"filter": null, "info": null}),
            ),
            (
                "/channels?filter_by_prefix=presence-&info=user_count",
                "CHANNELS",
                json!({"filter": "presence-", "info": "user_count"}),
            ),
            (
                "/channels/c1?info=subscription_count",
                "CHANNEL",
                json!({"channel": "c1", "info": "subscription_count,occupied"}),
            ),
            (
                "/channels/c1",
                "CHANNEL",
                json!({"channel": "c1", "info": "occupied"}),
            ),
            (
                "/channels/presence-x/users",
                "CHANNEL_USERS",
                json!({"channel": "presence-x"}),
            ),
        ] {
            told(&nodes[0], path);
            let asked = php.hears("metrics");
            assert_eq!(
                (&asked["type"], &asked["options"]),
                (&json!(metric), &options)
            );
        }
        api::publish(&nodes[0], "1", event);
        let asked = php.hears("metrics");
        let options = json!({"info": "subscription_count", "channels": ["c1"]});
        assert_eq!(
            (&asked["type"], &asked["options"]),
            (&json!("CHANNELS"), &options)
        );
    });
}

#[test]
fn r231_php_nodes_are_answered_in_their_own_form_and_at_once() {
    on_nodes(2, |Cluster { nodes, php, .. }| {
        let _crowd = crowd(nodes);
        for (metric, options, expected) in [
            ("CONNECTIONS", json!([]), json!(9)),
            (
                "CHANNELS",
                json!({"filter": null, "info": null}),
                json!({"c1": [], "presence-x": [], "presence-y": [], "private-p": []}),
            ),
            (
                "CHANNELS",
                json!({"filter": "presence-", "info": "user_count"}),
                json!({"presence-x": {"user_count": 3}, "presence-y": {"user_count": 1}}),
            ),
            (
                "CHANNELS",
                json!({"info": "subscription_count", "channels": ["c1"]}),
                json!({"c1": {"subscription_count": 3}}),
            ),
            (
                "CHANNEL",
                json!({"channel": "c1", "info": "subscription_count,occupied"}),
                json!({"occupied": true, "subscription_count": 3}),
            ),
            (
                "CHANNEL_USERS",
                json!({"channel": "presence-y"}),
                json!([{"id": "3"}]),
            ),
            ("CHANNEL_USERS", json!({"channel": "presence-z"}), json!([])),
        ] {
            let (answer, took_ms) = php.asks(metric, &options);
            assert_eq!(answer, expected, "{metric} {options}");
            assert!(
                u128::from(took_ms) < AT_ONCE.as_millis(),
                "{metric}: {took_ms} ms"
            );
        }
    });
}

#[test]
fn r232_whoever_never_answers_is_waited_for_once() {
    on_slapback_nodes(2, |nodes, redis| {
        let _crowd = crowd(nodes);
        let mut silent = redis.client();
        silent.say(&["SUBSCRIBE", "reverb"]);
        assert_eq!(silent.hear(), "subscribe\nreverb\n1");
        let ask = || {
            let since = Instant::now();
            assert_eq!(told(&nodes[0], "/connections").1, r#"{"connections":9}"#);
            since.elapsed()
        };
        let first = ask();
        assert!(
            first >= Duration::from_secs(10) && first < Duration::from_secs(12),
            "{first:?}"
        );
        for _ in 0..3 {
            let next = ask();
            assert!(next >= Duration::from_millis(250), "{next:?}");
            assert!(next < Duration::from_secs(2), "{next:?}");
        }
        // A question and its answers were all that it heard.
        drop(silent);
    });
}

#[test]
fn r234_a_user_is_terminated_on_every_node() {
    const CLOSED: (u16, &str) = (4009, "Terminated by the application");
    on_nodes(2, |Cluster { nodes, php, .. }| {
        let channel = "presence-x";
        for round in 0..2 {
            let mut theirs = [&nodes[0], &nodes[1]].map(|node| member(node, channel, "1"));
            let mut others = [&nodes[0], &nodes[1]].map(|node| subscribed(node, "c"));
            if round == 0 {
                let path = "/users/1/terminate_connections";
                let request = api::call_request("1", "POST", path, "");
                let answer = api::call(&nodes[0], &request);
                assert_eq!((answer.status, &*answer.body), (200, "{}"));
                let heard_there = php.hears("terminate");
                assert_eq!(heard_there["payload"], json!({"user_id": "1"}));
            } else {
                php.terminate("1");
            }
            for client in &mut theirs {
                client.is_closed_with(CLOSED.0, CLOSED.1);
            }
            for client in &mut others {
                client.hears_nothing();
            }
        }
    });
}

#[test]
fn while_redis_is_away_a_node_tells_what_it_knows_and_terminates_what_it_has() {
    on_slapback_nodes(2, |nodes, redis| {
        let mut here = member(&nodes[0], "presence-x", "1");
        let mut there = member(&nodes[1], "presence-x", "1");
        redis.kill();
        nodes[0].says("redis: scaling (hearing) does not work");
        let since = Instant::now();
        assert_eq!(told(&nodes[0], "/connections").1, r#"{"connections":1}"#);
        let request = api::call_request("1", "POST", "/users/1/terminate_connections", "");
        assert_eq!(api::call(&nodes[0], &request).status, 200);
        here.is_closed_with(4009, "Terminated by the application");
        assert!(since.elapsed() < AT_ONCE);
        there.hears_nothing();
        redis.revive();
        there.is_closed_with(4009, "Terminated by the application");
    });
}

#[test]
fn a_question_that_waits_when_redis_goes_away_waits_no_longer() {
    on_slapback_nodes(2, |nodes, redis| {
        let _here = subscribed(&nodes[0], "c1");
        let mut silent = redis.client();
        silent.say(&["SUBSCRIBE", "reverb"]);
        assert_eq!(silent.hear(), "subscribe\nreverb\n1");
        let since = Instant::now();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| told(&nodes[0], "/connections"));
            // It is on its way once the stranger hears it.
            assert!(silent.hear().contains("metrics"));
            redis.kill();
            assert_eq!(asked.join().unwrap().1, r#"{"connections":1}"#);
        });
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    });
}

#[test]
fn a_node_that_has_died_is_not_waited_for() {
    on_nodes(2, |cluster| {
        let third = cluster.another();
        let _there = subscribed(&third, "c1");
        all_tell(
            &cluster.nodes,
            "/channels/c1?info=subscription_count",
            r#"{"occupied":true,"subscription_count":1}"#,
        );
        drop(third);
        all_tell(&cluster.nodes, "/channels/c1", r#"{"occupied":false}"#);
    });
}

/// All that they are told would be more than Redis lets a node be owed.
#[test]
fn many_that_ask_for_long_lists_at_once_are_told_all() {
    const CHANNELS: usize = 20_000;
    let name = "x".repeat(140);
    on_slapback_nodes(2, |nodes, _| {
        let mut client = Client::of_app(&nodes[1], "1");
        for number in 0..CHANNELS {
            client.subscribe(&format!("{name}-{number}"));
        }
        std::thread::scope(|scope| {
            let ask = || told(&nodes[0], "/channels").1.matches(":{}").count();
            let askers: Vec<_> = (0..60).map(|_| scope.spawn(ask)).collect();
            let told = askers.into_iter().map(|asker| asker.join().unwrap());
            told.for_each(|told| assert_eq!(told, CHANNELS));
        });
    });
}

#[test]
fn a_node_that_is_slow_is_not_taken_for_a_silent_one_that_has_left() {
    on_slapback_nodes(2, |nodes, redis| {
        let _there = subscribed(&nodes[1], "c1");
        let all = r#"{"channels":{"c1":{}}}"#;
        let mut silent = redis.client();
        silent.ask(&["SUBSCRIBE", "reverb"]);
        assert_eq!(told(&nodes[0], "/channels").1, all);
        drop(silent);
        nodes[1].signal(Signal::STOP);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| told(&nodes[0], "/channels").1);
            // Twice as long as one that is silent would be waited for.
            std::thread::sleep(Duration::from_millis(500));
            nodes[1].signal(Signal::CONT);
            assert_eq!(asked.join().unwrap(), all);
        });
    });
}

/// Questions are put all the time while one node after another leaves.
#[test]
fn a_node_that_leaves_keeps_no_question_waiting() {
    const ASKERS: usize = 4;
    on_slapback_nodes(2, |nodes, redis| {
        let [asked, leaving] = nodes else {
            panic!("two nodes");
        };
        let is_over = AtomicBool::new(false);
        let ask = || {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                all_tell(
                    std::slice::from_ref(asked),
                    "/channels",
                    r#"{"channels":{}}"#,
                );
                count += 1;
            }
            count
        };
        std::thread::scope(|scope| {
            let askers: Vec<_> = (0..ASKERS).map(|_| scope.spawn(ask)).collect();
            for _ in 0..5 {
                assert_eq!(leaving.terminate().code(), Some(0));
                *leaving = nodes::start(FLEETS[0][0], redis, &[]);
                leaving.is_on_the_bus();
            }
            is_over.store(true, Ordering::Relaxed);
            let counts = askers.into_iter().map(|asker| asker.join().unwrap());
            assert!(counts.sum::<u32>() > 0, "nobody asked anything");
        });
    });
}

/// G-378: each node lets in as many as the app may have.
#[test]
fn a_quota_of_connections_is_that_of_a_node() {
    on_slapback_nodes(2, |nodes, _redis| {
        let sockets = nodes.iter().flat_map(|node| [node, node]);
        let sockets: Vec<_> = sockets.map(|node| Client::of_app(node, "max")).collect();
        let asked = api::call_request("max", "GET", "/connections", "");
        let expected = format!(r#"{{"connections":{}}}"#, sockets.len());
        assert_eq!(api::call(&nodes[1], &asked).body, expected);
    });
}

#[test]
fn members_of_one_node_are_not_told_of_those_of_another() {
    on_nodes(2, |Cluster { nodes, .. }| {
        let mut here = member(&nodes[0], "presence-x", "1");
        let _there = member(&nodes[1], "presence-x", "2");
        let _here_too = member(&nodes[0], "presence-x", "3");
        let three = r#"{"user_id":"3","user_info":{"n":"x"}}"#;
        assert_eq!(here.hear(), member_added("presence-x", three));
        api::publish_event(&nodes[1], "1", "presence-x", "e", "x");
        assert_eq!(here.hear(), heard("e", "x", "presence-x"));
        here.hears_nothing();
    });
}
