//! The connection to Redis: where it is, who is let in, and what becomes of it when Redis goes away.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use channels::heard;
use harness::{Certificate, Client, Redis, api, on_every_fleet};
use laravel::{WORKS, listening, on_every_ingest, payload, publish, start};
use rustix::process::{Pid, Signal, kill_process};

mod channels;
mod harness;
mod laravel;

#[test]
fn a_redis_that_is_down_or_dies_stops_nothing_and_is_heard_again_when_it_is_back() {
    on_every_fleet(|fleet| {
        let mut redis = Redis::start();
        redis.kill();
        let mut server = start(fleet, &redis, &[]);
        server.says("redis: ingest does not work (127.0.0.1:");
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        for life in 1..=3 {
            api::publish_event(&server, "1", "c", "api", "{}");
            assert_eq!(client.hear(), heard("api", "{}", "c"));
            redis.revive();
            server.says_times(WORKS, life);
            publish(&redis, "c", &payload("redis", "1", "null"));
            assert_eq!(client.hear(), heard("redis", "1", "c"));
            redis.kill();
            server.says_times("Redis closed it", life);
        }
        redis.revive();
        server.says("redis: ingest heard nothing for ");
        assert_eq!(server.terminate().code(), Some(0));
        let stopped = server.says("stopped: ");
        assert!(stopped.contains("redis_lost=3"), "{stopped}");
    });
}

#[test]
fn a_subscription_that_redis_cuts_is_made_again() {
    on_every_ingest(|server, redis| {
        let mut client = Client::of_app(server, "1");
        client.subscribe("c");
        for life in 2..=3 {
            assert_eq!(
                redis.client().ask(&["CLIENT", "KILL", "TYPE", "pubsub"]),
                "1"
            );
            server.says_times(WORKS, life);
            publish(redis, "c", &payload("e", "1", "null"));
            assert_eq!(client.hear(), heard("e", "1", "c"));
        }
    });
}

#[test]
fn a_redis_that_is_silent_for_long_keeps_its_subscriber() {
    on_every_ingest(|server, redis| {
        let mut client = Client::of_app(server, "1");
        client.subscribe("c");
        assert_eq!(
            redis.client().ask(&["CLIENT", "PAUSE", "7000", "ALL"]),
            "OK"
        );
        publish(redis, "c", &payload("e", "1", "null"));
        assert_eq!(client.hear(), heard("e", "1", "c"));
        let pid = Pid::from_raw(i32::try_from(redis.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        client.hears_nothing();
        kill_process(pid, Signal::CONT).unwrap();
        publish(redis, "c", &payload("f", "1", "null"));
        assert_eq!(client.hear(), heard("f", "1", "c"));
        let said = server.said();
        assert!(!said.contains("does not work"), "{said}");
    });
}

#[test]
fn a_message_that_is_too_long_passes_by_and_what_follows_it_arrives() {
    on_every_fleet(|fleet| {
        let redis = Redis::start();
        let bound = [("SLAPBACK_REDIS_MESSAGE_BYTES", "1000000")];
        let mut server = listening(fleet, &redis, &bound);
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        let text = |bytes: usize| payload("e", &format!("\"{}\"", "x".repeat(bytes)), "null");
        publish(&redis, "c", &text(2_000_000));
        publish(&redis, "c", &text(900_000));
        assert_eq!(
            client.hear().len(),
            heard("e", "", "c").len() + 900_000 + r#"\"\""#.len()
        );
        server.says("longer than SLAPBACK_REDIS_MESSAGE_BYTES");
        assert_eq!(server.terminate().code(), Some(0));
        let stopped = server.says("stopped: ");
        assert!(
            stopped.contains("ingest_taken=1 ingest_refused=1"),
            "{stopped}"
        );
    });
}

#[test]
fn a_message_for_which_redis_cuts_its_subscribers_costs_a_gap_and_no_more() {
    on_every_ingest(|server, redis| {
        let mut client = Client::of_app(server, "1");
        client.subscribe("c");
        // Above Redis's own bound of what a subscriber may be owed.
        let huge = "x".repeat(64 << 20);
        redis.client().publish("laravel_database_c", &huge);
        server.says("redis: ingest heard nothing for ");
        publish(redis, "c", &payload("e", "1", "null"));
        assert_eq!(client.hear(), heard("e", "1", "c"));
    });
}

#[test]
fn a_wrong_password_is_one_clear_line_and_a_right_one_lets_in() {
    on_every_fleet(|fleet| {
        let redis = Redis::start_with(&["--requirepass", "right"]);
        let server = start(fleet, &redis, &[("REDIS_PASSWORD", "wrong")]);
        let line = server.says("redis: ingest does not work");
        assert!(line.contains("AUTH is refused: WRONGPASS"), "{line}");
        let mut admin = redis.client();
        assert_eq!(admin.ask(&["AUTH", "right"]), "OK");
        // It goes on trying, and does not say so again.
        assert_eq!(admin.ask(&["CONFIG", "SET", "requirepass", "wrong"]), "OK");
        server.says(WORKS);
        let said = server.said();
        assert_eq!(said.matches("does not work").count(), 1, "{said}");
        assert!(
            !said.contains("wrong\"") && !said.contains("right"),
            "{said}"
        );

        let server = start(fleet, &redis, &[("REDIS_PASSWORD", "null")]);
        let line = server.says("redis: ingest does not work");
        assert!(line.contains("NOAUTH"), "{line}");
    });
}

#[test]
fn a_user_of_redis_is_let_in_and_one_without_the_right_is_told() {
    on_every_fleet(|fleet| {
        let redis = Redis::start();
        let mut admin = redis.client();
        admin.set_user("edge", &["on", ">secret", "resetchannels", "+@all"]);
        let environment = [
            ("REDIS_USERNAME", "edge"),
            ("REDIS_PASSWORD", "secret"),
            ("REDIS_DB", "3"),
        ];
        let server = start(fleet, &redis, &environment);
        let line = server.says("redis: ingest does not work");
        assert!(line.contains("NOPERM"), "{line}");
        admin.set_user("edge", &["allchannels"]);
        server.says(WORKS);
        let clients = admin.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]);
        assert!(
            clients.contains("user=edge") && clients.contains("db=3"),
            "{clients}"
        );
    });
}

#[test]
fn redis_may_be_a_unix_socket() {
    on_every_fleet(|fleet| {
        let name = format!("redis-{}-{}.sock", fleet.shards, fleet.driver);
        let path = harness::directory("ingest").join(name);
        let redis = Redis::start_with(&["--unixsocket", path.to_str().unwrap()]);
        let url = format!("unix://{}", path.display());
        let server = listening(fleet, &redis, &[("REDIS_URL", &url), ("REDIS_PORT", "1")]);
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        publish(&redis, "c", &payload("e", "1", "null"));
        assert_eq!(client.hear(), heard("e", "1", "c"));
    });
}

#[test]
fn over_tls_the_certificate_is_looked_at_unless_it_is_not_to_be() {
    on_every_fleet(|fleet| {
        let tls = Certificate::make(&format!("{}-{}", fleet.shards, fleet.driver));
        let port = harness::free_port().to_string();
        let redis = Redis::start_with(
            &[
                ["--tls-port", &port],
                ["--tls-cert-file", &tls.certificate],
                ["--tls-key-file", &tls.key],
                ["--tls-auth-clients", "no"],
            ]
            .concat(),
        );
        let url = format!("rediss://localhost:{port}");
        let by_tls = ("REDIS_URL", url.as_str());
        let server = start(fleet, &redis, &[by_tls]);
        let line = server.says("redis: ingest does not work (tls://localhost:");
        assert!(line.contains("certificate"), "{line}");
        for further in [
            ("SLAPBACK_REDIS_CA", tls.certificate.as_str()),
            ("SLAPBACK_REDIS_TLS_VERIFY", "false"),
        ] {
            let server = listening(fleet, &redis, &[by_tls, further]);
            let mut client = Client::of_app(&server, "1");
            client.subscribe("c");
            redis
                .client()
                .publish("laravel_database_c", &payload("e", "1", "null"));
            assert_eq!(client.hear(), heard("e", "1", "c"));
        }
    });
}

#[test]
fn sentinels_are_asked_where_the_master_is_and_again_when_it_fails() {
    on_every_fleet(|fleet| {
        let mut master = Redis::start();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
        let sentinels = [(); 3].map(|()| Redis::sentinel("shop", &master));
        let addresses = sentinels
            .each_ref()
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.port));
        let addresses = format!("127.0.0.1:1,{}", addresses.join(","));
        let environment = [
            ("REDIS_SENTINELS", addresses.as_str()),
            ("REDIS_SENTINEL_SERVICE", "shop"),
        ];
        let server = listening(fleet, &master, &environment);
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        publish(&master, "c", &payload("e", "1", "null"));
        assert_eq!(client.hear(), heard("e", "1", "c"));
        for sentinel in &sentinels {
            sentinel.knows("shop", 2, 1);
        }
        master.kill();
        server.says_times(WORKS, 2);
        publish(&replica, "c", &payload("f", "1", "null"));
        assert_eq!(client.hear(), heard("f", "1", "c"));
    });
}
