//! What clients do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use slapback::shard::wheel::TICK;

use crate::cache;
use crate::client::Client;
use crate::model::{CACHE, CHANNELS, JOINED, PRESENCE};
use crate::net::Peer;
use crate::wire;
use crate::world::{Owner, World};

/// Clients that a seed begins with, and open ones that it keeps at most.
const CLIENTS_FIRST: usize = 20;
const CLIENTS_MAX: usize = 40;

impl World {
    /// Draws one operation and begins it.
    pub(crate) fn operate(&mut self, at: usize) {
        if at < CLIENTS_FIRST {
            self.connect(None, None);
            return;
        }
        match self.random.u8(0..100) {
            0..8 => {
                self.connect(None, None);
            }
            8..32 => self.subscribe_some(),
            32..38 => self.unsubscribe_some(),
            38..52 => self.whisper(),
            52..62 if self.fleet.redis.is_some() && self.random.bool() => self.publish_in_redis(),
            52..62 => self.publish(None, None, 0),
            62..66 => self.publish(None, None, 1),
            66..69 => self.ask(),
            69..71 => self.ask_who_is_left(),
            71..74 => self.abandon_call(),
            74..77 => self.abandon_join(),
            77..80 => self.ping(),
            80..83 => self.leave(),
            83..88 => self.stall(),
            88..91 => self.unstall(),
            91..93 => self.call_again(),
            93..94 => {
                let seconds = [3, 11, 31, 1799, 1801][self.random.usize(0..5)];
                trace!("{seconds} s pass");
                self.advance(Duration::from_secs(seconds));
            }
            94..95 => self.slow = self.random.usize(0..=self.fleet.nodes.len()),
            95..96 => self.take_apps_anew(),
            _ => self.advance(TICK),
        }
    }

    /// One shard takes a new edition of the same apps; others may still have an older one.
    fn take_apps_anew(&mut self) {
        let at = self.random.usize(0..self.fleet.nodes.len());
        trace!("shard {at} takes the apps anew");
        let settings = self.apps.iter().map(|(_, app)| app.settings.clone());
        let apps = Arc::new(self.apps.reloaded(settings.collect()).unwrap());
        let now = self.fleet.now;
        self.fleet.nodes[at].shard.handle_apps(now, apps);
    }

    /// A client connects: to a given shard and app, or to any.
    fn connect(&mut self, shard: Option<usize>, app: Option<usize>) -> usize {
        let shard = shard.unwrap_or_else(|| self.random.usize(0..self.fleet.nodes.len()));
        let app = app.unwrap_or_else(|| self.random.usize(0..self.apps.iter().count()));
        let number = self.clients.len();
        let socket = self.fleet.open(shard, &mut self.net);
        self.owners.push(Owner::Client(number));
        self.live.push(socket);
        let mut client = Client::new(number, (shard, app), socket);
        if self.random.bool() {
            client.user = self.random.u64(1..4);
            client.is_sole = false;
        }
        client.is_lively = self.random.u8(0..5) > 0;
        let slot = self.net.sockets[socket].key.slot.0;
        trace!("client {number} connects: shard {shard}, slot {slot}, socket {socket}, app {app}");
        let head = wire::upgrade(self.app(app), &client.key);
        self.net.sockets[socket].write(&head);
        self.clients.push(client);
        if self
            .clients
            .iter()
            .filter(|client| client.is_open())
            .count()
            > CLIENTS_MAX
        {
            self.leave();
        }
        number
    }

    pub(crate) fn any_open(&mut self) -> Option<usize> {
        let open = self.clients.iter().filter(|client| client.is_open());
        let open: Vec<usize> = open.map(|client| client.number).collect();
        self.random.choice(open)
    }

    fn subscribe_some(&mut self) {
        if let Some(at) = self.any_open() {
            let channel = self.random.usize(0..CHANNELS.len());
            self.subscribe(at, channel);
        }
    }

    fn subscribe(&mut self, at: usize, channel: usize) {
        let seat = self.model.seat();
        if CACHE.contains(&channel) {
            cache::ask(&mut self.model, seat, &self.clients[at], channel);
        }
        let client = &mut self.clients[at];
        client.ask_to_join(channel, seat);
        let name = CHANNELS[channel];
        trace!(
            "client {at} subscribes to {name} as {} at {seat}",
            client.user
        );
        let member = json!({ "user_id": client.user, "user_info": { "v": seat } }).to_string();
        let id = client.id.clone().unwrap_or_default();
        let text = wire::subscribe(self.app(self.clients[at].app), &id, name, &member);
        self.say(at, &text);
    }

    /// What a client wanted as soon as it would be established.
    pub(crate) fn grant_wish(&mut self, at: usize) {
        let wish = self.wishes.iter().position(|&(client, _)| client == at);
        if let Some(index) = wish {
            let (_, channel) = self.wishes.swap_remove(index);
            self.subscribe(at, channel);
        }
    }

    fn unsubscribe_some(&mut self) {
        let Some(at) = self.any_open() else { return };
        let channel = self.random.usize(0..CHANNELS.len());
        self.clients[at].ask_to_leave(channel);
        let name = CHANNELS[channel];
        trace!("client {at} unsubscribes from {name}");
        self.say(
            at,
            &json!({ "event": "pusher:unsubscribe", "data": { "channel": name } }).to_string(),
        );
    }

    fn whisper(&mut self) {
        let Some(at) = self.any_open() else { return };
        let sure = (0..CHANNELS.len()).filter(|&channel| self.clients[at].is_surely_on(channel));
        let sure: Vec<usize> = sure.collect();
        let Some(channel) = self.random.choice(sure) else {
            return;
        };
        let pad = self.pad(1000);
        let client = &self.clients[at];
        let (number, name) = (self.model.next(), CHANNELS[channel]);
        let start =
            format!(r#"{{"event":"client-{number}","channel":"{name}","data":{{"p":"{pad}"}}"#);
        let said = format!("{start}}}");
        let heard = if PRESENCE.contains(&channel) {
            format!(r#"{start},"user_id":{}}}"#, client.user)
        } else {
            said.clone()
        };
        trace!("client {at} whispers {number} on {name}");
        let (app, user) = (client.app, client.user);
        let texts = vec![(channel, heard)];
        let clients = &self.clients;
        self.model
            .begin(app, texts, Some(at), Some((at, user)), clients);
        if let Some(earlier) = self.clients[at].whispered.replace(number) {
            self.model.follow(earlier, number);
        }
        self.say(at, &said);
    }

    /// A client gives up while it joins; the next one takes its slot and joins too.
    fn abandon_join(&mut self) {
        let Some(at) = self.any_open() else { return };
        let channel = self.random.usize(JOINED);
        self.subscribe(at, channel);
        let (socket, shard, app) = {
            let client = &self.clients[at];
            (client.socket, client.shard, client.app)
        };
        self.read_out(socket);
        trace!("client {at} gives up");
        self.clients[at].end(true);
        self.net.sockets[socket].peer = Peer::Reset;
        self.net.sockets[socket].is_paused = false;
        self.read_out(socket);
        let next = self.connect(Some(shard), Some(app));
        self.wishes.push((next, channel));
    }

    pub(crate) fn read_out(&mut self, socket: usize) {
        for _ in 0..20 {
            if !self.read(socket, usize::MAX) {
                return;
            }
        }
    }

    fn ping(&mut self) {
        let Some(at) = self.any_open() else { return };
        if self.random.bool() {
            self.clients[at].pings += 1;
            self.say(at, r#"{"event":"pusher:ping"}"#);
        } else {
            self.clients[at].control_pings += 1;
            let ping = wire::masked(9, b"sim", [1, 2, 3, 4]);
            self.net.sockets[self.clients[at].socket].write(&ping);
        }
    }

    /// A client leaves, in one of three ways, in whatever state it is.
    fn leave(&mut self) {
        let here = self.clients.iter().filter(|client| !client.is_gone());
        let here: Vec<usize> = here.map(|client| client.number).collect();
        if let Some(at) = self.random.choice(here) {
            self.leave_as(at);
        }
    }

    pub(crate) fn leave_as(&mut self, at: usize) {
        let how = self.random.u8(0..3);
        let client = &mut self.clients[at];
        let socket = &mut self.net.sockets[client.socket];
        trace!("client {at} leaves, by way {how}");
        match how {
            0 if client.is_open() => {
                client.close_sent = true;
                let close = [&1000_u16.to_be_bytes()[..], b"bye"].concat();
                socket.write(&wire::masked(8, &close, [4; 4]));
            }
            0 | 1 => {
                client.end(false);
                if socket.peer == Peer::Open {
                    socket.peer = Peer::Fin;
                }
            }
            _ => {
                client.end(true);
                socket.peer = Peer::Reset;
                // Whether what it had said before is still read is up to the kernel.
                if self.random.bool() {
                    socket.input.clear();
                }
            }
        }
    }

    fn stall(&mut self) {
        if let Some(at) = self.any_open() {
            trace!("client {at} stalls");
            self.clients[at].is_stalled = true;
        }
    }

    fn unstall(&mut self) {
        let stalled = self.clients.iter().filter(|client| client.is_stalled);
        let stalled: Vec<usize> = stalled.map(|client| client.number).collect();
        if let Some(at) = self.random.choice(stalled) {
            trace!("client {at} reads again");
            self.clients[at].is_stalled = false;
        }
    }

    fn say(&mut self, at: usize, text: &str) {
        let mask = self.random.u32(..).to_ne_bytes();
        let frame = wire::masked(1, text.as_bytes(), mask);
        self.net.sockets[self.clients[at].socket].write(&frame);
    }

    pub(crate) fn app(&self, app: usize) -> &slapback::app::App {
        let (_, app) = self.apps.iter().nth(app).unwrap();
        app
    }

    /// Something to say: mostly short, at times long.
    pub(crate) fn pad(&mut self, most: usize) -> String {
        let length = match self.random.u16(0..300) {
            0..240 => self.random.usize(1..60),
            240..280 => self.random.usize(60..400),
            280..299 => self.random.usize(400..5000),
            _ => most,
        };
        "x".repeat(length)
    }
}
