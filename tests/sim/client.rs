//! One browser: what it asked for, what it was told, and the members it believes are there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use crate::cache;
use crate::model::{CACHE, CHANNELS, JOINED, Model, PRESENCE};
use crate::net::Socket;
use crate::wire::{self, Frame};

/// What servers may say just now, besides what was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Allowed {
    pub(crate) is_draining: bool,
    /// Time has jumped: readers may have stalled, peers been silent.
    pub(crate) has_jumped: bool,
    /// Rings are so small that whispers may be refused.
    pub(crate) may_refuse: bool,
}

/// A client and its connection.
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) socket: usize,
    pub(crate) shard: usize,
    pub(crate) app: usize,
    pub(crate) user: u64,
    /// No other client is this user.
    pub(crate) is_sole: bool,
    pub(crate) key: String,
    buffer: Vec<u8>,
    has_upgraded: bool,
    /// Its name, once established.
    pub(crate) id: Option<String>,
    pub(crate) channels: Vec<Channel>,
    /// Pongs it waits for.
    pub(crate) pings: usize,
    pub(crate) control_pings: usize,
    pub(crate) close_sent: bool,
    close_seen: bool,
    fin_sent: bool,
    is_gone: bool,
    pub(crate) is_stalled: bool,
    /// Answers pings.
    pub(crate) is_lively: bool,
    /// Refusals heard.
    pub(crate) refusals: usize,
    pub(crate) pruned: bool,
    pub(crate) fell_behind: bool,
    pub(crate) is_terminated: bool,
    /// Its user was terminated while it was there.
    pub(crate) must_end: bool,
    received: BTreeSet<(usize, usize)>,
    /// Last events that it was shown when it subscribed.
    shown: BTreeSet<(usize, usize)>,
    /// The channel, and the seat on it, whose last event comes next.
    awaits_last: Option<(usize, usize)>,
    latest: Option<usize>,
    /// Its latest whisper.
    pub(crate) whispered: Option<usize>,
}

/// A client on a channel.
#[derive(Default)]
pub(crate) struct Channel {
    asked: VecDeque<Asked>,
    is_on: bool,
    was_on: bool,
    /// Counts unsubscribes.
    pub(crate) epoch: u32,
    /// What it asked for last.
    pub(crate) wants: bool,
    /// Users and the seat each was last heard with.
    pub(crate) view: BTreeMap<u64, u64>,
}

enum Asked {
    Join(usize),
    Leave,
}

impl Client {
    pub(crate) fn new(number: usize, (shard, app): (usize, usize), socket: usize) -> Self {
        Self {
            number,
            socket,
            shard,
            app,
            user: 100 + number as u64,
            is_sole: true,
            // The base64 of 16 bytes, another one for each client.
            key: format!("AAAAAAAAAAAAAA{number:06}AA=="),
            buffer: Vec::new(),
            has_upgraded: false,
            id: None,
            channels: CHANNELS.iter().map(|_| Channel::default()).collect(),
            pings: 0,
            control_pings: 0,
            close_sent: false,
            close_seen: false,
            fin_sent: false,
            is_gone: false,
            is_stalled: false,
            is_lively: true,
            refusals: 0,
            pruned: false,
            fell_behind: false,
            is_terminated: false,
            must_end: false,
            received: BTreeSet::new(),
            shown: BTreeSet::new(),
            awaits_last: None,
            latest: None,
            whispered: None,
        }
    }

    /// Is it established, with no end in sight?
    pub(crate) fn is_open(&self) -> bool {
        self.id.is_some() && !(self.close_sent || self.close_seen || self.fin_sent || self.is_gone)
    }

    /// Has it nothing more to hear?
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// It has closed its writing side or is gone for good.
    pub(crate) fn end(&mut self, is_reset: bool) {
        self.fin_sent = true;
        self.is_gone |= is_reset;
    }

    /// It was told so, and has asked for nothing else since.
    pub(crate) fn is_surely_on(&self, channel: usize) -> bool {
        let channel = &self.channels[channel];
        let leaves = |asked: &Asked| matches!(asked, Asked::Leave);
        self.is_open() && channel.is_on && !channel.asked.iter().any(leaves)
    }

    /// Could it be on the channel, for all that it has said?
    pub(crate) fn has_asked_for(&self, channel: usize) -> bool {
        let channel = &self.channels[channel];
        let joins = |asked: &Asked| matches!(asked, Asked::Join(_));
        channel.was_on || channel.asked.iter().any(joins)
    }

    /// Has it, or has whoever terminated it, been told that it is no more?
    pub(crate) fn is_dismissed(&self) -> bool {
        self.close_seen || self.must_end
    }

    pub(crate) fn has_received(&self, event: usize, channel: usize) -> bool {
        self.received.contains(&(event, channel))
    }

    /// It has received the event, or was shown it.
    pub(crate) fn has_seen(&self, event: usize, channel: usize) -> bool {
        self.has_received(event, channel) || self.shown.contains(&(event, channel))
    }

    /// It is about to ask for a channel; `seat` is what its member data will name.
    pub(crate) fn ask_to_join(&mut self, channel: usize, seat: usize) {
        let channel = &mut self.channels[channel];
        channel.asked.push_back(Asked::Join(seat));
        channel.wants = true;
    }

    /// It is about to leave a channel.
    pub(crate) fn ask_to_leave(&mut self, channel: usize) {
        let channel = &mut self.channels[channel];
        channel.asked.push_back(Asked::Leave);
        channel.wants = false;
        channel.epoch += 1;
    }

    /// Channels it has asked for and heard nothing of.
    pub(crate) fn unanswered(&self) -> usize {
        let joins = |channel: &Channel| {
            let asked = channel.asked.iter();
            asked
                .filter(|asked| matches!(asked, Asked::Join(_)))
                .count()
        };
        let joins = self.channels.iter().map(joins).sum::<usize>();
        joins + self.pings + self.control_pings + usize::from(self.awaits_last.is_some())
    }

    /// Whole frames only have come so far.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes bytes; gives what it says to them.
    pub(crate) fn hear(
        &mut self,
        bytes: &[u8],
        model: &mut Model,
        allowed: Allowed,
        socket: &Socket,
    ) -> Vec<Vec<u8>> {
        assert!(
            !self.close_seen,
            "client {}: bytes after Close",
            self.number
        );
        self.buffer.extend_from_slice(bytes);
        let mut said = Vec::new();
        if !self.has_upgraded {
            let expected = wire::accepted(&self.key);
            let known = self.buffer.len().min(expected.len());
            assert_eq!(
                String::from_utf8_lossy(&self.buffer[..known]),
                expected[..known]
            );
            if known < expected.len() {
                return said;
            }
            self.buffer.drain(..known);
            self.has_upgraded = true;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        while let Some((frame, length)) = wire::frame(&buffer[at..]) {
            assert!(
                !self.close_seen,
                "client {}: a frame after Close",
                self.number
            );
            at += length;
            trace!("  client {} hears {frame}", self.number);
            match frame {
                Frame::Text(text) => said.extend(self.hear_text(&text, model, allowed)),
                Frame::Ping => said.push(wire::masked(10, b"", [7; 4])),
                Frame::Pong(payload) => {
                    assert_eq!(payload, b"sim");
                    self.control_pings = self.control_pings.checked_sub(1).expect("no ping");
                }
                Frame::Close(code, reason) => {
                    let terminated = model.terminated.contains(&(self.app, self.user));
                    self.hear_close(code, &reason, allowed, socket, terminated);
                    if !self.close_sent {
                        said.push(wire::masked(8, &code.to_be_bytes(), [9; 4]));
                    }
                }
            }
        }
        buffer.drain(..at);
        self.buffer = buffer;
        said
    }

    /// The shard's end of the stream has come.
    pub(crate) fn hear_end(&mut self, is_reset: bool, allowed: Allowed, socket: &Socket) {
        trace!("  client {} hears the end, reset: {is_reset}", self.number);
        let ended_itself = self.fin_sent || self.close_sent;
        if is_reset {
            // A close over unread input is a reset to the peer, and loses the Close frame.
            let is_late = allowed.has_jumped || allowed.is_draining;
            let may_be = ended_itself || self.close_seen || socket.was_slow || is_late;
            assert!(may_be, "client {} was reset", self.number);
        } else {
            assert!(
                self.buffer.is_empty(),
                "client {}: a frame was cut",
                self.number
            );
            let may_be = self.close_seen || self.fin_sent || !self.has_upgraded;
            assert!(may_be, "client {}: FIN without Close", self.number);
        }
        self.is_gone = true;
    }

    fn hear_close(
        &mut self,
        code: u16,
        reason: &str,
        allowed: Allowed,
        socket: &Socket,
        may_be_terminated: bool,
    ) {
        self.close_seen = true;
        self.pruned = code == 4201;
        self.fell_behind = reason == "Too slow";
        self.is_terminated = code == 4009;
        let may_be = match (code, reason) {
            (1000, "bye") => self.close_sent,
            (4100, "Too slow") => socket.was_slow,
            (4100, "Server is restarting") => allowed.is_draining,
            (4201, "Pong reply not received in time") => allowed.has_jumped,
            (4009, "Terminated by the application") => may_be_terminated,
            _ => false,
        };
        assert!(may_be, "client {}: Close {code} {reason}", self.number);
    }

    fn hear_text(&mut self, text: &str, model: &mut Model, allowed: Allowed) -> Option<Vec<u8>> {
        if let Some((channel, seat)) = self.awaits_last.take() {
            self.hear_last(channel, seat, text, model);
            return None;
        }
        let starts = [r#"{"event":"event-"#, r#"{"event":"client-"#];
        for start in starts {
            if let Some(rest) = text.strip_prefix(start) {
                let digits = rest.split('"').next().unwrap();
                self.hear_event(digits.parse().unwrap(), text, model);
                return None;
            }
        }
        let message: Value = serde_json::from_str(text).expect("a message is JSON");
        let data = |name: &str| -> Value {
            let data: Value = serde_json::from_str(message["data"].as_str().unwrap()).unwrap();
            data[name].clone()
        };
        let channel = || {
            let name = message["channel"].as_str().unwrap();
            CHANNELS.iter().position(|known| *known == name).unwrap()
        };
        match message["event"].as_str().unwrap() {
            "pusher:connection_established" => {
                assert!(
                    self.id.is_none(),
                    "client {} is established twice",
                    self.number
                );
                self.id = Some(data("socket_id").as_str().unwrap().to_owned());
            }
            "pusher:ping" => {
                assert!(allowed.has_jumped, "a ping out of time");
                let pong = wire::masked(1, br#"{"event":"pusher:pong"}"#, [3; 4]);
                return self.is_lively.then_some(pong);
            }
            "pusher:pong" => self.pings = self.pings.checked_sub(1).expect("a pong unasked"),
            "pusher:error" => {
                let code = data("code").as_u64().unwrap();
                let may_be = match code {
                    4100 => allowed.is_draining && self.id.is_none(),
                    4201 => allowed.has_jumped,
                    4301 => allowed.may_refuse,
                    _ => false,
                };
                assert!(may_be, "client {}: {text}", self.number);
                self.refusals += usize::from(code == 4301);
            }
            "pusher_internal:subscription_succeeded" => {
                let channel = channel();
                let seat = self.hear_succeeded(channel, text, &data("presence"));
                if JOINED.contains(&channel) {
                    self.see(seat, model);
                }
                self.awaits_last = CACHE.contains(&channel).then_some((channel, seat));
            }
            "pusher_internal:member_added" => {
                let user = data("user_id").as_u64().unwrap();
                let seat = data("user_info")["v"].as_u64().unwrap();
                self.see(usize::try_from(seat).unwrap(), model);
                let known = self.view(channel()).insert(user, seat);
                assert_eq!(known, None, "client {}: user {user} twice", self.number);
            }
            "pusher_internal:member_removed" => {
                let user = data("user_id").as_u64().unwrap();
                let known = self.view(channel()).remove(&user);
                assert!(
                    known.is_some(),
                    "client {}: {user} left unseen",
                    self.number
                );
            }
            _ => panic!("client {}: {text}", self.number),
        }
        None
    }

    /// What follows the acknowledgement on a cache channel.
    fn hear_last(&mut self, channel: usize, seat: usize, text: &str, model: &mut Model) {
        let name = CHANNELS[channel];
        if text == format!(r#"{{"event":"pusher:cache_miss","channel":"{name}"}}"#) {
            cache::show(model, seat, self, channel, None);
            return;
        }
        let rest = text.strip_prefix(r#"{"event":"event-"#);
        let digits = rest.and_then(|rest| rest.split('"').next());
        let digits = digits.unwrap_or_else(|| panic!("client {} is shown {text}", self.number));
        let number = digits.parse().unwrap();
        assert_eq!(self.recognise(number, text, model), channel);
        cache::show(model, seat, self, channel, Some(number));
        self.shown.insert((number, channel));
    }

    /// The channel on which an event has this text.
    fn recognise(&self, number: usize, text: &str, model: &mut Model) -> usize {
        let now = model.now;
        let event = model.event(number);
        assert_eq!(event.app, self.app, "event {number} is another app's");
        let found = event.texts.iter().find(|(_, expected)| expected == text);
        let &(channel, _) = found.unwrap_or_else(|| panic!("event {number} was not: {text}"));
        event.taken_by.get_or_insert(now);
        channel
    }

    fn hear_event(&mut self, number: usize, text: &str, model: &mut Model) {
        let channel = self.recognise(number, text, model);
        let event = model.event(number);
        assert_ne!(
            event.except,
            Some(self.number),
            "event {number} excepts client {}",
            self.number
        );
        let whisperer = event.whisperer;
        if JOINED.contains(&channel) || !event.is_of_redis {
            self.see(number, model);
        }
        let is_new = !self.has_seen(number, channel);
        assert!(is_new, "client {} got event {number} twice", self.number);
        self.received.insert((number, channel));
        let view = self.view(channel);
        if let Some((_, user)) = whisperer.filter(|_| PRESENCE.contains(&channel)) {
            let is_here = view.contains_key(&user);
            assert!(is_here, "whisper {number} came without its member {user}");
        }
    }

    /// Gives the seat that it asked for.
    fn hear_succeeded(&mut self, number: usize, text: &str, presence: &Value) -> usize {
        let channel = &mut self.channels[number];
        let seat = loop {
            match channel.asked.pop_front() {
                Some(Asked::Leave) => {}
                Some(Asked::Join(seat)) => break seat,
                None => panic!("client {} never asked: {text}", self.number),
            }
        };
        channel.is_on = true;
        channel.was_on = true;
        if !PRESENCE.contains(&number) {
            let name = CHANNELS[number];
            let start = r#"{"event":"pusher_internal:subscription_succeeded","data":"{}""#;
            assert_eq!(text, format!(r#"{start},"channel":"{name}"}}"#));
            return seat;
        }
        let hash = presence["hash"].as_object().unwrap();
        let seats = hash
            .iter()
            .map(|(user, info)| (user.parse().unwrap(), info["v"].as_u64().unwrap()));
        channel.view = seats.collect();
        let ids: BTreeSet<u64> = presence["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap())
            .collect();
        assert!(ids.iter().eq(channel.view.keys()), "ids differ: {text}");
        assert_eq!(presence["count"].as_u64(), Some(ids.len() as u64));
        let own = channel.view.get(&self.user);
        assert!(own.is_some(), "client {} is not in: {text}", self.number);
        if self.is_sole {
            assert_eq!(
                own,
                Some(&(seat as u64)),
                "client {} sits wrong: {text}",
                self.number
            );
        }
        seat
    }

    /// The members it believes in; it must have been told once that it is on the channel.
    fn view(&mut self, channel: usize) -> &mut BTreeMap<u64, u64> {
        let name = CHANNELS[channel];
        let channel = &mut self.channels[channel];
        assert!(channel.was_on, "client {} was never on {name}", self.number);
        &mut channel.view
    }

    fn see(&mut self, number: usize, model: &mut Model) {
        if let Some(latest) = self.latest.replace(number) {
            model.follow(latest, number);
        }
    }
}
