//! One connection to Redis that is kept up: dialled, dialled again when it breaks, with a back-off
//! that grows from 50 ms to 1 s and never ends.
//!
//! Owned by the Redis thread, which waits on [`Link::fd`]; nothing here waits. State changes are
//! said in the log, each reason once.

use std::io::{self, Read as _, Write as _};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use tracing::{info, warn};

use crate::config::RedisServer;
use crate::redis::dial::{DialError, Stream, dial};
use crate::redis::resp::{self, Reader, Said};
use crate::ring::Wake;

/// The first pause between two dials; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two dials.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A sign of life is asked for this often.
const PING_EVERY: Duration = Duration::from_secs(5);

/// A connection that is kept up.
pub(super) struct Link {
    /// What it is for, in the log.
    purpose: &'static str,
    server: Arc<RedisServer>,
    message_bytes_max: usize,
    wake: Arc<dyn Wake>,
    state: State,
    /// Pause before the next dial.
    pause: Duration,
    /// The reason that was said last.
    said: String,
    random: fastrand::Rng,
}

enum State {
    /// Dial again then.
    Resting { until: Instant },
    /// A thread dials.
    Dialling {
        result: Receiver<Result<Stream, DialError>>,
    },
    /// It is there.
    Open(Box<Open>),
}

struct Open {
    stream: Stream,
    reader: Reader,
    out: Vec<u8>,
    sent: usize,
    ping_at: Instant,
    /// Subscriptions that Redis has not confirmed yet.
    unconfirmed: usize,
}

impl Link {
    /// A link that will dial at once. `wake` wakes its thread when a dial has ended.
    pub(super) fn new(
        purpose: &'static str,
        server: Arc<RedisServer>,
        message_bytes_max: usize,
        wake: Arc<dyn Wake>,
        now: Instant,
    ) -> Self {
        Self {
            purpose,
            server,
            message_bytes_max,
            wake,
            state: State::Resting { until: now },
            pause: PAUSE_MIN,
            said: String::new(),
            random: fastrand::Rng::new(),
        }
    }

    /// Does what is due. True if the connection has just come up: say what it is for.
    pub(super) fn turn(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Resting { until } if *until <= now => self.dial(now),
            State::Resting { .. } => {}
            State::Dialling { result } => match result.try_recv() {
                Ok(Ok(stream)) => {
                    self.state = State::Open(Box::new(Open {
                        stream,
                        reader: Reader::new(self.message_bytes_max),
                        out: Vec::new(),
                        sent: 0,
                        ping_at: now + PING_EVERY,
                        unconfirmed: 0,
                    }));
                    return true;
                }
                Ok(Err(problem)) => self.rest(now, &problem.to_string()),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.rest(now, "the dial broke off"),
            },
            State::Open(open) => {
                if open.ping_at <= now {
                    open.ping_at = now + PING_EVERY;
                    resp::command(&mut open.out, &[b"PING"]);
                }
            }
        }
        false
    }

    /// When [`Self::turn`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Resting { until } => Some(*until),
            State::Dialling { .. } => None,
            State::Open(open) => Some(open.ping_at),
        }
    }

    /// What to wait on, and for what.
    pub(super) fn fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        use std::os::fd::AsFd as _;
        let State::Open(open) = &self.state else {
            return None;
        };
        let mut flags = PollFlags::IN;
        if open.sent < open.out.len() || open.stream.wants_write() {
            flags |= PollFlags::OUT;
        }
        Some((open.stream.as_fd(), flags))
    }

    /// Puts a command behind what waits to be written.
    pub(super) fn say(&mut self, parts: &[&[u8]]) {
        if let State::Open(open) = &mut self.state {
            resp::command(&mut open.out, parts);
        }
    }

    /// Subscribes to names or patterns, by `SUBSCRIBE` or `PSUBSCRIBE`.
    pub(super) fn subscribe<'a>(&mut self, command: &'a str, names: impl Iterator<Item = &'a str>) {
        let parts = std::iter::once(command).chain(names).map(str::as_bytes);
        let parts: Vec<_> = parts.collect();
        if let State::Open(open) = &mut self.state {
            open.unconfirmed = parts.len() - 1;
        }
        self.say(&parts);
    }

    /// Redis has confirmed a subscription. True if it was the last.
    pub(super) fn confirm(&mut self) -> bool {
        let State::Open(open) = &mut self.state else {
            return false;
        };
        open.unconfirmed = open.unconfirmed.saturating_sub(1);
        open.unconfirmed == 0
    }

    /// Writes what it can.
    pub(super) fn write(&mut self) -> Result<(), String> {
        match &mut self.state {
            State::Open(open) => open.write().map_err(|error| error.to_string()),
            _ => Ok(()),
        }
    }

    /// Reads once. True if there may be more.
    pub(super) fn read(&mut self) -> Result<bool, String> {
        let State::Open(open) = &mut self.state else {
            return Ok(false);
        };
        match open.stream.read(open.reader.room()) {
            Ok(0) => Err("Redis closed it".to_owned()),
            Ok(length) => {
                open.reader.filled(length);
                Ok(true)
            }
            Err(error) if is_nothing(&error) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What Redis has said, one after the other.
    pub(super) fn poll(&mut self) -> Result<Option<Said<'_>>, String> {
        match &mut self.state {
            State::Open(open) => {
                let said = open.reader.poll();
                said.map_err(|malformed| malformed.to_string())
            }
            _ => Ok(None),
        }
    }

    /// What it is for works.
    pub(super) fn works(&mut self) {
        self.pause = PAUSE_MIN;
        self.said.clear();
        info!("redis: {} works ({})", self.purpose, self.server);
    }

    /// Gives the connection up, for a reason, and dials again soon.
    pub(super) fn lose(&mut self, now: Instant, why: &str) {
        if matches!(self.state, State::Open(_)) {
            self.rest(now, why);
        }
    }

    fn dial(&mut self, now: Instant) {
        let (sender, result) = channel();
        let (server, wake) = (Arc::clone(&self.server), Arc::clone(&self.wake));
        let thread = thread::Builder::new().name("redis-dial".to_owned());
        let begun = thread.spawn(move || {
            // Whoever waited may have given up; then nobody misses it.
            let _ = sender.send(dial(&server));
            wake.wake();
        });
        match begun {
            Ok(_) => self.state = State::Dialling { result },
            Err(error) => self.rest(now, &error.to_string()),
        }
    }

    fn rest(&mut self, now: Instant, why: &str) {
        if self.said != why {
            why.clone_into(&mut self.said);
            let (purpose, server) = (self.purpose, &self.server);
            warn!("redis: {purpose} does not work ({server}): {why}; trying again");
        }
        // Between half of the pause and all of it: nodes must not come back in step.
        let spread = self.random.f64().mul_add(0.5, 0.5);
        let until = now + self.pause.mul_f64(spread);
        self.state = State::Resting { until };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

impl Open {
    fn write(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            let unsent = self.out.get(self.sent..).unwrap_or_default();
            match self.stream.write(unsent) {
                Ok(length) => self.sent += length,
                Err(error) if is_nothing(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        match self.stream.flush() {
            Err(error) if !is_nothing(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
