//! Request heads: the request line and headers as types, and what they say about the body.
//!
//! Called by the request reader with a head that is whole. Refuses whatever is ambiguous.

use std::mem::MaybeUninit;

use super::Status;

/// One whole request, borrowed from the reader or straight from the input.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// As sent; compare with [`Request::is_method`].
    pub method: &'a str,
    /// As sent, still percent-encoded, without the query; absolute-form and leading slashes are
    /// reduced to one path as Reverb does.
    pub path: &'a str,
    /// Raw, without `?`; empty if there is none.
    pub query: &'a str,
    /// HTTP/1.0 or 1.1; every other version has been refused.
    pub version: Version,
    /// All header lines.
    pub headers: Headers<'a>,
    /// Empty if the request has none.
    pub body: &'a [u8],
    /// The connection may serve another request afterwards.
    pub keep_alive: bool,
}

impl Request<'_> {
    /// Is this the method `name`, in any case?
    pub fn is_method(&self, name: &str) -> bool {
        self.method.eq_ignore_ascii_case(name)
    }
}

/// The HTTP version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Closes after the answer unless asked not to.
    Http10,
    /// Stays open after the answer unless asked not to.
    Http11,
}

/// The header lines of a request that has been found well-formed.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    /// Everything behind the request line, CRLF after each line.
    lines: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Gives the values of a header in order, the name compared in any case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        memchr::memchr_iter(b'\n', self.lines)
            .scan(0, |start, end| {
                self.lines.get(std::mem::replace(start, end + 1)..end)
            })
            .filter_map(move |line| {
                let (field, value) = line.split_at_checked(name.len())?;
                let value = value.strip_prefix(b":")?;
                field
                    .eq_ignore_ascii_case(name.as_bytes())
                    .then(|| value.trim_ascii())
            })
    }

    /// Gives the first value of a header, if it is UTF-8.
    pub fn first_str(&self, name: &str) -> Option<&'a str> {
        self.all(name)
            .next()
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// A parsed head.
pub(super) struct Head<'a> {
    pub(super) request: Request<'a>,
    pub(super) body: Body,
    /// `Expect: 100-continue`, and there is a body to wait for.
    pub(super) expects_continue: bool,
}

/// How the body of a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// After so many bytes; 0 is no body.
    Sized(usize),
    /// Where its chunks end.
    Chunked,
}

impl<'a> Head<'a> {
    /// Parses a head that ends with its empty line.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Status> {
        if has_bare_line_feed(bytes) {
            return Err(Status::BadRequest);
        }
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            _ => return Err(Status::BadRequest),
        }
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
            return Err(Status::BadRequest);
        };
        let version = if parsed.version == Some(0) {
            Version::Http10
        } else {
            Version::Http11
        };
        let facts = Facts::gather(parsed.headers)?;
        let body = facts.check(version)?;
        let (path, query) = split_target(target);
        let lines = memchr::memchr(b'\n', bytes).and_then(|end| bytes.get(end + 1..));
        let keep_alive = facts.keep_alive.unwrap_or(version == Version::Http11);
        let headers = Headers {
            lines: lines.unwrap_or_default(),
        };
        Ok(Self {
            request: Request {
                method,
                path,
                query,
                version,
                headers,
                body: &[],
                keep_alive,
            },
            body,
            expects_continue: facts.expects_continue
                && version == Version::Http11
                && body != Body::Sized(0),
        })
    }
}

/// What the headers say about the framing of a request.
#[derive(Default)]
struct Facts {
    hosts: usize,
    content_length: Option<u64>,
    chunked: bool,
    /// What `Connection` asks for; `close` outweighs `keep-alive`.
    keep_alive: Option<bool>,
    expects_continue: bool,
}

impl Facts {
    fn gather(headers: &[httparse::Header<'_>]) -> Result<Self, Status> {
        let mut facts = Self::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("host") {
                facts.hosts += 1;
            } else if is("content-length") {
                let length = parse_length(header.value)?;
                if facts
                    .content_length
                    .replace(length)
                    .is_some_and(|other| other != length)
                {
                    return Err(Status::BadRequest);
                }
            } else if is("transfer-encoding") {
                // Any other coding, and a second "chunked", leaves the end of the body in doubt.
                if facts.chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Status::BadRequest);
                }
                facts.chunked = true;
            } else if is("connection") {
                if has_token(header.value, "close") {
                    facts.keep_alive = Some(false);
                } else if has_token(header.value, "keep-alive") {
                    facts.keep_alive.get_or_insert(true);
                }
            } else if is("expect") {
                facts.expects_continue |= header.value.eq_ignore_ascii_case(b"100-continue");
            }
        }
        Ok(facts)
    }

    /// Refuses what is ambiguous; gives how the body ends.
    fn check(&self, version: Version) -> Result<Body, Status> {
        let host_is_right = match version {
            Version::Http10 => self.hosts <= 1,
            Version::Http11 => self.hosts == 1,
        };
        if !host_is_right {
            return Err(Status::BadRequest);
        }
        if !self.chunked {
            // A length beyond the address space is beyond any limit as well.
            let length = usize::try_from(self.content_length.unwrap_or(0)).unwrap_or(usize::MAX);
            return Ok(Body::Sized(length));
        }
        if self.content_length.is_some() || version == Version::Http10 {
            return Err(Status::BadRequest);
        }
        Ok(Body::Chunked)
    }
}

/// Is `token` one of the members of a comma-separated header value, in any case?
pub(in crate::proto) fn has_token(value: &[u8], token: &str) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Reads a Content-Length of digits alone; one too large for 64 bits counts as the largest.
fn parse_length(value: &[u8]) -> Result<u64, Status> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Status::BadRequest);
    }
    let digit = |length: u64, &byte| {
        length
            .saturating_mul(10)
            .saturating_add(u64::from(byte - b'0'))
    };
    Ok(value.iter().fold(0, digit))
}

/// Our parser would take a bare LF for a line end; others in front of us would not.
fn has_bare_line_feed(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes)
        .any(|at| at.checked_sub(1).and_then(|before| bytes.get(before)) != Some(&b'\r'))
}

/// Splits a request target into path and query (absolute-form, `//app/key`: as Reverb).
fn split_target(target: &str) -> (&str, &str) {
    let (mut path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/')
        && let Some((_scheme, rest)) = path.split_once("://")
    {
        path = rest
            .find('/')
            .and_then(|slash| rest.get(slash..))
            .unwrap_or("/");
    }
    while path.starts_with("//") {
        path = path.get(1..).unwrap_or_default();
    }
    (path, query)
}

/// More header lines than any client sends; a request with more is refused.
pub(super) const HEADERS_MAX: usize = 128;
