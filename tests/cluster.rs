//! Several nodes on one Redis: each event reaches the subscribers of all, once and in order, also
//! when Redis dies in the middle (R-226 to R-229, R-235 to R-239).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use channels::{enter, heard};
use harness::{Client, Fleet, Redis, Server, api};

mod channels;
mod harness;

/// What each node is started with; the drivers differ so that both are seen.
const FLEETS: [[Fleet; 2]; 2] = [
    [
        Fleet {
            shards: 1,
            driver: "uring",
        },
        Fleet {
            shards: 1,
            driver: "epoll",
        },
    ],
    [
        Fleet {
            shards: 4,
            driver: "epoll",
        },
        Fleet {
            shards: 4,
            driver: "uring",
        },
    ],
];

const HEARS: &str = "redis: scaling (hearing) works";

fn start(fleet: Fleet, redis: &Redis) -> Server {
    let port = redis.port.to_string();
    let scaling = [("REVERB_SCALING_ENABLED", "true"), ("REDIS_PORT", &port)];
    Server::start(fleet, &scaling)
}

fn is_on_the_bus(node: &Server) {
    node.says(HEARS);
    node.says("redis: scaling (publishing) works");
}

/// Runs a test on two nodes of one shard each, and of four, with a Redis of their own.
fn on_two_nodes(test: impl Fn([Server; 2], Redis) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for fleets in FLEETS {
            scope.spawn(move || {
                let redis = Redis::start();
                let nodes = fleets.map(|fleet| start(fleet, &redis));
                nodes.iter().for_each(is_on_the_bus);
                test(nodes, redis);
            });
        }
    });
}

fn subscribed(server: &Server, channel: &str) -> Client {
    let mut client = Client::of_app(server, "1");
    client.subscribe(channel);
    client
}

#[test]
fn r228_an_event_of_one_node_reaches_the_subscribers_of_both_but_for_the_socket_left_out() {
    on_two_nodes(|[a, b], _redis| {
        let mut clients = [&a, &a, &b, &b].map(|node| subscribed(node, "c"));
        for left_out in 0..4 {
            let socket = clients[left_out].id.clone();
            let body = format!(
                r#"{{"name":"e","channel":"c","data":"{left_out}","socket_id":"{socket}"}}"#
            );
            assert_eq!(api::publish(&a, "1", &body).status, 200);
            for (number, client) in clients.iter_mut().enumerate() {
                if number != left_out {
                    assert_eq!(client.hear(), heard("e", &left_out.to_string(), "c"));
                }
            }
        }
        for client in &mut clients {
            client.hears_nothing();
        }
    });
}

#[test]
fn r229_a_whisper_crosses_nodes_and_does_not_come_back() {
    on_two_nodes(|[a, b], _redis| {
        let mut clients = [&a, &a, &b].map(|node| {
            let mut client = Client::of_app(node, "1");
            enter("1", &mut client, "private-c");
            client
        });
        let whisper = r#"{"event":"client-e","channel":"private-c","data":{"n":1}}"#;
        clients[0].say(whisper);
        for client in &mut clients[1..] {
            assert_eq!(client.hear(), whisper);
        }
        clients[0].hears_nothing();
    });
}

#[test]
fn r226_r227_one_message_a_call_in_the_form_that_php_nodes_read() {
    on_two_nodes(|[a, _b], redis| {
        let mut php = redis.client();
        php.say(&["SUBSCRIBE", "reverb"]);
        assert_eq!(php.hear(), "subscribe\nreverb\n1");
        let application = concat!(
            r#"{"type":"message","application":"O:26:\"Laravel\\Reverb\\Application\":11:"#,
            r#"{s:5:\"\u0000*\u0000id\";s:5:\"app-1\";s:6:\"\u0000*\u0000key\";"#,
        );
        for (body, payload, socket) in [
            (
                r#"{"name":"e","channels":["c","d"],"data":"{\"x\":1}"}"#,
                r#""payload":{"event":"e","channels":["c","d"],"data":"{\"x\":1}"}"#,
                "",
            ),
            (
                r#"{"name":"e","channel":"c","data":"é/","socket_id":"12.34"}"#,
                r#""payload":{"event":"e","channels":["c"],"data":"\u00e9\/"}"#,
                r#","socket_id":"12.34""#,
            ),
        ] {
            assert_eq!(api::publish(&a, "1", body).status, 200);
            let said = php.hear();
            let message = said.lines().nth(2).unwrap();
            assert!(message.starts_with(application), "{message}");
            let rest = format!(r#"{payload}{socket},"node":""#);
            assert!(message.contains(&rest), "{message} has no {rest}");
        }
    });
}

#[test]
fn r235_r238_r239_what_others_say_is_delivered_as_it_is_or_skipped() {
    const LEAST: &str =
        r#""O:26:\"Laravel\\Reverb\\Application\":1:{s:5:\"\u0000*\u0000id\";s:5:\"app-1\";}""#;
    on_two_nodes(|[a, b], redis| {
        let mut clients = [&a, &b].map(|node| subscribed(node, "c"));
        let mut php = redis.client();
        for garbage in [
            "garbage",
            "1",
            "{}",
            "[]",
            r#"{"type":"message"}"#,
            r#"{"type":"message","application":"O:8:\"stdClass\":0:{}","payload":{}}"#,
            r#"{"type":"nothing","payload":{}}"#,
        ] {
            assert_eq!(php.publish("reverb", garbage), 2);
        }
        let payload = r#"{"event":"e","channel":"c","data":{"z":1,"a":[]},"extra":"é"}"#;
        let message = format!(r#"{{"type":"message","application":{LEAST},"payload":{payload}}}"#);
        assert_eq!(php.publish("reverb", &message), 2);
        for client in &mut clients {
            assert_eq!(client.hear(), payload);
            client.hears_nothing();
        }
        let said = a.said();
        assert_eq!(said.matches("a message is skipped").count(), 1, "{said}");
    });
}

#[test]
fn whoever_saw_200_from_one_node_is_not_overtaken_at_another() {
    const PAIRS: usize = 200;
    on_two_nodes(|[a, b], _redis| {
        let mut clients = [&a, &b].map(|node| subscribed(node, "c"));
        for pair in 0..PAIRS {
            for (node, name) in [(&a, "first"), (&b, "second")] {
                api::publish_event(node, "1", "c", name, &pair.to_string());
            }
        }
        for client in &mut clients {
            for pair in 0..PAIRS {
                for name in ["first", "second"] {
                    assert_eq!(client.hear(), heard(name, &pair.to_string(), "c"));
                }
            }
        }
    });
}

/// Publishes one after the other at a node while `until` has not come; gives how many were taken.
fn publish_until(node: &Server, name: &str, until: Instant) -> usize {
    let mut count = 0;
    while Instant::now() < until {
        let body = format!(r#"{{"name":"{name}","channel":"c","data":"{count}"}}"#);
        assert_eq!(api::publish(node, "1", &body).status, 200);
        count += 1;
    }
    count
}

/// Hears the events of both publishers, each in order and once.
fn hears_all(client: &mut Client, counts: [usize; 2]) {
    let mut next = [0; 2];
    while next != counts {
        let text = client.hear();
        let from = usize::from(text.contains(r#""event":"b""#));
        let name = ["a", "b"][from];
        assert_eq!(text, heard(name, &next[from].to_string(), "c"));
        next[from] += 1;
    }
    client.hears_nothing();
}

/// Publishers and subscribers on both nodes while something happens to Redis.
fn lives_through(nodes: &[Server; 2], during: Duration, happens: impl FnOnce() + Send) {
    let mut clients = nodes.each_ref().map(|node| subscribed(node, "c"));
    let until = Instant::now() + during;
    let counts = std::thread::scope(|scope| {
        let publishers = [(&nodes[0], "a"), (&nodes[1], "b")];
        let publishers =
            publishers.map(|(node, name)| scope.spawn(move || publish_until(node, name, until)));
        scope.spawn(happens);
        publishers.map(|publisher| publisher.join().unwrap())
    });
    assert!(counts.iter().all(|&count| count > 0));
    for client in &mut clients {
        hears_all(client, counts);
    }
}

#[test]
fn r236_r237_an_outage_of_redis_loses_nothing_and_stops_nobody() {
    on_two_nodes(|nodes, mut redis| {
        lives_through(&nodes, Duration::from_secs(7), || {
            std::thread::sleep(Duration::from_secs(1));
            redis.kill();
            std::thread::sleep(Duration::from_secs(5));
            redis.revive();
        });
        for node in &nodes {
            node.says("redis: scaling was away for ");
        }
    });
}

#[test]
fn r236_a_node_whose_redis_is_not_there_yet_serves_its_own_and_joins_later() {
    for fleets in FLEETS {
        let mut redis = Redis::start();
        redis.kill();
        let nodes = fleets.map(|fleet| start(fleet, &redis));
        let mut clients = nodes.each_ref().map(|node| subscribed(node, "c"));
        for (node, client) in nodes.iter().zip(&mut clients) {
            node.says("redis: scaling (hearing) does not work");
            api::publish_event(node, "1", "c", "e", "alone");
            assert_eq!(client.hear(), heard("e", "alone", "c"));
        }
        redis.revive();
        nodes.iter().for_each(is_on_the_bus);
        // What waited at each is told to the other, unless it was not heard yet.
        api::publish_event(&nodes[0], "1", "c", "e", "together");
        for client in &mut clients {
            let mut text = client.hear();
            if text == heard("e", "alone", "c") {
                text = client.hear();
            }
            assert_eq!(text, heard("e", "together", "c"));
        }
    }
}

#[test]
fn redis_killed_in_the_middle_again_and_again_loses_and_doubles_nothing() {
    const ROUNDS: usize = 5;
    on_two_nodes(|nodes, mut redis| {
        for _ in 0..ROUNDS {
            lives_through(&nodes, Duration::from_secs(2), || {
                std::thread::sleep(Duration::from_millis(300));
                redis.kill();
                redis.revive();
            });
        }
    });
}

#[test]
fn a_redis_that_stands_still_stops_nobody_and_loses_nothing() {
    on_two_nodes(|nodes, redis| {
        lives_through(&nodes, Duration::from_secs(9), || {
            std::thread::sleep(Duration::from_millis(500));
            let paused = redis.client().ask(&["CLIENT", "PAUSE", "4000", "ALL"]);
            assert_eq!(paused, "OK");
        });
    });
}

#[test]
fn connections_that_redis_cuts_lose_nothing() {
    on_two_nodes(|nodes, redis| {
        lives_through(&nodes, Duration::from_secs(3), || {
            for kind in ["pubsub", "normal", "pubsub"] {
                std::thread::sleep(Duration::from_millis(500));
                redis.client().ask(&["CLIENT", "KILL", "TYPE", kind]);
            }
        });
    });
}
