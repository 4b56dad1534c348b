//! The figures of one scenario: medians over the rounds, as text and as JSON.

use std::error::Error;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::Failure;
use crate::contender::{Contender, FLOOR};
use crate::sample::Sample;
use crate::scenario::{Baseline, Scenario};
use crate::tally::Tally;

/// From this share of its CPU on the load generator is what limits.
const OWN_BUSY_MAX: f64 = 0.95;
/// From this share of the time on something else took the CPUs.
const WAITED_MAX: f64 = 0.1;

/// The figure in the middle.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let middle = |at: usize| figures.get(at).copied().unwrap_or(f64::NAN);
    let count = figures.len();
    f64::midpoint(middle(count.saturating_sub(1) / 2), middle(count / 2))
}

/// All rows of one scenario.
pub struct Table {
    /// The scenario.
    pub name: &'static str,
    /// What the first column counts.
    unit: &'static str,
    /// What the ratios are against.
    baseline: Baseline,
    /// Why nothing was measured.
    skipped: Option<String>,
    /// Rounds that came to nothing: whose and why.
    failures: Vec<String>,
    rows: Vec<Row>,
}

/// All rounds of one contender under one load.
pub struct Row {
    load: String,
    /// The contender.
    pub who: String,
    /// How it sends.
    pub driver: &'static str,
    samples: Vec<Sample>,
    tally: Tally,
}

/// What the columns say of a row; `None` where there is nothing to say.
pub struct Figures {
    /// The cost of one delivery, or whatever the table counts.
    pub per_unit: Option<f64>,
    /// That against what the baseline pays.
    pub against_baseline: Option<f64>,
    /// Microseconds within which half of the frames came.
    pub p50_us: Option<f64>,
    /// Those against the baseline's.
    pub p50_against_baseline: Option<f64>,
    /// Microseconds within which 99 of 100 frames came.
    pub p99_us: Option<f64>,
    /// The time in which 99 of 100 frames came against the baseline's.
    pub p99_against_baseline: Option<f64>,
    /// How many there were in a second.
    pub per_second: Option<f64>,
    /// That against the baseline's.
    pub per_second_against_baseline: Option<f64>,
    fullest: Option<f64>,
    busy: Option<f64>,
    own_busy: f64,
    waited: f64,
}

impl Table {
    /// A table without rows.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name,
            unit: scenario.unit,
            baseline: scenario.baseline,
            skipped: None,
            failures: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Says why nothing is measured.
    pub fn skip(&mut self, why: String) {
        self.skipped = Some(why);
    }

    /// Takes the loads of a round in.
    pub fn add_all(&mut self, contender: &Contender, samples: Vec<Sample>) -> Result<(), Failure> {
        let mut samples = samples.into_iter();
        samples.try_for_each(|sample| self.add(contender, sample))
    }

    /// Takes one load of a round in.
    pub fn add(&mut self, contender: &Contender, sample: Sample) -> Result<(), Failure> {
        let (who, driver) = (contender.who(), contender.driver());
        let place = self
            .rows
            .iter()
            .position(|row| row.load == sample.load && row.is_of(&who, driver));
        let place = place.unwrap_or(self.rows.len());
        if place == self.rows.len() {
            self.rows.push(Row {
                load: sample.load.clone(),
                who,
                driver,
                samples: Vec::new(),
                tally: Tally::new()?,
            });
        }
        let row = &mut self.rows[place];
        row.tally.add(&sample.tally);
        row.samples.push(sample);
        Ok(())
    }

    /// Takes a round in that came to nothing.
    pub fn fail(&mut self, contender: &Contender, why: &dyn Error) {
        let (who, driver) = (contender.who(), contender.driver());
        let failure = format!("{who} {driver} failed: {why}");
        eprintln!("{}: {failure}", self.name);
        self.failures.push(failure);
    }

    /// Whether every round was held, and every frame of it came once, in order.
    pub fn is_exact(&self) -> bool {
        self.failures.is_empty() && self.rows.iter().all(|row| row.tally.is_exact())
    }

    /// One line per contender and load, and one for what went wrong in all.
    pub fn text(&self) -> String {
        let (name, unit, baseline) = (self.name, self.unit, self.baseline.name());
        if let Some(why) = &self.skipped {
            return format!("{name}: not measured: {why}");
        }
        let mut text = format!(
            "{name}: {unit}; \"x\" is against {baseline}\n\
             {:>9} {:>6}  {:<37} {:<15} {:<6} {:>9} {:>6} {:>9} {:>6} {:>11} {:>5} {:>5}\n",
            "cost",
            "x",
            "load",
            "who",
            "driver",
            "p50 us",
            "x",
            "p99 us",
            "x",
            "per second",
            "busy",
            "load",
        );
        for row in self.by_load() {
            row.write(&self.figures(row), &mut text);
        }
        for failure in &self.failures {
            text += &format!("{name}: {failure}\n");
        }
        let [lost, doubled, reordered] = self.wrong();
        text + &format!("{name}: lost {lost}, doubled {doubled}, reordered {reordered}")
    }

    /// What was lost, doubled and reordered in all.
    fn wrong(&self) -> [u64; 3] {
        let sum = |of: fn(&Tally) -> u64| self.rows.iter().map(|row| of(&row.tally)).sum();
        [
            sum(|tally| tally.lost),
            sum(|tally| tally.doubled),
            sum(|tally| tally.reordered),
        ]
    }

    /// The same for machines, with every round.
    pub fn json(&self) -> Value {
        let rows = self
            .by_load()
            .into_iter()
            .map(|row| row.json(&self.figures(row)));
        json!({
            "scenario": self.name, "unit": self.unit, "baseline": self.baseline.name(),
            "skipped": self.skipped, "failures": self.failures, "exact": self.is_exact(),
            "rows": rows.collect::<Vec<_>>(),
        })
    }

    /// The rows of a load, and what their columns say.
    pub fn under(&self, load: &str) -> Vec<(&Row, Figures)> {
        let rows = self.rows.iter().filter(|row| row.load == load);
        rows.map(|row| (row, self.figures(row))).collect()
    }

    /// What they say of one contender.
    pub fn figures_of(&self, who: &str, driver: &str, load: &str) -> Option<Figures> {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| row.load == load && row.is_of(who, driver))?;
        Some(self.figures(row))
    }

    /// Those under one load stand together, so that they can be compared.
    fn by_load(&self) -> Vec<&Row> {
        let first = |row: &Row| self.rows.iter().position(|other| other.load == row.load);
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| first(row));
        rows
    }

    fn figures(&self, row: &Row) -> Figures {
        let baseline = self.baseline_of(row);
        let against = |of: &dyn Fn(&Sample) -> Option<f64>| baseline?.ratio(row, of);
        let p50 = |sample: &Sample| sample.tally.latency_us(0.5);
        let p99 = |sample: &Sample| sample.tally.latency_us(0.99);
        Figures {
            per_unit: row.median(Sample::per_unit),
            against_baseline: against(&Sample::per_unit),
            p50_us: row.median(p50),
            p50_against_baseline: against(&p50),
            p99_us: row.median(p99),
            p99_against_baseline: against(&p99),
            per_second: row.median(Sample::per_second),
            per_second_against_baseline: against(&Sample::per_second),
            fullest: row.median(|sample| sample.fullest),
            busy: row.median(|sample| sample.busy),
            own_busy: median(row.samples.iter().map(|sample| sample.own_busy)),
            waited: median(row.samples.iter().map(|sample| sample.waited)),
        }
    }

    /// What a row is held against. The floor is that of the same driver, or whichever there is.
    fn baseline_of(&self, row: &Row) -> Option<&Row> {
        let under = |load: &str| {
            let is_it = |other: &&Row| other.load == load && other.is_of(&row.who, row.driver);
            self.rows.iter().find(is_it).filter(|_| row.load != load)
        };
        match self.baseline {
            Baseline::Load(load) => under(load),
            Baseline::Words { own, other } => under(&row.load.replace(own, other)),
            Baseline::Floor if row.who == FLOOR => None,
            Baseline::Floor => {
                let is_floor = |other: &&Row| other.who == FLOOR && other.load == row.load;
                let floors = self.rows.iter().filter(is_floor);
                floors.min_by_key(|floor| floor.driver != row.driver)
            }
        }
    }
}

impl Row {
    fn is_of(&self, who: &str, driver: &str) -> bool {
        self.who == who && self.driver == driver
    }

    /// How much more it is of another row, round by round: what else the machine does falls on both
    /// rows of a round.
    fn ratio(&self, other: &Self, of: &dyn Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let rounds = other.samples.iter().zip(&self.samples);
        let ratios: Option<Vec<f64>> = rounds
            .map(|(other, own)| Some(of(other)? / of(own)?))
            .collect();
        Some(median(ratios?.into_iter()))
    }

    /// `None` unless every round has the figure.
    fn median(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let figures: Option<Vec<f64>> = self.samples.iter().map(of).collect();
        Some(median(figures?.into_iter()))
    }

    fn write(&self, figures: &Figures, text: &mut String) {
        let mut remarks = String::new();
        if figures.own_busy > OWN_BUSY_MAX {
            remarks += "  the load generator is the limit";
        }
        if figures.waited > WAITED_MAX {
            remarks += &format!(
                "  {:.0} % of the time without a CPU",
                100.0 * figures.waited
            );
        }
        if let Some(fullest) = figures.fullest {
            remarks += &format!("  {:.1} % of the sockets on one CPU", 100.0 * fullest);
        }
        // A String takes everything.
        let _ = writeln!(
            text,
            "{:>9} {:>6}  {:<37} {:<15} {:<6} {:>9} {:>6} {:>9} {:>6} {:>11} {:>5} {:>5}{remarks}",
            shown(figures.per_unit, 0),
            shown(figures.against_baseline, 2),
            self.load,
            self.who,
            self.driver,
            shown(figures.p50_us, 0),
            shown(figures.p50_against_baseline, 2),
            shown(figures.p99_us, 0),
            shown(figures.p99_against_baseline, 2),
            shown(figures.per_second, 0),
            shown(figures.busy, 2),
            shown(Some(figures.own_busy), 2),
        );
    }

    fn json(&self, figures: &Figures) -> Value {
        json!({
            "load": self.load, "who": self.who, "driver": self.driver,
            "per_unit": figures.per_unit, "against_baseline": figures.against_baseline,
            "lost": self.tally.lost, "doubled": self.tally.doubled,
            "reordered": self.tally.reordered,
            "latency_us": { "p50": figures.p50_us, "p99": figures.p99_us },
            "latency_against_baseline": {
                "p50": figures.p50_against_baseline, "p99": figures.p99_against_baseline,
            },
            "per_second": figures.per_second,
            "per_second_against_baseline": figures.per_second_against_baseline,
            "fullest": figures.fullest,
            "busy": figures.busy, "load_generator_busy": figures.own_busy,
            "waited": figures.waited,
            "rounds": self.samples.iter().map(Sample::per_unit).collect::<Vec<_>>(),
        })
    }
}

fn shown(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
}

#[cfg(test)]
mod tests;
