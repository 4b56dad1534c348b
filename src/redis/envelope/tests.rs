//! Captured messages of the bus, read and written; bad ones refused.

use proptest::prelude::*;

use super::*;
use crate::redis::php::{Choice, MetricType};

const APP: AppIndex = AppIndex(0);
const LEAST: &str =
    r#""O:26:\"Laravel\\Reverb\\Application\":1:{s:5:\"\u0000*\u0000id\";s:5:\"app-1\";}""#;
const CAPTURED: &str = concat!(
    r#""O:26:\"Laravel\\Reverb\\Application\":11:{s:5:\"\u0000*\u0000id\";s:5:\"app-1\";"#,
    r#"s:6:\"\u0000*\u0000key\";s:5:\"key-1\";s:9:\"\u0000*\u0000secret\";s:8:\"secret-1\";"#,
    r#"s:15:\"\u0000*\u0000pingInterval\";i:60;s:18:\"\u0000*\u0000activityTimeout\";i:30;"#,
    r#"s:17:\"\u0000*\u0000allowedOrigins\";a:1:{i:0;s:1:\"*\";}"#,
    r#"s:17:\"\u0000*\u0000maxMessageSize\";i:10000;s:17:\"\u0000*\u0000maxConnections\";N;"#,
    r#"s:25:\"\u0000*\u0000acceptClientEventsFrom\";s:7:\"members\";"#,
    r#"s:15:\"\u0000*\u0000rateLimiting\";a:4:{s:7:\"enabled\";b:0;s:12:\"max_attempts\";i:60;"#,
    r#"s:13:\"decay_seconds\";i:60;s:18:\"terminate_on_limit\";b:0;}"#,
    r#"s:10:\"\u0000*\u0000options\";a:4:{s:4:\"host\";s:9:\"127.0.0.1\";s:4:\"port\";i:443;"#,
    r#"s:6:\"scheme\";s:5:\"https\";s:6:\"useTLS\";b:1;}}""#,
);

fn application() -> Application {
    let at = Address {
        host: Some("127.0.0.1"),
        port: 443,
        scheme: "https",
    };
    Application::new(&AppSettings::new("app-1", "key-1", "secret-1"), at)
}

/// What the subscribers get of a message: channel, frame payload, who is left out.
fn heard(message: &str) -> Vec<(String, String, Option<SocketId>)> {
    let mut scratch = Scratch::default();
    let Ok(Message::Event(event)) = read(message.as_bytes(), &mut scratch) else {
        panic!("not an event: {message}");
    };
    assert_eq!(event.app, "app-1");
    let broadcast = event.broadcast(APP, &mut Scratch::default()).expect("read");
    let deliveries = broadcast.deliveries.into_iter();
    deliveries
        .map(|delivery| {
            let payload = String::from_utf8_lossy(frame::payload(&delivery.frame)).into_owned();
            (delivery.channel.into(), payload, delivery.except)
        })
        .collect()
}

#[test]
fn captured_events_are_written_and_heard_byte_for_byte() {
    let mut out = Vec::new();
    let payload = |out: &mut Vec<u8>| event_payload(out, "ev", "{\"x\":\"é/\"}", ["c1"].iter());
    application().message(&mut out, payload, None, None);
    let payload = r#"{"event":"ev","channels":["c1"],"data":"{\"x\":\"\u00e9\/\"}"}"#;
    let captured = format!(r#"{{"type":"message","application":{CAPTURED},"payload":{payload}}}"#);
    assert_eq!(String::from_utf8_lossy(&out), captured);
    let frame = r#"{"event":"ev","data":"{\"x\":\"\u00e9\/\"}","channel":"c1"}"#;
    assert_eq!(heard(&captured), [("c1".into(), frame.into(), None)]);

    let socket = SocketId::parse("464685175.395191165");
    let whisper = r#"{"event":"client-typing","channel":"private-c1","data":{"x":1}}"#;
    let mut out = Vec::new();
    let payload = |out: &mut Vec<u8>| out.extend_from_slice(whisper.as_bytes());
    application().message(&mut out, payload, socket, None);
    let socket_id = r#""socket_id":"464685175.395191165""#;
    let captured =
        format!(r#"{{"type":"message","application":{CAPTURED},"payload":{whisper},{socket_id}}}"#);
    assert_eq!(String::from_utf8_lossy(&out), captured);
    assert_eq!(
        heard(&captured),
        [("private-c1".into(), whisper.into(), socket)]
    );
}

#[test]
fn a_least_application_serves_and_extra_keys_keep_their_place() {
    for (payload, frames) in [
        (
            r#"{"event": "hand", "channel": "c1", "data": "1", "extra": [1]}"#,
            vec![r#"{"event":"hand","channel":"c1","data":"1","extra":[1]}"#],
        ),
        (
            r#"{"event":"e","channels":["c1","c2"],"data":"1","n":null}"#,
            vec![
                r#"{"event":"e","data":"1","n":null,"channel":"c1"}"#,
                r#"{"event":"e","data":"1","n":null,"channel":"c2"}"#,
            ],
        ),
        (
            r#"{"a":1,"event":"e","channels":"c1","channel":"x","data":{"a":1},"a":2}"#,
            vec![r#"{"a":2,"event":"e","channel":"c1","data":{"a":1}}"#],
        ),
    ] {
        let except = r#""socket_id": "9.9""#;
        let message = format!(
            r#"{{"type": "message", "application": {LEAST}, "payload": {payload}, {except}}}"#
        );
        let got = heard(&message);
        assert!(
            got.iter()
                .all(|(.., except)| *except == SocketId::parse("9.9"))
        );
        let got: Vec<_> = got.iter().map(|(_, frame, _)| frame.as_str()).collect();
        assert_eq!(got, frames);
    }
}

#[test]
fn terminate_metrics_and_answers_come_back_as_written() {
    let app = application();
    let mut scratch = Scratch::default();
    let mut out = Vec::new();
    app.terminate(&mut out, "1", None);
    let captured =
        format!(r#"{{"type":"terminate","application":{CAPTURED},"payload":{{"user_id":"1"}}}}"#);
    assert_eq!(String::from_utf8_lossy(&out), captured);
    let terminate = Message::Terminate {
        app: "app-1",
        user_id: "1",
        origin: None,
    };
    assert_eq!(read(&out, &mut scratch), Ok(terminate));

    let question = Metric {
        key: "GdN92GZZOW",
        app: "app-1",
        metric: MetricType::Channel,
        options: vec![("channel", Choice::Text("c1")), ("info", Choice::Null)],
    };
    let mut out = Vec::new();
    app.metrics(&mut out, &question, "a.1");
    let node = Some("a.1");
    let asked = Message::Metrics { question, node };
    assert_eq!(read(&out, &mut scratch), Ok(asked));

    let mut out = Vec::new();
    answer(&mut out, "GdN92GZZOW", b"[]");
    assert_eq!(out, br#"{"type":"GdN92GZZOW","payload":[]}"#);
    let (key, payload) = ("GdN92GZZOW", "[]");
    assert_eq!(
        read(&out, &mut scratch),
        Ok(Message::Answer { key, payload })
    );
}

#[test]
fn bad_messages_are_refused_and_empty_ones_ignored() {
    let event = r#"{"event":"x","channel":"c1","data":"1"}"#;
    let other = r#""O:8:\"stdClass\":0:{}""#;
    for bad in [
        "hello".to_owned(),
        "1".to_owned(),
        format!(r#"{{"type":"message","payload":{event}}}"#),
        format!(r#"{{"type":"message","application":"garbage","payload":{event}}}"#),
        format!(r#"{{"type":"message","application":{other},"payload":{event}}}"#),
        format!(r#"{{"type":"message","application":{LEAST}}}"#),
        r#"{"type":"metrics","payload":"garbage"}"#.to_owned(),
        format!(r#"{{"type":"terminate","application":{LEAST},"payload":{{"user_id":1}}}}"#),
    ] {
        assert!(
            read(bad.as_bytes(), &mut Scratch::default()).is_err(),
            "{bad}"
        );
    }
    let unknown = format!(r#"{{"type":"whatever","application":{LEAST}}}"#);
    for nothing in ["{}", "[]", "[1]", &unknown] {
        let mut scratch = Scratch::default();
        let said = read(nothing.as_bytes(), &mut scratch);
        assert_eq!(said, Ok(Message::Ignored), "{nothing}");
    }
}

proptest! {
    #[test]
    fn an_event_comes_back_with_its_origin(
        name in ".*", data in ".*", channel in ".*", seq: u64, at: u64, late: bool,
    ) {
        let node = "n.1";
        let origin = Some(Origin { node, seq, at, late });
        let mut out = Vec::new();
        let payload = |out: &mut Vec<u8>| event_payload(out, &name, &data, [&channel].into_iter());
        application().message(&mut out, payload, None, origin);
        let mut scratch = Scratch::default();
        let Ok(Message::Event(event)) = read(&out, &mut scratch) else {
            panic!("not an event");
        };
        prop_assert_eq!(event.origin, origin);
        let heard = event.broadcast(APP, &mut Scratch::default()).expect("read");
        let local = frame::text_frame(|out| {
            crate::proto::event::api_event(out, &name, &data, &channel);
        });
        prop_assert_eq!(&heard.deliveries[0].frame, &local);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let _ = read(&bytes, &mut Scratch::default());
    }
}
