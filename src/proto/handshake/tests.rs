//! Upgrade requests, accepted and refused.

use super::{
    super::http::{Limits, Read, Reader},
    *,
};

const UPGRADE: &str = "Upgrade: websocket\r\n";
const CONNECTION: &str = "Connection: Upgrade\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Parses a request of these header lines (and a Host) and gives it to `look`.
fn with_request<T>(line: &str, headers: &[&str], look: impl FnOnce(&Request<'_>) -> T) -> T {
    let bytes = format!("{line}\r\nHost: 127.0.0.1:7801\r\n{}\r\n", headers.concat());
    let mut reader = Reader::default();
    match reader.read(
        bytes.as_bytes(),
        &Limits {
            max_request_size: 10_000,
        },
    ) {
        Read::Request { request, .. } => look(&request),
        other => panic!("{other:?}"),
    }
}

fn check_line(line: &str, headers: &[&str]) -> Result<String, String> {
    with_request(line, headers, check).map_err(|refusal| {
        let mut out = Vec::new();
        write_refusal(&mut out, &refusal);
        String::from_utf8_lossy(&out).into_owned()
    })
}

fn check_headers(headers: &[&str]) -> Result<String, String> {
    check_line("GET /app/key-1?protocol=7 HTTP/1.1", headers)
}

fn refused_with(status_line: &str) -> Result<String, String> {
    Err(format!(
        "HTTP/1.1 {status_line}\r\nConnection: close\r\nX-Powered-By: Laravel Reverb\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

fn refused_with_upgrade(status_line: &str) -> Result<String, String> {
    Err(format!(
        "HTTP/1.1 {status_line}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nX-Powered-By: Laravel Reverb\r\nContent-Length: 0\r\n\r\n"
    ))
}

#[test]
fn r001_r002_r003_the_accepting_head_is_reverbs() {
    assert_eq!(
        check_headers(&[CONNECTION, UPGRADE, VERSION, KEY]),
        Ok(ACCEPT.into())
    );
    let mut out = Vec::new();
    write_accept(&mut out, ACCEPT);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Powered-By: Laravel Reverb\r\n\r\n"
    );
}

#[test]
fn r004_names_and_values_are_read_in_any_case() {
    let headers = [
        "connection: keep-alive, upgrade\r\n",
        "upgrade: WebSocket\r\n",
        "sec-websocket-version: 13\r\n",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ];
    assert_eq!(
        check_line("get /app/key-1 HTTP/1.1", &headers),
        Ok(ACCEPT.into())
    );
}

#[test]
fn r008_extensions_and_subprotocols_are_not_taken_up() {
    for offer in [
        "Sec-WebSocket-Protocol: pusher, foo\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8; \
         client_max_window_bits = 15; server_no_context_takeover, permessage-deflate\r\n",
        "Sec-WebSocket-Extensions: x-webkit-deflate-frame; foo=1\r\n",
    ] {
        assert_eq!(
            check_headers(&[CONNECTION, UPGRADE, VERSION, KEY, offer]),
            Ok(ACCEPT.into())
        );
    }
}

#[test]
fn a_malformed_deflate_offer_is_400() {
    for (options, why) in [
        ("foo", "Option \"foo\"is not valid for permessage deflate"),
        (
            "client_max_window_bits; f o\tö=1",
            "Option \"fo\"is not valid for permessage deflate",
        ),
        ("", "Option \"\"is not valid for permessage deflate"),
        (
            "client_no_context_takeover=1",
            "client_no_context_takeover must not have a value.",
        ),
        (
            "server_max_window_bits",
            "server_max_window_bits must have a value between 8 and 15.",
        ),
        (
            "server_max_window_bits=7",
            "server_max_window_bits must have a value between 8 and 15.",
        ),
        (
            "client_max_window_bits=16",
            "client_max_window_bits must have no value or a value between 8 and 15.",
        ),
        (
            "client_max_window_bits; client_max_window_bits=9",
            "client_max_window_bits specified more than once. Connection must be declined.",
        ),
    ] {
        let offer = format!("Sec-WebSocket-Extensions: permessage-deflate; {options}\r\n");
        let checked = check_headers(&[CONNECTION, UPGRADE, VERSION, KEY, &offer]);
        assert_eq!(checked, refused_with(&format!("400 {why}")));
    }
}

#[test]
fn r009_connection_must_ask_for_the_upgrade() {
    let refused = refused_with("400 Connection Upgrade MUST be requested");
    assert_eq!(check_headers(&[UPGRADE, VERSION, KEY]), refused);
    let headers = [
        "Connection: keep-alive, upgraded\r\n",
        UPGRADE,
        VERSION,
        KEY,
    ];
    assert_eq!(check_headers(&headers), refused);
}

#[test]
fn r010_the_key_is_sixteen_bytes_once() {
    let refused = refused_with("400 Invalid Sec-WebSocket-Key");
    assert_eq!(check_headers(&[CONNECTION, UPGRADE, VERSION]), refused);
    assert_eq!(
        check_headers(&[CONNECTION, UPGRADE, VERSION, KEY, KEY]),
        refused
    );
    for key in [
        "abc",
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZ!==",
        "YWJjZGVmZ2hpamtsbW5vcHFy",
    ] {
        let key = format!("Sec-WebSocket-Key: {key}\r\n");
        assert_eq!(
            check_headers(&[CONNECTION, UPGRADE, VERSION, &key]),
            refused,
            "{key}"
        );
    }
}

#[test]
fn r011_the_version_is_thirteen() {
    let refused = refused_with_upgrade("426 Upgrade Required");
    assert_eq!(check_headers(&[CONNECTION, UPGRADE, KEY]), refused);
    let headers = [CONNECTION, UPGRADE, KEY, "Sec-WebSocket-Version: 8\r\n"];
    assert_eq!(check_headers(&headers), refused);
    assert_eq!(
        check_headers(&[CONNECTION, UPGRADE, KEY, VERSION, VERSION]),
        refused
    );
}

#[test]
fn r012_http_1_0_cannot_upgrade() {
    let headers = [CONNECTION, UPGRADE, VERSION, KEY];
    let refused = refused_with("505 HTTP Version not supported");
    assert_eq!(check_line("GET /app/key-1 HTTP/1.0", &headers), refused);
}

#[test]
fn r013_only_a_websocket_is_upgraded_to() {
    let refused = refused_with_upgrade("426 Upgrade header MUST be provided");
    for upgrade in [
        "Upgrade: h2c\r\n",
        "Upgrade: websocket, h2c\r\n",
        "Upgrade: a\r\nUpgrade: websocket\r\n",
    ] {
        assert_eq!(check_headers(&[CONNECTION, upgrade, VERSION, KEY]), refused);
    }
}

#[test]
fn r014_a_plain_get_learns_how_to_upgrade() {
    let mut out = Vec::new();
    write_refusal(&mut out, &UPGRADE_REQUIRED);
    let written = Err(String::from_utf8_lossy(&out).into_owned());
    assert_eq!(written, refused_with_upgrade("426 Upgrade Required"));
}

#[test]
fn r033_a_request_through_a_proxy_is_accepted() {
    let headers = [
        UPGRADE,
        CONNECTION,
        VERSION,
        KEY,
        "X-Forwarded-For: 10.0.0.1\r\n",
    ];
    assert_eq!(check_headers(&headers), Ok(ACCEPT.into()));
}

#[test]
fn r172_an_empty_upgrade_is_none() {
    for (headers, expected) in [
        (&[][..], false),
        (&["Connection: Upgrade\r\n"], false),
        (&["Upgrade:\r\n"], false),
        (&["Upgrade: 0\r\n"], false),
        (&["Upgrade: h2c\r\n"], true),
        (&["Upgrade:\r\n", "Upgrade:\r\n"], true),
    ] {
        assert_eq!(
            with_request("GET /up HTTP/1.1", headers, is_upgrade),
            expected
        );
    }
}

#[test]
fn other_methods_than_get_cannot_upgrade() {
    let headers = [CONNECTION, UPGRADE, VERSION, KEY];
    let refused = refused_with("405 Method Not Allowed");
    assert_eq!(check_line("HEAD /app/key-1 HTTP/1.1", &headers), refused);
}
