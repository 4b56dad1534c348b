//! Request heads and bodies at any split, and the ones that must be refused.
use proptest::prelude::*;

use super::{head::HEADERS_MAX, *};

const MAX: usize = 10_000;

/// A [`Request`] that owns its bytes, or what else came.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Request {
        method: String,
        path: String,
        query: String,
        body: Vec<u8>,
        keep_alive: bool,
    },
    Continue,
    Refused(Status),
}

fn limits(max_request_size: usize) -> Limits {
    Limits { max_request_size }
}

fn read_pieces(pieces: &[&[u8]], max: usize) -> (Vec<Item>, Reader) {
    let mut reader = Reader::default();
    let mut items = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let consumed = match reader.read(rest, &limits(max)) {
                Read::Incomplete => break,
                Read::Continue { consumed } => {
                    items.push(Item::Continue);
                    consumed
                }
                Read::Request { consumed, request } => {
                    items.push(Item::Request {
                        method: request.method.into(),
                        path: request.path.into(),
                        query: request.query.into(),
                        body: request.body.into(),
                        keep_alive: request.keep_alive,
                    });
                    consumed
                }
                Read::Refused { status } => {
                    items.push(Item::Refused(status));
                    return (items, reader);
                }
            };
            rest = &rest[consumed..];
        }
    }
    (items, reader)
}

/// Reads the bytes whole and one by one.
fn read(bytes: &[u8]) -> Vec<Item> {
    let whole = read_pieces(&[bytes], MAX).0;
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    let mut slow = read_pieces(&single, MAX).0;
    slow.retain(|item| *item != Item::Continue);
    assert_eq!(slow, whole, "byte by byte");
    whole
}

fn get(path: &str, query: &str) -> Item {
    let (path, query) = (path.into(), query.into());
    Item::Request {
        method: "GET".into(),
        path,
        query,
        body: Vec::new(),
        keep_alive: true,
    }
}

fn post(body: &[u8]) -> Item {
    let (method, path, query) = ("POST".into(), "/e".into(), String::new());
    Item::Request {
        method,
        path,
        query,
        body: body.into(),
        keep_alive: true,
    }
}

fn bad() -> [Item; 1] {
    [Item::Refused(Status::BadRequest)]
}

fn too_large() -> [Item; 1] {
    [Item::Refused(Status::PayloadTooLarge)]
}

#[test]
fn a_whole_request_is_borrowed_from_the_input() {
    let input = b"POST /e?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}GET /up";
    let mut reader = Reader::default();
    let Read::Request { consumed, request } = reader.read(input, &limits(MAX)) else {
        panic!()
    };
    assert_eq!(&input[consumed..], b"GET /up");
    assert_eq!(request.body.as_ptr(), input[consumed - 2..].as_ptr());
    assert_eq!(request.version, Version::Http11);
    assert!(request.is_method("post") && !request.is_method("pos"));
    assert!(reader.is_idle() && reader.held.is_none());
}

#[test]
fn an_idle_reader_is_one_pointer_and_frees_the_last_request() {
    assert_eq!(size_of::<Reader>(), size_of::<usize>());
    let (items, reader) = read_pieces(&[b"GET /up HTTP/1.1\r\nHo", b"st: x\r\n\r\n", b"GET"], MAX);
    assert_eq!(items, [get("/up", "")]);
    assert!(!reader.is_idle() && !reader.head_is_read());
    let (_, reader) = read_pieces(
        &[b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"],
        MAX,
    );
    assert!(!reader.is_idle() && reader.head_is_read());
    let (_, reader) = read_pieces(&[b"GET /up HTTP/1.1\r\nHost: x\r", b"\n\r\n"], MAX);
    assert!(reader.is_idle() && reader.held.is_none());
}

#[test]
fn header_lines_are_found_in_any_case_and_in_order() {
    let input = b"GET / HTTP/1.1\r\nHost: x\r\nX-A:1\r\nx-a: \t 2 \r\nX-AB: 3\r\nX-Empty:\r\n\r\n";
    let mut reader = Reader::default();
    let Read::Request { request, .. } = reader.read(input, &limits(MAX)) else {
        panic!()
    };
    assert_eq!(request.headers.all("x-A").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(request.headers.first_str("HOST"), Some("x"));
    assert_eq!(request.headers.first_str("x-empty"), Some(""));
    assert_eq!(request.headers.first_str("GET / HTTP/1.1"), None);
    assert_eq!(request.headers.first_str("x"), None);
}

#[test]
fn targets_are_resolved_as_reverb_does() {
    for (target, path, query) in [
        (
            "/app/key-1?protocol=7&client=js",
            "/app/key-1",
            "protocol=7&client=js",
        ),
        ("//app/key-1", "/app/key-1", ""),
        ("http://h/app/key-1?a=b", "/app/key-1", "a=b"),
        ("HTTPS://h:80?a=/b", "/", "a=/b"),
        ("/app/key%2D1?", "/app/key%2D1", ""),
        ("/x?u=http://h/y?z", "/x", "u=http://h/y?z"),
        ("*", "*", ""),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(read(bytes.as_bytes()), [get(path, query)], "{target}");
    }
}

#[test]
fn r164_a_request_of_exactly_the_limit_passes_and_one_more_byte_is_413() {
    let head = |length| format!("POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let fits = MAX - head(9999).len();
    let bytes = [head(fits).as_bytes(), &vec![b'x'; fits]].concat();
    assert_eq!(bytes.len(), MAX);
    assert_eq!(read(&bytes), [post(&vec![b'x'; fits])]);
    // The announcement is enough.
    assert_eq!(read(head(fits + 1).as_bytes()), too_large());
    assert_eq!(read(head(usize::MAX).as_bytes()), too_large());
    let absurd = "POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n";
    assert_eq!(read(absurd.as_bytes()), too_large());
}

#[test]
fn r164_an_endless_head_is_413_as_soon_as_it_passes_the_limit() {
    let mut bytes = b"GET /up HTTP/1.1\r\nX: ".to_vec();
    bytes.resize(MAX, b'a');
    assert_eq!(read(&bytes), []);
    bytes.push(b'a');
    assert_eq!(read(&bytes), too_large());
    bytes.extend(b"\r\n\r\n");
    assert_eq!(read(&bytes), too_large());
}

#[test]
fn r167_r168_malformed_heads_are_400() {
    for head in [
        "GARBAGE\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n",
        "GET /up HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n",
        "GET /up HTTP/1.1\r\nHost: x\r\nFoo : bar\r\n\r\n",
        "GET /up HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
        "GET /up HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n",
        "GET /up HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        "GET /up HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        "GET  /up HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /u p HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /up\r\nHost: x\r\n\r\n",
        " GET /up HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
        "GET /up HTTP/1.2\r\nHost: x\r\n\r\n",
        "GET /up HTTP/0.9\r\nHost: x\r\n\r\n",
        "GET /up http/1.1\r\nHost: x\r\n\r\n",
    ] {
        assert_eq!(read(head.as_bytes()), bad(), "{head:?}");
    }
    let many = "X: y\r\n".repeat(HEADERS_MAX);
    assert_eq!(
        read(format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes()),
        bad()
    );
}

#[test]
fn r167_http_1_1_needs_exactly_one_host() {
    assert_eq!(read(b"GET /up HTTP/1.1\r\n\r\n"), bad());
    assert_eq!(
        read(b"GET /up HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n"),
        bad()
    );
    assert_eq!(
        read(b"GET /up HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n"),
        bad()
    );
    assert_eq!(read(b"GET /up HTTP/1.0\r\n\r\n").len(), 1);
}

#[test]
fn line_feeds_alone_never_end_a_head() {
    // Reverb waits for CRLF CRLF for ever, we for the ten seconds of a head.
    assert_eq!(read(b"GET /up HTTP/1.1\nHost: x\n\n"), []);
    assert_eq!(read(b"GET /up HTTP/1.1\nHost: x\r\n\r\n"), bad());
    assert_eq!(read(b"GET /up HTTP/1.1\r\nHost: x\n\r\n\r\n"), bad());
    assert_eq!(
        read(b"GET /up HTTP/1.1\r\nHost: x\nContent-Length: 3\r\n\r\n"),
        bad()
    );
    assert_eq!(read(b"\nGET /up HTTP/1.1\r\nHost: x\r\n\r\n"), bad());
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    assert_eq!(read(b"\r\n\r\n"), []);
    assert_eq!(
        read(b"\r\n\r\nGET /up HTTP/1.1\r\nHost: x\r\n\r\n\r\n"),
        [get("/up", "")]
    );
    let flood = [
        &b"\r\n".repeat(MAX)[..],
        b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    .concat();
    assert_eq!(read(&flood), [get("/up", "")]);
    assert_eq!(read_pieces(&[b"\r", &flood[1..]], MAX).0, [get("/up", "")]);
}

#[test]
fn ambiguous_bodies_are_400() {
    for framing in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2, 2",
        "Content-Length: +2",
        "Content-Length: -2",
        "Content-Length: 0x2",
        "Content-Length: 2 2",
        "Content-Length: abc",
        "Content-Length:",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "X: y\r\n\tTransfer-Encoding: chunked",
    ] {
        let bytes = format!("POST /e HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
        assert_eq!(read(bytes.as_bytes()), bad(), "{framing:?}");
    }
    assert_eq!(
        read(b"POST /e HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        bad()
    );
    let same = b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 02\r\n\r\n{}";
    assert_eq!(read(same), [post(b"{}")]);
}

#[test]
fn r169_a_short_body_is_waited_for() {
    assert_eq!(
        read(b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 46\r\n\r\n{}"),
        []
    );
}

const CHUNKED: &str = "POST /e HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n";

#[test]
fn r171_chunks_are_joined_and_extensions_and_trailers_dropped() {
    for (chunks, body) in [
        ("0\r\n\r\n", ""),
        ("2\r\n{}\r\n0\r\n\r\n", "{}"),
        (
            "00A\r\n0123456789\r\n1;a=\"b;c\"\r\nx\r\n0;z\r\n\r\n",
            "0123456789x",
        ),
        (
            "2 \r\n\r\n\r\n0\r\nA: b\r\nContent-Length: 9\r\n\r\n",
            "\r\n",
        ),
    ] {
        let bytes = format!("{CHUNKED}{chunks}GET /up HTTP/1.1\r\nHost: x\r\n\r\n");
        let items = [post(body.as_bytes()), get("/up", "")];
        assert_eq!(read(bytes.as_bytes()), items, "{chunks:?}");
    }
}

#[test]
fn malformed_chunks_are_400() {
    for chunks in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        " 1\r\n",
        "0x1\r\n",
        ";a\r\n",
        "1\nx",
        "1\rx",
        "1\r\nxx",
        "1\r\nx\n",
        "1\r\nx\rx",
        "1;a\n",
        "1;\0\r\n",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\na\n",
    ] {
        assert_eq!(
            read(format!("{CHUNKED}{chunks}").as_bytes()),
            bad(),
            "{chunks:?}"
        );
    }
}

#[test]
fn r164_chunk_framing_counts_in_the_limit() {
    for chunks in [
        format!("{MAX:x}\r\n"),
        "FFFFFFFFFFFFFFFFF\r\n".into(),
        format!("1;{}", "a".repeat(MAX)),
        "0".repeat(MAX),
        format!("0\r\na:{}", "b".repeat(MAX)),
        format!("64\r\n{}\r\n", "x".repeat(100)).repeat(MAX / 100),
    ] {
        assert_eq!(read(format!("{CHUNKED}{chunks}").as_bytes()), too_large());
    }
    let fits = MAX - CHUNKED.len() - "26ab\r\n\r\n0\r\n\r\n".len();
    let bytes = format!("{CHUNKED}{fits:04x}\r\n{}\r\n0\r\n\r\n", "x".repeat(fits));
    assert_eq!(bytes.len(), MAX);
    assert_eq!(read(bytes.as_bytes()), [post(&vec![b'x'; fits])]);
}

#[test]
fn r171_a_waiting_client_is_told_to_continue_once() {
    let head = b"POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(read_pieces(&[head], MAX).0, [Item::Continue]);
    assert_eq!(
        read_pieces(&[head, b"{", b"}"], MAX).0,
        [Item::Continue, post(b"{}")]
    );
    // Who sends the body anyway does not wait.
    let whole = [&head[..], b"{}"].concat();
    assert_eq!(read_pieces(&[&whole], MAX).0, [post(b"{}")]);
    assert_eq!(
        read_pieces(&[&whole[..whole.len() - 1], b"}"], MAX).0,
        [post(b"{}")]
    );
    let chunked = CHUNKED.replace("Host", "Expect: 100-continue\r\nHost");
    let pieces: [&[u8]; 2] = [chunked.as_bytes(), b"2\r\n{}\r\n0\r\n\r\n"];
    assert_eq!(read_pieces(&pieces, MAX).0, [Item::Continue, post(b"{}")]);
}

#[test]
fn r164_a_waiting_client_with_too_much_is_413_at_once() {
    let head =
        "POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999\r\n\r\n";
    assert_eq!(read(head.as_bytes()), too_large());
}

#[test]
fn r171_pipelined_requests_come_one_by_one() {
    let one = b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n";
    let body = b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nGET ";
    let bytes = [&one[..], body, one].concat();
    assert_eq!(
        read(&bytes),
        [get("/up", ""), post(b"GET "), get("/up", "")]
    );
}

#[test]
fn r034_bytes_behind_an_upgrade_request_are_left_alone() {
    let head =
        b"GET /app/k HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let bytes = [&head[..], b"\x81\x80\0\0\0\0"].concat();
    let mut reader = Reader::default();
    let Read::Request { consumed, .. } = reader.read(&bytes, &limits(MAX)) else {
        panic!()
    };
    assert_eq!(consumed, head.len());
}

#[test]
fn connections_stay_open_as_the_version_and_the_client_say() {
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Keep-Alive, CLOSE\r\n", false),
        (
            "1.1",
            "Connection: close\r\nConnection: keep-alive\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        (
            "1.0",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: x\r\n{connection}\r\n");
        let items = read(bytes.as_bytes());
        let [Item::Request { keep_alive, .. }] = items[..] else {
            panic!("{items:?}")
        };
        assert_eq!(keep_alive, expected, "{version} {connection}");
    }
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..120);
    let sized = body.clone().prop_map(|body| {
        let head = format!(
            "POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), &body].concat()
    });
    let chunked = (body, 1_usize..50).prop_map(|(body, size)| {
        let mut bytes = CHUNKED.as_bytes().to_vec();
        for chunk in body.chunks(size) {
            bytes.extend(format!("{:X};e\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\nT: x\r\n\r\n");
        bytes
    });
    let other = prop::sample::select(vec![
        &b"\r\nGET /up HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"GET /up HTTP/1.0\r\n\r\n",
        b"GET /up HTTP/1.1\r\n\r\n",
        b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n",
        b"GET\n\r\n\r\n",
    ]);
    prop_oneof![3 => sized, 3 => chunked, 1 => other.prop_map(<[u8]>::to_vec)]
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_requests(
        bytes in prop::collection::vec(request(), 0..4).prop_map(|list| list.concat()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        max in 100_usize..400,
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let whole = read_pieces(&[&bytes], max).0;
        prop_assert_eq!(read_pieces(&pieces, max).0, whole);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_pieces(&[&bytes], 200);
        read_pieces(&[b"GET /", &bytes, b"\r\n\r\n"], 200);
        read_pieces(&[CHUNKED.as_bytes(), &bytes], 200);
    }
}
