//! Answers, byte for byte.

use proptest::prelude::*;

use super::*;

fn known(channel: &str, subscriptions: usize, users: usize, cached: Option<&str>) -> Occupied {
    Occupied {
        channel: channel.into(),
        subscriptions,
        users,
        cached: cached.map(Into::into),
    }
}

/// What the captured server knew: two sockets on c1, two users on presence-x, and a cache.
fn facts() -> Facts {
    Facts {
        connections: 3,
        channels: vec![
            known("presence-x", 0, 2, None),
            known("c1", 1, 0, None),
            known("private-p", 1, 0, None),
            known("c1", 1, 0, None),
            known("cache-k", 1, 0, Some(CACHED)),
        ],
        users: vec![r#""1""#.into(), "2".into()],
        ..Facts::default()
    }
}

const CACHED: &str = r#"{"event":"upd","data":"{\"v\":1}","channel":"cache-k"}"#;

fn ok(question: &Question, facts: Facts) -> String {
    let answer = answer(question, facts);
    assert!(answer.status == 200 && answer.is_json, "{answer:?}");
    answer.body.into_owned()
}

fn channel(name: &str, words: &str) -> String {
    let question = Question::Channel {
        channel: name.into(),
        info: Info::parse(words).with(Word::Occupied),
    };
    ok(&question, facts())
}

fn channels(words: &str, facts: Facts) -> String {
    let question = Question::Channels {
        prefix: "".into(),
        info: Info::parse(words),
    };
    ok(&question, facts)
}

#[test]
fn r221_connections_are_a_number() {
    assert_eq!(ok(&Question::Connections, facts()), r#"{"connections":3}"#);
}

#[test]
fn r210_r211_r212_channels_are_an_object_in_sorted_order() {
    assert_eq!(channels("", Facts::default()), r#"{"channels":{}}"#);
    assert_eq!(
        channels("bogus", facts()),
        r#"{"channels":{"c1":{},"cache-k":{},"presence-x":{},"private-p":{}}}"#
    );
    assert_eq!(
        channels("user_count,subscription_count,occupied", facts()),
        concat!(
            r#"{"channels":{"c1":{"occupied":true,"subscription_count":2},"#,
            r#""cache-k":{"occupied":true,"subscription_count":1},"#,
            r#""presence-x":{"occupied":true,"user_count":2},"#,
            r#""private-p":{"occupied":true,"subscription_count":1}}}"#
        )
    );
    // PHP makes a list of it.
    let zero = Facts {
        channels: vec![known("0", 1, 0, None)],
        ..Facts::default()
    };
    assert_eq!(
        channels("subscription_count", zero),
        r#"{"channels":{"0":{"subscription_count":1}}}"#
    );
}

#[test]
fn r214_r215_r218_a_channel_says_what_its_kind_has() {
    let all = "user_count,subscription_count,cache";
    assert_eq!(channel("c1", ""), r#"{"occupied":true}"#);
    assert_eq!(
        channel("c1", all),
        r#"{"occupied":true,"subscription_count":2}"#
    );
    assert_eq!(
        channel("presence-x", all),
        r#"{"occupied":true,"user_count":2}"#
    );
    assert_eq!(channel("nobody", all), r#"{"occupied":false}"#);
    let cached = channel("cache-k", "subscription_count,cache");
    assert_eq!(
        cached,
        concat!(
            r#"{"occupied":true,"subscription_count":1,"#,
            r#""cache":{"event":"upd","data":"{\u0022v\u0022:1}","channel":"cache-k"}}"#
        )
    );
    assert_eq!(cached.len(), 111);
}

#[test]
fn r219_r220_users_are_those_of_an_occupied_presence_channel() {
    let of = |channel: &str, facts: Facts| {
        let channel = channel.into();
        let answer = answer(&Question::Users { channel }, facts);
        assert!(answer.is_json);
        (answer.status, answer.body.into_owned())
    };
    let users = r#"{"users":[{"id":"1"},{"id":2}]}"#;
    assert_eq!(of("presence-x", facts()), (200, users.to_owned()));
    assert_eq!(of("c1", facts()), (400, "{}".to_owned()));
    assert_eq!(of("presence-none", facts()), (404, "{}".to_owned()));
    let odd = Facts {
        users: [r#""é\u0041\"</'&>""#, "1.5", "true", r#""""#]
            .map(Into::into)
            .to_vec(),
        ..facts()
    };
    let users = concat!(
        r#"{"users":[{"id":"\u00e9A\u0022\u003C\/\u0027\u0026\u003E"},"#,
        r#"{"id":1.5},{"id":true},{"id":""}]}"#
    );
    assert_eq!(of("presence-x", odd), (200, users.to_owned()));
    let nobody = Facts {
        users: Vec::new(),
        ..facts()
    };
    assert_eq!(
        of("presence-x", nobody),
        (200, r#"{"users":[]}"#.to_owned())
    );
}

#[test]
fn r191_r192_an_event_is_told_of_its_channels_in_their_order() {
    let question = |words: &str| Question::Event {
        channels: ["presence-x", "c1", "nobody"].map(Into::into).to_vec(),
        info: Info::parse(words),
    };
    for (words, expected) in [
        (
            "user_count",
            r#"{"channels":{"presence-x":{"user_count":2},"c1":{},"nobody":{}}}"#,
        ),
        (
            "subscription_count",
            r#"{"channels":{"presence-x":{},"c1":{"subscription_count":2},"nobody":{}}}"#,
        ),
        (
            "occupied",
            r#"{"channels":{"presence-x":{"occupied":true},"c1":{"occupied":true},"nobody":{"occupied":false}}}"#,
        ),
    ] {
        assert_eq!(ok(&question(words), facts()), expected);
    }
}

#[test]
fn r203_r204_a_batch_is_told_event_by_event() {
    let of = |channel: &str, words| Some((channel.into(), Info::parse(words)));
    let items = vec![
        of("c1", "subscription_count,user_count"),
        None,
        of("presence-x", "user_count"),
        of("nobody", "subscription_count"),
        of("c1", ""),
    ];
    assert_eq!(
        ok(&Question::Batch { items }, facts()),
        r#"{"batch":[{"subscription_count":2},{},{"user_count":2},{},{}]}"#
    );
}

#[test]
fn r222_a_termination_is_told_nothing() {
    let user = "7".into();
    assert_eq!(ok(&Question::Terminate { user }, facts()), "{}");
}

#[test]
fn names_are_written_as_symfony_does() {
    let facts = Facts {
        channels: vec![known("<a>&'\"/\\\n\u{1}é😀", 1, 0, None)],
        ..Facts::default()
    };
    assert_eq!(
        channels("", facts),
        r#"{"channels":{"\u003Ca\u003E\u0026\u0027\u0022\/\\\n\u0001\u00e9\ud83d\ude00":{}}}"#
    );
}

#[test]
fn an_answer_beyond_all_bounds_is_413() {
    let name = "c".repeat(1 << 20);
    let channels = (0..65).map(|number| known(&format!("{number}{name}"), 1, 0, None));
    let facts = Facts {
        channels: channels.collect(),
        ..Facts::default()
    };
    let question = Question::Channels {
        prefix: "".into(),
        info: Info::default(),
    };
    let expected = Answer::text(413, "Payload too large.");
    assert_eq!(answer(&question, facts), expected);
}

proptest! {
    #[test]
    fn any_names_and_events_make_json_that_says_them(
        names in prop::collection::btree_set(any::<String>(), 0..6),
        text in any::<String>(),
    ) {
        let mut event = br#"{"data":""#.to_vec();
        json::escape(&mut event, &text);
        event.extend_from_slice(br#""}"#);
        let event = String::from_utf8(event).unwrap();
        let channels = names.iter().map(|name| known(name, 1, 1, Some(&event)));
        let facts = Facts { channels: channels.collect(), ..Facts::default() };
        let question = Question::Channels { prefix: "".into(), info: Info::parse("cache") };
        let told: serde_json::Value = serde_json::from_str(&ok(&question, facts)).unwrap();
        let told = told["channels"].as_object().unwrap();
        prop_assert_eq!(told.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        for info in told.values() {
            prop_assert_eq!(info["cache"]["data"].as_str(), Some(text.as_str()));
        }
    }
}

#[test]
fn an_answer_over_the_bound_is_refused_before_it_is_whole() {
    let event = format!(r#"{{"event":"{}"}}"#, "x".repeat(1 << 20));
    let facts = Facts {
        channels: vec![known("cache-a", 1, 0, Some(&event))],
        ..Facts::default()
    };
    // Written whole it would take a terabyte.
    let question = Question::Batch {
        items: vec![Some(("cache-a".into(), Info::parse("cache"))); 1 << 20],
    };
    let expected = Answer::text(413, "Payload too large.");
    assert_eq!(answer(&question, facts), expected);
}
