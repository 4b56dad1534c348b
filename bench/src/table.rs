//! The figures: medians over the rounds, as a table and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde_json::json;

use crate::Failure;
use crate::receiver::Tally;

/// One measured round.
pub struct Round {
    /// What the sender's process ran.
    pub cpu_ns: u64,
    /// From the first event to the last frame.
    pub elapsed: Duration,
    /// What came.
    pub tally: Tally,
}

/// All rounds of one target.
pub struct Row {
    load: String,
    who: &'static str,
    driver: &'static str,
    rounds: Vec<Round>,
}

/// The figure in the middle.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Row {
    /// A row without rounds yet.
    pub fn new(load: impl Into<String>, who: &'static str, driver: &'static str) -> Self {
        Self {
            load: load.into(),
            who,
            driver,
            rounds: Vec::new(),
        }
    }

    /// Takes a round in.
    pub fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// Whether every frame came once, in order.
    pub fn is_exact(&self) -> bool {
        self.sum(|tally| tally.lost + tally.doubled + tally.reordered) == 0
    }

    fn sum(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.rounds.iter().map(|round| of(&round.tally)).sum()
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    fn ns_per_delivery(&self) -> f64 {
        self.median(Round::ns_per_delivery)
    }

    fn per_second(&self) -> f64 {
        self.median(|round| round.tally.frames as f64 / round.elapsed.as_secs_f64())
    }

    fn latency_us(&self, quantile: f64) -> f64 {
        let mut all: Option<Histogram<u64>> = None;
        for round in &self.rounds {
            match &mut all {
                // Both have the same bounds, so adding cannot fail.
                Some(all) => drop(all.add(&round.tally.latency_ns)),
                None => all = Some(round.tally.latency_ns.clone()),
            }
        }
        all.map_or(f64::NAN, |all| {
            all.value_at_quantile(quantile) as f64 / 1000.0
        })
    }

    /// Against what the same driver's floor pays, which sends one event at a time; `None` for the
    /// floor itself.
    fn ratio(&self, rows: &[Self]) -> Option<f64> {
        let floor = rows
            .iter()
            .find(|row| row.who == "floor" && self.who != "floor" && row.driver == self.driver)?;
        Some(self.ns_per_delivery() / floor.ns_per_delivery())
    }
}

impl Round {
    fn ns_per_delivery(&self) -> f64 {
        self.cpu_ns as f64 / self.tally.frames as f64
    }
}

/// One line per target.
pub fn text(rows: &[Row]) -> String {
    let mut text = format!(
        "{:>11}  {:>8}  {:<15} {:<7} {:<6} {:>6} {:>7} {:>9} {:>9} {:>9} {:>12}\n",
        "CPU ns per", "against", "", "", "", "", "", "", "latency", "latency", "deliveries"
    );
    text += &format!(
        "{:>11}  {:>8}  {:<15} {:<7} {:<6} {:>6} {:>7} {:>9} {:>9} {:>9} {:>12}\n",
        "delivery",
        "floor",
        "load",
        "who",
        "driver",
        "lost",
        "doubled",
        "reordered",
        "p50 us",
        "p99 us",
        "per second"
    );
    for row in rows {
        let ratio = row
            .ratio(rows)
            .map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}"));
        // A String takes everything.
        let _ = writeln!(
            text,
            "{:>11.0}  {ratio:>8}  {:<15} {:<7} {:<6} {:>6} {:>7} {:>9} {:>9.0} {:>9.0} {:>12.0}",
            row.ns_per_delivery(),
            row.load,
            row.who,
            row.driver,
            row.sum(|tally| tally.lost),
            row.sum(|tally| tally.doubled),
            row.sum(|tally| tally.reordered),
            row.latency_us(0.5),
            row.latency_us(0.99),
            row.per_second(),
        );
    }
    text
}

/// Writes all rounds under `directory`; returns the file.
pub fn write_json(rows: &[Row], directory: &Path) -> Result<PathBuf, Failure> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let targets: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "load": row.load, "who": row.who, "driver": row.driver,
                "cpu_ns_per_delivery": row.ns_per_delivery(),
                "against_floor": row.ratio(rows),
                "lost": row.sum(|tally| tally.lost),
                "doubled": row.sum(|tally| tally.doubled),
                "reordered": row.sum(|tally| tally.reordered),
                "latency_us": { "p50": row.latency_us(0.5), "p99": row.latency_us(0.99) },
                "deliveries_per_second": row.per_second(),
                "rounds": row.rounds.iter().map(Round::ns_per_delivery).collect::<Vec<_>>(),
            })
        })
        .collect();
    let report = json!({ "unix_time": seconds, "kernel": kernel.trim(), "targets": targets });
    fs::create_dir_all(directory)?;
    let file = directory.join(format!("fanout-{seconds}.json"));
    fs::write(&file, format!("{report:#}\n"))?;
    Ok(file)
}
