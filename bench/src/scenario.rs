//! What can be measured: one file each, and one line in [`ALL`].

use std::time::Instant;

use crate::Failure;
use crate::contender::Contender;
use crate::sample::Sample;
use crate::table::Table;

mod channels;
mod fanout;
mod growth;
mod http;
mod idle;
mod latency;
mod million;
mod mixed;
mod redis;
mod rush;
mod shards;
mod slow;
mod storm;
mod unix;
mod wan;
mod whisper;

/// A load that contenders are put under in turn.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// What the first column of its table counts.
    pub unit: &'static str,
    /// How many sockets there are at once; each of these numbers is a turn of its own.
    pub sockets: &'static [usize],
    /// What its figures are held against.
    pub baseline: Baseline,
    /// Says what it cannot do without and is not here.
    missing: fn() -> Option<String>,
    /// Rounds of a whole run; a quick one has one.
    pub rounds: usize,
    /// Starts a contender, measures one round of it, and ends it. Nothing for whom it does not fit.
    round: fn(&Contender, usize, Effort) -> Result<Vec<Sample>, Failure>,
}

/// All scenarios, in the order in which they run.
pub const ALL: [&Scenario; 16] = [
    &fanout::SCENARIO,
    &growth::SCENARIO,
    &shards::SCENARIO,
    &latency::SCENARIO,
    &whisper::SCENARIO,
    &redis::SCENARIO,
    &million::SCENARIO,
    &channels::SCENARIO,
    &idle::SCENARIO,
    &storm::SCENARIO,
    &rush::SCENARIO,
    &http::SCENARIO,
    &slow::SCENARIO,
    &mixed::SCENARIO,
    &unix::SCENARIO,
    &wan::SCENARIO,
];

/// What the ratios of a table are against.
#[derive(Clone, Copy)]
pub enum Baseline {
    /// The floor under the same load.
    Floor,
    /// The same contender under this load.
    Load(&'static str),
    /// The same contender under the load of the same name but for these words.
    Words {
        /// In the name of a row that has a ratio.
        own: &'static str,
        /// In their place, in the name of the row that it is against.
        other: &'static str,
    },
}

impl Baseline {
    /// For the head of a table.
    pub fn name(self) -> String {
        match self {
            Self::Floor => "the floor under the same load".to_owned(),
            Self::Load(load) => format!("the same with {load}"),
            Self::Words { other, .. } => format!("the same load \"{other}\""),
        }
    }
}

/// How long a run may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Minutes, for figures to keep.
    Whole,
    /// As short as may be, for a look.
    Quick,
}

impl Effort {
    /// For the tables and the names of files.
    pub fn name(self) -> &'static str {
        self.pick("whole", "quick")
    }

    /// One of two figures.
    pub fn pick<T>(self, whole: T, quick: T) -> T {
        match self {
            Self::Whole => whole,
            Self::Quick => quick,
        }
    }
}

impl Scenario {
    /// Runs every round of every contender and says on stderr how far it is.
    pub fn run(&self, contenders: &[Contender], effort: Effort) -> Result<Table, Failure> {
        let mut table = Table::new(self);
        if let Some(why) = (self.missing)() {
            table.skip(why);
            return Ok(table);
        }
        let rounds = effort.pick(self.rounds, 1);
        let started = Instant::now();
        let sizes = |round| self.sockets.iter().map(move |&sockets| (round, sockets));
        // Turn by turn, so that whatever else the machine does falls on all of them alike.
        for (round, sockets) in (1..=rounds).flat_map(sizes) {
            for contender in contenders {
                let (name, seconds) = (self.name, started.elapsed().as_secs());
                let (who, driver) = (contender.who(), contender.driver());
                eprintln!(
                    "{name}: round {round} of {rounds}, {sockets} sockets, {who} {driver}, \
                     {seconds} s"
                );
                match (self.round)(contender, sockets, effort) {
                    Ok(samples) => table.add_all(contender, samples)?,
                    Err(failure) => table.fail(contender, failure.as_ref()),
                }
            }
        }
        Ok(table)
    }
}
