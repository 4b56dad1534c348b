//! What becomes of messages of the redis broadcaster, and which names are whose.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn delivery(payload: &str, channel: &str) -> Result<Delivery, NotAnEvent> {
    read(payload.as_bytes(), channel, &mut Scratch::default())
}

/// What a subscriber of `c` hears.
fn heard(payload: &str) -> String {
    let delivery = delivery(payload, "c").unwrap();
    let text = frame::payload(&delivery.frame).to_vec();
    String::from_utf8(text).unwrap()
}

/// What becomes of `data`.
fn data(json: &str) -> String {
    let text = heard(&format!(r#"{{"event":"e","data":{json},"socket":null}}"#));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["data"].as_str().unwrap().to_owned()
}

#[test]
fn an_event_is_delivered_as_one_of_the_api() {
    let payload = concat!(
        r#"{"event":"App\\Events\\X","data":{"order":{"id":1},"socket":null},"#,
        r#""socket":null}"#
    );
    let delivery = delivery(payload, "private-orders.1").unwrap();
    assert_eq!(
        (&*delivery.channel, delivery.except),
        ("private-orders.1", None)
    );
    assert_eq!(
        frame::payload(&delivery.frame),
        concat!(
            r#"{"event":"App\\Events\\X","data":"{\"order\":{\"id\":1}}","#,
            r#""channel":"private-orders.1"}"#
        )
        .as_bytes()
    );
}

#[test]
fn a_socket_that_is_named_is_left_out_and_what_is_no_socket_is_nobody() {
    let except = |socket| {
        let payload = format!(r#"{{"event":"e","data":[],"socket":{socket}}}"#);
        delivery(&payload, "c").unwrap().except
    };
    assert_eq!(except(r#""123.456""#), Some(SocketId { a: 123, b: 456 }));
    for nobody in ["null", "1", r#""""#, r#""x""#, "[]"] {
        assert_eq!(except(nobody), None, "{nobody}");
    }
}

#[test]
fn the_socket_leaves_data_and_every_other_byte_stays() {
    for (said, kept) in [
        (r#"{"a":1,"socket":null}"#, r#"{"a":1}"#),
        (r#"{"socket":"1.2","a":1}"#, r#"{"a":1}"#),
        (r#"{"a":1,"socket":null,"b":2}"#, r#"{"a":1,"b":2}"#),
        (r#"{"a":"x,y" , "socket" : null }"#, r#"{"a":"x,y" }"#),
        (r#"{ "socket":1, "a" : [1, 2] }"#, r#"{ "a" : [1, 2] }"#),
        (r#"{"socket":1,"a":1,"socket":2}"#, r#"{"a":1}"#),
        (r#"{"a":{"socket":1}}"#, r#"{"a":{"socket":1}}"#),
        (r#"{"a":"\"socket\""}"#, r#"{"a":"\"socket\""}"#),
        (
            r#"{"a":"\/\u00e9 é","b":1.0}"#,
            r#"{"a":"\/\u00e9 é","b":1.0}"#,
        ),
        (r#"{"socket":null}"#, "[]"),
        (
            r#"{"0":"a,b","1":{"0":1},"socket":null}"#,
            r#"["a,b",{"0":1}]"#,
        ),
        (r#"{"0":1,"socket":null,"1":2}"#, "[1,2]"),
        (r#"{"0":"\"socket\""}"#, r#"{"0":"\"socket\""}"#),
        (r#"{"1":1,"0":2,"socket":null}"#, r#"{"1":1,"0":2}"#),
        (r#"{"0":1,"a":2,"socket":null}"#, r#"{"0":1,"a":2}"#),
        (r#"{"00":1,"socket":null}"#, r#"{"00":1}"#),
        (r#"{"socket":null,"socket":1}"#, "[]"),
        ("{}", "{}"),
        ("[]", "[]"),
        (r#"["socket"]"#, r#"["socket"]"#),
        (r#""text""#, r#""text""#),
        ("1e3", "1e3"),
        ("null", "null"),
    ] {
        assert_eq!(data(said), kept, "{said}");
    }
}

#[test]
fn data_that_is_missing_is_null() {
    assert_eq!(
        heard(r#"{"event":"e"}"#),
        r#"{"event":"e","data":"null","channel":"c"}"#
    );
}

#[test]
fn what_is_no_event_is_told_why() {
    for (payload, why) in [
        ("", "it is not JSON"),
        ("nonsense", "it is not JSON"),
        (r#"{"event":"e""#, "it is not JSON"),
        ("[]", "it is no JSON object"),
        ("1", "it is no JSON object"),
        ("{}", "it has no event"),
        (r#"{"event":null}"#, "it has no event"),
        (r#"{"event":["e"]}"#, "it has no event"),
        (r#"{"event":" "}"#, "it has no event"),
    ] {
        assert_eq!(delivery(payload, "c"), Err(NotAnEvent(why)), "{payload}");
    }
    let mut scratch = Scratch::default();
    assert!(read(b"\xff", "c", &mut scratch).is_err());
}

#[test]
fn a_cache_channel_keeps_it() {
    let is_kept = |channel| {
        let delivery = delivery(r#"{"event":"e","data":1}"#, channel).unwrap();
        delivery.is_kept
    };
    assert!(is_kept("cache-c") && is_kept("private-cache-c"));
    assert!(!is_kept("c") && !is_kept("presence-c"));
}

fn prefixes(all: &[&str], buses: &[&str]) -> Prefixes {
    let apps = (0..).map(AppIndex);
    let sources = all.iter().map(ToString::to_string).zip(apps);
    Prefixes::new(sources, buses.iter().map(ToString::to_string).collect())
}

#[test]
fn the_letters_of_a_prefix_are_no_wildcards() {
    let prefixes = prefixes(&["", r"a*[b]?\"], &[]);
    let patterns: Vec<_> = prefixes.patterns().collect();
    assert_eq!(patterns, [r"a\*\[b\]\?\\*", "*"]);
}

#[test]
fn a_name_is_its_longest_prefixs_once() {
    let prefixes = prefixes(&["shop-", "shop-two-", ""], &["reverb"]);
    let find = |pattern: &str, name: &'static str| {
        let (app, channel) = prefixes.find(Some(pattern.as_bytes()), name.as_bytes())?;
        Some((app.0, str::from_utf8(channel).unwrap()))
    };
    assert_eq!(find("shop-two-*", "shop-two-c"), Some((1, "c")));
    assert_eq!(find("shop-*", "shop-two-c"), None);
    assert_eq!(find("*", "shop-two-c"), None);
    assert_eq!(find("shop-*", "shop-c"), Some((0, "c")));
    assert_eq!(find("*", "c"), Some((2, "c")));
    assert_eq!(find("*", "reverb2"), Some((2, "reverb2")));
    for none in [
        "reverb",
        "reverb:slapback",
        "reverb:slapback:1.2",
        "__keyspace@0__:a",
        "__keyevent@0__:del",
    ] {
        assert_eq!(find("*", none), None, "{none}");
    }
}

#[test]
fn a_prefix_may_begin_with_the_name_of_the_bus() {
    let prefixes = prefixes(&["reverb:"], &["reverb"]);
    let find = |name: &'static str| prefixes.find(Some(b"reverb:*"), name.as_bytes());
    assert_eq!(find("reverb:c"), Some((AppIndex(0), &b"c"[..])));
    assert_eq!(find("reverb:slapback"), None);
}

proptest! {
    #[test]
    fn without_its_socket_data_says_the_same(
        members in proptest::collection::vec(("(socket|[01]|[a-c\"\\\\,é]{0,3})", 0..9), 0..6),
        space in "[ \n]{0,2}",
    ) {
        let member = |(name, value): &(String, i32)| {
            let name = serde_json::to_string(name).unwrap();
            format!("{space}{name}{space}:{space}{value}{space}")
        };
        let text = members.iter().map(member).collect::<Vec<_>>().join(",");
        let text = format!("{{{text}}}");
        let mut expected: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&text).unwrap();
        let had_socket = expected.remove("socket").is_some();
        let kept = data(&text);
        match serde_json::from_str(&kept).unwrap() {
            serde_json::Value::Array(list) => {
                prop_assert!(had_socket);
                let named = list.into_iter().enumerate().map(|(at, value)| (at.to_string(), value));
                prop_assert_eq!(named.collect::<serde_json::Map<_, _>>(), expected);
            }
            object => {
                prop_assert_eq!(object, serde_json::Value::Object(expected));
                prop_assert!(had_socket || kept == text);
            }
        }
    }
}
