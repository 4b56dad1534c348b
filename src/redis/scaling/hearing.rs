//! What is heard on the bus and beside it, and what the machine is told of it.
//!
//! Called by `scaling` for each message of its subscription. A message that cannot be delivered is
//! counted and skipped, but for its number.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::Scratch;
use super::asking::Asking;
use crate::app::{AppIndex, Apps};
use crate::broadcast::Broadcast;
use crate::metrics::{Counter, Metrics};
use crate::proto::json;
use crate::redis::bus::peers::Incoming;
use crate::redis::bus::{Bus, Effect, Payload};
use crate::redis::envelope::{self, Event, Message, Origin};
use crate::redis::side::{self, Side};

/// What is heard, and what becomes of it.
pub(super) struct Hearing<'a> {
    pub(super) now: Instant,
    pub(super) channel: &'a str,
    pub(super) bus: &'a mut Bus,
    pub(super) asking: &'a mut Asking,
    pub(super) apps: &'a Apps,
    pub(super) scratch: &'a mut Scratch,
    pub(super) effects: &'a mut Vec<Effect>,
    pub(super) metrics: &'a Metrics,
    /// The first that is skipped on a connection is said in the log.
    pub(super) has_refused: &'a mut bool,
}

impl Hearing<'_> {
    /// Takes one message.
    pub(super) fn hear(&mut self, channel: &[u8], payload: &[u8]) {
        let taken = if channel == self.channel.as_bytes() {
            self.hear_bus(payload)
        } else {
            self.hear_side(payload)
        };
        match taken {
            Ok(()) => self.metrics.add(Counter::BusTaken, 1),
            Err(why) => self.refuse(why),
        }
    }

    fn hear_bus(&mut self, heard: &[u8]) -> Result<(), &'static str> {
        let Scratch { message, event, .. } = &mut *self.scratch;
        let read = envelope::read(heard, message).map_err(|malformed| malformed.0)?;
        let (origin, payload) = match read {
            // An own message is known: its event need not be read again.
            Message::Event(heard)
                if heard.origin.is_some_and(|from| self.bus.is_own(from.node)) =>
            {
                (heard.origin, Ok(nothing()))
            }
            Message::Metrics { question, node } => {
                let is_own = node.is_some_and(|node| self.bus.is_own(node));
                return if is_own {
                    Ok(())
                } else {
                    self.asking.hear_question(&question, node, self.apps)
                };
            }
            Message::Answer { key, payload } => {
                return self.asking.hear_php(self.now, key, payload);
            }
            said => match payload_of(&said, self.apps, event) {
                Some(said) => said,
                None => return Ok(()),
            },
        };
        let Some(origin) = origin else {
            self.bus.handle_foreign(payload?, self.effects);
            return Ok(());
        };
        // What cannot be delivered has a number all the same.
        let (payload, refused) = match payload {
            Ok(payload) => (payload, Ok(())),
            Err(why) => (nothing(), Err(why)),
        };
        let message = incoming(origin, payload);
        self.bus
            .handle_message(self.now, origin.node, message, self.effects);
        refused
    }

    fn hear_side(&mut self, payload: &[u8]) -> Result<(), &'static str> {
        let Scratch {
            side,
            list,
            message,
            event,
            ..
        } = &mut *self.scratch;
        let Side { node, said } = side::read(payload, side).ok_or("of no kind that is known")?;
        match said {
            side::Said::Hello { seq, asks, at } => {
                let said = (seq, asks, at);
                self.bus.handle_hello(self.now, node, said, self.effects);
            }
            side::Said::Goodbye(seq) => self.bus.handle_goodbye(node, seq),
            side::Said::Answer { key, facts } => {
                return self.asking.hear_node(self.now, key, facts);
            }
            side::Said::Ask { after, within } => {
                self.bus
                    .handle_ask(self.now, node, after, within, self.effects);
            }
            side::Said::Replay {
                messages,
                until,
                is_whole,
            } => {
                let mut replayed = Vec::new();
                let apps = self.apps;
                let visited = json::visit(messages, list, |child| {
                    let raw = child.value.raw().as_bytes();
                    let said = envelope::read(raw, message).ok();
                    if let Some(said) = said
                        && let Some((Some(origin), payload)) = payload_of(&said, apps, event)
                    {
                        let payload = payload.unwrap_or_else(|_| nothing());
                        replayed.push(incoming(origin, payload));
                    }
                });
                visited.map_err(|_| "not a list of messages")?;
                self.bus
                    .handle_replay(self.now, node, replayed, until, is_whole, self.effects);
            }
        }
        Ok(())
    }

    /// Counts what is skipped; the first on a connection is said.
    pub(super) fn refuse(&mut self, why: &str) {
        self.metrics.add(Counter::BusRefused, 1);
        if !std::mem::replace(self.has_refused, true) {
            warn!("scaling: a message is skipped: {why}; further ones are counted");
        }
    }
}

/// What a message says here, if it is an event or terminates somebody, and where it comes from.
fn payload_of<'a>(
    said: &Message<'a>,
    apps: &Apps,
    scratch: &mut envelope::Scratch,
) -> Option<(Option<Origin<'a>>, Result<Payload, &'static str>)> {
    match said {
        Message::Event(heard) => Some((heard.origin, event(heard, apps, scratch))),
        Message::Terminate {
            app,
            user_id,
            origin,
        } => Some((*origin, terminate(app, user_id, apps))),
        Message::Metrics { .. } | Message::Answer { .. } | Message::Ignored => None,
    }
}

fn event(
    heard: &Event<'_>,
    apps: &Apps,
    scratch: &mut envelope::Scratch,
) -> Result<Payload, &'static str> {
    let broadcast = heard
        .broadcast(served(heard.app, apps)?, scratch)
        .map_err(|malformed| malformed.0)?;
    Ok(Payload::Event(Arc::new(broadcast)))
}

fn terminate(app: &str, user: &str, apps: &Apps) -> Result<Payload, &'static str> {
    Ok(Payload::Terminate {
        app: served(app, apps)?,
        user: user.into(),
    })
}

fn served(app: &str, apps: &Apps) -> Result<AppIndex, &'static str> {
    let app = apps.by_id(app);
    app.ok_or("it is of an app that is not served here")
}

fn incoming(origin: Origin<'_>, payload: Payload) -> Incoming {
    Incoming {
        seq: origin.seq,
        at: origin.at,
        is_late: origin.late,
        payload,
    }
}

fn nothing() -> Payload {
    Payload::Event(Arc::new(Broadcast::nothing(AppIndex(0))))
}
