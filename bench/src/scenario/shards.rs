//! One CPU and two: what the second one adds, and what sharing costs.
//!
//! The load generator needs a CPU, and there are but two. So three things are measured, and each
//! beside the same with one shard, or for the floor with one loop:
//!
//! - *one at a time*: everybody reads, and the second shard has only what the load leaves of its
//!   CPU. What stands is the cost of a delivery, for that is CPU time and no other.
//! - *unread*: an event goes out while nobody reads and the load sleeps, so that both CPUs are the
//!   sender's. It is over when the last socket has the event: the kernel notes for each when that
//!   was, and is asked later. Here the deliveries per second tell what two CPUs are good for.
//! - *calls*: the server is stopped while API calls for nobody are written to as many connections,
//!   and goes on while the load sleeps, until the last answer has come. Half of the calls reach a
//!   shard that is not their app's home, and go there and back over a ring.
//!
//! Who is on which shard is for the kernel to say. It spreads connections by a hash, so one shard
//! has some more than the other, and the last of its sockets ends the event: of 51 % in one half
//! no more than 1.96 times can come.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use super::{Baseline, Effort, Scenario};
use crate::contender::{Contender, Driver, Server};
use crate::floor;
use crate::message::FRAME_BYTES;
use crate::meter::{Meter, Usage};
use crate::pace::{Burst, Untimed};
use crate::process::{pause, resume, server_command, spawn_on_cpus, wait_for};
use crate::publisher::count_answers;
use crate::receiver::{Receiver, Schedule};
use crate::sample::Sample;
use crate::sequence::Sequence;
use crate::source::{Api, Source, Told};
use crate::tally::Tally;
use crate::{Failure, arrival, cpu};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "shards",
    about: "one shard and two: the cost of sharing, and what two CPUs can do while nobody reads",
    unit: "CPU ns per delivery, or per call",
    sockets: &[2000],
    baseline: Baseline::Words {
        own: WORDS[1],
        other: WORDS[0],
    },
    missing: || None,
    rounds: 2,
    round,
};

const WORDS: [&str; 2] = ["1 CPU", "2 CPUs"];
/// Events before anything is measured.
const WARM_UP: u64 = 3;
/// Events that are read as they come, in a whole run and in a quick one.
const EVENTS: (u64, u64) = (30, 5);
/// Events that are read only once all have come.
const UNREAD: (u64, u64) = (20, 3);
/// Times that all callers call.
const CALLS: (u64, u64) = (15, 3);
const CALLERS: usize = 1000;
/// So long one delivery, and one answer, takes at most on one CPU that is free. The load sleeps
/// while the sender is at work, and longer only if something else had its CPU.
const DELIVERY: Duration = Duration::from_micros(12);
const ANSWER: Duration = Duration::from_micros(20);
/// How long it sleeps then.
const LONGER: Duration = Duration::from_millis(10);
/// Without the last frame for so long, it is lost.
const SILENCE: Duration = Duration::from_secs(5);

/// Whoever sends, and everybody who receives.
struct Crowd {
    senders: Vec<Server>,
    sources: Vec<Box<dyn Source>>,
    receiver: Receiver,
}

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let mut samples = Vec::new();
    for (cpus, words) in (1..).zip(WORDS) {
        let Some(mut crowd) = Crowd::gather(contender, cpus, sockets)? else {
            return Ok(Vec::new());
        };
        crowd.read_as_it_comes(WARM_UP)?;
        let events = effort.pick(EVENTS.0, EVENTS.1);
        let (usage, tally) = crowd.read_as_it_comes(events)?;
        let name = format!("{words}, one at a time");
        samples.push(Sample::of_cpu(name, usage, tally));
        let (usage, tally) = crowd.read_at_last(effort.pick(UNREAD.0, UNREAD.1))?;
        samples.push(Sample {
            fullest: (cpus > 1).then(|| crowd.fullest()).transpose()?,
            ..Sample::of_cpu(format!("{words}, unread"), usage, tally)
        });
        if let Contender::Slapback(..) = contender {
            let (usage, tally) = call(&crowd.senders[0], effort.pick(CALLS.0, CALLS.1))?;
            samples.push(Sample::of_cpu(format!("{words}, calls"), usage, tally));
        }
    }
    Ok(samples)
}

/// A server with one shard on each of so many CPUs.
fn start(driver: Driver, binary: &Path, cpus: usize) -> Result<Server, Failure> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut command = server_command(binary, address, driver.name());
    command
        .env("SLAPBACK_SHARDS", cpus.to_string())
        .env("SLAPBACK_PIN", "true");
    let process = spawn_on_cpus(&mut command, cpus)?;
    wait_for(address)?;
    Ok(Server::ours(process, address))
}

impl Crowd {
    /// So many sockets to a sender on so many CPUs; `None` for whom that does not fit.
    fn gather(contender: &Contender, cpus: usize, sockets: usize) -> Result<Option<Self>, Failure> {
        let mut crowd = Self {
            senders: Vec::new(),
            sources: Vec::new(),
            receiver: Receiver::new()?,
        };
        match contender {
            Contender::Floor(driver) => crowd.add_loops(*driver, cpus, sockets)?,
            Contender::Slapback(driver, binary) => {
                let server = start(*driver, binary, cpus)?;
                crowd.sources.push(Box::new(Api::to_all(&server)?));
                crowd
                    .receiver
                    .join(&server, sockets, |_| Sequence::of_all())?;
                crowd.senders.push(server);
            }
            Contender::Uws | Contender::Other(_) => return Ok(None),
        }
        for source in &crowd.sources {
            crowd.receiver.watch(source.stream())?;
        }
        for stream in crowd.receiver.streams() {
            arrival::note(stream)?;
        }
        Ok(Some(crowd))
    }

    /// A bare loop on each CPU, and for each its part of the sockets.
    fn add_loops(&mut self, driver: Driver, cpus: usize, sockets: usize) -> Result<(), Failure> {
        for number in 0..cpus {
            let part = sockets / cpus;
            let sender = floor::start_sender(driver.name(), part, Ipv4Addr::LOCALHOST)?;
            let pid = sender.pid.ok_or("a loop has no process")?;
            cpu::place(Some(pid), &[cpu::SENDER + number])?;
            let source = Told::connect(sender.address, |_| floor::ALL)?;
            self.receiver.join(&sender, part, |_| Sequence::of_all())?;
            self.sources.push(Box::new(source));
            self.senders.push(sender);
        }
        Ok(())
    }

    fn meter(&self) -> Result<Meter, Failure> {
        Meter::start(self.senders.iter().filter_map(|sender| sender.pid))
    }

    /// Sends so many events, each once everybody has read the one before.
    fn read_as_it_comes(&mut self, events: u64) -> Result<(Usage, Tally), Failure> {
        let meter = self.meter()?;
        for number in 0..events {
            let burst = Burst::now(number);
            self.send(number)?;
            self.read(number + 1, &burst)?;
        }
        Ok((meter.stop()?, self.receiver.finish(events)?))
    }

    /// The same, but nobody reads an event before all sockets have it.
    fn read_at_last(&mut self, events: u64) -> Result<(Usage, Tally), Failure> {
        let mut usage: Option<Usage> = None;
        let patience = DELIVERY * u32::try_from(self.receiver.sockets())?;
        for number in 0..events {
            let meter = self.meter()?;
            let begun = SystemTime::now();
            self.send(number)?;
            let streams: Vec<_> = self.receiver.streams().collect();
            let used = sleep_until_all_have(&streams, FRAME_BYTES, &meter, begun, patience)?;
            usage = Some(usage.map_or(used, |usage| usage.and(used)));
            self.read(number + 1, &Untimed)?;
        }
        Ok((usage.ok_or("no event")?, self.receiver.finish(events)?))
    }

    fn send(&mut self, number: u64) -> Result<(), Failure> {
        for source in &mut self.sources {
            source.queue(number)?;
            source.work()?;
        }
        Ok(())
    }

    /// Reads until everybody has had so many events, or nothing more comes.
    fn read(&mut self, events: u64, due: &dyn Schedule) -> Result<(), Failure> {
        while self.receiver.frames() < events * self.receiver.sockets() {
            for source in &mut self.sources {
                source.work()?;
            }
            if !self.receiver.receive(SILENCE, due)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The part of the sockets that is served from the CPU that serves most.
    fn fullest(&self) -> Result<f64, Failure> {
        let mut on_first = 0;
        for stream in self.receiver.streams() {
            on_first += u64::from(arrival::cpu(stream)? == cpu::SENDER);
        }
        let part = on_first as f64 / self.receiver.sockets() as f64;
        Ok(part.max(1.0 - part))
    }
}

/// Makes the calls of all callers at once, so many times over.
fn call(server: &Server, times: u64) -> Result<(Usage, Tally), Failure> {
    let pid = server.pid.ok_or("a server has no process")?;
    let mut callers = Vec::with_capacity(CALLERS);
    for _ in 0..CALLERS {
        let caller = TcpStream::connect(server.address)?;
        caller.set_nodelay(true)?;
        arrival::note(&caller)?;
        callers.push(caller);
    }
    let (mut usage, mut answers): (Option<Usage>, u64) = (None, 0);
    let patience = ANSWER * u32::try_from(CALLERS)?;
    for number in 0..times {
        let request = server.app.request(CALLED, number)?;
        pause(pid)?;
        for caller in &mut callers {
            caller.write_all(&request)?;
        }
        let meter = Meter::start([pid])?;
        let begun = SystemTime::now();
        resume(pid)?;
        let streams: Vec<_> = callers.iter().collect();
        let used = sleep_until_all_have(&streams, 1, &meter, begun, patience)?;
        usage = Some(usage.map_or(used, |usage| usage.and(used)));
        for caller in &mut callers {
            let mut heard = [0; 4096];
            let count = caller.read(&mut heard)?;
            answers += count_answers(&heard[..count])?.0;
        }
    }
    let calls = times * CALLERS as u64;
    Ok((usage.ok_or("no call")?, Tally::of_answers(answers, calls)?))
}

/// A channel that nobody is on.
const CALLED: &str = "nobody";

/// Sleeps until so many bytes wait in every socket. Gives what was used until then, and the time
/// from when it had begun to when the last of them came.
fn sleep_until_all_have(
    streams: &[&TcpStream],
    bytes: usize,
    meter: &Meter,
    begun: SystemTime,
    patience: Duration,
) -> Result<Usage, Failure> {
    let started = Instant::now();
    let mut longer = patience;
    while started.elapsed() < SILENCE {
        sleep(longer);
        let used = meter.stop()?;
        if let Some(came) = last_arrival(streams, bytes)? {
            let elapsed = came.duration_since(begun)?;
            return Ok(Usage { elapsed, ..used });
        }
        longer = LONGER;
    }
    Err("not everybody was sent to".into())
}

/// When the last socket had so many bytes; `None` if one has not.
fn last_arrival(streams: &[&TcpStream], bytes: usize) -> Result<Option<SystemTime>, Failure> {
    let mut buffer = [0; 4096];
    let mut last = None;
    for stream in streams {
        let (count, came) = arrival::peek(stream, &mut buffer)?;
        if count < bytes {
            return Ok(None);
        }
        last = last.max(Some(came.ok_or("the kernel noted no time")?));
    }
    Ok(last)
}
