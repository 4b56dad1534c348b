//! The JSON of Reverb's bus: what a message says, and how ours are written.
//!
//! Reading borrows from the message and encodes nothing again; what is written has PHP's escapes.
//! Called by the bus. It keeps no state, and what it says of a bad message holds nothing of it.

use std::borrow::Cow;

use ahash::AHashMap;

use crate::app::{AppIndex, AppSettings};
use crate::broadcast::{Broadcast, Delivery, SocketId};
use crate::proto::channel::ChannelKind;
use crate::proto::frame;
use crate::proto::json::{self, Malformed as NotJson, Value, Workspace};
use crate::redis::php::{self, Address, Metric, Unreadable};

/// Channels one message may name.
pub const CHANNELS_MAX: usize = 1_000_000;
/// Bytes of a node's name: it is remembered.
pub const NODE_BYTES_MAX: usize = 64;
/// Bytes of the frames of one message together.
pub const FRAMES_BYTES_MAX: usize = 256 << 20;

/// Buffers reused between messages.
#[derive(Default)]
pub struct Scratch {
    outer: Workspace,
    inner: Workspace,
}

/// Why a message was skipped; it holds nothing of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl From<NotJson> for Malformed {
    fn from(NotJson: NotJson) -> Self {
        Self("not JSON")
    }
}

impl From<Unreadable> for Malformed {
    fn from(Unreadable(why): Unreadable) -> Self {
        Self(why)
    }
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// An event or a whisper.
    Event(Event<'a>),
    /// A metrics question.
    Metrics {
        /// What is asked.
        question: Metric<'a>,
        /// The node of this kind that asks; None is a PHP node.
        node: Option<&'a str>,
    },
    /// The user's sockets are to go.
    Terminate {
        /// The app's id.
        app: &'a str,
        /// The user.
        user_id: &'a str,
        /// Which message of which node this is; None from a PHP node.
        origin: Option<Origin<'a>>,
    },
    /// Of any other type: an answer, if somebody waits for it.
    Answer {
        /// The question's key.
        key: &'a str,
        /// JSON as sent.
        payload: &'a str,
    },
    /// Says nothing, and is no error.
    Ignored,
}

/// An event or a whisper.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The app's id.
    pub app: &'a str,
    /// A JSON object as sent.
    pub payload: &'a str,
    /// The socket that must not get it.
    pub except: Option<SocketId>,
    /// Which message of which node this is; None from a PHP node.
    pub origin: Option<Origin<'a>>,
}

/// What our own messages carry beside Reverb's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The sender, `id.epoch`.
    pub node: &'a str,
    /// Its number there.
    pub seq: u64,
    /// When it was published, Unix milliseconds.
    pub at: u64,
    /// It has waited in a queue or is repeated.
    pub late: bool,
}

/// Reads one message of the bus.
pub fn read<'a>(message: &'a [u8], scratch: &'a mut Scratch) -> Result<Message<'a>, Malformed> {
    let message = std::str::from_utf8(message).map_err(|_| Malformed("not UTF-8"))?;
    let Scratch { outer, inner } = scratch;
    let mut members = Members::default();
    match json::visit(message, outer, |child| members.note(child.key, child.value))? {
        Value::Object { .. } => members.message(inner),
        Value::List { .. } => Ok(Message::Ignored),
        _ => Err(Malformed("neither a JSON object nor a list")),
    }
}

#[derive(Default)]
struct Members<'a> {
    kind: Option<Value<'a>>,
    application: Option<Value<'a>>,
    payload: Option<Value<'a>>,
    socket_id: Option<Value<'a>>,
    node: Option<Value<'a>>,
    seq: Option<Value<'a>>,
    at: Option<Value<'a>>,
    late: Option<Value<'a>>,
}

impl<'a> Members<'a> {
    fn note(&mut self, key: Option<&str>, value: Value<'a>) {
        let place = match key {
            Some("type") => &mut self.kind,
            Some("application") => &mut self.application,
            Some("payload") => &mut self.payload,
            Some("socket_id") => &mut self.socket_id,
            Some("node") => &mut self.node,
            Some("seq") => &mut self.seq,
            Some("at") => &mut self.at,
            Some("late") => &mut self.late,
            _ => return,
        };
        *place = Some(value);
    }

    fn message(&self, inner: &'a mut Workspace) -> Result<Message<'a>, Malformed> {
        match (text(self.kind), self.payload) {
            (Some("message"), Some(Value::Object { raw })) => Ok(Message::Event(Event {
                app: self.app()?,
                payload: raw,
                except: text(self.socket_id).and_then(SocketId::parse),
                origin: self.origin(),
            })),
            (Some("metrics"), payload) => {
                let question = text(payload).ok_or(Malformed("the payload is no string"))?;
                Ok(Message::Metrics {
                    question: php::read_metric(question)?,
                    node: self.node(),
                })
            }
            (Some("terminate"), Some(Value::Object { raw })) => {
                let app = self.app()?;
                let mut user_id = None;
                json::visit(raw, inner, |child| {
                    if child.key == Some("user_id") {
                        user_id = text(Some(child.value));
                    }
                })?;
                let user_id = user_id.ok_or(Malformed("the user_id is no string"))?;
                Ok(Message::Terminate {
                    app,
                    user_id,
                    origin: self.origin(),
                })
            }
            (Some("message" | "terminate"), _) => Err(Malformed("the payload is no object")),
            (Some(key), Some(payload)) => Ok(Message::Answer {
                key,
                payload: payload.raw(),
            }),
            _ => Ok(Message::Ignored),
        }
    }

    fn app(&self) -> Result<&'a str, Malformed> {
        let application = text(self.application).ok_or(Malformed("no application"))?;
        Ok(php::read_application(application)?)
    }

    fn node(&self) -> Option<&'a str> {
        text(self.node).filter(|node| node.len() <= NODE_BYTES_MAX)
    }

    fn origin(&self) -> Option<Origin<'a>> {
        Some(Origin {
            node: self.node()?,
            seq: whole(self.seq)?,
            at: whole(self.at)?,
            late: self.late == Some(Value::Bool(true)),
        })
    }
}

fn text(value: Option<Value<'_>>) -> Option<&str> {
    match value {
        Some(Value::Text { text, .. }) => Some(text),
        _ => None,
    }
}

fn whole(value: Option<Value<'_>>) -> Option<u64> {
    match value {
        Some(Value::Number { raw }) => raw.parse().ok(),
        _ => None,
    }
}

impl Event<'_> {
    /// What the subscribers of each channel named get: the payload in its own order, without
    /// `channels`, the one name as `channel`.
    pub fn broadcast(&self, app: AppIndex, scratch: &mut Scratch) -> Result<Broadcast, Malformed> {
        let Scratch { outer, inner } = scratch;
        let mut payload = Payload::default();
        json::visit(self.payload, outer, |child| {
            payload.note(child.key.unwrap_or_default(), child.key_raw, child.value);
        })?;
        let channels = payload.channel_names(inner)?;
        let repeated = self.payload.len() - payload.channels.map_or(0, |list| list.raw().len());
        if channels.len().saturating_mul(repeated) > FRAMES_BYTES_MAX {
            return Err(Malformed("the frames of all its channels are too large"));
        }
        let name = text(payload.event).unwrap_or_default();
        let deliveries = channels
            .into_iter()
            .map(|channel| Delivery {
                frame: frame::text_frame(|out| payload.write(out, &channel)),
                except: self.except,
                is_kept: ChannelKind::of(&channel).keeps(name),
                channel: channel.into(),
            })
            .collect();
        Ok(Broadcast {
            app,
            deliveries,
            is_one_event: false,
        })
    }
}

#[derive(Default)]
struct Payload<'a> {
    /// All but `channels`: name decoded, name as sent, value.
    members: Vec<(&'a str, &'a str, Value<'a>)>,
    positions: AHashMap<&'a str, usize>,
    channels: Option<Value<'a>>,
    channel: Option<Value<'a>>,
    event: Option<Value<'a>>,
}

impl<'a> Payload<'a> {
    /// Of two members of one name the last counts, at the first one's place, as in PHP.
    fn note(&mut self, key: &'a str, key_raw: &'a str, value: Value<'a>) {
        match key {
            "channels" => {
                self.channels = Some(value);
                return;
            }
            "channel" => self.channel = Some(value),
            "event" => self.event = Some(value),
            _ => {}
        }
        let position = *self.positions.entry(key).or_insert(self.members.len());
        match self.members.get_mut(position) {
            Some((.., place)) => *place = value,
            None => self.members.push((key, key_raw, value)),
        }
    }

    fn channel_names(&self, inner: &'a mut Workspace) -> Result<Vec<Cow<'a, str>>, Malformed> {
        let listed = match self.channels {
            None | Some(Value::Null) => self.channel,
            channels => channels,
        };
        let Some(Value::List { raw } | Value::Object { raw }) = listed else {
            let one = listed.and_then(Value::coerced);
            return Ok(vec![one.ok_or(Malformed("the payload names no channel"))?]);
        };
        let (mut names, mut are_all) = (Vec::new(), true);
        json::visit(raw, inner, |child| match child.value.coerced() {
            Some(name) if names.len() < CHANNELS_MAX => names.push(name),
            _ => are_all = false,
        })?;
        let names = are_all.then_some(names);
        names.ok_or(Malformed("not a list of channels, or too many of them"))
    }

    fn write(&self, out: &mut Vec<u8>, channel: &str) {
        let mut lead: &[u8] = b"{";
        for (key, key_raw, value) in &self.members {
            out.extend_from_slice(lead);
            out.extend_from_slice(key_raw.as_bytes());
            out.push(b':');
            match *key {
                "channel" => quoted(out, channel),
                _ => out.extend_from_slice(value.raw().as_bytes()),
            }
            lead = b",";
        }
        if self.channel.is_none() {
            out.extend_from_slice(lead);
            out.extend_from_slice(b"\"channel\":");
            quoted(out, channel);
        }
        out.push(b'}');
    }
}

/// An app as the bus names it, made once and written into every message.
pub struct Application {
    php: String,
    /// The same as a JSON string.
    json: Box<[u8]>,
}

impl Application {
    /// Writes the app whole.
    pub fn new(app: &AppSettings, at: Address<'_>) -> Self {
        let php = php::application(app, at);
        let mut json = Vec::new();
        quoted(&mut json, &php);
        Self {
            json: json.into(),
            php,
        }
    }

    /// Appends an event or whisper, its payload written by `payload`.
    pub fn message(
        &self,
        out: &mut Vec<u8>,
        payload: impl FnOnce(&mut Vec<u8>),
        except: Option<SocketId>,
        origin: Option<Origin<'_>>,
    ) {
        self.open(out, "message");
        payload(out);
        if let Some(socket) = except {
            out.extend_from_slice(b",\"socket_id\":");
            quoted(out, &socket.to_string());
        }
        close(out, origin);
    }

    /// Appends the wish that the user's sockets go.
    pub fn terminate(&self, out: &mut Vec<u8>, user_id: &str, origin: Option<Origin<'_>>) {
        self.open(out, "terminate");
        out.extend_from_slice(b"{\"user_id\":");
        quoted(out, user_id);
        out.push(b'}');
        close(out, origin);
    }

    /// Appends a metrics question of a node; the app and its id in `question` are this one.
    pub fn metrics(&self, out: &mut Vec<u8>, question: &Metric<'_>, node: &str) {
        let Metric {
            key,
            metric,
            options,
            ..
        } = question;
        out.extend_from_slice(b"{\"type\":\"metrics\",\"payload\":");
        quoted(out, &php::metric(key, &self.php, *metric, options));
        out.extend_from_slice(b",\"node\":");
        quoted(out, node);
        out.push(b'}');
    }

    fn open(&self, out: &mut Vec<u8>, kind: &str) {
        out.extend_from_slice(b"{\"type\":");
        quoted(out, kind);
        out.extend_from_slice(b",\"application\":");
        out.extend_from_slice(&self.json);
        out.extend_from_slice(b",\"payload\":");
    }
}

/// Appends the payload of an event of the HTTP API; a batch item's or a whisper's is what its
/// frame holds.
pub fn event_payload(
    out: &mut Vec<u8>,
    name: &str,
    data: &str,
    channels: impl Iterator<Item = impl AsRef<str>>,
) {
    out.extend_from_slice(b"{\"event\":");
    quoted(out, name);
    out.extend_from_slice(b",\"channels\":");
    out.push(b'[');
    for (number, channel) in channels.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        quoted(out, channel.as_ref());
    }
    out.push(b']');
    out.extend_from_slice(b",\"data\":");
    quoted(out, data);
    out.push(b'}');
}

/// Appends the answer to a metrics question; `payload` is JSON.
pub fn answer(out: &mut Vec<u8>, key: &str, payload: &[u8]) {
    out.extend_from_slice(b"{\"type\":");
    quoted(out, key);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload);
    out.push(b'}');
}

/// PHP nodes know none of these keys: they stand last.
fn close(out: &mut Vec<u8>, origin: Option<Origin<'_>>) {
    if let Some(Origin {
        node,
        seq,
        at,
        late,
    }) = origin
    {
        out.extend_from_slice(b",\"node\":");
        quoted(out, node);
        out.extend_from_slice(b",\"seq\":");
        json::number(out, seq);
        out.extend_from_slice(b",\"at\":");
        json::number(out, at);
        if late {
            out.extend_from_slice(b",\"late\":true");
        }
    }
    out.push(b'}');
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    json::escape(out, text);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
