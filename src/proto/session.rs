//! One connection's state machine: HTTP first, then perhaps WebSocket.
//!
//! The shard calls it with bytes and time; it answers with [`Effects`]: bytes to send and things
//! to do. It never touches the index, a home or a socket. A panic in here costs this connection
//! only: the shard throws the effects of that call away.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::{AppIndex, Apps};
use crate::broadcast::{Broadcast, SocketId};
use crate::metrics::Counter;
use crate::proto::Now;
use crate::proto::api::{ApiSettings, Facts, Question};
use crate::proto::event::{self, Scratch};
use crate::proto::frame::{self, Decoder, Incoming};
use crate::proto::presence::Member;
use crate::proto::turnstile::Turnstile;
use crate::status::RedisStatus;

mod http_phase;
mod web_socket;

use http_phase::HttpPhase;
use web_socket::WebSocketPhase;

/// What the whole server has set, the same for every session.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Path prefix and timestamp tolerance of the API.
    pub api: ApiSettings,
    /// Head and body of one HTTP request together, bytes.
    pub max_request_size: usize,
    /// Handshakes per second that succeed, on all shards together; `None` = as many as come.
    pub accept_rate: Option<NonZeroU32>,
    /// The page served at `/`, in demo mode only.
    pub demo_page: Option<String>,
    /// Whether Redis works, for `/up?verbose`.
    pub redis: Arc<RedisStatus>,
}

/// What a session may look at during one call.
pub struct Context<'a> {
    /// The time of this call.
    pub now: Now,
    /// All apps.
    pub apps: &'a Apps,
    /// Server-wide settings.
    pub settings: &'a Settings,
    /// What this session is subscribed to.
    pub memberships: &'a dyn Memberships,
    /// Parse buffers, reused between calls.
    pub scratch: &'a mut Scratch,
    /// Source of socket ids.
    pub random: &'a mut fastrand::Rng,
    /// How many may still come in.
    pub turnstile: &'a mut Turnstile,
    /// What the node is short of.
    pub pressure: Pressure,
}

/// Why the node takes less than usual: four flags that come and go independently.
#[expect(clippy::struct_excessive_bools, reason = "they are independent")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Pressure {
    /// `/up` answers 503, nothing else changes yet.
    pub leaving: bool,
    /// New `WebSockets` are turned away, answers carry `Connection: close`.
    pub draining: bool,
    /// Some shard's rings are over-full: nothing new may enter.
    pub over_full: bool,
    /// Files are nearly used up: new `WebSockets` are turned away.
    pub node_full: bool,
}

/// The subscriptions of the session that is being called.
pub trait Memberships {
    /// The raw `user_id` the session subscribed with, or `None` inside if it has none;
    /// `None` outside if it is not subscribed to that channel.
    fn membership(&self, channel: &str) -> Option<Option<&str>>;
}

/// What a session asks its shard to do, in order.
#[derive(Debug)]
pub enum Effect {
    /// Send the bytes up to this offset of [`Effects::bytes`] that are of no earlier effect.
    Send(usize),
    /// The WebSocket is open: from now on it can be found by its id.
    Established {
        /// The app it belongs to.
        app: AppIndex,
        /// Its public name.
        id: SocketId,
    },
    /// Put it on a channel, then send what says so.
    Subscribe {
        /// The channel's name.
        channel: Box<str>,
        /// Raw `user_id`, for its whispers.
        user_id: Option<Box<str>>,
        /// Up to where in [`Effects::bytes`] that stands.
        end: usize,
    },
    /// Ask the home to put it on a presence or cache channel; input waits for the answer.
    Join {
        /// The channel's name.
        channel: Box<str>,
        /// Who it says it is.
        member: Member,
    },
    /// Take it off a channel.
    Unsubscribe {
        /// The channel's name.
        channel: Box<str>,
    },
    /// Hand an event to the app's home.
    Publish {
        /// The event.
        broadcast: Broadcast,
        /// An API call: input waits, and [`Protocol::handle_reply`] follows.
        answer: bool,
        /// What that call asks of the fleet once the event is in order.
        question: Option<Arc<Question>>,
    },
    /// Ask the whole fleet: input waits, and [`Protocol::handle_reply`] follows.
    Ask {
        /// The app that the question is about.
        app: AppIndex,
        /// What is asked.
        question: Arc<Question>,
    },
    /// A Close frame of ours was sent: leave all channels, wait for the echo, then FIN.
    Close,
    /// Nothing more will be sent: leave all channels, FIN once all is written.
    Finish,
    /// Add one to a counter.
    Count(Counter),
    /// Say in the log why a call or handshake was refused.
    Refused(Refused),
}

/// What an API call that waits is told.
#[derive(Debug)]
pub enum Reply {
    /// The home has taken its events.
    Taken,
    /// They cannot be taken now.
    Overloaded,
    /// All that the fleet knows.
    Known {
        /// What was asked.
        question: Arc<Question>,
        /// What is known of it.
        facts: Facts,
    },
}

/// One refused API call or handshake, for the log: never a secret in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status or Pusher code.
    pub code: u16,
    /// App id or key as the client named it.
    pub app: String,
    /// Request path.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Bytes of the body.
    pub size: usize,
}

/// The outcome of one call.
#[derive(Debug, Default)]
pub struct Effects {
    /// Bytes for the socket; [`Effect::Send`] and [`Effect::Subscribe`] say up to where.
    pub bytes: Vec<u8>,
    /// What to do, in order.
    pub list: Vec<Effect>,
}

impl Effects {
    /// Forgets everything, keeping the buffers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    /// Appends bytes to send.
    pub fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.list.push(Effect::Send(self.bytes.len()));
    }

    fn count(&mut self, counter: Counter) {
        self.list.push(Effect::Count(counter));
    }
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Http(Box<HttpPhase>),
    WebSocket(WebSocketPhase),
    /// We have said our last word; input is read and dropped until the peer's Close or EOF.
    Ending(WebSocketEnd),
}

/// What is still listened for after our last word.
#[derive(Debug, Default)]
struct WebSocketEnd {
    decoder: Option<Decoder>,
}

/// What a shard asks of the protocol state of its connections.
///
/// [`Session`] is the one that Slapback serves; the echo example that Autobahn tests is another.
pub trait Protocol: Sized + 'static {
    /// A connection just accepted.
    fn open(now: Instant) -> Self;

    /// Takes input until one thing has come of it, or the input ends; returns the bytes taken.
    ///
    /// The caller carries out the effects before it calls again with the rest, so that a
    /// message never overtakes what the one before it asked for.
    fn handle_bytes(
        &mut self,
        input: &mut [u8],
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> usize;

    /// The reply to this session's API call has come: answers it.
    fn handle_reply(&mut self, reply: Reply, context: &mut Context<'_>, effects: &mut Effects);

    /// Time has come to look at the clock: pings, prunes, gives up waiting.
    fn handle_deadline(&mut self, context: &mut Context<'_>, effects: &mut Effects);

    /// When [`Self::handle_deadline`] is due. `None`: nothing of the session's own to wait for.
    fn deadline(&self, apps: &Apps) -> Option<Instant>;

    /// Closes an open WebSocket from our side with a code (drain, backlog, gap). The Close frame
    /// is in `effects`. Anything else just finishes.
    fn close(&mut self, code: u16, reason: &str, effects: &mut Effects);

    /// Is it an established WebSocket?
    fn is_web_socket(&self) -> bool;

    /// Is it an HTTP connection with no request begun?
    fn is_idle_http(&self) -> bool;
}

impl Protocol for Session {
    fn open(now: Instant) -> Self {
        Self {
            phase: Phase::Http(Box::new(HttpPhase::new(now))),
        }
    }

    fn handle_bytes(
        &mut self,
        input: &mut [u8],
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> usize {
        let (taken, next) = match &mut self.phase {
            Phase::Http(http) => http.handle_bytes(input, context, effects),
            Phase::WebSocket(socket) => socket.handle_bytes(input, context, effects),
            Phase::Ending(end) => return end.handle_bytes(input, effects),
        };
        self.advance(next);
        taken
    }

    fn handle_reply(&mut self, reply: Reply, context: &mut Context<'_>, effects: &mut Effects) {
        if let Phase::Http(http) = &mut self.phase {
            let next = http.handle_reply(reply, context, effects);
            self.advance(next);
        }
    }

    fn handle_deadline(&mut self, context: &mut Context<'_>, effects: &mut Effects) {
        let next = match &mut self.phase {
            Phase::Http(http) => http.handle_deadline(context, effects),
            Phase::WebSocket(socket) => socket.handle_deadline(context, effects),
            Phase::Ending(_) => Next::Stay,
        };
        self.advance(next);
    }

    fn deadline(&self, apps: &Apps) -> Option<Instant> {
        match &self.phase {
            Phase::Http(http) => http.deadline(),
            Phase::WebSocket(socket) => Some(socket.deadline(apps)),
            Phase::Ending(_) => None,
        }
    }

    fn close(&mut self, code: u16, reason: &str, effects: &mut Effects) {
        match &self.phase {
            Phase::WebSocket(_) => {
                close_with((code, reason), effects);
                self.advance(Next::EndWebSocket);
            }
            Phase::Http(_) => {
                effects.list.push(Effect::Finish);
                self.advance(Next::End);
            }
            Phase::Ending(_) => {}
        }
    }

    fn is_web_socket(&self) -> bool {
        matches!(self.phase, Phase::WebSocket(_))
    }

    fn is_idle_http(&self) -> bool {
        matches!(&self.phase, Phase::Http(http) if http.is_idle())
    }
}

impl Session {
    fn advance(&mut self, next: Next) {
        self.phase = match next {
            Next::Stay => return,
            Next::WebSocket(socket) => Phase::WebSocket(socket),
            Next::EndWebSocket => {
                // Keeping the decoder keeps our place inside a frame that the peer has begun.
                let before =
                    std::mem::replace(&mut self.phase, Phase::Ending(WebSocketEnd::default()));
                let decoder = match before {
                    Phase::WebSocket(socket) => socket.into_decoder(),
                    Phase::Http(_) | Phase::Ending(_) => Decoder::default(),
                };
                Phase::Ending(WebSocketEnd {
                    decoder: Some(decoder),
                })
            }
            Next::End => Phase::Ending(WebSocketEnd::default()),
        };
    }
}

/// Where a phase goes from here.
enum Next {
    Stay,
    WebSocket(WebSocketPhase),
    /// Our Close frame is out: the peer's is awaited.
    EndWebSocket,
    /// Nothing more is awaited but EOF.
    End,
}

impl WebSocketEnd {
    fn handle_bytes(&mut self, input: &mut [u8], effects: &mut Effects) -> usize {
        let Some(decoder) = &mut self.decoder else {
            return input.len();
        };
        let (taken, item) = decoder.decode(input, ENDING_MESSAGE_BYTES_MAX);
        match item {
            Ok(Some(Incoming::Close { .. })) | Err(_) => {
                self.decoder = None;
                effects.list.push(Effect::Finish);
                input.len()
            }
            Ok(_) => taken,
        }
    }
}

/// A message this long is not waited through for the sake of the Close frame behind it.
const ENDING_MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// How long a first request head may take, counted from accept, also if nothing came.
pub const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long a body may take, counted from the end of its head.
pub const BODY_WAIT: Duration = Duration::from_secs(75);
/// How long a kept-alive connection waits for its next request.
pub const KEEP_ALIVE_WAIT: Duration = Duration::from_secs(75);

/// Sends a Close frame of ours.
fn close_with((code, reason): (u16, &str), effects: &mut Effects) {
    effects.send(|out| frame::close(out, Some(code), reason.as_bytes()));
    effects.list.push(Effect::Close);
}

/// Says to a WebSocket why it may not stay, then closes it for the same reason.
fn send_away(why: (u16, &str), counter: Counter, effects: &mut Effects) -> Next {
    effects.count(counter);
    effects.send(|out| write_farewell(out, why));
    effects.list.push(Effect::Close);
    Next::EndWebSocket
}

/// Writes the event that says why, and the Close frame.
fn write_farewell(out: &mut Vec<u8>, (code, reason): (u16, &str)) {
    frame::text(out, |out| event::error(out, code, reason));
    frame::close(out, Some(code), reason.as_bytes());
}

fn send_error((code, message): (u16, &str), effects: &mut Effects) {
    effects.send(|out| frame::text(out, |out| event::error(out, code, message)));
}

#[cfg(test)]
mod tests;
