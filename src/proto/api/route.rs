//! Path and method → what is called. It knows nothing of signatures or bodies.

use std::borrow::Cow;

use crate::proto::api::ApiSettings;
use crate::proto::percent;

/// What a request asks for. Names stand in it percent-decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/app/{key}`: the WebSocket endpoint.
    App {
        /// The app's key.
        key: &'a str,
    },
    /// `/up`
    Up,
    /// The demo page's path `/` (the session answers 404 unless `--demo`).
    Root,
    /// `/apps/{id}/…`: the signed calls.
    Api {
        /// The app's id.
        app_id: &'a str,
        /// Which of them.
        call: Call<'a>,
    },
    /// The path is known, the method is not: 405.
    MethodNotAllowed {
        /// For the `Allow` header.
        allow: &'static str,
    },
    /// 404
    NotFound,
}

/// A call of an app's API: what stands behind `/apps/{id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    /// `POST /events`
    Events,
    /// `POST /batch_events`
    BatchEvents,
    /// `GET /connections`
    Connections,
    /// `GET /channels`
    Channels,
    /// `GET /channels/{channel}`
    Channel(&'a str),
    /// `GET /channels/{channel}/users`
    Users(&'a str),
    /// `POST /users/{user}/terminate_connections`
    TerminateConnections(&'a str),
}

impl Call<'_> {
    /// Does it bring events in?
    pub fn publishes(self) -> bool {
        matches!(self, Self::Events | Self::BatchEvents)
    }
}

const GET: &str = "GET";
const POST: &str = "POST";

/// The path as it is matched: percent-decoded whole, so that a name cannot hold a slash
/// . `None` if that is not UTF-8: nothing has such a path.
pub fn decoded_path(path: &str) -> Option<Cow<'_, str>> {
    match percent::decoded(path, b'+') {
        Cow::Borrowed(_) => Some(Cow::Borrowed(path)),
        Cow::Owned(path) => String::from_utf8(path).ok().map(Cow::Owned),
    }
}

/// Method and decoded path → route (R-015, R-017, R-020, R-159..R-163). HEAD acts as GET; methods
/// are told apart in any case.
pub fn route<'a>(method: &str, path: &'a str, settings: &ApiSettings) -> Route<'a> {
    let Some(path) = path
        .strip_prefix(settings.path_prefix.as_str())
        .and_then(|path| path.strip_prefix('/'))
    else {
        return Route::NotFound;
    };
    let mut segments = path.split('/');
    let segments: [_; SEGMENTS_MAX + 1] = std::array::from_fn(|_| segments.next());
    if segments.iter().skip(1).any(|segment| *segment == Some("")) {
        return Route::NotFound;
    }
    let (found, allow) = match segments {
        [Some(""), None, ..] => (Route::Root, GET),
        [Some("up"), None, ..] => (Route::Up, GET),
        [Some("app"), Some(key), None, ..] => (Route::App { key }, GET),
        [Some("apps"), Some(app_id), call @ ..] => match call_of(call) {
            Some((call, allow)) => (Route::Api { app_id, call }, allow),
            None => return Route::NotFound,
        },
        _ => return Route::NotFound,
    };
    let is_head = allow == GET && method.eq_ignore_ascii_case("HEAD");
    match found {
        _ if is_head || method.eq_ignore_ascii_case(allow) => found,
        // Without a demo there is nothing at the root, so no method is allowed there either.
        Route::Root => Route::NotFound,
        _ => Route::MethodNotAllowed { allow },
    }
}

fn call_of(segments: [Option<&str>; 4]) -> Option<(Call<'_>, &'static str)> {
    Some(match segments {
        [Some("events"), None, ..] => (Call::Events, POST),
        [Some("batch_events"), None, ..] => (Call::BatchEvents, POST),
        [Some("connections"), None, ..] => (Call::Connections, GET),
        [Some("channels"), None, ..] => (Call::Channels, GET),
        [Some("channels"), Some(channel), None, _] => (Call::Channel(channel), GET),
        [Some("channels"), Some(channel), Some("users"), None] => (Call::Users(channel), GET),
        [
            Some("users"),
            Some(user),
            Some("terminate_connections"),
            None,
        ] => (Call::TerminateConnections(user), POST),
        _ => return None,
    })
}

/// No path has more segments.
const SEGMENTS_MAX: usize = 5;

#[cfg(test)]
mod tests;
