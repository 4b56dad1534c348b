//! `SLAPBACK_INGEST=interest`: only channels that somebody here is on are subscribed to in Redis,
//! and whoever was told to be on one misses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use channels::{enter, heard, join, signed, subscribe_to, unsubscribe};
use harness::{Client, DEADLINE, Fleet, Redis, Server, api, on_every_fleet, subscribed};
use laravel::{PREFIXES, WORKS, payload, publish, start};
use rustix::process::{Pid, Signal, kill_process};

mod channels;
mod harness;
mod laravel;

const INTEREST: (&str, &str) = ("SLAPBACK_INGEST", "interest");
const ONE: &str = r#"{"user_id":"1","user_info":{}}"#;
const ALONE: &str = r#"{"count":1,"ids":["1"],"hash":{"1":{}}}"#;
const MISS: &str = r#"{"event":"pusher:cache_miss","channel":"cache-c"}"#;

/// A server that works.
fn listening(fleet: Fleet, redis: &Redis) -> Server {
    let server = start(fleet, redis, &[INTEREST]);
    server.says(WORKS);
    server
}

fn on_every_interest(test: impl Fn(&Server, &Redis) + Sync) {
    on_every_fleet(|fleet| {
        let redis = Redis::start();
        test(&listening(fleet, &redis), &redis);
    });
}

/// Redis has exactly these channels of app-1, under both prefixes, each with one subscriber.
fn hears_of(redis: &Redis, channels: &[&str]) {
    let names = PREFIXES.iter().flat_map(|prefix| {
        let names = channels.iter();
        names.map(move |channel| format!("{prefix}{channel}"))
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    let mut client = redis.client();
    let known = client.ask(&["PUBSUB", "CHANNELS"]);
    let mut known: Vec<_> = known.lines().collect();
    known.sort_unstable();
    assert_eq!(known, names);
    for name in &names {
        let count = client.ask(&["PUBSUB", "NUMSUB", name]);
        assert_eq!(count, format!("{name}\n1"));
    }
    assert_eq!(client.ask(&["PUBSUB", "NUMPAT"]), "0");
}

#[test]
fn redis_hears_of_channels_with_subscribers_and_of_no_others() {
    on_every_interest(|server, redis| {
        hears_of(redis, &[]);
        let mut clients = [(); 4].map(|()| Client::of_app(server, "1"));
        for client in &mut clients {
            client.subscribe("c");
        }
        hears_of(redis, &["c"]);
        let [one, two, ..] = &mut clients;
        enter("1", one, "private-c");
        join("1", one, "presence-c", ONE, ALONE);
        one.say(subscribe_to("cache-c"));
        assert_eq!(one.hear(), subscribed("cache-c"));
        assert_eq!(one.hear(), MISS);
        // Of another app nothing is published there.
        let mut foreign = Client::of_app(server, "all");
        foreign.subscribe("foreign");
        let all = ["c", "cache-c", "presence-c", "private-c"];
        hears_of(redis, &all);
        for channel in all {
            publish(redis, channel, &payload("e", "1", "null"));
            assert_eq!(one.hear(), heard("e", "1", channel));
        }
        assert_eq!(two.hear(), heard("e", "1", "c"));
        // Who leaves may be back: it is heard for a while.
        one.say(unsubscribe("private-c"));
        one.hears_nothing();
        hears_of(redis, &all);
        enter("1", two, "private-c");
        publish(redis, "private-c", &payload("e", "2", "null"));
        assert_eq!(two.hear(), heard("e", "2", "private-c"));
        one.hears_nothing();
    });
}

#[test]
fn who_was_told_to_be_on_a_channel_misses_nothing() {
    const TIMES: usize = 2000;
    on_every_interest(|server, redis| {
        let mut publisher = redis.client();
        let mut client = Client::of_app(server, "1");
        for number in 0..TIMES {
            let number = number.to_string();
            let kind = ["", "private-", "presence-", "cache-"][fastrand::usize(..4)];
            let channel = format!("{kind}{number}");
            let data = (kind == "presence-").then_some(ONE);
            client.say(signed("1", &client, &channel, data));
            assert!(
                client.hear().contains("subscription_succeeded"),
                "{channel}"
            );
            let name = format!("{}{channel}", PREFIXES[fastrand::usize(..2)]);
            assert_eq!(publisher.publish(&name, &payload("e", &number, "null")), 1);
            if kind == "cache-" {
                assert!(client.hear().contains("cache_miss"), "{channel}");
            }
            assert_eq!(client.hear(), heard("e", &number, &channel));
            match fastrand::u8(0..20) {
                0 => client = Client::of_app(server, "1"),
                1..10 => client.say(unsubscribe(&channel)),
                _ => {}
            }
        }
        client.hears_nothing();
    });
}

#[test]
fn all_who_come_at_once_are_told_and_hear() {
    const CLIENTS: usize = 40;
    on_every_interest(|server, redis| {
        let mut clients = [(); CLIENTS].map(|()| Client::of_app(server, "1"));
        for client in &mut clients {
            client.say(subscribe_to("c"));
            client.say(signed("1", client, "private-c", None));
        }
        for client in &mut clients {
            assert_eq!(client.hear(), subscribed("c"));
            assert_eq!(client.hear(), subscribed("private-c"));
        }
        hears_of(redis, &["c", "private-c"]);
        for channel in ["c", "private-c"] {
            publish(redis, channel, &payload("e", "1", "null"));
            for client in &mut clients {
                assert_eq!(client.hear(), heard("e", "1", channel));
            }
        }
    });
}

#[test]
fn a_redis_that_is_away_keeps_nobody_and_hears_of_all_when_it_is_back() {
    on_every_fleet(|fleet| {
        let mut redis = Redis::start();
        redis.kill();
        let server = start(fleet, &redis, &[INTEREST]);
        server.says("redis: ingest does not work (127.0.0.1:");
        let mut client = Client::of_app(&server, "1");
        let mut on: Vec<String> = Vec::new();
        for life in 1..=3 {
            let channel = format!("c{life}");
            client.subscribe(&channel);
            on.push(channel);
            api::publish_event(&server, "1", &on[0], "api", "{}");
            assert_eq!(client.hear(), heard("api", "{}", &on[0]));
            redis.revive();
            server.says_times(WORKS, life);
            let channel = format!("presence-{life}");
            join("1", &mut client, &channel, ONE, ALONE);
            on.push(channel);
            on.sort();
            hears_of(&redis, &on.iter().map(String::as_str).collect::<Vec<_>>());
            for channel in &on {
                publish(&redis, channel, &payload("redis", "1", "null"));
                assert_eq!(client.hear(), heard("redis", "1", channel));
            }
            redis.kill();
            server.says_times("Redis closed it", life);
        }
    });
}

#[test]
fn a_redis_that_stands_still_is_waited_for_no_longer_than_two_seconds() {
    on_every_interest(|server, redis| {
        let pid = Pid::from_raw(i32::try_from(redis.pid()).unwrap()).unwrap();
        let mut client = Client::of_app(server, "1");
        client.subscribe("known");
        kill_process(pid, Signal::STOP).unwrap();
        let mut known = Client::of_app(server, "1");
        known.subscribe("known");
        let mut lost = Client::of_app(server, "1");
        lost.say(subscribe_to("lost"));
        let begun = Instant::now();
        client.subscribe("new");
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(1), "nobody waited: {took:?}");
        assert!(took < DEADLINE / 2, "{took:?}");
        drop(lost);
        kill_process(pid, Signal::CONT).unwrap();
        // Its confirmation comes late, and with it what is published.
        let mut late = Client::of_app(server, "1");
        late.subscribe("late");
        publish(redis, "new", &payload("e", "1", "null"));
        assert_eq!(client.hear(), heard("e", "1", "new"));
        let said = server.said();
        assert!(!said.contains("does not work"), "{said}");
    });
}

#[test]
fn a_redis_that_dies_ends_the_wait_for_it() {
    on_every_fleet(|fleet| {
        let mut redis = Redis::start();
        let server = listening(fleet, &redis);
        let pid = Pid::from_raw(i32::try_from(redis.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        let mut client = Client::of_app(&server, "1");
        client.say(subscribe_to("c"));
        redis.kill();
        assert_eq!(client.hear(), subscribed("c"));
        redis.revive();
        server.says_times(WORKS, 2);
        hears_of(&redis, &["c"]);
        publish(&redis, "c", &payload("e", "1", "null"));
        assert_eq!(client.hear(), heard("e", "1", "c"));
    });
}

#[test]
fn the_last_event_of_a_cache_channel_is_kept_while_it_is_heard() {
    on_every_interest(|server, redis| {
        let mut early = Client::of_app(server, "1");
        early.say(subscribe_to("cache-c"));
        assert_eq!(early.hear(), subscribed("cache-c"));
        assert_eq!(early.hear(), MISS);
        publish(redis, "cache-c", &payload("e", "1", "null"));
        assert_eq!(early.hear(), heard("e", "1", "cache-c"));
        drop(early);
        // Nobody is on it, and yet it is still heard.
        publish(redis, "cache-c", &payload("e", "2", "null"));
        let mut late = Client::of_app(server, "1");
        // What its home has taken by then.
        join("1", &mut late, "presence-fence", ONE, ALONE);
        publish(redis, "presence-fence", &payload("e", "1", "null"));
        assert_eq!(late.hear(), heard("e", "1", "presence-fence"));
        late.say(subscribe_to("cache-c"));
        assert_eq!(late.hear(), subscribed("cache-c"));
        assert_eq!(late.hear(), heard("e", "2", "cache-c"));
    });
}

#[test]
fn a_user_without_the_right_to_a_channel_is_one_line_and_subscribers_are_served() {
    on_every_fleet(|fleet| {
        let redis = Redis::start();
        let mut admin = redis.client();
        admin.set_user("edge", &["on", ">s", "resetchannels", "+@all"]);
        let user = [
            INTEREST,
            ("REDIS_USERNAME", "edge"),
            ("REDIS_PASSWORD", "s"),
        ];
        let server = start(fleet, &redis, &user);
        server.says(WORKS);
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        let line = server.says("redis: ingest does not work");
        assert!(line.contains("NOPERM"), "{line}");
        admin.set_user("edge", &["allchannels"]);
        server.says_times(WORKS, 2);
        publish(&redis, "c", &payload("e", "1", "null"));
        assert_eq!(client.hear(), heard("e", "1", "c"));
        let said = server.said();
        assert_eq!(said.matches("does not work").count(), 1, "{said}");
    });
}

#[test]
fn several_servers_hear_each_what_its_own_subscribers_are_on() {
    on_every_fleet(|fleet| {
        let redis = Redis::start();
        let scaling = [INTEREST, ("REVERB_SCALING_ENABLED", "true")];
        let servers = [(); 2].map(|()| {
            let server = start(fleet, &redis, &scaling);
            server.says(WORKS);
            server.says("redis: scaling (hearing) works");
            server
        });
        let mut clients = [0, 1].map(|at: usize| Client::of_app(&servers[at], "1"));
        clients[0].subscribe("c");
        let name = format!("{}c", PREFIXES[0]);
        let count = redis.client().ask(&["PUBSUB", "NUMSUB", &name]);
        assert_eq!(count, format!("{name}\n1"));
        clients[1].subscribe("c");
        api::publish_event(&servers[0], "1", "c", "api", "{}");
        for client in &mut clients {
            assert_eq!(client.hear(), heard("api", "{}", "c"));
        }
        assert_eq!(redis.client().publish(&name, &payload("e", "1", "null")), 2);
        for client in &mut clients {
            assert_eq!(client.hear(), heard("e", "1", "c"));
        }
    });
}
