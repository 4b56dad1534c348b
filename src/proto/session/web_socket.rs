//! A connection while it speaks the Pusher protocol over WebSocket.
//!
//! Called by the session; says what it wants by effects and never touches index or home.

use std::time::{Duration, Instant};

use super::{Context, Effect, Effects, Memberships, Next, close_with, send_away, send_error};
use crate::app::{App, AppIndex, Apps, ClientEvents, RateLimit};
use crate::broadcast::{Broadcast, Delivery, SocketId};
use crate::metrics::Counter;
use crate::proto::channel::ChannelKind;
use crate::proto::event::{self, ClientMessage, Subscribe, Whisper};
use crate::proto::frame::{self, Decoder, Incoming};
use crate::proto::presence::Member;
use crate::proto::{auth, trace};

/// An established session.
#[derive(Debug)]
pub(super) struct WebSocketPhase {
    app: AppIndex,
    id: SocketId,
    decoder: Decoder,
    /// When the peer was last heard.
    heard: Instant,
    /// When the ping that is unanswered was sent.
    pinged: Option<Instant>,
    /// It once sent a control frame, so it is pinged by one.
    speaks_control: bool,
    window: Window,
}

/// What a message is judged by, beside its app.
struct Around<'a> {
    memberships: &'a dyn Memberships,
    is_over_full: bool,
}

/// The rate limit's fixed window.
#[derive(Debug, Default)]
struct Window {
    ends: Option<Instant>,
    count: u32,
}

/// How long an unanswered ping is waited for at least.
const PONG_WAIT_MIN: Duration = Duration::from_secs(5);

/// What a socket hears whose app does not exist, at the door or after a reload.
pub(super) const APP_UNKNOWN: (u16, &str) = (4001, "Application does not exist");
const UNAUTHORISED: (u16, &str) = (4009, "Connection is unauthorized");
const INVALID: (u16, &str) = (4200, "Invalid message format");
const NOT_A_MEMBER: (u16, &str) = (4009, "The client is not a member of the specified channel.");
const WHISPERS_OFF: (u16, &str) = (4301, "The app does not have client messaging enabled.");
const RATE_LIMITED: (u16, &str) = (4301, "Rate limit exceeded");
const PRUNED: (u16, &str) = (4201, "Pong reply not received in time");
const OVERLOADED: (u16, &str) = (4301, "Server is overloaded");

impl WebSocketPhase {
    pub(super) fn new(app: AppIndex, id: SocketId, now: Instant) -> Self {
        Self {
            app,
            id,
            decoder: Decoder::default(),
            heard: now,
            pinged: None,
            speaks_control: false,
            window: Window::default(),
        }
    }

    pub(super) fn into_decoder(self) -> Decoder {
        self.decoder
    }

    pub(super) fn handle_bytes(
        &mut self,
        input: &mut [u8],
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> (usize, Next) {
        let apps = context.apps;
        let Some(app) = apps.get(self.app) else {
            let next = send_away(APP_UNKNOWN, Counter::AppGone, effects);
            return (input.len(), next);
        };
        let mut decoder = std::mem::take(&mut self.decoder);
        let (taken, item) = decoder.decode(input, app.settings.max_message_size);
        let next = match item {
            Ok(None) => Next::Stay,
            Ok(Some(incoming)) => self.handle_incoming(&incoming, app, context, effects),
            Err(violation) => {
                effects.count(Counter::FrameViolation);
                close_with((violation.code, violation.reason), effects);
                Next::EndWebSocket
            }
        };
        if taken == input.len() {
            // Frees what a message that came in pieces was gathered in.
            let _ = decoder.decode(&mut [], app.settings.max_message_size);
        }
        self.decoder = decoder;
        (taken, next)
    }

    fn handle_incoming(
        &mut self,
        incoming: &Incoming<'_>,
        app: &App,
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> Next {
        self.heard = context.now.instant;
        self.pinged = None;
        match *incoming {
            Incoming::Message { payload, .. } => {
                return self.handle_message(payload, app, context, effects);
            }
            Incoming::Ping(payload) => {
                trace::line("Control Frame Received", &self.id);
                self.speaks_control = true;
                effects.send(|out| frame::pong(out, payload));
            }
            Incoming::Pong(_) => {
                trace::line("Control Frame Received", &self.id);
                self.speaks_control = true;
            }
            Incoming::Close { code, reason } => {
                trace::line("Control Frame Received", &self.id);
                effects.send(|out| match code {
                    Some(_) => frame::close(out, code, reason),
                    None => frame::close(out, Some(1000), b""),
                });
                effects.list.push(Effect::Finish);
                return Next::End;
            }
        }
        Next::Stay
    }

    fn handle_message(
        &mut self,
        payload: &[u8],
        app: &App,
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> Next {
        trace::line_with_body("Message Received", &self.id, payload);
        if let Some(limit) = app.settings.rate_limit
            && !self.window.admits(limit, context.now.instant)
        {
            effects.count(Counter::RateLimited);
            say_error(RATE_LIMITED, effects);
            if limit.terminate {
                close_with((4100, RATE_LIMITED.1), effects);
                return Next::EndWebSocket;
            }
            return Next::Stay;
        }
        // The message borrows from the context, so that is no longer to be had whole.
        let around = Around {
            memberships: context.memberships,
            is_over_full: context.pressure.over_full,
        };
        match event::parse(payload, context.scratch) {
            Ok(message) => {
                self.handle_client_message(message, app, &around, effects);
                trace::line("Message Handled", &self.id);
            }
            Err(_) => say_error(INVALID, effects),
        }
        Next::Stay
    }

    fn handle_client_message(
        &mut self,
        message: ClientMessage<'_>,
        app: &App,
        around: &Around<'_>,
        effects: &mut Effects,
    ) {
        match message {
            ClientMessage::Ping => effects.send(|out| frame::text(out, event::pong)),
            ClientMessage::Pong | ClientMessage::Ignored => {}
            ClientMessage::Establish => {
                let timeout_s = app.settings.activity_timeout_s;
                effects.send(|out| {
                    frame::text(out, |out| {
                        event::connection_established(out, self.id, timeout_s);
                    });
                });
            }
            ClientMessage::Subscribe(subscribe) => self.subscribe(&subscribe, app, effects),
            ClientMessage::Unsubscribe { channel } => {
                let channel = channel.as_ref().into();
                effects.list.push(Effect::Unsubscribe { channel });
            }
            ClientMessage::Whisper(whisper) => self.whisper(&whisper, app, around, effects),
        }
    }

    fn subscribe(&self, subscribe: &Subscribe<'_>, app: &App, effects: &mut Effects) {
        let channel = subscribe.channel.as_ref();
        let kind = ChannelKind::of(channel);
        let channel_data = subscribe.channel_data.as_deref();
        let auth = subscribe.auth.as_deref();
        let authorised = !kind.is_authorised()
            || auth::channel_is_authorised(app, self.id, channel, auth, channel_data);
        if channel.is_empty() || !authorised {
            return say_error(UNAUTHORISED, effects);
        }
        let Ok(member) = Member::parse(channel_data) else {
            return say_error(INVALID, effects);
        };
        if kind.is_presence() || kind.is_cache() {
            effects.list.push(Effect::Join {
                channel: channel.into(),
                member,
            });
            return;
        }
        frame::text(&mut effects.bytes, |out| {
            event::subscription_succeeded(out, channel);
        });
        effects.list.push(Effect::Subscribe {
            channel: channel.into(),
            user_id: member.user_id,
            end: effects.bytes.len(),
        });
    }

    fn whisper(
        &self,
        whisper: &Whisper<'_>,
        app: &App,
        around: &Around<'_>,
        effects: &mut Effects,
    ) {
        #[cfg(feature = "planted-panic")]
        assert!(whisper.event != "\"client-panic-now\"", "planted");
        let deliveries = match app.settings.client_events {
            ClientEvents::None => return say_error(WHISPERS_OFF, effects),
            ClientEvents::Members => {
                let channel = whisper.channel.as_ref();
                let Some(user_id) = around.memberships.membership(channel) else {
                    return say_error(NOT_A_MEMBER, effects);
                };
                let frame = frame::text_frame(|out| event::whisper(out, whisper, channel, user_id));
                vec![Delivery {
                    channel: channel.into(),
                    except: Some(self.id),
                    frame,
                    is_kept: false,
                }]
            }
            ClientEvents::All => self.whole_whisper(whisper, around),
        };
        if around.is_over_full {
            effects.count(Counter::WhisperOverloaded);
            return say_error(OVERLOADED, effects);
        }
        let broadcast = Broadcast {
            app: self.app,
            deliveries,
            is_one_event: false,
        };
        effects.list.push(Effect::Publish {
            broadcast,
            answer: false,
            question: None,
        });
    }

    /// One delivery per channel the message names; a forged `user_id` gives way to the sender's
    /// own.
    fn whole_whisper(&self, whisper: &Whisper<'_>, around: &Around<'_>) -> Vec<Delivery> {
        let deliver = |channel: &str| {
            let user_id = around.memberships.membership(channel).flatten();
            let frame =
                frame::text_frame(|out| event::whisper_whole(out, whisper, channel, user_id));
            Delivery {
                channel: channel.into(),
                except: Some(self.id),
                frame,
                is_kept: false,
            }
        };
        match &whisper.channels {
            Some(channels) => channels.iter().map(|channel| deliver(channel)).collect(),
            None => vec![deliver(&whisper.channel)],
        }
    }

    pub(super) fn deadline(&self, apps: &Apps) -> Instant {
        let interval = apps.get(self.app).map_or(Duration::ZERO, ping_interval);
        match self.pinged {
            None => self.heard + interval,
            Some(pinged) => pinged + interval.max(PONG_WAIT_MIN),
        }
    }

    /// Pings a silent peer; prunes one that stayed silent.
    pub(super) fn handle_deadline(
        &mut self,
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> Next {
        if context.apps.get(self.app).is_none() {
            return send_away(APP_UNKNOWN, Counter::AppGone, effects);
        }
        if self.deadline(context.apps) > context.now.instant {
            return Next::Stay;
        }
        if self.pinged.is_some() {
            trace::line("Connection Pruned", &self.id);
            return send_away(PRUNED, Counter::Pruned, effects);
        }
        trace::line("Connection Pinged", &self.id);
        self.pinged = Some(context.now.instant);
        if self.speaks_control {
            effects.send(|out| frame::ping(out, b""));
        } else {
            effects.send(|out| frame::text(out, event::ping));
        }
        Next::Stay
    }
}

fn ping_interval(app: &App) -> Duration {
    Duration::from_secs(u64::from(app.settings.ping_interval_s))
}

impl Window {
    fn admits(&mut self, limit: RateLimit, now: Instant) -> bool {
        if self.ends.is_none_or(|ends| now >= ends) {
            self.ends = Some(now + Duration::from_secs(u64::from(limit.decay_s)));
            self.count = 0;
        }
        if self.count >= limit.max_attempts {
            return false;
        }
        self.count += 1;
        true
    }
}

fn say_error(error: (u16, &str), effects: &mut Effects) {
    effects.count(Counter::MessageRefused);
    send_error(error, effects);
}
