//! A fleet in one thread, driven by plain calls: no socket, no clock, no ring but queues.
//!
//! The test decides which message travels next, so it can hold an answer back or let two shards
//! run in any order. Used by `shard_calls.rs`, `replies.rs`, `question_calls.rs` and
//! `interest_calls.rs`.
#![allow(dead_code)] // each test crate uses its part of it

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use slapback::app::{App, AppIndex, AppSettings, Apps};
use slapback::metrics::{Counter, Metrics};
use slapback::proto::Now;
use slapback::proto::session::{Session, Settings};
use slapback::shard::audience::Audience;
use slapback::shard::cache::CacheLimits;
use slapback::shard::flusher::{Flusher, Outgoing, Sent};
use slapback::shard::home::home_of;
use slapback::shard::message::{Message, SessionKey, ShardIndex};
use slapback::shard::wheel::TICK;
use slapback::shard::{BacklogLimits, Reading, Setup, Shard};

/// The only app.
pub(crate) const APP: AppIndex = AppIndex(0);

/// Shards, the links between them, and what has been written to sockets.
pub(crate) struct Fleet {
    pub(crate) shards: Vec<Shard<Session>>,
    pub(crate) metrics: Vec<Arc<Metrics>>,
    apps: Arc<Apps>,
    now: Now,
    links: HashMap<(usize, usize), VecDeque<Message>>,
    wire: Wire,
    sockets: i32,
}

/// One WebSocket of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) key: SessionKey,
    pub(crate) id: String,
    socket: i32,
}

/// Takes every byte at once, but for the sockets that are full or dead.
#[derive(Default)]
struct Wire {
    taken: HashMap<i32, Vec<u8>>,
    full: HashSet<i32>,
    dead: HashSet<i32>,
}

impl Flusher for Wire {
    fn flush(
        &mut self,
        log: &[u8],
        ranges: &[Range<u32>],
        batch: &[Outgoing],
        results: &mut Vec<Sent>,
    ) {
        results.clear();
        for outgoing in batch {
            if self.dead.contains(&outgoing.socket) {
                results.push(Sent::Dead);
                continue;
            }
            if self.full.contains(&outgoing.socket) {
                results.push(Sent::Full);
                continue;
            }
            let taken = self.taken.entry(outgoing.socket).or_default();
            for range in &ranges[outgoing.ranges.start as usize..outgoing.ranges.end as usize] {
                taken.extend_from_slice(&log[range.start as usize..range.end as usize]);
            }
            results.push(Sent::All);
        }
    }
}

impl Fleet {
    /// A fleet of this many shards, serving [`APP`].
    pub(crate) fn new(shards: usize) -> Self {
        Self::with(shards, None, 1 << 28)
    }

    /// One shard whose backlogs may hold so many bytes together.
    pub(crate) fn with_backlogs_of(total: usize) -> Self {
        Self::with(1, None, total)
    }

    /// The same whose shards say what they want to hear in Redis, to the number behind the last.
    pub(crate) fn hearing_redis(shards: usize) -> Self {
        let redis = ShardIndex(u16::try_from(shards).unwrap());
        Self::with(shards, Some(redis), 1 << 28)
    }

    fn with(shards: usize, interest: Option<ShardIndex>, backlog_total: usize) -> Self {
        let apps = Arc::new(Apps::new(vec![AppSettings::new(
            "app-1", "key-1", "secret-1",
        )]));
        let start = Instant::now();
        let metrics: Vec<Arc<Metrics>> = (0..shards).map(|_| Arc::default()).collect();
        let audience = Arc::new(Audience::new(u16::try_from(shards).unwrap(), 1));
        let shard = |(number, metrics): (usize, &Arc<Metrics>)| {
            Shard::new(Setup {
                shard: ShardIndex(u16::try_from(number).unwrap()),
                shards: u16::try_from(shards).unwrap(),
                bus: None,
                interest,
                audience: Arc::clone(&audience),
                apps: Arc::clone(&apps),
                settings: Arc::new(Settings {
                    max_request_size: 100_000,
                    ..Settings::default()
                }),
                metrics: Arc::clone(metrics),
                limits: BacklogLimits {
                    bytes: 1 << 20,
                    wait: Duration::from_secs(10),
                    total: backlog_total,
                },
                cache: CacheLimits {
                    channels: 100,
                    bytes: 1 << 20,
                },
                seed: 1 + number as u64,
                start,
            })
        };
        Self {
            shards: metrics.iter().enumerate().map(shard).collect(),
            metrics,
            apps,
            now: Now {
                instant: start,
                unix_s: 1_700_000_000,
            },
            links: HashMap::new(),
            wire: Wire::default(),
            sockets: 0,
        }
    }

    /// The shard that is home to [`APP`].
    pub(crate) fn home(&self) -> usize {
        let shards = u16::try_from(self.shards.len()).unwrap();
        usize::from(home_of(APP, shards).0)
    }

    /// The shard so many places behind the home.
    pub(crate) fn beyond_home(&self, places: usize) -> usize {
        (self.home() + places) % self.shards.len()
    }

    /// Opens a WebSocket on a shard and reads its greeting.
    pub(crate) fn connect(&mut self, shard: usize) -> Peer {
        self.sockets += 1;
        let key = self.shards[shard].handle_opened(self.now, self.sockets);
        let mut peer = Peer {
            key,
            id: String::new(),
            socket: self.sockets,
        };
        let request = concat!(
            "GET /app/key-1 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.feed(&peer, request.as_bytes());
        self.flush(shard);
        let sent = self.wire.taken.remove(&peer.socket).unwrap();
        let head = sent
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .unwrap();
        let greeting = texts(&sent[head + 4..]).remove(0);
        let (_, rest) = greeting.split_once(r#"socket_id\":\""#).unwrap();
        rest.split_once('\\').unwrap().0.clone_into(&mut peer.id);
        peer
    }

    /// Opens a connection on a shard and makes a signed call of the API.
    pub(crate) fn call(&mut self, shard: usize, method: &str, path: &str, body: &str) -> Peer {
        self.sockets += 1;
        let caller = Peer {
            key: self.shards[shard].handle_opened(self.now, self.sockets),
            id: String::new(),
            socket: self.sockets,
        };
        let (path, further) = path.split_once('?').unwrap_or((path, ""));
        let path = format!("/apps/app-1{path}");
        let digest = Md5::digest(body)
            .iter()
            .fold("body_md5=".to_owned(), |hex, byte| {
                format!("{hex}{byte:02x}")
            });
        let digest = if body.is_empty() { "" } else { &digest };
        let parameters = ["auth_key=key-1", digest, further].into_iter();
        let parameters = parameters.filter(|parameter| !parameter.is_empty());
        let query = parameters.collect::<Vec<_>>().join("&");
        let app: &App = self.apps.get(APP).unwrap();
        let signature = app
            .signer()
            .sign_hex(&[format!("{method}\n{path}\n{query}").as_bytes()]);
        let signature = std::str::from_utf8(&signature).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: h\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.feed(&caller, request.as_bytes());
        caller
    }

    /// Status and body of the one answer that a caller has been sent, if it has.
    pub(crate) fn answer(&mut self, caller: &Peer) -> Option<(u16, String)> {
        let answer = String::from_utf8(self.wire.taken.remove(&caller.socket)?).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = format!("Content-Length: {}\r\n", body.len());
        assert!(head.contains(&length), "not one answer: {answer}");
        Some((head[9..12].parse().unwrap(), body.to_owned()))
    }

    /// Hands a peer's text messages in, all in one read.
    pub(crate) fn say(&mut self, peer: &Peer, messages: &[String]) -> Reading {
        let frames: Vec<u8> = messages.iter().flat_map(|text| masked(text)).collect();
        self.feed(peer, &frames)
    }

    fn feed(&mut self, peer: &Peer, bytes: &[u8]) -> Reading {
        let shard = usize::from(peer.key.shard.0);
        let reading = self.shards[shard].handle_bytes(self.now, peer.key, &mut bytes.to_vec());
        self.collect(shard);
        reading
    }

    /// The peer's connection breaks.
    pub(crate) fn lose(&mut self, peer: &Peer) {
        let shard = usize::from(peer.key.shard.0);
        self.shards[shard].handle_lost(self.now, peer.key);
        self.collect(shard);
    }

    /// The peer ends its side of the connection.
    pub(crate) fn end(&mut self, peer: &Peer) {
        let shard = usize::from(peer.key.shard.0);
        self.shards[shard].handle_eof(self.now, peer.key);
        self.collect(shard);
    }

    /// The peer is gone, and nobody knows before something is written to it.
    pub(crate) fn kill(&mut self, peer: &Peer) {
        self.wire.dead.insert(peer.socket);
    }

    /// The peer reads nothing until it is told to read on.
    pub(crate) fn stall(&mut self, peer: &Peer) {
        self.wire.full.insert(peer.socket);
    }

    /// The peer reads on, and its shard is told that the socket can take bytes.
    pub(crate) fn read_on(&mut self, peer: &Peer) {
        self.wire.full.remove(&peer.socket);
        self.shards[usize::from(peer.key.shard.0)].handle_writable(peer.key);
    }

    /// Part of a turn: so many sockets at most are written to.
    pub(crate) fn flush_some(&mut self, shard: usize, most: usize) -> bool {
        let had_work = self.shards[shard].flush(self.now, &mut self.wire, most);
        self.collect(shard);
        had_work
    }

    /// What a shard still does for sockets while it rests: whoever has a reply to come gets it.
    pub(crate) fn flush_ahead(&mut self, shard: usize) -> bool {
        let had_work = self.shards[shard].flush_ahead(self.now, &mut self.wire, 64);
        self.collect(shard);
        had_work
    }

    /// Carries the oldest message of one link over, if there is one.
    pub(crate) fn carry(&mut self, from: usize, to: usize) -> bool {
        let Some(message) = self
            .links
            .get_mut(&(from, to))
            .and_then(VecDeque::pop_front)
        else {
            return false;
        };
        self.shards[to].handle_message(self.now, message);
        self.collect(to);
        true
    }

    /// Hands a shard a message that came over a ring.
    pub(crate) fn tell(&mut self, shard: usize, message: Message) {
        self.shards[shard].handle_message(self.now, message);
        self.collect(shard);
    }

    /// The oldest message of a shard to the Redis thread, if there is one.
    pub(crate) fn told_redis(&mut self, shard: usize) -> Option<Message> {
        let link = self.links.get_mut(&(shard, self.shards.len()))?;
        link.pop_front()
    }

    /// The messages under way from one shard to another.
    pub(crate) fn under_way(&self, from: usize, to: usize) -> impl Iterator<Item = &Message> {
        self.links.get(&(from, to)).into_iter().flatten()
    }

    /// Ends a turn of one shard: everything it has for sockets is written.
    pub(crate) fn flush(&mut self, shard: usize) {
        while self.shards[shard].flush(self.now, &mut self.wire, 64) {
            self.collect(shard);
        }
    }

    /// Runs until nothing is under way, in an order drawn from `random`.
    pub(crate) fn settle(&mut self, random: &mut fastrand::Rng) {
        loop {
            let busy = |((from, to), link): (&(usize, usize), &VecDeque<Message>)| {
                (!link.is_empty() && *to < self.shards.len()).then_some((*from, *to))
            };
            let mut busy: Vec<_> = self.links.iter().filter_map(busy).collect();
            busy.sort_unstable();
            let Some(&(from, to)) = random.choice(&busy) else {
                break;
            };
            self.carry(from, to);
            if random.bool() {
                self.flush(random.usize(..self.shards.len()));
            }
        }
        for shard in 0..self.shards.len() {
            self.flush(shard);
        }
    }

    /// The text messages that a peer has been sent since the last call.
    pub(crate) fn heard(&mut self, peer: &Peer) -> Vec<String> {
        texts(&self.wire.taken.remove(&peer.socket).unwrap_or_default())
    }

    /// All bytes that a peer has been sent since the last call, as text.
    pub(crate) fn heard_bytes(&mut self, peer: &Peer) -> String {
        let bytes = self.wire.taken.remove(&peer.socket).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// From now on there is no app.
    pub(crate) fn serve_nothing(&mut self) {
        self.apps = Arc::new(self.apps.reloaded(Vec::new()).unwrap());
        for shard in &mut self.shards {
            shard.handle_apps(self.now, Arc::clone(&self.apps));
        }
    }

    /// One step of the wheel passes.
    pub(crate) fn tick(&mut self) {
        self.now.instant += TICK;
        for shard in 0..self.shards.len() {
            self.shards[shard].handle_tick(self.now);
            self.collect(shard);
        }
    }

    /// Subscriptions to a channel on all shards.
    pub(crate) fn subscriptions(&self, channel: &str) -> usize {
        let counts = self.shards.iter();
        counts
            .map(|shard| shard.subscription_count(APP, channel))
            .sum()
    }

    /// A counter over all shards.
    pub(crate) fn counted(&self, counter: Counter) -> u64 {
        self.metrics
            .iter()
            .map(|metrics| metrics.get(counter))
            .sum()
    }

    /// `pusher:subscribe` as this peer must sign it.
    pub(crate) fn subscribe(
        &self,
        peer: &Peer,
        channel: &str,
        channel_data: Option<&str>,
    ) -> String {
        let mut signed = format!("{}:{channel}", peer.id);
        let mut member = String::new();
        if let Some(data) = channel_data {
            signed = format!("{signed}:{data}");
            member = format!(r#","channel_data":"{}""#, data.replace('"', "\\\""));
        }
        let app: &App = self.apps.get(APP).unwrap();
        let signature = app.signer().sign_hex(&[signed.as_bytes()]);
        let signature = std::str::from_utf8(&signature).unwrap();
        let auth = format!(r#""auth":"key-1:{signature}""#);
        format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}",{auth}{member}}}}}"#)
    }

    fn collect(&mut self, shard: usize) {
        self.shards[shard].poll_commands();
        for (to, message) in self.shards[shard].poll_messages() {
            let link = self.links.entry((shard, usize::from(to.0))).or_default();
            link.push_back(message);
        }
    }
}

/// A client's text frame under the mask of all zeros, which leaves the payload as it is.
fn masked(text: &str) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    const TWO_BYTES: u8 = 126;
    let mut frame = vec![0x81, MASKED | TWO_BYTES];
    frame.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// The payloads of whole text frames; anything else fails the test.
fn texts(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let [0x81, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (
                usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                &rest[2..],
            ),
            &length => (usize::from(length), rest),
        };
        texts.push(String::from_utf8(rest[..length].to_vec()).unwrap());
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "not a text frame: {bytes:?}");
    texts
}
