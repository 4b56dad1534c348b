//! One publisher's HTTP connection: the calls it has made and the answers it has had.

use std::collections::VecDeque;

use crate::client::Allowed;
use crate::model::Model;
use crate::net::Socket;
use crate::wire;

/// A caller and its connection.
pub(crate) struct Caller {
    pub(crate) socket: usize,
    pub(crate) app: usize,
    /// Events whose answers are awaited, in order.
    asked: VecDeque<usize>,
    buffer: Vec<u8>,
    /// Publishes still to be made on other shards, each when the one before was answered.
    pub(crate) chain: u32,
    /// It has asked for the last answer.
    asks_last: bool,
    /// It has had the last answer.
    has_last: bool,
    is_gone: bool,
    fin_sent: bool,
}

impl Caller {
    pub(crate) fn new(socket: usize, app: usize, chain: u32) -> Self {
        Self {
            socket,
            app,
            asked: VecDeque::new(),
            buffer: Vec::new(),
            chain,
            asks_last: false,
            has_last: false,
            is_gone: false,
            fin_sent: false,
        }
    }

    pub(crate) fn ask(&mut self, event: usize, is_last: bool) {
        self.asks_last |= is_last;
        self.asked.push_back(event);
    }

    /// Answers it waits for.
    pub(crate) fn unanswered(&self) -> usize {
        if self.is_gone { 0 } else { self.asked.len() }
    }

    /// Has it nothing more to hear?
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// May it make another call?
    pub(crate) fn is_free(&self) -> bool {
        !(self.is_gone || self.fin_sent || self.asks_last || self.has_last)
    }

    /// It has closed its writing side or is gone for good.
    pub(crate) fn end(&mut self, is_reset: bool) {
        self.fin_sent = true;
        self.is_gone |= is_reset;
    }

    /// Takes bytes; gives how many calls were answered with 200.
    pub(crate) fn hear(&mut self, bytes: &[u8], model: &mut Model, allowed: Allowed) -> usize {
        self.buffer.extend_from_slice(bytes);
        let mut taken = 0;
        while !self.buffer.is_empty() {
            assert!(!self.has_last, "bytes after the last answer");
            let Some((status, body, keeps, length)) = wire::answer(&self.buffer) else {
                break;
            };
            self.buffer.drain(..length);
            let event = self.asked.pop_front().expect("an answer to nothing");
            trace!("  socket {} hears {status} to event {event}", self.socket);
            self.has_last = !keeps;
            match status {
                200 => {
                    assert_eq!(body, "{}");
                    model.answer(event);
                    taken += 1;
                }
                503 if allowed.may_refuse => model.refuse(event),
                _ => panic!("event {event} was answered {status} {body}"),
            }
        }
        taken
    }

    /// The shard's end of the stream has come.
    pub(crate) fn hear_end(&mut self, is_reset: bool, allowed: Allowed, socket: &Socket) {
        trace!("  socket {} hears the end, reset: {is_reset}", self.socket);
        let is_late = allowed.has_jumped || allowed.is_draining;
        let may_be = is_late || is_reset && socket.was_slow;
        let is_due = !self.asked.is_empty() && !self.has_last;
        assert!(may_be || !is_due, "{:?} had no answer", self.asked);
        assert!(is_reset || self.buffer.is_empty(), "an answer was cut");
        self.is_gone = true;
    }
}
