//! A Redis as a URL, in the ways that Laravel, Reverb and Redis's own tools write it.
//!
//! Called by `config::redis::server`. What a URL leaves out, other settings say. It holds
//! passwords, so it is shown without them, and never in an error.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::server::{Host, Scheme};
use crate::config::reader::{MASK, text};
use crate::config::source::Found;

/// What a URL says.
#[derive(Default)]
pub(super) struct Url {
    pub(super) host: Option<Host>,
    pub(super) port: Option<u16>,
    pub(super) scheme: Option<Scheme>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: Option<u32>,
    masked: String,
}

/// Reads a URL.
pub(super) fn url(found: &Found<'_>) -> Result<Url, String> {
    parse(&text(found)?).ok_or_else(|| PROBLEM.to_owned())
}

fn parse(text: &str) -> Option<Url> {
    let url = url::Url::parse(text).ok()?;
    // Most likely of a password whose marks are not encoded.
    if url.fragment().is_some() || url.cannot_be_a_base() {
        return None;
    }
    let mut read = Url {
        port: url.port(),
        username: said(decoded(url.username())?),
        password: said(decoded(url.password().unwrap_or_default())?),
        masked: masked(url.clone()),
        ..Url::default()
    };
    let mut database = String::new();
    match url.scheme() {
        "unix" | "redis+unix" => {
            read.host = Some(Host::Path(PathBuf::from(decoded(url.path())?)));
        }
        scheme => {
            read.scheme = Some(Scheme::parse(scheme)?);
            let host = decoded(url.host_str().unwrap_or_default())?;
            read.host = match said(host) {
                Some(host) => Some(Host::parse(&host)?),
                None => None,
            };
            database = decoded(url.path().trim_matches('/'))?;
        }
    }
    for (key, value) in url.query_pairs() {
        let value = value.into_owned();
        match &*key {
            "username" | "user" => read.username = said(value),
            "password" | "pass" => read.password = said(value),
            "database" | "db" => database = value,
            _ => {}
        }
    }
    if let Some(database) = said(database) {
        read.database = Some(database.parse().ok()?);
    }
    Some(read)
}

fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    Some(text.into_owned())
}

/// Nothing, and Laravel's word for it, leave the part to other settings.
fn said(part: String) -> Option<String> {
    Some(part).filter(|part| !part.is_empty() && part != "null")
}

fn masked(mut url: url::Url) -> String {
    if !url.username().is_empty() || url.password().is_some() {
        // Both fail only if there is no host; then there are no credentials before it.
        let _ = url.set_username(MASK);
        let _ = url.set_password(None);
    }
    if url.query().is_some() {
        url.set_query(Some(MASK));
    }
    url.into()
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.masked)
    }
}

const PROBLEM: &str = "must be a URL such as redis://user:password@host:6379/0, rediss://host or \
     unix:///run/redis.sock; in a password # / ? are written %23 %2F %3F";
