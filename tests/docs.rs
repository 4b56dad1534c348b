//! What the Markdown files name exists: linked files, paths, tests, and targets of `make`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose files a page may name by their path from the root.
const FOLDERS: &[&str] = &[
    "bench/",
    "deploy/",
    "docs/",
    "examples/",
    "fuzz/",
    "kernel-tuning/",
    "src/",
    "tests/",
];

#[test]
fn every_link_leads_to_a_file() {
    check(|page, text| {
        let folder = page.parent().unwrap();
        text.split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .map(|target| target.split('#').next().unwrap_or_default())
            .filter(|target| !target.is_empty() && !target.contains("://"))
            .filter(|target| !folder.join(target).exists())
            .map(str::to_owned)
            .collect()
    });
}

#[test]
fn every_path_in_code_style_exists() {
    check(|_, text| {
        code_words(text)
            .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
            .filter(|word| !root().join(word).exists())
            .map(str::to_owned)
            .collect()
    });
}

#[test]
fn every_test_that_a_page_names_exists() {
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        read_below(&root().join(folder), "rs", &mut |_, text| sources += text);
    }
    check(|_, text| {
        code_words(text)
            .filter(|word| is_test_name(word))
            .filter(|word| !sources.contains(&format!("fn {word}()")))
            .map(str::to_owned)
            .collect()
    });
}

#[test]
fn every_make_target_that_a_page_names_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':'))
        .map(|(target, _)| target)
        .collect();
    check(|_, text| {
        code_spans(text)
            .filter_map(|span| span.strip_prefix("make "))
            .flat_map(str::split_whitespace)
            .filter(|word| !word.contains('=') && !targets.contains(word))
            .map(str::to_owned)
            .collect()
    });
}

/// Fails with every complaint about every page, which is what `wrong` returns.
fn check(wrong: impl Fn(&Path, &str) -> Vec<String>) {
    let mut complaints = Vec::new();
    let mut pages = 0;
    let mut look = |page: &Path, text: &str| {
        pages += 1;
        for word in wrong(page, text) {
            complaints.push(format!("{}: {word}", page.display()));
        }
    };
    for folder in ["docs", "kernel-tuning", "tests/mutants", "tests/wire"] {
        read_below(&root().join(folder), "md", &mut look);
    }
    for entry in fs::read_dir(root()).unwrap() {
        read_if(&entry.unwrap().path(), "md", &mut look);
    }
    assert!(pages >= 8, "only {pages} pages were found");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What stands between single backquotes on one line.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn code_words(text: &str) -> impl Iterator<Item = &str> {
    code_spans(text).filter(|span| !span.contains(char::is_whitespace))
}

/// Test names are sentences: they have many words.
fn is_test_name(word: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    word.bytes().all(is_plain) && word.matches('_').count() >= WORDS_MIN - 1
}

const WORDS_MIN: usize = 6;

fn read_below(folder: &Path, extension: &str, look: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            read_below(&path, extension, look);
        } else {
            read_if(&path, extension, look);
        }
    }
}

fn read_if(path: &Path, extension: &str, look: &mut impl FnMut(&Path, &str)) {
    if path.extension().is_some_and(|found| found == extension) {
        look(path, &fs::read_to_string(path).unwrap());
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
