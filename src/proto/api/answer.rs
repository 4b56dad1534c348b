//! What the fleet knows, written as the answer to a call. Called by the session when all is known.

use std::borrow::Cow;

use crate::proto::api::{Facts, Info, Occupied, Question, Word};
use crate::proto::channel::ChannelKind;
use crate::proto::http::Status;
use crate::proto::json::{self, Value, Workspace};

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body is JSON; else plain text.
    pub is_json: bool,
    /// The body.
    pub body: Cow<'static, str>,
}

impl Answer {
    /// An answer in JSON.
    pub fn json(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            is_json: true,
            body: body.into(),
        }
    }

    /// An answer in words.
    pub fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self {
            is_json: false,
            ..Self::json(status, body)
        }
    }
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self::text(status.code(), status.text())
    }
}

/// Answers larger than this are not given, bytes: they would not fit where a turn gathers them.
/// Nor are they written to their end: a batch can ask a thousand times for one large event.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Writes the answer to a question (R-191, R-192, R-203 to R-224).
pub fn answer(question: &Question, mut facts: Facts) -> Answer {
    if facts.is_cut {
        return Status::PayloadTooLarge.into();
    }
    facts.merge();
    let mut out = Vec::new();
    match question {
        Question::Connections | Question::Sockets => {
            out.extend_from_slice(br#"{"connections":"#);
            json::number(&mut out, facts.connections);
            out.push(b'}');
        }
        Question::Channels { info, .. } => {
            let known = facts.channels.iter();
            let entries = known.map(|known| (known.channel.as_ref(), Some(known)));
            write_channels(&mut out, entries, *info);
        }
        Question::Channel { channel, info } => {
            let write_event = json::escape_response_again;
            write_info(
                &mut out,
                channel,
                facts.channel(channel),
                *info,
                write_event,
            );
        }
        Question::Users { channel } if facts.channel(channel).is_none() => {
            return Answer::json(404, "{}");
        }
        Question::Users { channel } if !ChannelKind::of(channel).is_presence() => {
            return Answer::json(400, "{}");
        }
        Question::Users { .. } => write_users(&mut out, &facts),
        Question::Event { channels, info } => {
            let channels = channels.iter().map(AsRef::as_ref);
            let entries = channels.map(|channel| (channel, facts.channel(channel)));
            write_channels(&mut out, entries, *info);
        }
        Question::Batch { items } => write_batch(&mut out, items, &facts),
        Question::Terminate { .. } => out.extend_from_slice(b"{}"),
    }
    if out.len() > ANSWER_BYTES_MAX {
        return Status::PayloadTooLarge.into();
    }
    Answer::json(200, String::from_utf8_lossy(&out).into_owned())
}

/// `{"channels":{…}}`, an object also where Reverb makes a list of it.
fn write_channels<'a>(
    out: &mut Vec<u8>,
    entries: impl Iterator<Item = (&'a str, Option<&'a Occupied>)>,
    info: Info,
) {
    out.extend_from_slice(br#"{"channels":{"#);
    for (index, (channel, known)) in entries.enumerate() {
        if out.len() > ANSWER_BYTES_MAX {
            return;
        }
        out.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
        json::escape_response(out, channel);
        out.extend_from_slice(b"\":");
        write_info(out, channel, known, info, json::escape_response_again);
    }
    out.extend_from_slice(b"}}");
}

fn write_batch(out: &mut Vec<u8>, items: &[Option<(Box<str>, Info)>], facts: &Facts) {
    out.extend_from_slice(br#"{"batch":["#);
    for (index, item) in items.iter().enumerate() {
        if out.len() > ANSWER_BYTES_MAX {
            return;
        }
        if index > 0 {
            out.push(b',');
        }
        match item {
            Some((channel, info)) => {
                let (known, write_event) = (facts.channel(channel), json::escape_response_again);
                write_info(out, channel, known, *info, write_event);
            }
            None => out.extend_from_slice(b"{}"),
        }
    }
    out.extend_from_slice(b"]}");
}

/// What there is to say of a channel, in Reverb's order. Of one without subscribers only that.
/// `write_event` appends its last event, JSON.
pub fn write_info(
    out: &mut Vec<u8>,
    channel: &str,
    known: Option<&Occupied>,
    info: Info,
    write_event: fn(&mut Vec<u8>, &str),
) {
    let kind = ChannelKind::of(channel);
    let mut opening = b'{';
    let mut member = |out: &mut Vec<u8>, name: &[u8]| {
        out.push(std::mem::replace(&mut opening, b','));
        out.extend_from_slice(name);
    };
    if info.has(Word::Occupied) {
        member(out, br#""occupied":"#);
        out.extend_from_slice(if known.is_some() { b"true" } else { b"false" });
    }
    if let Some(known) = known {
        if info.has(Word::UserCount) && kind.is_presence() {
            member(out, br#""user_count":"#);
            json::number(out, known.users);
        }
        if info.has(Word::SubscriptionCount) && !kind.is_presence() {
            member(out, br#""subscription_count":"#);
            json::number(out, known.subscriptions);
        }
        if let Some(event) = known.cached.as_deref().filter(|_| info.has(Word::Cache)) {
            member(out, br#""cache":"#);
            write_event(out, event);
        }
    }
    if opening == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

/// `{"users":[…]}`: strings as PHP writes them here, all else as the client sent it.
fn write_users(out: &mut Vec<u8>, facts: &Facts) {
    let mut workspace = Workspace::default();
    out.extend_from_slice(br#"{"users":["#);
    for (index, id) in facts.users.iter().enumerate() {
        out.extend_from_slice(if index > 0 {
            br#",{"id":"#
        } else {
            br#"{"id":"#
        });
        match json::visit(id, &mut workspace, |_| {}) {
            Ok(Value::Text { text, .. }) => {
                out.push(b'"');
                json::escape_response(out, text);
                out.push(b'"');
            }
            _ => out.extend_from_slice(id.as_bytes()),
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests;
