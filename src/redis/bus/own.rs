//! This node's own messages, in order of their numbers: those that wait to be sent, answered or
//! delivered, and before them those that are kept for who missed them.
//!
//! Owned by the bus. Redis answers and echoes in the order in which it was told, so three marks say
//! all: up to where they are sent, answered, delivered here.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use super::{Caller, Outgoing, PIECE_BYTES, Payload};

/// The messages. A mark is the first number of which it is not true.
#[derive(Debug)]
pub(super) struct Own {
    messages: VecDeque<Message>,
    /// The number of the next message.
    next: u64,
    sent: u64,
    answered: u64,
    delivered: u64,
    bytes: usize,
    /// Of those that wait for anything.
    waiting_bytes: usize,
    /// Who waited for those that wait for nothing any more.
    taken: Vec<Caller>,
}

#[derive(Debug)]
struct Message {
    out: Outgoing,
    caller: Option<Caller>,
    /// When it was taken, or sent if it had to wait.
    since: Instant,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            next: 1,
            sent: 1,
            answered: 1,
            delivered: 1,
            bytes: 0,
            waiting_bytes: 0,
            taken: Vec::new(),
        }
    }
}

impl Own {
    /// Takes a message in and numbers it.
    pub(super) fn push(
        &mut self,
        now: Instant,
        at: u64,
        payload: Payload,
        caller: Option<Caller>,
    ) -> Outgoing {
        let out = Outgoing {
            seq: self.next,
            at,
            late: false,
            payload,
        };
        self.next += 1;
        self.bytes += out.payload.weight();
        self.waiting_bytes += out.payload.weight();
        self.messages.push_back(Message {
            out: out.clone(),
            caller,
            since: now,
        });
        out
    }

    /// The last number; 0 before the first message.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// The last number that was sent, whether or not Redis has it.
    pub(super) fn last_sent(&self) -> u64 {
        self.sent - 1
    }

    /// Does any wait to be sent?
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.next
    }

    /// It is sent, and all before it.
    pub(super) fn sent_to(&mut self, seq: u64) {
        self.sent = self.sent.max(seq + 1);
    }

    /// Sends the next piece of what waits.
    pub(super) fn send_piece(&mut self, now: Instant) -> Vec<Outgoing> {
        let range = self.piece(self.place(self.sent), self.messages.len());
        self.sent += range.len() as u64;
        let piece = self.messages.range_mut(range).map(|message| {
            (message.since, message.out.late) = (now, true);
            message.out.clone()
        });
        piece.collect()
    }

    /// Is any sent that has no answer?
    fn has_unanswered(&self) -> bool {
        self.answered < self.sent
    }

    /// The oldest that is sent and has no answer has one now.
    pub(super) fn answer(&mut self) {
        if self.has_unanswered() {
            self.advance(self.answered + 1, self.delivered);
        }
    }

    /// None of those that are sent will have an answer any more.
    pub(super) fn answer_all(&mut self) {
        self.advance(self.answered.max(self.sent), self.delivered);
    }

    /// Those that are sent and have no answer are known not to be published: they wait to be sent
    /// again, and nobody for them.
    pub(super) fn unsend(&mut self) {
        let unanswered = self.place(self.answered)..self.place(self.sent);
        let unanswered = self.messages.range_mut(unanswered);
        let callers = unanswered.filter_map(|message| message.caller.take());
        self.taken.extend(callers);
        self.sent = self.answered;
    }

    /// Who waited for what has its answer and is delivered here.
    pub(super) fn taken(&mut self) -> impl Iterator<Item = Caller> {
        self.taken.drain(..)
    }

    /// It counts as said then, if it was not delivered here before.
    pub(super) fn counts_at(&mut self, seq: u64, at: u64) {
        let place = self.place(seq);
        if seq >= self.delivered
            && let Some(message) = self.messages.get_mut(place)
        {
            message.out.at = at;
        }
    }

    /// Those not delivered here, up to a number.
    pub(super) fn undelivered(&self, seq: u64) -> impl Iterator<Item = &Outgoing> {
        let (from, to) = (
            self.place(self.delivered),
            self.place(seq.saturating_add(1)),
        );
        let messages = self.messages.range(from..to.max(from));
        messages.map(|message| &message.out)
    }

    /// It is delivered here, and all before it.
    pub(super) fn delivered_to(&mut self, seq: u64) {
        let delivered = self.delivered.max(seq.saturating_add(1)).min(self.next);
        self.advance(self.answered, delivered);
    }

    /// Since when an answer is due.
    pub(super) fn unanswered_since(&self) -> Option<Instant> {
        let message = self.messages.get(self.place(self.answered));
        message
            .filter(|_| self.has_unanswered())
            .map(|message| message.since)
    }

    /// Since when the oldest that was sent is to come back.
    pub(super) fn undelivered_since(&self) -> Option<Instant> {
        let message = self.messages.get(self.place(self.delivered));
        message
            .filter(|_| self.delivered < self.sent)
            .map(|message| message.since)
    }

    /// One piece of what was sent behind a number, and since a time; and whether nothing in between
    /// is forgotten.
    pub(super) fn behind(&self, after: u64, since: Option<Instant>) -> (Vec<Outgoing>, bool) {
        let to = self.place(self.sent);
        let is_earlier = |message: &&Message| since.is_some_and(|since| message.since < since);
        let earlier = self.messages.range(..to).take_while(is_earlier).count();
        let from = self.place(after.saturating_add(1)).max(earlier);
        let is_whole = earlier > 0 || after.saturating_add(1) >= self.first().min(self.sent);
        let piece = self.messages.range(self.piece(from, to.max(from)));
        let piece = piece.map(|message| Outgoing {
            late: true,
            ..message.out.clone()
        });
        (piece.collect(), is_whole)
    }

    /// Forgets the oldest beyond so many bytes: what is settled, and where nobody misses it also
    /// what waits to be sent.
    pub(super) fn trim(&mut self, bytes_max: usize, is_alone: bool) {
        while self.bytes > bytes_max {
            let Some(first) = self.messages.front() else {
                return;
            };
            let seq = first.out.seq;
            let is_unsent = seq >= self.sent && seq < self.delivered;
            if seq >= self.settled() {
                if !(is_alone && is_unsent) {
                    return;
                }
                self.sent = seq + 1;
                self.advance(seq + 1, self.delivered);
            }
            if let Some(first) = self.messages.pop_front() {
                self.bytes -= first.out.payload.weight();
            }
        }
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of those that wait to be sent, answered or delivered.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The first number that waits for anything.
    fn settled(&self) -> u64 {
        self.answered.min(self.delivered)
    }

    /// Moves the marks on, and with them what counts as waiting.
    fn advance(&mut self, answered: u64, delivered: u64) {
        let before = self.place(self.settled());
        (self.answered, self.delivered) = (answered, delivered);
        let after = self.place(self.settled());
        for message in self.messages.range_mut(before..after.max(before)) {
            self.waiting_bytes -= message.out.payload.weight();
            self.taken.extend(message.caller.take());
        }
    }

    /// As many as make a piece, from one place on and no further than another.
    fn piece(&self, from: usize, to: usize) -> Range<usize> {
        let mut bytes = 0;
        let fits = |message: &&Message| {
            let has_room = bytes <= PIECE_BYTES;
            bytes += message.out.payload.weight();
            has_room
        };
        let count = self.messages.range(from..to).take_while(fits).count();
        from..from + count
    }

    /// The number of the oldest message that is kept; of the next one if none is.
    fn first(&self) -> u64 {
        let first = self.messages.front();
        first.map_or(self.next, |message| message.out.seq)
    }

    /// Where the message of a number stands, or would.
    fn place(&self, seq: u64) -> usize {
        let place = usize::try_from(seq.saturating_sub(self.first())).unwrap_or(usize::MAX);
        place.min(self.messages.len())
    }
}
