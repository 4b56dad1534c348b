//! All shards of this process: spawn and pin their threads, wire the mesh, drain in order.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::CpuSet;
use tracing::{error, info, warn};

use crate::app::Apps;
use crate::config;
use crate::edge::flush::Driver;
use crate::edge::listen::{self, Listener};
use crate::edge::unix::{self, Handed};
use crate::edge::{self, Files, Plan, Stage};
use crate::metrics::{Merged, Metrics};
use crate::proto::session::{Protocol, Settings};
use crate::redis;
use crate::refusals::RefusalLog;
use crate::ring::{Inbox, Wake as _};
use crate::serving::Serving;
use crate::shard::audience::Audience;
use crate::shard::cache::CacheLimits;
use crate::shard::ends::{Ends, mesh};
use crate::shard::message::ShardIndex;
use crate::shard::{BacklogLimits, Setup};
use crate::status::RedisStatus;
use crate::wake::EventFd;

/// Entries of all rings that lead into one shard, together.
const RING_ENTRIES: usize = 8192;
/// Entries of one ring at least.
const RING_ENTRIES_MIN: usize = 64;

/// Entries of one ring between so many threads.
pub fn ring_entries(threads: usize) -> usize {
    (RING_ENTRIES / threads).max(RING_ENTRIES_MIN)
}

/// What a fleet is built from.
#[derive(Debug)]
pub struct Blueprint {
    /// Address to bind: host without brackets, port (0: a free one).
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// May other processes listen on the port?
    pub is_shared: bool,
    /// The Unix socket to listen on too, if any.
    pub unix_socket: Option<config::UnixSocket>,
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
    /// Where Laravel's redis broadcaster publishes, if that is listened to.
    pub ingest: Option<config::Ingest>,
    /// The bus between nodes, if there are several.
    pub scaling: Option<config::Scaling>,
    /// Where it is told whether Redis works.
    pub redis: Arc<RedisStatus>,
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

/// Why a fleet does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or cannot be ours.
    #[error("cannot listen on {place}: {source}")]
    Listen {
        /// The address.
        place: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel gives no more threads or files.
    #[error("cannot start: {0}")]
    Machine(#[from] io::Error),
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
    redis: Option<RedisThread>,
}

/// The thread that talks to Redis, and how it is told to end.
#[derive(Debug)]
struct RedisThread {
    is_over: Arc<AtomicBool>,
    event: EventFd,
    thread: JoinHandle<()>,
}

impl Fleet {
    /// Binds, then starts every shard. Returns when all threads are on their way.
    ///
    /// # Errors
    /// The address cannot be bound, or the kernel gives no more threads or files.
    pub fn start<S: Protocol>(blueprint: &Blueprint) -> Result<Self, StartError> {
        let count = blueprint.shards.count;
        // Behind the shards' stands what the Redis thread has.
        let all = usize::from(count) + usize::from(blueprint.needs_redis());
        let events = (0..all)
            .map(|_| EventFd::new())
            .collect::<io::Result<Vec<_>>>()?;
        let of_shards = events.get(..usize::from(count)).unwrap_or_default();
        let (address, sources) = blueprint.listen(of_shards)?;
        let inbox =
            |event: &EventFd| Arc::new(Inbox::new(blueprint.ring_bytes, Box::new(event.clone())));
        let inboxes: Arc<[Arc<Inbox>]> = events.iter().map(inbox).collect();
        let metrics: Vec<_> = (0..all).map(|_| Arc::new(Metrics::default())).collect();
        let stage = Arc::new(Stage::default());
        let serving = Arc::new(Serving::new(Arc::clone(&blueprint.apps)));
        let common = Common {
            inboxes: Arc::clone(&inboxes),
            stage: Arc::clone(&stage),
            serving: Arc::clone(&serving),
            files: Arc::new(Files::new(blueprint.connections_max)),
            refusals: Arc::default(),
            audience: Arc::new(Audience::new(count, fastrand::u64(..))),
            start: Instant::now(),
        };
        let mut threads = Vec::with_capacity(usize::from(count));
        let mut parts = mesh(ring_entries(all), &inboxes).into_iter().zip(events);
        for ((at, source), (ends, event)) in (0..count).zip(sources).zip(parts.by_ref()) {
            let metrics = metrics.get(usize::from(at)).cloned().unwrap_or_default();
            let plan = blueprint.plan(ShardIndex(at), metrics, &common, ends, source, event);
            let cpus = blueprint.shards.cpus.as_ref();
            let cpu = cpus.and_then(|cpus| cpus.get(usize::from(at))).copied();
            let thread = thread::Builder::new().name(format!("shard-{at}"));
            threads.push(thread.spawn(move || run_shard::<S>(plan, cpu))?);
        }
        let redis = match (parts.next(), inboxes.last()) {
            (Some((ends, event)), Some(inbox)) => Some(RedisThread::start(redis::Plan {
                ingest: blueprint.ingest.clone(),
                scaling: blueprint.scaling.clone(),
                serving: Arc::clone(&serving),
                drain: blueprint.drain,
                status: Arc::clone(&blueprint.redis),
                shards: count,
                ends,
                inbox: Arc::clone(inbox),
                event,
                metrics: metrics.last().cloned().unwrap_or_default(),
                is_over: Arc::default(),
            })?),
            _ => None,
        };
        Ok(Self {
            address,
            stage,
            serving,
            metrics,
            threads,
            redis,
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
        if let Some(redis) = self.redis {
            redis.end();
        }
        info!("stopped: {}", Merged(&self.metrics));
    }
}

impl RedisThread {
    fn start(plan: redis::Plan) -> io::Result<Self> {
        let (is_over, event) = (Arc::clone(&plan.is_over), plan.event.clone());
        let thread = thread::Builder::new().name("redis".to_owned());
        let thread =
            thread.spawn(move || end_if_broken("the Redis thread", || redis::run(plan)))?;
        Ok(Self {
            is_over,
            event,
            thread,
        })
    }

    /// Tells it to end, and waits for it.
    fn end(self) {
        self.is_over.store(true, Ordering::Release);
        self.event.wake();
        // If it panicked it has ended the process already.
        let _ = self.thread.join();
    }
}

/// What all plans have in common.
struct Common {
    inboxes: Arc<[Arc<Inbox>]>,
    stage: Arc<Stage>,
    serving: Arc<Serving>,
    files: Arc<Files>,
    refusals: Arc<RefusalLog>,
    audience: Arc<Audience>,
    start: Instant,
}

/// Where a shard's connections come from.
struct Sources {
    listeners: Vec<Listener>,
    handed: Option<Handed>,
}

impl Blueprint {
    /// Listens wherever it is to, for each shard that has one of these `events`.
    fn listen(&self, events: &[EventFd]) -> Result<(SocketAddr, Vec<Sources>), StartError> {
        let bound = listen::bind(&self.host, self.port, events.len(), self.is_shared);
        let (address, listeners) = bound.map_err(|source| {
            let host = config::host_in_url(&self.host);
            let place = format!("{host}:{}", self.port);
            StartError::Listen { place, source }
        })?;
        let sources = listeners.into_iter().map(|listener| Sources {
            listeners: vec![listener],
            handed: None,
        });
        let mut sources: Vec<_> = sources.collect();
        if let Some(socket) = &self.unix_socket {
            let (listener, handed) = unix::bind(socket, events).map_err(|source| {
                let place = socket.path.display().to_string();
                StartError::Listen { place, source }
            })?;
            let mut shards = sources.iter_mut();
            if let Some(first) = shards.next() {
                first.listeners.push(listener);
            }
            for (shard, handed) in shards.zip(handed) {
                shard.handed = Some(handed);
            }
        }
        Ok((address, sources))
    }

    fn needs_redis(&self) -> bool {
        self.ingest.is_some() || self.scaling.is_some()
    }

    fn plan(
        &self,
        shard: ShardIndex,
        metrics: Arc<Metrics>,
        common: &Common,
        ends: Ends,
        Sources { listeners, handed }: Sources,
        event: EventFd,
    ) -> Plan {
        let setup = Setup {
            shard,
            shards: self.shards.count,
            // Its inbox stands behind those of the shards.
            bus: self
                .scaling
                .is_some()
                .then_some(ShardIndex(self.shards.count)),
            interest: self
                .ingest
                .as_ref()
                .is_some_and(|ingest| ingest.by_interest)
                .then_some(ShardIndex(self.shards.count)),
            audience: Arc::clone(&common.audience),
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
            listeners,
            handed,
            ends,
            inboxes: Arc::clone(&common.inboxes),
            event,
            stage: Arc::clone(&common.stage),
            serving: Arc::clone(&common.serving),
            files: Arc::clone(&common.files),
            refusals: Arc::clone(&common.refusals),
            drain: self.drain,
        }
    }
}

/// One shard's thread.
fn run_shard<S: Protocol>(plan: Plan, cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            warn!(cpu, %error, "a shard could not be pinned");
        }
    }
    end_if_broken("a shard", || edge::run::<S>(plan));
}

/// Runs a thread's work. Whatever goes wrong in it may have left state half changed: the process
/// ends, its sockets close with it, and the supervisor starts it anew.
fn end_if_broken(who: &str, work: impl FnOnce() -> io::Result<()>) {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return,
        Ok(Err(failure)) => error!(%failure, "{who} failed"),
        Err(_) => error!("{who} panicked"),
    }
    crate::log::flush();
    std::process::exit(crate::EXIT_INTERNAL);
}
