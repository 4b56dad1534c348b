//! One sender with all its subscribers, and the loads it is put under.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::client::Client;
use crate::contender::{Contender, Server};
use crate::floor::{self, Sockets};
use crate::meter::Meter;
use crate::pace::{Burst, Pace, Untimed};
use crate::receiver::{CHANNEL, Receiver, Schedule};
use crate::sample::Sample;
use crate::sequence::Sequence;
use crate::source::{Api, Source, Told, Whisperer};

/// Deliveries that are under way at most: what receivers cannot take, a server would have to close
/// them for.
const AHEAD_MAX: u64 = 1_000_000;
/// Events that are under way at most.
const EVENTS_AHEAD_MAX: u64 = 1000;
/// Without a frame for so long a round is over, and what is missing is lost.
const SILENCE: Duration = Duration::from_secs(5);
/// The longest wait before looking whether there is room again.
const GLANCE: Duration = Duration::from_millis(10);
/// After so long no more bursts are sent: a slow server is measured by fewer.
const BURSTS_MAX: Duration = Duration::from_secs(2);
/// At a rate the same is so after so many times as long as it should take.
const LATE_MAX: u32 = 2;
/// Events before the first round at most, so that every path is warm, and their deliveries.
const WARM_UP: u64 = 20;
const WARM_UP_DELIVERIES: u64 = 50_000;

/// How events follow one another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// So many together, the next ones once everybody has the last.
    Bursts(u64),
    /// So many a second, unless the receivers fall [`AHEAD_MAX`] behind.
    Rate(u64),
    /// As many as are taken.
    Flood,
}

impl Load {
    /// For the tables.
    pub fn name(self) -> String {
        match self {
            Self::Bursts(1) => "one at a time".into(),
            Self::Bursts(size) => format!("bursts of {size}"),
            Self::Rate(rate) => format!("{rate} events/s"),
            Self::Flood => "as fast as taken".into(),
        }
    }
}

/// A sender, and everybody who receives from it.
pub struct Stage {
    /// The process that is measured.
    pid: Option<u32>,
    source: Box<dyn Source>,
    receiver: Receiver,
    /// Sockets that one event goes to.
    deliveries: u64,
    /// Lives as long as the stage.
    _sender: Option<Server>,
}

impl Stage {
    /// A process to measure, who is told to send, who receives, and how many sockets an event is
    /// for.
    pub fn new(
        pid: Option<u32>,
        source: impl Source + 'static,
        mut receiver: Receiver,
        deliveries: u64,
    ) -> Result<Self, Failure> {
        receiver.watch(source.stream())?;
        Ok(Self {
            pid,
            source: Box::new(source),
            receiver,
            deliveries,
            _sender: None,
        })
    }

    /// A contender with everybody on one channel; a server is told by its API.
    pub fn to_all(contender: &Contender, sockets: usize) -> Result<Self, Failure> {
        let Some(server) = contender.start()? else {
            return Self::floor(contender, sockets, |_| floor::ALL, |_| Sequence::of_all());
        };
        let receiver = Receiver::of(&server, sockets)?;
        Self::api(server, receiver, sockets as u64, |_| CHANNEL.to_owned())
    }

    /// The bare send loop with so many sockets, each for the numbers that `sequence` gives it.
    pub fn floor(
        contender: &Contender,
        sockets: usize,
        of_event: fn(u64) -> Sockets,
        sequence: fn(u64) -> Sequence,
    ) -> Result<Self, Failure> {
        let sender = floor::start_sender(contender.driver(), sockets, Ipv4Addr::LOCALHOST)?;
        let source = Told::connect(sender.address, of_event)?;
        let mut receiver = Receiver::new()?;
        receiver.join(&sender, sockets, sequence)?;
        let deliveries = (sockets as u64).min(of_event(0).count.into());
        Self::owning(sender, source, receiver, deliveries)
    }

    /// A server whose API is called, with `receiver` on the channels that the numbers give.
    pub fn api(
        server: Server,
        receiver: Receiver,
        deliveries: u64,
        channel: fn(u64) -> String,
    ) -> Result<Self, Failure> {
        let api = Api::connect(server.address, &server.app, channel)?;
        Self::owning(server, api, receiver, deliveries)
    }

    /// A server through which one more socket whispers to everybody.
    pub fn whispers(server: Server, sockets: usize, channel: &str) -> Result<Self, Failure> {
        let mut clients = Client::join(&server, &[channel.to_owned()], sockets + 1)?;
        let whisperer = clients.pop().ok_or("nobody whispers")?;
        let mut receiver = Receiver::new()?;
        for client in clients {
            receiver.take_over(client, Sequence::of_all())?;
        }
        let source = Whisperer::new(whisperer, channel)?;
        Self::owning(server, source, receiver, sockets as u64)
    }

    /// A sender that ends with the stage, as in [`Self::new`].
    pub fn owning(
        sender: Server,
        source: impl Source + 'static,
        receiver: Receiver,
        deliveries: u64,
    ) -> Result<Self, Failure> {
        let mut stage = Self::new(sender.pid, source, receiver, deliveries)?;
        stage._sender = Some(sender);
        Ok(stage)
    }

    /// Lets the last `count` subscribers read no more.
    pub fn stop_reading(&mut self, count: usize) -> Result<(), Failure> {
        self.deliveries -= count as u64;
        self.receiver.stop_reading(count)
    }

    /// Sends a few events that nobody measures.
    pub fn warm_up(&mut self) -> Result<(), Failure> {
        let events = (WARM_UP_DELIVERIES / self.deliveries).clamp(1, WARM_UP);
        let sent = self.bursts(1, events)?;
        if self.receiver.finish(sent)?.is_exact() {
            return Ok(());
        }
        Err("the first events were lost, doubled or reordered".into())
    }

    /// Sends so many events as `load` says, and measures until the last has come.
    pub fn measure(&mut self, name: String, load: Load, events: u64) -> Result<Sample, Failure> {
        self.receiver.take_idled();
        let meter = Meter::start(self.pid)?;
        let published = match load {
            Load::Bursts(size) => self.bursts(size, events)?,
            Load::Rate(rate) => {
                let pace = Pace::from_now(rate);
                let longest = pace.at(events).saturating_duration_since(pace.at(0)) * LATE_MAX;
                self.open_loop(events, longest, |number| pace.at(number), &pace)?
            }
            Load::Flood => {
                let now = Instant::now();
                self.open_loop(events, Duration::MAX, |_| now, &Untimed)?
            }
        };
        let mut usage = meter.stop()?;
        usage.own.take_off(self.receiver.take_idled());
        let tally = self.receiver.finish(published)?;
        Ok(Sample::of_cpu(name, usage, tally))
    }

    /// Gives how many events were sent: fewer where one did not come, or time was up.
    fn bursts(&mut self, size: u64, events: u64) -> Result<u64, Failure> {
        let started = Instant::now();
        let mut next = 0;
        while next < events && started.elapsed() < BURSTS_MAX {
            let end = events.min(next + size);
            for number in next..end {
                self.source.queue(number)?;
            }
            let burst = Burst::now(next);
            self.source.work()?;
            while self.receiver.frames() < end * self.deliveries {
                self.source.work()?;
                if !self.receiver.receive_awake(SILENCE, &burst)? {
                    return Ok(end);
                }
            }
            next = end;
        }
        self.settle()?;
        Ok(next)
    }

    /// Gives how many events were sent: fewer where time was up.
    fn open_loop(
        &mut self,
        mut events: u64,
        longest: Duration,
        at: impl Fn(u64) -> Instant,
        due: &dyn Schedule,
    ) -> Result<u64, Failure> {
        let ahead = (AHEAD_MAX / self.deliveries).clamp(1, EVENTS_AHEAD_MAX);
        let started = Instant::now();
        let mut next = 0;
        let mut last_news = started;
        while self.receiver.frames() < events * self.deliveries && last_news.elapsed() < SILENCE {
            if started.elapsed() > longest {
                events = next;
            }
            let end = events.min(self.receiver.frames() / self.deliveries + ahead);
            while next < end && at(next) <= Instant::now() {
                self.source.queue(next)?;
                next += 1;
            }
            self.source.work()?;
            let patience = if next < end {
                at(next).saturating_duration_since(Instant::now())
            } else {
                GLANCE
            };
            if self.receiver.receive(patience.min(GLANCE), due)? {
                last_news = Instant::now();
            }
        }
        self.settle()?;
        Ok(events)
    }

    /// Waits until every event is answered.
    fn settle(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        while !self.source.is_settled() {
            if started.elapsed() > SILENCE {
                return Err("an event was never answered".into());
            }
            self.source.work()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}
