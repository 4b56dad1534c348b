//! The body of `POST /apps/{id}/events`: one event for one or more channels (R-188..R-201).
//!
//! Called by `api` once the call is authorised.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::app::AppIndex;
use crate::broadcast::{Broadcast, Delivery, SocketId};
use crate::proto::api::validation::{self, Errors, MUST_BE_A_STRING};
use crate::proto::api::{Accepted, Info, Question, Refusal};
use crate::proto::channel::ChannelKind;
use crate::proto::event::{self, Scratch};
use crate::proto::frame;
use crate::proto::json::{self, Malformed, Value, Workspace};

/// Frames of one call together, bytes: one request of many channels and much data must not
/// multiply into more than a turn log holds.
pub(super) const FRAMES_BYTES_MAX: usize = 256 << 20;

/// Reads an event.
pub(super) fn publish(
    body: &[u8],
    app: AppIndex,
    scratch: &mut Scratch,
) -> Result<Accepted, Refusal> {
    let Scratch { outer, inner, .. } = scratch;
    let mut event = Fields::default();
    visit_body(body, outer, |key, value| event.note(key, value))?;
    event.accepted(app, inner)
}

/// Hands out the members of a body, which must be an object or a list.
pub(super) fn visit_body<'a>(
    body: &'a [u8],
    workspace: &'a mut Workspace,
    mut member: impl FnMut(Option<&str>, Value<'a>),
) -> Result<(), Refusal> {
    let body = std::str::from_utf8(body).map_err(|_| Refusal::bad_request("body not UTF-8"))?;
    match json::visit(body, workspace, |child| member(child.key, child.value)) {
        Ok(Value::Object { .. } | Value::List { .. }) => Ok(()),
        Ok(_) => Err(Refusal::bad_request(
            "body is neither a JSON object nor a list",
        )),
        Err(Malformed) => Err(Refusal::bad_request("body is not JSON")),
    }
}

/// The members of an event that mean something.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) name: Option<Value<'a>>,
    pub(super) data: Option<Value<'a>>,
    /// An event of a batch has none.
    channels: Option<Value<'a>>,
    pub(super) channel: Option<Value<'a>>,
    pub(super) socket_id: Option<Value<'a>>,
    pub(super) info: Option<Value<'a>>,
}

impl<'a> Fields<'a> {
    /// Keeps a member, if it means something.
    pub(super) fn note(&mut self, key: Option<&str>, value: Value<'a>) {
        let place = match key {
            Some("name") => &mut self.name,
            Some("data") => &mut self.data,
            Some("channels") => &mut self.channels,
            Some("channel") => &mut self.channel,
            Some("socket_id") => &mut self.socket_id,
            Some("info") => &mut self.info,
            _ => return,
        };
        *place = Some(value);
    }

    /// Laravel's rules in Reverb's order, then one delivery per channel named.
    fn accepted(&self, app: AppIndex, inner: &'a mut Workspace) -> Result<Accepted, Refusal> {
        let mut errors = Errors::default();
        errors.require_text("name", self.name);
        errors.require_text("data", self.data);
        self.check_channels(&mut errors);
        errors.allow_text("socket_id", self.socket_id);
        errors.allow_text("info", self.info);
        errors.refuse()?;
        let [name, data] = [self.name, self.data].map(text);
        let (name, data) = (name.unwrap_or_default(), data.unwrap_or_default());
        let channels = self.channel_names(inner)?;
        if channels.len().saturating_mul(name.len() + data.len()) > FRAMES_BYTES_MAX {
            let why = "the frames of all its channels together are too large";
            return Err(Refusal::too_large(why));
        }
        let question = text(self.info).map(|info| Question::Event {
            channels: distinct(&channels),
            info: Info::parse(info),
        });
        let except = text(self.socket_id).and_then(SocketId::parse);
        let deliveries = channels
            .into_iter()
            .map(|channel| Delivery {
                frame: frame::text_frame(|out| event::api_event(out, name, data, &channel)),
                except,
                is_kept: ChannelKind::of(&channel).keeps(name),
                channel: channel.into(),
            })
            .collect();
        Ok(Accepted::Publish {
            broadcast: Broadcast {
                app,
                deliveries,
                is_one_event: true,
            },
            question,
            taken: "{}",
        })
    }

    /// One of the two is required; each is checked for its type only if it is not blank.
    fn check_channels(&self, errors: &mut Errors) {
        let lacks_list = validation::is_missing(self.channels);
        if lacks_list && validation::is_missing(self.channel) {
            errors.push("channels", "is required when channel is not present");
            errors.push("channel", "is required when channels is not present");
            return;
        }
        match self.channels {
            None | Some(Value::List { .. } | Value::Object { .. }) => {}
            Some(Value::Text { text, .. }) if json::is_blank(text) => {}
            Some(_) => errors.push("channels", "must be an array"),
        }
        errors.allow_text("channel", self.channel);
    }

    /// `channels` wins over `channel`; duplicates stay.
    fn channel_names(&self, inner: &'a mut Workspace) -> Result<Vec<Cow<'a, str>>, Refusal> {
        let (Value::List { raw } | Value::Object { raw }) = self.channels.unwrap_or(Value::Null)
        else {
            let one = self.channels.or(self.channel);
            return Ok(one.and_then(Value::coerced).into_iter().collect());
        };
        let mut names = Vec::new();
        let mut errors = Errors::default();
        let mut index = 0_usize;
        // The slice is part of a document that has passed the same check.
        let _ = json::visit(raw, inner, |child| {
            match child.value.coerced() {
                Some(name) => names.push(name),
                None => errors.push(format_args!("channels.{index}"), MUST_BE_A_STRING),
            }
            index += 1;
        });
        errors.refuse()?;
        Ok(names)
    }
}

/// The text of a field that is a string.
pub(super) fn text(value: Option<Value<'_>>) -> Option<&str> {
    match value {
        Some(Value::Text { text, .. }) => Some(text),
        _ => None,
    }
}

/// Each name once, in the order of their first appearance.
fn distinct(names: &[Cow<'_, str>]) -> Vec<Box<str>> {
    let mut seen = HashSet::new();
    let names = names.iter().map(AsRef::as_ref);
    names
        .filter(|&name| seen.insert(name))
        .map(Into::into)
        .collect()
}
