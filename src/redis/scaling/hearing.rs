//! What is heard on the bus and beside it, and what the machine is told of it.
//!
//! Called by `scaling` for each message of its subscription. A message that cannot be delivered is
//! counted and skipped, but for its number.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::Scratch;
use crate::app::{AppIndex, Apps};
use crate::broadcast::Broadcast;
use crate::metrics::{Counter, Metrics};
use crate::proto::json;
use crate::redis::bus::peers::Incoming;
use crate::redis::bus::{Bus, Effect};
use crate::redis::envelope::{self, Event, Message};
use crate::redis::side::{self, Side};

/// What is heard, and what becomes of it.
pub(super) struct Hearing<'a> {
    pub(super) now: Instant,
    pub(super) channel: &'a str,
    pub(super) bus: &'a mut Bus,
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

    fn hear_bus(&mut self, payload: &[u8]) -> Result<(), &'static str> {
        let Scratch { message, event, .. } = &mut *self.scratch;
        let read = envelope::read(payload, message).map_err(|malformed| malformed.0)?;
        let Message::Event(heard) = read else {
            return Ok(());
        };
        let Some(origin) = heard.origin else {
            let broadcast = broadcast_of(&heard, self.apps, event)?;
            self.bus.handle_foreign(broadcast, self.effects);
            return Ok(());
        };
        // An own message is known: its event need not be read again. What cannot be delivered has
        // a number all the same.
        let is_own = self.bus.is_own(origin.node);
        let broadcast = if is_own {
            Ok(nothing())
        } else {
            broadcast_of(&heard, self.apps, event)
        };
        let (broadcast, refused) = match broadcast {
            Ok(broadcast) => (broadcast, Ok(())),
            Err(why) => (nothing(), Err(why)),
        };
        let message = Incoming {
            seq: origin.seq,
            broadcast: Arc::new(broadcast),
        };
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
            side::Said::Hello(seq) => self.bus.handle_hello(self.now, node, seq, self.effects),
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
                    if let Ok(Message::Event(heard)) = envelope::read(raw, message)
                        && let Some(origin) = heard.origin
                    {
                        let broadcast = broadcast_of(&heard, apps, event);
                        let broadcast = broadcast.unwrap_or_else(|_| nothing());
                        replayed.push(Incoming {
                            seq: origin.seq,
                            broadcast: Arc::new(broadcast),
                        });
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

/// What a message says to the subscribers here.
fn broadcast_of(
    heard: &Event<'_>,
    apps: &Apps,
    scratch: &mut envelope::Scratch,
) -> Result<Broadcast, &'static str> {
    let app = apps
        .by_id(heard.app)
        .ok_or("it is of an app that is not served here")?;
    heard
        .broadcast(app, scratch)
        .map_err(|malformed| malformed.0)
}

fn nothing() -> Broadcast {
    Broadcast::nothing(AppIndex(0))
}
