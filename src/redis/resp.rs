//! What Redis says and is told: RESP2, read from a stream that comes in any pieces.
//!
//! Called by `link` and `dial`, which own the sockets. A [`Reader`] hands out messages as slices of
//! its buffer, so that reading one allocates nothing. Nothing here trusts a length: what is longer
//! than it may be is skipped as it streams by and never held.

/// Room for one read of the socket, bytes.
const READ_BYTES: usize = 256 * 1024;
/// The longest line: a status, an error, a length.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Elements of an array.
const ELEMENTS_MAX: usize = 1024;
/// Arrays within arrays.
const DEPTH_MAX: usize = 8;

/// One thing that Redis has said. Everything borrows from the [`Reader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// A message of a subscription.
    Message {
        /// The pattern of `PSUBSCRIBE` that it fits, if it is such a subscription's.
        pattern: Option<&'a [u8]>,
        /// Where it was published.
        channel: &'a [u8],
        /// What was published.
        payload: &'a [u8],
    },
    /// A channel or pattern was subscribed to: its name.
    Subscribed(&'a [u8]),
    /// A channel or pattern was unsubscribed from.
    Unsubscribed,
    /// The answer to PING, on a connection with subscriptions or without.
    Pong,
    /// `+OK` and the like.
    Status(&'a [u8]),
    /// `-ERR …` without the sign.
    Error(&'a [u8]),
    /// A number.
    Integer(i64),
    /// A string, or none.
    Bulk(Option<&'a [u8]>),
    /// Any other array.
    Array {
        /// Its first elements; empty where they are no strings or missing.
        strings: [&'a [u8]; KEPT],
        /// How many it has.
        count: usize,
    },
    /// Something that was longer than it may be; it was skipped.
    TooLong,
}

/// Not RESP; what is wrong with it. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what Redis says is not understood: {0}")]
pub struct Malformed(pub &'static str);

/// Reads one connection.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Bytes that have been handed out.
    start: usize,
    /// Bytes that came from the socket.
    end: usize,
    /// Bytes to be dropped as they come, when something too long streams by.
    skip: usize,
    /// Whether the end of what is skipped is still to be told.
    has_skipped: bool,
    message_bytes_max: usize,
}

impl Reader {
    /// A reader that holds strings of so many bytes at most.
    pub fn new(message_bytes_max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            skip: 0,
            has_skipped: false,
            message_bytes_max,
        }
    }

    /// Where the next bytes of the socket go; [`Self::filled`] says how many came.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > 2 * READ_BYTES {
                self.buffer = Vec::new();
            }
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() < self.end + READ_BYTES {
            self.buffer.resize(self.end + READ_BYTES, 0);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes came into [`Self::room`].
    pub fn filled(&mut self, length: usize) {
        self.end = (self.end + length).min(self.buffer.len());
    }

    /// The next thing that Redis has said; `None` until more bytes come.
    ///
    /// # Errors
    /// The bytes are not RESP, or not what a Redis says.
    pub fn poll(&mut self) -> Result<Option<Said<'_>>, Malformed> {
        if self.skip > 0 {
            let skipped = self.skip.min(self.end - self.start);
            self.start += skipped;
            self.skip -= skipped;
            if self.skip > 0 {
                return Ok(None);
            }
        }
        if std::mem::take(&mut self.has_skipped) {
            return Ok(Some(Said::TooLong));
        }
        let values = Values {
            bytes: self.buffer.get(self.start..self.end).unwrap_or_default(),
            message_bytes_max: self.message_bytes_max,
        };
        match values.value(0, DEPTH_MAX)? {
            // No string of it is too long, but it has too many.
            Parsed::Incomplete if self.end - self.start > self.held_bytes_max() => {
                Err(Malformed("an array that is too long"))
            }
            Parsed::Incomplete => Ok(None),
            Parsed::Value { token, next } => {
                let bytes = self.buffer.get(self.start..self.end);
                self.start += next;
                Ok(Some(token.said(bytes.unwrap_or_default())))
            }
            Parsed::TooLong { from, length } => {
                self.start += from;
                self.skip = length + LINE_END.len();
                self.has_skipped = true;
                self.poll()
            }
        }
    }

    /// Bytes of a message at most: it has a name and a payload.
    fn held_bytes_max(&self) -> usize {
        self.message_bytes_max
            .saturating_mul(2)
            .saturating_add(READ_BYTES)
    }
}

const LINE_END: &[u8] = b"\r\n";

/// One value at some place of the bytes at hand.
enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// It ends where `next` begins.
    Value { token: Token, next: usize },
    /// It ends with a string of so many bytes from `from` on, which are too many.
    TooLong { from: usize, length: usize },
}

/// What a value is, by its place in the bytes.
#[derive(Clone, Copy)]
enum Token {
    Status(Span),
    Error(Span),
    Integer(i64),
    Bulk(Option<Span>),
    Array { kept: [Span; KEPT], count: usize },
}

/// Elements of an array that are looked at.
pub const KEPT: usize = 4;

#[derive(Clone, Copy, Default)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }
}

impl Token {
    fn said(self, bytes: &[u8]) -> Said<'_> {
        match self {
            Self::Status(text) if text.of(bytes) == b"PONG" => Said::Pong,
            Self::Status(text) => Said::Status(text.of(bytes)),
            Self::Error(text) => Said::Error(text.of(bytes)),
            Self::Integer(number) => Said::Integer(number),
            Self::Bulk(text) => Said::Bulk(text.map(|text| text.of(bytes))),
            Self::Array { kept, count } => said_by_array(kept.map(|span| span.of(bytes)), count),
        }
    }

    /// The text of an element that has one.
    fn span(self) -> Span {
        match self {
            Self::Bulk(Some(text)) => text,
            _ => Span::default(),
        }
    }
}

fn said_by_array(strings: [&[u8]; KEPT], count: usize) -> Said<'_> {
    let [first, second, third, fourth] = strings;
    match (first, count) {
        (b"pmessage", 4) => Said::Message {
            pattern: Some(second),
            channel: third,
            payload: fourth,
        },
        (b"message", 3) => Said::Message {
            pattern: None,
            channel: second,
            payload: third,
        },
        (b"subscribe" | b"psubscribe", 3) => Said::Subscribed(second),
        (b"unsubscribe" | b"punsubscribe", 3) => Said::Unsubscribed,
        (b"pong", 2) => Said::Pong,
        _ => Said::Array { strings, count },
    }
}

/// The bytes at hand, and what they may hold.
struct Values<'a> {
    bytes: &'a [u8],
    message_bytes_max: usize,
}

impl Values<'_> {
    /// The value that begins at `at`.
    fn value(&self, at: usize, depth: usize) -> Result<Parsed, Malformed> {
        let Some(kind) = self.bytes.get(at) else {
            return Ok(Parsed::Incomplete);
        };
        match kind {
            b'+' | b'-' => self.line(at + 1, |text| match kind {
                b'+' => Token::Status(text),
                _ => Token::Error(text),
            }),
            b':' => Ok(match self.number(at + 1)? {
                None => Parsed::Incomplete,
                Some((number, next)) => {
                    let token = Token::Integer(number);
                    Parsed::Value { token, next }
                }
            }),
            b'$' => self.bulk(at + 1),
            b'*' | b'>' => self.array(at + 1, depth),
            _ => Err(Malformed("a value of no known kind")),
        }
    }

    fn line(&self, at: usize, token: impl Fn(Span) -> Token) -> Result<Parsed, Malformed> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        let rest = rest.get(..LINE_BYTES_MAX).unwrap_or(rest);
        let Some(length) = memchr::memmem::find(rest, LINE_END) else {
            return if rest.len() < LINE_BYTES_MAX {
                Ok(Parsed::Incomplete)
            } else {
                Err(Malformed("a line without an end"))
            };
        };
        let (start, end) = (at, at + length);
        Ok(Parsed::Value {
            token: token(Span { start, end }),
            next: end + LINE_END.len(),
        })
    }

    /// The number of a line, and where the next begins.
    fn number(&self, at: usize) -> Result<Option<(i64, usize)>, Malformed> {
        let wrong = Malformed("a number that is none");
        let mut next = at;
        let is_negative = self.bytes.get(next) == Some(&b'-');
        next += usize::from(is_negative);
        let mut number = 0_i64;
        let digits = next;
        loop {
            match self.bytes.get(next) {
                None => return Ok(None),
                Some(digit @ b'0'..=b'9') => {
                    let digit = i64::from(digit - b'0');
                    let tens = number.checked_mul(10).ok_or(wrong)?;
                    number = tens.checked_add(digit).ok_or(wrong)?;
                }
                Some(b'\r') if next > digits => break,
                Some(_) => return Err(wrong),
            }
            next += 1;
        }
        match self.bytes.get(next + 1) {
            None => Ok(None),
            Some(b'\n') => {
                let number = if is_negative { -number } else { number };
                Ok(Some((number, next + LINE_END.len())))
            }
            Some(_) => Err(wrong),
        }
    }

    fn bulk(&self, at: usize) -> Result<Parsed, Malformed> {
        let Some((length, start)) = self.number(at)? else {
            return Ok(Parsed::Incomplete);
        };
        let Ok(length) = usize::try_from(length) else {
            let token = Token::Bulk(None);
            return Ok(Parsed::Value { token, next: start });
        };
        if length > BULK_BYTES_MAX {
            return Err(Malformed("a string longer than Redis can hold"));
        }
        if length > self.message_bytes_max {
            return Ok(Parsed::TooLong {
                from: start,
                length,
            });
        }
        let end = start + length;
        match self.bytes.get(end..end + LINE_END.len()) {
            None => Ok(Parsed::Incomplete),
            Some(LINE_END) => {
                let token = Token::Bulk(Some(Span { start, end }));
                let next = end + LINE_END.len();
                Ok(Parsed::Value { token, next })
            }
            Some(_) => Err(Malformed("a string that is longer than it says")),
        }
    }

    fn array(&self, at: usize, depth: usize) -> Result<Parsed, Malformed> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Malformed("arrays nested too deeply"));
        };
        let Some((count, mut next)) = self.number(at)? else {
            return Ok(Parsed::Incomplete);
        };
        // An array may be null, which is as good as empty here.
        let count = usize::try_from(count).unwrap_or(0);
        if count > ELEMENTS_MAX {
            return Err(Malformed("an array of too many elements"));
        }
        let mut kept = [Span::default(); KEPT];
        for position in 0..count {
            match self.value(next, depth)? {
                Parsed::Value { token, next: after } => {
                    if let Some(kept) = kept.get_mut(position) {
                        *kept = token.span();
                    }
                    next = after;
                }
                Parsed::TooLong { .. } if position + 1 < count => {
                    return Err(Malformed("a string that is too long, within an array"));
                }
                unfinished => return Ok(unfinished),
            }
        }
        let token = Token::Array { kept, count };
        Ok(Parsed::Value { token, next })
    }
}

/// Redis's own bound of a string (`proto-max-bulk-len`, 512 MB unless raised), with room.
const BULK_BYTES_MAX: usize = 2 << 30;

/// Appends a command: an array of strings.
pub fn command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    header(out, b'*', parts.len());
    for part in parts {
        header(out, b'$', part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(LINE_END);
    }
}

fn header(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(LINE_END);
}

#[cfg(test)]
mod tests;
