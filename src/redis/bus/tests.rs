//! One bus at a time: what it wants done for what it is told.

use super::*;
use crate::broadcast::Delivery;
use crate::shard::index::Slot;
use crate::shard::message::ShardIndex;

const LIMITS: Limits = Limits {
    replay_bytes: 1000,
    timeout: Duration::from_secs(2),
};

fn event(number: u8) -> Payload {
    let broadcast = Broadcast {
        app: AppIndex(0),
        deliveries: vec![Delivery {
            channel: "c".into(),
            except: None,
            frame: [number].into(),
            is_kept: false,
        }],
        is_one_event: false,
    };
    Payload::Event(Arc::new(broadcast))
}

/// Of event 1: 1.
fn number_of(payload: &Payload) -> u8 {
    match payload {
        Payload::Event(broadcast) => broadcast.deliveries[0].frame[0],
        Payload::Terminate { .. } => panic!("nobody is terminated here"),
    }
}

fn caller(number: u32) -> Caller {
    Caller {
        session: SessionKey {
            shard: ShardIndex(0),
            slot: Slot(number),
            generation: 0,
        },
        asks: None,
    }
}

/// A bus, its time, and what it wanted done in short: `p1` publish event 1, `d1` deliver it, `200`
/// and `503` with the caller's number, and the names of the rest.
struct Told {
    bus: Bus,
    now: Instant,
    effects: Vec<Effect>,
}

impl Told {
    fn new() -> Self {
        let now = Instant::now();
        let bus = Bus::new("me.1", LIMITS, now);
        let effects = Vec::new();
        Self { bus, now, effects }
    }

    fn live() -> Self {
        let mut told = Self::new();
        told.bus.handle_publisher_up(told.now, &mut told.effects);
        told.bus.handle_subscriber_up(told.now, &mut told.effects);
        assert!(told.bus.is_live());
        told.said();
        told
    }

    fn publish(&mut self, numbers: &[u8], caller: Option<Caller>) {
        let events = numbers.iter().map(|&number| event(number)).collect();
        self.bus
            .handle_publish(self.now, 0, events, caller, &mut self.effects);
    }

    fn hear(&mut self, node: &str, seq: u64) {
        let payload = event(u8::try_from(seq % 256).unwrap());
        let message = Incoming {
            seq,
            at: 0,
            is_late: false,
            payload,
        };
        self.bus
            .handle_message(self.now, node, message, &mut self.effects);
    }

    fn replay(&mut self, seqs: &[u64], until: u64, is_whole: bool) {
        let messages = seqs.iter().map(|&seq| Incoming {
            seq,
            at: 0,
            is_late: true,
            payload: event(u8::try_from(seq % 256).unwrap()),
        });
        let (bus, out) = (&mut self.bus, &mut self.effects);
        bus.handle_replay(self.now, "a.1", messages.collect(), until, is_whole, out);
    }

    fn said(&mut self) -> String {
        let words = self.effects.drain(..).map(|effect| match effect {
            Effect::Publish(out) if out.late => format!("late{}", number_of(&out.payload)),
            Effect::Publish(out) => format!("p{}", number_of(&out.payload)),
            Effect::Deliver(payload, _) => format!("d{}", number_of(&payload)),
            Effect::Taken(caller) => format!("200:{}", caller.session.slot.0),
            Effect::Refused(caller) => format!("503:{}", caller.session.slot.0),
            Effect::Dropped => "dropped".to_owned(),
            Effect::Hello {
                seq, asks: true, ..
            } => format!("hello:{seq}?"),
            Effect::Hello { seq, .. } => format!("hello:{seq}"),
            Effect::Ask { node, after, .. } => format!("ask:{node}:{after}"),
            Effect::Replay {
                messages, is_whole, ..
            } => format!("replay:{}:{is_whole}", messages.len()),
            Effect::CloseAll => "close".to_owned(),
            Effect::Redial => "redial".to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn an_event_is_delivered_when_it_comes_back_and_its_call_answered_behind_that() {
    let mut told = Told::live();
    told.publish(&[1, 2], Some(caller(7)));
    assert_eq!(told.said(), "p1 p2");
    told.bus.handle_reply(2, &mut told.effects);
    told.bus.handle_reply(2, &mut told.effects);
    assert_eq!(told.said(), "");
    told.hear("me.1", 1);
    told.hear("me.1", 2);
    assert_eq!(told.said(), "d1 d2 200:7");
    told.publish(&[3], Some(caller(8)));
    told.hear("me.1", 3);
    assert_eq!(told.said(), "p3 d3");
    told.bus.handle_reply(2, &mut told.effects);
    assert_eq!(told.said(), "200:8");
}

#[test]
fn what_redis_refuses_is_published_when_the_right_is_back() {
    let mut told = Told::live();
    told.publish(&[1], Some(caller(7)));
    told.publish(&[2], Some(caller(8)));
    told.bus.handle_reply(2, &mut told.effects);
    told.bus.handle_refusal();
    told.bus.handle_publisher_down(&mut told.effects);
    assert_eq!(told.said(), "p1 p2 d1 d2 200:8 200:7");
    told.bus.handle_publisher_up(told.now, &mut told.effects);
    assert_eq!(told.said(), "late2");
    told.bus.handle_reply(2, &mut told.effects);
    told.hear("me.1", 2);
    assert_eq!(told.said(), "");
    assert!(told.bus.is_live());
}

#[test]
fn at_a_loss_what_was_not_delivered_is_and_none_of_it_is_published_twice() {
    let mut told = Told::live();
    told.publish(&[1], Some(caller(7)));
    told.publish(&[2], None);
    told.bus.handle_publisher_down(&mut told.effects);
    assert_eq!(told.said(), "p1 p2 d1 d2 200:7");
    told.publish(&[3], Some(caller(8)));
    assert_eq!(told.said(), "d3 200:8");
    told.bus.handle_publisher_up(told.now, &mut told.effects);
    assert_eq!(told.said(), "late3");
    told.publish(&[4], None);
    assert_eq!(told.said(), "d4");
    told.hear("me.1", 3);
    assert_eq!(told.said(), "late4");
    assert!(!told.bus.is_live());
    told.hear("me.1", 4);
    assert!(told.bus.is_live());
    let (now, out) = (told.now, &mut told.effects);
    told.bus.handle_ask(now, "a.1", 0, None, out);
    assert_eq!(told.said(), "replay:4:true");
}

#[test]
fn a_redis_that_is_late_is_dialled_anew() {
    let mut told = Told::live();
    told.publish(&[1], None);
    told.now += LIMITS.timeout;
    told.bus.handle_tick(told.now, 0, &mut told.effects);
    assert!(!told.said().contains("redial"));
    told.now += Duration::from_millis(1);
    told.bus.handle_tick(told.now, 0, &mut told.effects);
    assert!(told.said().contains("redial"));
}

#[test]
fn beyond_the_bound_a_call_is_refused_and_spends_no_number() {
    let mut told = Told::live();
    told.hear("a.1", 1);
    told.bus.handle_publisher_down(&mut told.effects);
    told.said();
    for number in 0..20 {
        told.publish(&[number], Some(caller(0)));
    }
    let said = told.said();
    let (taken, refused) = (said.matches("200").count(), said.matches("503").count());
    assert!(taken > 0 && refused > 0 && taken + refused == 20, "{said}");
    assert!(told.bus.is_full() || told.bus.held_bytes() <= LIMITS.replay_bytes);
    told.bus.handle_publisher_up(told.now, &mut told.effects);
    assert_eq!(told.said().matches("late").count(), taken);
    assert_eq!(told.bus.own.last(), taken as u64);
}

#[test]
fn a_node_that_is_alone_drops_the_oldest_instead() {
    let mut told = Told::new();
    for number in 0..20 {
        told.publish(&[number], Some(caller(0)));
    }
    assert_eq!(told.said().matches("200").count(), 20);
    assert!(told.bus.held_bytes() <= LIMITS.replay_bytes);
    told.bus.handle_subscriber_up(told.now, &mut told.effects);
    told.bus.handle_publisher_up(told.now, &mut told.effects);
    let said = told.said();
    assert!(
        !said.contains("late0 ") && said.ends_with("late19"),
        "{said}"
    );
}

#[test]
fn a_gap_is_asked_for_and_what_comes_behind_it_is_held_until_it_is_filled() {
    let mut told = Told::live();
    told.hear("a.1", 5);
    told.hear("a.1", 8);
    told.hear("a.1", 9);
    assert_eq!(told.said(), "d5 ask:a.1:5");
    told.replay(&[6, 7], 7, true);
    assert_eq!(told.said(), "d6 d7 d8 d9");
    told.hear("a.1", 7);
    told.hear("a.1", 10);
    assert_eq!(told.said(), "d10");
}

#[test]
fn what_its_sender_no_longer_has_closes_all_once() {
    let mut told = Told::live();
    told.hear("a.1", 5);
    told.bus
        .handle_hello(told.now, "a.1", (9, false, 0), &mut told.effects);
    assert_eq!(told.said(), "d5 ask:a.1:5");
    told.replay(&[8, 9], 9, false);
    assert!(told.said().ends_with("close"));
    told.bus
        .handle_hello(told.now, "a.1", (9, false, 0), &mut told.effects);
    told.hear("a.1", 10);
    assert_eq!(told.said(), "d10");
}

#[test]
fn what_is_held_for_a_node_that_does_not_answer_is_delivered_after_a_while() {
    /// The timeout, in which it may find out that it cannot publish, and 2 s to come back.
    const ASKED: usize = 16;
    let mut told = Told::live();
    told.hear("a.1", 5);
    told.hear("a.1", 7);
    assert_eq!(told.said(), "d5 ask:a.1:5");
    let mut said = String::new();
    for _ in 0..ASKED + 4 {
        told.bus.handle_asked("a.1", 1);
        told.now += Duration::from_millis(250);
        told.bus.handle_tick(told.now, 0, &mut told.effects);
        said += &told.said();
    }
    assert_eq!(said.matches("ask").count(), ASKED - 1, "{said}");
    assert!(said.contains("d7 close"), "{said}");
}

#[test]
fn a_stranger_begins_where_it_is_heard_unless_the_subscription_was_missing() {
    let mut told = Told::live();
    told.hear("b.1", 41);
    assert_eq!(told.said(), "d41");
    told.bus.handle_subscriber_down(&mut told.effects);
    told.bus.handle_subscriber_up(told.now, &mut told.effects);
    told.said();
    told.hear("a.1", 3);
    assert_eq!(told.said(), "ask:a.1:0");
    told.replay(&[2, 3], 3, true);
    assert_eq!(told.said(), "d2 d3");
}

#[test]
fn many_names_and_the_largest_numbers_take_no_memory_and_break_nothing() {
    let mut told = Told::live();
    told.bus.handle_subscriber_down(&mut told.effects);
    told.bus.handle_subscriber_up(told.now, &mut told.effects);
    for number in 0..20_000 {
        told.hear(&format!("{number}.1"), u64::MAX - number % 2);
        told.effects.clear();
    }
    assert!(told.bus.held_bytes() <= 2 * LIMITS.replay_bytes);
    assert!(told.bus.peers_count() <= 1024);
    told.bus
        .handle_hello(told.now, "a.1", (u64::MAX, false, 0), &mut told.effects);
    told.replay(&[u64::MAX], u64::MAX, true);
    told.hear("a.1", u64::MAX);
    told.hear("me.1", u64::MAX);
    let (now, out) = (told.now, &mut told.effects);
    told.bus
        .handle_ask(now, "a.1", u64::MAX, Some(Duration::MAX), out);
    assert!(told.said().contains("replay:0"));
}

#[test]
fn a_node_that_hears_again_asks_who_is_there_and_is_told_at_once() {
    let mut told = Told::new();
    told.bus.handle_publisher_up(told.now, &mut told.effects);
    told.bus.handle_tick(told.now, 0, &mut told.effects);
    // It does not hear yet.
    assert_eq!(told.said(), "hello:0");
    told.bus.handle_subscriber_up(told.now, &mut told.effects);
    told.bus.handle_tick(told.now, 0, &mut told.effects);
    assert_eq!(told.said(), "hello:0?");
    told.now += HELLO_EVERY;
    told.bus.handle_tick(told.now, 0, &mut told.effects);
    assert_eq!(told.said(), "hello:0");
    told.bus
        .handle_hello(told.now, "b.1", (0, true, 0), &mut told.effects);
    told.bus.handle_tick(told.now, 0, &mut told.effects);
    assert_eq!(told.said(), "hello:0");
    told.bus
        .handle_hello(told.now, "me.1", (0, true, 0), &mut told.effects);
    told.bus.handle_tick(told.now, 0, &mut told.effects);
    assert_eq!(told.said(), "");
}
