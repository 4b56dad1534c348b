//! The kernel's side of one shard: the only place that names the runtime, `io_uring` or a
//! descriptor.
//!
//! Tasks of one thread share an `Edge`: one takes the sockets' news and reads, one accepts, one
//! keeps the time, and one turns: rings in, messages out, sockets flushed. None holds a borrow
//! across an await, so each sees the shard whole.

mod files;
pub mod flush;
pub mod listen;
mod pace;
pub mod poll;
mod socket;
mod stage;
pub mod unix;

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{info, warn};

pub use crate::edge::files::Files;
use crate::edge::flush::Driver;
use crate::edge::listen::Listener;
use crate::edge::pace::Pace;
use crate::edge::poll::{Bounce, Notify, Readiness};
use crate::edge::socket::{READ_BYTES, Sockets};
pub use crate::edge::stage::Stage;
use crate::edge::unix::Handed;
use crate::proto::Now;
use crate::proto::session::{Pressure, Protocol};
use crate::refusals::RefusalLog;
use crate::ring::Inbox;
use crate::serving::Serving;
use crate::shard::ends::{Ends, Part, TURN};
use crate::shard::flusher::Flusher;
use crate::shard::{Command, Setup, Shard, wheel};
use crate::wake::EventFd;

/// Sockets flushed before rings, reads and accepts get their turn again.
const FLUSH_CHUNK: usize = 256;

/// What one shard's thread is given.
pub struct Plan {
    /// Its sans-io part.
    pub setup: Setup,
    /// Which driver the fleet has chosen.
    pub driver: Driver,
    /// Its own listener, and with the first shard that of the Unix socket.
    pub listeners: Vec<Listener>,
    /// With the others, where they are handed connections of the Unix socket.
    pub handed: Option<Handed>,
    /// Its ends of the rings.
    pub ends: Ends,
    /// Every shard's inbox, by number, then that of the Redis thread if there is one.
    pub inboxes: Arc<[Arc<Inbox>]>,
    /// Its own wake.
    pub event: EventFd,
    /// The process's stage.
    pub stage: Arc<Stage>,
    /// The apps, and whether others have taken their place.
    pub serving: Arc<Serving>,
    /// The process's connections.
    pub files: Arc<Files>,
    /// Where refusals are logged.
    pub refusals: Arc<RefusalLog>,
    /// Time of a drain.
    pub drain: Duration,
}

/// One shard with its kernel side.
pub(crate) struct Edge<S: Protocol> {
    shard: RefCell<Shard<S>>,
    flusher: RefCell<Box<dyn Flusher>>,
    sockets: RefCell<Sockets>,
    ends: RefCell<Ends>,
    scratch: RefCell<Box<[u8]>>,
    commands: RefCell<Vec<Command>>,
    inbox: Arc<Inbox>,
    inboxes: Arc<[Arc<Inbox>]>,
    shards: usize,
    turn_due: Notify,
    pace: RefCell<Pace>,
    /// Sockets are left to be read.
    rest_due: Notify,
    bounce: Bounce,
    unix_s: Cell<u64>,
    /// When the clock was looked at last.
    ticked: Cell<Instant>,
    /// For those who wait for the next look.
    tick_passed: Bounce,
    stage: Arc<Stage>,
    serving: Arc<Serving>,
    /// The edition of the apps that the shard has.
    edition: Cell<u64>,
    files: Arc<Files>,
    handed: Option<Handed>,
    refusals: Arc<RefusalLog>,
    drain: Duration,
    is_drained: Cell<bool>,
    fleet_drained: Notify,
}

/// Runs one shard until all are drained. Blocks the calling thread.
///
/// # Errors
/// The kernel gives no ring, no runtime or no descriptor to wait on.
pub fn run<S: Protocol>(plan: Plan) -> io::Result<()> {
    let flusher = flush::open_driver(plan.driver)?;
    match plan.driver {
        Driver::Uring => {
            let mut builder = io_uring::IoUring::builder();
            builder.setup_single_issuer().setup_coop_taskrun();
            monoio::RuntimeBuilder::<monoio::time::TimeDriver<monoio::IoUringDriver>>::new()
                .uring_builder(builder)
                .build()?
                .block_on(serve::<S>(plan, flusher))
        }
        Driver::Sendmsg => {
            monoio::RuntimeBuilder::<monoio::time::TimeDriver<monoio::LegacyDriver>>::new()
                .build()?
                .block_on(serve::<S>(plan, flusher))
        }
    }
}

async fn serve<S: Protocol>(plan: Plan, flusher: Box<dyn Flusher>) -> io::Result<()> {
    let own = usize::from(plan.setup.shard.0);
    let Some(inbox) = plan.inboxes.get(own).cloned() else {
        return Err(io::Error::other("a shard has no inbox"));
    };
    let edge = Rc::new(Edge {
        shards: usize::from(plan.setup.shards),
        shard: RefCell::new(Shard::<S>::new(plan.setup)),
        flusher: RefCell::new(flusher),
        sockets: RefCell::new(Sockets::new()?),
        ends: RefCell::new(plan.ends),
        scratch: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()),
        commands: RefCell::default(),
        inbox,
        inboxes: plan.inboxes,
        turn_due: Notify::default(),
        pace: RefCell::default(),
        rest_due: Notify::default(),
        bounce: Bounce::default(),
        unix_s: Cell::new(unix_s()),
        ticked: Cell::new(Instant::now()),
        tick_passed: Bounce::default(),
        stage: plan.stage,
        serving: plan.serving,
        edition: Cell::default(),
        files: plan.files,
        handed: plan.handed,
        refusals: plan.refusals,
        drain: plan.drain,
        is_drained: Cell::default(),
        fleet_drained: Notify::default(),
    });
    let wakes = Readiness::new(plan.event.as_fd(), plan.driver)?;
    let news = Readiness::new(edge.sockets.borrow().watch(), plan.driver)?;
    monoio::spawn(wake_task(Rc::clone(&edge), plan.event, wakes));
    monoio::spawn(socket::news_task(Rc::clone(&edge), news));
    monoio::spawn(socket::rest_task(Rc::clone(&edge)));
    monoio::spawn(bounce_task(Rc::clone(&edge)));
    monoio::spawn(turn_task(Rc::clone(&edge)));
    monoio::spawn(tick_task(Rc::clone(&edge)));
    let listeners: Vec<_> = plan.listeners.into_iter().map(Rc::new).collect();
    for listener in &listeners {
        let accepts = listener.readiness(plan.driver)?;
        let (edge, listener) = (Rc::clone(&edge), Rc::clone(listener));
        monoio::spawn(listen::accept_task(edge, listener, accepts));
    }
    loop {
        edge.fleet_drained.raised().await;
        // Whoever connected meanwhile gets an answer too, while there is time.
        let is_over = edge.shard.borrow().is_drain_over(Instant::now());
        let accepted = listeners.iter().map(|one| one.accept_all(&edge).count);
        if is_over || edge.take_handed() + accepted.sum::<usize>() == 0 {
            for listener in &listeners {
                listener.close();
            }
            return Ok(());
        }
    }
}

async fn bounce_task<S: Protocol>(edge: Rc<Edge<S>>) {
    loop {
        edge.bounce.asked().await;
        edge.look_at_clock();
        edge.bounce.release();
    }
}

async fn wake_task<S: Protocol>(edge: Rc<Edge<S>>, event: EventFd, wakes: Readiness) {
    loop {
        if let Err(error) = wakes.readable().await {
            warn!(%error, "waiting for other shards failed");
            monoio::time::sleep(wheel::TICK).await;
        }
        event.clear();
        edge.take_handed();
        edge.turn_due.raise();
    }
}

async fn tick_task<S: Protocol>(edge: Rc<Edge<S>>) {
    loop {
        monoio::time::sleep(wheel::TICK).await;
        edge.tick();
    }
}

async fn turn_task<S: Protocol>(edge: Rc<Edge<S>>) {
    loop {
        edge.turn_due.lower();
        if edge.turn() {
            edge.bounce.yield_now().await;
            continue;
        }
        edge.inbox.announce_sleep();
        // A second look: what came before the announcement woke nobody.
        if !edge.has_news() {
            edge.wait().await;
        }
        edge.inbox.announce_awake();
    }
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl<S: Protocol> Edge<S> {
    fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            unix_s: self.unix_s.get(),
        }
    }

    /// One round: rings in, messages out, a chunk of sockets flushed. True if there was work.
    fn turn(&self) -> bool {
        self.let_others_run();
        let now = self.now();
        let mut worked = false;
        for part in TURN {
            match part {
                Part::Take => worked |= self.take_messages(now),
                Part::Publish => self.publish(),
                Part::Flush => worked |= self.flush(now),
            }
        }
        worked
    }

    /// Lets whoever shares the CPU run before the next flush begins, if the shard is busy: what
    /// they have for it goes out in the same sends. With the CPU to itself it goes on at once.
    fn let_others_run(&self) {
        let is_between_flushes = self.shard.borrow().gathered().is_some();
        if is_between_flushes && self.pace.borrow().is_busy(Instant::now()) {
            std::thread::yield_now();
        }
    }

    fn flush(&self, now: Now) -> bool {
        let mut shard = self.shard.borrow_mut();
        let mut pace = self.pace.borrow_mut();
        let mut flusher = self.flusher.borrow_mut();
        let gathered = shard.gathered();
        if gathered.is_some_and(|gathered| !pace.may_begin(now.instant, gathered)) {
            let had_replies = shard.flush_ahead(now, &mut **flusher, FLUSH_CHUNK);
            drop((flusher, pace));
            self.carry_out(shard);
            return had_replies;
        }
        let had_work = shard.flush(now, &mut **flusher, FLUSH_CHUNK);
        if shard.gathered().is_some() {
            pace.ended(Instant::now());
        }
        drop((flusher, pace));
        self.carry_out(shard);
        had_work
    }

    /// Waits for news, while the shard rests no longer than that.
    async fn wait(&self) {
        let rest = self.pace.borrow().rests_until();
        let Some(until) = rest else {
            return self.turn_due.raised().await;
        };
        let left = until.saturating_duration_since(Instant::now());
        // Whether news or time came first, the turn looks at both.
        let _ = monoio::time::timeout(left, self.turn_due.raised()).await;
    }

    fn take_messages(&self, now: Now) -> bool {
        let mut shard = self.shard.borrow_mut();
        let took = self.ends.borrow_mut().take(now, &mut shard);
        self.carry_out(shard);
        took
    }

    fn publish(&self) {
        let mut shard = self.shard.borrow_mut();
        self.ends.borrow_mut().publish(&mut shard);
    }

    fn has_news(&self) -> bool {
        if self.turn_due.is_raised() || self.is_turn_due(&self.shard.borrow()) {
            return true;
        }
        self.publish();
        self.ends.borrow().has_news()
    }

    /// Bytes to many wait while the shard rests; messages and replies do not.
    fn is_turn_due(&self, shard: &Shard<S>) -> bool {
        let rests = self.pace.borrow().rests_until().is_some();
        shard.has_messages() || shard.has_replies() || shard.has_output() && !rests
    }

    fn pressure(&self) -> Pressure {
        let stage = self.stage.get();
        Pressure {
            leaving: stage >= Stage::LEAVING,
            draining: stage >= Stage::DRAINING,
            over_full: self.inboxes.iter().any(|inbox| inbox.is_over_full()),
            node_full: self.files.is_nearly_full(),
        }
    }

    /// Does what the shard wants done to sockets, and sees that its output gets out.
    fn carry_out(&self, mut shard: RefMut<'_, Shard<S>>) {
        for refused in shard.poll_refused() {
            self.refusals.log(&refused);
        }
        let mut commands = self.commands.take();
        commands.extend(shard.poll_commands());
        if self.is_turn_due(&shard) {
            self.turn_due.raise();
        }
        drop(shard);
        for command in commands.drain(..) {
            self.carry_out_one(command);
        }
        self.commands.replace(commands);
    }

    /// Does what is due although the runtime, which looks at its timers only when no task is ready
    /// to run, has not said so.
    fn look_at_clock(&self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.ticked.get()) >= wheel::TICK {
            self.tick();
        }
        let rest = self.pace.borrow().rests_until();
        if rest.is_some_and(|until| until <= now) {
            self.turn_due.raise();
        }
    }

    fn tick(&self) {
        self.unix_s.set(unix_s());
        self.ticked.set(Instant::now());
        self.tick_passed.release();
        let mut shard = self.shard.borrow_mut();
        shard.pressure = self.pressure();
        if shard.pressure.draining && !shard.is_draining() {
            shard.begin_drain(self.now(), self.drain);
        }
        if let Some(taken) = self.serving.take(&self.edition) {
            shard.handle_apps(self.now(), taken.apps);
            if taken.by_all {
                info!("reload: every shard serves the apps as they are now");
            }
        }
        shard.handle_tick(self.now());
        let is_drained = shard.is_drained();
        let was_drained = self.is_drained.replace(is_drained);
        let drained = self.stage.count_drained(was_drained, is_drained);
        if drained == self.shards || shard.is_drain_over(self.now().instant) {
            shard.end_drain();
            self.fleet_drained.raise();
        }
        self.carry_out(shard);
    }
}
