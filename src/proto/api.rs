//! HTTP API calls: route, verify, parse, answer as JSON.
//!
//! Called by the session with a whole request; it decides, the session executes the outcome. It
//! neither publishes nor writes to a connection.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::app::{AppIndex, Apps};
use crate::broadcast::{Broadcast, Delivery, SocketId};
use crate::proto::Now;
use crate::proto::auth::{self, ApiRefusal};
use crate::proto::channel::ChannelKind;
use crate::proto::event::{self, Scratch};
use crate::proto::frame;
use crate::proto::http::Request;
use crate::proto::json::{self, Malformed, Value, Workspace};
use crate::proto::percent;

/// Server-wide facts an API call depends on.
#[derive(Debug, Clone, Default)]
pub struct ApiSettings {
    /// Normalised: `""` or `/ws`.
    pub path_prefix: String,
    /// Seconds an `auth_timestamp` may be off; 0 = any.
    pub timestamp_tolerance_s: u64,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/app/{key}`: the WebSocket endpoint.
    App {
        /// Percent-decoded.
        key: Cow<'a, str>,
    },
    /// `/up`
    Up,
    /// The demo page's path `/` (the session answers 404 unless `--demo`).
    Root,
    /// `/apps/{id}/events`
    Events {
        /// Percent-decoded.
        app_id: Cow<'a, str>,
    },
    /// The path is known, the method is not: 405.
    MethodNotAllowed {
        /// For the `Allow` header.
        allow: &'static str,
    },
    /// 404
    NotFound,
}

/// Path and method → route (R-015, R-017, R-018, R-020, R-159..R-163). The path is
/// percent-decoded before matching; HEAD acts as GET; methods are told apart in any case.
pub fn route<'a>(request: &Request<'a>, settings: &ApiSettings) -> Route<'a> {
    let prefix = settings.path_prefix.as_str();
    match percent::decoded(request.path, b'+') {
        Cow::Borrowed(_) => route_of(request.method, request.path, prefix),
        Cow::Owned(path) => match std::str::from_utf8(&path) {
            Ok(path) => route_of(request.method, path, prefix).into_owned(),
            Err(_) => Route::NotFound,
        },
    }
}

fn route_of<'a>(method: &str, path: &'a str, prefix: &str) -> Route<'a> {
    let Some(path) = path
        .strip_prefix(prefix)
        .and_then(|path| path.strip_prefix('/'))
    else {
        return Route::NotFound;
    };
    let is_get = method.eq_ignore_ascii_case("GET") || method.eq_ignore_ascii_case("HEAD");
    let is_post = method.eq_ignore_ascii_case("POST");
    let mut segments = path.split('/');
    let segments = [
        segments.next(),
        segments.next(),
        segments.next(),
        segments.next(),
    ];
    let (found, is_allowed, allow) = match segments {
        [Some(""), None, ..] => (Route::Root, is_get, "GET"),
        [Some("up"), None, ..] => (Route::Up, is_get, "GET"),
        [Some("app"), Some(key), None, _] if !key.is_empty() => (
            Route::App {
                key: Cow::Borrowed(key),
            },
            is_get,
            "GET",
        ),
        [Some("apps"), Some(id), Some("events"), None] if !id.is_empty() => (
            Route::Events {
                app_id: Cow::Borrowed(id),
            },
            is_post,
            "POST",
        ),
        _ => return Route::NotFound,
    };
    match found {
        _ if is_allowed => found,
        // Without a demo there is nothing at the root, so no method is allowed there either.
        Route::Root => Route::NotFound,
        _ => Route::MethodNotAllowed { allow },
    }
}

impl Route<'_> {
    fn into_owned<'b>(self) -> Route<'b> {
        match self {
            Self::App { key } => Route::App {
                key: Cow::Owned(key.into_owned()),
            },
            Self::Events { app_id } => Route::Events {
                app_id: Cow::Owned(app_id.into_owned()),
            },
            Self::Up => Route::Up,
            Self::Root => Route::Root,
            Self::MethodNotAllowed { allow } => Route::MethodNotAllowed { allow },
            Self::NotFound => Route::NotFound,
        }
    }
}

/// What an API call comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Publish, then answer 200 `{}` once the home has taken it.
    Publish(Broadcast),
    /// Answer at once.
    Answer {
        /// HTTP status.
        status: u16,
        /// Its reason phrase.
        reason: &'static str,
        /// The body is JSON; else `text/plain; charset=utf-8`.
        json: bool,
        /// The body.
        body: String,
        /// Why the call is refused, for the log; never a secret.
        why: String,
    },
}

/// `POST /apps/{id}/events` (R-164..R-201). App, then signature, then body, as Reverb does.
pub fn handle_events(
    request: &Request<'_>,
    app_id: &str,
    settings: &ApiSettings,
    apps: &Apps,
    now: Now,
    scratch: &mut Scratch,
) -> Outcome {
    let index = match authorise(request, app_id, settings, apps, now) {
        Ok(index) => index,
        Err(refused) => return refused,
    };
    let Ok(body) = std::str::from_utf8(request.body) else {
        return bad_request("body not UTF-8");
    };
    let mut event = EventBody::default();
    let Scratch { outer, inner } = scratch;
    match json::visit(body, outer, |child| event.note(child.key, child.value)) {
        Ok(Value::Object { .. } | Value::List { .. }) => {}
        Ok(_) => return bad_request("body is neither a JSON object nor a list"),
        Err(Malformed) => return bad_request("body is not JSON"),
    }
    match event.published(inner) {
        Ok(published) => Outcome::Publish(Broadcast {
            app: index,
            except: published.except,
            deliveries: published.deliveries,
        }),
        Err(Unpublished::Invalid(errors)) => Outcome::Answer {
            status: 422,
            reason: "Unprocessable Content",
            json: true,
            why: errors.0.clone(),
            body: errors.into_json(),
        },
        Err(Unpublished::TooLarge) => text(
            413,
            "Request Entity Too Large",
            "Payload too large.".to_owned(),
            "the frames of all its channels together are too large",
        ),
    }
}

/// Finds the app and checks the signature.
fn authorise(
    request: &Request<'_>,
    app_id: &str,
    settings: &ApiSettings,
    apps: &Apps,
    now: Now,
) -> Result<AppIndex, Outcome> {
    let found = apps
        .by_id(app_id)
        .and_then(|index| Some((index, apps.get(index)?)));
    let Some((index, app)) = found else {
        let body = format!("No matching application for ID [{app_id}].");
        return Err(text(404, "Not Found", body, "unknown app"));
    };
    // Everything after the first occurrence of the prefix is signed, as sent (R-184, R-185).
    let prefix = settings.path_prefix.as_str();
    let path = request
        .path
        .split_once(prefix)
        .map_or(request.path, |(_, rest)| rest);
    let checked = auth::check_api_call(
        app,
        request.method,
        path,
        request.query,
        request.body,
        now.unix_s,
        settings.timestamp_tolerance_s,
    );
    let why = match checked {
        Ok(()) => return Ok(index),
        Err(ApiRefusal::BadQuery) => return Err(bad_request("query has a list of lists")),
        Err(ApiRefusal::SignatureMissing) => "auth_signature is missing".to_owned(),
        Err(ApiRefusal::SignatureWrong) => "auth_signature does not match".to_owned(),
        Err(ApiRefusal::KeyWrong) => "auth_key is not the app's key".to_owned(),
        Err(ApiRefusal::TimestampSkewed { skew_s }) => {
            let tolerance_s = settings.timestamp_tolerance_s;
            format!("auth_timestamp is {skew_s} s off, {tolerance_s} s are tolerated")
        }
        Err(ApiRefusal::TimestampInvalid) => "auth_timestamp is not a number".to_owned(),
    };
    let body = "Authentication signature invalid.".to_owned();
    Err(text(401, "Unauthorized", body, &why))
}

fn bad_request(why: &str) -> Outcome {
    text(400, "Bad Request", "Bad request.".to_owned(), why)
}

fn text(status: u16, reason: &'static str, body: String, why: &str) -> Outcome {
    Outcome::Answer {
        status,
        reason,
        json: false,
        body,
        why: why.to_owned(),
    }
}

/// The members of an event's body that mean something.
#[derive(Default)]
struct EventBody<'a> {
    name: Option<Value<'a>>,
    data: Option<Value<'a>>,
    channels: Option<Value<'a>>,
    channel: Option<Value<'a>>,
    socket_id: Option<Value<'a>>,
    info: Option<Value<'a>>,
}

/// What an event's body asks to publish.
struct Published {
    except: Option<SocketId>,
    deliveries: Vec<Delivery>,
}

/// Why an event is not published.
enum Unpublished {
    Invalid(Errors),
    TooLarge,
}

impl From<Errors> for Unpublished {
    fn from(errors: Errors) -> Self {
        Self::Invalid(errors)
    }
}

/// Frames of one event, all its channels together, bytes: one request of many channels and much
/// data must not multiply into more than a turn log holds.
const FRAMES_BYTES_MAX: usize = 256 << 20;

impl<'a> EventBody<'a> {
    fn note(&mut self, key: Option<&str>, value: Value<'a>) {
        let place = match key {
            Some("name") => &mut self.name,
            Some("data") => &mut self.data,
            Some("channels") => &mut self.channels,
            Some("channel") => &mut self.channel,
            Some("socket_id") => &mut self.socket_id,
            Some("info") => &mut self.info,
            _ => return,
        };
        *place = Some(value);
    }

    /// Laravel's rules in Reverb's order (R-193), then one delivery per channel named.
    fn published(&self, inner: &'a mut Workspace) -> Result<Published, Unpublished> {
        let mut errors = Errors::default();
        for (field, value) in [("name", self.name), ("data", self.data)] {
            if is_missing(value) {
                errors.push(field, "is required");
            } else if !is_text(value) {
                errors.push(field, "must be a string");
            }
        }
        self.check_channels(&mut errors);
        for (field, value) in [("socket_id", self.socket_id), ("info", self.info)] {
            if value.is_some() && !is_text(value) {
                errors.push(field, "must be a string");
            }
        }
        let (Some(Value::Text { text: name, .. }), Some(Value::Text { text: data, .. })) =
            (self.name, self.data)
        else {
            return Err(errors.into());
        };
        if !errors.0.is_empty() {
            return Err(errors.into());
        }
        let channels = self.channel_names(inner)?;
        if channels.len().saturating_mul(name.len() + data.len()) > FRAMES_BYTES_MAX {
            return Err(Unpublished::TooLarge);
        }
        let deliveries = channels
            .into_iter()
            .map(|channel| Delivery {
                frame: frame::text_frame(|out| event::api_event(out, name, data, &channel)),
                is_kept: ChannelKind::of(&channel).keeps(name),
                channel: channel.into(),
            })
            .collect();
        let except = match self.socket_id {
            Some(Value::Text { text, .. }) => SocketId::parse(text),
            _ => None,
        };
        Ok(Published { except, deliveries })
    }

    /// One of the two is required; each is checked for its type only if it is not blank.
    fn check_channels(&self, errors: &mut Errors) {
        let (lacks_list, lacks_one) = (is_missing(self.channels), is_missing(self.channel));
        if lacks_list && lacks_one {
            errors.push("channels", "is required when channel is not present");
            errors.push("channel", "is required when channels is not present");
            return;
        }
        let is_list = matches!(
            self.channels,
            Some(Value::List { .. } | Value::Object { .. })
        );
        if self.channels.is_some() && !is_list && !is_blank(self.channels) {
            errors.push("channels", "must be an array");
        }
        if self.channel.is_some() && !is_text(self.channel) {
            errors.push("channel", "must be a string");
        }
    }

    /// `channels` wins over `channel` (R-196); duplicates stay (R-197).
    fn channel_names(&self, inner: &'a mut Workspace) -> Result<Vec<Cow<'a, str>>, Errors> {
        let (Value::List { raw } | Value::Object { raw }) = self.channels.unwrap_or(Value::Null)
        else {
            let one = self.channels.or(self.channel);
            return Ok(one.and_then(Value::coerced).into_iter().collect());
        };
        let mut names = Vec::new();
        let mut errors = Errors::default();
        let mut index = 0_usize;
        // The slice is part of a document that has passed the same check.
        let _ = json::visit(raw, inner, |child| {
            match child.value.coerced() {
                Some(name) => names.push(name),
                None => errors.push(&format!("channels.{index}"), "must be a string"),
            }
            index += 1;
        });
        if errors.0.is_empty() {
            Ok(names)
        } else {
            Err(errors)
        }
    }
}

/// What Laravel's `required` calls missing: absent, null, a blank string, an empty list or object.
fn is_missing(value: Option<Value<'_>>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Text { text, .. }) => json::is_blank(text),
        Some(Value::List { raw } | Value::Object { raw }) => {
            let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or("");
            json::trimmed(inside).is_empty()
        }
        Some(Value::Bool(_) | Value::Number { .. }) => false,
    }
}

fn is_text(value: Option<Value<'_>>) -> bool {
    matches!(value, Some(Value::Text { .. }))
}

fn is_blank(value: Option<Value<'_>>) -> bool {
    matches!(value, Some(Value::Text { text, .. }) if json::is_blank(text))
}

/// Laravel's validation messages as members of a JSON object, in the order pushed. The texts are
/// ours and plain, so nothing needs an escape.
#[derive(Debug, Default)]
struct Errors(String);

impl Errors {
    fn push(&mut self, field: &str, problem: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        let spoken = field.replace('_', " ");
        // Writing to a string cannot fail.
        let _ = write!(self.0, r#""{field}":["The {spoken} field {problem}."]"#);
    }

    fn into_json(self) -> String {
        format!("{{{}}}", self.0)
    }
}

#[cfg(test)]
mod tests;
