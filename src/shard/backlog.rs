//! What a full socket has still to be sent. Bounded by its shard; never cut inside a frame.

use std::time::Instant;

use memchr::memmem;

/// The unsent bytes of one socket.
#[derive(Debug)]
pub struct Backlog {
    bytes: Vec<u8>,
    /// Bytes at the front that the socket has taken.
    sent: usize,
    /// The first end of a frame that is not before `sent`: up to here nothing may be dropped.
    boundary: usize,
    /// Was it cut? Behind a Close frame nothing may follow.
    is_cut: bool,
    /// When the socket last took a byte.
    pub progress: Instant,
}

impl Backlog {
    /// The tail of `ranges` of which the socket took `taken` bytes. The first range begins with
    /// a frame.
    pub fn new<'a>(ranges: impl Iterator<Item = &'a [u8]>, taken: usize, now: Instant) -> Self {
        let mut bytes = Vec::new();
        ranges.for_each(|range| bytes.extend_from_slice(range));
        let mut backlog = Self {
            bytes,
            sent: 0,
            boundary: 0,
            is_cut: false,
            progress: now,
        };
        backlog.handle_sent(taken, now);
        backlog
    }

    /// Appends whole frames, unless it was cut.
    pub fn append(&mut self, frames: &[u8]) {
        if !self.is_cut {
            self.bytes.extend_from_slice(frames);
        }
    }

    /// The bytes the socket is to take next.
    pub fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// The socket took so many more bytes.
    pub fn handle_sent(&mut self, taken: usize, now: Instant) {
        if taken > 0 {
            self.progress = now;
        }
        self.sent = (self.sent + taken).min(self.bytes.len());
        while self.boundary < self.sent {
            self.boundary += self.frame_length_at(self.boundary);
        }
        // Half of the buffer must be sent before the rest is moved, so each byte moves once.
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.boundary -= self.sent;
            self.sent = 0;
        }
    }

    /// Does it hold more than `limit` bytes, and more than the one frame that any socket may owe?
    pub fn exceeds(&self, limit: usize) -> bool {
        let first_end = if self.boundary > self.sent {
            self.boundary
        } else {
            self.sent + self.frame_length_at(self.sent)
        };
        self.unsent().len() > limit && first_end < self.bytes.len()
    }

    /// Drops every frame that the socket has not begun to take, and puts `last` in their place.
    /// HTTP answers stay up to the handshake's: without it the peer would take no frame for one.
    /// From now on it takes no more.
    pub fn cut(&mut self, last: &[u8]) {
        while self.bytes.get(self.boundary) == Some(&b'H') {
            self.boundary += self.frame_length_at(self.boundary);
        }
        self.bytes.truncate(self.boundary);
        self.bytes.extend_from_slice(last);
        self.bytes.shrink_to_fit();
        self.is_cut = true;
    }

    /// Length of the frame that begins at `at`: at least 1, at most what is there.
    fn frame_length_at(&self, at: usize) -> usize {
        let rest = self.bytes.get(at..).unwrap_or_default();
        frame_length(rest).clamp(1, rest.len().max(1))
    }
}

/// Length of the server frame, or of the HTTP answer, that `bytes` begin with.
fn frame_length(bytes: &[u8]) -> usize {
    match *bytes {
        [b'H', ..] => answer_length(bytes).unwrap_or(bytes.len()),
        [_, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        [_, 127, ref rest @ ..] => rest.first_chunk().map_or(bytes.len(), |&length| {
            let length = u64::from_be_bytes(length);
            usize::try_from(length)
                .unwrap_or(usize::MAX)
                .saturating_add(10)
        }),
        [_, length, ..] => 2 + usize::from(length),
        [_] | [] => bytes.len(),
    }
}

/// Length of head and body; the answer to a handshake has no body and no word of one. That to a
/// HEAD has the word alone: behind it stands nothing, or another answer.
fn answer_length(bytes: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"\r\nContent-Length: ";
    let end = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let (head, behind) = bytes.split_at_checked(end)?;
    if behind.is_empty() || behind.starts_with(b"HTTP/1.1 ") {
        return Some(end);
    }
    let Some(at) = memmem::find(head, LENGTH) else {
        return Some(end);
    };
    let digits = head.get(at + LENGTH.len()..)?.iter();
    let digits = digits.map_while(|byte| char::from(*byte).to_digit(10));
    let body = digits.fold(0_usize, |length, digit| {
        length.saturating_mul(10).saturating_add(digit as usize)
    });
    Some(end.saturating_add(body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::frame;

    fn frames(lengths: &[usize]) -> Vec<Vec<u8>> {
        let fill = |(at, &length): (usize, &usize)| {
            let mut out = Vec::new();
            frame::text(&mut out, |out| {
                out.resize(out.len() + length, b"abc"[at % 3]);
            });
            out
        };
        lengths.iter().enumerate().map(fill).collect()
    }

    #[test]
    fn one_frame_may_be_of_any_size_and_a_second_may_not() {
        let all = frames(&[5000, 1]);
        let mut backlog = Backlog::new([all[0].as_slice()].into_iter(), 100, Instant::now());
        assert!(!backlog.exceeds(1000));
        backlog.append(&all[1]);
        assert!(backlog.exceeds(1000));
    }

    #[test]
    fn a_cut_keeps_the_frame_begun_and_drops_the_others() {
        let all = frames(&[300, 300, 300]);
        let mut backlog = Backlog::new(all.iter().map(Vec::as_slice), 400, Instant::now());
        backlog.cut(b"last");
        let mut expected = all[1][400 - all[0].len()..].to_vec();
        expected.extend_from_slice(b"last");
        assert_eq!(backlog.unsent(), expected);
    }

    #[test]
    fn a_cut_between_frames_drops_all_of_them() {
        let all = frames(&[300, 300]);
        let sent = all[0].len();
        let mut backlog = Backlog::new(all.iter().map(Vec::as_slice), sent, Instant::now());
        backlog.cut(b"last");
        assert_eq!(backlog.unsent(), b"last");
    }

    #[test]
    fn the_handshake_and_the_first_frame_are_two() {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        let head = bytes.len();
        bytes.extend_from_slice(&frames(&[10])[0]);
        let mut backlog = Backlog::new([bytes.as_slice()].into_iter(), 3, Instant::now());
        backlog.cut(b"");
        assert_eq!(backlog.unsent(), &bytes[3..head]);
    }

    #[test]
    fn an_answer_is_one_with_its_body() {
        let body = "x".repeat(5000);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nA: b\r\n\r\n{body}");
        let mut backlog = Backlog::new([answer.as_bytes()].into_iter(), 10, Instant::now());
        assert!(!backlog.exceeds(1000));
        backlog.append(answer.as_bytes());
        assert!(backlog.exceeds(1000));
    }

    #[test]
    fn a_cut_keeps_a_handshake_of_which_nothing_is_sent() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let bytes = [head.as_slice(), &frames(&[10])[0]].concat();
        let mut backlog = Backlog::new([bytes.as_slice()].into_iter(), 0, Instant::now());
        backlog.cut(b"last");
        assert_eq!(backlog.unsent(), [head.as_slice(), b"last"].concat());
    }

    #[test]
    fn a_cut_keeps_every_answer_before_the_handshake_whole() {
        let to_head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        let to_get = format!("{to_head}{{}}");
        let answers = format!("{to_head}{to_get}HTTP/1.1 101 Switching Protocols\r\n\r\n");
        let bytes = [answers.as_bytes(), &frames(&[10])[0]].concat();
        for taken in 0..=answers.len() {
            let mut backlog = Backlog::new([bytes.as_slice()].into_iter(), taken, Instant::now());
            backlog.cut(b"last");
            let kept = &answers.as_bytes()[taken..];
            assert_eq!(backlog.unsent(), [kept, b"last"].concat(), "{taken}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_out_once_in_order_and_a_cut_ends_a_frame(
            lengths in proptest::collection::vec(0usize..70_000, 1..6),
            takes in proptest::collection::vec(1usize..40_000, 0..12),
            cut in any::<bool>(),
        ) {
            let now = Instant::now();
            let all = frames(&lengths);
            let mut wire = Vec::new();
            let mut backlog = Backlog::new([all[0].as_slice()].into_iter(), 0, now);
            all[1..].iter().for_each(|frame| backlog.append(frame));
            for take in takes {
                let take = take.min(backlog.unsent().len());
                wire.extend_from_slice(&backlog.unsent()[..take]);
                backlog.handle_sent(take, now);
            }
            if cut {
                backlog.cut(b"");
            }
            wire.extend_from_slice(backlog.unsent());
            let whole: Vec<u8> = all.concat();
            prop_assert!(whole.starts_with(&wire));
            let mut ends = vec![0];
            for frame in &all {
                ends.push(ends[ends.len() - 1] + frame.len());
            }
            prop_assert!(ends.contains(&wire.len()));
            prop_assert!(cut || wire.len() == whole.len());
        }
    }
}
