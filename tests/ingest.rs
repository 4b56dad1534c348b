//! Laravel's redis broadcaster: what it publishes to a real Redis reaches the subscribers
//! (R-240 to R-244).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use channels::{enter, heard, join, subscribe_to};
use harness::{Client, Redis, Server, on_every_fleet, subscribed};
use laravel::{PREFIXES, WORKS, listening, on_every_ingest, payload, publish};

mod channels;
mod harness;
mod laravel;

#[test]
fn r240_an_event_of_laravels_redis_broadcaster_is_delivered_as_one_of_the_api_would_be() {
    on_every_ingest(|server, redis| {
        let mut client = Client::of_app(server, "1");
        enter("1", &mut client, "private-orders.1");
        let said =
            r#"{"event":"App\\Events\\X","data":{"order":{"id":1},"socket":null},"socket":null}"#;
        publish(redis, "private-orders.1", said);
        assert_eq!(
            client.hear(),
            r#"{"event":"App\\Events\\X","data":"{\"order\":{\"id\":1}}","channel":"private-orders.1"}"#
        );
        client.hears_nothing();
    });
}

#[test]
fn r241_the_socket_that_is_named_does_not_hear_its_own_event() {
    on_every_ingest(|server, redis| {
        let mut clients = [(); 3].map(|()| Client::of_app(server, "1"));
        for client in &mut clients {
            client.subscribe("c");
        }
        let sender = format!("\"{}\"", clients[0].id);
        let data = format!(r#"{{"n":1,"socket":{sender}}}"#);
        publish(redis, "c", &payload("e", &data, &sender));
        for client in &mut clients[1..] {
            assert_eq!(client.hear(), heard("e", r#"{"n":1}"#, "c"));
        }
        // What stands behind it is the first thing that the sender hears.
        publish(redis, "c", &payload("f", "{}", "null"));
        for client in &mut clients {
            assert_eq!(client.hear(), heard("f", "{}", "c"));
        }
    });
}

#[test]
fn r242_what_is_no_event_is_counted_said_once_and_skipped() {
    on_every_fleet(|fleet| {
        let redis = Redis::start();
        let mut server = listening(fleet, &redis, &[]);
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        let garbage = [
            "",
            "nonsense",
            "[]",
            "1",
            "{}",
            r#"{"event":1,"data":{}}"#,
            r#"{"data":{}}"#,
            r#"{"event":"e","data":{"#,
        ];
        for payload in garbage {
            publish(&redis, "c", payload);
        }
        publish(&redis, "c", &payload("e", "{}", "null"));
        assert_eq!(client.hear(), heard("e", "{}", "c"));
        client.hears_nothing();
        server.terminate();
        let stopped = server.says("stopped: ");
        let refused = format!("ingest_taken=1 ingest_refused={}", garbage.len());
        assert!(stopped.contains(&refused), "{stopped}");
        let said = server.said();
        assert_eq!(said.matches("is no event").count(), 1, "{said}");
    });
}

#[test]
fn r243_without_a_prefix_both_of_laravels_are_heard_and_an_empty_one_is_all() {
    on_every_fleet(|fleet| {
        let redis = Redis::start();
        let server = listening(fleet, &redis, &[]);
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        let mut publisher = redis.client();
        for prefix in PREFIXES {
            assert_eq!(
                publisher.publish(&format!("{prefix}c"), &payload(prefix, "1", "null")),
                1
            );
            assert_eq!(client.hear(), heard(prefix, "1", "c"));
        }
        assert_eq!(publisher.publish("c", &payload("e", "1", "null")), 0);

        let server = listening(fleet, &redis, &[("REDIS_PREFIX", "")]);
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        assert_eq!(publisher.publish("c", &payload("e", "1", "null")), 1);
        assert_eq!(client.hear(), heard("e", "1", "c"));
    });
}

#[test]
fn r243_what_a_pattern_would_read_as_a_wildcard_is_a_plain_letter_of_a_prefix() {
    on_every_fleet(|fleet| {
        let redis = Redis::start();
        let server = listening(fleet, &redis, &[("REDIS_PREFIX", r"a*[b]?\")]);
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        let mut publisher = redis.client();
        assert_eq!(publisher.publish("axbyc", &payload("no", "1", "null")), 0);
        assert_eq!(
            publisher.publish(r"a*[b]?\c", &payload("yes", "1", "null")),
            1
        );
        assert_eq!(client.hear(), heard("yes", "1", "c"));
    });
}

#[test]
fn r243_several_apps_are_told_apart_by_their_prefixes() {
    const FILE: &str = r#"
        [redis_ingest]
        enabled = true
        [[apps]]
        app_id = "app-1"
        key = "key-1"
        secret = "secret-1"
        redis_prefix = "shop-"
        [[apps]]
        app_id = "app-2"
        key = "key-2"
        secret = "secret-2"
        redis_prefix = "shop-two-"
    "#;
    on_every_fleet(|fleet| {
        let redis = Redis::start();
        let server = Server::start_with_file(fleet, FILE, &[("REDIS_URL", &redis.url())]);
        server.says(WORKS);
        let mut clients = ["1", "2"].map(|name| Client::of_app(&server, name));
        for client in &mut clients {
            client.subscribe("c");
        }
        let mut publisher = redis.client();
        publisher.publish("shop-c", &payload("one", "1", "null"));
        // Both patterns fit, so Redis says it twice; it is the app's with the longer prefix.
        publisher.publish("shop-two-c", &payload("two", "1", "null"));
        assert_eq!(clients[0].hear(), heard("one", "1", "c"));
        assert_eq!(clients[1].hear(), heard("two", "1", "c"));
        clients.iter_mut().for_each(Client::hears_nothing);
    });
}

#[test]
fn r244_data_that_is_an_empty_list_is_one() {
    on_every_ingest(|server, redis| {
        let mut client = Client::of_app(server, "1");
        client.subscribe("c");
        publish(redis, "c", &payload("e", "[]", "null"));
        assert_eq!(client.hear(), r#"{"event":"e","data":"[]","channel":"c"}"#);
    });
}

#[test]
fn a_cache_channel_keeps_what_came_from_redis() {
    on_every_ingest(|server, redis| {
        let mut early = Client::of_app(server, "1");
        early.say(subscribe_to("cache-c"));
        assert_eq!(early.hear(), subscribed("cache-c"));
        assert_eq!(
            early.hear(),
            r#"{"event":"pusher:cache_miss","channel":"cache-c"}"#
        );
        for version in ["1", "2"] {
            publish(redis, "cache-c", &payload("e", version, "null"));
            assert_eq!(early.hear(), heard("e", version, "cache-c"));
        }
        let mut late = Client::of_app(server, "1");
        late.say(subscribe_to("cache-c"));
        assert_eq!(late.hear(), subscribed("cache-c"));
        assert_eq!(late.hear(), heard("e", "2", "cache-c"));
    });
}

#[test]
fn members_of_a_presence_channel_hear_what_came_from_redis() {
    const ONE: &str = r#"{"user_id":"1","user_info":{}}"#;
    const ALONE: &str = r#"{"count":1,"ids":["1"],"hash":{"1":{}}}"#;
    on_every_ingest(|server, redis| {
        let mut client = Client::of_app(server, "1");
        join("1", &mut client, "presence-c", ONE, ALONE);
        publish(redis, "presence-c", &payload("e", "1", "null"));
        assert_eq!(client.hear(), heard("e", "1", "presence-c"));
    });
}

#[test]
fn events_of_one_channel_keep_their_order() {
    const EVENTS: usize = 20_000;
    on_every_ingest(|server, redis| {
        let mut clients = [(); 4].map(|()| Client::of_app(server, "1"));
        for client in &mut clients {
            client.subscribe("c");
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut publisher = redis.client();
                for number in 0..EVENTS {
                    let number = number.to_string();
                    let channel = format!("{}c", PREFIXES[0]);
                    publisher.say(&["PUBLISH", &channel, &payload("e", &number, "null")]);
                }
                for _ in 0..EVENTS {
                    assert_eq!(publisher.hear(), "1");
                }
            });
            for client in &mut clients {
                scope.spawn(|| {
                    for number in 0..EVENTS {
                        assert_eq!(client.hear(), heard("e", &number.to_string(), "c"));
                    }
                    client.hears_nothing();
                });
            }
        });
    });
}
