//! All shards of this process: spawn and pin their threads, wire the mesh, drain in order.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::CpuSet;
use tracing::{error, info, warn};

use crate::app::Apps;
use crate::edge::flush::Driver;
use crate::edge::listen::{self, Listener};
use crate::edge::poll::EventFd;
use crate::edge::{self, Files, Plan, Serving, Stage};
use crate::metrics::{Merged, Metrics};
use crate::proto::session::{Protocol, Settings};
use crate::refusals::RefusalLog;
use crate::ring::Inbox;
use crate::shard::cache::CacheLimits;
use crate::shard::ends::{Ends, mesh};
use crate::shard::message::ShardIndex;
use crate::shard::{BacklogLimits, Setup};

/// Entries of all rings that lead into one shard, together.
const RING_ENTRIES: usize = 8192;
/// Entries of one ring at least.
const RING_ENTRIES_MIN: usize = 64;

/// What a fleet is built from.
#[derive(Debug)]
pub struct Blueprint {
    /// Address to bind: host without brackets, port (0: a free one).
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// May other processes listen on the port?
    pub is_shared: bool,
    /// How many shards, and the CPUs to pin them to.
    pub shards: Shards,
    /// Which driver all of them use.
    pub driver: Driver,
    /// All apps.
    pub apps: Arc<Apps>,
    /// Server-wide settings.
    pub settings: Arc<Settings>,
    /// Bounds of backlogs.
    pub limits: BacklogLimits,
    /// Bounds of what each app's cache channels keep.
    pub cache: CacheLimits,
    /// Bytes that may wait for one shard in all rings.
    pub ring_bytes: usize,
    /// Connections that the file limit leaves room for.
    pub connections_max: usize,
    /// Time over which a drain closes sockets.
    pub drain: Duration,
}

/// How many shards there are, and where they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards {
    /// At least 1.
    pub count: u16,
    /// The CPU of each, if they are pinned.
    pub cpus: Option<Vec<usize>>,
}

impl Shards {
    /// One shard per CPU that this process may use, pinned only if it may use whole CPUs: in a
    /// container with one CPU of quota on 64 cores, one shard that the kernel places.
    pub fn choose(count: Option<usize>, pin: Option<bool>) -> Self {
        let available = thread::available_parallelism().map_or(1, usize::from);
        let mask = cpus_of_mask();
        let wanted = count.unwrap_or(available).clamp(1, usize::from(u16::MAX));
        let pinned = pin.unwrap_or(count.is_none() && available == mask.len());
        let cpus = (pinned && !mask.is_empty())
            .then(|| mask.iter().copied().cycle().take(wanted).collect());
        Self {
            count: u16::try_from(wanted).unwrap_or(u16::MAX),
            cpus,
        }
    }

    /// Where they run, in words.
    pub fn placement(&self) -> String {
        self.cpus.as_ref().map_or("not pinned".to_owned(), |cpus| {
            format!("pinned to CPUs {cpus:?}")
        })
    }
}

fn cpus_of_mask() -> Vec<usize> {
    let mask = rustix::thread::sched_getaffinity(None);
    let mask = mask.unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| mask.is_set(cpu))
        .collect()
}

/// The running fleet.
#[derive(Debug)]
pub struct Fleet {
    /// Where it listens.
    pub address: SocketAddr,
    stage: Arc<Stage>,
    serving: Arc<Serving>,
    metrics: Vec<Arc<Metrics>>,
    threads: Vec<JoinHandle<()>>,
}

/// Close code of a drain while no other node is known: pusher-js comes back after 1 s.
const DRAIN_CODE: u16 = 4100;

impl Fleet {
    /// Binds, then starts every shard. Returns when all threads are on their way.
    ///
    /// # Errors
    /// The address cannot be bound, or the kernel gives no more threads or files.
    pub fn start<S: Protocol>(blueprint: &Blueprint) -> io::Result<Self> {
        let Blueprint {
            host,
            port,
            is_shared,
            shards,
            ..
        } = blueprint;
        let count = shards.count;
        let (address, listeners) = listen::bind(host, *port, usize::from(count), *is_shared)?;
        let events = (0..count)
            .map(|_| EventFd::new())
            .collect::<io::Result<Vec<_>>>()?;
        let inbox = |event: &EventFd| Arc::new(Inbox::new(blueprint.ring_bytes, event.waker()));
        let inboxes: Arc<[Arc<Inbox>]> = events.iter().map(inbox).collect();
        let metrics: Vec<_> = (0..count).map(|_| Arc::new(Metrics::default())).collect();
        let stage = Arc::new(Stage::default());
        let serving = Arc::new(Serving::new(Arc::clone(&blueprint.apps)));
        let common = Common {
            inboxes: Arc::clone(&inboxes),
            stage: Arc::clone(&stage),
            serving: Arc::clone(&serving),
            files: Arc::new(Files::new(blueprint.connections_max)),
            refusals: Arc::default(),
            start: Instant::now(),
        };
        let mut threads = Vec::with_capacity(usize::from(count));
        let capacity = (RING_ENTRIES / usize::from(count)).max(RING_ENTRIES_MIN);
        let ends = mesh(capacity, &inboxes);
        for ((at, ends), (listener, event)) in
            (0..count).zip(ends).zip(listeners.into_iter().zip(events))
        {
            let metrics = metrics.get(usize::from(at)).cloned().unwrap_or_default();
            let plan = blueprint.plan(ShardIndex(at), metrics, &common, ends, listener, event);
            let cpu = shards
                .cpus
                .as_ref()
                .and_then(|cpus| cpus.get(usize::from(at)))
                .copied();
            let thread = thread::Builder::new().name(format!("shard-{at}"));
            threads.push(thread.spawn(move || run_shard::<S>(plan, cpu))?);
        }
        Ok(Self {
            address,
            stage,
            serving,
            metrics,
            threads,
        })
    }

    /// Serves these apps from now on; each shard takes them at its next tick, and the last one
    /// says so in the log.
    pub fn reload(&self, apps: Arc<Apps>) {
        self.serving.replace(apps, self.threads.len());
    }

    /// `/up` says from now on that the node is leaving; nothing else changes.
    pub fn announce_leaving(&self) {
        self.stage.set(Stage::LEAVING);
    }

    /// Drains every shard and waits for them; says what was counted.
    pub fn drain(self) {
        self.stage.set(Stage::DRAINING);
        for thread in self.threads {
            // A shard that panicked has ended the process already.
            let _ = thread.join();
        }
        info!("stopped: {}", Merged(&self.metrics));
    }
}

/// What all plans have in common.
struct Common {
    inboxes: Arc<[Arc<Inbox>]>,
    stage: Arc<Stage>,
    serving: Arc<Serving>,
    files: Arc<Files>,
    refusals: Arc<RefusalLog>,
    start: Instant,
}

impl Blueprint {
    fn plan(
        &self,
        shard: ShardIndex,
        metrics: Arc<Metrics>,
        common: &Common,
        ends: Ends,
        listener: Listener,
        event: EventFd,
    ) -> Plan {
        let setup = Setup {
            shard,
            shards: self.shards.count,
            apps: Arc::clone(&self.apps),
            settings: Arc::clone(&self.settings),
            metrics,
            limits: self.limits,
            cache: self.cache,
            seed: fastrand::u64(..),
            start: common.start,
        };
        Plan {
            setup,
            driver: self.driver,
            listener,
            ends,
            inboxes: Arc::clone(&common.inboxes),
            event,
            stage: Arc::clone(&common.stage),
            serving: Arc::clone(&common.serving),
            files: Arc::clone(&common.files),
            refusals: Arc::clone(&common.refusals),
            drain: (DRAIN_CODE, self.drain),
        }
    }
}

/// One shard's thread. Whatever goes wrong in here may have left state half changed: the process
/// ends, its sockets close with it, and the supervisor starts it anew.
fn run_shard<S: Protocol>(plan: Plan, cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            warn!(cpu, %error, "a shard could not be pinned");
        }
    }
    match catch_unwind(AssertUnwindSafe(|| edge::run::<S>(plan))) {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            error!(%failure, "a shard failed");
            end_broken();
        }
        Err(_) => {
            error!("a shard panicked");
            end_broken();
        }
    }
}

fn end_broken() {
    crate::log::flush();
    std::process::exit(crate::EXIT_INTERNAL);
}
