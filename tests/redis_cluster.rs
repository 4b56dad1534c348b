//! Redis Cluster, three masters with a replica each: nodes meet on one master, whichever they were
//! told of, and follow the slot of their channel when it gets another.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use channels::heard;
use harness::{
    Certificate, Client, DEADLINE, FLEETS as ALL_FLEETS, Redis, RedisClient, Server, api,
};
use laravel::{PREFIXES, WORKS, payload};
use nodes::{FLEETS, HEARS, lives_through, subscribed};

mod channels;
mod harness;
mod laravel;
mod nodes;

const MASTERS: usize = 3;
const SLOTS: usize = 16384;
/// Slots of a master; the last has one or two less.
const SHARE: usize = SLOTS.div_ceil(MASTERS);

const PASSWORD: &str = "secret";
/// The channel of the bus.
const BUS: &str = "reverb";

/// A Redis Cluster on 127.0.0.1: the masters, then the replica of each.
struct Cluster(Vec<Redis>);

impl Cluster {
    /// Starts one and waits until all its nodes know all.
    fn start() -> Self {
        let cluster = Self((0..2 * MASTERS).map(|_| start_redis(&[])).collect());
        for master in 0..MASTERS {
            let (first, last) = (master * SHARE, ((master + 1) * SHARE).min(SLOTS) - 1);
            let (first, last) = (first.to_string(), last.to_string());
            cluster.tell(master, &["ADDSLOTSRANGE", &first, &last]);
        }
        for number in 0..cluster.0.len() {
            cluster.tell(number, &["SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        }
        let port = cluster.0[0].port.to_string();
        for number in 1..cluster.0.len() {
            cluster.tell(number, &["MEET", "127.0.0.1", &port]);
        }
        let count = |number, flag| cluster.view(number).matches(flag).count();
        cluster.comes_to(|number| count(number, " connected") == 2 * MASTERS);
        for master in 0..MASTERS {
            let id = cluster.id(master);
            cluster.tell(master + MASTERS, &["REPLICATE", &id]);
        }
        cluster.comes_to(|number| {
            let role = cluster.client(number).ask(&["ROLE"]);
            let is_synced = number < MASTERS || role.contains("\nconnected\n");
            let state = cluster.client(number).ask(&["CLUSTER", "INFO"]);
            is_synced && count(number, "slave ") == MASTERS && state.contains("cluster_state:ok")
        });
        cluster
    }

    fn comes_to(&self, is_so: impl Fn(usize) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !(0..self.0.len()).all(&is_so) {
            assert!(Instant::now() < end, "not come to: {}", self.view(0));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn client(&self, number: usize) -> RedisClient {
        let mut client = self.0[number].client();
        assert_eq!(client.ask(&["AUTH", PASSWORD]), "OK");
        client
    }

    fn tell(&self, number: usize, command: &[&str]) {
        let said = self.client(number).ask(&[&["CLUSTER"], command].concat());
        assert_eq!(said, "OK", "{command:?}");
    }

    fn view(&self, number: usize) -> String {
        self.client(number).ask(&["CLUSTER", "NODES"])
    }

    fn id(&self, number: usize) -> String {
        self.client(number).ask(&["CLUSTER", "MYID"])
    }

    fn slot(&self, key: &str) -> usize {
        let slot = self.client(0).ask(&["CLUSTER", "KEYSLOT", key]);
        slot.parse().unwrap()
    }

    /// The master that owned the slot of the bus at the start.
    fn owner(&self) -> usize {
        self.slot(BUS) / SHARE
    }

    /// How many subscribers of the bus a node has.
    fn subscribers(&self, number: usize) -> String {
        let said = self.client(number).ask(&["PUBSUB", "NUMSUB", BUS]);
        said.replace('\n', " ")
    }

    /// The environment of a server that is told of one node.
    fn variables(port: &str) -> [(&str, &str); 3] {
        [
            ("REDIS_CLUSTER", "true"),
            ("REDIS_PORT", port),
            ("REDIS_PASSWORD", PASSWORD),
        ]
    }
}

fn start_redis(arguments: &[&str]) -> Redis {
    let file = harness::directory("clusters").join(format!("{}.conf", fastrand::u64(..)));
    let of_cluster = [
        ["--cluster-enabled", "yes"],
        ["--cluster-config-file", file.to_str().unwrap()],
        ["--cluster-node-timeout", "2000"],
        ["--repl-diskless-sync-delay", "0"],
        ["--requirepass", PASSWORD],
        ["--masterauth", PASSWORD],
    ];
    Redis::start_with(&[&of_cluster.concat(), arguments].concat())
}

/// Runs a test on two nodes of one shard each, and of four, with a cluster of their own. The one is
/// told of the owner of the bus's slot, the other of another master's replica.
fn on_two_nodes(test: impl Fn([Server; 2], Cluster) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for fleets in FLEETS {
            scope.spawn(move || {
                let cluster = Cluster::start();
                let owner = cluster.owner();
                let told = [owner, MASTERS + (owner + 1) % MASTERS];
                let ports = told.map(|number| cluster.0[number].port.to_string());
                let nodes = [0, 1].map(|number| {
                    let cluster = Cluster::variables(&ports[number]);
                    let scaling = [&[("REVERB_SCALING_ENABLED", "true")], &cluster[..]];
                    Server::start(fleets[number], &scaling.concat())
                });
                nodes.iter().for_each(Server::is_on_the_bus);
                test(nodes, cluster);
            });
        }
    });
}

/// Both nodes have come to this Redis after another.
fn have_moved_to(nodes: &[Server; 2], cluster: &Cluster, number: usize) {
    for node in nodes {
        node.says_times(HEARS, 2);
        node.says_times("redis: scaling (publishing) works", 2);
    }
    assert_eq!(cluster.subscribers(number), format!("{BUS} 2"));
}

#[test]
fn nodes_that_were_told_of_different_nodes_of_a_cluster_hear_all_in_one_order() {
    const EVENTS: usize = 100;
    on_two_nodes(|nodes, cluster| {
        let owner = cluster.owner();
        assert_eq!(cluster.subscribers(owner), format!("{BUS} 2"));
        let mut clients = nodes.each_ref().map(|node| subscribed(node, "c"));
        std::thread::scope(|scope| {
            for (node, name) in nodes.iter().zip(["a", "b"]) {
                scope.spawn(move || {
                    for number in 0..EVENTS {
                        api::publish_event(node, "1", "c", name, &number.to_string());
                    }
                });
            }
        });
        let [one, other] = clients.each_mut().map(|client| {
            let heard: Vec<_> = (0..2 * EVENTS).map(|_| client.hear()).collect();
            client.hears_nothing();
            heard
        });
        assert_eq!(one, other);
        for name in ["a", "b"] {
            let mark = format!(r#""event":"{name}""#);
            let of_one = one.iter().filter(|text| text.contains(&mark));
            let events = (0..EVENTS).map(|number| heard(name, &number.to_string(), "c"));
            assert!(of_one.cloned().eq(events));
        }
    });
}

#[test]
fn the_death_of_the_master_loses_and_doubles_nothing_and_its_heir_is_found() {
    on_two_nodes(|nodes, mut cluster| {
        let owner = cluster.owner();
        lives_through(&nodes, Duration::from_secs(8), || {
            std::thread::sleep(Duration::from_secs(1));
            cluster.0[owner].kill();
        });
        have_moved_to(&nodes, &cluster, owner + MASTERS);
    });
}

#[test]
fn a_master_that_lives_on_without_its_slots_is_left() {
    on_two_nodes(|nodes, cluster| {
        let owner = cluster.owner();
        lives_through(&nodes, Duration::from_secs(8), || {
            std::thread::sleep(Duration::from_secs(1));
            cluster.tell(owner + MASTERS, &["FAILOVER"]);
        });
        have_moved_to(&nodes, &cluster, owner + MASTERS);
    });
}

#[test]
fn a_slot_that_is_moved_to_another_master_is_followed() {
    on_two_nodes(|nodes, cluster| {
        let owner = cluster.owner();
        let heir = (owner + 1) % MASTERS;
        let (slot, id) = (cluster.slot(BUS).to_string(), cluster.id(heir));
        lives_through(&nodes, Duration::from_secs(8), || {
            std::thread::sleep(Duration::from_secs(1));
            let from = cluster.id(owner);
            cluster.tell(heir, &["SETSLOT", &slot, "IMPORTING", &from]);
            cluster.tell(owner, &["SETSLOT", &slot, "MIGRATING", &id]);
            cluster.tell(heir, &["SETSLOT", &slot, "NODE", &id]);
            cluster.tell(owner, &["SETSLOT", &slot, "NODE", &id]);
        });
        have_moved_to(&nodes, &cluster, heir);
    });
}

#[test]
fn what_laravel_publishes_at_any_node_of_a_cluster_is_heard() {
    let mut cluster = Cluster::start();
    let servers = ALL_FLEETS.map(|fleet| {
        let (told, port) = (&cluster.0[1], cluster.0[1].port.to_string());
        laravel::listening(fleet, told, &Cluster::variables(&port))
    });
    let mut clients = servers.each_ref().map(|server| subscribed(server, "c"));
    let channel = format!("{}c", PREFIXES[0]);
    let publish = |cluster: &Cluster, number: usize| {
        let said = payload(&format!("from-{number}"), "1", "null");
        cluster.client(number).publish(&channel, &said);
    };
    let hear = |clients: &mut [Client], number: usize| {
        for client in clients {
            assert_eq!(client.hear(), heard(&format!("from-{number}"), "1", "c"));
        }
    };
    for number in 0..cluster.0.len() {
        publish(&cluster, number);
        hear(&mut clients, number);
    }
    let owner = cluster.slot(PREFIXES[0]) / SHARE;
    cluster.0[owner].kill();
    for server in &servers {
        server.says_times(WORKS, 2);
    }
    for number in (0..cluster.0.len()).filter(|&number| number != owner) {
        publish(&cluster, number);
        hear(&mut clients, number);
    }
}

#[test]
fn over_tls_a_node_of_a_cluster_leads_to_the_owner_of_the_slot() {
    let tls = Certificate::make("cluster");
    let ports = [[(); 2]; 2].map(|ports| ports.map(|()| harness::free_port().to_string()));
    let redis = ports.each_ref().map(|[port, bus]| {
        let of_tls = [
            ["--tls-port", port],
            ["--tls-cluster", "yes"],
            ["--tls-auth-clients", "no"],
            ["--tls-cert-file", &tls.certificate],
            ["--tls-key-file", &tls.key],
            ["--tls-ca-cert-file", &tls.certificate],
            ["--cluster-port", bus],
            ["--cluster-announce-hostname", "localhost"],
        ];
        start_redis(&of_tls.concat())
    });
    let cluster = Cluster(redis.into());
    cluster.tell(1, &["ADDSLOTSRANGE", "0", "16383"]);
    let [[port, bus], _] = &ports;
    cluster.tell(1, &["MEET", "127.0.0.1", port, bus]);
    cluster.comes_to(|number| {
        let view = cluster.view(number);
        view.matches(",localhost").count() == 2 && view.contains(" connected 0-16383")
    });
    let url = format!("rediss://localhost:{port}");
    let variables = [
        ("REDIS_CLUSTER", "true"),
        ("REDIS_URL", &url),
        ("REDIS_PASSWORD", PASSWORD),
        ("SLAPBACK_REDIS_CA", &tls.certificate),
    ];
    let server = laravel::listening(ALL_FLEETS[0], &cluster.0[0], &variables);
    let patterns = [0, 1].map(|number| cluster.client(number).ask(&["PUBSUB", "NUMPAT"]));
    assert_eq!(patterns, ["0".to_owned(), PREFIXES.len().to_string()]);
    let mut client = subscribed(&server, "c");
    let channel = format!("{}c", PREFIXES[0]);
    cluster
        .client(0)
        .publish(&channel, &payload("e", "1", "null"));
    assert_eq!(client.hear(), heard("e", "1", "c"));
}

#[test]
fn a_redis_that_is_no_cluster_is_told_as_such() {
    let redis = Redis::start();
    let variables = [("REDIS_CLUSTER", "true")];
    let server = laravel::start(ALL_FLEETS[0], &redis, &variables);
    let line = server.says("redis: ingest does not work");
    assert!(line.contains("cluster support disabled"), "{line}");
}
