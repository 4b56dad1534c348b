//! HTTP/1.1 request heads and bodies, incremental and bounded; and the answers.
//!
//! Called by the session until a connection becomes a WebSocket. A request that is whole in the
//! input is borrowed from it; bytes are owned only while one is incomplete or comes in chunks.
//! Whatever two parsers might read in two ways is refused. Never routes, never sends.

mod answer;
mod chunked;
mod head;

pub use answer::{Answer, write_answer};
use chunked::Chunks;
pub(super) use head::has_token;
use head::{Body, Head};
pub use head::{Headers, Request, Version};
use memchr::memmem;

/// How much a client may send.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Head and body together, chunk framing included, in bytes (R-164). There is no "unlimited".
    pub max_request_size: usize,
}

/// Reads the requests of one connection, one at a time.
#[derive(Debug, Default)]
pub struct Reader {
    held: Option<Box<Held>>,
}

/// What came of some input.
#[derive(Debug)]
pub enum Read<'a> {
    /// All input was taken; more is needed.
    Incomplete,
    /// The client waits for `100 Continue`: send it, then call again with what follows.
    Continue {
        /// Bytes taken from the input.
        consumed: usize,
    },
    /// A whole request; what follows it in the input is not touched.
    Request {
        /// Bytes taken from the input.
        consumed: usize,
        /// The request, valid until the next call.
        request: Request<'a>,
    },
    /// Answer with `status`.
    Refused {
        /// What to answer.
        status: Status,
    },
}

/// Why a request is refused before anyone looks at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Malformed, ambiguous, or of an unknown version (R-167, R-168).
    BadRequest,
    /// Larger than the limit, or announced to be (R-164).
    PayloadTooLarge,
}

impl Status {
    /// The number of the status line.
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::PayloadTooLarge => 413,
        }
    }

    /// The answer's plain text.
    pub const fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad request.",
            Self::PayloadTooLarge => "Payload too large.",
        }
    }
}

/// A request that is not complete yet.
#[derive(Debug, Default)]
struct Held {
    /// Head and body so far, without chunk framing.
    bytes: Vec<u8>,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Head,
    /// The body ends when so many bytes are held.
    Sized {
        head: usize,
        total: usize,
    },
    Chunked {
        head: usize,
        chunks: Chunks,
    },
    /// The request was given; forget it at the next call.
    Spent,
}

impl Reader {
    /// Takes bytes from the front of `input` until one request is complete or the input ends.
    ///
    /// Empty lines before a request are skipped; nothing beyond `limits` is ever kept. Call until
    /// it gives `Incomplete`: that call also frees the last request.
    pub fn read<'a>(&'a mut self, input: &'a [u8], limits: &Limits) -> Read<'a> {
        if self
            .held
            .as_ref()
            .is_some_and(|held| matches!(held.phase, Phase::Spent))
        {
            self.held = None;
        }
        let mut taken = 0;
        if let (Some(held), Some(b'\n')) = (&self.held, input.first())
            && held.bytes == b"\r"
        {
            // The empty line before a request came in two pieces.
            self.held = None;
            taken = 1;
        }
        let read = if self.held.is_some() {
            self.read_held(taken, input, limits)
        } else {
            self.read_fresh(taken, input, limits)
        };
        read.unwrap_or_else(|status| Read::Refused { status })
    }

    /// Nothing of a request has arrived.
    pub fn is_idle(&self) -> bool {
        self.held
            .as_ref()
            .is_none_or(|held| matches!(held.phase, Phase::Spent))
    }

    /// A whole head has arrived, but not yet its body.
    pub fn head_is_read(&self) -> bool {
        let phase = self.held.as_ref().map(|held| &held.phase);
        matches!(phase, Some(Phase::Sized { .. } | Phase::Chunked { .. }))
    }

    /// Borrows a request that is whole in the input; else starts to keep it.
    fn read_fresh<'a>(
        &'a mut self,
        taken: usize,
        input: &'a [u8],
        limits: &Limits,
    ) -> Result<Read<'a>, Status> {
        let skipped = taken + empty_lines(input.get(taken..).unwrap_or_default());
        let fresh = input.get(skipped..).unwrap_or_default();
        if fresh.is_empty() {
            return Ok(Read::Incomplete);
        }
        let searched = fresh.get(..limits.max_request_size).unwrap_or(fresh);
        if let Some(head_bytes) = find_head(searched, 0) {
            let head_text = fresh.get(..head_bytes).unwrap_or_default();
            let head = Head::parse(head_text)?;
            if let Body::Sized(body_bytes) = head.body {
                let total = total_bytes(head_bytes, body_bytes, limits)?;
                if let Some(body) = fresh.get(head_bytes..total) {
                    let request = Request {
                        body,
                        ..head.request
                    };
                    return Ok(Read::Request {
                        consumed: skipped + total,
                        request,
                    });
                }
            }
        }
        self.held = Some(Box::default());
        self.read_held(skipped, input, limits)
    }

    /// Adds the input behind its first `taken` bytes to the request that is kept.
    fn read_held<'a>(
        &'a mut self,
        mut taken: usize,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Read<'a>, Status> {
        let Some(held) = self.held.as_deref_mut() else {
            return Ok(Read::Incomplete);
        };
        if matches!(held.phase, Phase::Head) {
            let rest = input.get(taken..).unwrap_or_default();
            let Some(head_input) = held.take_head(rest, limits)? else {
                return Ok(Read::Incomplete);
            };
            taken += head_input;
            let body_has_begun = taken < input.len();
            if held.begin_body(limits)? && !body_has_begun {
                return Ok(Read::Continue { consumed: taken });
            }
        }
        let rest = input.get(taken..).unwrap_or_default();
        let Some((body_input, head_bytes)) = held.take_body(rest, limits)? else {
            return Ok(Read::Incomplete);
        };
        held.phase = Phase::Spent;
        let (lines, body) = held.bytes.split_at_checked(head_bytes).unwrap_or_default();
        let request = Request {
            body,
            ..Head::parse(lines)?.request
        };
        Ok(Read::Request {
            consumed: taken + body_input,
            request,
        })
    }
}

impl Held {
    /// Adds input up to the end of the head; gives how much that was, None if it is not there yet.
    fn take_head(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, Status> {
        let before = self.bytes.len();
        // One byte over the limit is enough to know that it is broken.
        let room = limits
            .max_request_size
            .saturating_add(1)
            .saturating_sub(before);
        self.bytes
            .extend_from_slice(input.get(..room).unwrap_or(input));
        let Some(head_bytes) = find_head(&self.bytes, before) else {
            return if self.bytes.len() > limits.max_request_size {
                Err(Status::PayloadTooLarge)
            } else {
                Ok(None)
            };
        };
        self.bytes.truncate(head_bytes);
        Ok(Some(head_bytes - before))
    }

    /// Learns from the whole head how the body ends; true if the client waits for `100 Continue`.
    fn begin_body(&mut self, limits: &Limits) -> Result<bool, Status> {
        let head_bytes = self.bytes.len();
        let head = Head::parse(&self.bytes)?;
        let body_bytes = match head.body {
            Body::Sized(bytes) => bytes,
            Body::Chunked => 0,
        };
        let total = total_bytes(head_bytes, body_bytes, limits)?;
        let expects_continue = head.expects_continue;
        self.phase = match head.body {
            Body::Sized(_) => Phase::Sized {
                head: head_bytes,
                total,
            },
            Body::Chunked => Phase::Chunked {
                head: head_bytes,
                chunks: Chunks::default(),
            },
        };
        Ok(expects_continue)
    }

    /// Adds input up to the end of the body; gives how much that was and where the body begins.
    fn take_body(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<(usize, usize)>, Status> {
        match &mut self.phase {
            Phase::Head | Phase::Spent => Ok(None),
            Phase::Sized { head, total } => {
                let missing = total.saturating_sub(self.bytes.len());
                self.bytes
                    .extend_from_slice(input.get(..missing).unwrap_or(input));
                let is_whole = self.bytes.len() == *total;
                Ok(is_whole.then_some((missing, *head)))
            }
            Phase::Chunked { head, chunks } => {
                let room = limits.max_request_size - *head;
                let taken = chunks.take(input, room, &mut self.bytes)?;
                Ok(taken.map(|taken| (taken, *head)))
            }
        }
    }
}

fn total_bytes(head: usize, body: usize, limits: &Limits) -> Result<usize, Status> {
    let total = head.saturating_add(body);
    if total > limits.max_request_size {
        Err(Status::PayloadTooLarge)
    } else {
        Ok(total)
    }
}

/// Finds the end of the head, `bytes` having been searched up to `from` before.
fn find_head(bytes: &[u8], from: usize) -> Option<usize> {
    let from = from.saturating_sub(HEAD_END.len() - 1);
    let found = memmem::find(bytes.get(from..)?, HEAD_END)?;
    Some(from + found + HEAD_END.len())
}

/// Counts the bytes of the empty lines that `bytes` begins with.
fn empty_lines(bytes: &[u8]) -> usize {
    let (pairs, _) = bytes.as_chunks();
    2 * pairs.iter().take_while(|&pair| pair == b"\r\n").count()
}

/// LF alone never ends a head, as in Reverb.
const HEAD_END: &[u8] = b"\r\n\r\n";

#[cfg(test)]
mod tests;
