//! Everything at once: events to many, whispers from many, and newcomers all the while, who must
//! not be kept waiting.

use std::thread;
use std::time::{Duration, Instant};

use super::{Baseline, Effort, Scenario};
use crate::client::Client;
use crate::contender::{Contender, Server};
use crate::pace::Pace;
use crate::receiver::Receiver;
use crate::sample::Sample;
use crate::sequence::Sequence;
use crate::source::{Api, Whisperer, Whisperers};
use crate::stage::{Load, Stage};
use crate::tally::Tally;
use crate::{Failure, cpu};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "mixed",
    about: "newcomers amid 2,000 events/s to 1,000 subscribers and 10,000 whispers/s",
    unit: "CPU ns per delivery of an event, of all that the server does",
    sockets: &[1000],
    baseline: Baseline::Words {
        own: AMID,
        other: ALONE,
    },
    missing: || None,
    rounds: 3,
    round,
};

const ALONE: &str = "with nobody else";
const AMID: &str = "amid all that";
const EVENTS: u64 = 2000;
const WHISPERS: u64 = 10_000;
/// Each of them has a channel with one other.
const WHISPERERS: u64 = 100;
/// A second: connect, subscribe, ping, close.
const NEWCOMERS: u64 = 100;
/// They come by so many doors in turn: nobody waits for who came before.
const DOORS: u64 = 10;
const SECONDS: (u64, u64) = (2, 1);

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    // The bare loops do only one thing each.
    let Some(server) = contender.start()? else {
        return Ok(Vec::new());
    };
    let seconds = effort.pick(SECONDS.0, SECONDS.1);
    let (receiver, source) = (Receiver::of(&server, sockets)?, Api::to_all(&server)?);
    let mut events = Stage::new(server.pid, source, receiver, sockets as u64)?;
    events.warm_up()?;
    let mut whispers = whispers(&server)?;
    let mut samples = newcomers(&server, ALONE, 1)?;
    thread::scope(|scope| {
        let events = scope.spawn(|| load(&mut events, "events/s", EVENTS, seconds));
        let whispers = scope.spawn(|| load(&mut whispers, "whispers/s", WHISPERS, seconds));
        let newcomers = newcomers(&server, AMID, seconds);
        let events = events.join().map_err(|_| "the events panicked")??;
        let whispers = whispers.join().map_err(|_| "the whispers panicked")??;
        samples.extend(newcomers?);
        // The server's work cannot be told apart: it is all in the row of the events.
        let whispers = Sample::of_count(whispers.load, whispers.elapsed, whispers.tally);
        samples.extend([events, whispers]);
        Ok(samples)
    })
}

/// Whisperers, each of whom one other hears.
fn whispers(server: &Server) -> Result<Stage, Failure> {
    let mut receiver = Receiver::new()?;
    let mut whisperers = Vec::new();
    for number in 0..WHISPERERS {
        let channel = format!("private-{number}");
        for client in Client::join(server, std::slice::from_ref(&channel), 2)? {
            if whisperers.len() as u64 == number {
                whisperers.push(Whisperer::new(client, &channel)?);
            } else {
                receiver.take_over(client, Sequence::of_every(WHISPERERS, number))?;
            }
        }
    }
    Stage::new(server.pid, Whisperers(whisperers), receiver, 1)
}

/// Newcomers share the CPU of these loads, and must not wait for it. A failure crosses to the other
/// thread as its text.
fn load(stage: &mut Stage, what: &str, rate: u64, seconds: u64) -> Result<Sample, String> {
    let name = format!("{rate} {what}");
    cpu::stand_back()
        .and_then(|()| stage.measure(name, Load::Rate(rate), rate * seconds))
        .map_err(|failure| failure.to_string())
}

/// Newcomers for so long: how long each waited until it was subscribed, from when it was due, and
/// then for the answer to a ping.
fn newcomers(server: &Server, amid: &str, seconds: u64) -> Result<Vec<Sample>, Failure> {
    let pace = Pace::from_now(NEWCOMERS);
    let (mut subscribed, mut answered) = (Tally::new()?, Tally::new()?);
    thread::scope(|scope| {
        let come = |first| {
            let pace = &pace;
            // A failure crosses to the other thread as its text.
            scope.spawn(move || {
                come(server, pace, first, seconds).map_err(|failure| failure.to_string())
            })
        };
        let doors: Vec<_> = (0..DOORS).map(come).collect();
        for door in doors {
            let (own_subscribed, own_answered) = door.join().map_err(|_| "a door panicked")??;
            subscribed.add(&own_subscribed);
            answered.add(&own_answered);
        }
        Ok::<_, Failure>(())
    })?;
    let elapsed = pace.at(0).elapsed();
    let sample = |what, tally| Sample::of_count(format!("{what} {amid}"), elapsed, tally);
    Ok(vec![
        sample("newcomers", subscribed),
        sample("their pings", answered),
    ])
}

/// Those of one door, one after the other.
fn come(server: &Server, pace: &Pace, first: u64, seconds: u64) -> Result<(Tally, Tally), Failure> {
    let count = NEWCOMERS * seconds / DOORS;
    let (mut subscribed, mut answered) = (tally(count)?, tally(count)?);
    for turn in 0..count {
        let due = pace.at(first + turn * DOORS);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        for mut client in Client::join(server, &["newcomers".to_owned()], 1)? {
            record(&mut subscribed, due.elapsed())?;
            let asked = Instant::now();
            client.ping()?;
            record(&mut answered, asked.elapsed())?;
            client.close()?;
            client.hear_the_end()?;
        }
    }
    Ok((subscribed, answered))
}

fn tally(count: u64) -> Result<Tally, Failure> {
    Tally::of_answers(count, count)
}

fn record(tally: &mut Tally, latency: Duration) -> Result<(), Failure> {
    let latency = u64::try_from(latency.as_nanos())?;
    tally.latency_ns.saturating_record(latency);
    Ok(())
}
