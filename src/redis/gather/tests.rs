//! Whom a question is put to, and when its answer is enough.

use proptest::prelude::*;

use super::*;
use crate::shard::index::Slot;
use crate::shard::message::{SessionKey, ShardIndex};

const APP: AppIndex = AppIndex(0);

/// A gather, its time, and what it wanted done.
struct Asked {
    gather: Gather,
    now: Instant,
    effects: Vec<Effect>,
    /// Of the latest question.
    ticket: u32,
    key: String,
}

impl Asked {
    fn new() -> Self {
        Self {
            gather: Gather::new(7),
            now: Instant::now(),
            effects: Vec::new(),
            ticket: 0,
            key: String::new(),
        }
    }

    /// A call asks, and all but those on the bus answer at once; Redis had so many for it.
    fn ask(&mut self, receivers: i64) {
        self.put(true);
        self.own(1);
        self.gather
            .handle_heard(self.now, &self.key, receivers, &mut self.effects);
    }

    /// A call asks; its number and key are noted.
    fn put(&mut self, has_bus: bool) {
        self.gather
            .handle_ask(self.now, ask(1), has_bus, &mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::AskShards { ticket, .. } => self.ticket = ticket,
                Effect::AskNodes { key, .. } => self.key = key.into(),
                other => panic!("{other:?}"),
            }
        }
    }

    fn own(&mut self, connections: usize) {
        let facts = known(connections);
        self.gather
            .handle_own(self.now, self.ticket, facts, &mut self.effects);
    }

    fn answer(&mut self, connections: usize) {
        let (key, facts) = (self.key.clone(), known(connections));
        self.gather
            .handle_answer(self.now, &key, facts, &mut self.effects);
    }

    fn later(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.gather.handle_tick(self.now, &mut self.effects);
    }

    /// The sum that the call was given, if it was.
    fn sum(&mut self) -> Option<usize> {
        match self.effects.pop()? {
            Effect::Answer(Asker::Call(_), facts) => Some(facts.connections),
            other => panic!("{other:?}"),
        }
    }
}

fn ask(number: u32) -> Ask {
    Ask {
        app: APP,
        session: SessionKey {
            shard: ShardIndex(0),
            slot: Slot(number),
            generation: 0,
        },
        question: Arc::new(Question::Connections),
    }
}

fn known(connections: usize) -> Facts {
    Facts {
        connections,
        ..Facts::default()
    }
}

#[test]
fn an_answer_is_given_when_all_who_heard_the_question_have_said_what_they_know() {
    let mut asked = Asked::new();
    asked.ask(3);
    assert_eq!(asked.sum(), None);
    asked.answer(10);
    assert_eq!(asked.sum(), None);
    asked.answer(100);
    assert_eq!(asked.sum(), Some(111));
}

#[test]
fn answers_may_come_before_redis_says_how_many_there_will_be() {
    let mut asked = Asked::new();
    asked.put(true);
    asked.answer(10);
    let effects = &mut asked.effects;
    asked.gather.handle_heard(asked.now, &asked.key, 2, effects);
    assert_eq!(asked.sum(), None);
    asked.own(1);
    assert_eq!(asked.sum(), Some(11));
}

#[test]
fn r233_an_answer_that_comes_later_is_for_nobody() {
    let mut asked = Asked::new();
    asked.ask(1);
    assert_eq!(asked.sum(), Some(1));
    assert_eq!(asked.gather.question(&asked.key), None);
    asked.answer(10);
    asked.own(1);
    assert_eq!(asked.sum(), None);
    assert!(asked.gather.open.is_empty() && asked.gather.by_key.is_empty());
}

#[test]
fn without_a_bus_what_this_node_knows_must_do() {
    let mut asked = Asked::new();
    asked.put(false);
    assert_eq!(asked.key, "");
    asked.own(1);
    assert_eq!(asked.sum(), Some(1));
    // The same if the bus is lost meanwhile.
    asked.ask(3);
    asked.answer(10);
    assert_eq!(asked.sum(), None);
    asked.gather.handle_loss(asked.now, &mut asked.effects);
    assert_eq!(asked.sum(), Some(11));
}

#[test]
fn r232_whoever_is_silent_costs_ten_seconds_once_and_then_a_quarter_of_one() {
    let mut asked = Asked::new();
    asked.ask(3);
    asked.answer(10);
    asked.later(9999);
    assert_eq!(asked.sum(), None);
    asked.later(1);
    assert_eq!(asked.sum(), Some(11));
    for _ in 0..3 {
        // It stays known as long as it stays silent.
        asked.later(50_000);
        asked.ask(3);
        asked.answer(10);
        asked.later(249);
        assert_eq!(asked.sum(), None);
        assert_eq!(
            asked.gather.deadline(),
            Some(asked.now + Duration::from_millis(1))
        );
        asked.later(1);
        assert_eq!(asked.sum(), Some(11));
    }
    // A node is waited for as ever, beside it.
    asked.ask(3);
    asked.later(5000);
    assert_eq!(asked.sum(), None);
    asked.answer(10);
    assert_eq!(asked.sum(), Some(11));
    asked.later(60_000);
    asked.ask(3);
    asked.answer(10);
    asked.later(250);
    assert_eq!(asked.sum(), None);
}

#[test]
fn r232_whoever_answers_late_is_not_silent() {
    let mut asked = Asked::new();
    asked.ask(2);
    asked.later(10_000);
    assert_eq!(asked.sum(), Some(1));
    assert_eq!(asked.gather.question(&asked.key.clone()), None);
    asked.ask(2);
    asked.later(1000);
    assert_eq!(asked.sum(), None);
    asked.answer(10);
    assert_eq!(asked.sum(), Some(11));
}

#[test]
fn a_foreign_question_is_for_this_nodes_shards_and_answered_whoever_asked() {
    let mut gather = Gather::new(7);
    let question = Arc::new(Question::Connections);
    let asker = || Asker::Node {
        node: "a.1".into(),
        key: "k".into(),
    };
    let mut effects = Vec::new();
    gather.handle_foreign_ask(asker(), Some(APP), &question, &mut effects);
    let [Effect::AskShards { ticket, .. }] = effects[..] else {
        panic!("{effects:?}");
    };
    effects.clear();
    gather.handle_own(Instant::now(), ticket, known(1), &mut effects);
    let is_answer = |effect: &Effect, connections| {
        matches!(effect, Effect::Answer(Asker::Node { .. }, facts)
            if facts.connections == connections)
    };
    assert!(
        is_answer(&effects[0], 1) && effects.len() == 1,
        "{effects:?}"
    );
    // About an app that is not served here nothing is known.
    effects.clear();
    gather.handle_foreign_ask(asker(), None, &question, &mut effects);
    assert!(
        is_answer(&effects[0], 0) && effects.len() == 1,
        "{effects:?}"
    );
}

#[test]
fn beyond_the_bound_questions_are_refused() {
    let (mut gather, now, mut effects) = (Gather::new(7), Instant::now(), Vec::new());
    for number in 0..u32::try_from(OPEN_MAX).expect("small") {
        gather.handle_ask(now, ask(number), false, &mut effects);
    }
    effects.clear();
    gather.handle_ask(now, ask(0), true, &mut effects);
    let is_refused = matches!(effects[..], [Effect::Refuse(Asker::Call(_))]);
    assert!(is_refused, "{effects:?}");
}

#[test]
fn a_user_on_two_nodes_is_told_of_once() {
    let mut asked = Asked::new();
    asked.put(false);
    let users = [r#""1""#, "2", r#""2""#, r#""1""#, r#""\u0031""#];
    let facts = Facts {
        users: users.map(Into::into).into(),
        ..Facts::default()
    };
    asked
        .gather
        .handle_own(asked.now, asked.ticket, facts, &mut asked.effects);
    let Some(Effect::Answer(_, facts)) = asked.effects.pop() else {
        panic!("no answer");
    };
    assert_eq!(facts.users, [r#""1""#.into(), "2".into()]);
}

/// One thing that happens to a gather.
#[derive(Debug, Clone)]
enum Step {
    Ask { has_bus: bool },
    Own,
    Heard(i64),
    Answer,
    Loss,
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<bool>().prop_map(|has_bus| Step::Ask { has_bus }),
        Just(Step::Own),
        (0..4_i64).prop_map(Step::Heard),
        Just(Step::Answer),
        Just(Step::Loss),
        (0..6000_u64).prop_map(Step::Later),
    ]
}

proptest! {
    /// Each call is answered once, within 10 s of both this node's shards and the call.
    #[test]
    fn every_call_is_answered_once(steps in prop::collection::vec(step(), 1..80)) {
        let mut gather = Gather::new(7);
        let (mut now, mut asked, mut answered) = (Instant::now(), 0_u32, Vec::new());
        let (mut tickets, mut keys) = (Vec::new(), Vec::<Key>::new());
        let end = [Step::Own, Step::Own, Step::Later(10_000)];
        let owns = std::iter::repeat_n(Step::Own, steps.len());
        for step in steps.clone().into_iter().chain(owns).chain(end) {
            let mut effects = Vec::new();
            match step {
                Step::Ask { has_bus } => {
                    gather.handle_ask(now, ask(asked), has_bus, &mut effects);
                    asked += 1;
                }
                Step::Own => if let Some(ticket) = tickets.pop() {
                    gather.handle_own(now, ticket, known(1), &mut effects);
                },
                Step::Heard(receivers) => if let Some(key) = keys.last() {
                    gather.handle_heard(now, key, receivers, &mut effects);
                },
                Step::Answer => if let Some(key) = keys.last() {
                    gather.handle_answer(now, key, known(1), &mut effects);
                },
                Step::Loss => gather.handle_loss(now, &mut effects),
                Step::Later(milliseconds) => {
                    now += Duration::from_millis(milliseconds);
                    gather.handle_tick(now, &mut effects);
                }
            }
            for effect in effects {
                match effect {
                    Effect::AskShards { ticket, .. } => tickets.push(ticket),
                    Effect::AskNodes { key, .. } => keys.push(key),
                    Effect::Answer(Asker::Call(ask), _) => answered.push(ask.session.slot.0),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        answered.sort_unstable();
        prop_assert_eq!(answered, (0..asked).collect::<Vec<_>>());
        prop_assert!(gather.open.is_empty() && gather.by_key.is_empty());
    }
}

#[test]
fn when_the_shards_have_ended_whoever_asks_is_told_at_once_that_nothing_is_here() {
    let mut gather = Gather::new(7);
    let question = Arc::new(Question::Connections);
    let asker = |key: &str| Asker::Node {
        node: "a.1".into(),
        key: key.into(),
    };
    let mut effects = Vec::new();
    gather.handle_foreign_ask(asker("before"), Some(APP), &question, &mut effects);
    effects.clear();
    gather.handle_end(Instant::now(), &mut effects);
    gather.handle_foreign_ask(asker("behind"), Some(APP), &question, &mut effects);
    let keys = effects.iter().map(|effect| match effect {
        Effect::Answer(Asker::Node { key, .. }, facts) if *facts == Facts::default() => &**key,
        _ => panic!("{effect:?}"),
    });
    assert_eq!(keys.collect::<Vec<_>>(), ["before", "behind"]);
}

#[test]
fn who_wants_the_same_list_while_two_are_asked_for_gets_the_next_one() {
    let mut gather = Gather::new(7);
    let (now, mut effects) = (Instant::now(), Vec::new());
    let mut keys: VecDeque<(u32, Key)> = VecDeque::new();
    let mut note = |effects: &mut Vec<Effect>| {
        let mut told = Vec::new();
        let mut ticket = 0;
        for effect in effects.drain(..) {
            match effect {
                Effect::AskShards { ticket: given, .. } => ticket = given,
                Effect::AskNodes { key, .. } => keys.push_back((ticket, key)),
                Effect::Answer(Asker::Call(ask), _) => told.push(ask.session.slot.0),
                other => panic!("{other:?}"),
            }
        }
        (told, keys.len())
    };
    let list = |number, channel: &str| Ask {
        question: Arc::new(Question::Users {
            channel: channel.into(),
        }),
        ..ask(number)
    };
    for (number, channel) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "a")] {
        gather.handle_ask(now, list(number, channel), true, &mut effects);
    }
    assert_eq!(note(&mut effects), (vec![], 2));
    // What is no list goes its way.
    gather.handle_ask(now, ask(6), true, &mut effects);
    assert_eq!(note(&mut effects), (vec![], 3));
    assert_eq!(gather.waiting.len(), 2);
    let first = gather.by_key.len();
    assert_eq!(first, 3);
    // The first list is there: those that wait for the next one are asked for together.
    let ticket = *gather.open.keys().min().unwrap();
    let key = gather.open[&ticket].others.as_ref().unwrap().key.clone();
    gather.handle_own(now, ticket, known(1), &mut effects);
    gather.handle_heard(now, &key, 1, &mut effects);
    assert_eq!(note(&mut effects), (vec![1], 4));
    assert_eq!(gather.waiting.len(), 1);
    // Nobody can be asked any more: what this node knows must do, for those that wait too.
    gather.handle_loss(now, &mut effects);
    assert!(gather.waiting.is_empty());
    effects.clear();
    for ticket in gather.open.keys().copied().collect::<Vec<_>>() {
        gather.handle_own(now, ticket, known(1), &mut effects);
    }
    let (mut told, _) = note(&mut effects);
    told.sort_unstable();
    assert_eq!(told, [2, 3, 4, 5, 6]);
}
