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

use crate::redis::dial::{DialError, Stream};
use crate::redis::resp::{self, Reader, Said};
use crate::redis::topology::{Dialled, Target};
use crate::ring::Wake;

/// The first pause between two dials; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two dials.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A sign of life is asked for this often; in a cluster also who is to be spoken to.
const PING_EVERY: Duration = Duration::from_secs(5);

/// A connection that is kept up.
pub(super) struct Link {
    /// What it is for, in the log.
    purpose: &'static str,
    target: Arc<Target>,
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
    Dialling { dial: Dial },
    /// It is there.
    Open(Box<Open>),
}

/// What a thread that dials will say.
type Dial = Receiver<Result<Dialled, DialError>>;

struct Open {
    stream: Stream,
    /// In a cluster: which node it is.
    node: Option<String>,
    /// A dial that shows whether it is still the one.
    check: Option<Dial>,
    /// It is not.
    has_moved: bool,
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
        target: Arc<Target>,
        message_bytes_max: usize,
        wake: Arc<dyn Wake>,
        now: Instant,
    ) -> Self {
        Self {
            purpose,
            target,
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
            State::Resting { until } if *until <= now => match dial(&self.target, &self.wake) {
                Ok(dial) => self.state = State::Dialling { dial },
                Err(error) => self.rest(now, &error.to_string()),
            },
            State::Resting { .. } => {}
            State::Dialling { dial } => match dial.try_recv() {
                Ok(Ok(dialled)) => {
                    let open = Open::new(dialled, self.message_bytes_max, now);
                    self.state = State::Open(Box::new(open));
                    return true;
                }
                Ok(Err(problem)) => self.rest(now, &problem.to_string()),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.rest(now, "the dial broke off"),
            },
            State::Open(open) => {
                open.compare();
                if open.ping_at <= now {
                    open.ping_at = now + PING_EVERY;
                    resp::command(&mut open.out, &[b"PING"]);
                    if self.target.may_move() && open.check.is_none() {
                        // Without a thread it is looked at the next time.
                        open.check = dial(&self.target, &self.wake).ok();
                    }
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

    /// Bytes that wait to be written.
    pub(super) fn waiting_bytes(&self) -> usize {
        match &self.state {
            State::Open(open) => open.out.len() - open.sent,
            _ => 0,
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

    /// Has it failed, so that it is not being used until it is dialled again?
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state, State::Resting { .. }) && !self.said.is_empty()
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
        if open.has_moved {
            return Err("another node of the cluster has its slot now".to_owned());
        }
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
        info!("redis: {} works ({})", self.purpose, self.target);
    }

    /// Gives the connection up, for a reason, and dials again soon.
    pub(super) fn lose(&mut self, now: Instant, why: &str) {
        if matches!(self.state, State::Open(_)) {
            self.rest(now, why);
        }
    }

    fn rest(&mut self, now: Instant, why: &str) {
        if self.said != why {
            why.clone_into(&mut self.said);
            let (purpose, target) = (self.purpose, &self.target);
            warn!("redis: {purpose} does not work ({target}): {why}; trying again");
        }
        // Between half of the pause and all of it: nodes must not come back in step.
        let spread = self.random.f64().mul_add(0.5, 0.5);
        let until = now + self.pause.mul_f64(spread);
        self.state = State::Resting { until };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// Dials in a thread of its own, which wakes whoever waits for it.
fn dial(target: &Arc<Target>, wake: &Arc<dyn Wake>) -> io::Result<Dial> {
    let (sender, dial) = channel();
    let (target, wake) = (Arc::clone(target), Arc::clone(wake));
    let thread = thread::Builder::new().name("redis-dial".to_owned());
    thread.spawn(move || {
        // Whoever waited may have given up; then nobody misses it.
        let _ = sender.send(target.dial());
        wake.wake();
    })?;
    Ok(dial)
}

impl Open {
    fn new(dialled: Dialled, message_bytes_max: usize, now: Instant) -> Self {
        Self {
            stream: dialled.stream,
            node: dialled.node,
            check: None,
            has_moved: false,
            reader: Reader::new(message_bytes_max),
            out: Vec::new(),
            sent: 0,
            ping_at: now + PING_EVERY,
            unconfirmed: 0,
        }
    }

    /// Takes note of what a dial has shown, if it has ended. One that fails shows nothing.
    fn compare(&mut self) {
        match self.check.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => return,
            Some(Ok(Ok(dialled))) => self.has_moved = dialled.node != self.node,
            Some(_) => {}
        }
        self.check = None;
    }

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
