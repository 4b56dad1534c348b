//! What callers do: publish events and batches, and ask.

use serde_json::{Value, json};
use slapback::app::AppIndex;

use crate::caller::{Call, Caller};
use crate::model::{CHANNELS, PRESENCE};
use crate::net::Peer;
use crate::question::{Asked, INFO, Question};
use crate::wire;
use crate::world::{Owner, World};

impl World {
    /// A new caller publishes, and goes on elsewhere when it has its answer.
    pub(crate) fn publish(&mut self, shard: Option<usize>, app: Option<usize>, chain: u32) {
        let at = self.caller(shard, app, chain);
        let is_last = self.random.bool();
        self.publish_by(at, is_last);
        self.perhaps_half_close(at);
    }

    /// An application publishes in Redis instead.
    pub(crate) fn publish_in_redis(&mut self) {
        let app = self.random.usize(0..self.apps.iter().count());
        let channel = self.random.usize(0..CHANNELS.len());
        let (number, name) = (self.model.next(), CHANNELS[channel]);
        let data = self.pad(1000);
        let text = format!(r#"{{"event":"event-{number}","data":"{data}","channel":"{name}"}}"#);
        trace!("event {number} is published in Redis for {channel}");
        let texts = vec![(channel, text.clone())];
        let event = self.model.begin(app, texts, None, None, &self.clients);
        event.is_of_redis = true;
        event.is_kept = true;
        if let Some(redis) = &mut self.fleet.redis {
            redis.publish(AppIndex(u16::try_from(app).unwrap()), name, &text);
        }
    }

    /// A new caller asks something.
    pub(crate) fn ask(&mut self) {
        let at = self.caller(None, None, 0);
        let is_last = self.random.bool();
        self.ask_by(at, is_last);
        self.perhaps_half_close(at);
    }

    /// Whatever can be asked of each app is asked, while nothing else happens.
    pub(crate) fn ask_everything(&mut self) {
        for app in 0..self.apps.iter().count() {
            let at = self.caller(None, Some(app), 0);
            let users = PRESENCE.map(Question::Users);
            for question in [Question::Connections, Question::Channels]
                .into_iter()
                .chain(users)
            {
                let asked = Asked::new(question, app, &self.clients, &self.net).at_rest();
                self.make_call(at, asked, false);
                self.net.faults.questions_at_rest += 1;
            }
        }
    }

    /// A caller whose connection stayed makes another call, without waiting for the last.
    pub(crate) fn call_again(&mut self) {
        let free = (0..self.callers.len()).filter(|&at| self.callers[at].is_free());
        let free: Vec<usize> = free.collect();
        if let Some(at) = self.random.choice(free) {
            self.call_by(at);
        }
    }

    /// A caller gives up while it waits; the next one takes its slot and goes on elsewhere.
    pub(crate) fn abandon_call(&mut self) {
        let shard = self.random.usize(0..self.fleet.nodes.len());
        let app = self.random.usize(0..self.apps.iter().count());
        let at = self.caller(Some(shard), Some(app), 0);
        self.call_by(at);
        let socket = self.callers[at].socket;
        self.read(socket, usize::MAX);
        self.callers[at].end(true);
        self.net.sockets[socket].peer = Peer::Reset;
        trace!("that caller gives up");
        self.read_out(socket);
        let at = self.caller(Some(shard), Some(app), 1);
        self.call_by(at);
        self.read(self.callers[at].socket, usize::MAX);
    }

    /// A member leaves, and somebody asks at once who is there.
    pub(crate) fn ask_who_is_left(&mut self) {
        let members = self.clients.iter().filter_map(|client| {
            let channel = PRESENCE.into_iter().find(|&at| client.is_surely_on(at))?;
            Some((client.number, channel))
        });
        let members: Vec<(usize, usize)> = members.collect();
        let Some((client, channel)) = self.random.choice(members) else {
            return;
        };
        self.leave_as(client);
        self.read_out(self.clients[client].socket);
        let app = self.clients[client].app;
        let at = self.caller(None, Some(app), 0);
        let asked = Asked::new(Question::Users(channel), app, &self.clients, &self.net);
        self.make_call(at, asked, false);
        self.read(self.callers[at].socket, usize::MAX);
    }

    fn call_by(&mut self, at: usize) {
        if self.random.u8(0..3) == 0 {
            self.ask_by(at, false);
        } else {
            self.publish_by(at, false);
        }
    }

    fn caller(&mut self, shard: Option<usize>, app: Option<usize>, chain: u32) -> usize {
        let shard = shard.unwrap_or_else(|| self.random.usize(0..self.fleet.nodes.len()));
        let app = app.unwrap_or_else(|| self.random.usize(0..self.apps.iter().count()));
        let socket = self.fleet.open(shard, &mut self.net);
        self.owners.push(Owner::Caller(self.callers.len()));
        let slot = self.net.sockets[socket].key.slot.0;
        trace!("a caller connects: shard {shard}, slot {slot}, socket {socket}, app {app}");
        self.live.push(socket);
        self.callers.push(Caller::new(socket, app, chain));
        self.callers.len() - 1
    }

    /// It half-closes behind its request.
    fn perhaps_half_close(&mut self, at: usize) {
        if self.random.u8(0..6) == 0 {
            self.callers[at].end(false);
            self.net.sockets[self.callers[at].socket].peer = Peer::Fin;
        }
    }

    fn publish_by(&mut self, at: usize, is_last: bool) {
        let mut channels: Vec<usize> = (0..CHANNELS.len()).collect();
        self.random.shuffle(&mut channels);
        let many = self.random.u8(0..3) == 0;
        channels.truncate(if many { self.random.usize(2..5) } else { 1 });
        let asks = self.random.u8(0..3) == 0;
        if many && self.random.bool() {
            return self.publish_batch(at, channels, asks, is_last);
        }
        let most = if many { 1000 } else { 70_000 };
        let (number, mut body) = self.draw_event(at, &channels, most, false);
        let names = channels.iter().map(|&channel| CHANNELS[channel]);
        if many {
            body["channels"] = names.collect();
        }
        if asks {
            body["info"] = INFO.into();
        }
        let question = asks.then_some(Question::Event(channels));
        self.make_publish(at, vec![number], question, &body, "{}", is_last);
    }

    /// Events of one channel each, in the order of the batch.
    fn publish_batch(&mut self, at: usize, channels: Vec<usize>, asks: bool, is_last: bool) {
        let mut events = Vec::new();
        let mut items = Vec::new();
        for &channel in &channels {
            let (number, mut item) = self.draw_event(at, &[channel], 1000, true);
            if asks {
                item["info"] = INFO.into();
            }
            if let Some(&earlier) = events.last() {
                self.model.follow(earlier, number);
            }
            events.push(number);
            items.push(item);
        }
        self.net.faults.batches += 1;
        let body = json!({ "batch": items });
        let question = asks.then_some(Question::Batch(channels));
        self.make_publish(at, events, question, &body, r#"{"batch":{}}"#, is_last);
    }

    /// Draws an event and what every subscriber will hear of it. Gives its number, and the body
    /// that publishes it to the first of these channels.
    fn draw_event(
        &mut self,
        at: usize,
        channels: &[usize],
        most: usize,
        is_of_batch: bool,
    ) -> (usize, Value) {
        let app = self.callers[at].app;
        let number = self.model.next();
        let data = self.pad(most);
        let known = self.clients.iter().filter(|client| client.app == app);
        let known = known.filter(|client| client.id.is_some());
        let known: Vec<usize> = known.map(|client| client.number).collect();
        let except = self.random.choice(known);
        let except = except.filter(|_| self.random.u8(0..3) == 0);
        // A server may send client events too; only their names tell.
        let is_kept = self.random.u8(0..8) > 0;
        let name = format!("{}-{number}", if is_kept { "event" } else { "client" });
        let channel = CHANNELS[channels[0]];
        let mut body = json!({ "name": name, "data": data, "channel": channel });
        if let Some(client) = except {
            body["socket_id"] = self.clients[client].id.clone().into();
            let is_on = |&channel: &usize| self.clients[client].is_surely_on(channel);
            self.net.faults.excepted += u64::from(channels.iter().any(is_on));
        }
        let text = |&number: &usize| {
            let channel = CHANNELS[number];
            let text = if is_of_batch {
                format!(r#"{{"event":"{name}","channel":"{channel}","data":"{data}"}}"#)
            } else {
                format!(r#"{{"event":"{name}","data":"{data}","channel":"{channel}"}}"#)
            };
            (number, text)
        };
        let texts = channels.iter().map(text).collect();
        let clients = &self.clients;
        let event = self.model.begin(app, texts, except, None, clients);
        event.is_kept = is_kept;
        trace!("event {number} is for {channels:?}, except {except:?}");
        (number, body)
    }

    fn make_publish(
        &mut self,
        at: usize,
        events: Vec<usize>,
        question: Option<Question>,
        body: &Value,
        taken: &'static str,
        is_last: bool,
    ) {
        let app = self.callers[at].app;
        trace!("socket {} publishes {events:?}", self.callers[at].socket);
        let path = match taken {
            "{}" => "/events",
            _ => "/batch_events",
        };
        let asked = question.map(|question| Asked::new(question, app, &self.clients, &self.net));
        self.net.faults.questions += u64::from(asked.is_some());
        let call = Call {
            events,
            question: asked,
            taken,
        };
        self.send_call(at, call, ("POST", path), &body.to_string(), is_last);
    }

    fn ask_by(&mut self, at: usize, is_last: bool) {
        let app = self.callers[at].app;
        let channel = self.random.usize(0..CHANNELS.len());
        let question = match self.random.u8(0..13) {
            0..2 => Question::Connections,
            2..5 => Question::Channels,
            5..8 => Question::Channel(channel),
            8..11 => Question::Users(channel),
            _ => {
                let user = match self.any_open() {
                    Some(client) if self.random.u8(0..4) > 0 => self.clients[client].user,
                    _ => self.random.u64(1..4),
                };
                self.model.terminated.insert((app, user));
                Question::Terminate(user)
            }
        };
        self.net.faults.questions += 1;
        let asked = Asked::new(question, app, &self.clients, &self.net);
        self.make_call(at, asked, is_last);
    }

    fn make_call(&mut self, at: usize, asked: Asked, is_last: bool) {
        let socket = self.callers[at].socket;
        trace!("socket {socket} asks {:?}", asked.question);
        let (method, path) = asked.question.call();
        let call = Call {
            events: Vec::new(),
            question: Some(asked),
            taken: "",
        };
        self.send_call(at, call, (method, &path), "", is_last);
    }

    fn send_call(
        &mut self,
        at: usize,
        call: Call,
        target: (&str, &str),
        body: &str,
        is_last: bool,
    ) {
        let app = self.app(self.callers[at].app);
        let bytes = wire::call(app, self.fleet.now.unix_s, target, body, is_last);
        let caller = &mut self.callers[at];
        caller.ask(call, is_last);
        self.net.sockets[caller.socket].write(&bytes);
    }
}
