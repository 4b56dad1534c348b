//! Templates: text with terms in `«…»` for what is not printable, long, or not known before.
//!
//! Called by the player for every payload, head and body. Terms may hold terms; the innermost
//! count first. What they stand for is told in `tests/wire/README.md`.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use serde_json::Value;

use super::harness::api::{hex, sign, signed_target_at};

/// What terms may refer to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The sockets' ids, by name.
    pub(crate) ids: &'a BTreeMap<String, String>,
    /// The `NAME` of `secret-NAME`.
    pub(crate) app: &'a str,
    /// Who speaks.
    pub(crate) socket: &'a str,
    /// When the entry began, in seconds since 1970.
    pub(crate) now_unix_s: u64,
    /// Which of several repetitions this is, from 1.
    pub(crate) n: usize,
    /// The whole template: a subscription signs what it says itself.
    pub(crate) message: &'a str,
    /// The request that the template belongs to.
    pub(crate) request: Option<Signed<'a>>,
}

/// What of a request is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    /// As it is signed, without the server's own path.
    pub(crate) path: &'a str,
    /// Further parameters of the query.
    pub(crate) query: &'a str,
    pub(crate) body: &'a [u8],
}

impl Terms<'_> {
    /// The bytes that a template stands for.
    pub(crate) fn expand(&self, template: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('«') {
            let end = end_of_term(after).ok_or_else(|| format!("a « without »: {template}"))?;
            bytes.extend_from_slice(before.as_bytes());
            let term = self.text(&after[..end])?;
            let value = self.term(&term)?;
            bytes.extend(value.ok_or_else(|| format!("no such term: {term}"))?);
            rest = &after[end + '»'.len_utf8()..];
        }
        bytes.extend_from_slice(rest.as_bytes());
        Ok(bytes)
    }

    /// The same where it must be text.
    pub(crate) fn text(&self, template: &str) -> Result<String, String> {
        String::from_utf8(self.expand(template)?).map_err(|_| format!("no text: {template}"))
    }

    fn term(&self, term: &str) -> Result<Option<Vec<u8>>, String> {
        if let Some((count, text)) = term.split_once(" × ") {
            return Ok(count
                .parse()
                .ok()
                .map(|count| text.repeat(count).into_bytes()));
        }
        let value = match term.split_once(' ').unwrap_or((term, "")) {
            ("n", "") => Some(self.n.to_string()),
            ("now", "") => Some(self.now_unix_s.to_string()),
            ("id", name) => self.ids.get(name).cloned(),
            ("sig", "") => Some(self.subscription_signature()?),
            ("hmac", rest) => rest
                .split_once(' ')
                .map(|(secret, text)| sign(secret, text)),
            ("upper", text) => Some(text.to_uppercase()),
            ("md5", "") => self.request.map(|request| hex(&Md5::digest(request.body))),
            ("signed", "") => self.request.map(|request| self.signed(request)),
            ("signed", body) => self.request.map(|request| {
                let body = body.as_bytes();
                self.signed(Signed { body, ..request })
            }),
            _ => match term.strip_prefix("now-").map(str::parse::<u64>) {
                Some(Ok(seconds)) => Some((self.now_unix_s - seconds).to_string()),
                _ => return Ok(raw(term)),
            },
        };
        Ok(value.map(String::into_bytes))
    }

    /// Signs socket, channel and channel data of the subscription that it stands in.
    fn subscription_signature(&self) -> Result<String, String> {
        let message: Value = serde_json::from_str(self.message).map_err(|e| e.to_string())?;
        let id = self
            .ids
            .get(self.socket)
            .ok_or("a socket without an id signs")?;
        let channel = message["data"]["channel"].as_str().ok_or("no channel")?;
        let mut signed = format!("{id}:{}", self.text(channel)?);
        if let Some(data) = message["data"]["channel_data"]
            .as_str()
            .filter(|data| !data.is_empty())
        {
            signed = format!("{signed}:{}", self.text(data)?);
        }
        Ok(sign(&format!("secret-{}", self.app), &signed))
    }

    /// The five parameters of a signed call, of the app whose id stands in its path.
    fn signed(&self, request: Signed<'_>) -> String {
        let Signed {
            method,
            path,
            query,
            body,
        } = request;
        let app = path.strip_prefix("/apps/app-").unwrap_or_default();
        let app = app.split('/').next().unwrap_or_default();
        let now = self.now_unix_s;
        let target = signed_target_at(now, app, method, path, query, body);
        let (_, signature) = target.rsplit_once("auth_signature=").unwrap();
        let digest = match body {
            [] => String::new(),
            body => format!("&body_md5={}", hex(&Md5::digest(body))),
        };
        format!(
            "auth_key=key-{app}&auth_timestamp={now}&auth_version=1.0{digest}\
             &auth_signature={signature}"
        )
    }
}

/// Where the `»` of a term stands whose `«` is behind us.
fn end_of_term(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (index, letter) in text.char_indices() {
        match letter {
            '«' => depth += 1,
            '»' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

/// Bytes in hex, and the ends of lines by their names.
fn raw(term: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in term.split(' ') {
        match word {
            "CRLF" => bytes.extend(b"\r\n"),
            "LF" => bytes.push(b'\n'),
            byte if byte.len() == 2 => bytes.push(u8::from_str_radix(byte, 16).ok()?),
            _ => return None,
        }
    }
    Some(bytes)
}
