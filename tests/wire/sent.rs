//! What is sent, as bytes: frames masked, requests signed and completed.
//!
//! Called by the player. Never sends anything.

use super::harness::{Opcode, encode, upgrade_head};
use super::socket::MASK;
use super::step::{Request, Sent};
use super::template::{Signed, Terms};

impl Sent {
    /// The bytes on the wire; `prefix` is the server's own path, which is not signed.
    pub(crate) fn bytes(&self, terms: &Terms<'_>, prefix: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::Frame {
                first,
                is_masked,
                payload,
            } => {
                let terms = Terms {
                    message: payload,
                    ..*terms
                };
                let mask = is_masked.then_some(MASK);
                let mut frame = encode(Opcode(0), true, &terms.expand(payload)?, mask);
                frame[0] = *first;
                Ok(frame)
            }
            Self::Bytes(bytes) => terms.expand(bytes),
            Self::Request(request) => request.bytes(terms, prefix),
        }
    }
}

impl Request {
    fn bytes(&self, terms: &Terms<'_>, prefix: &str) -> Result<Vec<u8>, String> {
        let body = terms.expand(self.body.as_deref().unwrap_or_default())?;
        let (line, version) = match self.line.rsplit_once(' ') {
            Some((line, version)) if version.starts_with("HTTP/") => (line, Some(version)),
            _ => (self.line.as_str(), None),
        };
        let (method, target) = line.split_once(' ').ok_or("a target is wanted")?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query
            .split('&')
            .filter(|parameter| !parameter.contains('«'));
        let query = query.collect::<Vec<_>>().join("&");
        let request = Some(Signed {
            method,
            path: path.strip_prefix(prefix).unwrap_or(path),
            query: &query,
            body: &body,
        });
        let target = Terms { request, ..*terms }.text(target)?;
        let mut headers = self.headers.concat();
        let head = match version {
            _ if self.is_upgrade => upgrade_head(&target, &headers),
            Some(version) => format!("{method} {target} {version}\r\n{headers}\r\n"),
            None => {
                if self.body.is_some() {
                    headers = format!("{headers}Content-Length: {}\r\n", body.len());
                }
                format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n")
            }
        };
        Ok([head.as_bytes(), &body].concat())
    }
}
