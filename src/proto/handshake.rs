//! The WebSocket handshake: an upgrade request is accepted or refused.
//!
//! Called by the session for a request on `/app/{key}`. Checks in Reverb's order; extensions and
//! subprotocols are never taken up. After a refusal the session closes.

use std::borrow::Cow;

use tungstenite::handshake::derive_accept_key;

use crate::proto::http::{Request, Version, has_token};

/// A failed handshake: the head to answer with, then close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The number of the status line.
    pub status: u16,
    /// The words of the status line; visible ASCII and spaces.
    pub reason: Cow<'static, str>,
    /// The answer says how to upgrade, in three headers.
    pub upgrade_headers: bool,
}

/// The refusal of a plain `GET /app/{key}`.
pub const UPGRADE_REQUIRED: Refusal = Refusal {
    status: 426,
    reason: Cow::Borrowed("Upgrade Required"),
    upgrade_headers: true,
};

/// Does Reverb take this for an upgrade: is there any `Upgrade` value but "" and "0"?
pub fn is_upgrade(request: &Request<'_>) -> bool {
    let mut values = request.headers.all("upgrade");
    match (values.next(), values.next()) {
        (None, _) | (Some(b"" | b"0"), None) => false,
        // Reverb joins several lines with a comma, so even two empty ones are a value.
        (Some(_), _) => true,
    }
}

/// Checks an upgrade request (R-009..R-013); gives the value of `Sec-WebSocket-Accept`.
///
/// The request reader has already refused a missing or second Host.
pub fn check(request: &Request<'_>) -> Result<String, Refusal> {
    if !request.is_method("GET") {
        return Err(refusal(405, "Method Not Allowed"));
    }
    if request.version == Version::Http10 {
        return Err(refusal(505, "HTTP Version not supported"));
    }
    let upgrade = only(request, "upgrade");
    if !upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        let reason = Cow::Borrowed("Upgrade header MUST be provided");
        return Err(Refusal {
            reason,
            ..UPGRADE_REQUIRED
        });
    }
    if !request
        .headers
        .all("connection")
        .any(|value| has_token(value, "upgrade"))
    {
        return Err(refusal(400, "Connection Upgrade MUST be requested"));
    }
    let key = only(request, "sec-websocket-key").filter(|key| is_key(key));
    let Some(key) = key else {
        return Err(refusal(400, "Invalid Sec-WebSocket-Key"));
    };
    if only(request, "sec-websocket-version") != Some(b"13") {
        return Err(UPGRADE_REQUIRED);
    }
    for offers in request.headers.all("sec-websocket-extensions") {
        check_offers(offers)?;
    }
    Ok(derive_accept_key(key))
}

/// Appends the head that turns the connection into a WebSocket.
pub fn write_accept(out: &mut Vec<u8>, accept: &str) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\n\
          Upgrade: websocket\r\n\
          Connection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept.as_bytes());
    out.extend_from_slice(b"\r\nX-Powered-By: Laravel Reverb\r\n\r\n");
}

/// Appends the head of a refusal; its body is empty.
pub fn write_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(refusal.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(refusal.reason.as_bytes());
    out.extend_from_slice(if refusal.upgrade_headers {
        b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    } else {
        b"\r\nConnection: close\r\n".as_slice()
    });
    out.extend_from_slice(b"X-Powered-By: Laravel Reverb\r\nContent-Length: 0\r\n\r\n");
}

fn refusal(status: u16, reason: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal {
        status,
        reason: reason.into(),
        upgrade_headers: false,
    }
}

/// The value of a header that must stand exactly once.
fn only<'a>(request: &Request<'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = request.headers.all(name);
    let value = values.next();
    if values.next().is_some() { None } else { value }
}

/// Is this the base64 of 16 bytes?
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let digits = key.strip_suffix(b"==").unwrap_or_default();
    digits.len() == 22 && digits.iter().all(is_base64)
}

/// Refuses a permessage-deflate offer that is malformed (RFC 7692 7.1); a good one is ignored.
fn check_offers(offers: &[u8]) -> Result<(), Refusal> {
    for offer in offers.split(|&byte| byte == b',') {
        let mut parts = offer.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        if parts.next() != Some(b"permessage-deflate") {
            continue;
        }
        let mut seen = Vec::new();
        for part in parts {
            let mut halves = part.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
            let name = halves.next().unwrap_or_default();
            check_option(name, halves.next())?;
            if seen.contains(&name) {
                let why = "specified more than once. Connection must be declined.";
                return Err(bad_option(name, why));
            }
            seen.push(name);
        }
    }
    Ok(())
}

fn check_option(name: &[u8], value: Option<&[u8]>) -> Result<(), Refusal> {
    let is_window = |bits: &[u8]| matches!(bits, [b'8' | b'9'] | [b'1', b'0'..=b'5']);
    match (name, value) {
        (b"server_no_context_takeover" | b"client_no_context_takeover", Some(_)) => {
            Err(bad_option(name, "must not have a value."))
        }
        (b"server_max_window_bits", value) if !value.is_some_and(is_window) => {
            Err(bad_option(name, "must have a value between 8 and 15."))
        }
        (b"client_max_window_bits", Some(value)) if !is_window(value) => Err(bad_option(
            name,
            "must have no value or a value between 8 and 15.",
        )),
        (
            b"server_no_context_takeover"
            | b"client_no_context_takeover"
            | b"server_max_window_bits"
            | b"client_max_window_bits",
            _,
        ) => Ok(()),
        _ => {
            let reason = format!(
                "Option \"{}\"is not valid for permessage deflate",
                shown(name)
            );
            Err(refusal(400, reason))
        }
    }
}

fn bad_option(name: &[u8], why: &str) -> Refusal {
    refusal(400, format!("{} {why}", shown(name)))
}

/// An option's name as it may stand in a status line.
fn shown(name: &[u8]) -> String {
    name.iter()
        .filter(|byte| byte.is_ascii_graphic())
        .map(|&byte| char::from(byte))
        .collect()
}

#[cfg(test)]
mod tests;
