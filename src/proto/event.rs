//! Pusher messages: what clients say, parsed without copying; what servers say, written.
//!
//! Called by the session with one whole message, and by all who write events. Values that clients
//! send travel on as slices of their source, never encoded again; strings written here carry the
//! escapes of PHP's `json_encode`, so that the bytes equal Reverb's.

mod write;

use std::borrow::Cow;

use crate::proto::channel::CLIENT_EVENT;
use crate::proto::json::{self, Child, Malformed, Value, Workspace};

pub use write::{
    api_event, batch_event, cache_miss, connection_established, error, member_added,
    member_removed, ping, pong, presence_succeeded, subscription_succeeded, whisper, whisper_whole,
};

/// Buffers reused between messages: of the message, of what is inside it, and inside that.
#[derive(Default)]
pub struct Scratch {
    pub(super) outer: Workspace,
    pub(super) inner: Workspace,
    pub(super) innermost: Workspace,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch")
    }
}

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// `pusher:subscribe`
    Subscribe(Subscribe<'a>),
    /// `pusher:unsubscribe`
    Unsubscribe {
        /// Decoded.
        channel: Cow<'a, str>,
    },
    /// `pusher:ping`
    Ping,
    /// `pusher:pong`
    Pong,
    /// The client sent `pusher:connection_established` (R-064: repeat it).
    Establish,
    /// `client-…`
    Whisper(Whisper<'a>),
    /// Anything Reverb silently ignores: an event that does not start with `client-`.
    Ignored,
}

/// `data` of `pusher:subscribe`, decoded. An empty channel is the session's to refuse.
#[derive(Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Ints and true are read as strings.
    pub channel: Cow<'a, str>,
    /// `key:signature`; None when absent or null.
    pub auth: Option<Cow<'a, str>>,
    /// JSON text, not looked at yet; None when absent or null.
    pub channel_data: Option<Cow<'a, str>>,
}

/// One client event.
#[derive(Debug, PartialEq, Eq)]
pub struct Whisper<'a> {
    /// The event's name as it stood, a JSON string with its quotes.
    pub event: &'a str,
    /// Decoded.
    pub channel: Cow<'a, str>,
    /// `channels` of mode `all`, decoded; None if absent or null. What is no string and
    /// cannot be read as one is left out.
    pub channels: Option<Vec<Cow<'a, str>>>,
    /// The JSON value to send as data: `null` when absent, else the slice the client sent, or the
    /// text of a string that holds a list or an object (R-134..R-138).
    pub data: Cow<'a, str>,
    /// The whole message as sent, for mode `all`, which keeps further members.
    pub message: &'a str,
}

/// The message is refused with E4200.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidMessage;

impl From<Malformed> for InvalidMessage {
    fn from(_: Malformed) -> Self {
        Self
    }
}

/// Parses one client message (text or binary payload, any bytes). Nesting is capped before
/// anything is read.
pub fn parse<'a>(
    payload: &'a [u8],
    scratch: &'a mut Scratch,
) -> Result<ClientMessage<'a>, InvalidMessage> {
    let message = std::str::from_utf8(payload).map_err(|_| InvalidMessage)?;
    let Scratch { outer, inner, .. } = scratch;
    let mut members = Members::default();
    json::visit(message, outer, |child| members.note(child))?;
    // A list is an array without `event` to PHP; a scalar has none either.
    let Some(Value::Text { text: event, raw }) = members.event else {
        return Err(InvalidMessage);
    };
    if json::is_blank(event) {
        return Err(InvalidMessage);
    }
    match event.strip_prefix("pusher:") {
        Some("subscribe") => subscribe(members.data, inner).map(ClientMessage::Subscribe),
        Some("unsubscribe") => {
            let data = subscription_data(members.data, inner)?;
            let channel = data
                .channel
                .and_then(Value::coerced)
                .ok_or(InvalidMessage)?;
            Ok(ClientMessage::Unsubscribe { channel })
        }
        Some("ping") => Ok(ClientMessage::Ping),
        Some("pong") => Ok(ClientMessage::Pong),
        Some("connection_established") => Ok(ClientMessage::Establish),
        Some(_) => Err(InvalidMessage),
        None => client_event(event, raw, message, &members, inner),
    }
}

/// The top-level members that mean something; of duplicates the last wins.
#[derive(Default)]
struct Members<'a> {
    event: Option<Value<'a>>,
    data: Option<Value<'a>>,
    channel: Option<Value<'a>>,
    channels: Option<Value<'a>>,
}

impl<'a> Members<'a> {
    fn note(&mut self, child: Child<'a>) {
        match child.key {
            Some("event") => self.event = Some(child.value),
            Some("data") => self.data = Some(child.value),
            Some("channel") => self.channel = Some(child.value),
            Some("channels") => self.channels = Some(child.value),
            _ => {}
        }
    }
}

/// What `pusher:subscribe` and `pusher:unsubscribe` carry in `data`.
#[derive(Default)]
struct SubscriptionData<'a> {
    channel: Option<Value<'a>>,
    auth: Option<Value<'a>>,
    channel_data: Option<Value<'a>>,
}

fn subscribe<'a>(
    data: Option<Value<'a>>,
    inner: &'a mut Workspace,
) -> Result<Subscribe<'a>, InvalidMessage> {
    let data = subscription_data(data, inner)?;
    let channel = data
        .channel
        .and_then(Value::coerced)
        .ok_or(InvalidMessage)?;
    let auth = match data.auth {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.coerced().ok_or(InvalidMessage)?),
    };
    let channel_data = match data.channel_data {
        None | Some(Value::Null) => None,
        Some(Value::Text { text, .. }) => Some(Cow::Borrowed(text)),
        Some(_) => return Err(InvalidMessage),
    };
    Ok(Subscribe {
        channel,
        auth,
        channel_data,
    })
}

/// Reads `data`, an object or a string that holds one.
fn subscription_data<'a>(
    data: Option<Value<'a>>,
    inner: &'a mut Workspace,
) -> Result<SubscriptionData<'a>, InvalidMessage> {
    let source = match data {
        Some(Value::Text { text, .. }) => text,
        Some(Value::Object { raw }) => raw,
        _ => return Err(InvalidMessage),
    };
    let mut found = SubscriptionData::default();
    json::visit(source, inner, |child| match child.key {
        Some("channel") => found.channel = Some(child.value),
        Some("auth") => found.auth = Some(child.value),
        Some("channel_data") => found.channel_data = Some(child.value),
        _ => {}
    })?;
    Ok(found)
}

/// A message that is not `pusher:…`. Its form is checked before its name.
fn client_event<'a>(
    event: &'a str,
    event_raw: &'a str,
    message: &'a str,
    members: &Members<'a>,
    inner: &'a mut Workspace,
) -> Result<ClientMessage<'a>, InvalidMessage> {
    let Some(Value::Text { text: channel, .. }) = members.channel else {
        return Err(InvalidMessage);
    };
    if json::is_blank(channel) {
        return Err(InvalidMessage);
    }
    let data = whisper_data(members.data, inner)?;
    if !event.starts_with(CLIENT_EVENT) {
        return Ok(ClientMessage::Ignored);
    }
    Ok(ClientMessage::Whisper(Whisper {
        event: event_raw,
        channel: Cow::Borrowed(channel),
        channels: channel_list(members.channels, inner),
        data: Cow::Borrowed(data),
        message,
    }))
}

/// The JSON text to pass on: a list, an object, null or a blank string; a string that holds one of
/// the first three is taken as what it holds.
fn whisper_data<'a>(
    data: Option<Value<'a>>,
    inner: &mut Workspace,
) -> Result<&'a str, InvalidMessage> {
    match data {
        None | Some(Value::Null) => Ok("null"),
        Some(Value::List { raw } | Value::Object { raw }) => Ok(raw),
        Some(Value::Text { text, raw }) if json::is_blank(text) => Ok(raw),
        Some(Value::Text { text, .. }) => match json::visit(text, inner, |_| {})? {
            Value::List { .. } | Value::Object { .. } | Value::Null => Ok(json::trimmed(text)),
            Value::Bool(_) | Value::Number { .. } | Value::Text { .. } => Err(InvalidMessage),
        },
        Some(Value::Bool(_) | Value::Number { .. }) => Err(InvalidMessage),
    }
}

/// `channels` as Reverb takes it: a list, the values of an object, or one name.
fn channel_list<'a>(
    channels: Option<Value<'a>>,
    inner: &'a mut Workspace,
) -> Option<Vec<Cow<'a, str>>> {
    let value = channels?;
    let mut list = Vec::new();
    match value {
        Value::Null => return None,
        Value::List { raw } | Value::Object { raw } => {
            // The slice is part of a document that has passed the same check.
            let _ = json::visit(raw, inner, |child| list.extend(child.value.coerced()));
        }
        Value::Bool(_) | Value::Number { .. } | Value::Text { .. } => list.extend(value.coerced()),
    }
    Some(list)
}

#[cfg(test)]
mod tests;
