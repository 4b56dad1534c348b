//! Carrying out what the machines of `scaling` want: bytes to Redis, events and answers to the
//! shards.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::asking;
use super::{LATE, Reply, Scaling, unix_ms};
use crate::metrics::Counter;
use crate::proto::api::Question;
use crate::redis::bus::{Caller, Effect, PIECE_BYTES, Payload};
use crate::redis::gather::{self, Asker};
use crate::redis::outlet::Outlet;
use crate::redis::side;
use crate::shard::cache::Stamp;
use crate::shard::message::Message;

/// While more bytes wait to be written than these, nothing is said again.
const REPLAYS_WAITING_MAX: usize = 4 * PIECE_BYTES;

impl Scaling {
    /// Does what the machines want, until they want nothing more.
    pub(super) fn carry_out(&mut self, now: Instant, outlet: &mut Outlet) {
        while !(self.effects.is_empty() && self.asking.effects.is_empty()) {
            for effect in std::mem::take(&mut self.effects) {
                self.carry_out_one(now, effect, outlet);
            }
            for effect in std::mem::take(&mut self.asking.effects) {
                self.carry_out_asking(effect, outlet);
            }
        }
        self.status.set_others(self.bus.has_company());
        let is_live = self.bus.is_live();
        if std::mem::replace(&mut self.was_live, is_live) == is_live {
            return;
        }
        if is_live {
            if let Some(gap) = self.status.scaling.regain(now) {
                let seconds = gap.as_secs_f64();
                warn!("redis: scaling was away for {seconds:.1} s; what was said then is told now");
            }
        } else {
            self.status.scaling.lose(now);
        }
    }

    fn carry_out_one(&mut self, now: Instant, effect: Effect, outlet: &mut Outlet) {
        match effect {
            Effect::Publish(out) => {
                self.metrics.add(Counter::BusPublished, 1);
                let mut text = std::mem::take(&mut self.scratch.text);
                text.clear();
                self.wording.write(&mut text, &out, &self.apps);
                self.say_on_bus(&text, Reply::Message);
                self.scratch.text = text;
            }
            Effect::Deliver(payload, stamp) => self.deliver(payload, stamp, outlet),
            Effect::Taken(Caller { session, asks }) => match asks {
                None => outlet.tell(session.shard, Message::Published(session)),
                // By the answer it is done here, whether or not the message has come back.
                Some(ask) if matches!(*ask.question, Question::Terminate { .. }) => {
                    outlet.put(&ask);
                }
                Some(ask) => self.gather(now, ask),
            },
            Effect::Refused(Caller { session, .. }) => {
                outlet.tell(session.shard, Message::Refused(session));
            }
            Effect::Dropped => self.metrics.add(Counter::BusDropped, 1),
            Effect::Hello { seq, asks, at } => {
                let said = side::Said::Hello { seq, asks, at };
                self.say_aside(None, &said, Reply::Other);
            }
            Effect::Ask {
                node,
                after,
                within,
            } => {
                let said = side::Said::Ask { after, within };
                self.say_aside(Some(&node.clone()), &said, Reply::Asked(node));
            }
            Effect::Replay {
                node,
                messages,
                until,
                is_whole,
            } if self.publisher.waiting_bytes() <= REPLAYS_WAITING_MAX => {
                let said = side::Said::Replay {
                    messages: "",
                    until,
                    is_whole,
                };
                self.say_beside(Some(&node), &said, Reply::Other, |this, out| {
                    for (number, message) in messages.iter().enumerate() {
                        if number > 0 {
                            out.push(b',');
                        }
                        this.wording.write(out, message, &this.apps);
                    }
                });
            }
            // Whoever asked will ask again.
            Effect::Replay { .. } => {}
            Effect::CloseAll => {
                warn!("scaling: messages of other nodes are lost; all clients are told to return");
                outlet.recall(self.recall_over);
            }
            Effect::Redial => {
                self.lose_publisher(now, LATE);
                self.lose_subscriber(now, LATE);
            }
        }
    }

    fn deliver(&mut self, payload: Payload, stamp: Stamp, outlet: &mut Outlet) {
        match payload {
            Payload::Event(broadcast) => outlet.deliver(broadcast, Some(stamp)),
            Payload::Terminate { app, user } => {
                let ticket = self.asking.draw_ticket();
                outlet.ask(ticket, app, Arc::new(Question::Terminate { user }));
            }
        }
    }

    fn carry_out_asking(&mut self, effect: gather::Effect, outlet: &mut Outlet) {
        match effect {
            gather::Effect::AskShards {
                ticket,
                app,
                question,
            } => outlet.ask(ticket, app, question),
            gather::Effect::AskNodes { key, app, question } => {
                let mut text = std::mem::take(&mut self.scratch.text);
                text.clear();
                let asked = (&*key, app, &*question);
                self.wording.write_question(&mut text, asked, &self.apps);
                self.say_on_bus(&text, Reply::Question(key));
                self.scratch.text = text;
            }
            gather::Effect::Answer(Asker::Call(ask), facts) => outlet.answer(ask, facts),
            gather::Effect::Answer(Asker::Node { node, key }, facts) => {
                let said = side::Said::Answer {
                    key: &key,
                    facts: "",
                };
                self.say_beside(Some(&node), &said, Reply::Other, |_, out| {
                    asking::write_facts(out, &facts);
                });
            }
            gather::Effect::Answer(Asker::Php { key, question }, facts) => {
                asking::answer_php(&key, &question, facts, |text| {
                    self.say_on_bus(text, Reply::Other);
                });
            }
            gather::Effect::Refuse(Asker::Call(ask)) => {
                let session = ask.session;
                outlet.tell(session.shard, Message::Refused(session));
            }
            gather::Effect::Refuse(_) => self.metrics.add(Counter::BusRefused, 1),
        }
    }

    fn say_on_bus(&mut self, text: &[u8], reply: Reply) {
        if self.bus.publisher_works() {
            self.replies.push_back(reply);
            self.publisher
                .say(&[b"PUBLISH", self.channel.as_bytes(), text]);
        }
    }

    /// Publishes on the channels that only nodes of this kind hear: that of all, or of one node.
    pub(super) fn say_aside(&mut self, node: Option<&str>, said: &side::Said<'_>, reply: Reply) {
        self.say_beside(node, said, reply, |_, _| {});
    }

    /// Says that this node is there, whatever becomes of it: by the answer it knows whether it may.
    pub(super) fn try_publishing(&mut self) {
        let said = side::Said::Hello {
            seq: self.bus.last_sent(),
            asks: false,
            at: unix_ms(),
        };
        self.publish_beside(None, &said, Reply::Trial, |_, _| {});
    }

    /// The same with a body.
    fn say_beside(
        &mut self,
        node: Option<&str>,
        said: &side::Said<'_>,
        reply: Reply,
        body: impl FnOnce(&mut Self, &mut Vec<u8>),
    ) {
        if self.bus.publisher_works() {
            self.publish_beside(node, said, reply, body);
        }
    }

    fn publish_beside(
        &mut self,
        node: Option<&str>,
        said: &side::Said<'_>,
        reply: Reply,
        body: impl FnOnce(&mut Self, &mut Vec<u8>),
    ) {
        let mut channel = format!("{}{}", self.channel, side::SUFFIX);
        if let Some(node) = node {
            channel = format!("{channel}:{node}");
        }
        let own = self.bus.node().to_owned();
        let mut text = Vec::new();
        side::write(&mut text, &own, said, |out| body(self, out));
        self.replies.push_back(reply);
        self.publisher.say(&[b"PUBLISH", channel.as_bytes(), &text]);
    }
}
