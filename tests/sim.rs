//! A whole fleet under one seed: the production shards with their sessions, homes, turn logs and
//! backlogs, over the production rings. Only the clock and the sockets are made up.
//!
//! A seed draws the fleet, its clients and callers, a few hundred operations, and who gets to run
//! when. What the clients receive is parsed byte by byte and held against a model.
//!
//! `SLAPBACK_SIM_SEEDS=n` runs so many seeds, `SLAPBACK_SIM_SEED=n` one, with a trace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::struct_excessive_bools
)]

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Is one seed being replayed?
static TRACE: AtomicBool = AtomicBool::new(false);

/// Prints a line, in a replay only.
macro_rules! trace {
    ($($what:tt)*) => {
        if crate::TRACE.load(std::sync::atomic::Ordering::Relaxed) {
            println!($($what)*);
        }
    };
}

#[path = "sim/cache.rs"]
mod cache;
#[path = "sim/caller.rs"]
mod caller;
#[path = "sim/calls.rs"]
mod calls;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/cores.rs"]
mod cores;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/fleet.rs"]
mod fleet;
#[path = "sim/model.rs"]
mod model;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/operations.rs"]
mod operations;
#[path = "sim/question.rs"]
mod question;
#[path = "sim/redis.rs"]
mod redis;
#[path = "sim/rest.rs"]
mod rest;
#[path = "sim/wire.rs"]
mod wire;
#[path = "sim/world.rs"]
mod world;

use faults::Faults;
use world::World;

const SEEDS: u64 = 1000;

#[test]
fn every_seed_holds_and_every_fault_strikes() {
    if let Some(seed) = number("SLAPBACK_SIM_SEED") {
        TRACE.store(true, Ordering::Relaxed);
        println!("{}", World::run(seed));
        return;
    }
    let begun = Instant::now();
    let seeds = number("SLAPBACK_SIM_SEEDS").unwrap_or(SEEDS);
    let mut faults = Faults::default();
    for seed in 0..seeds {
        let Ok(found) = catch_unwind(AssertUnwindSafe(|| World::run(seed))) else {
            panic!("seed {seed} fails; replay it with: make sim SEED={seed}");
        };
        faults.add(&found);
    }
    println!("{seeds} seeds in {:?}\n{faults}", begun.elapsed());
    let missed = faults.missed();
    assert!(missed.is_empty(), "these faults never struck: {missed:?}");
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().expect("a number of seeds, or a seed"))
}
