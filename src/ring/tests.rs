//! Rings under one thread, two threads and a model.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// A wake that counts, and that a test thread can sleep on.
#[derive(Clone, Default)]
struct Bell(Arc<(Mutex<usize>, Condvar)>);

impl Wake for Bell {
    fn wake(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }
}

impl Bell {
    fn rung(&self) -> usize {
        *self.0.0.lock().unwrap()
    }

    /// Sleeps until rung more than `seen` times; a minute without means a lost wake-up.
    fn sleep(&self, seen: usize) {
        let count = self.0.0.lock().unwrap();
        let minute = Duration::from_secs(60);
        let waited = self
            .0
            .1
            .wait_timeout_while(count, minute, |n| *n <= seen)
            .unwrap();
        assert!(!waited.1.timed_out(), "a wake-up was lost");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    number: u64,
    bytes: usize,
}

impl Weigh for Entry {
    fn weight(&self) -> usize {
        self.bytes
    }
}

fn entry(number: u64) -> Entry {
    Entry { number, bytes: 10 }
}

struct Pair {
    sender: Sender<Entry>,
    receiver: Receiver<Entry>,
    producer: (Arc<Inbox>, Bell),
    consumer: (Arc<Inbox>, Bell),
}

fn inbox(limit_bytes: usize) -> (Arc<Inbox>, Bell) {
    let bell = Bell::default();
    (
        Arc::new(Inbox::new(limit_bytes, Box::new(bell.clone()))),
        bell,
    )
}

fn pair(capacity: usize, limit_bytes: usize) -> Pair {
    let (producer, consumer) = (inbox(limit_bytes), inbox(limit_bytes));
    let (sender, receiver) = ring(capacity, Arc::clone(&producer.0), Arc::clone(&consumer.0));
    Pair {
        sender,
        receiver,
        producer,
        consumer,
    }
}

fn drain(receiver: &mut Receiver<Entry>) -> Vec<u64> {
    let numbers = std::iter::from_fn(|| receiver.pop())
        .map(|entry| entry.number)
        .collect();
    receiver.drained();
    numbers
}

#[test]
fn entries_come_out_in_order_across_ring_and_spill() {
    let mut pair = pair(2, 1000);
    let spilled: Vec<bool> = (0..5)
        .map(|number| pair.sender.push(entry(number)))
        .collect();
    assert_eq!(spilled, [false, false, true, true, true]);
    assert_eq!(drain(&mut pair.receiver), [0, 1]);
    // Room in the ring is not for newcomers while older entries wait in the spill.
    assert!(pair.sender.push(entry(5)));
    pair.sender.publish();
    assert_eq!(drain(&mut pair.receiver), [2, 3]);
    pair.sender.publish();
    assert!(!pair.sender.has_spill());
    assert_eq!(drain(&mut pair.receiver), [4, 5]);
}

#[test]
fn a_sleeping_consumer_is_woken_once_per_batch() {
    let mut pair = pair(8, 1000);
    let (inbox, bell) = &pair.consumer;
    inbox.announce_sleep();
    pair.sender.push(entry(0));
    pair.sender.push(entry(1));
    assert_eq!(bell.rung(), 0, "a push alone wakes nobody");
    pair.sender.publish();
    pair.sender.publish();
    pair.sender.push(entry(2));
    pair.sender.publish();
    assert_eq!(bell.rung(), 1, "one wake until sleep is announced again");
    inbox.announce_sleep();
    pair.sender.publish();
    assert_eq!(bell.rung(), 1, "nothing was pushed since");
}

#[test]
fn a_consumer_that_is_awake_is_left_alone() {
    let mut pair = pair(8, 1000);
    pair.consumer.0.announce_sleep();
    pair.consumer.0.announce_awake();
    pair.sender.push(entry(0));
    pair.sender.publish();
    assert_eq!(pair.consumer.1.rung(), 0);
}

#[test]
fn a_producer_asleep_over_its_spill_is_woken_by_room() {
    let mut pair = pair(1, 1000);
    pair.sender.push(entry(0));
    pair.sender.push(entry(1));
    pair.producer.0.announce_sleep();
    pair.sender.publish();
    assert!(pair.sender.has_spill());
    pair.receiver.drained();
    assert_eq!(
        pair.producer.1.rung(),
        0,
        "nothing was popped, so there is no room"
    );
    assert_eq!(drain(&mut pair.receiver), [0]);
    assert_eq!(pair.producer.1.rung(), 1);
    pair.sender.publish();
    pair.producer.0.announce_sleep();
    assert_eq!(drain(&mut pair.receiver), [1]);
    assert_eq!(pair.producer.1.rung(), 1, "without a spill room is no news");
}

#[test]
fn over_full_counts_all_producers_and_clears_at_half() {
    let (consumer, _) = inbox(100);
    let (producer, _) = inbox(100);
    let mut ends: Vec<_> = (0..2)
        .map(|_| ring(2, Arc::clone(&producer), Arc::clone(&consumer)))
        .collect();
    for number in 0..5 {
        for (sender, _) in &mut ends {
            sender.push(entry(number));
        }
    }
    assert_eq!(
        (consumer.waiting_bytes(), consumer.is_over_full()),
        (100, false)
    );
    ends[0].0.push(entry(5));
    assert_eq!(
        (consumer.waiting_bytes(), consumer.is_over_full()),
        (110, true)
    );
    let mut left = 11;
    while left > 0 {
        for (sender, receiver) in &mut ends {
            left -= drain(receiver).len();
            sender.publish();
            assert_eq!(consumer.is_over_full(), left > 5, "{left} entries left");
        }
    }
    assert_eq!((consumer.waiting_bytes(), producer.waiting_bytes()), (0, 0));
}

/// What a thread of the stress test does when it has no work: announce, look again, sleep.
fn sleep_unless(inbox: &Inbox, bell: &Bell, mut work: impl FnMut() -> bool) {
    let seen = bell.rung();
    inbox.announce_sleep();
    if !work() {
        bell.sleep(seen);
    }
    inbox.announce_awake();
}

#[test]
fn no_entry_and_no_wake_up_is_lost_between_threads() {
    const ENTRIES: u64 = 30_000;
    const PRODUCERS: usize = 3;
    let (consumer, consumer_bell) = inbox(4096);
    let mut receivers = Vec::new();
    let mut threads = Vec::new();
    for seed in 0..PRODUCERS {
        let (producer, bell) = inbox(4096);
        let (mut sender, receiver) = ring(4, Arc::clone(&producer), Arc::clone(&consumer));
        receivers.push(receiver);
        threads.push(std::thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(seed as u64);
            let mut next = 0;
            while next < ENTRIES {
                for _ in 0..random.u64(1..9).min(ENTRIES - next) {
                    sender.push(entry(next));
                    next += 1;
                }
                sender.publish();
                while sender.has_spill() {
                    sleep_unless(&producer, &bell, || {
                        let before = sender.spill.len();
                        sender.publish();
                        sender.spill.len() < before
                    });
                    sender.publish();
                }
            }
        }));
    }
    let started = Instant::now();
    let mut expected = [0; PRODUCERS];
    while expected.iter().any(|&next| next < ENTRIES) {
        for (receiver, next) in receivers.iter_mut().zip(&mut expected) {
            for number in drain(receiver) {
                assert_eq!(number, *next);
                *next += 1;
            }
        }
        let idle = |receivers: &[Receiver<Entry>]| receivers.iter().all(|r| r.available() == 0);
        if idle(&receivers) && expected.iter().any(|&next| next < ENTRIES) {
            sleep_unless(&consumer, &consumer_bell, || !idle(&receivers));
        }
        assert!(started.elapsed() < Duration::from_secs(120));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(
        (consumer.waiting_bytes(), consumer.is_over_full()),
        (0, false)
    );
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Publish,
    Pop(usize),
    ConsumerSleeps,
    ProducerSleeps,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..50).prop_map(Step::Push),
        2 => Just(Step::Publish),
        2 => (1_usize..6).prop_map(Step::Pop),
        1 => Just(Step::ConsumerSleeps),
        1 => Just(Step::ProducerSleeps),
    ]
}

proptest! {
    #[test]
    fn a_ring_with_its_spill_is_a_queue(
        capacity in 1_usize..5,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut pair = pair(capacity, 200);
        let mut model = VecDeque::new();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Push(bytes) => {
                    pair.producer.0.announce_awake();
                    model.push_back(Entry { number, bytes });
                    pair.sender.push(Entry { number, bytes });
                    number += 1;
                }
                Step::Publish => {
                    pair.producer.0.announce_awake();
                    pair.sender.publish();
                    let asleep = pair.consumer.0.sleeping.load(Ordering::Relaxed);
                    prop_assert!(!asleep || pair.receiver.available() == 0);
                }
                Step::Pop(most) => {
                    for _ in 0..most.min(pair.receiver.available()) {
                        prop_assert_eq!(pair.receiver.pop(), model.pop_front());
                    }
                    pair.receiver.drained();
                }
                // Both look again behind the announcement, as the rule says.
                Step::ConsumerSleeps => {
                    pair.consumer.0.announce_sleep();
                    if pair.receiver.available() > 0 { pair.consumer.0.announce_awake(); }
                }
                Step::ProducerSleeps => {
                    pair.producer.0.announce_sleep();
                    pair.sender.publish();
                }
            }
            let waiting: usize = model.iter().map(|entry| entry.bytes).sum();
            prop_assert_eq!(pair.consumer.0.waiting_bytes(), waiting);
            prop_assert!(waiting <= 200 || pair.consumer.0.is_over_full());
            prop_assert!(waiting > 100 || !pair.consumer.0.is_over_full());
            prop_assert_eq!(pair.receiver.available() + pair.sender.spill.len(), model.len());
            // Nobody sleeps over work: an empty ring never has a spill whose producer sleeps.
            let asleep = pair.producer.0.sleeping.load(Ordering::Relaxed);
            let stuck = pair.sender.has_spill() && pair.receiver.available() == 0;
            prop_assert!(!(asleep && stuck));
        }
    }
}
