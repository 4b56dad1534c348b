//! The Redis thread: the one place that talks to Redis. It reads what Redis says, serialises each
//! event once and pushes it over the rings to the shards.
//!
//! Started by the fleet when Redis is configured. One `poll` waits for all its connections and for
//! the shards. Only `dial`, `link` and this file know of sockets; `resp`, `laravel` and `ingest`
//! are given bytes and give back events.

pub mod bus;
mod dial;
pub mod envelope;
mod ingest;
pub mod laravel;
mod link;
mod outlet;
pub mod php;
pub mod resp;
mod tls;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::app::Apps;
use crate::config;
use crate::metrics::Metrics;
use crate::redis::ingest::Ingest;
use crate::redis::outlet::Outlet;
use crate::ring::{Inbox, Wake};
use crate::shard::ends::Ends;
use crate::status::RedisStatus;
use crate::wake::EventFd;

/// What the Redis thread is given.
pub struct Plan {
    /// Laravel's redis broadcaster.
    pub ingest: config::Ingest,
    /// Names in Redis that are no channels though a prefix may fit them.
    pub left_out: Vec<String>,
    /// All apps.
    pub apps: Arc<Apps>,
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
    /// Where it tells whether Redis works.
    pub status: Arc<RedisStatus>,
    /// It ends once this is true and it has been woken.
    pub is_over: Arc<AtomicBool>,
}

/// Reads of one connection before the others get their turn.
const READS_MAX: usize = 16;

/// Runs the Redis thread until it is told that all is over. Blocks the calling thread.
///
/// # Errors
/// The kernel cannot wait for descriptors.
pub fn run(plan: Plan) -> io::Result<()> {
    let wake: Arc<dyn Wake> = Arc::new(plan.event.clone());
    let now = Instant::now();
    let mut outlet = Outlet::new(plan.ends, plan.shards, Arc::clone(&plan.metrics));
    let mut ingest = Ingest::new(
        plan.ingest,
        plan.left_out,
        &plan.apps,
        plan.metrics,
        plan.status,
        wake,
        now,
    );
    while !plan.is_over.load(Ordering::Acquire) {
        plan.inbox.announce_sleep();
        outlet.wake();
        wait(&plan.event, &ingest)?;
        plan.inbox.announce_awake();
        plan.event.clear();
        let now = Instant::now();
        ingest.turn(now);
        for _ in 0..READS_MAX {
            if !ingest.read(now, &mut outlet) {
                break;
            }
            outlet.wake();
        }
        ingest.write(now);
    }
    Ok(())
}

/// Waits for Redis, for the shards, or for what is due.
fn wait(event: &EventFd, ingest: &Ingest) -> io::Result<()> {
    let mut fds = vec![PollFd::new(event, PollFlags::IN)];
    fds.extend(
        ingest
            .fd()
            .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)),
    );
    let until = ingest.deadline();
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut fds, left.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
