//! Questions and answers, written and read.

use proptest::prelude::*;

use super::*;
use crate::broadcast::SocketId;
use crate::proto::channel::ChannelKind;

fn info(words: &str) -> Info {
    Info::parse(words)
}

fn occupied(channel: &str, subscriptions: usize, users: usize) -> Occupied {
    Occupied {
        channel: channel.into(),
        subscriptions,
        users,
        cached: None,
    }
}

/// What is left of a question when another node has read it.
fn crossed(question: &Question, is_of_php: bool) -> Option<Question> {
    with_metric(question, "k", |metric| question_of(metric, is_of_php))?
}

#[test]
fn a_question_is_the_same_at_the_other_node() {
    let channels = |prefix: &str, words| Question::Channels {
        prefix: prefix.into(),
        info: info(words),
    };
    for question in [
        Question::Connections,
        channels("", ""),
        channels("presence-", "user_count"),
        Question::Channel {
            channel: "c1".into(),
            info: info("subscription_count,occupied,cache"),
        },
        Question::Users {
            channel: "presence-x".into(),
        },
        Question::Event {
            channels: vec!["c1".into(), "c2".into()],
            info: info("subscription_count"),
        },
    ] {
        assert_eq!(crossed(&question, false), Some(question));
    }
    assert_eq!(
        crossed(&Question::Connections, true),
        Some(Question::Sockets)
    );
    let user = "1".into();
    assert_eq!(crossed(&Question::Terminate { user }, false), None);
}

#[test]
fn a_batch_is_asked_about_in_one_question() {
    let item = |channel: &str, words| Some((channel.into(), info(words)));
    let batch = Question::Batch {
        items: vec![
            item("c2", "subscription_count"),
            None,
            item("c1", "user_count"),
        ],
    };
    let asked = Question::Event {
        channels: vec!["c1".into(), "c2".into()],
        info: info("user_count,subscription_count"),
    };
    assert_eq!(crossed(&batch, false), Some(asked));
}

#[test]
fn a_metric_that_lacks_an_option_asks_nothing() {
    for metric in [MetricType::Channel, MetricType::ChannelUsers] {
        let metric = Metric {
            key: "k",
            app: "app-1",
            metric,
            options: vec![("channel", Choice::Null)],
        };
        assert_eq!(question_of(&metric, true), None);
    }
}

#[test]
fn php_nodes_are_answered_as_they_answer() {
    let socket = SocketId { a: 26, b: 70 };
    let facts = Facts {
        connections: 1,
        sockets: vec![socket],
        channels: vec![occupied("c1", 2, 0), occupied("presence-x", 0, 1)],
        users: vec![r#""2""#.into()],
        is_cut: false,
    };
    let nothing = Facts::default();
    let channels = |words| Question::Channels {
        prefix: "".into(),
        info: info(words),
    };
    let event = Question::Event {
        channels: vec!["c1".into(), "none".into()],
        info: info("subscription_count"),
    };
    let channel = |name: &str, words| Question::Channel {
        channel: name.into(),
        info: info(words),
    };
    let users = Question::Users {
        channel: "presence-x".into(),
    };
    for (question, facts, expected) in [
        (&Question::Sockets, &facts, r#"{"26.70":{}}"#),
        (&Question::Sockets, &nothing, "[]"),
        (
            &channels("subscription_count,user_count"),
            &facts,
            r#"{"c1":{"subscription_count":2},"presence-x":{"user_count":1}}"#,
        ),
        (&channels(""), &facts, r#"{"c1":[],"presence-x":[]}"#),
        (&channels(""), &nothing, "[]"),
        (
            &event,
            &facts,
            r#"{"c1":{"subscription_count":2},"none":[]}"#,
        ),
        (
            &channel("c1", "subscription_count,occupied"),
            &facts,
            r#"{"occupied":true,"subscription_count":2}"#,
        ),
        (
            &channel("none", "occupied"),
            &facts,
            r#"{"occupied":false}"#,
        ),
        (&channel("none", "subscription_count"), &facts, "[]"),
        (&users, &facts, r#"[{"id":"2"}]"#),
        (&users, &nothing, "[]"),
    ] {
        let mut out = Vec::new();
        write_for_php(&mut out, question, facts);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{question:?}");
    }
}

#[test]
fn what_php_nodes_answer_is_known() {
    let read = |question: &Question, answer: &str| {
        read_of_php(question, answer, &mut Scratch::default()).expect("JSON")
    };
    let sockets = r#"{"886562339.747597099":{},"1.2":{}}"#;
    assert_eq!(read(&Question::Connections, sockets).connections, 2);
    assert_eq!(read(&Question::Connections, "[]").connections, 0);
    let all = Question::Channels {
        prefix: "".into(),
        info: info(""),
    };
    let listed = read(&all, r#"{"c1":[],"presence-x":{"user_count":1}}"#).channels;
    assert_eq!(listed, [occupied("c1", 0, 0), occupied("presence-x", 0, 1)]);
    let event = Question::Event {
        channels: vec!["c1".into(), "c2".into()],
        info: info("subscription_count"),
    };
    let named = read(&event, r#"{"c1":{"subscription_count":3},"c2":[]}"#).channels;
    assert_eq!(named, [occupied("c1", 3, 0)]);
    let channel = Question::Channel {
        channel: "c1".into(),
        info: info("occupied"),
    };
    assert_eq!(
        read(&channel, r#"{"occupied":true}"#).channels,
        [occupied("c1", 0, 0)]
    );
    assert_eq!(read(&channel, r#"{"occupied":false}"#).channels, []);
    let users = Question::Users {
        channel: "presence-x".into(),
    };
    let facts = read(&users, r#"[{"id":"2"},{"id":3},{"id":null},{}]"#);
    assert_eq!(facts.users, [r#""2""#.into(), "3".into()]);
    assert_eq!(facts.channels, [occupied("presence-x", 0, 2)]);
    assert_eq!(read(&users, "[]"), Facts::default());
    let malformed = read_of_php(&users, "[{]", &mut Scratch::default());
    assert_eq!(malformed, Err(Malformed));
}

fn facts() -> impl Strategy<Value = Facts> {
    let channel = ("[a-z/\"é-]{1,12}", 1..100_usize, any::<bool>());
    let channels = prop::collection::vec(channel, 0..5);
    let users = prop::collection::vec(prop_oneof!["[1-9][0-9]{0,5}", "\"[a-zé ]{0,8}\""], 0..5);
    (any::<u32>(), channels, users, any::<bool>()).prop_map(
        |(connections, channels, users, is_cut)| Facts {
            connections: connections as usize,
            sockets: Vec::new(),
            channels: channels
                .into_iter()
                .map(|(name, count, is_cached)| {
                    let is_presence = ChannelKind::of(&name).is_presence();
                    let (subscriptions, users) = if is_presence { (0, count) } else { (count, 0) };
                    let cached = is_cached.then(|| r#"{"event":"e","data":"\"1\""}"#.into());
                    Occupied {
                        cached,
                        ..occupied(&name, subscriptions, users)
                    }
                })
                .collect(),
            users: users.into_iter().map(String::into_boxed_str).collect(),
            is_cut,
        },
    )
}

proptest! {
    #[test]
    fn all_that_a_node_knows_is_known_to_the_other(facts in facts()) {
        let mut out = Vec::new();
        write_facts(&mut out, &facts);
        let text = String::from_utf8(out).expect("UTF-8");
        let read = read_facts(&text, &mut Scratch::default());
        prop_assert_eq!(read, Ok(facts), "{}", text);
    }

    #[test]
    fn no_answer_panics(text in "\\PC{0,60}") {
        let channel: Box<str> = "c".into();
        for question in [
            Question::Connections,
            Question::Channels { prefix: "".into(), info: info("") },
            Question::Channel { channel: channel.clone(), info: info("") },
            Question::Users { channel },
        ] {
            let _ = read_of_php(&question, &text, &mut Scratch::default());
        }
        let _ = read_facts(&text, &mut Scratch::default());
    }
}
