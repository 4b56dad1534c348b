//! The entries of the data files: read, checked for sense, split into two transcripts.
//!
//! Called by the tests in `wire.rs`. A line marked `-` is Reverb's alone, `+` ours alone, any
//! other both's; each of the two transcripts must make sense by itself. Never plays anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::step::Step;

/// One captured exchange, and what we make of it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The number behind `G-`.
    pub(crate) number: u16,
    pub(crate) title: String,
    /// File and line, for whoever looks for it.
    pub(crate) place: String,
    /// The `NAME` of `app-NAME`, `key-NAME` and `secret-NAME`.
    pub(crate) app: String,
    /// `REVERB_SERVER_PATH` of the server that it needs.
    pub(crate) path: String,
    /// It waits for time to pass, so it is played beside the others.
    pub(crate) is_slow: bool,
    /// A heading of `docs/compatibility.md`, items of it in brackets, and what is different.
    pub(crate) differs: Option<String>,
    pub(crate) left_out: Option<String>,
    pub(crate) reverb: Vec<Step>,
    pub(crate) ours: Vec<Step>,
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Same,
    Deviating,
    LeftOut,
}

impl Entry {
    pub(crate) fn fate(&self) -> Fate {
        if self.left_out.is_some() {
            Fate::LeftOut
        } else if self.differs.is_some() {
            Fate::Deviating
        } else {
            Fate::Same
        }
    }
}

/// Reads every data file of a folder; the entries come in the order of their numbers.
pub(crate) fn read_folder(folder: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_name().unwrap().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            entries.extend(read(name, &text).unwrap_or_else(|wrong| panic!("{wrong}")));
        }
    }
    entries.sort_by_key(|entry| entry.number);
    entries
}

/// Reads the text of one data file.
pub(crate) fn read(name: &str, text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut setups = BTreeMap::new();
    for block in blocks(text) {
        let place = format!("tests/wire/{name}:{}", block.line);
        let at_place = |wrong: String| format!("{place}: {wrong}");
        if let Some(setup) = block.title.strip_prefix("setup ") {
            setups.insert(setup, block.steps);
        } else {
            let entry = entry(&block, &setups, place.clone()).map_err(at_place)?;
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// A paragraph of a data file.
struct Block<'a> {
    line: usize,
    title: &'a str,
    settings: Vec<(&'a str, &'a str)>,
    /// Lines that begin with a mark.
    steps: Vec<&'a str>,
}

/// Splits a file at its empty lines; comments are dropped.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut is_between = true;
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            is_between |= line.is_empty();
        } else if is_between {
            is_between = false;
            let (settings, steps) = (Vec::new(), Vec::new());
            blocks.push(Block {
                line: index + 1,
                title: line,
                settings,
                steps,
            });
        } else if let Some(block) = blocks.last_mut() {
            match line.split_once(": ") {
                Some(setting) if !line.starts_with(MARKS) => block.settings.push(setting),
                _ => block.steps.push(line),
            }
        }
    }
    blocks
}

fn entry(
    block: &Block<'_>,
    setups: &BTreeMap<&str, Vec<&str>>,
    place: String,
) -> Result<Entry, String> {
    let (number, title) = block.title.split_once(' ').ok_or("a title is wanted")?;
    let number = number
        .strip_prefix("G-")
        .and_then(|digits| digits.parse().ok());
    let mut entry = Entry {
        number: number.ok_or("G- and a number are wanted")?,
        title: title.to_owned(),
        place,
        app: "1".to_owned(),
        path: String::new(),
        is_slow: false,
        differs: None,
        left_out: None,
        reverb: Vec::new(),
        ours: Vec::new(),
    };
    let mut lines = Vec::new();
    for &(name, value) in &block.settings {
        let value = value.to_owned();
        match name {
            "app" => entry.app = value,
            "path" => entry.path = value,
            "slow" => entry.is_slow = true,
            "differs" => entry.differs = Some(value),
            "left out" => entry.left_out = Some(value),
            "setup" => lines.extend(setups.get(value.as_str()).ok_or("no such setup")?),
            _ => return Err(format!("{name} is no setting")),
        }
    }
    lines.extend(&block.steps);
    (entry.reverb, entry.ours) = (transcript(&lines, '-')?, transcript(&lines, '+')?);
    let is_marked = lines.iter().any(|line| !line.starts_with(' '));
    match (&entry.differs, is_marked) {
        (Some(_), false) => Err("differs, but no line is marked".to_owned()),
        (None, true) => Err("lines are marked, but nothing says what differs".to_owned()),
        (Some(_), true) if entry.reverb == entry.ours => Err("the marks mark nothing".to_owned()),
        _ if entry.ours.is_empty() && entry.left_out.is_none() => Err("no steps".to_owned()),
        _ => Ok(entry),
    }
}

/// The steps of one side: of the lines that bear its mark or none. Deeper lines go with the step
/// above them.
fn transcript(lines: &[&str], mark: char) -> Result<Vec<Step>, String> {
    let mut grouped: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in lines {
        let (found, rest) = line.split_at(1);
        if found != " " && !found.starts_with(mark) {
            continue;
        }
        let rest = rest
            .strip_prefix(' ')
            .ok_or_else(|| format!("no step: {line}"))?;
        if !rest.starts_with(' ') {
            grouped.push((rest, Vec::new()));
        } else if let Some((_, more)) = grouped.last_mut() {
            more.push(rest.trim_start());
        }
    }
    let steps = grouped.into_iter();
    steps.map(|(line, more)| Step::read(line, &more)).collect()
}

/// What a line of a step begins with.
const MARKS: [char; 3] = [' ', '-', '+'];
