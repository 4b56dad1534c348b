//! What must be true when nothing is left to do, and at the end.

use slapback::app::AppIndex;
use slapback::shard::cache::KEPT_FOR;
use slapback::shard::drain::DRAIN_GRACE;
use slapback::shard::wheel::TICK;
use std::collections::BTreeSet;

use crate::cache;
use crate::model::{CHANNELS, PRESENCE};
use crate::net::{Peer, Server};
use crate::world::{Owner, QUOTA, World};

/// A fleet that takes longer to come to rest never will.
const ROUNDS_MAX: usize = 20_000;

impl World {
    /// Lets everybody read, and looks whether everything has come true.
    pub(crate) fn come_to_rest(&mut self) {
        trace!("all read again, and come to rest");
        for client in &mut self.clients {
            client.is_stalled = false;
        }
        self.settle();
        // Some things are left to the next tick, such as what a session said before it was closed.
        self.advance(TICK);
        self.settle();
        self.check_nobody_waits();
        let (model, clients) = (&mut self.model, &self.clients);
        model.check_dues(clients, &mut self.net.faults);
        cache::check_shown(model, clients, &mut self.net.faults);
        self.check_members();
        self.ask_everything();
        self.settle();
        for caller in &mut self.callers {
            for told in caller.told.drain(..) {
                told.check(&self.clients);
            }
        }
        for client in self.clients.iter().filter(|client| client.must_end) {
            assert!(!client.is_open(), "client {} lives on", client.number);
        }
    }

    /// The end: everyone leaves, or is made to leave, and nothing remains.
    pub(crate) fn finish(&mut self) {
        self.come_to_rest();
        self.model.check_order();
        if self.fleet.is_draining {
            let most = self.fleet.pace + DRAIN_GRACE + TICK * 2;
            for _ in 0..most.as_millis() / TICK.as_millis() {
                self.advance(TICK);
                self.settle();
            }
            let all = self.fleet.nodes.iter();
            let late = all.filter(|node| !node.shard.is_drained()).count();
            assert_eq!(late, 0, "shards were not drained in {most:?}");
            for node in &mut self.fleet.nodes {
                node.shard.end_drain();
            }
            self.settle();
        } else {
            for at in 0..self.clients.len() {
                if !self.clients[at].is_gone() {
                    self.leave_as(at);
                }
            }
            for caller in &mut self.callers {
                caller.end(false);
                let socket = &mut self.net.sockets[caller.socket];
                if socket.peer == Peer::Open {
                    socket.peer = Peer::Fin;
                }
            }
            self.settle();
        }
        self.advance(KEPT_FOR);
        self.check_nothing_remains();
    }

    /// Runs everything that is due until nothing is.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut has_moved = false;
            for at in 0..self.fleet.nodes.len() {
                for _ in 0..self.random.u8(0..5) {
                    has_moved |= self.fleet.step(at, &mut self.net);
                }
                has_moved |= self.tell_writable(at);
            }
            for index in 0..self.live.len() {
                let number = self.live[index];
                let most = self.some_bytes();
                has_moved |= self.read(number, most);
                let most = self.some_bytes();
                has_moved |= self.receive(number, most);
            }
            has_moved |= self.step_redis();
            self.forget_the_dead();
            // The draw may have let nobody run.
            if !has_moved && !self.step_all() {
                return;
            }
        }
        panic!("the fleet never comes to rest");
    }

    fn step_all(&mut self) -> bool {
        let mut has_moved = false;
        for at in 0..self.fleet.nodes.len() {
            has_moved |= self.fleet.step(at, &mut self.net);
        }
        has_moved
    }

    fn forget_the_dead(&mut self) {
        let Self {
            live,
            net,
            owners,
            clients,
            callers,
            ..
        } = self;
        live.retain(|&number| {
            let is_gone = match owners[number] {
                Owner::Client(at) => clients[at].is_gone(),
                Owner::Caller(at) => callers[at].is_gone(),
            };
            let server = net.sockets[number].server;
            !(is_gone && matches!(server, Server::Closed | Server::Reset))
        });
    }

    fn check_nobody_waits(&self) {
        for client in self.clients.iter().filter(|client| client.is_open()) {
            let (number, owed) = (client.number, client.unanswered());
            assert_eq!(owed, 0, "client {number} waits for answers");
            assert!(
                client.is_between_frames(),
                "client {number} has half a frame"
            );
        }
        for caller in &self.callers {
            let owed = caller.unanswered();
            assert_eq!(owed, 0, "a caller on socket {} waits", caller.socket);
        }
        for &number in &self.live {
            let is_empty = self.net.sockets[number].input.is_empty();
            assert!(is_empty, "socket {number} is never read");
        }
        for (at, node) in self.fleet.nodes.iter().enumerate() {
            assert_eq!(node.shard.backlog_bytes(), 0, "shard {at} owes bytes");
            let waiting = self.fleet.inboxes[at].waiting_bytes();
            assert_eq!(waiting, 0, "bytes wait for shard {at}");
            let open = node.shard.open_questions_count();
            assert_eq!(open, 0, "questions are open at shard {at}");
        }
    }

    /// Shards, homes and members agree on who is where.
    fn check_members(&mut self) {
        let mut occupied = 0;
        for app in 0..self.apps.iter().count() {
            let index = AppIndex(u16::try_from(app).unwrap());
            for (channel, name) in CHANNELS.iter().enumerate() {
                let here = self.clients.iter().filter(|client| client.is_open());
                let here = here.filter(|client| client.app == app);
                let here: Vec<_> = here
                    .filter(|client| client.channels[channel].wants)
                    .collect();
                let nodes = self.fleet.nodes.iter();
                let counted: usize = nodes
                    .map(|node| node.shard.subscription_count(index, name))
                    .sum();
                assert_eq!(counted, here.len(), "subscriptions of {name} in app {app}");
                if let Some(redis) = &self.fleet.redis {
                    let is_heard = counted == 0 || redis.hears(index, name);
                    assert!(is_heard, "Redis does not hear of {name} in app {app}");
                }
                if here.is_empty() || !PRESENCE.contains(&channel) {
                    continue;
                }
                occupied += 1;
                let truth: BTreeSet<u64> = here.iter().map(|client| client.user).collect();
                for client in here {
                    let view = client.channels[channel].view.keys();
                    assert!(
                        truth.iter().eq(view.clone()),
                        "client {} sees {:?} on {name}, there are {truth:?}",
                        client.number,
                        view.collect::<Vec<_>>()
                    );
                    self.net.faults.rosters_compared += 1;
                }
            }
        }
        let nodes = self.fleet.nodes.iter();
        let kept: usize = nodes.map(|node| node.shard.presence_channels_count()).sum();
        assert_eq!(kept, occupied, "presence channels that homes keep");
    }

    fn check_nothing_remains(&mut self) {
        for client in &self.clients {
            assert!(!client.is_open(), "client {} is still there", client.number);
        }
        for (at, node) in self.fleet.nodes.iter().enumerate() {
            let left = node.shard.connections_count();
            assert_eq!(left, 0, "connections left on shard {at}");
            assert_eq!(node.shard.backlog_bytes(), 0, "bytes left on shard {at}");
            let kept = node.shard.cached_events_count();
            assert_eq!(kept, 0, "events kept for too long on shard {at}");
        }
        let audience = &self.fleet.audience;
        assert!(audience.is_empty(), "somebody is said to be on a channel");
        self.check_members();
        if let Some(redis) = &self.fleet.redis {
            let left = redis.subscribed();
            assert!(left.is_empty(), "Redis still hears of {left:?}");
        }
        let (_, limited) = self.apps.iter().next().unwrap();
        let free = (0..=QUOTA).filter(|_| limited.admit()).count();
        assert_eq!(free, QUOTA as usize, "places of the quota were lost");
    }
}
