//! What servers say: each function appends the JSON text of one message, without frame header.

use ahash::AHashMap;

use crate::broadcast::SocketId;
use crate::proto::event::Whisper;
use crate::proto::json::{self, Workspace};

/// Tells a client its name (R-001). The timeout is in seconds.
pub fn connection_established(out: &mut Vec<u8>, id: SocketId, activity_timeout_s: u32) {
    out.extend_from_slice(br#"{"event":"pusher:connection_established","data":"{\"socket_id\":\""#);
    json::number(out, id.a);
    out.push(b'.');
    json::number(out, id.b);
    out.extend_from_slice(br#"\",\"activity_timeout\":"#);
    json::number(out, activity_timeout_s);
    out.extend_from_slice(br#"}"}"#);
}

/// Refuses something. `message` is one of Reverb's fixed texts, in which nothing needs an escape.
pub fn error(out: &mut Vec<u8>, code: u16, message: &str) {
    out.extend_from_slice(br#"{"event":"pusher:error","data":"{\"code\":"#);
    json::number(out, code);
    out.extend_from_slice(br#",\"message\":\""#);
    out.extend_from_slice(message.as_bytes());
    out.extend_from_slice(br#"\"}"}"#);
}

/// Asks a silent client for a sign of life (R-151).
pub fn ping(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"event":"pusher:ping"}"#);
}

/// Answers a client's ping (R-062).
pub fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"event":"pusher:pong"}"#);
}

/// Acknowledges a subscription (R-066). `"0"` gets no channel key (R-069).
pub fn subscription_succeeded(out: &mut Vec<u8>, channel: &str) {
    internal(out, "subscription_succeeded", "{}", channel);
}

/// Acknowledges a presence subscription (R-093). `data` is the JSON text `{"presence":…}`.
pub fn presence_succeeded(out: &mut Vec<u8>, channel: &str, data: &str) {
    internal(out, "subscription_succeeded", data, channel);
}

/// Says that a cache channel has no event to show (R-114).
pub fn cache_miss(out: &mut Vec<u8>, channel: &str) {
    put(out, br#"{"event":"pusher:cache_miss","channel":""#, channel);
    out.extend_from_slice(br#""}"#);
}

/// Announces a member (R-095). `data` is its channel data, JSON text.
pub fn member_added(out: &mut Vec<u8>, channel: &str, data: &str) {
    internal(out, "member_added", data, channel);
}

/// Announces that a member left (R-099). `user_id` is a JSON value.
pub fn member_removed(out: &mut Vec<u8>, channel: &str, user_id: &str) {
    put(
        out,
        br#"{"event":"pusher_internal:member_removed","data":"{\"user_id\":"#,
        user_id,
    );
    out.extend_from_slice(br#"}""#);
    internal_channel(out, channel);
}

/// An event of the HTTP API (R-188), keys event, data, channel; all three are decoded strings.
pub fn api_event(out: &mut Vec<u8>, name: &str, data: &str, channel: &str) {
    put(out, br#"{"event":""#, name);
    put(out, br#"","data":""#, data);
    put(out, br#"","channel":""#, channel);
    out.extend_from_slice(br#""}"#);
}

/// An event of a batch (R-202): the same with keys event, channel, data.
pub fn batch_event(out: &mut Vec<u8>, name: &str, channel: &str, data: &str) {
    put(out, br#"{"event":""#, name);
    put(out, br#"","channel":""#, channel);
    put(out, br#"","data":""#, data);
    out.extend_from_slice(br#""}"#);
}

/// A whisper in mode `members` (R-127, R-128): keys event, channel, data, and `user_id`, a JSON
/// value, if given.
pub fn whisper(out: &mut Vec<u8>, whisper: &Whisper<'_>, channel: &str, user_id: Option<&str>) {
    out.extend_from_slice(br#"{"event":"#);
    out.extend_from_slice(whisper.event.as_bytes());
    put(out, br#","channel":""#, channel);
    out.extend_from_slice(br#"","data":"#);
    out.extend_from_slice(whisper.data.as_bytes());
    user_id_and_end(out, user_id);
}

/// A whisper in mode `all` (R-132, R-133): every member as it came, but `channels` is dropped,
/// `channel` set, `data` unwrapped, and `user_id` is the sender's, last, or absent.
pub fn whisper_whole(
    out: &mut Vec<u8>,
    whisper: &Whisper<'_>,
    channel: &str,
    user_id: Option<&str>,
) {
    // Few applications run in this mode, so it pays for its own buffers.
    let mut workspace = Workspace::default();
    let mut members = Vec::new();
    let mut positions = AHashMap::new();
    // The message has passed the same check in `parse`, so it is read whole again.
    let _ = json::visit(whisper.message, &mut workspace, |child| {
        let position = *positions.entry(child.key).or_insert(members.len());
        match members.get_mut(position) {
            Some(member) => *member = child,
            None => members.push(child),
        }
    });
    let mut separator = b'{';
    for member in members {
        if matches!(member.key, Some("channels" | "user_id")) {
            continue;
        }
        out.push(separator);
        separator = b',';
        out.extend_from_slice(member.key_raw.as_bytes());
        out.push(b':');
        match member.key {
            Some("channel") => {
                out.push(b'"');
                json::escape(out, channel);
                out.push(b'"');
            }
            Some("data") => out.extend_from_slice(whisper.data.as_bytes()),
            _ => out.extend_from_slice(member.value.raw().as_bytes()),
        }
    }
    user_id_and_end(out, user_id);
}

fn internal(out: &mut Vec<u8>, name: &str, data: &str, channel: &str) {
    out.extend_from_slice(br#"{"event":"pusher_internal:"#);
    out.extend_from_slice(name.as_bytes());
    put(out, br#"","data":""#, data);
    out.push(b'"');
    internal_channel(out, channel);
}

/// Reverb leaves the key out where PHP takes the name for false.
fn internal_channel(out: &mut Vec<u8>, channel: &str) {
    if !channel.is_empty() && channel != "0" {
        put(out, br#","channel":""#, channel);
        out.push(b'"');
    }
    out.push(b'}');
}

fn user_id_and_end(out: &mut Vec<u8>, user_id: Option<&str>) {
    if let Some(user_id) = user_id {
        out.extend_from_slice(br#","user_id":"#);
        out.extend_from_slice(user_id.as_bytes());
    }
    out.push(b'}');
}

/// Text of ours, and behind it one that needs escapes.
fn put(out: &mut Vec<u8>, ours: &[u8], text: &str) {
    out.extend_from_slice(ours);
    json::escape(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn r001_r007_establishing_names_the_socket_and_the_timeout() {
        let id = SocketId {
            a: 86_935_741,
            b: 725_973_289,
        };
        assert_eq!(
            written(|out| connection_established(out, id, 45)),
            concat!(
                r#"{"event":"pusher:connection_established","#,
                r#""data":"{\"socket_id\":\"86935741.725973289\",\"activity_timeout\":45}"}"#
            )
        );
    }

    #[test]
    fn short_messages_have_reverbs_bytes() {
        assert_eq!(written(ping), r#"{"event":"pusher:ping"}"#);
        assert_eq!(written(pong), r#"{"event":"pusher:pong"}"#);
        assert_eq!(
            written(|out| error(out, 4200, "Invalid message format")),
            concat!(
                r#"{"event":"pusher:error","data":""#,
                r#"{\"code\":4200,\"message\":\"Invalid message format\"}"}"#
            )
        );
    }

    #[test]
    fn r069_r076_acknowledgements_carry_the_channel_as_php_writes_it() {
        let ok = |channel: &str| written(|out| subscription_succeeded(out, channel));
        let start = r#"{"event":"pusher_internal:subscription_succeeded","data":"{}""#;
        assert_eq!(ok("news"), format!(r#"{start},"channel":"news"}}"#));
        assert_eq!(ok("0"), format!("{start}}}"));
        assert_eq!(
            ok("a/b é <x>"),
            format!(r#"{start},"channel":"a\/b \u00e9 <x>"}}"#)
        );
        assert_eq!(
            ok("a\"\\\n\0"),
            format!(r#"{start},"channel":"a\"\\\n\u0000"}}"#)
        );
        assert_eq!(
            ok("канал-é-😀"),
            format!(r#"{start},"channel":"\u043a\u0430\u043d\u0430\u043b-\u00e9-\ud83d\ude00"}}"#)
        );
    }

    #[test]
    fn r114_a_cache_miss_has_no_data() {
        assert_eq!(
            written(|out| cache_miss(out, "cache-test-channel")),
            r#"{"event":"pusher:cache_miss","channel":"cache-test-channel"}"#
        );
        assert_eq!(
            written(|out| cache_miss(out, "cache/é")),
            r#"{"event":"pusher:cache_miss","channel":"cache\/\u00e9"}"#
        );
    }

    #[test]
    fn r093_r095_r099_presence_messages_hold_json_in_a_string() {
        let data = r#"{"presence":{"count":1,"ids":[1],"hash":{"1":{"name":"Test User"}}}}"#;
        assert_eq!(
            written(|out| presence_succeeded(out, "presence-r", data)),
            concat!(
                r#"{"event":"pusher_internal:subscription_succeeded","#,
                r#""data":"{\"presence\":{\"count\":1,"#,
                r#"\"ids\":[1],\"hash\":{\"1\":{\"name\":\"Test User\"}}}}","channel":"presence-r"}"#
            )
        );
        let data = r#"{"user_id":"5","user_info":{"n":"Zo\u00e9\/<b>"}}"#;
        assert_eq!(
            written(|out| member_added(out, "presence-ui", data)),
            concat!(
                r#"{"event":"pusher_internal:member_added","data":"{\"user_id\":\"5\","#,
                r#"\"user_info\":{\"n\":\"Zo\\u00e9\\\/<b>\"}}","channel":"presence-ui"}"#
            )
        );
        assert_eq!(
            written(|out| member_removed(out, "presence-r", "\"2\"")),
            concat!(
                r#"{"event":"pusher_internal:member_removed","#,
                r#""data":"{\"user_id\":\"2\"}","channel":"presence-r"}"#
            )
        );
        assert_eq!(
            written(|out| member_removed(out, "presence-i", "3")),
            concat!(
                r#"{"event":"pusher_internal:member_removed","#,
                r#""data":"{\"user_id\":3}","channel":"presence-i"}"#
            )
        );
    }

    #[test]
    fn r188_api_events_have_their_own_order_of_keys() {
        assert_eq!(
            written(|out| api_event(out, "App\\Events\\T", r#"{"a":"b/é"}"#, "c/1")),
            r#"{"event":"App\\Events\\T","data":"{\"a\":\"b\/\u00e9\"}","channel":"c\/1"}"#
        );
    }
}
