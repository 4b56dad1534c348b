//! What one event costs between shards, from 1 to 64 of them: ring entries, wakes and cache lines,
//! counted over the production shards, homes, rings and inboxes.
//!
//! Nothing is drawn here. All shards sleep; one is handed calls, as many as come in one batch of
//! reads, and takes its turn to the end; then each that was woken takes its own. So each wake is
//! needed, and there are as many of them as there can be.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use slapback::app::{AppSettings, Apps};
use slapback::fleet::ring_entries;
use slapback::metrics::{Counter, Metrics};
use slapback::proto::Now;
use slapback::proto::session::Settings;
use slapback::ring::{Inbox, Wake};
use slapback::shard::audience::Audience;
use slapback::shard::cache::CacheLimits;
use slapback::shard::ends::{Ends, Part, TURN, mesh};
use slapback::shard::flusher::{Flusher, Outgoing, Sent};
use slapback::shard::message::{Message, SessionKey, ShardIndex};
use slapback::shard::{BacklogLimits, Command, Setup, Shard};

use crate::wire;

const FLEETS: [u16; 5] = [1, 2, 4, 16, 64];
/// Calls that one batch of reads brings, each on a connection of its own.
const BATCH: usize = 64;
const CHANNEL: &str = "orders";
const SOCKETS_PER_SHARD: usize = 2;

/// The shard that is home to the first app, in a fleet of any size.
const HOME: u16 = 0;

/// Bytes of a cache line.
const LINE: usize = 64;

/// What was counted from the moment that calls were handed in until all shards slept again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// Events on their way to their home.
    publishes: usize,
    /// Events on their way from their home to a shard.
    delivers: usize,
    /// Those of them that found a subscriber there.
    useful: usize,
    /// Answers on their way from a home to the caller's shard.
    answers: usize,
    /// Shards that were woken, each as often as it was.
    wakes: usize,
    /// Frames that sockets got.
    frames: u64,
}

impl Counts {
    fn entries(&self) -> usize {
        self.publishes + self.delivers + self.answers
    }
}

/// Cache lines that the counted entries touch, by the layout of what is pushed and of the indices
/// beside it.
struct Lines {
    /// Written by who pushes one entry: the entry itself, the ring's tail and the destination's
    /// count of waiting bytes, which have lines of their own.
    pushed: usize,
    /// Written by who pops one: the ring's head, on its own line too.
    popped: usize,
    /// Of the event's reference count. Each shard writes it when it lets go of the event, and so
    /// takes it from the one before: as many moves as there are shards.
    count: usize,
}

impl Lines {
    fn of_layout() -> Self {
        // As `ring.rs` pushes it: with its weight in front.
        let entry = size_of::<(usize, Message)>().div_ceil(LINE);
        Self {
            pushed: entry + 1 + 1,
            popped: 1,
            count: 1,
        }
    }
}

#[test]
fn an_event_is_one_ring_entry_per_other_shard_and_a_batch_one_wake_of_each() {
    let lines = Lines::of_layout();
    assert!(lines.pushed <= 3, "{} lines per entry", lines.pushed);
    println!("shards  entries  wakes  wakes of {BATCH} together  lines written  KiB of rings");
    for shards in FLEETS {
        let others = usize::from(shards) - 1;
        let mut fleet = Fleet::new(shards, shards);
        let one = fleet.publish(HOME, 1);
        let expected = Counts {
            delivers: others,
            useful: others,
            wakes: others,
            frames: fleet.subscribers(),
            ..Counts::default()
        };
        assert_eq!(one, expected, "{shards} shards, at the home");
        let many = fleet.publish(HOME, BATCH);
        assert_eq!(many.entries(), BATCH * others);
        assert_eq!(many.wakes, others, "{shards} shards, a batch at the home");
        assert_eq!(many.frames, BATCH as u64 * fleet.subscribers());
        let written = one.entries() * (lines.pushed + lines.popped) + shards as usize * lines.count;
        let rings = usize::from(shards) * others * ring_bytes(shards) / 1024;
        let (entries, wakes, batch) = (one.entries(), one.wakes, many.wakes);
        println!("{shards:>6} {entries:>8} {wakes:>6} {batch:>21} {written:>14} {rings:>13}");
    }
}

#[test]
fn an_event_from_another_shard_costs_its_way_to_the_home_and_an_answer_more() {
    for shards in FLEETS.into_iter().skip(1) {
        let others = usize::from(shards) - 1;
        let mut fleet = Fleet::new(shards, shards);
        for calls in [1, BATCH] {
            let counts = fleet.publish(HOME + 1, calls);
            let expected = Counts {
                publishes: calls,
                delivers: calls * others,
                useful: calls * others,
                answers: calls,
                // The home's, and from there everybody's.
                wakes: 1 + others,
                frames: calls as u64 * fleet.subscribers(),
            };
            assert_eq!(counts, expected, "{shards} shards, {calls} calls");
        }
    }
}

#[test]
fn an_event_wakes_no_shard_that_has_nobody_on_its_channel() {
    for shards in FLEETS {
        for subscribed in [0, 1, shards / 2] {
            let mut fleet = Fleet::new(shards, subscribed);
            let counts = fleet.publish(HOME, BATCH);
            // The home itself has the first of them.
            let others = usize::from(subscribed).saturating_sub(1);
            assert_eq!(counts.delivers, BATCH * others);
            assert_eq!((counts.useful, counts.wakes), (counts.delivers, others));
        }
    }
}

#[test]
fn rings_take_so_much_memory_per_shard_and_no_more_in_a_larger_fleet() {
    for shards in FLEETS {
        let into_one = (usize::from(shards) - 1) * ring_bytes(shards);
        assert!(into_one <= 1 << 20, "{shards} shards: {into_one} bytes");
    }
}

/// Bytes of one ring of such a fleet.
fn ring_bytes(shards: u16) -> usize {
    ring_entries(usize::from(shards)) * size_of::<(usize, Message)>()
}

/// Shards that take their turns one after the other.
struct Fleet {
    nodes: Vec<Node>,
    inboxes: Vec<Arc<Inbox>>,
    apps: Arc<Apps>,
    now: Now,
    /// What every socket of the fleet was sent.
    sent: Wires,
}

struct Node {
    shard: Shard,
    ends: Ends,
    wakes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    callers: Vec<SessionKey>,
}

#[derive(Default)]
struct Wires(BTreeMap<i32, Vec<u8>>);

struct Count(Arc<AtomicUsize>);

impl Wake for Count {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Fleet {
    /// So many shards, the first `subscribed` of them with subscribers, and all of them asleep.
    fn new(shards: u16, subscribed: u16) -> Self {
        let settings = AppSettings::new("app", "key", "secret");
        let apps = Arc::new(Apps::new(vec![settings]));
        let wakes: Vec<Arc<AtomicUsize>> = (0..shards).map(|_| Arc::default()).collect();
        let inbox =
            |wakes: &Arc<AtomicUsize>| Inbox::new(64 << 20, Box::new(Count(Arc::clone(wakes))));
        let inboxes: Vec<_> = wakes.iter().map(|wakes| Arc::new(inbox(wakes))).collect();
        let now = Now {
            instant: Instant::now(),
            unix_s: 1_800_000_000,
        };
        let capacity = ring_entries(usize::from(shards));
        let ends = mesh(capacity, &inboxes).into_iter().zip(wakes);
        let audience = Arc::new(Audience::new(shards, 1));
        let mut fleet = Self {
            nodes: (0..shards)
                .zip(ends)
                .map(|(at, (ends, wakes))| {
                    Node::new((at, shards), (&apps, &audience), ends, wakes, now.instant)
                })
                .collect(),
            inboxes,
            apps,
            now,
            sent: Wires::default(),
        };
        for at in 0..shards {
            fleet.connect(at, at < subscribed);
        }
        fleet.sleep();
        let all = u64::from(subscribed) * SOCKETS_PER_SHARD as u64;
        assert_eq!(fleet.subscribers(), all);
        fleet
    }

    /// Callers and, if it is to have them, subscribers of one shard.
    fn connect(&mut self, at: u16, is_subscribed: bool) {
        let app = self.apps.iter().next().unwrap().1;
        let subscribers = usize::from(is_subscribed) * SOCKETS_PER_SHARD;
        let node = &mut self.nodes[usize::from(at)];
        for number in 0..subscribers + BATCH {
            let socket = i32::from(at) * 1000 + i32::try_from(number).unwrap();
            let key = node.shard.handle_opened(self.now, socket);
            if number >= subscribers {
                node.callers.push(key);
                continue;
            }
            let mut head = wire::upgrade(app, "dGhlIHNhbXBsZSBub25jZQ==");
            node.shard.handle_bytes(self.now, key, &mut head);
            let text = wire::subscribe(app, "", CHANNEL, "");
            let mut frame = wire::masked(1, text.as_bytes(), [0; 4]);
            node.shard.handle_bytes(self.now, key, &mut frame);
        }
    }

    fn subscribers(&self) -> u64 {
        let app = self.apps.iter().next().unwrap().0;
        let of = |node: &Node| node.shard.subscription_count(app, CHANNEL) as u64;
        self.nodes.iter().map(of).sum()
    }

    /// Everybody works until there is nothing to do; what it took is nobody's concern.
    fn sleep(&mut self) {
        for at in 0..self.nodes.len() {
            self.work(at, &mut Counts::default());
        }
        self.settle(&mut Counts::default());
        self.sent.0.clear();
    }

    /// A shard is handed so many calls that each publish one event, and all work until they sleep.
    fn publish(&mut self, at: u16, calls: usize) -> Counts {
        let mut counts = Counts::default();
        let before = self.delivered();
        let app = self.apps.iter().next().unwrap().1;
        let body = format!(r#"{{"name":"tick","channel":"{CHANNEL}","data":"x"}}"#);
        let call = wire::call(app, self.now.unix_s, ("POST", "/events"), &body, false);
        let node = &mut self.nodes[usize::from(at)];
        for &caller in &node.callers[..calls] {
            node.shard.handle_bytes(self.now, caller, &mut call.clone());
        }
        self.work(usize::from(at), &mut counts);
        self.settle(&mut counts);
        counts.frames = self.delivered() - before;
        self.check_sent(counts.frames, calls);
        counts
    }

    /// Lets each work that was woken, until nobody is.
    fn settle(&mut self, counts: &mut Counts) {
        loop {
            let is_woken = |node: &Node| node.wakes.load(Ordering::Relaxed) > 0;
            let Some(at) = self.nodes.iter().position(is_woken) else {
                return;
            };
            counts.wakes += self.nodes[at].wakes.swap(0, Ordering::Relaxed);
            self.work(at, counts);
        }
    }

    /// One shard takes turns as at the edge until there is nothing to do, and sleeps.
    fn work(&mut self, at: usize, counts: &mut Counts) {
        let (node, now) = (&mut self.nodes[at], self.now);
        self.inboxes[at].announce_awake();
        loop {
            let mut has_worked = false;
            for part in TURN {
                has_worked |= match part {
                    Part::Take => node.take(now, counts),
                    Part::Publish => {
                        node.ends.publish(&mut node.shard);
                        assert!(!node.ends.has_spill(), "a ring was full");
                        false
                    }
                    Part::Flush => node.shard.flush(now, &mut self.sent, usize::MAX),
                };
            }
            if !has_worked && !node.shard.has_output() {
                break;
            }
            // Whoever waited for an answer is read from again; nobody is closed, nobody is full.
            let mut commands = node.shard.poll_commands();
            assert!(commands.all(|command| matches!(command, Command::Resume(_))));
        }
        self.inboxes[at].announce_sleep();
    }

    fn delivered(&self) -> u64 {
        let of = |node: &Node| node.metrics.get(Counter::Delivered);
        self.nodes.iter().map(of).sum()
    }

    /// Each event has reached every subscriber, and each caller has its answer.
    fn check_sent(&mut self, frames: u64, calls: usize) {
        let all = self.sent.0.values();
        let texts: Vec<_> = all.map(|bytes| String::from_utf8_lossy(bytes)).collect();
        let found = |what: &str| texts.iter().map(|text| text.matches(what).count()).sum();
        let (events, answers): (usize, usize) = (found(r#""event":"tick""#), found(" 200 OK"));
        assert_eq!((events as u64, answers), (frames, calls));
        self.sent.0.clear();
    }
}

impl Node {
    fn new(
        (at, shards): (u16, u16),
        (apps, audience): (&Arc<Apps>, &Arc<Audience>),
        ends: Ends,
        wakes: Arc<AtomicUsize>,
        start: Instant,
    ) -> Self {
        let metrics = Arc::new(Metrics::default());
        let setup = Setup {
            shard: ShardIndex(at),
            shards,
            bus: None,
            interest: None,
            audience: Arc::clone(audience),
            apps: Arc::clone(apps),
            settings: Arc::new(Settings {
                max_request_size: 10_000,
                ..Settings::default()
            }),
            metrics: Arc::clone(&metrics),
            limits: BacklogLimits {
                bytes: 1 << 20,
                wait: Duration::from_secs(10),
                total: 1 << 28,
            },
            cache: CacheLimits {
                channels: 1,
                bytes: 1000,
            },
            seed: u64::from(at),
            start,
        };
        Self {
            shard: Shard::new(setup),
            ends,
            wakes,
            metrics,
            callers: Vec::new(),
        }
    }

    /// Rings in, and each entry counted.
    fn take(&mut self, now: Now, counts: &mut Counts) -> bool {
        let (shard, metrics) = (&mut self.shard, &self.metrics);
        self.ends.take_while(|message| {
            let before = metrics.get(Counter::Delivered);
            match message {
                Message::Publish { .. } => counts.publishes += 1,
                Message::Deliver(_) => counts.delivers += 1,
                Message::Published(_) => counts.answers += 1,
                ref other => panic!("{other:?} is no part of an event"),
            }
            let is_deliver = matches!(message, Message::Deliver(_));
            shard.handle_message(now, message);
            let has_delivered = metrics.get(Counter::Delivered) > before;
            counts.useful += usize::from(is_deliver && has_delivered);
            true
        })
    }
}

impl Flusher for Wires {
    fn flush(
        &mut self,
        log: &[u8],
        ranges: &[Range<u32>],
        batch: &[Outgoing],
        results: &mut Vec<Sent>,
    ) {
        results.clear();
        for entry in batch {
            let wire = self.0.entry(entry.socket).or_default();
            for range in &ranges[entry.ranges.start as usize..entry.ranges.end as usize] {
                wire.extend_from_slice(&log[range.start as usize..range.end as usize]);
            }
            results.push(Sent::All);
        }
    }
}
