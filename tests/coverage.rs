//! Every requirement that is due has a test that carries its number.
//!
//! Requirements are the `R-nnn` rows of `docs/requirements.md`. A test carries one or several at
//! the front of its name: `r083_r084_wrong_or_missing_signatures_are_refused`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Shown by something other than a Rust test; the file names the requirement.
const ELSEWHERE: &[(u16, &str)] = &[(53, "tests/autobahn/check.sh")];

#[test]
fn every_requirement_that_is_due_has_a_test() {
    let mut missing = requirements().due;
    assert!(missing.len() > 150, "the list could not be read");
    for (number, file) in ELSEWHERE {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        let name = format!("R-{number:03}");
        assert!(text.contains(&name), "{file} does not name {name}");
        missing.remove(number);
    }
    for name in tests() {
        for number in numbers(&name) {
            missing.remove(&number);
        }
    }
    assert!(missing.is_empty(), "without a test: {missing:?}");
}

#[test]
fn a_test_carries_only_numbers_of_requirements_that_are_due() {
    let due = requirements().due;
    for name in tests() {
        for number in numbers(&name) {
            assert!(due.contains(&number), "{name}: R-{number:03} is not due");
        }
    }
}

#[test]
fn requirements_stand_once_and_in_order() {
    let Requirements { due, later } = requirements();
    let rows = table_rows("docs/requirements.md").into_iter();
    let order: Vec<u16> = rows.map(|(number, _)| number).collect();
    let all: BTreeSet<u16> = due.union(&later).copied().collect();
    assert!(order.iter().eq(&all), "{order:?}");
}

#[test]
fn numbers_are_read_from_the_front_of_a_test_name() {
    assert_eq!(numbers("r058_r059_unknown_events"), [58, 59]);
    assert_eq!(numbers("r083_as_r084_does"), [83]);
    assert_eq!(numbers("reads_r083"), [0_u16; 0]);
    assert_eq!(numbers("r83_short"), [0_u16; 0]);
}

struct Requirements {
    due: BTreeSet<u16>,
    /// Listed, but not served yet.
    later: BTreeSet<u16>,
}

fn requirements() -> Requirements {
    let mut found = Requirements {
        due: BTreeSet::new(),
        later: BTreeSet::new(),
    };
    for (number, text) in table_rows("docs/requirements.md") {
        if text.starts_with("*later*") {
            found.later.insert(number);
        } else {
            found.due.insert(number);
        }
    }
    found
}

/// Number and text of each row `| R-nnn | text |`.
fn table_rows(document: &str) -> Vec<(u16, String)> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let row = |line: &str| {
        let (number, text) = line.strip_prefix("| R-")?.split_once(" | ")?;
        Some((number.parse().ok()?, text.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// The names of all tests under `src/` and `tests/` that are not ignored.
fn tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        collect(&root().join(folder), "rs", &mut files);
    }
    files
        .iter()
        .flat_map(|file| tests_in(&fs::read_to_string(file).unwrap()))
        .collect()
}

/// A function counts if `#[test]` stands above it and `#[ignore]` does not.
fn tests_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (mut is_test, mut is_ignored) = (false, false);
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("fn ") {
            if is_test && !is_ignored {
                found.extend(rest.split(['(', '<']).next().map(str::to_owned));
            }
            (is_test, is_ignored) = (false, false);
        } else if line.starts_with("#[") {
            is_test |= line.contains("test]");
            is_ignored |= line.starts_with("#[ignore");
        }
    }
    found
}

fn numbers(name: &str) -> Vec<u16> {
    let number = |part: &str| {
        let digits = part.strip_prefix('r').filter(|digits| digits.len() == 3)?;
        digits.parse().ok()
    };
    name.split('_').map_while(number).collect()
}

fn collect(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            collect(&path, extension, files);
        } else if has_extension(&path, extension) {
            files.push(path);
        }
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
