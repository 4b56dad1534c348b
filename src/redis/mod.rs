//! The Redis thread: the one place that talks to Redis. It reads what Redis says, serialises each
//! event once and pushes it over the rings to the shards.
//!
//! Started by the fleet when Redis is configured. One `poll` waits for all its connections and for
//! the shards. Only `dial`, `topology`, `link` and this file open or wait for sockets; `ingest` and
//! `scaling` hold links; all else is given bytes or events and gives some back.

pub mod bus;
mod cluster;
mod dial;
pub mod envelope;
pub mod gather;
mod ingest;
pub mod interest;
pub mod laravel;
mod link;
pub mod metric;
mod outlet;
pub mod php;
pub mod resp;
mod scaling;
pub mod side;
mod tls;
mod topology;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config;
use crate::metrics::Metrics;
use crate::redis::ingest::Ingest;
use crate::redis::outlet::Outlet;
use crate::redis::scaling::Scaling;
use crate::ring::{Inbox, Wake};
use crate::serving::Serving;
use crate::shard::ends::Ends;
use crate::shard::message::Message;
use crate::status::RedisStatus;
use crate::wake::EventFd;

/// What the Redis thread is given.
pub struct Plan {
    /// Laravel's redis broadcaster, if it is listened to.
    pub ingest: Option<config::Ingest>,
    /// The bus between nodes, if there are several.
    pub scaling: Option<config::Scaling>,
    /// All apps.
    pub serving: Arc<Serving>,
    /// How many shards there are.
    pub shards: u16,
    /// Its ends of the rings.
    pub ends: Ends,
    /// Its own inbox.
    pub inbox: Arc<Inbox>,
    /// Its own wake.
    pub event: EventFd,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    /// Time over which a drain closes sockets.
    pub drain: Duration,
    /// Where it tells whether Redis works.
    pub status: Arc<RedisStatus>,
    /// It ends once this is true and it has been woken.
    pub is_over: Arc<AtomicBool>,
}

/// Reads of one connection before the others get their turn.
const READS_MAX: usize = 16;

/// How long a node that leaves waits for Redis to hear of it.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// Runs the Redis thread until it is told that all is over. Blocks the calling thread.
///
/// # Errors
/// The kernel cannot wait for descriptors.
pub fn run(plan: Plan) -> io::Result<()> {
    let (mut parts, inbox, event, is_over) = Parts::new(plan);
    while !is_over.load(Ordering::Acquire) {
        inbox.announce_sleep();
        parts.outlet.wake();
        if !parts.outlet.has_news() {
            parts.wait(&event)?;
        }
        inbox.announce_awake();
        event.clear();
        parts.turn();
        let is_full = parts.scaling.as_ref().is_some_and(Scaling::is_full);
        inbox.shut(is_full);
    }
    parts.leave(&event)
}

/// What one turn is about.
struct Parts {
    outlet: Outlet,
    ingest: Option<Ingest>,
    scaling: Option<Scaling>,
    /// What shards said, on its way to the bus.
    said: Vec<Message>,
}

impl Parts {
    fn new(plan: Plan) -> (Self, Arc<Inbox>, EventFd, Arc<AtomicBool>) {
        let now = Instant::now();
        let wake: Arc<dyn Wake> = Arc::new(plan.event.clone());
        let buses = plan.scaling.iter().map(|scaling| scaling.channel.clone());
        let buses = buses.collect();
        let ingest = plan.ingest.map(|ingest| {
            let (metrics, status) = (Arc::clone(&plan.metrics), Arc::clone(&plan.status));
            let apps = plan.serving.apps();
            Ingest::new(
                ingest,
                buses,
                &apps,
                metrics,
                status,
                Arc::clone(&wake),
                now,
            )
        });
        let scaling = plan.scaling.map(|scaling| {
            let (metrics, status) = (Arc::clone(&plan.metrics), Arc::clone(&plan.status));
            Scaling::new(
                scaling,
                Arc::clone(&plan.serving),
                plan.drain,
                metrics,
                status,
                &wake,
                now,
            )
        });
        let parts = Self {
            outlet: Outlet::new(plan.ends, plan.shards, plan.metrics),
            ingest,
            scaling,
            said: Vec::new(),
        };
        (parts, plan.inbox, plan.event, plan.is_over)
    }

    /// Publishes what the shards said last, answers what it is asked until it hears no more, says
    /// goodbye behind all that, and waits until Redis has it.
    fn leave(&mut self, event: &EventFd) -> io::Result<()> {
        let until = Instant::now() + LEAVE_MAX;
        if let Some(scaling) = &mut self.scaling {
            scaling.handle_end(Instant::now());
        }
        self.turn_until(until, event, |parts| {
            let is_settled = parts.scaling.as_ref().is_none_or(Scaling::is_settled);
            is_settled && !parts.outlet.has_news()
        })?;
        if let Some(scaling) = &mut self.scaling {
            scaling.stop_hearing();
        }
        self.turn_until(until, event, |parts| {
            parts.scaling.as_ref().is_none_or(Scaling::hears_nothing)
        })?;
        if let Some(scaling) = &mut self.scaling {
            scaling.leave();
        }
        self.turn_until(until, event, |parts| {
            parts.scaling.as_ref().is_none_or(Scaling::has_left)
        })
    }

    fn turn_until(
        &mut self,
        until: Instant,
        event: &EventFd,
        is_done: impl Fn(&Self) -> bool,
    ) -> io::Result<()> {
        loop {
            self.turn();
            if is_done(self) || Instant::now() >= until {
                return Ok(());
            }
            if !self.outlet.has_news() {
                self.wait(event)?;
                event.clear();
            }
        }
    }

    /// Waits for Redis, for the shards, or for what is due.
    fn wait(&self, event: &EventFd) -> io::Result<()> {
        let now = Instant::now();
        let mut fds = vec![PollFd::new(event, PollFlags::IN)];
        let links = self.ingest.iter().filter_map(Ingest::fd);
        let links = links.chain(self.scaling.iter().flat_map(Scaling::fds));
        fds.extend(links.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        let due = self.ingest.iter().filter_map(Ingest::deadline);
        let due = due.chain(
            self.scaling
                .iter()
                .filter_map(|scaling| scaling.deadline(now)),
        );
        let left = due.min().map(|due| due.saturating_duration_since(now));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Shards in, Redis in, Redis out; shards are woken after each read.
    fn turn(&mut self) {
        let now = Instant::now();
        let Self {
            outlet,
            ingest,
            scaling,
            said,
        } = self;
        outlet.take(said);
        if let Some(scaling) = scaling {
            scaling.turn(now, outlet);
        }
        if let Some(ingest) = ingest {
            ingest.turn(now, outlet);
        }
        for message in said.drain(..) {
            match (message, &mut *ingest, &mut *scaling) {
                (Message::Interest(interest), Some(ingest), _) => {
                    ingest.handle_interest(now, interest, outlet);
                }
                (message, _, Some(scaling)) => scaling.handle_message(now, message, outlet),
                _ => {}
            }
        }
        if let Some(scaling) = scaling {
            scaling.write(now, outlet);
        }
        if let Some(ingest) = ingest {
            ingest.write(now, outlet);
        }
        let (mut ingests, mut hears) = (ingest.is_some(), scaling.is_some());
        for _ in 0..READS_MAX {
            ingests = ingests
                && ingest
                    .as_mut()
                    .is_some_and(|ingest| ingest.read(now, outlet));
            hears = hears
                && scaling
                    .as_mut()
                    .is_some_and(|scaling| scaling.read(now, outlet));
            outlet.wake();
            if !ingests && !hears {
                break;
            }
        }
        if let Some(scaling) = scaling {
            scaling.write(now, outlet);
        }
        if let Some(ingest) = ingest {
            ingest.write(now, outlet);
        }
    }
}
