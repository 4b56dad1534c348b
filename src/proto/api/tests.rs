//! Who may call, and the events call, text by text. Other calls are signed here too.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::app::AppSettings;
use crate::broadcast::SocketId;
use crate::proto::http::{Limits, Read, Reader};

fn apps() -> Apps {
    Apps::new(vec![
        AppSettings::new("123456", "reverb-key", "reverb-secret"),
        AppSettings::new("654321", "reverb-key-2", "reverb-secret-2"),
    ])
}

fn settings(prefix: &str) -> ApiSettings {
    ApiSettings {
        path_prefix: prefix.to_owned(),
        timestamp_tolerance_s: 600,
        publish_bytes_max: None,
    }
}

const NOW_S: u64 = 1_795_476_443;

fn with_request<T>(
    method: &str,
    target: &str,
    body: &[u8],
    read: impl FnOnce(&Request<'_>) -> T,
) -> T {
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let mut input = head.into_bytes();
    input.extend_from_slice(body);
    let mut reader = Reader::default();
    match reader.read(
        &input,
        &Limits {
            max_request_size: 1_000_000,
        },
    ) {
        Read::Request { request, .. } => read(&request),
        _ => panic!("{target} is no request"),
    }
}

type Outcome = Result<Accepted, Refusal>;

/// Signs a call as the Pusher libraries do and hands it in.
fn post(app: &str, path: &str, signed_path: &str, prefix: &str, body: &[u8]) -> Outcome {
    let query = signed_query(app, "POST", signed_path, "", body);
    call("POST", &format!("{path}?{query}"), prefix, body)
}

/// A signed call of the first app; `parameters` begin with `&` and sort behind the others.
pub(super) fn signed(method: &str, path: &str, parameters: &str, body: &str) -> Outcome {
    let body = body.as_bytes();
    let path = format!("/apps/123456{path}");
    let query = signed_query("123456", method, &path, parameters, body);
    call(method, &format!("{path}?{query}"), "", body)
}

fn signed_query(app: &str, method: &str, path: &str, parameters: &str, body: &[u8]) -> String {
    let apps = apps();
    let index = apps.by_id(app).unwrap_or(AppIndex(0));
    let app = apps.get(index).unwrap();
    let key = &app.settings.key;
    let md5 = md5_parameter(body);
    let query = format!("auth_key={key}&auth_timestamp={NOW_S}&auth_version=1.0{md5}{parameters}");
    let decoded = crate::proto::percent::decoded(&query, b' ');
    let text = [format!("{method}\n{path}\n").as_bytes(), &decoded].concat();
    let signature = app.signer().sign_hex(&[&text]);
    let signature = std::str::from_utf8(&signature).unwrap();
    format!("{query}&auth_signature={signature}")
}

fn call(method: &str, target: &str, prefix: &str, body: &[u8]) -> Outcome {
    let now = Now {
        instant: Instant::now(),
        unix_s: NOW_S,
    };
    let (settings, apps, mut scratch) = (settings(prefix), apps(), Scratch::default());
    with_request(method, target, body, |request| {
        let path = decoded_path(request.path).unwrap();
        let Route::Api { app_id, call } = route(method, &path, &settings) else {
            panic!("{target} is no call");
        };
        handle(request, app_id, call, (&settings, &apps), now, &mut scratch)
    })
}

fn md5_parameter(body: &[u8]) -> String {
    use std::fmt::Write as _;

    use md5::{Digest, Md5};

    if body.is_empty() {
        return String::new();
    }
    let mut parameter = "&body_md5=".to_owned();
    for byte in Md5::digest(body) {
        write!(parameter, "{byte:02x}").unwrap();
    }
    parameter
}

fn publish(body: &str) -> Outcome {
    post(
        "123456",
        "/apps/123456/events",
        "/apps/123456/events",
        "",
        body.as_bytes(),
    )
}

/// Channel and payload of each delivery, and the excepted socket.
fn published(body: &str) -> (Vec<(String, String)>, Option<SocketId>) {
    let (deliveries, question, taken) = deliveries(publish(body));
    assert_eq!((question, taken), (None, "{}"));
    let except = deliveries[0].2;
    let one = |(channel, payload, of_one)| {
        assert_eq!(of_one, except);
        (channel, payload)
    };
    (deliveries.into_iter().map(one).collect(), except)
}

/// Channel, payload and excepted socket of each delivery, and how the call is answered.
pub(super) type Delivered = (String, String, Option<SocketId>);

pub(super) fn deliveries(outcome: Outcome) -> (Vec<Delivered>, Option<Question>, &'static str) {
    let Ok(Accepted::Publish {
        broadcast,
        question,
        taken,
    }) = outcome
    else {
        panic!("not published: {outcome:?}")
    };
    let deliveries = broadcast.deliveries.iter().map(|delivery| {
        let payload = crate::proto::frame::payload(&delivery.frame);
        let payload = String::from_utf8(payload.to_vec()).unwrap();
        (delivery.channel.to_string(), payload, delivery.except)
    });
    (deliveries.collect(), question, taken)
}

pub(super) fn refusal(outcome: Outcome) -> (u16, String) {
    let Refusal { answer, why } = outcome.expect_err("accepted");
    assert!(!why.is_empty());
    assert_eq!(answer.is_json, answer.status == 422);
    (answer.status, answer.body.into_owned())
}

fn refused(body: &str) -> String {
    let (status, body) = refusal(publish(body));
    assert_eq!(status, 422);
    body
}

#[test]
fn r174_a_missing_or_wrong_signature_is_401() {
    let expected = (401, "Authentication signature invalid.".to_owned());
    assert_eq!(
        refusal(call("POST", "/apps/123456/events", "", b"{}")),
        expected
    );
    let signed_for_another = post("123456", "/apps/123456/events", "/x", "", b"{}");
    assert_eq!(refusal(signed_for_another), expected);
    let query = "/apps/123456/events?auth_key=reverb-key&auth_timestamp=1&auth_signature=x";
    let refused = call("POST", query, "", b"").expect_err("accepted");
    assert_eq!(refused.why, "auth_signature does not match");
}

#[test]
fn r175_an_unknown_app_is_404_before_the_signature() {
    let expected = (404, "No matching application for ID [nope].".to_owned());
    assert_eq!(
        refusal(call("POST", "/apps/nope/events", "", b"{}")),
        expected
    );
}

#[test]
fn r184_r185_r186_the_path_is_signed_as_sent_without_the_prefix() {
    let body = br#"{"name":"e","channel":"c","data":"1"}"#;
    let (sent, signed) = ("/ws/apps/12345%36/events", "/apps/12345%36/events");
    assert!(matches!(
        post("123456", sent, signed, "/ws", body),
        Ok(Accepted::Publish { .. })
    ));
    assert_eq!(refusal(post("123456", sent, sent, "/ws", body)).0, 401);
}

#[test]
fn r188_r189_each_channel_gets_its_own_frame() {
    let event = |channel: &str| {
        let text = r#"{"event":"NewEvent","data":"{\"some\":\"data\"}","channel":"#;
        (channel.to_owned(), format!("{text}\"{channel}\"}}"))
    };
    let body = r#"{"name":"NewEvent","channel":"test-channel","data":"{\"some\":\"data\"}"}"#;
    assert_eq!(published(body), (vec![event("test-channel")], None));
    let body = r#"{"name":"NewEvent","channels":["a","b"],"data":"{\"some\":\"data\"}"}"#;
    assert_eq!(published(body).0, [event("a"), event("b")]);
    let body = r#"{"name":"NewEvent","channels":{"x":"a"},"data":"{\"some\":\"data\"}"}"#;
    assert_eq!(published(body).0, [event("a")]);
}

#[test]
fn r190_socket_id_is_excepted_and_an_odd_one_ignored() {
    let body = |id: &str| format!(r#"{{"name":"e","channel":"c","data":"1","socket_id":"{id}"}}"#);
    assert_eq!(published(&body("12.34")).1, Some(SocketId { a: 12, b: 34 }));
    assert_eq!(published(&body("not an id")).1, None);
    assert_eq!(published(&body("")).1, None);
}

#[test]
fn r193_missing_fields_are_named() {
    let all = concat!(
        r#"{"name":["The name field is required."],"data":["The data field is required."],"#,
        r#""channels":["The channels field is required when channel is not present."],"#,
        r#""channel":["The channel field is required when channels is not present."]}"#
    );
    assert_eq!(refused("{}"), all);
    assert_eq!(
        refused(r#"{"channels":["c1"],"data":"1"}"#),
        r#"{"name":["The name field is required."]}"#
    );
    assert_eq!(
        refused(r#"{"name":"e","channels":["c1"]}"#),
        r#"{"data":["The data field is required."]}"#
    );
    let neither = concat!(
        r#"{"channels":["The channels field is required when channel is not present."],"#,
        r#""channel":["The channel field is required when channels is not present."]}"#
    );
    assert_eq!(refused(r#"{"name":"e","data":"1"}"#), neither);
    assert_eq!(
        refused(r#"{"name":"e","channels":[ ],"data":"1"}"#),
        neither
    );
    assert_eq!(
        refused(r#"{"name":"e","channel":"c","data":"1","socket_id":1234,"info":1234}"#),
        concat!(
            r#"{"socket_id":["The socket id field must be a string."],"#,
            r#""info":["The info field must be a string."]}"#
        )
    );
    assert_eq!(
        refused(r#"{"name":"e","channel":"c","data":"1","socket_id":null}"#),
        r#"{"socket_id":["The socket id field must be a string."]}"#
    );
}

#[test]
fn r194_r195_data_must_be_a_string_with_something_in_it() {
    let body = |data: &str| format!(r#"{{"name":"e","channels":["c1"],"data":{data}}}"#);
    for data in [r#"{"a":1}"#, "5", "false"] {
        assert_eq!(
            refused(&body(data)),
            r#"{"data":["The data field must be a string."]}"#
        );
    }
    for data in [r#""""#, r#"" ""#, "null", "[]", "{}"] {
        assert_eq!(
            refused(&body(data)),
            r#"{"data":["The data field is required."]}"#
        );
    }
}

#[test]
fn fields_of_the_wrong_type_are_named() {
    for (body, errors) in [
        (
            r#"{"name":5,"channels":["c1"],"data":"1"}"#,
            r#"{"name":["The name field must be a string."]}"#,
        ),
        (
            r#"{"name":"e","channels":"c1","data":"1"}"#,
            r#"{"channels":["The channels field must be an array."]}"#,
        ),
        (
            r#"{"name":"e","channel":["c1"],"data":"1"}"#,
            r#"{"channel":["The channel field must be a string."]}"#,
        ),
        (
            r#"{"name":"e","channels":["c1",5,null,[]],"data":"1"}"#,
            concat!(
                r#"{"channels.2":["The channels.2 field must be a string."],"#,
                r#""channels.3":["The channels.3 field must be a string."]}"#
            ),
        ),
    ] {
        assert_eq!(refused(body), errors);
    }
}

#[test]
fn r196_r197_channels_win_and_duplicates_stay() {
    let body = r#"{"name":"e","channel":"a","channels":["b","b",5,true],"data":"1"}"#;
    let channels: Vec<String> = published(body)
        .0
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(channels, ["b", "b", "5", "1"]);
}

#[test]
fn r198_names_and_counts_are_not_limited() {
    let channels: Vec<String> = (0..101).map(|index| format!("\"c{index}\"")).collect();
    let channels = channels.join(",");
    let name = "n".repeat(201);
    let body = format!(r#"{{"name":"{name}","channels":[{channels},"a b!"],"data":"1"}}"#);
    let (deliveries, _) = published(&body);
    assert_eq!(deliveries.len(), 102);
    assert_eq!(
        deliveries[101].1,
        format!(r#"{{"event":"{name}","data":"1","channel":"a b!"}}"#)
    );
}

#[test]
fn r199_a_body_that_is_no_object_or_list_is_400() {
    for body in ["nope", "5", "null", "\"s\"", "", "{", "{}x"] {
        assert_eq!(
            refusal(publish(body)),
            (400, "Bad request.".to_owned()),
            "{body}"
        );
    }
    let path = "/apps/123456/events";
    let odd = br#"{"name":"e","channels":["c1"],"data":"\xff"}"#
        .map(|b| if b == b'\\' { 0xff } else { b });
    assert_eq!(refusal(post("123456", path, path, "", &odd)).0, 400);
    assert_eq!(refusal(publish("[]")).0, 422);
    assert_eq!(refusal(publish("[1]")).0, 422);
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(refusal(publish(&nested)).0, 400);
}

#[test]
fn r200_strings_are_escaped_as_php_does() {
    let body = r#"{"name":"ev/é","channels":["c1"],"data":"{\"u\":\"é/<b>&'😀\",\"n\":1.0}"}"#;
    assert_eq!(
        published(body).0[0].1,
        concat!(
            r#"{"event":"ev\/\u00e9","data":"{\"u\":\"\u00e9\/<b>&'\ud83d\ude00\","#,
            r#"\"n\":1.0}","channel":"c1"}"#
        )
    );
}

#[test]
fn r201_each_app_has_its_own_secret() {
    let body = br#"{"name":"e","channel":"c","data":"1"}"#;
    let path = "/apps/654321/events";
    let Ok(Accepted::Publish { broadcast, .. }) = post("654321", path, path, "", body) else {
        panic!("refused")
    };
    assert_eq!(broadcast.app, AppIndex(1));
    let apps = apps();
    let foreign = apps.get(AppIndex(0)).unwrap().signer().sign_hex(&[b"x"]);
    assert!(
        !apps
            .get(AppIndex(1))
            .unwrap()
            .signer()
            .verify_hex(&[b"x"], &foreign)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_body_is_published_or_answered(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            r#"\{"name":"e","channels?":[\[\]{}",0-9a-z]{0,20},"data":"x"\}"#
                .prop_map(String::into_bytes),
        ],
    ) {
        let path = "/apps/123456/events";
        let _ = post("123456", path, path, "", &body);
    }
}

#[test]
fn an_event_that_would_multiply_beyond_all_bounds_is_413() {
    let channels = vec!["\"c\""; 10_000].join(",");
    let data = "x".repeat(100_000);
    let body = format!(r#"{{"name":"e","data":"{data}","channels":[{channels}]}}"#);
    let path = "/apps/123456/events";
    let outcome = post("123456", path, path, "", body.as_bytes());
    assert_eq!(refusal(outcome), (413, "Payload too large.".to_owned()));
}
