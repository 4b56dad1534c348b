//! What is said of an entry that went otherwise: the transcript so far, expected and got.
//!
//! Made by the player, shown by the tests.

use std::fmt;

use super::entry::Entry;
use super::player::Mismatch;

/// An entry, the step it failed at, and how.
#[derive(Debug)]
pub(crate) struct Failure {
    title: String,
    /// The steps up to the one that failed.
    steps: Vec<String>,
    mismatch: Mismatch,
}

impl Failure {
    /// `index` is the step's; there is none if all went well until the sockets were closed.
    pub(crate) fn new(entry: &Entry, index: Option<usize>, mismatch: Mismatch) -> Self {
        let Entry {
            number,
            title,
            place,
            ours,
            ..
        } = entry;
        let last = index.map_or(ours.len(), |index| index + 1);
        Self {
            title: format!("G-{number:03} {title} ({place})"),
            steps: ours[..last].iter().map(|step| step.text.clone()).collect(),
            mismatch,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.title)?;
        for step in &self.steps {
            writeln!(out, "  {}", shortened(step))?;
        }
        let Mismatch { expected, got } = &self.mismatch;
        let (expected, got) = (visible(expected), visible(got));
        let same = expected.chars().zip(got.chars());
        let same = same.take_while(|(a, b)| a == b).count();
        // The beginning of a long text is left away if both have it.
        let cut = same.saturating_sub(CONTEXT);
        let tail = |text: &str| text.chars().skip(cut).collect::<String>();
        writeln!(out, "    expected: {}", shortened(&tail(&expected)))?;
        writeln!(out, "    got:      {}", shortened(&tail(&got)))?;
        writeln!(out, "              {:>1$}", '^', same - cut + 1)
    }
}

/// A line of it: ends of lines are arrows, what else is not printable is escaped.
fn visible(text: &str) -> String {
    let text = text.replace("\r\n", "↵");
    let escape = |letter: char| match letter {
        letter if letter.is_control() => letter.escape_default().to_string(),
        letter => letter.to_string(),
    };
    text.chars().map(escape).collect()
}

fn shortened(text: &str) -> String {
    let mut text = text.to_owned();
    if let Some((end, _)) = text.char_indices().nth(LETTERS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// How much is shown of what both have, before they differ.
const CONTEXT: usize = 60;
/// How much is shown of one text.
const LETTERS_MAX: usize = 400;
