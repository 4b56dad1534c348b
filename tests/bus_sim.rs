//! The bus under one seed: two or three nodes' own machines over a Redis that dies in the midst of
//! commands, stands still, cuts connections and reads late what was given up, and a PHP node that
//! listens and speaks. Only the clock and Redis are made up.
//!
//! `SLAPBACK_SIM_SEEDS=n` runs so many seeds, `SLAPBACK_SIM_SEED=n` one, with a trace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::match_bool)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use slapback::redis::bus::{Limits, PIECE_BYTES};

use faults::{Counts, Faults};
use world::World;

#[path = "bus_sim/checks.rs"]
mod checks;
#[path = "bus_sim/faults.rs"]
mod faults;
#[path = "bus_sim/node.rs"]
mod node;
#[path = "bus_sim/redis.rs"]
mod redis;
#[path = "bus_sim/world.rs"]
mod world;

const SEEDS: u64 = 500;
const AMPLE: Limits = limits(16 * PIECE_BYTES);
const TIGHT: Limits = limits(PIECE_BYTES);

const fn limits(replay_bytes: usize) -> Limits {
    Limits {
        replay_bytes,
        timeout: Duration::from_secs(2),
    }
}

#[test]
fn every_event_reaches_every_node_once_and_in_order_through_outages_within_the_bound() {
    let faults = Faults {
        limits: AMPLE,
        may_fail: true,
        may_part: false,
        may_die: false,
    };
    let counts = run(faults, |world| {
        for node in &world.nodes {
            assert!(!node.has_closed_all, "{} gave up", node.name);
            checks::complete(world, node);
        }
    });
    counts.require_at_most(seeds() / 50, "disagree");
    counts.require(&[
        "kill",
        "cut",
        "all subscribers cut",
        "pause",
        "away",
        "replayed",
        "late",
        "redial",
        "doubled",
        "stray",
        "foreign",
    ]);
}

#[test]
fn beyond_the_bound_clients_are_told_to_come_back_and_nothing_is_doubled() {
    let faults = Faults {
        limits: TIGHT,
        may_fail: true,
        may_part: true,
        may_die: false,
    };
    let counts = run(faults, |world| {
        for node in world.nodes.iter().filter(|node| !node.has_closed_all) {
            checks::complete(world, node);
        }
    });
    counts.require(&["closed all", "refused", "long parting"]);
}

#[test]
fn a_node_that_dies_takes_nothing_of_the_others_with_it() {
    let faults = Faults {
        limits: AMPLE,
        may_fail: true,
        may_part: true,
        may_die: true,
    };
    let counts = run(faults, |world| {
        for node in world.nodes.iter().filter(|node| !node.has_closed_all) {
            checks::complete(world, node);
        }
    });
    counts.require(&["death", "kill", "replayed", "long parting"]);
}

#[test]
fn who_saw_an_event_taken_is_not_overtaken_by_it_while_the_bus_is_up() {
    let faults = Faults {
        limits: AMPLE,
        may_fail: false,
        may_part: false,
        may_die: false,
    };
    run(faults, |world| {
        for node in &world.nodes {
            checks::complete(world, node);
        }
        checks::last_is_shown(world);
        assert!(checks::causality(world) > 0, "nobody waited for an answer");
    });
}

/// Plays all seeds, checks what holds for each, and gives what happened in all together.
fn run(faults: Faults, check: impl Fn(&World)) -> Counts {
    let replayed = number("SLAPBACK_SIM_SEED");
    let seeds = replayed.map_or(0..seeds(), |seed| seed..seed + 1);
    let mut counts = Counts::default();
    for seed in seeds {
        let played = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed, faults, replayed.is_some());
            world.play();
            if !checks::agree(&world) {
                world.counts.count("disagree");
            }
            let first = world.say_something();
            checks::order(&world);
            checks::answered(&world);
            checks::recovered(&world, first);
            check(&world);
            world.counts
        }));
        let Ok(found) = played else {
            panic!("seed {seed} fails; replay it with SLAPBACK_SIM_SEED={seed}");
        };
        counts.add(found);
    }
    counts
}

fn seeds() -> u64 {
    number("SLAPBACK_SIM_SEEDS").unwrap_or(SEEDS)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number of seeds, or a seed"))
}
