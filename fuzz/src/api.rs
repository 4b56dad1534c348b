//! Any call of the HTTP API, signed: answered once and in form; and if it publishes, then to its
//! channels alone, in the order that another JSON reader finds them in.
//!
//! The input's first line is method, path behind the app's and query, the rest is the body.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use slapback::app::AppSettings;
use slapback::metrics::Counter;

use super::fleet::{Fleet, WIDE};
use super::{query, wire};

/// The channels that the one subscriber is on.
const CHANNELS: [&str; 3] = ["news", "private-x", "presence-y"];

/// An event as its subscriber hears it, or as a call asks for it on one channel.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Event {
    #[serde(rename = "event")]
    name: String,
    data: String,
    channel: String,
}

/// Makes the call.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let (first, body) = text.split_once('\n').unwrap_or((text, ""));
    let mut words = first.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (method, path, query) = (word(), word(), word());
    let (Some(parameters), true) = (query::plain(query), is_sendable(method, path)) else {
        return;
    };
    let parameters: Vec<(&str, &str)> = parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let app = AppSettings::new("1", "key", "secret");
    let mut fleet = Fleet::new(1, vec![app], WIDE);
    let subscriber = subscriber(&mut fleet);
    let caller = fleet.open(0);
    let call = (method, path, parameters.as_slice());
    let app = fleet.app(0).expect("it stays");
    let call = wire::signed(app, fleet.now.unix_s, call, body, false);
    let socket = &mut fleet.net.sockets[caller];
    socket.listener.is_patient = method.eq_ignore_ascii_case("head");
    socket.write(&call);
    fleet.settle();
    // An answer to HEAD is understood when no more can come.
    fleet.advance(Duration::from_secs(80));
    fleet.settle();
    let [(status, answer)] = fleet.net.sockets[caller].listener.answers.as_slice() else {
        panic!("a call is answered once");
    };
    if *status == 200 && !answer.is_empty() {
        serde_json::from_str::<IgnoredAny>(answer).expect("an answer is JSON");
    }
    let is_published = *status == 200 && method.eq_ignore_ascii_case("post");
    let heard = heard(&fleet, subscriber);
    match path {
        "/events" | "/batch_events" if is_published => {
            if let Some(expected) = expected(path, body) {
                assert_eq!(heard, expected);
            }
        }
        _ => assert!(heard.is_empty(), "nothing was published"),
    }
    assert_eq!(
        fleet.count(Counter::SessionPanicked),
        0,
        "a session panicked"
    );
}

/// Does it stay a request line, and the path a path of our app?
fn is_sendable(method: &str, path: &str) -> bool {
    let is_token = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'%' | b'+');
    is_token && path.starts_with('/') && path.bytes().all(is_plain)
}

fn subscriber(fleet: &mut Fleet) -> usize {
    let number = fleet.open(0);
    fleet.upgrade(number, 0);
    for channel in CHANNELS {
        fleet.subscribe(number, channel, r#"{"user_id":"7"}"#);
    }
    fleet.settle();
    let listener = &mut fleet.net.sockets[number].listener;
    assert_eq!(listener.messages.len(), 1 + CHANNELS.len());
    listener.messages.clear();
    number
}

/// The events that a subscriber was sent; pings aside, it is sent nothing else.
fn heard(fleet: &Fleet, subscriber: usize) -> Vec<Event> {
    let messages = fleet.net.sockets[subscriber].listener.messages.iter();
    let events = messages.filter(|text| *text != r#"{"event":"pusher:ping"}"#);
    events
        .map(|text| serde_json::from_str(text).expect("an event has all three"))
        .collect()
}

/// The events that a call asks for, on the channels that are heard; None if that is not told by
/// what both readers make of it.
fn expected(path: &str, body: &str) -> Option<Vec<Event>> {
    let Ok(body) = serde_json::from_str::<Value>(body) else {
        // Another reader may give up at fewer levels, but not for the form.
        serde_json::from_str::<IgnoredAny>(body).expect("what is published is JSON");
        return None;
    };
    if path == "/events" {
        // Of an object with a name twice the readers may keep another one.
        let channels = match &body["channels"] {
            Value::Object(_) => return None,
            Value::Array(list) => list.as_slice(),
            Value::Null => std::slice::from_ref(&body["channel"]),
            other => std::slice::from_ref(other),
        };
        return Some(events(&body, channels).collect());
    }
    let batch = body["batch"].as_array()?.iter();
    Some(
        batch
            .flat_map(|item| events(item, std::slice::from_ref(&item["channel"])))
            .collect(),
    )
}

/// What one body asks to be heard on those of its channels that are.
fn events<'a>(body: &'a Value, channels: &'a [Value]) -> impl Iterator<Item = Event> + 'a {
    let text = |name: &str| body[name].as_str().expect("a text was asked for");
    let (name, data) = (text("name"), text("data"));
    let channels = channels.iter().filter_map(Value::as_str);
    let heard = channels.filter(|channel| CHANNELS.contains(channel));
    heard.map(|channel| Event {
        name: name.to_owned(),
        data: data.to_owned(),
        channel: channel.to_owned(),
    })
}
