//! HTTP as the API's callers meet it: routes, limits, bodies, connections (R-159 to R-173).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use answers::{
    allowing, bad_request, closing, healthy, hears, is_answered, json, taken, text, too_large,
    unauthorised,
};
use harness::api::{publish_request, request, signed_target};
use harness::{Client, DEADLINE, FLEETS, Server, on_every_fleet, on_every_server};
use rustix::process::Signal;

mod answers;
mod harness;

const EVENT: &str = r#"{"name":"e","channels":["c1"],"data":"1"}"#;

fn not_found() -> String {
    text("404 Not Found", "Not found.")
}

fn not_allowed(allow: &str) -> String {
    allowing(
        allow,
        &text("405 Method Not Allowed", "Method not allowed."),
    )
}

/// A request of a method and path, without a body.
fn plain(method_and_path: &str) -> String {
    format!("{method_and_path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// The head of a signed publish of `body`, with these header lines.
fn publish_head(body: &str, headers: &str) -> String {
    let target = signed_target("1", "POST", "/apps/app-1/events", "", body);
    format!("POST {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

#[test]
fn r159_r160_r161_health_is_asked_with_get_or_head() {
    on_every_server(|server| {
        is_answered(server, plain("GET /up"), &healthy());
        is_answered(server, plain("get /up"), &healthy());
        let head = healthy().replace(r#"{"health":"OK"}"#, "");
        is_answered(server, plain("HEAD /up"), &head);
        is_answered(server, plain("POST /up"), &not_allowed("GET"));
    });
}

#[test]
fn r159_health_is_503_from_the_wish_to_leave() {
    on_every_fleet(|fleet| {
        let mut server = Server::start(fleet, &[("SLAPBACK_DRAIN_DELAY", "30")]);
        let mut client = Client::open(&server);
        server.signal(Signal::TERM);
        let end = Instant::now() + DEADLINE;
        while {
            client.raw(plain("GET /up"));
            client.answer().status == 200
        } {
            assert!(Instant::now() < end, "still healthy");
        }
        let leaving = json("503 Service Unavailable", r#"{"health":"LEAVING"}"#);
        is_answered(&server, plain("GET /up"), &leaving);
        // All else goes on as before.
        is_answered(&server, publish_request("1", EVENT), &taken());
        assert_eq!(server.terminate().code(), Some(0));
    });
}

#[test]
fn r162_r163_other_paths_are_404_and_other_methods_405() {
    on_every_server(|server| {
        for path in ["/nope", "/up/", "/", "/apps", "/apps/app-1", "/app", "/UP"] {
            is_answered(server, plain(&format!("GET {path}")), &not_found());
        }
        for call in ["GET /apps/app-1/events", "OPTIONS /apps/app-1/events"] {
            is_answered(server, plain(call), &not_allowed("POST"));
        }
        let put = "PUT /apps/app-1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
        is_answered(server, put, &not_allowed("POST"));
        is_answered(server, plain("OPTIONS /up"), &not_allowed("GET"));
    });
}

/// A publish of exactly `total` bytes, head included.
fn publish_of(total: usize) -> String {
    let sized = |padding: usize| {
        let padding = ".".repeat(padding);
        publish_request(
            "1",
            &format!(r#"{{"name":"e","channel":"c","data":"{padding}"}}"#),
        )
    };
    // Some hundred bytes less leave the number of digits of the length as it is.
    let rough = sized(total - 600).len();
    sized(total - 600 + (total - rough))
}

#[test]
fn r164_as_much_as_the_limit_passes_and_one_byte_more_is_413() {
    on_every_server(|server| {
        let (most, over) = (publish_of(10_000), publish_of(10_001));
        assert_eq!((most.len(), over.len()), (10_000, 10_001));
        is_answered(server, most, &taken());
        is_answered(server, over, &too_large());
    });
}

#[test]
fn r164_what_says_that_it_is_too_large_is_413_before_its_body() {
    on_every_server(|server| {
        let expect = "Expect: 100-continue\r\nContent-Length: 50000\r\n";
        is_answered(
            server,
            publish_head(EVENT, "Content-Length: 50000\r\n"),
            &too_large(),
        );
        is_answered(server, publish_head(EVENT, expect), &too_large());
        let chunked = publish_head(EVENT, "Transfer-Encoding: chunked\r\n") + "c350\r\n";
        is_answered(server, chunked, &too_large());
        let endless = format!("GET /up HTTP/1.1\r\nX: {}", "a".repeat(10_000));
        is_answered(server, endless, &too_large());
    });
}

/// Publishes `length` bytes of data in pieces, under this limit.
fn publish_in_pieces(limit: &'static str, length: usize) {
    on_every_fleet(|fleet| {
        let server = Server::start(fleet, &[("REVERB_MAX_REQUEST_SIZE", limit)]);
        let data = "d".repeat(length);
        let event = format!(r#"{{"name":"e","channel":"c","data":"{data}"}}"#);
        let mut client = Client::open(&server);
        for piece in publish_request("1", &event).as_bytes().chunks(4096) {
            client.raw(piece);
        }
        hears(&mut client, &taken(), "in pieces");
    });
}

#[test]
fn r165_a_body_of_150_kb_passes_a_limit_of_200000() {
    publish_in_pieces("200000", 150_000);
}

#[test]
fn r166_a_body_of_10_kb_passes_a_limit_of_20000() {
    publish_in_pieces("20000", 10_100);
}

#[test]
fn r167_r168_what_is_not_http_is_400_and_the_end() {
    on_every_server(|server| {
        let many = "X: y\r\n".repeat(128);
        let many = format!("GET /up HTTP/1.1\r\nHost: x\r\n{many}\r\n");
        let heads: [&[u8]; 19] = [
            many.as_bytes(),
            b"GARBAGE\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET /up HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n",
            b"GET /up HTTP/1.1\r\nHost: x\r\nfoo bar\r\n\r\n",
            b"GET /up HTTP/1.1\r\nHost: x\r\nFoo : bar\r\n\r\n",
            b"GET /up HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
            b"GET /up HTTP/1.1\nHost: x\r\n\r\n",
            b"GET /up HTTP/1.1\r\n\r\n",
            b"GET /up HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
            b"GET /up HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n",
            b"GET /up HTTP/2.0\r\nHost: x\r\n\r\n",
            b"GET /up HTTP/0.9\r\nHost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /up HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
            b"GET /up HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
            b"GET /up HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\
              Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        ];
        for head in heads {
            is_answered(server, head, &closing(&bad_request()));
        }
        let many = many.replacen("X: y\r\n", "", 1);
        is_answered(server, many, &healthy());
    });
}

#[test]
fn r169_a_body_shorter_than_it_says_is_waited_for() {
    on_every_server(|server| {
        let (first, rest) = EVENT.split_at(10);
        let length = format!("Content-Length: {}\r\n", EVENT.len());
        let mut client = Client::of_app(server, "1");
        client.subscribe("c1");
        let mut waiting = Client::connect_with(server, &(publish_head(EVENT, &length) + first));
        // The server has read what came before this answer, and what it waits for is not there.
        is_answered(server, plain("GET /up"), &healthy());
        client.hears_nothing();
        waiting.raw(rest);
        hears(&mut waiting, &taken(), "the rest of the body");
        assert_eq!(client.hear(), r#"{"event":"e","data":"1","channel":"c1"}"#);
    });
}

#[test]
fn r170_every_answer_says_its_length_and_type() {
    on_every_server(|server| {
        let answer = harness::api::call(server, &plain("GET /up"));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert_eq!(answer.header("Content-Length"), Some("15"));
        assert_eq!(answer.header("Cache-Control"), Some("no-cache, private"));
        assert!(answer.header("Date").unwrap().ends_with(" GMT"));
        let invalid = json("422 Unprocessable Content", ALL_MISSING);
        is_answered(server, publish_request("1", "{}"), &invalid);
        is_answered(server, plain("GET /nope"), &not_found());
    });
}

const ALL_MISSING: &str = concat!(
    r#"{"name":["The name field is required."],"data":["The data field is required."],"#,
    r#""channels":["The channels field is required when channel is not present."],"#,
    r#""channel":["The channel field is required when channels is not present."]}"#
);

#[test]
fn r171_a_connection_is_kept_for_the_next_request_also_after_an_error() {
    on_every_server(|server| {
        let mut client = Client::open(server);
        for _ in 0..3 {
            client.raw(publish_request("1", EVENT));
            hears(&mut client, &taken(), "publish");
            client.raw(plain("GET /nope"));
            hears(&mut client, &not_found(), "404");
            client.raw(request("POST", "/apps/app-1/events", "", EVENT));
            hears(&mut client, &unauthorised(), "401");
        }
        client.raw("GET /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        hears(&mut client, &closing(&healthy()), "close");
        client.ends();
    });
}

#[test]
fn r171_http_1_0_is_answered_once_unless_it_asks_to_stay() {
    on_every_server(|server| {
        is_answered(server, "GET /up HTTP/1.0\r\n\r\n", &closing(&healthy()));
        is_answered(
            server,
            "GET /up HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            &healthy(),
        );
    });
}

#[test]
fn r171_whoever_asks_faster_than_it_reads_is_slowed_down_and_answered_whole() {
    const COUNT: usize = 60_000;
    on_every_server(|server| {
        let answer = Client::connect_with(server, &plain("GET /up")).answer();
        let expected = COUNT * (answer.head.len() + answer.body.len());
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        // 18 MB: more than the kernel keeps on both ends.
        let request = request(
            "GET",
            "/up",
            &format!("X-Padding: {}\r\n", "x".repeat(250)),
            "",
        );
        let requests = request.repeat(COUNT).into_bytes();
        // The answers are several times what may wait for one socket, so the server must stop
        // taking requests. Nothing is read before it has.
        stream
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut sent = 0;
        while let Ok(count) = stream.write(&requests[sent..]) {
            sent += count;
            assert!(sent < requests.len(), "the server took every request");
        }
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let mut writer = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                writer.write_all(&requests[sent..]).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut answers = Vec::new();
            stream.read_to_end(&mut answers).unwrap();
            assert_eq!(answers.len(), expected);
        });
    });
}

#[test]
fn r171_pipelined_requests_are_answered_in_order() {
    on_every_server(|server| {
        let mut listener = Client::of_app(server, "1");
        listener.subscribe("c1");
        let mut client = Client::open(server);
        let mut requests = String::new();
        for _ in 0..20 {
            requests += &publish_request("1", EVENT);
            requests += &plain("HEAD /up");
            requests += "\r\n";
            requests += &plain("GET /nope");
        }
        client.raw(requests);
        let head = healthy().replace(r#"{"health":"OK"}"#, "");
        for _ in 0..20 {
            hears(&mut client, &taken(), "publish");
            hears(&mut client, &head, "HEAD");
            hears(&mut client, &not_found(), "GET");
        }
        for _ in 0..20 {
            assert_eq!(
                listener.hear(),
                r#"{"event":"e","data":"1","channel":"c1"}"#
            );
        }
    });
}

#[test]
fn r171_a_chunked_body_is_joined_before_its_signature_is_checked() {
    on_every_server(|server| {
        let head = publish_head(EVENT, "Transfer-Encoding: chunked\r\n");
        let (first, rest) = EVENT.split_at(5);
        let length = rest.len();
        let chunks =
            format!("5;x=\"y\"\r\n{first}\r\n{length:X}\r\n{rest}\r\n0\r\nTrailer: z\r\n\r\n");
        is_answered(server, head.clone() + &chunks, &taken());
        let mut client = Client::open(server);
        for byte in (head.clone() + &chunks).as_bytes() {
            client.raw([*byte]);
        }
        hears(&mut client, &taken(), "byte by byte");
        is_answered(server, head + "5\r\n{\"nam!\r\n", &closing(&bad_request()));
    });
}

#[test]
fn r171_whoever_expects_100_continue_hears_it_before_sending_the_body() {
    on_every_server(|server| {
        let length = EVENT.len();
        let headers = format!("Expect: 100-continue\r\nContent-Length: {length}\r\n");
        let mut client = Client::connect_with(server, &publish_head(EVENT, &headers));
        assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
        client.raw(EVENT);
        hears(&mut client, &taken(), "the body");
        // Who does not wait needs no 100.
        is_answered(server, publish_head(EVENT, &headers) + EVENT, &taken());
    });
}

#[test]
fn r171_whoever_half_closes_after_a_request_still_gets_the_answer() {
    on_every_server(|server| {
        for (request, answer) in [
            (publish_request("1", EVENT), taken()),
            (plain("GET /up"), healthy()),
            (plain("GET /nope"), not_found()),
        ] {
            let mut client = Client::connect_with(server, &request);
            client.finish();
            hears(&mut client, &answer, &request);
            client.ends();
        }
    });
}

#[test]
fn r172_r173_an_upgrade_of_an_api_path_is_a_plain_request() {
    on_every_server(|server| {
        let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let upgrade = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{key}");
        for headers in [
            "Connection: Upgrade\r\n",
            "Connection: Upgrade\r\nUpgrade:\r\n",
            &upgrade,
        ] {
            is_answered(server, request("GET", "/up", headers, ""), &healthy());
            let target = signed_target("1", "POST", "/apps/app-1/events", "", EVENT);
            is_answered(server, request("POST", &target, headers, EVENT), &taken());
        }
    });
}

#[test]
fn a_head_that_is_not_there_after_10_seconds_ends_its_connection() {
    // All fleets at once: the ten seconds pass once.
    std::thread::scope(|scope| {
        for fleet in FLEETS {
            scope.spawn(move || {
                let server = Server::start(fleet, &[]);
                let begun = Instant::now();
                let mut slow = [&b""[..], b"GET", b"GET /up HTTP/1.1\r\nHost: x\r\n"].map(|part| {
                    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
                    stream
                        .set_read_timeout(Some(Duration::from_secs(13)))
                        .unwrap();
                    stream.write_all(part).unwrap();
                    stream
                });
                // A trickle does not prolong it.
                let mut trickling = slow[2].try_clone().unwrap();
                scope.spawn(move || {
                    while trickling.write_all(b"X").is_ok() && begun.elapsed().as_secs() < 12 {
                        std::thread::sleep(Duration::from_millis(500));
                    }
                });
                for stream in &mut slow {
                    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it ends without a word");
                    let took = begun.elapsed().as_millis();
                    assert!((9_900..12_000).contains(&took), "{fleet}: after {took} ms");
                }
                is_answered(&server, plain("GET /up"), &healthy());
            });
        }
    });
}
