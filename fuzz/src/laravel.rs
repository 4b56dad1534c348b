//! Any bytes as a message of Laravel's redis broadcaster: refused, or delivered as another reader
//! of JSON has it, without its socket.

use serde_json::Value;
use slapback::app::AppIndex;
use slapback::broadcast::SocketId;
use slapback::proto::frame;
use slapback::redis::laravel::{self, Prefixes, Scratch};

const CHANNEL: &str = "cache-c";

/// Reads the bytes as a message, and as a name.
pub fn run(input: &[u8]) {
    name(input);
    let read = laravel::read(input, CHANNEL, &mut Scratch::default());
    let plain = serde_json::from_slice::<Value>(input).ok();
    let Ok(delivery) = read else {
        return;
    };
    let frame = frame::payload(&delivery.frame);
    let sent: Value = serde_json::from_slice(frame).expect("a frame is JSON");
    let data = sent["data"].as_str().expect("data is a string");
    let data = serde_json::from_str::<Value>(data);
    // PHP's reader takes some numbers and lone surrogates that the other refuses.
    let Some(mut plain) = plain else {
        return;
    };
    assert_eq!(sent["channel"], CHANNEL);
    assert_eq!(sent["event"], plain["event"]);
    let except = plain["socket"].as_str().and_then(SocketId::parse);
    assert_eq!(delivery.except, except);
    let mut expected = plain["data"].take();
    let object = expected.as_object_mut();
    let object = object.filter(|_| has_plain_socket(input));
    let had_socket = object.is_some_and(|object| object.remove("socket").is_some());
    let data = match data.expect("data is JSON") {
        Value::Array(list) if had_socket => named(list),
        data => data,
    };
    assert_eq!(data, expected);
}

/// The object that PHP makes of a list when it gets a member with a name.
fn named(list: Vec<Value>) -> Value {
    let members = list.into_iter().enumerate();
    Value::Object(members.map(|(at, value)| (at.to_string(), value)).collect())
}

/// Is the name spelt as `json_encode` spells it, if it is there?
fn has_plain_socket(input: &[u8]) -> bool {
    input.windows(8).any(|window| window == b"\"socket\"")
}

/// A name is one app's at most, and the rest of it behind the prefix.
fn name(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let (prefix, name) = text.split_once('\n').unwrap_or((text, text));
    let sources = [
        (prefix.to_owned(), AppIndex(1)),
        (String::new(), AppIndex(2)),
    ];
    let prefixes = Prefixes::new(sources.into_iter(), vec!["reverb".to_owned()]);
    let found: Vec<_> = prefixes
        .patterns()
        .filter_map(|pattern| prefixes.find(Some(pattern.as_bytes()), name.as_bytes()))
        .collect();
    assert!(found.len() <= 1 || prefix.is_empty(), "twice");
    for (app, channel) in found {
        let prefix = if app == AppIndex(1) { prefix } else { "" };
        assert_eq!([prefix.as_bytes(), channel].concat(), name.as_bytes());
    }
}
