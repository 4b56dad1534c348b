//! One publisher's HTTP connection: the calls it has made and the answers it has had.

use std::collections::VecDeque;

use crate::client::{Allowed, Client};
use crate::model::Model;
use crate::net::Socket;
use crate::question::{Asked, Told};
use crate::wire;

/// A caller and its connection.
pub(crate) struct Caller {
    pub(crate) socket: usize,
    pub(crate) app: usize,
    /// Calls whose answers are awaited, in order.
    asked: VecDeque<Call>,
    buffer: Vec<u8>,
    /// Publishes still to be made on other shards, each when the one before was answered.
    pub(crate) chain: u32,
    /// Answers to its questions.
    pub(crate) told: Vec<Told>,
    /// It has asked for the last answer.
    asks_last: bool,
    /// It has had the last answer.
    has_last: bool,
    is_gone: bool,
    fin_sent: bool,
}

/// What a caller asks for in one call.
pub(crate) struct Call {
    /// The events that it publishes.
    pub(crate) events: Vec<usize>,
    pub(crate) question: Option<Asked>,
    /// The answer, if there is no question.
    pub(crate) taken: &'static str,
}

impl Caller {
    pub(crate) fn new(socket: usize, app: usize, chain: u32) -> Self {
        Self {
            socket,
            app,
            asked: VecDeque::new(),
            buffer: Vec::new(),
            chain,
            told: Vec::new(),
            asks_last: false,
            has_last: false,
            is_gone: false,
            fin_sent: false,
        }
    }

    pub(crate) fn ask(&mut self, call: Call, is_last: bool) {
        self.asks_last |= is_last;
        self.asked.push_back(call);
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

    /// Takes bytes; gives how many publishes were answered with 200.
    pub(crate) fn hear(
        &mut self,
        bytes: &[u8],
        model: &mut Model,
        clients: &mut [Client],
        allowed: Allowed,
    ) -> usize {
        self.buffer.extend_from_slice(bytes);
        let mut taken = 0;
        while !self.buffer.is_empty() {
            assert!(!self.has_last, "bytes after the last answer");
            let Some((status, body, keeps, length)) = wire::answer(&self.buffer) else {
                break;
            };
            self.buffer.drain(..length);
            let call = self.asked.pop_front().expect("an answer to nothing");
            let events = &call.events;
            trace!(
                "  socket {} hears {status} {body} to {events:?}",
                self.socket
            );
            self.has_last = !keeps;
            if status == 503 && allowed.may_refuse && !events.is_empty() {
                for &event in events {
                    model.refuse(event);
                }
                continue;
            }
            for &event in events {
                model.answer(event);
            }
            taken += usize::from(!events.is_empty());
            match call.question {
                Some(asked) => self.told.push(asked.check(status, &body, clients)),
                None => assert_eq!((status, body.as_str()), (200, call.taken)),
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
        let owed = self.asked.len();
        assert!(may_be || !is_due, "{owed} calls had no answer");
        assert!(is_reset || self.buffer.is_empty(), "an answer was cut");
        self.is_gone = true;
    }
}
