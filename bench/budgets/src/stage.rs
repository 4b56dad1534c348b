//! One shard alone, with sockets that take everything: what the paths are counted on.
//!
//! Built anew by each path that needs one. Its flusher adds up what it is given and copies nothing
//! while something is counted, so that what is counted is the shard's.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slapback::app::{App, AppIndex, AppSettings, Apps};
use slapback::proto::Now;
use slapback::proto::session::{Session, Settings};
use slapback::shard::audience::Audience;
use slapback::shard::cache::CacheLimits;
use slapback::shard::flusher::{Flusher, Outgoing, Sent};
use slapback::shard::message::{SessionKey, ShardIndex};
use slapback::shard::{BacklogLimits, Reading, Setup, Shard};

/// The only app.
pub const APP: AppIndex = AppIndex(0);

/// What an edge gives one flush, sockets.
const FLUSH_CHUNK: usize = 256;

/// The mask of every client frame.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The request that opens a WebSocket, with the headers of a browser.
pub const UPGRADE: &str = concat!(
    "GET /app/key?protocol=7&client=js&version=8.4.0&flash=false HTTP/1.1\r\n",
    "Host: ws.example.com\r\nConnection: Upgrade\r\nPragma: no-cache\r\n",
    "Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) ",
    "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n",
    "Upgrade: websocket\r\nOrigin: https://example.com\r\nSec-WebSocket-Version: 13\r\n",
    "Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
);

/// A shard and the time.
pub struct Stage {
    pub shard: Shard<Session>,
    pub now: Now,
    pub wire: Wire,
    apps: Arc<Apps>,
    sockets: i32,
}

/// One open WebSocket.
pub struct Peer {
    pub key: SessionKey,
    /// Its public name, which it signs for its channels.
    pub id: String,
}

/// Takes every byte at once.
#[derive(Default)]
pub struct Wire {
    /// Sends so far.
    pub sends: usize,
    /// Bytes of all of them.
    pub bytes: usize,
    /// What was sent, while somebody wants to read it.
    heard: Option<Vec<u8>>,
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
            self.sends += 1;
            let own = outgoing.ranges.start as usize..outgoing.ranges.end as usize;
            for range in ranges.get(own).unwrap_or_default() {
                let bytes = log.get(range.start as usize..range.end as usize);
                let bytes = bytes.unwrap_or_default();
                self.bytes += bytes.len();
                if let Some(heard) = &mut self.heard {
                    heard.extend_from_slice(bytes);
                }
            }
            results.push(Sent::All);
        }
    }
}

impl Stage {
    /// A fleet of this one shard, with nobody connected.
    pub fn new() -> Self {
        let apps = Arc::new(Apps::new(vec![AppSettings::new("app", "key", "secret")]));
        let now = Now {
            instant: Instant::now(),
            unix_s: 1_700_000_000,
        };
        let shard = Shard::new(Setup {
            shard: ShardIndex(0),
            shards: 1,
            bus: None,
            interest: None,
            audience: Arc::new(Audience::new(1, 1)),
            apps: Arc::clone(&apps),
            settings: Arc::new(Settings {
                max_request_size: 100_000,
                ..Settings::default()
            }),
            metrics: Arc::default(),
            limits: BacklogLimits {
                bytes: 1 << 20,
                wait: Duration::from_secs(10),
                total: 1 << 28,
            },
            cache: CacheLimits {
                channels: 100,
                bytes: 1 << 20,
            },
            seed: 1,
            start: now.instant,
        });
        Self {
            shard,
            now,
            wire: Wire::default(),
            apps,
            sockets: 0,
        }
    }

    /// A connection that has said nothing yet.
    pub fn accept(&mut self) -> SessionKey {
        self.sockets += 1;
        self.shard.handle_opened(self.now, self.sockets)
    }

    /// Bytes come in from a connection, and a turn ends.
    pub fn turn(&mut self, key: SessionKey, input: &mut [u8]) {
        let reading = self.shard.handle_bytes(self.now, key, input);
        assert_eq!(reading, Reading::On);
        self.flush();
    }

    /// The end of a turn: everything is sent, and nothing else was to be done.
    pub fn flush(&mut self) {
        while self.shard.flush(self.now, &mut self.wire, FLUSH_CHUNK) {}
        assert!(!self.shard.has_messages());
        self.shard.poll_commands();
    }

    /// Opens a WebSocket.
    pub fn connect(&mut self) -> Peer {
        let key = self.accept();
        let answer = self.hear(key, UPGRADE.as_bytes());
        let (_, rest) = answer.split_once(r#"socket_id\":\""#).expect("a greeting");
        let (id, _) = rest.split_once('\\').expect("an id");
        Peer {
            key,
            id: id.to_owned(),
        }
    }

    /// The same, and it is subscribed to channels.
    pub fn connect_to(&mut self, channels: &[&str]) -> Peer {
        let peer = self.connect();
        for channel in channels {
            let mut subscribe = masked(&self.subscribe(&peer, channel, None));
            let before = self.wire.sends;
            self.turn(peer.key, &mut subscribe);
            assert_eq!(self.wire.sends, before + 1);
        }
        peer
    }

    /// What is sent in answer to some bytes.
    pub fn hear(&mut self, key: SessionKey, input: &[u8]) -> String {
        self.wire.heard = Some(Vec::new());
        self.turn(key, &mut input.to_vec());
        let heard = self.wire.heard.take().unwrap_or_default();
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// Adds up what is sent while something is done: sends and bytes.
    pub fn sent_by(&mut self, work: impl FnOnce(&mut Self)) -> (usize, usize) {
        let (sends, bytes) = (self.wire.sends, self.wire.bytes);
        work(self);
        (self.wire.sends - sends, self.wire.bytes - bytes)
    }

    /// `pusher:subscribe` as a peer must sign it.
    pub fn subscribe(&self, peer: &Peer, channel: &str, member: Option<&str>) -> String {
        if !channel.contains('-') {
            return format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#);
        }
        let data = member.map(|data| format!(":{data}")).unwrap_or_default();
        let auth = self.sign(&format!("{}:{channel}{data}", peer.id));
        let member =
            member.map(|data| format!(r#","channel_data":"{}""#, data.replace('"', "\\\"")));
        let member = member.unwrap_or_default();
        format!(
            r#"{{"event":"pusher:subscribe","data":{{"auth":"key:{auth}","channel":"{channel}"{member}}}}}"#
        )
    }

    /// The app's signature of a text.
    pub fn sign(&self, text: &str) -> String {
        let app: &App = self.apps.get(APP).expect("the app");
        let signature = app.signer().sign_hex(&[text.as_bytes()]);
        String::from_utf8_lossy(&signature).into_owned()
    }
}

/// A client's text frame.
pub fn masked(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            let length = u16::try_from(text.len()).expect("a short message");
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(MASK);
    let masked = text.bytes().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// A client's event of 133 bytes.
pub fn whisper(channel: &str) -> String {
    let mut text =
        format!(r#"{{"event":"client-moved","channel":"{channel}","data":{{"n":12,"text":""#);
    while text.len() < 130 {
        text.push('x');
    }
    text + "\"}}"
}
