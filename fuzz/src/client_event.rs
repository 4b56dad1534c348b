//! Any bytes as a client's message: taken only if another JSON reader takes it too, and what is
//! passed on to others is JSON that says the same.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use slapback::proto::event::{self, ClientMessage, Scratch, Whisper};
use slapback::proto::json::{self, NESTING_MAX, Workspace};
use slapback::proto::presence::{Member, Presence};

/// A whisper as its receivers read it.
#[derive(Deserialize)]
struct Heard {
    event: Value,
    channel: String,
    /// A whisper in mode `all` without data is passed on without.
    data: Option<Value>,
    user_id: Option<Value>,
}

/// Parses one message, and passes on what it says.
pub fn run(payload: &[u8]) {
    let mut scratch = Scratch::default();
    let parsed = event::parse(payload, &mut scratch);
    let Ok(text) = str::from_utf8(payload) else {
        assert!(parsed.is_err(), "a message that is no text");
        return;
    };
    check_json(text);
    match parsed {
        Ok(ClientMessage::Whisper(whisper)) => check_whisper(&whisper),
        // The session refuses a channel without a name before it looks at the member.
        Ok(ClientMessage::Subscribe(subscribe)) if !subscribe.channel.is_empty() => {
            if let Ok(member) = Member::parse(subscribe.channel_data.as_deref()) {
                check_member(&subscribe.channel, member);
            }
        }
        Ok(_) | Err(_) => {}
    }
}

/// Two readers agree on what JSON is, but for how deep it may go and how large a number may be.
fn check_json(text: &str) {
    let mut workspace = Workspace::default();
    let mut raws = Vec::new();
    let ours = json::visit(text, &mut workspace, |child| {
        raws.push(child.value.raw());
        raws.extend((!child.key_raw.is_empty()).then_some(child.key_raw));
    });
    let theirs = serde_json::from_str::<IgnoredAny>(text);
    if ours.is_ok() {
        assert!(theirs.is_ok(), "only we take it: {theirs:?}");
        for raw in raws {
            let inner = serde_json::from_str::<IgnoredAny>(raw);
            assert!(inner.is_ok(), "a part of it is no JSON: {raw:?}");
        }
        return;
    }
    let brackets = text.bytes().filter(|byte| matches!(byte, b'[' | b'{'));
    let is_deep = brackets.count() > NESTING_MAX;
    let is_plain = serde_json::from_str::<Value>(text).is_ok();
    assert!(is_deep || !is_plain, "only we refuse it");
}

fn check_whisper(whisper: &Whisper<'_>) {
    let name = json_of(whisper.event).expect("a name is flat");
    let data = json_of(&whisper.data);
    for (user_id, expected) in [(Some("7"), Some(Value::from(7))), (None, None)] {
        let check = |out: Vec<u8>, channel: &str| {
            let text = String::from_utf8(out).expect("a whisper is text");
            let heard: Heard = json_of(&text)?;
            assert_eq!((&heard.event, &heard.user_id), (&name, &expected));
            assert_eq!(heard.channel, channel);
            Some(heard.data.unwrap_or_default())
        };
        let mut out = Vec::new();
        event::whisper(&mut out, whisper, &whisper.channel, user_id);
        let heard = check(out, &whisper.channel);
        assert!(heard.is_none() || heard == data);
        let channels = whisper.channels.iter().flatten();
        for channel in channels.chain([&whisper.channel]) {
            let mut out = Vec::new();
            event::whisper_whole(&mut out, whisper, channel, user_id);
            check(out, channel);
        }
    }
}

fn check_member(channel: &str, member: Member) {
    let mut out = Vec::new();
    event::member_added(&mut out, channel, &member.data);
    assert_eq!(internal(&out, channel), json_of(&member.data));
    let user = member.user_key.clone();
    let mut presence = Presence::new();
    presence.join(0_u32, member);
    let mut text = String::new();
    presence.write_succeeded(&mut text);
    let mut out = Vec::new();
    event::presence_succeeded(&mut out, channel, &text);
    let Some(answer) = internal(&out, channel) else {
        return;
    };
    let count = answer["presence"]["count"].as_u64().expect("a count");
    assert_eq!(count, u64::from(user.is_some()));
}

/// The data of a message of the server itself, which is JSON in a string.
fn internal(out: &[u8], channel: &str) -> Option<Value> {
    let message: Value = serde_json::from_slice(out).expect("a message is flat JSON");
    // Reverb leaves the channel `0` out.
    let told = message.get("channel").and_then(Value::as_str);
    assert_eq!(told.unwrap_or("0"), channel);
    json_of(message["data"].as_str().expect("data is a string"))
}

/// What another reader makes of it; None if it is nested deeper than that one goes.
fn json_of<T: DeserializeOwned>(text: &str) -> Option<T> {
    let value = serde_json::from_str(text).ok();
    let is_json = value.is_some() || serde_json::from_str::<IgnoredAny>(text).is_ok();
    assert!(is_json, "it is no JSON: {text:?}");
    value
}
