//! What clients and callers say, as bytes, and the parsing of what they are told. Anything that is
//! not exactly what a server may say fails.

use std::fmt;

use md5::{Digest, Md5};
use serde_json::json;
use slapback::app::App;

/// One frame of a server.
#[derive(PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Ping,
    Pong(Vec<u8>),
    Close(u16, String),
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:.200}"),
            Self::Ping => f.write_str("a ping"),
            Self::Pong(_) => f.write_str("a pong"),
            Self::Close(code, reason) => write!(f, "Close {code} {reason}"),
        }
    }
}

/// The first frame of `bytes` and its length, if it is whole.
pub(crate) fn frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert!(
        matches!(first, 0x81 | 0x88 | 0x89 | 0x8a),
        "no frame begins with {first:#x}: {:?}",
        String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
    );
    let (head, length) = match second {
        0..126 => (2, usize::from(second)),
        126 => (4, number(bytes.get(2..4)?)),
        127 => (10, number(bytes.get(2..10)?)),
        128.. => panic!("a server's frame is masked"),
    };
    let payload = bytes.get(head..head + length)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text is UTF-8");
    let frame = match first {
        0x81 => Frame::Text(text(payload)),
        0x89 => Frame::Ping,
        0x8a => Frame::Pong(payload.to_vec()),
        _ => Frame::Close(
            u16::from_be_bytes([payload[0], payload[1]]),
            text(&payload[2..]),
        ),
    };
    Some((frame, head + length))
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | usize::from(byte))
}

/// An HTTP answer: status, body, whether the connection stays, and its length in all.
pub(crate) fn answer(bytes: &[u8]) -> Option<(u16, String, bool, usize)> {
    let start = b"HTTP/1.1 ";
    let known = bytes.len().min(start.len());
    assert_eq!(bytes[..known], start[..known], "no answer begins like this");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let header = |name: &str| {
        let mut lines = head.split("\r\n");
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let length: usize = header("Content-Length").unwrap().parse().unwrap();
    let body = bytes.get(end..end + length)?;
    let keeps = header("Connection") == Some("keep-alive");
    let body = String::from_utf8(body.to_vec()).unwrap();
    Some((head[9..12].parse().unwrap(), body, keeps, end + length))
}

/// The head that asks for a WebSocket of an app.
pub(crate) fn upgrade(app: &App, key: &str) -> Vec<u8> {
    format!(
        "GET /app/{}?protocol=7 HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n",
        app.settings.key
    )
    .into_bytes()
}

/// The head that grants it.
pub(crate) fn accepted(key: &str) -> String {
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nX-Powered-By: Laravel Reverb\r\n\r\n"
    )
}

/// One masked frame; `opcode` 1 is text.
pub(crate) fn masked(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    if let Ok(short @ 0..126) = u8::try_from(payload.len()) {
        out.push(0x80 | short);
    } else {
        out.push(0x80 | 0x7e);
        out.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    }
    out.extend(mask);
    let keys = mask.iter().cycle();
    out.extend(payload.iter().zip(keys).map(|(byte, key)| byte ^ key));
    out
}

/// `pusher:subscribe`, signed where the channel wants it.
pub(crate) fn subscribe(app: &App, socket_id: &str, channel: &str, member: &str) -> String {
    let mut data = json!({ "channel": channel });
    let mut signed = format!("{socket_id}:{channel}");
    if channel.starts_with("presence-") {
        signed = format!("{signed}:{member}");
        data["channel_data"] = member.into();
    }
    if channel.contains('-') {
        let signature = app.signer().sign_hex(&[signed.as_bytes()]);
        let signature = std::str::from_utf8(&signature).unwrap();
        data["auth"] = format!("{}:{signature}", app.settings.key).into();
    }
    json!({ "event": "pusher:subscribe", "data": data }).to_string()
}

/// A signed call. `path` is what stands behind the app's own, with a query that needs no escapes.
pub(crate) fn call(
    app: &App,
    unix_s: u64,
    (method, path): (&str, &str),
    body: &str,
    is_last: bool,
) -> Vec<u8> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let parameters: Vec<(&str, &str)> = pairs.collect();
    signed(app, unix_s, (method, path, &parameters), body, is_last)
}

/// A signed call with parameters as they are meant, in any order.
pub(crate) fn signed(
    app: &App,
    unix_s: u64,
    (method, path, parameters): (&str, &str, &[(&str, &str)]),
    body: &str,
    is_last: bool,
) -> Vec<u8> {
    let path = format!("/apps/{}{path}", app.settings.id);
    let unix_s = unix_s.to_string();
    let digest = Md5::digest(body.as_bytes());
    let digest = digest
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let mut all = vec![
        ("auth_key", app.settings.key.as_str()),
        ("auth_timestamp", &unix_s),
        ("auth_version", "1.0"),
    ];
    if !body.is_empty() {
        all.push(("body_md5", &digest));
    }
    all.extend(parameters);
    all.sort_unstable();
    let query = |write: fn(&str) -> String| {
        let pair = |(name, value): &(&str, &str)| format!("{name}={}", write(value));
        all.iter().map(pair).collect::<Vec<_>>().join("&")
    };
    let (plain, sent) = (query(str::to_owned), query(encoded));
    let signature = app
        .signer()
        .sign_hex(&[format!("{method}\n{path}\n{plain}").as_bytes()]);
    let signature = std::str::from_utf8(&signature).unwrap();
    let connection = if is_last { "close" } else { "keep-alive" };
    format!(
        "{method} {path}?{sent}&auth_signature={signature} HTTP/1.1\r\nHost: sim\r\n\
         Connection: {connection}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A value as it stands in a query.
fn encoded(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out = format!("{out}%{byte:02X}");
        }
    }
    out
}
