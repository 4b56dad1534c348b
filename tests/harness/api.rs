//! Signatures, and calls of the HTTP API.

use std::fmt::Write as _;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use super::{Client, Server};

/// One answer of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers, with the empty line.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header, if it is there; its name is compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = headers.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

/// HMAC-SHA256 in hex.
pub fn sign(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// The `auth` of a subscription, of the fixture's app `app-NAME`; a presence channel's
/// `channel_data` is signed too.
pub fn channel_auth(name: &str, socket_id: &str, channel: &str, data: Option<&str>) -> String {
    let data = data.map(|data| format!(":{data}")).unwrap_or_default();
    let text = format!("{socket_id}:{channel}{data}");
    format!("key-{name}:{}", sign(&format!("secret-{name}"), &text))
}

/// A path with the signed query of a call for the fixture's app `app-NAME`, dated now.
/// `query` holds further parameters, such as `info=user_count`, in sorted order or none.
pub fn signed_target(name: &str, method: &str, path: &str, query: &str, body: &str) -> String {
    signed_target_at(unix_s(), name, method, path, query, body)
}

/// The same, dated `unix_s`.
pub fn signed_target_at(
    unix_s: u64,
    name: &str,
    method: &str,
    path: &str,
    query: &str,
    body: impl AsRef<[u8]>,
) -> String {
    let body = body.as_ref();
    let mut parameters = vec![
        format!("auth_key=key-{name}"),
        format!("auth_timestamp={unix_s}"),
        "auth_version=1.0".to_owned(),
    ];
    if !body.is_empty() {
        parameters.push(format!("body_md5={}", hex(&Md5::digest(body))));
    }
    let further = query.split('&').filter(|parameter| !parameter.is_empty());
    parameters.extend(further.map(str::to_owned));
    parameters.sort();
    let query = parameters.join("&");
    let secret = format!("secret-{name}");
    let signature = sign(&secret, &format!("{method}\n{path}\n{query}"));
    format!("{path}?{query}&auth_signature={signature}")
}

/// The whole bytes of a request with a body, or of one without.
pub fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}{length}\r\n{body}")
}

/// The bytes of a signed call of the fixture's app `app-NAME`. `path` is what stands behind the
/// app's own, with the query, whose parameters come behind `auth_…` in sorted order.
pub fn call_request(name: &str, method: &str, path: &str, body: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = format!("/apps/app-{name}{path}");
    let target = signed_target(name, method, &path, query, body);
    request(method, &target, "", body)
}

/// A signed `POST /apps/app-NAME/events` on a connection of its own.
pub fn publish(server: &Server, name: &str, body: &str) -> Answer {
    call(server, &publish_request(name, body))
}

/// The bytes of what [`publish`] sends.
pub fn publish_request(name: &str, body: &str) -> String {
    let path = format!("/apps/app-{name}/events");
    let target = signed_target(name, "POST", &path, "", body);
    request("POST", &target, "Content-Type: application/json\r\n", body)
}

/// Publishes an event with plain data to one channel; it must be taken.
pub fn publish_event(server: &Server, name: &str, channel: &str, event: &str, data: &str) {
    let data = serde_json::to_string(data).unwrap();
    let body = format!(r#"{{"name":"{event}","channel":"{channel}","data":{data}}}"#);
    let answer = publish(server, name, &body);
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
}

/// Sends a request's bytes on a connection of its own and reads the answer.
pub fn call(server: &Server, request: &str) -> Answer {
    Client::connect_with(server, request).answer()
}

impl Client {
    /// Reads one HTTP answer, which must say its length.
    pub fn answer(&mut self) -> Answer {
        let head = self.head();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = String::new();
        let mut answer = Answer { status, head, body };
        let length = answer.header("Content-Length").unwrap().parse().unwrap();
        answer.body = String::from_utf8(self.take(length)).unwrap();
        answer
    }
}

/// Seconds since 1970.
pub fn unix_s() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
