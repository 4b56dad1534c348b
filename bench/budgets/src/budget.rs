//! The budgets, and what is said of a count that is held to one.
//!
//! Called by `main` with the text of the file; reads and writes no file itself.

use std::fmt;

use crate::Failure;
use crate::count::Counted;

/// Counted by another compiler or valgrind, a path may take this much more, percent.
pub const OTHER_TOOLS_PERCENT: u64 = 15;

/// Room for a new path, percent.
const TOLERANCE: &str = "5";

/// How the line begins that says who counted.
const TOOLS: &str = "# Counted by ";

/// What every path may take.
#[derive(Debug)]
pub struct Budgets {
    /// The compiler and the valgrind that counted.
    pub tools: String,
    rows: Vec<Budget>,
}

/// What one path may take.
#[derive(Debug)]
struct Budget {
    path: String,
    instructions: u64,
    tolerance_percent: u64,
}

/// What is said of one path.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    path: String,
    /// `None`: it is counted no more.
    counted: Option<Counted>,
    /// `None`: it has none.
    budget: Option<u64>,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Kept,
    Exceeded,
    /// So far below that it would not notice much.
    Loose,
    Unknown,
    Uncounted,
}

impl Budgets {
    /// Reads the file.
    pub fn read(text: &str) -> Result<Self, Failure> {
        let tools = text.lines().find_map(|line| line.strip_prefix(TOOLS));
        let rows = text.lines().filter(|line| !line.starts_with('#'));
        Ok(Self {
            tools: tools.ok_or("no line says who counted")?.to_owned(),
            rows: rows.map(Budget::read).collect::<Result<_, _>>()?,
        })
    }

    /// Holds each count to its budget, and each budget to there being a count.
    pub fn judge(&self, counted: &[Counted], tools: &str) -> Vec<Verdict> {
        let least = if self.tools == tools {
            0
        } else {
            OTHER_TOOLS_PERCENT
        };
        let verdict = |count: &Counted| {
            let row = self.rows.iter().find(|row| row.path == count.path);
            Verdict {
                path: count.path.clone(),
                counted: Some(count.clone()),
                budget: row.map(|row| row.instructions),
                outcome: row.map_or(Outcome::Unknown, |row| row.judge(count.instructions, least)),
            }
        };
        let is_counted = |row: &&Budget| counted.iter().any(|count| count.path == row.path);
        let uncounted = self
            .rows
            .iter()
            .filter(|row| !is_counted(row))
            .map(|row| Verdict {
                path: row.path.clone(),
                counted: None,
                budget: Some(row.instructions),
                outcome: Outcome::Uncounted,
            });
        counted.iter().map(verdict).chain(uncounted).collect()
    }
}

impl Budget {
    fn read(line: &str) -> Result<Self, Failure> {
        match line.split('\t').collect::<Vec<_>>()[..] {
            [path, instructions, tolerance, what] if !what.is_empty() => Ok(Self {
                path: path.to_owned(),
                instructions: instructions.parse()?,
                tolerance_percent: tolerance.parse()?,
            }),
            _ => Err(format!("not a budget, or it does not say what is counted: {line}").into()),
        }
    }

    fn judge(&self, counted: u64, least_percent: u64) -> Outcome {
        let room = self.instructions * self.tolerance_percent.max(least_percent) / 100;
        if counted > self.instructions + room {
            Outcome::Exceeded
        } else if counted < self.instructions - room {
            Outcome::Loose
        } else {
            Outcome::Kept
        }
    }
}

impl Verdict {
    /// Is the path to be mended, or the file?
    pub fn is_failure(&self) -> bool {
        !matches!(self.outcome, Outcome::Kept | Outcome::Loose)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<20}", self.path)?;
        if let Some(counted) = &self.counted {
            let each = counted.instructions as f64 / counted.times as f64;
            write!(f, " {each:>9.1} each {:>9} in all", counted.instructions)?;
            if let Some(budget) = self.budget {
                let change = counted.instructions as f64 / budget as f64 - 1.0;
                write!(f, ", budget {budget:>9} {:>+6.1} %", change * 100.0)?;
            }
        }
        f.write_str(match self.outcome {
            Outcome::Kept => "",
            Outcome::Exceeded => "  OVER BUDGET",
            Outcome::Loose => "  far below: make budgets-write",
            Outcome::Unknown => "  NO BUDGET: make budgets-write",
            Outcome::Uncounted => "  NOT COUNTED: its budget is for nothing",
        })
    }
}

/// The file with other counts, and all else as it is. A path that is new comes last, and what is
/// counted there must still be said; one that is no more goes.
pub fn rewritten(text: &str, counted: &[Counted], tools: &str) -> String {
    let mut new: Vec<&Counted> = counted.iter().collect();
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with(TOOLS) {
            lines.push(format!("{TOOLS}{tools}"));
        } else if line.starts_with('#') {
            lines.push(line.to_owned());
        } else if let [path, _, rest] = line.splitn(3, '\t').collect::<Vec<_>>()[..]
            && let Some(at) = new.iter().position(|count| count.path == path)
        {
            let instructions = new.remove(at).instructions;
            lines.push(format!("{path}\t{instructions}\t{rest}"));
        }
    }
    let new = new.iter().map(|count| {
        let Counted {
            path, instructions, ..
        } = count;
        format!("{path}\t{instructions}\t{TOLERANCE}\t")
    });
    lines.extend(new);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests;
