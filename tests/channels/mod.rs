//! Private and presence channels of the fixture's apps: asking to be let in, and what is said.
//!
//! What the server says is written as JSON here and put into its string as PHP does it, so that a
//! test reads `{"user_id":"1"}` and still compares every byte.
#![allow(dead_code, unreachable_pub)] // each test crate uses its part of it
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use crate::harness::{Client, Server, api, error, subscribed};

/// The error for a subscription without a valid signature.
pub fn unauthorised() -> String {
    error(4009, "Connection is unauthorized")
}

/// A JSON string's inside, as PHP's `json_encode` writes it.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\\' | '"' | '/' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap();
                }
            }
        }
    }
    out
}

/// `pusher:subscribe` with these members of `data`, JSON.
pub fn subscribe(data: &str) -> String {
    format!(r#"{{"event":"pusher:subscribe","data":{{{data}}}}}"#)
}

/// `pusher:subscribe` to a channel that needs no signature.
pub fn subscribe_to(channel: &str) -> String {
    subscribe(&format!(r#""channel":"{channel}""#))
}

/// `pusher:unsubscribe`.
pub fn unsubscribe(channel: &str) -> String {
    format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{channel}"}}}}"#)
}

/// `pusher:subscribe`, signed for this socket and the fixture's app `app-NAME`.
pub fn signed(name: &str, client: &Client, channel: &str, data: Option<&str>) -> String {
    let auth = api::channel_auth(name, &client.id, channel, data);
    let data = data
        .map(|data| format!(r#","channel_data":"{}""#, escaped(data)))
        .unwrap_or_default();
    subscribe(&format!(r#""channel":"{channel}","auth":"{auth}"{data}"#))
}

/// Subscribes to a private channel of `app-NAME`.
pub fn enter(name: &str, client: &mut Client, channel: &str) {
    client.say(signed(name, client, channel, None));
    assert_eq!(client.hear(), subscribed(channel));
}

/// Joins a presence channel of `app-NAME` and checks who is said to be there.
pub fn join(name: &str, client: &mut Client, channel: &str, data: &str, present: &str) {
    client.say(signed(name, client, channel, Some(data)));
    assert_eq!(client.hear(), joined(channel, present), "{data}");
}

/// The acknowledgement of a join; `present` is the value of `presence`, JSON.
pub fn joined(channel: &str, present: &str) -> String {
    let data = format!(r#"{{"presence":{present}}}"#);
    internal("subscription_succeeded", channel, &data)
}

/// What the others hear of a join.
pub fn member_added(channel: &str, channel_data: &str) -> String {
    internal("member_added", channel, channel_data)
}

/// What the others hear when a user is gone; the id is JSON.
pub fn member_removed(channel: &str, user_id: &str) -> String {
    internal(
        "member_removed",
        channel,
        &format!(r#"{{"user_id":{user_id}}}"#),
    )
}

fn internal(name: &str, channel: &str, data: &str) -> String {
    let data = escaped(data);
    format!(r#"{{"event":"pusher_internal:{name}","data":"{data}","channel":"{channel}"}}"#)
}

/// Nothing is on its way to this socket: an event published now, on a channel of its own, comes
/// next. All that was published before comes before it, from whatever shard.
pub fn hears_nothing_published(server: &Server, name: &str, client: &mut Client) {
    let channel = format!("fence-{}", client.id);
    client.subscribe(&channel);
    api::publish_event(server, name, &channel, "ev", "now");
    assert_eq!(
        client.hear(),
        format!(r#"{{"event":"ev","data":"now","channel":"{channel}"}}"#)
    );
}

/// What a subscriber hears of an event whose data is this text.
pub fn heard(event: &str, data: &str, channel: &str) -> String {
    let data = escaped(data);
    format!(r#"{{"event":"{event}","data":"{data}","channel":"{channel}"}}"#)
}
