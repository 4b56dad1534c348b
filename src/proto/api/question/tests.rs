//! Questions as they are read, and facts as they are added up.

use proptest::prelude::*;

use super::*;
use crate::proto::api::Accepted;
use crate::proto::api::tests::{deliveries, refusal, signed};

fn asked(method: &str, path: &str, parameters: &str) -> Question {
    match signed(method, path, parameters, "") {
        Ok(Accepted::Ask { question, .. }) => question,
        other => panic!("{path} asks nothing: {other:?}"),
    }
}

fn info(words: &[Word]) -> Info {
    words.iter().copied().fold(Info::default(), Info::with)
}

#[test]
fn words_of_info_are_taken_exactly_and_unknown_ones_say_nothing() {
    let all = [
        Word::Occupied,
        Word::UserCount,
        Word::SubscriptionCount,
        Word::Cache,
    ];
    for (words, expected) in [
        ("", &[][..]),
        ("bogus", &[]),
        ("user_count ,Cache", &[]),
        ("user_count", &[Word::UserCount]),
        ("user_count,,bogus,user_count", &[Word::UserCount]),
        ("cache,subscription_count,user_count,occupied", &all),
    ] {
        assert_eq!(Info::parse(words), info(expected), "{words}");
    }
}

#[test]
fn r210_r213_the_query_says_which_channels_and_what_of_them() {
    let channels = |prefix: &str, words: &[Word]| Question::Channels {
        prefix: prefix.into(),
        info: info(words),
    };
    for (parameters, expected) in [
        ("", channels("", &[])),
        ("&filter_by_prefix=", channels("", &[])),
        ("&filter_by_prefix=0", channels("", &[])),
        ("&filter_by_prefix=presence-", channels("presence-", &[])),
        ("&filter_by_prefix=a%20b%2F", channels("a b/", &[])),
        (
            "&info=user_count%2Ccache",
            channels("", &[Word::UserCount, Word::Cache]),
        ),
        ("&info=", channels("", &[])),
    ] {
        assert_eq!(
            asked("GET", "/channels", parameters),
            expected,
            "{parameters}"
        );
        assert_eq!(asked("HEAD", "/channels", parameters), expected);
    }
}

#[test]
fn r214_of_one_channel_it_is_always_said_whether_it_is_occupied() {
    let channel = |words: &[Word]| Question::Channel {
        channel: "private-p".into(),
        info: info(words),
    };
    let path = "/channels/private%2Dp";
    assert_eq!(asked("GET", path, ""), channel(&[Word::Occupied]));
    assert_eq!(
        asked("GET", path, "&info=cache"),
        channel(&[Word::Occupied, Word::Cache])
    );
}

#[test]
fn parameters_that_are_lists_are_422() {
    for (parameters, errors) in [
        (
            "info[]=cache",
            r#"{"info":["The info field must be a string."]}"#,
        ),
        (
            "filter_by_prefix[]=a",
            r#"{"filter_by_prefix":["The filter by prefix field must be a string."]}"#,
        ),
    ] {
        let refused = Question::channels(&Query::parse(parameters)).unwrap_err();
        assert_eq!(refusal(Err(refused)), (422, errors.to_owned()));
    }
}

#[test]
fn r219_r221_r222_the_other_calls_ask_what_their_paths_say() {
    assert_eq!(asked("GET", "/connections", ""), Question::Connections);
    let users = Question::Users {
        channel: "presence-x".into(),
    };
    assert_eq!(asked("GET", "/channels/presence-x/users", ""), users);
    let terminate = Question::Terminate {
        user: "a+b é".into(),
    };
    let path = "/users/a+b%20%C3%A9/terminate_connections";
    assert_eq!(asked("POST", path, ""), terminate);
}

#[test]
fn r191_r192_an_event_asks_for_each_of_its_channels_once() {
    let body =
        |info: &str| format!(r#"{{"name":"e","channels":["b","a","b",5],"data":"1"{info}}}"#);
    let (_, question, _) = deliveries(signed("POST", "/events", "", &body("")));
    assert_eq!(question, None);
    for (sent, words) in [("", &[][..]), ("user_count", &[Word::UserCount])] {
        let body = body(&format!(r#","info":"{sent}""#));
        let (delivered, question, _) = deliveries(signed("POST", "/events", "", &body));
        assert_eq!(delivered.len(), 4);
        let channels = ["b", "a", "5"].map(Into::into).to_vec();
        let info = info(words);
        assert_eq!(question, Some(Question::Event { channels, info }));
    }
}

#[test]
fn a_batch_names_each_channel_once_with_all_that_is_asked_of_it() {
    let of = |channel: &str, words| Some((channel.into(), Info::parse(words)));
    let items = vec![of("b", "cache"), None, of("a", ""), of("b", "user_count")];
    let question = Question::Batch { items };
    let named: Vec<_> = question.named().into_iter().collect();
    assert_eq!(
        named,
        [
            ("a", Info::default()),
            ("b", info(&[Word::Cache, Word::UserCount]))
        ]
    );
}

fn occupied() -> impl Strategy<Value = Occupied> {
    ("[ab]{1,2}", 1..9_usize).prop_map(|(channel, subscriptions)| Occupied {
        channel: channel.into(),
        subscriptions,
        ..Occupied::default()
    })
}

proptest! {
    #[test]
    fn parts_add_up_whatever_their_order(
        parts in prop::collection::vec(prop::collection::vec(occupied(), 0..6), 0..5),
    ) {
        let mut facts = Facts::default();
        let mut expected = BTreeMap::new();
        for channels in parts {
            for known in &channels {
                *expected.entry(known.channel.clone()).or_default() += known.subscriptions;
            }
            facts.add(Facts { channels, connections: 1, ..Facts::default() });
        }
        facts.merge();
        let counted = facts.channels.iter();
        let counted = counted.map(|known| (known.channel.clone(), known.subscriptions));
        prop_assert_eq!(counted.collect::<BTreeMap<_, usize>>(), expected.clone());
        prop_assert_eq!(facts.channels.len(), expected.len());
        for (channel, count) in &expected {
            prop_assert_eq!(facts.channel(channel).map(|known| known.subscriptions), Some(*count));
        }
        prop_assert!(facts.channel("c").is_none());
    }
}
