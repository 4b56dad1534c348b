//! Nodes on one Redis, a PHP node among them, and what each hears, also while something happens.
#![allow(dead_code, unreachable_pub)] // each test crate uses its part of it
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::channels::heard;
use crate::harness::{Client, Fleet, PhpNode, Redis, Server, api};

/// What each of two nodes is started with; the drivers differ so that both are seen.
pub const FLEETS: [[Fleet; 2]; 2] = [
    [fleet(1, "uring"), fleet(1, "epoll")],
    [fleet(4, "epoll"), fleet(4, "uring")],
];

const fn fleet(shards: u16, driver: &'static str) -> Fleet {
    Fleet { shards, driver }
}

/// The node hears the others.
pub const HEARS: &str = "redis: scaling (hearing) works";

/// Nodes that hear one another.
pub struct Cluster {
    pub nodes: Vec<Server>,
    pub redis: Redis,
    pub php: PhpNode,
    fleet: Fleet,
}

/// The drivers of a cluster's nodes, so that both are seen.
const DRIVERS: [&str; 2] = ["uring", "epoll"];

/// Runs a test on so many nodes of one shard each, and on as many of four, each with a Redis and a
/// PHP node of their own. Whatever the nodes have published PHP must have read, each once.
pub fn on_nodes(count: usize, test: impl Fn(&mut Cluster) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for shards in [1, 4] {
            let thread = std::thread::Builder::new().name(format!("{shards} shards a node"));
            let run = move || {
                let mut cluster = Cluster::start(count, shards);
                test(&mut cluster);
                cluster.php_has_heard_each_once();
            };
            thread.spawn_scoped(scope, run).unwrap();
        }
    });
}

/// The same without PHP: for what it would die of, or should not be counted with.
pub fn on_slapback_nodes(count: usize, test: impl Fn(&mut [Server], &mut Redis) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for shards in [1, 4] {
            scope.spawn(move || {
                let mut redis = Redis::start();
                test(&mut launch(count, shards, &redis), &mut redis);
            });
        }
    });
}

fn launch(count: usize, shards: u16, redis: &Redis) -> Vec<Server> {
    let nodes = (0..count).map(|number| {
        let driver = DRIVERS[number % DRIVERS.len()];
        start(Fleet { shards, driver }, redis, &[])
    });
    let nodes: Vec<_> = nodes.collect();
    nodes.iter().for_each(Server::is_on_the_bus);
    nodes
}

impl Cluster {
    fn start(count: usize, shards: u16) -> Self {
        let redis = Redis::start();
        let nodes = launch(count, shards, &redis);
        let fleet = Fleet {
            shards,
            driver: DRIVERS[0],
        };
        let php = PhpNode::start(&redis);
        Self {
            nodes,
            redis,
            php,
            fleet,
        }
    }

    /// One node more, which is on the bus.
    pub fn another(&self) -> Server {
        let node = start(self.fleet, &self.redis, &[]);
        node.is_on_the_bus();
        node
    }

    fn php_has_heard_each_once(&mut self) {
        let mut last: HashMap<String, u64> = HashMap::new();
        for news in self.php.heard() {
            let (Some(node), Some(seq)) = (news["node"].as_str(), news["seq"].as_u64()) else {
                continue;
            };
            let last = last.entry(node.to_owned()).or_default();
            assert!(*last < seq, "PHP has heard {seq} behind {last} of {node}");
            *last = seq;
        }
    }
}

/// A node with scaling on.
pub fn start(fleet: Fleet, redis: &Redis, environment: &[(&str, &str)]) -> Server {
    let port = redis.port.to_string();
    let mut scaling = vec![("REVERB_SCALING_ENABLED", "true"), ("REDIS_PORT", &port)];
    scaling.extend(environment);
    Server::start(fleet, &scaling)
}

/// A socket of app-1 on a channel that needs no signature.
pub fn subscribed(server: &Server, channel: &str) -> Client {
    let mut client = Client::of_app(server, "1");
    client.subscribe(channel);
    client
}

/// The names of what each node's publisher publishes.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// What the last event of a publisher says.
const LAST: &str = "last";

/// Publishes one after the other at a node while `until` has not come, and once more; gives how
/// many were taken before.
fn publish_until(node: &Server, name: &str, until: Instant) -> usize {
    let mut count = 0;
    while Instant::now() < until {
        api::publish_event(node, "1", "c", name, &count.to_string());
        count += 1;
    }
    api::publish_event(node, "1", "c", name, LAST);
    count
}

/// Hears the events of so many publishers, each in order and once; gives how many.
fn hear_all(mut client: Client, publishers: usize) -> Vec<usize> {
    let mut next = vec![0; publishers];
    let mut ends = 0;
    while ends < publishers {
        let text = client.hear();
        let is_of = |name: &&str| text.contains(&format!(r#""event":"{name}""#));
        let from = NAMES.iter().position(is_of).unwrap();
        if text == heard(NAMES[from], LAST, "c") {
            ends += 1;
        } else {
            assert_eq!(text, heard(NAMES[from], &next[from].to_string(), "c"));
            next[from] += 1;
        }
    }
    client.hears_nothing();
    next
}

/// Publishers and subscribers on all nodes while something happens to Redis.
pub fn lives_through(nodes: &[Server], during: Duration, happens: impl FnOnce() + Send) {
    let clients = nodes.iter().map(|node| subscribed(node, "c"));
    let clients: Vec<_> = clients.collect();
    let until = Instant::now() + during;
    std::thread::scope(|scope| {
        let publishers = nodes.iter().zip(NAMES);
        let publishers =
            publishers.map(|(node, name)| scope.spawn(move || publish_until(node, name, until)));
        let publishers: Vec<_> = publishers.collect();
        let count = nodes.len();
        let subscribers = clients.into_iter();
        let subscribers = subscribers.map(|client| scope.spawn(move || hear_all(client, count)));
        let subscribers: Vec<_> = subscribers.collect();
        scope.spawn(happens);
        let counts = publishers
            .into_iter()
            .map(|publisher| publisher.join().unwrap());
        let counts: Vec<_> = counts.collect();
        assert!(counts.iter().all(|&count| count > 0));
        for subscriber in subscribers {
            assert_eq!(subscriber.join().unwrap(), counts);
        }
    });
}
