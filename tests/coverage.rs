//! Every item that Slapback owes to whoever comes from Reverb has a test that carries its number.
//!
//! Items are the rows `| R-nnn | mark | text |` of `docs/compatibility.md`. A test carries one or
//! several at the front of its name: `r083_r084_wrong_or_missing_signatures_are_refused`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/compatibility.md";
const ITEMS_COUNT: u16 = 251;

#[test]
fn items_stand_once_and_in_order() {
    let numbers = items().into_iter().map(|item| item.number);
    assert!(numbers.eq(1..=ITEMS_COUNT), "not 1 to {ITEMS_COUNT}");
}

#[test]
fn every_item_that_is_due_names_tests_that_carry_its_number() {
    let tests = tests();
    let mut complaints = Vec::new();
    for item in items().iter().filter(|item| item.mark != Mark::Later) {
        let mut shown = item.code.iter().filter(|code| is_evidence(code)).peekable();
        if shown.peek().is_none() {
            complaints.push(format!("R-{:03} names no test", item.number));
        }
        for test in shown.filter(|test| !shows(test, item.number, &tests)) {
            complaints.push(format!("R-{:03} is not shown by {test}", item.number));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn an_item_that_is_not_due_names_what_it_comes_with_and_no_test() {
    for item in items().iter().filter(|item| item.mark == Mark::Later) {
        let number = item.number;
        assert!(item.text.contains("; comes with "), "R-{number:03}");
        assert!(
            !item.code.iter().any(|code| is_evidence(code)),
            "R-{number:03}"
        );
    }
}

#[test]
fn a_test_carries_only_numbers_of_items_that_are_due() {
    let due = marked(|mark| mark != Mark::Later);
    for name in tests() {
        for number in numbers(&name) {
            assert!(due.contains(&number), "{name}: R-{number:03} is not due");
        }
    }
}

#[test]
fn what_differs_names_just_the_items_that_are_fixed() {
    let differs = what_differs();
    let named = differs.split("R-").skip(1);
    let named: BTreeSet<u16> = named
        .filter_map(|rest| rest.get(..3)?.parse().ok())
        .collect();
    assert_eq!(named, marked(|mark| mark == Mark::Fix));
}

#[test]
fn each_row_of_what_differs_names_what_shows_it() {
    let (tests, differs) = (tests(), what_differs());
    let rows = differs.lines().filter(|line| line.starts_with("| "));
    let mut complaints = Vec::new();
    for row in rows.filter(|row| !row.contains("---") && !row.ends_with("| shown by |")) {
        let (_, shown) = row.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        for evidence in shown.split(", ") {
            let test = evidence.trim_matches('`');
            // Items have been looked at above.
            if !test.starts_with("R-") && !tests.contains(test) {
                complaints.push(format!("{test} is no test: {row}"));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn numbers_are_read_from_the_front_of_a_test_name() {
    assert_eq!(numbers("r058_r059_unknown_events"), [58, 59]);
    assert_eq!(numbers("r083_as_r084_does"), [83]);
    assert_eq!(numbers("reads_r083"), [0_u16; 0]);
    assert_eq!(numbers("r83_short"), [0_u16; 0]);
}

/// The tables of what is otherwise than in Reverb.
fn what_differs() -> String {
    let page = page();
    let (_, rest) = page.split_once("\n## What differs\n").unwrap();
    let (differs, _) = rest.split_once("\n## ").unwrap();
    differs.to_owned()
}

/// One row of the list.
struct Item {
    number: u16,
    mark: Mark,
    text: String,
    /// What stands between backquotes in the text.
    code: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// As Reverb does it.
    Keep,
    /// Otherwise than Reverb, on purpose.
    Fix,
    /// Not served yet.
    Later,
}

fn items() -> Vec<Item> {
    page().lines().filter_map(item).collect()
}

/// The item of a row `| R-nnn | mark | text |`; a row that is no item is none.
fn item(line: &str) -> Option<Item> {
    let row = line.strip_prefix("| R-")?.strip_suffix(" |")?;
    let [number, mark, text] = row.split(" | ").collect::<Vec<_>>()[..] else {
        panic!("not an item: {line}");
    };
    let mark = match mark {
        "keep" => Mark::Keep,
        "fix" => Mark::Fix,
        "later" => Mark::Later,
        other => panic!("R-{number} is marked {other:?}"),
    };
    let code = text.split('`').skip(1).step_by(2).map(str::to_owned);
    Some(Item {
        number: number.parse().unwrap(),
        mark,
        text: text.to_owned(),
        code: code.collect(),
    })
}

fn marked(is_wanted: impl Fn(Mark) -> bool) -> BTreeSet<u16> {
    let wanted = |item: &Item| is_wanted(item.mark).then_some(item.number);
    items().iter().filter_map(wanted).collect()
}

/// A test of ours, or the file of a suite that is not written in Rust.
fn is_evidence(code: &str) -> bool {
    code.starts_with("tests/") || !numbers(code).is_empty()
}

/// Whether this test, or the text of this suite, carries the number.
fn shows(evidence: &str, number: u16, tests: &BTreeSet<String>) -> bool {
    if evidence.starts_with("tests/") {
        let text = fs::read_to_string(root().join(evidence)).unwrap_or_default();
        return text.contains(&format!("R-{number:03}"));
    }
    tests.contains(evidence) && numbers(evidence).contains(&number)
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

fn page() -> String {
    fs::read_to_string(root().join(PAGE)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
