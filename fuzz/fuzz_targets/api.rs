//! Any query and body as signed calls of the HTTP API: checked and answered, never a panic.
//!
//! The input is a query, a line feed and a body. Each call is made once as it is, and once signed,
//! so that the body is read too.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use slapback::app::{AppSettings, Apps};
use slapback::proto::Now;
use slapback::proto::api::{self, Accepted, ApiSettings, Facts, Route};
use slapback::proto::auth;
use slapback::proto::event::Scratch;
use slapback::proto::http::{Limits, Read, Reader};

fuzz_target!(|input: &[u8]| {
    let settings = ApiSettings { path_prefix: String::new(), timestamp_tolerance_s: 600 };
    let apps = Apps::new(vec![AppSettings::new("1", "key", "secret")]);
    let (_, app) = apps.iter().next().expect("one app");
    let split = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (query, body) = input.split_at(split);
    let query = String::from_utf8_lossy(query);
    let _ = auth::check_api_call(app, "POST", "/apps/1/events", &query, body, 1, 600);

    let md5: String = {
        use md5::Digest as _;
        md5::Md5::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let body_md5 = if body.is_empty() { String::new() } else { format!("&body_md5={md5}") };
    let mut scratch = Scratch::default();
    for call in ["events", "batch_events"] {
        let path = format!("/apps/1/{call}");
        let signed = format!("POST\n{path}\nauth_key=key{body_md5}");
        let signature = app.signer().sign_hex(&[signed.as_bytes()]);
        let signature = std::str::from_utf8(&signature).expect("hex");
        let target = format!("{path}?auth_key=key&auth_signature={signature}");
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let request = [head.as_bytes(), body].concat();
        let mut reader = Reader::default();
        let limits = Limits { max_request_size: 1 << 20 };
        let Read::Request { request, .. } = reader.read(&request, &limits) else { return };
        let Route::Api { app_id, call } = api::route(request.method, request.path, &settings) else {
            panic!("{path} is a call");
        };
        let now = Now { instant: Instant::now(), unix_s: 1 };
        let handled = api::handle(&request, app_id, call, (&settings, &apps), now, &mut scratch);
        if let Ok(Accepted::Publish { question: Some(question), .. }) = handled {
            let _ = api::answer(&question, Facts::default());
        }
    }
});
