//! The body of `POST /apps/{id}/batch_events`: events of one channel each (R-202..R-209).
//!
//! Called by `api` once the call is authorised. The whole batch becomes one broadcast, so that
//! its home takes it whole.

use crate::app::AppIndex;
use crate::broadcast::{Broadcast, Delivery, SocketId};
use crate::proto::api::event::{FRAMES_BYTES_MAX, Fields, text, visit_body};
use crate::proto::api::validation::{self, Errors};
use crate::proto::api::{Accepted, Info, Question, Refusal};
use crate::proto::channel::ChannelKind;
use crate::proto::event::{self, Scratch};
use crate::proto::frame;
use crate::proto::json::{self, Child, Value, Workspace};

/// Reads a batch.
pub(super) fn publish(
    body: &[u8],
    app: AppIndex,
    scratch: &mut Scratch,
) -> Result<Accepted, Refusal> {
    let Scratch {
        outer,
        inner,
        innermost,
    } = scratch;
    let (mut batch, mut has_channels) = (None, false);
    visit_body(body, outer, |key, value| match key {
        Some("batch") => batch = Some(value),
        Some("channels") => has_channels = !validation::is_missing(Some(value)),
        _ => {}
    })?;
    let mut errors = Errors::default();
    let mut items = Items {
        has_channels,
        ..Items::default()
    };
    match batch {
        _ if validation::is_missing(batch) => errors.push("batch", "is required"),
        Some(Value::List { raw } | Value::Object { raw }) => {
            // The slice is part of a document that has passed the same check.
            let _ = json::visit(raw, inner, |child| items.take(child, innermost));
        }
        _ => errors.push("batch", "must be an array"),
    }
    errors.refuse()?;
    items.accepted(app)
}

/// The events read so far, and what is wrong with them.
#[derive(Default)]
struct Items {
    /// The batch itself has a member `channels`, as no batch should.
    has_channels: bool,
    deliveries: Vec<Delivery>,
    infos: Vec<Option<(Box<str>, Info)>>,
    frames_bytes: usize,
    /// By rule, since Laravel checks one field of all items before the next.
    errors: [Errors; 5],
}

impl Items {
    fn take(&mut self, child: Child<'_>, workspace: &mut Workspace) {
        let mut item = Fields::default();
        if let Value::Object { raw } = child.value {
            let _ = json::visit(raw, workspace, |child| item.note(child.key, child.value));
        }
        let number = self.infos.len().to_string();
        self.check(&item, child.key.unwrap_or(&number));
        if !self.errors.iter().all(Errors::is_empty) {
            // Nothing of the batch will be published; what else is wrong is still to be named.
            return self.infos.push(None);
        }
        let [name, data, channel, info] = [item.name, item.data, item.channel, item.info].map(text);
        let (name, data) = (name.unwrap_or_default(), data.unwrap_or_default());
        let channel = channel.unwrap_or_default();
        let info = info.map(|info| (channel.into(), Info::parse(info)));
        self.infos.push(info);
        self.frames_bytes += name.len() + data.len() + channel.len();
        if self.frames_bytes <= FRAMES_BYTES_MAX {
            self.deliveries.push(Delivery {
                channel: channel.into(),
                except: text(item.socket_id).and_then(SocketId::parse),
                frame: frame::text_frame(|out| event::batch_event(out, name, channel, data)),
                is_kept: ChannelKind::of(channel).keeps(name),
            });
        }
    }

    /// Laravel's rules for one event; what is wrong is noted under its place in the batch.
    fn check(&mut self, item: &Fields<'_>, place: &str) {
        let [names, datas, channels, socket_ids, infos] = &mut self.errors;
        names.require_text(format_args!("batch.{place}.name"), item.name);
        datas.require_text(format_args!("batch.{place}.data"), item.data);
        let channel = format_args!("batch.{place}.channel");
        if !validation::is_missing(item.channel) {
            channels.allow_text(channel, item.channel);
        } else if self.has_channels {
            // Here Reverb finds nothing wrong and fails.
            channels.push(channel, "is required");
        } else {
            channels.push(channel, "is required when channels is not present");
        }
        socket_ids.allow_text(format_args!("batch.{place}.socket_id"), item.socket_id);
        infos.allow_text(format_args!("batch.{place}.info"), item.info);
    }

    fn accepted(self, app: AppIndex) -> Result<Accepted, Refusal> {
        let mut errors = Errors::default();
        for of_rule in &self.errors {
            errors.append(of_rule);
        }
        errors.refuse()?;
        if self.frames_bytes > FRAMES_BYTES_MAX {
            let why = "the frames of all its events together are too large";
            return Err(Refusal::too_large(why));
        }
        let items = self.infos;
        let question = items
            .iter()
            .any(Option::is_some)
            .then_some(Question::Batch { items });
        Ok(Accepted::Publish {
            broadcast: Broadcast {
                app,
                deliveries: self.deliveries,
                is_one_event: false,
            },
            question,
            taken: r#"{"batch":{}}"#,
        })
    }
}

#[cfg(test)]
mod tests;
