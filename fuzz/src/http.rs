//! Any bytes as the requests of one connection: read the same however the network cuts them, and
//! with the bodies that a plain reading of the framing gives.

use slapback::proto::http::{Limits, Read, Reader, Request, Status};

use super::pieces;

const LIMITS: Limits = Limits {
    max_request_size: 400,
};

/// One thing that came of the stream.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Request(Box<Kept>),
    Refused(Status),
    /// The stream ended.
    Ended {
        is_idle: bool,
        head_is_read: bool,
    },
}

/// A request, kept.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    method: String,
    path: String,
    query: String,
    version: slapback::proto::http::Version,
    hosts: Vec<Vec<u8>>,
    keep_alive: bool,
    body: Vec<u8>,
}

/// Reads the stream in one piece and in every cut.
pub fn run(stream: &[u8]) {
    let whole = read(&[stream], check_framing);
    for pieces in pieces::cuts(stream) {
        assert_eq!(read(&pieces, |_, _| ()), whole);
    }
}

/// `look` is given each request and, if the stream came in one piece, what it was read from.
fn read(pieces: &[&[u8]], look: impl Fn(&Request<'_>, &[u8])) -> Vec<Reading> {
    let mut reader = Reader::default();
    let mut readings = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let taken = match reader.read(rest, &LIMITS) {
                Read::Incomplete => break,
                Read::Continue { consumed } => consumed,
                Read::Request { consumed, request } => {
                    assert!(consumed > 0, "a request of nothing");
                    look(&request, &rest[..consumed]);
                    readings.push(Reading::Request(Box::new(keep(&request))));
                    consumed
                }
                Read::Refused { status } => {
                    readings.push(Reading::Refused(status));
                    return readings;
                }
            };
            rest = &rest[taken..];
        }
    }
    readings.push(Reading::Ended {
        is_idle: reader.is_idle(),
        head_is_read: reader.head_is_read(),
    });
    readings
}

fn keep(request: &Request<'_>) -> Kept {
    assert!(request.body.len() < LIMITS.max_request_size);
    assert!(!request.path.starts_with("//"), "a path of two slashes");
    Kept {
        method: request.method.to_owned(),
        path: request.path.to_owned(),
        query: request.query.to_owned(),
        version: request.version,
        hosts: request.headers.all("host").map(<[u8]>::to_vec).collect(),
        keep_alive: request.keep_alive,
        body: request.body.to_vec(),
    }
}

/// No other reader may find another body in the same bytes.
fn check_framing(request: &Request<'_>, mut raw: &[u8]) {
    while let Some(behind) = raw.strip_prefix(b"\r\n") {
        raw = behind;
    }
    let start = end_of(raw, b"\r\n\r\n").expect("a head ends");
    let lengths: Vec<&[u8]> = request.headers.all("content-length").collect();
    let codings: Vec<&[u8]> = request.headers.all("transfer-encoding").collect();
    let body = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Vec::new(),
        ([first, others @ ..], []) => {
            let number = |text: &[u8]| str::from_utf8(text).ok()?.parse::<usize>().ok();
            let length = number(first).expect("a length is a number");
            assert!(others.iter().all(|other| number(other) == Some(length)));
            raw[start..start + length].to_vec()
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"));
            unchunked(&raw[start..]).expect("the chunks can be read")
        }
        _ => panic!("where the body ends is told in two ways"),
    };
    assert_eq!(request.body, body);
}

/// The data of a chunked body.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let (line, tail) = rest.split_at(end_of(rest, b"\r\n")?);
        let digits = line.split(|byte| !byte.is_ascii_hexdigit()).next()?;
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            return Some(data);
        }
        data.extend_from_slice(tail.get(..size)?);
        rest = tail.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

fn end_of(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    let at = bytes.windows(mark.len()).position(|window| window == mark);
    at.map(|at| at + mark.len())
}
