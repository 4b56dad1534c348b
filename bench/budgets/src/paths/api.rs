//! A signed call of the HTTP API, from its first byte to the last of its answer.

use md5::{Digest, Md5};
use slapback::hex;

use super::count;
use crate::stage::Stage;

/// Calls of one count.
const CALLS: usize = 50;

/// Counts this path.
pub fn run() {
    let mut stage = Stage::new();
    let caller = stage.accept();
    let request = request(&stage);
    let answer = stage.hear(caller, &request);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let requests = vec![vec![request; CALLS]; 3];
    count("publish", CALLS, requests, |mut requests| {
        let (sends, bytes) = stage.sent_by(|stage| {
            for request in &mut requests {
                stage.turn(caller, request);
            }
        });
        assert_eq!((sends, bytes), (CALLS, CALLS * answer.len()));
    });
}

/// An event to a channel where nobody is.
fn request(stage: &Stage) -> Vec<u8> {
    let data = r#"{\"order\":4711,\"state\":\"shipped\",\"at\":\"2026-01-01T12:00:00Z\"}"#;
    let body = format!(r#"{{"name":"order.changed","channel":"orders","data":"{data}"}}"#);
    let digest: String = hex::encode(&Md5::digest(&body)).map(char::from).collect();
    let path = "/apps/app/events";
    let query = format!(
        "auth_key=key&auth_timestamp={}&auth_version=1.0&body_md5={digest}",
        stage.now.unix_s
    );
    let signature = stage.sign(&format!("POST\n{path}\n{query}"));
    let length = body.len();
    format!(
        "POST {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
