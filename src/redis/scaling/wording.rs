//! How this node words what it publishes: as PHP nodes read it, with our own keys behind.
//!
//! Called by `scaling`. Each app's part of it is made once and written into every message.

use std::collections::HashMap;

use crate::app::{AppIndex, Apps};
use crate::broadcast::Broadcast;
use crate::config::PublicAddress;
use crate::proto::api::Question;
use crate::proto::frame;
use crate::proto::json::{self, Value, Workspace};
use crate::redis::bus::{Outgoing, Payload};
use crate::redis::envelope::{self, Application, Origin};
use crate::redis::metric;
use crate::redis::php::Address;

/// What is the same in many messages.
pub(super) struct Wording {
    node: String,
    public: PublicAddress,
    /// Each app as the bus names it, made when it is needed.
    applications: HashMap<AppIndex, Application>,
    workspace: Workspace,
}

impl Wording {
    /// For a node of this name.
    pub(super) fn new(node: String, public: PublicAddress) -> Self {
        Self {
            node,
            public,
            applications: HashMap::new(),
            workspace: Workspace::default(),
        }
    }

    /// The apps are others now. What is published of one that is gone bears what it had.
    pub(super) fn handle_apps(&mut self, before: &Apps, now: &Apps) {
        for (app, _) in before.iter().filter(|(app, _)| now.get(*app).is_none()) {
            self.learn(app, before);
        }
        self.applications.retain(|&app, _| now.get(app).is_none());
    }

    /// Appends a message.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, outgoing: &Outgoing, apps: &Apps) {
        let app = match &outgoing.payload {
            Payload::Event(broadcast) => broadcast.app,
            Payload::Terminate { app, .. } => *app,
        };
        self.learn(app, apps);
        let Some(application) = self.applications.get(&app) else {
            // Not of an app: whoever says something is on one.
            return out.extend_from_slice(b"{}");
        };
        let origin = Some(Origin {
            node: &self.node,
            seq: outgoing.seq,
            at: outgoing.at,
            late: outgoing.late,
        });
        match &outgoing.payload {
            Payload::Event(broadcast) => {
                let first = broadcast.deliveries.first();
                let except = first.and_then(|delivery| delivery.except);
                let workspace = &mut self.workspace;
                let payload = |out: &mut Vec<u8>| write_payload(out, broadcast, workspace);
                application.message(out, payload, except, origin);
            }
            Payload::Terminate { user, .. } => application.terminate(out, user, origin),
        }
    }

    /// Appends a question to all nodes.
    pub(super) fn write_question(
        &mut self,
        out: &mut Vec<u8>,
        (key, app, question): (&str, AppIndex, &Question),
        apps: &Apps,
    ) {
        self.learn(app, apps);
        if let Some(application) = self.applications.get(&app) {
            metric::with_metric(question, key, |metric| {
                application.metrics(out, metric, &self.node);
            });
        }
    }

    fn learn(&mut self, app: AppIndex, apps: &Apps) {
        if let Some(known) = apps.get(app) {
            let public = &self.public;
            self.applications.entry(app).or_insert_with(|| {
                let at = Address {
                    host: public.host.as_deref(),
                    port: public.port,
                    scheme: &public.scheme,
                };
                Application::new(&known.settings, at)
            });
        }
    }
}

/// The payload of a message: what an API event was said to be, or what a frame holds.
fn write_payload(out: &mut Vec<u8>, broadcast: &Broadcast, workspace: &mut Workspace) {
    let frames = broadcast
        .deliveries
        .iter()
        .map(|delivery| frame::payload(&delivery.frame));
    let Some(text) = frames.clone().next() else {
        return out.extend_from_slice(b"{}");
    };
    if !broadcast.is_one_event {
        return out.extend_from_slice(text);
    }
    let (mut name, mut data) = (Value::Null, Value::Null);
    // It is a frame that was written here.
    let _ = json::visit(
        str::from_utf8(text).unwrap_or_default(),
        workspace,
        |child| match child.key {
            Some("event") => name = child.value,
            Some("data") => data = child.value,
            _ => {}
        },
    );
    let channels = broadcast
        .deliveries
        .iter()
        .map(|delivery| &delivery.channel);
    envelope::event_payload(out, text_of(name), text_of(data), channels);
}

fn text_of(value: Value<'_>) -> &str {
    match value {
        Value::Text { text, .. } => text,
        _ => "",
    }
}
