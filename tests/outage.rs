//! Redis dies, stands still, cuts its connections, and nodes die: every event reaches every subscriber
//! once and in order, and nobody waits for it (R-236, R-237).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use channels::heard;
use harness::{Fleet, Redis, Server, api};
use nodes::{
    Cluster, FLEETS, HEARS, lives_through, on_nodes, on_slapback_nodes, start, subscribed,
};
use rustix::process::Signal;

mod channels;
mod harness;
mod nodes;

fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

#[test]
fn r236_r237_an_outage_of_redis_loses_nothing_and_stops_nobody() {
    on_nodes(2, |Cluster { nodes, redis, .. }| {
        lives_through(nodes, Duration::from_secs(7), || {
            pause(1000);
            redis.kill();
            pause(5000);
            redis.revive();
        });
        for node in nodes {
            node.says("redis: scaling was away for ");
        }
    });
}

#[test]
fn r236_three_nodes_live_through_it_too() {
    on_nodes(3, |Cluster { nodes, redis, .. }| {
        lives_through(nodes, Duration::from_secs(4), || {
            pause(500);
            redis.kill();
            pause(1500);
            redis.revive();
        });
    });
}

#[test]
fn r236_within_two_seconds_of_its_return_events_cross_again() {
    on_nodes(2, |Cluster { nodes, redis, .. }| {
        let mut client = subscribed(&nodes[1], "c");
        redis.kill();
        // The longest pause between two dials has been reached.
        pause(4000);
        redis.revive();
        let back = Instant::now();
        api::publish_event(&nodes[0], "1", "c", "e", "x");
        assert_eq!(client.hear(), heard("e", "x", "c"));
        let took = back.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn r236_a_node_whose_redis_is_not_there_yet_serves_its_own_and_joins_later() {
    for shards in [1, 4] {
        let mut redis = Redis::start();
        redis.kill();
        let fleets = ["uring", "epoll"].map(|driver| Fleet { shards, driver });
        let nodes = fleets.map(|fleet| start(fleet, &redis, &[]));
        let mut clients = nodes.each_ref().map(|node| subscribed(node, "c"));
        for (node, client) in nodes.iter().zip(&mut clients) {
            node.says("redis: scaling (hearing) does not work");
            api::publish_event(node, "1", "c", "e", "alone");
            assert_eq!(client.hear(), heard("e", "alone", "c"));
        }
        redis.revive();
        nodes.iter().for_each(Server::is_on_the_bus);
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

fn killed_in_the_middle(rounds: usize) {
    on_nodes(2, |Cluster { nodes, redis, .. }| {
        for _ in 0..rounds {
            lives_through(nodes, Duration::from_secs(2), || {
                pause(300);
                redis.kill();
                redis.revive();
            });
        }
    });
}

#[test]
fn redis_killed_in_the_middle_again_and_again_loses_and_doubles_nothing() {
    killed_in_the_middle(4);
}

#[test]
#[ignore = "slow: 20 rounds"]
fn redis_killed_in_the_middle_twenty_times_loses_and_doubles_nothing() {
    killed_in_the_middle(20);
}

#[test]
fn a_redis_that_stands_still_stops_nobody_and_loses_nothing() {
    on_nodes(2, |Cluster { nodes, redis, .. }| {
        lives_through(nodes, Duration::from_secs(9), || {
            pause(500);
            let paused = redis.client().ask(&["CLIENT", "PAUSE", "4000", "ALL"]);
            assert_eq!(paused, "OK");
        });
    });
}

#[test]
fn connections_that_redis_cuts_lose_nothing() {
    on_nodes(2, |Cluster { nodes, redis, .. }| {
        lives_through(nodes, Duration::from_secs(3), || {
            for kind in ["pubsub", "normal", "pubsub"] {
                pause(500);
                redis.client().ask(&["CLIENT", "KILL", "TYPE", kind]);
            }
        });
    });
}

#[test]
fn a_failover_by_sentinels_loses_and_doubles_nothing() {
    std::thread::scope(|scope| {
        for fleets in FLEETS {
            scope.spawn(move || {
                let mut master = Redis::start();
                let port = master.port.to_string();
                let _replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
                let sentinels = [(); 3].map(|()| Redis::sentinel("shop", &master));
                let addresses = sentinels
                    .each_ref()
                    .map(|sentinel| format!("127.0.0.1:{}", sentinel.port));
                let addresses = addresses.join(",");
                let environment = [
                    ("REDIS_SENTINELS", addresses.as_str()),
                    ("REDIS_SENTINEL_SERVICE", "shop"),
                ];
                let nodes = fleets.map(|fleet| start(fleet, &master, &environment));
                nodes.iter().for_each(Server::is_on_the_bus);
                for sentinel in &sentinels {
                    sentinel.knows("shop", 2, 1);
                }
                lives_through(&nodes, Duration::from_secs(8), || {
                    pause(1000);
                    master.kill();
                });
                for node in &nodes {
                    node.says_times(HEARS, 2);
                }
            });
        }
    });
}

#[test]
#[ignore = "slow: half a minute of cuts"]
fn connections_cut_at_random_for_long_lose_nothing() {
    on_nodes(3, |Cluster { nodes, redis, .. }| {
        let during = Duration::from_secs(30);
        lives_through(nodes, during, || {
            let (mut admin, until) = (redis.client(), Instant::now() + during);
            while Instant::now() < until {
                pause(fastrand::u64(20..400));
                let kind = ["pubsub", "normal"][fastrand::usize(..2)];
                admin.ask(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
            }
        });
    });
}

#[test]
fn a_node_that_stands_still_hears_all_of_it_when_it_goes_on() {
    on_nodes(2, |Cluster { nodes, .. }| {
        lives_through(nodes, Duration::from_secs(6), || {
            pause(500);
            nodes[1].signal(Signal::STOP);
            pause(3500);
            nodes[1].signal(Signal::CONT);
        });
    });
}

#[test]
fn r236_when_no_more_can_be_kept_calls_are_refused_and_what_was_taken_arrives() {
    for shards in [1, 4] {
        let mut redis = Redis::start();
        let small = [("SLAPBACK_BUS_REPLAY", "20000")];
        let fleets = ["uring", "epoll"].map(|driver| Fleet { shards, driver });
        let nodes = fleets.map(|fleet| start(fleet, &redis, &small));
        nodes.iter().for_each(Server::is_on_the_bus);
        let mut clients = nodes.each_ref().map(|node| subscribed(node, "c"));
        api::publish_event(&nodes[1], "1", "c", "e", "known");
        for client in &mut clients {
            assert_eq!(client.hear(), heard("e", "known", "c"));
        }
        redis.kill();
        nodes[0].says("redis: scaling (publishing) does not work");
        let mut taken = 0;
        loop {
            let body = format!(r#"{{"name":"e","channel":"c","data":"{taken}"}}"#);
            match api::publish(&nodes[0], "1", &body).status {
                200 => taken += 1,
                status => break assert_eq!(status, 503),
            }
        }
        assert!(taken > 10, "{taken}");
        redis.revive();
        for client in &mut clients {
            for number in 0..taken {
                assert_eq!(client.hear(), heard("e", &number.to_string(), "c"));
            }
        }
        for node in &nodes {
            node.says_times(HEARS, 2);
        }
        api::publish_event(&nodes[0], "1", "c", "e", "again");
        for client in &mut clients {
            assert_eq!(client.hear(), heard("e", "again", "c"));
            client.hears_nothing();
        }
    }
}

/// Redis owes a subscriber no more than 32 MiB: it cuts all of them.
#[test]
fn a_message_for_which_redis_cuts_every_subscriber_loses_nothing_else() {
    on_slapback_nodes(2, |nodes, redis| {
        lives_through(nodes, Duration::from_secs(4), || {
            pause(500);
            redis.client().publish("reverb", &"x".repeat(64 << 20));
        });
        let said = nodes[0].said();
        assert!(
            said.contains("redis: scaling (hearing) does not work"),
            "{said}"
        );
    });
}

#[test]
fn endless_garbage_on_the_channel_stops_nothing() {
    on_slapback_nodes(2, |nodes, redis| {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for garbage in ["x", r#"{"type":"message","application":"O:1:"}"#, "\u{0}"] {
                let mut publisher = redis.client();
                let is_over = &is_over;
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        publisher.publish("reverb", garbage);
                        publisher.publish("reverb:slapback", garbage);
                    }
                });
            }
            lives_through(nodes, Duration::from_secs(3), || {});
            is_over.store(true, Ordering::Relaxed);
        });
        for node in nodes {
            let said = node.said();
            assert_eq!(said.matches("a message is skipped").count(), 1, "{said}");
        }
    });
}

/// The status of the answer; None if there is none.
fn publish_while_it_lives(node: &Server, body: &str) -> Option<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", node.port)).ok()?;
    let request = api::publish_request("1", body);
    socket.write_all(request.as_bytes()).ok()?;
    let mut status_line = String::new();
    BufReader::new(socket).read_line(&mut status_line).ok()?;
    Some(status_line.split(' ').nth(1)?.to_owned())
}

/// A killed node's callers may not know what became of its last event; all before it arrived.
#[test]
fn a_node_killed_in_the_middle_takes_nothing_with_it_that_was_answered() {
    on_nodes(3, |Cluster { nodes, .. }| {
        let victim = nodes.pop().unwrap();
        let mut clients: Vec<_> = nodes.iter().map(|node| subscribed(node, "c")).collect();
        let count = std::thread::scope(|scope| {
            let victim = &victim;
            let publisher = scope.spawn(move || {
                let mut count = 0;
                loop {
                    let body = format!(r#"{{"name":"a","channel":"c","data":"{count}"}}"#);
                    match publish_while_it_lives(victim, &body) {
                        Some(status) => assert_eq!(status, "200"),
                        None => return count,
                    }
                    count += 1;
                }
            });
            pause(500);
            victim.signal(Signal::KILL);
            publisher.join().unwrap()
        });
        assert!(count > 0);
        // The others serve on.
        api::publish_event(&nodes[0], "1", "c", "b", "on");
        for client in &mut clients {
            for number in 0..count {
                assert_eq!(client.hear(), heard("a", &number.to_string(), "c"));
            }
            let mut text = client.hear();
            if text == heard("a", &count.to_string(), "c") {
                text = client.hear();
            }
            assert_eq!(text, heard("b", "on", "c"));
            client.hears_nothing();
        }
    });
}

#[test]
fn after_an_outage_every_node_keeps_the_same_last_event() {
    on_nodes(2, |Cluster { nodes, redis, .. }| {
        redis.kill();
        for (channel, order) in [("cache-a", [0, 1]), ("cache-b", [1, 0])] {
            for (node, event) in order.into_iter().zip(["first", "last"]) {
                api::publish_event(&nodes[node], "1", channel, "e", event);
                // Two events of one millisecond are told apart by their nodes alone.
                pause(5);
            }
        }
        let mut clients = nodes
            .iter()
            .map(|node| subscribed(node, "c"))
            .collect::<Vec<_>>();
        redis.revive();
        for node in nodes.iter() {
            node.says("redis: scaling was away for ");
        }
        for node in nodes.iter() {
            api::publish_event(node, "1", "c", "e", "back");
        }
        for client in &mut clients {
            for _ in nodes.iter() {
                assert_eq!(client.hear(), heard("e", "back", "c"));
            }
        }
        for node in nodes.iter() {
            for channel in ["cache-a", "cache-b"] {
                let mut client = subscribed(node, channel);
                assert_eq!(client.hear(), heard("e", "last", channel));
            }
        }
    });
}

#[test]
fn r245_clients_of_a_node_that_leaves_go_to_the_others_at_once() {
    const LEAVING: &str = "Server is restarting";
    on_slapback_nodes(2, |nodes, _redis| {
        let mut clients: Vec<_> = nodes.iter().map(|node| subscribed(node, "c")).collect();
        // Hearing one another is how they know.
        for node in nodes.iter() {
            api::publish_event(node, "1", "c", "e", "x");
        }
        for client in &mut clients {
            for _ in 0..2 {
                assert_eq!(client.hear(), heard("e", "x", "c"));
            }
        }
        nodes[0].signal(Signal::TERM);
        clients[0].is_closed_with(4200, LEAVING);
        assert_eq!(nodes[0].exit_status().code(), Some(0));
        // Now the other one is alone.
        api::publish_event(&nodes[1], "1", "c", "e", "y");
        assert_eq!(clients[1].hear(), heard("e", "y", "c"));
        nodes[1].signal(Signal::TERM);
        clients[1].is_closed_with(4100, LEAVING);
        assert_eq!(nodes[1].exit_status().code(), Some(0));
    });
}

#[test]
fn a_node_that_has_left_in_good_order_is_not_missed_when_redis_cuts_a_subscription() {
    on_slapback_nodes(2, |nodes, redis| {
        let mut client = subscribed(&nodes[1], "c");
        api::publish_event(&nodes[0], "1", "c", "e", "x");
        assert_eq!(client.hear(), heard("e", "x", "c"));
        assert_eq!(nodes[0].terminate().code(), Some(0));
        redis.client().ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        nodes[1].says("redis: scaling was away for ");
        // Longer than a node is asked for.
        pause(12_000);
        client.hears_nothing();
    });
}

/// Publishers move on to the next node when theirs leaves.
#[test]
fn a_rolling_restart_under_traffic_loses_nothing_and_closes_nobody_elsewhere() {
    on_nodes(3, |cluster| {
        let mut client = subscribed(&cluster.nodes[0], "c");
        let (mut count, mut names) = (0, Vec::new());
        for round in 1..=2 {
            let until = Instant::now() + Duration::from_millis(500);
            let leaving = &cluster.nodes[round];
            while Instant::now() < until {
                let data = count.to_string();
                api::publish_event(leaving, "1", "c", "e", &data);
                names.push(data);
                count += 1;
            }
            assert_eq!(cluster.nodes[round].terminate().code(), Some(0));
            cluster.nodes[round] = cluster.another();
        }
        for data in names {
            assert_eq!(client.hear(), heard("e", &data, "c"));
        }
        // Nobody is asked for what those have said who are gone.
        let mut redis = cluster.redis.client();
        redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        cluster.nodes[0].says("redis: scaling was away for ");
        pause(11_000);
        client.hears_nothing();
    });
}

/// What it said last may not have been heard: nobody can tell.
#[test]
fn after_a_node_has_died_unheard_all_clients_come_back_one_after_another() {
    const SOCKETS: usize = 20;
    on_slapback_nodes(2, |nodes, redis| {
        let mut clients: Vec<_> = (0..SOCKETS).map(|_| subscribed(&nodes[1], "c")).collect();
        api::publish_event(&nodes[0], "1", "c", "e", "x");
        for client in &mut clients {
            assert_eq!(client.hear(), heard("e", "x", "c"));
        }
        nodes[0].signal(Signal::KILL);
        redis.client().ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        let closed: Vec<_> = std::thread::scope(|scope| {
            let closed = clients.iter_mut().map(|client| {
                scope.spawn(|| {
                    client.is_closed_with(4100, "Events were missed");
                    Instant::now()
                })
            });
            let closed: Vec<_> = closed.collect();
            closed
                .into_iter()
                .map(|closed| closed.join().unwrap())
                .collect()
        });
        let (first, last) = (closed.iter().min().unwrap(), closed.iter().max().unwrap());
        // `SLAPBACK_DRAIN_SECONDS` is 5.
        let took = last.duration_since(*first);
        assert!(
            took > Duration::from_secs(3) && took < Duration::from_secs(7),
            "{took:?}"
        );
        nodes[1].says("scaling: messages of other nodes are lost");
    });
}
