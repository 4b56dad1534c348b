//! What Slapback holds itself to: figures of a run beside their limits.
//!
//! The report shows them. A figure that misses its limit fails nothing: a machine with neighbours
//! misses some by itself.

use serde_json::{Value, json};

use Figure::{
    Cost, CostAgainst, Growth, P50, P50Against, P99, P99Against, PerSecond, PerSecondAgainst,
};

use crate::contender::Driver::{self, Epoll, Uring};
use crate::contender::OURS;
use crate::table::{Figures, Table};

/// One of them: scenario, load, drivers, figure, limit.
type Target = (&'static str, &'static str, &'static [Driver], Figure, f64);

/// Which figure of a row is held to a limit.
#[derive(Clone, Copy)]
enum Figure {
    Cost,
    CostAgainst,
    P50,
    P50Against,
    P99,
    P99Against,
    /// How much more a delivery costs than under this load, against how much more it costs the
    /// baseline.
    Growth(&'static str),
    /// To be high, as the next.
    PerSecond,
    PerSecondAgainst,
}

const BOTH: &[Driver] = &[Uring, Epoll];

/// Costs are CPU nanoseconds, of `idle` bytes; 16,667 ns a call are 60,000 calls a second.
#[rustfmt::skip] // one line each
const TARGETS: [Target; 21] = [
    ("fanout", "1000 sockets, one at a time", &[Uring], CostAgainst, 1.1),
    ("fanout", "1000 sockets, one at a time", &[Epoll], CostAgainst, 1.15),
    ("fanout", "1000 sockets, 2000 events/s", BOTH, Cost, 500.0),
    ("fanout", "1000 sockets, 10000 events/s", BOTH, Cost, 100.0),
    ("fanout", "1 sockets, one at a time", BOTH, P50, 100.0),
    ("growth", "15000 sockets", BOTH, Growth("1000 sockets"), 1.05),
    ("shards", "2 CPUs, one at a time", BOTH, CostAgainst, 1.1),
    ("shards", "2 CPUs, unread", BOTH, PerSecondAgainst, 1.8),
    ("latency", "100 sockets, 100 events/s", BOTH, P50Against, 1.3),
    ("latency", "100 sockets, 100 events/s", BOTH, P99Against, 1.3),
    ("whisper", "1000 sockets, one at a time", BOTH, Cost, 7000.0),
    ("redis", "broadcaster, a backlog", BOTH, PerSecond, 1e6),
    ("idle", "process", BOTH, Cost, 1229.0),
    ("storm", "64 at once", BOTH, Cost, 45_000.0),
    ("rush", "amid a storm", BOTH, P99Against, 3.0),
    ("rush", "amid a storm, 1000/s let in", BOTH, P99Against, 3.0),
    ("http", "64 connections", BOTH, Cost, 16_667.0),
    ("slow", "1 of 100 has stopped", BOTH, P99Against, 3.0),
    ("mixed", "newcomers amid all that", BOTH, P99, 25_000.0),
    ("mixed", "their pings amid all that", BOTH, P99, 10_000.0),
    ("unix", "1000 sockets over a Unix socket", BOTH, CostAgainst, 0.5),
];

/// One line per target that was measured; `None` if none was.
pub fn text(tables: &[Table]) -> Option<String> {
    let lines: Vec<String> = outcomes(tables).map(|outcome| outcome.line()).collect();
    (!lines.is_empty()).then(|| format!("targets\n{}", lines.join("\n")))
}

/// The same for machines.
pub fn json(tables: &[Table]) -> Value {
    outcomes(tables).map(|outcome| outcome.json()).collect()
}

/// A target and what this run gave.
struct Outcome {
    target: &'static Target,
    driver: &'static str,
    found: f64,
}

fn outcomes(tables: &[Table]) -> impl Iterator<Item = Outcome> {
    TARGETS.iter().flat_map(|target| {
        let (scenario, load, drivers, figure, _) = target;
        let table = tables.iter().find(|table| table.name == *scenario);
        drivers.iter().filter_map(move |driver| {
            let driver = driver.name();
            let found = figure.of(&|load| table?.figures_of(OURS, driver, load), load)?;
            Some(Outcome {
                target,
                driver,
                found,
            })
        })
    })
}

impl Figure {
    /// Its value under a load, given what the table says of any load.
    fn of(self, table: &dyn Fn(&str) -> Option<Figures>, load: &str) -> Option<f64> {
        let figures = table(load)?;
        match self {
            Self::Cost => figures.per_unit,
            Self::CostAgainst => figures.against_baseline,
            Self::P50 => figures.p50_us,
            Self::P50Against => figures.p50_against_baseline,
            Self::P99 => figures.p99_us,
            Self::P99Against => figures.p99_against_baseline,
            Self::Growth(from) => Some(figures.against_baseline? / table(from)?.against_baseline?),
            Self::PerSecond => figures.per_second,
            Self::PerSecondAgainst => figures.per_second_against_baseline,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::CostAgainst => "cost, x",
            Self::P50 => "p50 us",
            Self::P50Against => "p50, x",
            Self::P99 => "p99 us",
            Self::P99Against => "p99, x",
            Self::Growth(_) => "growth, x",
            Self::PerSecond => "per second",
            Self::PerSecondAgainst => "per s, x",
        }
    }

    /// How a limit of it is written.
    fn bound(self) -> &'static str {
        match self {
            Self::PerSecond | Self::PerSecondAgainst => ">=",
            _ => "<=",
        }
    }

    fn digits(self) -> usize {
        match self {
            Self::Cost | Self::P50 | Self::P99 | Self::PerSecond => 0,
            Self::CostAgainst
            | Self::Growth(_)
            | Self::P50Against
            | Self::P99Against
            | Self::PerSecondAgainst => 2,
        }
    }
}

impl Outcome {
    fn is_met(&self) -> bool {
        let (.., figure, limit) = *self.target;
        match figure {
            PerSecond | PerSecondAgainst => self.found >= limit,
            _ => self.found <= limit,
        }
    }

    fn line(&self) -> String {
        let (scenario, load, _, figure, limit) = *self.target;
        let met = if self.is_met() { "met" } else { "missed" };
        let (name, bound, digits) = (figure.name(), figure.bound(), figure.digits());
        let (driver, found) = (self.driver, self.found);
        format!(
            "{met:<7} {scenario:<8} {load:<30} {driver:<6} {name:<11} {found:>9.digits$} \
             {bound} {limit:.digits$}"
        )
    }

    fn json(&self) -> Value {
        let (scenario, load, _, figure, limit) = *self.target;
        json!({
            "scenario": scenario, "load": load, "driver": self.driver, "figure": figure.name(),
            "found": self.found, "bound": figure.bound(), "limit": limit, "met": self.is_met(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Contender;
    use crate::sample::Sample;
    use crate::scenario::ALL;
    use crate::tally::Tally;

    /// One event to everybody for so much on the floor and so much on this server.
    fn tables(floor: u64, ours: u64) -> [Table; 1] {
        let mut table = Table::new(ALL[0]);
        for (contender, cost) in [
            (Contender::Floor(Uring), floor),
            (Contender::Slapback(Uring, "slapback".into()), ours),
        ] {
            let load = "1000 sockets, one at a time".to_owned();
            let sample = Sample::of_bytes(load, cost, 1, Tally::new().unwrap());
            table.add(&contender, sample).unwrap();
        }
        [table]
    }

    #[test]
    fn a_figure_stands_beside_its_limit() {
        let words = |ours| {
            let text = text(&tables(1000, ours)).unwrap();
            let line = text.lines().nth(1).unwrap().to_owned();
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            (words[0].clone(), words[words.len() - 3..].join(" "))
        };
        assert_eq!(words(1100), ("met".into(), "1.10 <= 1.10".into()));
        assert_eq!(words(1200), ("missed".into(), "1.20 <= 1.10".into()));
        assert_eq!(json(&tables(1000, 1200))[0]["met"], false);
    }

    #[test]
    fn growth_is_what_a_load_adds_beyond_what_it_adds_to_the_floor() {
        let mut table = Table::new(ALL[0]);
        for (load, floor, ours) in [("few", 100, 120), ("many", 200, 300)] {
            for (contender, cost) in [
                (Contender::Floor(Epoll), floor),
                (Contender::Slapback(Epoll, "slapback".into()), ours),
            ] {
                let sample = Sample::of_bytes(load.to_owned(), cost, 1, Tally::new().unwrap());
                table.add(&contender, sample).unwrap();
            }
        }
        let figures = |load: &str| table.figures_of(OURS, Epoll.name(), load);
        assert_eq!(Growth("few").of(&figures, "many"), Some(1.25));
        assert_eq!(Growth("none").of(&figures, "many"), None);
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert!(text(&[]).is_none());
        assert_eq!(text(&tables(1, 1)).unwrap().lines().count(), 2);
    }

    #[test]
    fn every_target_is_of_a_scenario() {
        for (scenario, ..) in TARGETS {
            assert!(ALL.iter().any(|known| known.name == scenario), "{scenario}");
        }
    }
}
