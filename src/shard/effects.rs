//! Carrying out what sessions and homes ask for. Called by the shard's inputs; what is for others
//! is queued as messages and commands, never done here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::{CLOSE_WAIT, Command, Shard};
use crate::app::AppIndex;
use crate::broadcast::Broadcast;
use crate::metrics::Counter;
use crate::proto::Now;
use crate::proto::channel::ChannelKind;
use crate::proto::session::{Context, Effect, Effects, Memberships, Protocol, Reply};
use crate::proto::{frame, trace};
use crate::shard::cache::Cached;
use crate::shard::connection::{Life, Waiting};
use crate::shard::home::{Said, home_of};
use crate::shard::index::{Index, Slot};
use crate::shard::message::{Join, Joined, Message, SessionKey, ShardIndex};
use crate::shard::question::Ask;

/// Close code of a socket that has missed events: pusher-js comes back after 1 s.
const CLOSE_GAP: (u16, &str) = (4100, "Events were missed");

/// What one session is subscribed to.
struct OfSession<'a> {
    index: &'a Index,
    app: Option<AppIndex>,
    slot: Slot,
}

impl Memberships for OfSession<'_> {
    fn membership(&self, channel: &str) -> Option<Option<&str>> {
        self.index.membership(self.app?, channel, self.slot)
    }
}

impl<S: Protocol> Shard<S> {
    /// Calls a session; its effects stand in `self.effects`. If it panics they are thrown away
    /// and the connection closes.
    pub(super) fn call(
        &mut self,
        now: Now,
        slot: Slot,
        call: impl FnOnce(&mut S, &mut Context<'_>, &mut Effects) -> usize,
    ) -> usize {
        self.effects.clear();
        let Some(connection) = self.connections.at(slot) else {
            return 0;
        };
        let app = connection.established.map(|(app, _)| app);
        let mut context = Context {
            now,
            apps: &self.apps,
            settings: &self.settings,
            memberships: &OfSession {
                index: &self.index,
                app,
                slot,
            },
            scratch: &mut self.scratch,
            random: &mut self.random,
            turnstile: &mut self.turnstile,
            pressure: self.pressure,
        };
        let (session, effects) = (&mut connection.session, &mut self.effects);
        let called = catch_unwind(AssertUnwindSafe(|| call(session, &mut context, effects)));
        called.unwrap_or_else(|_| {
            self.metrics.add(Counter::SessionPanicked, 1);
            effects.clear();
            session.close(1011, "Internal error", effects);
            // All input counts as taken, however much it was.
            usize::MAX >> 1
        })
    }

    /// Carries out the effects of the latest call, in order.
    pub(super) fn execute(&mut self, now: Now, slot: Slot) {
        let mut effects = std::mem::take(&mut self.effects);
        let mut sent = 0;
        for effect in effects.list.drain(..) {
            let mut bytes_to = |end| {
                let bytes = effects.bytes.get(sent..end).unwrap_or_default();
                sent = end;
                bytes
            };
            match effect {
                Effect::Send(end) => {
                    self.reply(slot, bytes_to(end));
                }
                Effect::Subscribe {
                    channel,
                    user_id,
                    end,
                } => self.subscribe(slot, channel, user_id, bytes_to(end)),
                effect => self.carry_out(effect, now, slot),
            }
        }
        self.effects = effects;
        self.schedule(slot, now.instant);
        self.run_loopback(now);
    }

    fn carry_out(&mut self, effect: Effect, now: Now, slot: Slot) {
        let key = self.key(slot);
        let Some(connection) = self.connections.at(slot) else {
            return;
        };
        match effect {
            Effect::Send(_) | Effect::Subscribe { .. } => {}
            Effect::Count(counter) => self.metrics.add(counter, 1),
            Effect::Refused(refused) => self.refused.push(refused),
            Effect::Close => self.close(now.instant, slot),
            Effect::Finish => self.finish(now.instant, slot),
            Effect::Established { app, id } => {
                connection.established = Some((app, id));
                self.by_socket.insert(id, (app, slot));
            }
            Effect::Publish {
                broadcast,
                answer,
                question,
            } => {
                if answer {
                    connection.waiting = Some(Waiting::Reply);
                }
                let home = self.bus.unwrap_or(home_of(broadcast.app, self.shards));
                self.send(
                    home,
                    Message::Publish {
                        broadcast: Arc::new(broadcast),
                        answer_to: answer.then_some(key),
                        question,
                        stamp: None,
                    },
                );
            }
            Effect::Ask { app, question } => {
                connection.waiting = Some(Waiting::Reply);
                self.put(Ask {
                    app,
                    session: key,
                    question,
                });
            }
            Effect::Join { channel, member } => {
                if let Some((app, socket)) = connection.established {
                    let join = Message::Join(Box::new(Join {
                        app,
                        channel: channel.clone(),
                        session: key,
                        socket,
                        member,
                    }));
                    self.join(slot, app, channel, home_of(app, self.shards), join);
                }
            }
            Effect::Unsubscribe { channel } => {
                if let Some((app, _)) = connection.established
                    && self.index.leave(app, &channel, slot)
                {
                    self.seats.leave(app, &channel);
                    self.lose_interest(app, &channel);
                    self.tell_home_left(app, channel, key);
                }
            }
        }
    }

    /// Takes messages to this shard in order, those from others and its own alike. Every call from
    /// outside ends with it, or what the shard told itself would wait for the next one.
    pub(super) fn run_loopback(&mut self, now: Now) {
        if self.is_looping {
            return;
        }
        self.is_looping = true;
        while let Some(message) = self.loopback.pop_front() {
            self.take_message(now, message);
        }
        self.is_looping = false;
    }

    fn take_message(&mut self, now: Now, message: Message) {
        let mut said = std::mem::take(&mut self.said);
        match message {
            Message::Deliver(broadcast) => self.deliver(&broadcast),
            Message::Joined(joined) => self.handle_joined(now, *joined),
            Message::Published(key) => self.handle_reply(now, key, Reply::Taken),
            Message::Refused(key) => self.handle_reply(now, key, Reply::Overloaded),
            Message::Publish {
                broadcast,
                answer_to,
                question,
                stamp,
            } => {
                self.metrics.add(Counter::BroadcastTaken, 1);
                let dropped = self.homes.handle_publish(now.instant, &broadcast, stamp);
                self.metrics.add(Counter::CacheDropped, dropped);
                self.fan_out(&broadcast);
                let app = broadcast.app;
                match (answer_to, question) {
                    (Some(session), Some(question)) => self.ask(&Ask {
                        app,
                        session,
                        question,
                    }),
                    (Some(key), None) => self.send(key.shard, Message::Published(key)),
                    (None, _) => {}
                }
            }
            Message::Gap { app, channel } => self.handle_gap(now, app, channel.as_deref()),
            Message::Recall { over } => self.handle_recall(now, over),
            Message::Heard {
                app,
                channel,
                number,
            } => self.handle_heard(app, &channel, number),
            // For the Redis thread alone.
            Message::Interest(_) => {}
            Message::Ask(ask) => self.handle_ask(now, ask),
            Message::Part(part) => self.handle_part(now, *part),
            Message::Answer(whole) => self.handle_answer(now, *whole),
            Message::Join(join) => self.homes.handle_join(now.instant, *join, &mut said),
            Message::Leave {
                app,
                channel,
                session,
            } => {
                self.homes.handle_leave(app, &channel, session, &mut said);
            }
        }
        for said in said.drain(..) {
            match said {
                Said::Everyone(broadcast) => self.fan_out(&broadcast),
                // What is delivered here by the next that is taken must find it on its channel.
                Said::Joined(joined) if joined.session.shard == self.me => {
                    self.handle_joined(now, *joined);
                }
                Said::Joined(joined) => self.send(joined.session.shard, Message::Joined(joined)),
            }
        }
        self.said = said;
    }

    /// Hands an event to every shard that has somebody on its channels: over each ring in the order
    /// this home took it.
    fn fan_out(&mut self, broadcast: &Arc<Broadcast>) {
        let others = self.seats.others(broadcast);
        self.outbox
            .extend(others.map(|shard| (shard, Message::Deliver(Arc::clone(broadcast)))));
        for delivery in &broadcast.deliveries {
            let body = frame::payload(&delivery.frame);
            trace::line_with_body("Broadcasting To", &delivery.channel, body);
        }
        self.deliver(broadcast);
    }

    /// Gives an event to this shard's subscribers.
    fn deliver(&mut self, broadcast: &Broadcast) {
        for delivery in &broadcast.deliveries {
            let slots = self.index.slots(broadcast.app, &delivery.channel);
            if slots.is_empty() {
                continue;
            }
            let except = delivery.except.and_then(|id| self.by_socket.get(&id));
            let except = except.map(|&(_, slot)| slot);
            let placed = self.turn.place(&delivery.frame);
            let mut count = 0;
            for &slot in slots.iter().filter(|&&slot| Some(slot) != except) {
                self.turn.give(slot, placed);
                count += 1;
            }
            self.metrics.add(Counter::Delivered, count);
        }
    }

    /// What the subscribers of a channel have missed nobody can give them: they come back and ask
    /// their application. An older event must not be shown to them as the last one.
    fn handle_gap(&mut self, now: Now, app: AppIndex, channel: Option<&str>) {
        self.homes.forget(app, channel);
        let slots: Vec<_> = if let Some(channel) = channel {
            self.index.slots(app, channel).to_vec()
        } else {
            let sockets = self.by_socket.values().filter(|socket| socket.0 == app);
            sockets.map(|&(_, slot)| slot).collect()
        };
        for slot in slots {
            self.metrics.add(Counter::GapClosed, 1);
            self.close_with(now, slot, CLOSE_GAP);
        }
    }

    fn handle_joined(&mut self, now: Now, joined: Joined) {
        let key = joined.session;
        let awaited = self.connections.at_key(key).is_some_and(|connection| {
            matches!(&connection.waiting, Some(Waiting::Join(name)) if *name == joined.channel)
        });
        // The session died or gave up meanwhile; its leave follows the join over the same ring.
        if !awaited {
            self.metrics.add(Counter::StaleAnswer, 1);
            return;
        }
        self.sit_down(joined.app, &joined.channel, key.slot, joined.user_id);
        self.end_join(key.slot, joined.app, &joined.channel);
        let last = joined.last.as_ref().map(Cached::frame);
        for frames in [Some(&*joined.frames), last].into_iter().flatten() {
            self.reply(key.slot, frames);
        }
        self.resume(now, key);
    }

    pub(super) fn handle_reply(&mut self, now: Now, key: SessionKey, reply: Reply) {
        let awaited = self
            .connections
            .at_key(key)
            .is_some_and(|known| known.is_answering());
        if !awaited {
            self.metrics.add(Counter::StaleAnswer, 1);
            return;
        }
        self.call(now, key.slot, |session, context, effects| {
            session.handle_reply(reply, context, effects);
            0
        });
        self.execute(now, key.slot);
        self.resume(now, key);
    }

    /// Takes up the input that waited for an answer.
    pub(super) fn resume(&mut self, now: Now, key: SessionKey) {
        let Some(connection) = self.connections.at_key(key) else {
            return;
        };
        connection.waiting = None;
        let mut held = std::mem::take(&mut connection.held);
        let is_eof = connection.is_eof;
        let reading = self.handle_bytes(now, key, &mut held);
        if reading == super::Reading::On {
            self.commands.push(Command::Resume(key.slot));
            if is_eof {
                self.handle_eof(now, key);
            }
        }
    }

    pub(super) fn send(&mut self, to: ShardIndex, message: Message) {
        if to == self.me {
            self.loopback.push_back(message);
        } else {
            self.outbox.push((to, message));
        }
    }

    pub(super) fn key(&self, slot: Slot) -> SessionKey {
        SessionKey {
            shard: self.me,
            slot,
            generation: self.connections.generation(slot),
        }
    }

    fn tell_home_left(&mut self, app: AppIndex, channel: Box<str>, session: SessionKey) {
        if !ChannelKind::of(&channel).is_presence() {
            return;
        }
        let leave = Message::Leave {
            app,
            channel,
            session,
        };
        self.send(home_of(app, self.shards), leave);
    }

    /// Has a session close its connection, with a code and a reason.
    pub(super) fn close_with(&mut self, now: Now, slot: Slot, (code, reason): (u16, &str)) {
        self.call(now, slot, |session, _, effects| {
            session.close(code, reason, effects);
            0
        });
        self.execute(now, slot);
    }

    /// Our Close frame stands in the turn log: the session leaves, and the peer's is awaited.
    fn close(&mut self, now: Instant, slot: Slot) {
        self.depart(slot);
        if let Some(connection) = self.connections.at(slot) {
            connection.life = Life::EchoAwaited {
                until: now + CLOSE_WAIT,
            };
        }
    }

    /// Nothing more will be given to this socket: FIN once all is written.
    pub(super) fn finish(&mut self, now: Instant, slot: Slot) {
        self.depart(slot);
        let wait = self.limits.wait;
        let Some(connection) = self.connections.at(slot) else {
            return;
        };
        // A slow reader of an HTTP answer gets as long as any other backlog.
        let until = match connection.life {
            Life::EchoAwaited { until } => until.max(now),
            Life::Open => now + wait.max(CLOSE_WAIT),
            Life::Finishing { .. } | Life::FinSent { .. } => now,
        };
        connection.life = Life::Finishing { until };
        self.fin_if_written(now, slot);
        self.schedule(slot, now);
    }

    /// Takes a session off every channel it is on or about to be on, and out of its app.
    pub(super) fn depart(&mut self, slot: Slot) {
        let key = self.key(slot);
        while let Some((app, channel)) = self.index.leave_any(slot) {
            self.seats.leave(app, &channel);
            self.lose_interest(app, &channel);
            self.tell_home_left(app, channel, key);
        }
        let Some(connection) = self.connections.at(slot) else {
            return;
        };
        let waiting = connection.waiting.take();
        if waiting.is_some() {
            // The peer's Close may stand behind what it said while it waited.
            self.late.push(key);
        }
        let Some((app, id)) = connection.established.take() else {
            return;
        };
        trace::line("Connection Closed", &id);
        self.by_socket.remove(&id);
        self.apps.release(app);
        match waiting {
            Some(Waiting::Join(channel)) => {
                self.end_join(slot, app, &channel);
                self.tell_home_left(app, channel, key);
            }
            // Its join was not sent.
            Some(Waiting::Redis(held)) => self.end_join(slot, app, &held.channel),
            Some(Waiting::Reply) | None => {}
        }
    }

    /// The connection is broken: it leaves, and its slot is free.
    pub(super) fn lose(&mut self, slot: Slot) {
        self.depart(slot);
        self.free(slot, Command::Close(slot));
    }

    /// Frees a slot. It is off every list before the edge closes its socket.
    pub(super) fn free(&mut self, slot: Slot, how: Command) {
        self.forget_owed(slot);
        self.wheel.cancel(slot);
        self.index.release(slot);
        if let Some(connection) = self.connections.close(slot) {
            self.backlog_bytes -= connection.owed_bytes();
            self.commands.push(how);
        }
    }
}
