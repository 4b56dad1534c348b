//! Whole answers of the HTTP API, byte for byte.
//!
//! Used by the tests of HTTP, signatures and the calls of the API. The date alone is not compared, only
//! its shape.
#![allow(dead_code, unreachable_pub)] // each test crate uses its part of it
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::harness::{Client, Server};

/// An answer in JSON; `status` is number and reason. The connection stays open.
pub fn json(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Cache-Control: no-cache, private\r\nDate: {DATE}\r\nConnection: keep-alive\r\n\r\n{body}"
    )
}

/// An answer in plain text. The connection stays open.
pub fn text(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: keep-alive\r\n\r\n{body}"
    )
}

/// The same answer with the method that would have been right.
pub fn allowing(method: &str, answer: &str) -> String {
    answer.replace("Connection:", &format!("Allow: {method}\r\nConnection:"))
}

/// The same answer as the last of its connection.
pub fn closing(answer: &str) -> String {
    answer.replace("Connection: keep-alive", "Connection: close")
}

/// The answer to a publish that was taken.
pub fn taken() -> String {
    json("200 OK", "{}")
}

/// The answer to `/up`.
pub fn healthy() -> String {
    json("200 OK", r#"{"health":"OK"}"#)
}

/// The answer to what cannot be read or makes no sense.
pub fn bad_request() -> String {
    text("400 Bad Request", "Bad request.")
}

/// The answer to a call that its app did not sign.
pub fn unauthorised() -> String {
    text("401 Unauthorized", "Authentication signature invalid.")
}

/// The answer to a request that is too large: the last of its connection.
pub fn too_large() -> String {
    closing(&text("413 Request Entity Too Large", "Payload too large."))
}

/// The next bytes of the connection are this answer.
#[track_caller]
pub fn hears(client: &mut Client, expected: &str, what: &str) {
    let head = client.head();
    let (_, expected_body) = expected.split_once("\r\n\r\n").unwrap();
    let body = client.take(expected_body.len());
    let answer = undated(&head) + std::str::from_utf8(&body).unwrap();
    assert_eq!(answer, expected, "{what}");
}

/// A request on a connection of its own is answered so, and the connection goes on or ends as the
/// answer says.
#[track_caller]
pub fn is_answered(server: &Server, request: impl AsRef<[u8]>, expected: &str) {
    let what = request.as_ref().escape_ascii().to_string();
    let mut client = Client::open(server);
    client.raw(request);
    hears(&mut client, expected, &what);
    if expected.contains("Connection: close") {
        client.ends();
    } else {
        client.raw("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
        hears(&mut client, &text("404 Not Found", "Not found."), &what);
    }
}

/// The head with [`DATE`] in the place of its date, which must be an IMF-fixdate.
pub fn undated(head: &str) -> String {
    let Some((before, rest)) = head.split_once("Date: ") else {
        return head.to_owned();
    };
    let (date, after) = rest.split_at(DATE.len());
    let shape = |text: &str| -> String {
        let kind = |letter: char| match letter {
            '0'..='9' => '9',
            'A'..='Z' | 'a'..='z' => 'a',
            other => other,
        };
        text.chars().map(kind).collect()
    };
    assert_eq!(shape(date), shape(DATE));
    format!("{before}Date: {DATE}{after}")
}

/// What stands for any date.
const DATE: &str = "Thu, 01 Jan 1970 00:00:00 GMT";
