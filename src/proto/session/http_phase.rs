//! A connection while it speaks HTTP: API calls, `/up`, and the upgrade that ends this phase.
//!
//! Called by the session; says what it wants by effects and never waits itself.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use super::{
    BODY_WAIT, Context, Effect, Effects, HEAD_WAIT, KEEP_ALIVE_WAIT, Next, Refused, Reply,
    write_farewell,
};
use crate::app::{App, AppIndex};
use crate::broadcast::SocketId;
use crate::metrics::Counter;
use crate::proto::api::{self, Accepted, Call, Route};
use crate::proto::http::{self, Answer, Limits, Read, Reader, Request, Status};
use crate::proto::session::web_socket::{APP_UNKNOWN, WebSocketPhase};
use crate::proto::{event, frame, handshake, trace};

/// Reads requests and answers them, one at a time.
#[derive(Debug)]
pub(super) struct HttpPhase {
    reader: Reader,
    /// When the head or body that is awaited must be there; `None` while a request is answered.
    due: Option<Instant>,
    /// The call that waits for its reply.
    pending: Option<Pending>,
}

/// An accepted call.
#[derive(Debug)]
struct Pending {
    manner: Manner,
    /// What to answer once its events are taken, if that is all it waits for: JSON.
    taken: &'static str,
}

/// How an answer goes out, as its request wants it.
#[derive(Debug, Clone, Copy)]
struct Manner {
    keep_alive: bool,
    head_only: bool,
}

impl Manner {
    fn of(request: &Request<'_>) -> Self {
        Self {
            keep_alive: request.keep_alive,
            head_only: request.is_method("HEAD"),
        }
    }
}

/// The body of a 503 to a call that cannot be taken now.
const UNAVAILABLE: &str = "Service unavailable.";

impl HttpPhase {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            reader: Reader::default(),
            due: Some(now + HEAD_WAIT),
            pending: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_none() && self.reader.is_idle()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn handle_bytes(
        &mut self,
        input: &mut [u8],
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> (usize, Next) {
        let limits = Limits {
            max_request_size: context.settings.max_request_size,
        };
        let (was_idle, had_head) = (self.reader.is_idle(), self.reader.head_is_read());
        // The reader is taken out so that the request it lends does not hold all of `self`.
        let mut reader = std::mem::take(&mut self.reader);
        let read = reader.read(input, &limits);
        let is_request = matches!(read, Read::Request { .. });
        let (taken, next) = match read {
            Read::Incomplete => (input.len(), Next::Stay),
            Read::Continue { consumed } => {
                effects.send(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
                (consumed, Next::Stay)
            }
            Read::Request { consumed, request } => {
                (consumed, self.handle_request(&request, context, effects))
            }
            Read::Refused { status } => (input.len(), Self::refuse(status, context, effects)),
        };
        if taken == input.len() {
            // Frees what a request that came in pieces was gathered in.
            reader.read(&[], &limits);
        }
        self.reader = reader;
        if matches!(next, Next::Stay) {
            if is_request {
                self.due = Some(context.now.instant + KEEP_ALIVE_WAIT);
            }
            self.set_due(was_idle, had_head, context.now.instant);
        }
        (taken, next)
    }

    /// The 10 s of a head run from its first byte, and 75 s for a body from the end of its head
    /// (R-169); none while a request is being answered. Empty lines before a head gain no time.
    fn set_due(&mut self, was_idle: bool, had_head: bool, now: Instant) {
        if self.pending.is_some() {
            self.due = None;
        } else if self.reader.head_is_read() {
            if !had_head {
                self.due = Some(now + BODY_WAIT);
            }
        } else if was_idle && !self.reader.is_idle() {
            let head_due = now + HEAD_WAIT;
            self.due = Some(self.due.map_or(head_due, |due| due.min(head_due)));
        }
    }

    pub(super) fn handle_reply(
        &mut self,
        reply: Reply,
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> Next {
        let Some(Pending { manner, taken }) = self.pending.take() else {
            return Next::Stay;
        };
        self.due = Some(context.now.instant + KEEP_ALIVE_WAIT);
        let answer = match reply {
            Reply::Taken => api::Answer::json(200, taken),
            Reply::Overloaded => api::Answer::text(503, UNAVAILABLE),
            Reply::Known { question, facts } => api::answer(&question, facts),
        };
        effects.count(match answer.status {
            200 => Counter::ApiAnswered,
            503 => Counter::ApiOverloaded,
            _ => Counter::ApiRefused,
        });
        answer_with(&shaped(&answer, manner), context, effects)
    }

    pub(super) fn handle_deadline(
        &mut self,
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> Next {
        if self.due.is_none_or(|due| due > context.now.instant) {
            return Next::Stay;
        }
        self.due = None;
        effects.count(Counter::HttpTimeout);
        effects.list.push(Effect::Finish);
        Next::End
    }

    /// The request could not be read to its end, so nothing behind it can be either.
    fn refuse(status: Status, context: &Context<'_>, effects: &mut Effects) -> Next {
        let (code, body) = (status.code(), status.text());
        refuse_call(effects, refused(code, "", "", body, 0));
        let manner = Manner {
            keep_alive: false,
            head_only: false,
        };
        let answer = text(code, body.as_bytes(), manner);
        answer_with(&answer, context, effects)
    }

    fn handle_request(
        &mut self,
        request: &Request<'_>,
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> Next {
        let (manner, size) = (Manner::of(request), request.body.len());
        let path = api::decoded_path(request.path);
        let route = path.as_deref().map_or(Route::NotFound, |path| {
            api::route(request.method, path, &context.settings.api)
        });
        match route {
            Route::App { key } => upgrade(request, key, context, effects),
            Route::Api { app_id, call } => self.call(request, app_id, call, context, effects),
            Route::Up if context.pressure.leaving => {
                let answer = json(503, br#"{"health":"LEAVING"}"#, manner);
                answer_with(&answer, context, effects)
            }
            Route::Up if request.query == "verbose" => {
                let body = context.settings.redis.verbose(context.now.instant);
                answer_with(&json(200, body.as_bytes(), manner), context, effects)
            }
            Route::Up => {
                let answer = json(200, br#"{"health":"OK"}"#, manner);
                answer_with(&answer, context, effects)
            }
            Route::Root if context.settings.demo_page.is_some() => {
                let settings = context.settings;
                let page = settings.demo_page.as_deref().unwrap_or_default();
                let mut answer = text(200, page.as_bytes(), manner);
                answer.content_type = "text/html; charset=utf-8";
                answer_with(&answer, context, effects)
            }
            Route::Root | Route::NotFound => {
                let body = "Not found.";
                refuse_call(effects, refused(404, "", request.path, body, size));
                let answer = text(404, body.as_bytes(), manner);
                answer_with(&answer, context, effects)
            }
            Route::MethodNotAllowed { allow } => {
                let body = "Method not allowed.";
                refuse_call(effects, refused(405, "", request.path, body, size));
                let mut answer = text(405, body.as_bytes(), manner);
                answer.allow = Some(allow);
                answer_with(&answer, context, effects)
            }
        }
    }

    /// A signed call: it is refused at once, or it waits for the home or for the whole fleet.
    fn call(
        &mut self,
        request: &Request<'_>,
        app_id: &str,
        call: Call<'_>,
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> Next {
        let (manner, size) = (Manner::of(request), request.body.len());
        if call.publishes() && context.pressure.over_full {
            effects.count(Counter::ApiOverloaded);
            let why = "rings are over-full";
            let refused = refused(503, app_id, request.path, why, size);
            effects.list.push(Effect::Refused(refused));
            let answer = text(503, UNAVAILABLE.as_bytes(), manner);
            return answer_with(&answer, context, effects);
        }
        let (now, known) = (context.now, (&context.settings.api, context.apps));
        let (effect, taken) = match api::handle(request, app_id, call, known, now, context.scratch)
        {
            Ok(Accepted::Publish {
                broadcast,
                question,
                taken,
            }) => {
                let question = question.map(Arc::new);
                let publish = Effect::Publish {
                    broadcast,
                    answer: true,
                    question,
                };
                (publish, taken)
            }
            Ok(Accepted::Ask { app, question }) => {
                let question = Arc::new(question);
                (Effect::Ask { app, question }, "")
            }
            Err(api::Refusal { answer, why }) => {
                let status = answer.status;
                refuse_call(effects, refused(status, app_id, request.path, &why, size));
                return answer_with(&shaped(&answer, manner), context, effects);
            }
        };
        self.pending = Some(Pending { manner, taken });
        effects.list.push(effect);
        Next::Stay
    }
}

fn shaped(answer: &api::Answer, manner: Manner) -> Answer<'_> {
    let shape = if answer.is_json { json } else { text };
    shape(answer.status, answer.body.as_bytes(), manner)
}

fn json(status: u16, body: &[u8], manner: Manner) -> Answer<'_> {
    Answer {
        content_type: "application/json",
        ..text(status, body, manner)
    }
}

fn text(status: u16, body: &[u8], manner: Manner) -> Answer<'_> {
    Answer {
        status,
        content_type: "text/plain; charset=utf-8",
        allow: None,
        body,
        keep_alive: manner.keep_alive,
        head_only: manner.head_only,
        now_unix_s: 0,
    }
}

/// Dates the answer and sends it. During a drain every answer is its connection's last.
fn answer_with(answer: &Answer<'_>, context: &Context<'_>, effects: &mut Effects) -> Next {
    let keep_alive = answer.keep_alive && !context.pressure.draining;
    let answer = Answer {
        keep_alive,
        now_unix_s: context.now.unix_s,
        ..*answer
    };
    effects.send(|out| http::write_answer(out, &answer));
    if keep_alive {
        return Next::Stay;
    }
    effects.list.push(Effect::Finish);
    Next::End
}

fn refuse_call(effects: &mut Effects, refused: Refused) {
    effects.count(Counter::ApiRefused);
    effects.list.push(Effect::Refused(refused));
}

fn refused(code: u16, app: &str, path: &str, reason: &str, size: usize) -> Refused {
    Refused {
        code,
        app: app.to_owned(),
        path: path.to_owned(),
        reason: reason.to_owned(),
        size,
    }
}

/// Answers a request for `/app/{key}`: the handshake, then the door (R-001 to R-034).
fn upgrade(
    request: &Request<'_>,
    key: &str,
    context: &mut Context<'_>,
    effects: &mut Effects,
) -> Next {
    let handshake = if handshake::is_upgrade(request) {
        handshake::check(request)
    } else {
        Err(handshake::UPGRADE_REQUIRED)
    };
    match handshake {
        Err(refusal) => {
            effects.count(Counter::RefusedHandshake);
            let refused = refused(refusal.status, key, request.path, &refusal.reason, 0);
            effects.list.push(Effect::Refused(refused));
            effects.send(|out| handshake::write_refusal(out, &refusal));
            effects.list.push(Effect::Finish);
            Next::End
        }
        Ok(accept) => {
            handshake::write_accept(&mut effects.bytes, &accept);
            match admit(request, key, context) {
                Ok((index, app)) => {
                    let id = SocketId::draw(context.random);
                    let timeout_s = app.settings.activity_timeout_s;
                    trace::line("Connection Established", &id);
                    effects.list.push(Effect::Established { app: index, id });
                    effects.count(Counter::Established);
                    effects.send(|out| {
                        frame::text(out, |out| event::connection_established(out, id, timeout_s));
                    });
                    Next::WebSocket(WebSocketPhase::new(index, id, context.now.instant))
                }
                Err(door) => {
                    let ((code, reason), counter) = door.texts();
                    let refused = refused(code, key, request.path, reason, 0);
                    effects.list.push(Effect::Refused(refused));
                    effects.count(counter);
                    effects.send(|out| out.extend_from_slice(door.farewell()));
                    effects.list.push(Effect::Close);
                    Next::EndWebSocket
                }
            }
        }
    }
}

/// Why a WebSocket is turned away at the door: the event, then Close with the same code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    AppUnknown,
    AppFull,
    OriginForeign,
    NodeFull,
    Draining,
    TooFast,
}

impl Door {
    /// In the order of their numbers.
    const ALL: [Self; 6] = [
        Self::AppUnknown,
        Self::AppFull,
        Self::OriginForeign,
        Self::NodeFull,
        Self::Draining,
        Self::TooFast,
    ];

    /// Close code and text, and counter. Of the codes only 4100 lets pusher-js come back by itself.
    const fn texts(self) -> ((u16, &'static str), Counter) {
        match self {
            Self::AppUnknown => (APP_UNKNOWN, Counter::RefusedAppUnknown),
            Self::AppFull => (
                (4004, "Application is over connection quota"),
                Counter::RefusedQuota,
            ),
            Self::OriginForeign => ((4009, "Origin not allowed"), Counter::RefusedOrigin),
            Self::NodeFull => ((4100, "Server is over capacity"), Counter::RefusedNodeFull),
            Self::Draining => ((4100, "Server is restarting"), Counter::RefusedDraining),
            Self::TooFast => ((4100, "Too many new connections"), Counter::RefusedTooFast),
        }
    }

    /// The event and the Close frame.
    fn farewell(self) -> &'static [u8] {
        FAREWELLS.get(self as usize).map_or(&[], Vec::as_slice)
    }
}

/// What is said at each door, by its number. Written once: in a storm it is said to thousands.
static FAREWELLS: LazyLock<[Vec<u8>; Door::ALL.len()]> = LazyLock::new(|| {
    Door::ALL.map(|door| {
        let mut bytes = Vec::new();
        write_farewell(&mut bytes, door.texts().0);
        bytes
    })
});

/// Checks in Reverb's order: app, quota, origin (R-031). Takes a place of the quota.
///
/// The turnstile comes last: who may never come in is to hear that, and takes nobody's turn.
fn admit<'a>(
    request: &Request<'_>,
    key: &str,
    context: &mut Context<'a>,
) -> Result<(AppIndex, &'a App), Door> {
    if context.pressure.draining {
        return Err(Door::Draining);
    }
    let apps = context.apps;
    let index = apps.by_key(key).ok_or(Door::AppUnknown)?;
    let app = apps.get(index).ok_or(Door::AppUnknown)?;
    if context.pressure.node_full {
        return Err(Door::NodeFull);
    }
    if !app.admit() {
        return Err(Door::AppFull);
    }
    let door = if !app.origin_allowed(request.headers.first_str("origin")) {
        Door::OriginForeign
    } else if !context.turnstile.admit(context.now.instant) {
        Door::TooFast
    } else {
        return Ok((index, app));
    };
    app.release();
    Err(door)
}

#[cfg(test)]
mod tests;
