//! Hears what the server says on one socket, and fails at the first byte no server may say.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::wire::{self, Frame};

/// The other end of one socket.
#[derive(Default)]
pub(crate) struct Listener {
    heard: Vec<u8>,
    stage: Stage,
    /// It may have asked by HEAD: only at the end can its answers be told from one another.
    pub(crate) is_patient: bool,
    /// Its name, once established.
    pub(crate) socket_id: Option<String>,
    /// HTTP answers, the upgrade's aside: status and body.
    pub(crate) answers: Vec<(u16, String)>,
    /// Every text message, in order.
    pub(crate) messages: Vec<String>,
}

/// How far the conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Http,
    WebSocket,
    /// The last word was said.
    Ended,
}

/// What every message of the server has.
#[derive(Deserialize)]
struct Message {
    event: String,
    channel: Option<String>,
    #[serde(rename = "data")]
    _data: Option<IgnoredAny>,
}

impl Listener {
    /// Bytes came. Gives the channels that the messages in them are of.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Vec<String> {
        assert!(self.stage != Stage::Ended, "bytes behind the last word");
        self.heard.extend_from_slice(bytes);
        if self.is_patient {
            Vec::new()
        } else {
            self.understand()
        }
    }

    /// The server will say no more; `is_cut` if what it said last may be lost.
    pub(crate) fn hear_end(&mut self, is_cut: bool, asked_to_end: bool) {
        if self.is_patient {
            self.understand();
        }
        assert!(is_cut || self.heard.is_empty(), "cut inside of a word");
        let is_abrupt = self.stage == Stage::WebSocket;
        assert!(is_cut || asked_to_end || !is_abrupt, "FIN without Close");
    }

    /// Is it established, with no Close yet?
    pub(crate) fn is_established(&self) -> bool {
        self.stage == Stage::WebSocket && self.socket_id.is_some()
    }

    fn understand(&mut self) -> Vec<String> {
        let heard = std::mem::take(&mut self.heard);
        let mut rest = heard.as_slice();
        let mut channels = Vec::new();
        while !rest.is_empty() {
            let length = match self.stage {
                Stage::Http => self.understand_answer(rest),
                Stage::WebSocket => self.understand_frame(rest, &mut channels),
                Stage::Ended => panic!("bytes behind the last word"),
            };
            let Some(length) = length else { break };
            rest = &rest[length..];
        }
        self.heard = rest.to_vec();
        channels
    }

    fn understand_answer(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = str::from_utf8(&bytes[..end]).expect("a head is text");
        if head == "HTTP/1.1 100 Continue\r\n\r\n" {
            return Some(end);
        }
        if head.starts_with("HTTP/1.1 101 ") {
            self.stage = Stage::WebSocket;
            return Some(end);
        }
        let behind = &bytes[end..];
        let is_bodiless = behind.is_empty() || behind.starts_with(b"HTTP/1.1 ");
        let (status, body, keeps, length) = if self.is_patient && is_bodiless {
            let keeps = head.contains("\r\nConnection: keep-alive\r\n");
            let status = head[9..12].parse().expect("a status");
            (status, String::new(), keeps, end)
        } else {
            wire::answer(bytes)?
        };
        if !keeps {
            self.stage = Stage::Ended;
        }
        self.answers.push((status, body));
        Some(length)
    }

    fn understand_frame(&mut self, bytes: &[u8], channels: &mut Vec<String>) -> Option<usize> {
        let (frame, length) = wire::frame(bytes)?;
        match frame {
            Frame::Text(text) => {
                let message: Message = serde_json::from_str(&text).expect("a message is JSON");
                if message.event == "pusher:connection_established" {
                    self.note_name(&text);
                }
                channels.extend(message.channel);
                self.messages.push(text);
            }
            Frame::Ping => {}
            Frame::Pong(payload) => assert!(payload.len() <= 125),
            Frame::Close(code, _) => {
                assert!(code >= 1000);
                self.stage = Stage::Ended;
            }
        }
        Some(length)
    }

    /// A client may ask to be told its name again; it stays the same.
    fn note_name(&mut self, text: &str) {
        let name = text.split("socket_id\\\":\\\"").nth(1);
        let name = name
            .and_then(|rest| rest.split('\\').next())
            .expect("a name");
        let former = self.socket_id.replace(name.to_owned());
        assert!(former.is_none_or(|former| former == name), "two names");
    }
}
