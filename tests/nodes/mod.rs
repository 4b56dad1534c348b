//! Nodes on one Redis, a PHP node among them, and what each hears.
#![allow(dead_code, unreachable_pub)] // each test crate uses its part of it
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use crate::harness::{Client, Fleet, PhpNode, Redis, Server};

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
    nodes.iter().for_each(is_on_the_bus);
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
        is_on_the_bus(&node);
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

/// Waits until a node is.
pub fn is_on_the_bus(node: &Server) {
    node.says("redis: scaling (hearing) works");
    node.says("redis: scaling (publishing) works");
}

/// A socket of app-1 on a channel that needs no signature.
pub fn subscribed(server: &Server, channel: &str) -> Client {
    let mut client = Client::of_app(server, "1");
    client.subscribe(channel);
    client
}
