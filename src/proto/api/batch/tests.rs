//! The batch call, text by text.

use proptest::prelude::*;

use super::*;
use crate::proto::api::Word;
use crate::proto::api::tests::{deliveries, refusal, signed};

fn publish(body: &str) -> Result<Accepted, Refusal> {
    signed("POST", "/batch_events", "", body)
}

fn refused(body: &str, errors: &str) {
    let (status, found) = refusal(publish(body));
    assert_eq!((status, found.as_str()), (422, errors), "{body}");
}

#[test]
fn r202_events_have_one_channel_each_and_the_batchs_order_of_keys() {
    let body = concat!(
        r#"{"batch":[{"name":"a\/é","channel":"c1","data":"{\"x\":1}"},"#,
        r#"{"data":"2","name":"b","channel":"c2","foo":1}]}"#
    );
    let (delivered, question, taken) = deliveries(publish(body));
    let of = |channel: &str, payload: &str| (channel.to_owned(), payload.to_owned(), None);
    assert_eq!(
        delivered,
        [
            of(
                "c1",
                r#"{"event":"a\/\u00e9","channel":"c1","data":"{\"x\":1}"}"#
            ),
            of("c2", r#"{"event":"b","channel":"c2","data":"2"}"#),
        ]
    );
    assert_eq!((question, taken), (None, r#"{"batch":{}}"#));
}

#[test]
fn r205_each_event_leaves_out_its_own_socket() {
    let item = |more: &str| format!(r#"{{"name":"e","channel":"c","data":"1"{more}}}"#);
    let items = [
        item(r#","socket_id":"1.2""#),
        item(""),
        item(r#","socket_id":"x""#),
    ];
    let (delivered, ..) = deliveries(publish(&format!(r#"{{"batch":[{}]}}"#, items.join(","))));
    let excepted: Vec<_> = delivered.iter().map(|(_, _, except)| *except).collect();
    assert_eq!(excepted, [Some(SocketId { a: 1, b: 2 }), None, None]);
}

#[test]
fn r203_r204_info_is_asked_event_by_event() {
    let body = concat!(
        r#"{"batch":[{"name":"e","channel":"c","data":"1","info":"subscription_count"},"#,
        r#"{"name":"e","channel":"d","data":"1"},{"name":"e","channel":"c","data":"1","info":""}]}"#
    );
    let (delivered, question, _) = deliveries(publish(body));
    assert_eq!(delivered.len(), 3);
    let counted = Info::default().with(Word::SubscriptionCount);
    let items = vec![
        Some(("c".into(), counted)),
        None,
        Some(("c".into(), Info::default())),
    ];
    assert_eq!(question, Some(Question::Batch { items }));
}

#[test]
fn r206_r207_what_is_no_batch_is_refused() {
    for body in ["", "null", "5", r#""batch""#, "nope"] {
        assert_eq!(refusal(publish(body)), (400, "Bad request.".to_owned()));
    }
    let required = r#"{"batch":["The batch field is required."]}"#;
    for body in [
        "{}",
        "[]",
        r#"{"batch":[]}"#,
        r#"{"batch":{}}"#,
        r#"{"batch":null}"#,
        r#"{"batch":" "}"#,
    ] {
        refused(body, required);
    }
    for body in [r#"{"batch":"x"}"#, r#"{"batch":5}"#, r#"{"batch":false}"#] {
        refused(body, r#"{"batch":["The batch field must be an array."]}"#);
    }
}

#[test]
fn r208_what_is_wrong_is_named_by_field_and_then_by_place() {
    refused(
        r#"{"batch":[{"name":"e"},{"channel":"c"},{"data":"1"},{"name":"e","channel":"c","data":{}}]}"#,
        concat!(
            r#"{"batch.1.name":["The batch.1.name field is required."],"#,
            r#""batch.2.name":["The batch.2.name field is required."],"#,
            r#""batch.0.data":["The batch.0.data field is required."],"#,
            r#""batch.1.data":["The batch.1.data field is required."],"#,
            r#""batch.3.data":["The batch.3.data field is required."],"#,
            r#""batch.0.channel":["The batch.0.channel field is required when channels is not present."],"#,
            r#""batch.2.channel":["The batch.2.channel field is required when channels is not present."]}"#
        ),
    );
    refused(
        r#"{"batch":[{"name":"e","data":"1","channel":"c"},{"name":1,"data":2,"channel":3,"socket_id":4,"info":null}]}"#,
        concat!(
            r#"{"batch.1.name":["The batch.1.name field must be a string."],"#,
            r#""batch.1.data":["The batch.1.data field must be a string."],"#,
            r#""batch.1.channel":["The batch.1.channel field must be a string."],"#,
            r#""batch.1.socket_id":["The batch.1.socket id field must be a string."],"#,
            r#""batch.1.info":["The batch.1.info field must be a string."]}"#
        ),
    );
}

#[test]
fn r208_events_that_are_no_objects_lack_everything() {
    for item in ["5", "null", r#""x""#, "[]", r#"["name"]"#] {
        refused(
            &format!(r#"{{"batch":[{item}]}}"#),
            concat!(
                r#"{"batch.0.name":["The batch.0.name field is required."],"#,
                r#""batch.0.data":["The batch.0.data field is required."],"#,
                r#""batch.0.channel":["The batch.0.channel field is required when channels is not present."]}"#
            ),
        );
    }
    refused(
        r#"{"batch":{"<x>":{"name":"e","data":"1"}},"channels":["c"]}"#,
        r#"{"batch.\u003Cx\u003E.channel":["The batch.\u003Cx\u003E.channel field is required."]}"#,
    );
}

#[test]
fn r209_the_number_of_events_is_not_limited_but_that_of_messages_about_them_is() {
    let items = vec![r#"{"name":"e","channel":"c","data":"1"}"#; 1000].join(",");
    let (delivered, ..) = deliveries(publish(&format!(r#"{{"batch":[{items}]}}"#)));
    assert_eq!(delivered.len(), 1000);
    let (status, errors) = refusal(publish(&format!(
        r#"{{"batch":[{}]}}"#,
        vec!["0"; 100_000].join(",")
    )));
    assert_eq!(status, 422);
    assert!(errors.len() < 4 << 20, "{} bytes", errors.len());
    serde_json::from_str::<serde_json::Value>(&errors).unwrap();
}

/// A field of an event: right, wrong, or missing.
fn field() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![
        None,
        Some(r#""x""#),
        Some(r#""""#),
        Some("5"),
        Some("[]"),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_batch_is_published_whole_or_told_what_is_wrong(
        items in prop::collection::vec((field(), field(), field(), field()), 1..5),
    ) {
        let names = ["name", "data", "channel", "info"];
        let is_right = |value: Option<&str>| value == Some(r#""x""#);
        let mut all_right = true;
        let bodies: Vec<String> = items.iter().map(|&(name, data, channel, info)| {
            let values = [name, data, channel, info];
            all_right &= values[..3].iter().all(|&value| is_right(value));
            all_right &= info.is_none_or(|info| info.starts_with('"'));
            let members = names.iter().zip(values);
            let members = members.filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }).collect();
        let outcome = publish(&format!(r#"{{"batch":[{}]}}"#, bodies.join(",")));
        if all_right {
            prop_assert_eq!(deliveries(outcome).0.len(), items.len());
        } else {
            let (status, errors) = refusal(outcome);
            prop_assert_eq!(status, 422);
            let errors: serde_json::Value = serde_json::from_str(&errors).unwrap();
            prop_assert!(errors.as_object().is_some_and(|errors| !errors.is_empty()));
        }
    }

    #[test]
    fn any_body_is_published_or_refused(
        body in r#"\{"batch":[\[\]{}",:0-9a-z]{0,30}(,"name":"e")?\}"#,
    ) {
        let _ = publish(&body);
    }
}
