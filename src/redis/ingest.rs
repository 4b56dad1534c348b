//! Laravel's redis broadcaster: one subscription to everything under its prefixes, each message an
//! event of one app.
//!
//! Owned by the Redis thread. What was published while the connection was down nobody has; the log
//! says for how long.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::PollFlags;
use tracing::warn;

use crate::app::Apps;
use crate::config;
use crate::metrics::{Counter, Metrics};
use crate::redis::laravel::{self, Prefixes, Scratch};
use crate::redis::link::Link;
use crate::redis::outlet::Outlet;
use crate::redis::resp::Said;
use crate::redis::topology::Target;
use crate::ring::Wake;
use crate::status::RedisStatus;

/// The subscription and what it means.
pub(super) struct Ingest {
    link: Link,
    events: Events,
    status: Arc<RedisStatus>,
}

/// What the messages mean.
struct Events {
    prefixes: Prefixes,
    scratch: Scratch,
    metrics: Arc<Metrics>,
    /// A message was refused since the connection came up: the first is said in the log.
    has_refused: bool,
}

/// What one thing that Redis said comes to.
enum Outcome {
    Nothing,
    /// A pattern is subscribed to.
    Subscribed,
    /// Redis refuses the subscription, in its own words.
    Refused(String),
}

impl Ingest {
    /// Will dial at once. `buses`: see [`Prefixes::new`].
    pub(super) fn new(
        ingest: config::Ingest,
        buses: Vec<String>,
        apps: &Apps,
        metrics: Arc<Metrics>,
        status: Arc<RedisStatus>,
        wake: Arc<dyn Wake>,
        now: Instant,
    ) -> Self {
        // Of a cluster any master does: each passes on what is published at the others.
        let prefix = ingest.sources.first().map(|source| source.prefix.as_str());
        let target = Arc::new(Target::new(ingest.server, prefix.unwrap_or_default()));
        let sources = ingest.sources.into_iter().filter_map(|source| {
            let app = apps.by_id(&source.app_id)?;
            Some((source.prefix, app))
        });
        status.ingest.begin();
        Self {
            link: Link::new("ingest", target, ingest.message_bytes, wake, now),
            events: Events {
                prefixes: Prefixes::new(sources, buses),
                scratch: Scratch::default(),
                metrics,
                has_refused: false,
            },
            status,
        }
    }

    /// When [`Self::turn`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.link.deadline()
    }

    /// What to wait on, and for what.
    pub(super) fn fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.link.fd()
    }

    /// Does what is due.
    pub(super) fn turn(&mut self, now: Instant) {
        if !self.link.turn(now) {
            return;
        }
        self.events.has_refused = false;
        let patterns = self.events.prefixes.patterns();
        self.link.subscribe("PSUBSCRIBE", patterns);
    }

    /// Writes what it can.
    pub(super) fn write(&mut self, now: Instant) {
        if let Err(problem) = self.link.write() {
            self.lose(now, &problem);
        }
    }

    /// Reads once and sends on what came. True if there may be more.
    pub(super) fn read(&mut self, now: Instant, outlet: &mut Outlet) -> bool {
        let has_more = match self.link.read() {
            Ok(has_more) => has_more,
            Err(problem) => {
                self.lose(now, &problem);
                return false;
            }
        };
        loop {
            let outcome = match self.link.poll() {
                Ok(Some(said)) => self.events.handle(said, outlet),
                Ok(None) => return has_more,
                Err(malformed) => Outcome::Refused(malformed),
            };
            match outcome {
                Outcome::Subscribed if self.link.confirm() => self.works(now),
                Outcome::Subscribed | Outcome::Nothing => {}
                Outcome::Refused(why) => {
                    self.lose(now, &why);
                    return false;
                }
            }
        }
    }

    fn works(&mut self, now: Instant) {
        self.link.works();
        if let Some(gap) = self.status.ingest.regain(now) {
            let seconds = gap.as_secs_f64();
            warn!("redis: ingest heard nothing for {seconds:.1} s; events of that time are lost");
        }
    }

    fn lose(&mut self, now: Instant, why: &str) {
        self.events.metrics.add(Counter::RedisLost, 1);
        self.status.ingest.lose(now);
        self.link.lose(now, why);
    }
}

impl Events {
    fn handle(&mut self, said: Said<'_>, outlet: &mut Outlet) -> Outcome {
        match said {
            Said::Message {
                pattern,
                channel,
                payload,
            } => self.take(pattern.unwrap_or_default(), channel, payload, outlet),
            Said::Subscribed => return Outcome::Subscribed,
            Said::TooLong => self.refuse(None, "it is longer than SLAPBACK_REDIS_MESSAGE_BYTES"),
            Said::Error(why) => return Outcome::Refused(String::from_utf8_lossy(why).into_owned()),
            _ => {}
        }
        Outcome::Nothing
    }

    fn take(&mut self, pattern: &[u8], name: &[u8], payload: &[u8], outlet: &mut Outlet) {
        let Some((app, channel)) = self.prefixes.find(pattern, name) else {
            return;
        };
        let Ok(channel) = str::from_utf8(channel) else {
            return self.refuse(None, "its channel is not UTF-8");
        };
        match laravel::read(payload, channel, app, &mut self.scratch) {
            Ok(broadcast) => {
                self.metrics.add(Counter::IngestTaken, 1);
                outlet.deliver(&Arc::new(broadcast), None);
            }
            Err(why) => self.refuse(Some(channel), why),
        }
    }

    /// Counts what is no event; the first on a connection is said.
    fn refuse(&mut self, channel: Option<&str>, why: impl fmt::Display) {
        self.metrics.add(Counter::IngestRefused, 1);
        if !std::mem::replace(&mut self.has_refused, true) {
            let channel = channel.unwrap_or("a channel");
            warn!("redis: a message on {channel} is no event: {why}; further ones are counted");
        }
    }
}
