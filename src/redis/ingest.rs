//! Laravel's redis broadcaster: a subscription to everything under its prefixes, or to the channels
//! that somebody here is on. Each message is an event of one app.
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
use crate::proto::channel::ChannelKind;
use crate::redis::interest::{self, Effect};
use crate::redis::laravel::{self, Prefixes, Scratch};
use crate::redis::link::Link;
use crate::redis::outlet::Outlet;
use crate::redis::resp::Said;
use crate::redis::topology::Target;
use crate::ring::Wake;
use crate::shard::message::{Interest, Message};
use crate::status::RedisStatus;

/// The subscription and what it means.
pub(super) struct Ingest {
    link: Link,
    events: Events,
    /// Which channels are subscribed to, if not all.
    interest: Option<interest::Interest>,
    effects: Vec<Effect>,
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
    /// A pattern or channel is subscribed to, or none was wanted and Redis lets us in.
    Confirmed,
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
            interest: ingest
                .by_interest
                .then(|| interest::Interest::new(ingest.message_bytes)),
            effects: Vec::new(),
            status,
        }
    }

    /// When [`Self::turn`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let interest = self.interest.as_ref();
        let interest = interest.and_then(interest::Interest::deadline);
        self.link.deadline().into_iter().chain(interest).min()
    }

    /// What to wait on, and for what.
    pub(super) fn fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.link.fd()
    }

    /// Does what is due.
    pub(super) fn turn(&mut self, now: Instant, outlet: &mut Outlet) {
        let is_new = self.link.turn(now);
        if is_new {
            self.events.has_refused = false;
        }
        let Some(interest) = &mut self.interest else {
            if is_new {
                let patterns = self.events.prefixes.patterns();
                self.link.subscribe("PSUBSCRIBE", patterns);
            }
            return;
        };
        if is_new {
            interest.handle_up();
            // With nothing to subscribe to, its answer tells whether Redis lets us in.
            self.link.say(&[b"PING"]);
        } else if self.link.has_failed() {
            interest.handle_down(&mut self.effects);
        }
        interest.handle_tick(now, &mut self.effects);
        self.carry_out(outlet);
    }

    /// A shard is to hear a channel, or no longer.
    pub(super) fn handle_interest(&mut self, now: Instant, told: Interest, outlet: &mut Outlet) {
        let Some(interest) = &mut self.interest else {
            return;
        };
        let (prefixes, effects) = (&self.events.prefixes, &mut self.effects);
        let channel = (told.app, told.channel.into());
        if told.is_wanted {
            let by = (told.shard, told.number);
            interest.handle_wanted(now, prefixes, by, channel, effects);
        } else {
            interest.handle_unwanted(now, told.shard, &channel, effects);
        }
        self.carry_out(outlet);
    }

    /// Writes what it can.
    pub(super) fn write(&mut self, now: Instant, outlet: &mut Outlet) {
        if let Some(interest) = &mut self.interest {
            while let Some((command, names)) = interest.next_command(&self.events.prefixes) {
                let parts = std::iter::once(command).chain(names.iter().map(String::as_str));
                let parts: Vec<_> = parts.map(str::as_bytes).collect();
                self.link.say(&parts);
            }
        }
        if let Err(problem) = self.link.write() {
            self.lose(now, &problem, outlet);
        }
    }

    /// Reads once and sends on what came. True if there may be more.
    pub(super) fn read(&mut self, now: Instant, outlet: &mut Outlet) -> bool {
        let has_more = match self.link.read() {
            Ok(has_more) => has_more,
            Err(problem) => {
                self.lose(now, &problem, outlet);
                return false;
            }
        };
        loop {
            let outcome = match self.link.poll() {
                Ok(Some(Said::Subscribed(name))) => {
                    if let Some(interest) = &mut self.interest {
                        let prefixes = &self.events.prefixes;
                        interest.handle_confirmed(now, prefixes, name, &mut self.effects);
                    }
                    Outcome::Confirmed
                }
                Ok(Some(Said::Pong)) if self.interest.is_some() => Outcome::Confirmed,
                Ok(Some(said)) => self.events.handle(said, outlet),
                Ok(None) => return has_more,
                Err(malformed) => Outcome::Refused(malformed),
            };
            match outcome {
                Outcome::Nothing => {}
                Outcome::Confirmed => {
                    // Shards are told before what is published next.
                    self.carry_out(outlet);
                    if self.is_complete() {
                        self.works(now);
                    }
                }
                Outcome::Refused(why) => {
                    self.lose(now, &why, outlet);
                    return false;
                }
            }
        }
    }

    /// Has Redis just confirmed the last that was wanted of a new connection?
    fn is_complete(&mut self) -> bool {
        match &mut self.interest {
            None => self.link.confirm(),
            Some(interest) => interest.has_returned(),
        }
    }

    fn carry_out(&mut self, outlet: &mut Outlet) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Heard((shard, number), (app, channel)) => {
                    let heard = Message::Heard {
                        app,
                        channel: (*channel).into(),
                        number,
                    };
                    outlet.tell(shard, heard);
                }
                Effect::Dropped((app, channel)) => {
                    if ChannelKind::of(&channel).is_cache() {
                        outlet.forget(app, &channel);
                    }
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

    fn lose(&mut self, now: Instant, why: &str, outlet: &mut Outlet) {
        self.events.metrics.add(Counter::RedisLost, 1);
        self.status.ingest.lose(now);
        self.link.lose(now, why);
        if let Some(interest) = &mut self.interest {
            interest.handle_down(&mut self.effects);
            self.carry_out(outlet);
        }
    }
}

impl Events {
    fn handle(&mut self, said: Said<'_>, outlet: &mut Outlet) -> Outcome {
        match said {
            Said::Message {
                pattern,
                channel,
                payload,
            } => self.take(pattern, channel, payload, outlet),
            Said::TooLong => self.refuse(None, "it is longer than SLAPBACK_REDIS_MESSAGE_BYTES"),
            Said::Error(why) => return Outcome::Refused(String::from_utf8_lossy(why).into_owned()),
            _ => {}
        }
        Outcome::Nothing
    }

    fn take(&mut self, pattern: Option<&[u8]>, name: &[u8], payload: &[u8], outlet: &mut Outlet) {
        let Some((app, channel)) = self.prefixes.find(pattern, name) else {
            return;
        };
        let Ok(channel) = str::from_utf8(channel) else {
            return self.refuse(None, "its channel is not UTF-8");
        };
        match laravel::read(payload, channel, &mut self.scratch) {
            Ok(delivery) => {
                self.metrics.add(Counter::IngestTaken, 1);
                outlet.gather(app, delivery);
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
