//! HTTP API calls: route, verify, read, and write what is answered.
//!
//! Called by the session with a whole request; it decides, the session executes the outcome. It
//! neither publishes nor asks the fleet nor writes to a connection.

mod answer;
mod batch;
mod event;
mod question;
mod route;
mod validation;

use crate::app::{AppIndex, Apps};
use crate::broadcast::Broadcast;
use crate::proto::Now;
use crate::proto::auth::query::Query;
use crate::proto::auth::{self, ApiRefusal};
use crate::proto::event::Scratch;
use crate::proto::http::{Request, Status};

pub use answer::{Answer, answer, write_info};
pub use question::{Facts, Info, Occupied, Question, Word};
pub use route::{Call, Route, decoded_path, route};

/// Server-wide facts an API call depends on.
#[derive(Debug, Clone, Default)]
pub struct ApiSettings {
    /// Normalised: `""` or `/ws`.
    pub path_prefix: String,
    /// Seconds an `auth_timestamp` may be off; 0 = any.
    pub timestamp_tolerance_s: u64,
    /// What one call may publish at most, bytes; more could not be kept for other nodes.
    pub publish_bytes_max: Option<usize>,
}

/// What an accepted call asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Publish.
    Publish {
        /// Everything that is published.
        broadcast: Broadcast,
        /// To be asked once the home has taken it.
        question: Option<Question>,
        /// What to answer once the home has taken it, if nothing is asked: JSON.
        taken: &'static str,
    },
    /// Ask the fleet, then [`answer`].
    Ask {
        /// The caller's app.
        app: AppIndex,
        /// What is asked.
        question: Question,
    },
}

/// A call that is refused at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What to answer.
    pub answer: Answer,
    /// Why, for the log; never a secret.
    pub why: String,
}

impl Refusal {
    fn bad_request(why: &str) -> Self {
        Self::new(Status::BadRequest, why)
    }

    fn too_large(why: &str) -> Self {
        Self::new(Status::PayloadTooLarge, why)
    }

    fn new(answer: impl Into<Answer>, why: impl Into<String>) -> Self {
        Self {
            answer: answer.into(),
            why: why.into(),
        }
    }
}

/// A call of the API (R-174..R-225). App, then signature, then body, as Reverb does.
pub fn handle(
    request: &Request<'_>,
    app_id: &str,
    call: Call<'_>,
    (settings, apps): (&ApiSettings, &Apps),
    now: Now,
    scratch: &mut Scratch,
) -> Result<Accepted, Refusal> {
    let (app, query) = authorise(request, app_id, settings, apps, now)?;
    let question = match call {
        Call::Events => return kept(event::publish(request.body, app, scratch)?, settings),
        Call::BatchEvents => return kept(batch::publish(request.body, app, scratch)?, settings),
        Call::Connections => Question::Connections,
        Call::Channels => Question::channels(&query)?,
        Call::Channel(channel) => Question::channel(channel, &query)?,
        Call::Users(channel) => Question::Users {
            channel: channel.into(),
        },
        Call::TerminateConnections(user) => Question::Terminate { user: user.into() },
    };
    Ok(Accepted::Ask { app, question })
}

/// With other nodes, what is published must fit into what is kept for those that miss it.
fn kept(accepted: Accepted, settings: &ApiSettings) -> Result<Accepted, Refusal> {
    match (&accepted, settings.publish_bytes_max) {
        (Accepted::Publish { broadcast, .. }, Some(most)) if broadcast.weight() > most => Err(
            Refusal::too_large("larger than half of SLAPBACK_BUS_REPLAY"),
        ),
        _ => Ok(accepted),
    }
}

/// Finds the app and checks the signature.
fn authorise<'a>(
    request: &Request<'a>,
    app_id: &str,
    settings: &ApiSettings,
    apps: &Apps,
    now: Now,
) -> Result<(AppIndex, Query<'a>), Refusal> {
    let found = apps
        .by_id(app_id)
        .and_then(|index| Some((index, apps.get(index)?)));
    let Some((index, app)) = found else {
        let body = format!("No matching application for ID [{app_id}].");
        return Err(Refusal::new(Answer::text(404, body), "unknown app"));
    };
    // Everything after the first occurrence of the prefix is signed, as sent.
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
        Ok(query) => return Ok((index, query)),
        Err(ApiRefusal::BadQuery) => {
            return Err(Refusal::bad_request("query has a list of lists"));
        }
        Err(ApiRefusal::SignatureMissing) => "auth_signature is missing".to_owned(),
        Err(ApiRefusal::SignatureWrong) => "auth_signature does not match".to_owned(),
        Err(ApiRefusal::KeyWrong) => "auth_key is not the app's key".to_owned(),
        Err(ApiRefusal::TimestampSkewed { skew_s }) => {
            let tolerance_s = settings.timestamp_tolerance_s;
            format!("auth_timestamp is {skew_s} s off, {tolerance_s} s are tolerated")
        }
        Err(ApiRefusal::TimestampInvalid) => "auth_timestamp is not a number".to_owned(),
    };
    let answer = Answer::text(401, "Authentication signature invalid.");
    Err(Refusal::new(answer, why))
}

#[cfg(test)]
mod tests;
