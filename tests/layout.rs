//! The house rules of `CONTRIBUTING.md`, read off the sources.
//!
//! Comments and the contents of string literals are blanked first, so that a rule sees code only;
//! where a rule is about shipped code, test modules are blanked too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use source::{Source, functions, named_paths};

#[path = "layout/source.rs"]
mod source;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

/// Who may import whom: a module names only modules below it, its own, or leaves beside it.
const LEVELS: &[&[&str]] = &[
    &[
        "app",
        "broadcast",
        "config",
        "env",
        "hex",
        "limits",
        "log",
        "metrics",
        "serving",
        "status",
        "tuning",
    ],
    &["proto"],
    &["ring", "refusals"],
    &["shard", "wake"],
    &["edge", "redis"],
    &["fleet"],
    &["check", "cli", "health", "reload", "restart"],
    &["main", "lib"],
];

/// What a sans-io folder must not know: sockets, threads, clocks, runtimes.
const SANS_IO_FORBIDDEN: &[&str] = &[
    "std::net",
    "std::thread",
    "std::os",
    "Instant::now",
    "SystemTime",
    "monoio",
    "io_uring",
    "rustix",
    "socket2",
    "libc",
    "tokio",
];

#[test]
fn proto_and_shard_name_no_socket_thread_clock_or_runtime() {
    check(|source| {
        if !source.is_under("proto") && !source.is_under("shard") {
            return Vec::new();
        }
        let forbidden = |path: &String| SANS_IO_FORBIDDEN.iter().any(|name| holds(path, name));
        let found = named_paths(&source.shipped).into_iter().filter(forbidden);
        found.map(|path| format!("names {path}")).collect()
    });
}

#[test]
fn only_edge_names_the_runtime() {
    check(|source| {
        let is_runtime = |path: &String| holds(path, "monoio") || holds(path, "io_uring");
        let mut found = named_paths(&source.code).into_iter().filter(is_runtime);
        match found.next() {
            Some(path) if !source.is_under("edge") => vec![format!("names {path}")],
            _ => Vec::new(),
        }
    });
}

#[test]
fn imports_point_downwards() {
    check(|source| {
        let own = source.module();
        let Some(own_level) = level(&own) else {
            return vec![format!("give `{own}` a place in LEVELS")];
        };
        let mut wrong = Vec::new();
        for path in named_paths(&source.shipped) {
            let mut parts = path.split("::");
            if !matches!(parts.next(), Some("crate" | "slapback")) {
                continue;
            }
            let Some(other) = parts.next().filter(|&other| other != own) else {
                continue;
            };
            match level(other) {
                Some(other_level) if other_level < own_level => {}
                Some(0) if own_level == 0 => {}
                // The crate's own attributes and macros at its root have no level.
                None => {}
                Some(_) => wrong.push(format!("`{own}` may not import `{other}` ({path})")),
            }
        }
        wrong
    });
}

#[test]
fn files_are_short_and_open_with_what_they_are_for() {
    check(|source| {
        let mut wrong = Vec::new();
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!(
                "has {lines} lines, {FILE_LINES_MAX} are allowed: split by noun"
            ));
        }
        if !source.text.starts_with("//!") {
            wrong.push("does not open with `//!`".to_owned());
        }
        let name = source
            .path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if ["utils", "util", "common", "helpers", "misc"].contains(&name) {
            wrong.push("is named after nothing".to_owned());
        }
        wrong
    });
}

#[test]
fn lines_fit_a_hundred_columns() {
    check(|source| {
        // A string literal is not broken: bytes of the wire stay in one piece.
        let is_long = |line: &&str| line.chars().count() > LINE_COLUMNS_MAX && !line.contains('"');
        let long = source
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| is_long(line));
        long.map(|(index, _)| format!("line {} is too long", index + 1))
            .collect()
    });
}

#[test]
fn functions_are_short() {
    check(|source| {
        let long = functions(&source.code).into_iter();
        let long = long.filter(|function| function.lines > FUNCTION_LINES_MAX);
        long.map(|function| format!("`{}` has {} lines", function.name, function.lines))
            .collect()
    });
}

#[test]
fn unsafe_stays_in_the_flusher() {
    check(|source| {
        let allowed = source.is_under("edge/flush");
        let lines = lines_with(&source.code, "unsafe")
            .into_iter()
            .filter(|_| !allowed);
        lines.map(|line| format!("line {line} is unsafe")).collect()
    });
}

#[test]
fn shipped_code_handles_every_absence_and_error() {
    check(|source| {
        let mut wrong = Vec::new();
        for call in [
            ".unwrap()",
            ".expect(",
            ".unwrap_err()",
            "todo!(",
            "unimplemented!(",
        ] {
            let hits = source
                .shipped
                .lines()
                .enumerate()
                .filter(|(_, line)| line.contains(call));
            wrong.extend(hits.map(|(index, _)| format!("line {} calls {call}", index + 1)));
        }
        wrong
    });
}

#[test]
fn public_items_have_a_doc_line() {
    check(|source| {
        let code: Vec<&str> = source.shipped.lines().collect();
        let text: Vec<&str> = source.text.lines().collect();
        let public = code
            .iter()
            .enumerate()
            .filter(|(_, line)| is_public_item(line));
        let bare = public.filter(|(index, _)| !has_doc(&text, *index));
        bare.map(|(index, line)| format!("line {}: {}", index + 1, line.trim()))
            .collect()
    });
}

#[test]
fn a_doc_line_is_found_past_attributes() {
    let documented = ["/// Does.", "#[derive(", "    Debug", ")]", "pub struct A;"];
    assert!(has_doc(&documented, 4) && !has_doc(&documented[1..], 3));
    assert!(holds("std::net::TcpStream", "std::net") && !holds("std::network", "std::net"));
}

/// Applies a rule to every file and fails with all that it finds.
fn check(rule: impl Fn(&Source) -> Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 5, "no sources in {}", root.display());
    let mut wrong = Vec::new();
    for file in files {
        let source = Source::read(&root, &file);
        let found = rule(&source).into_iter();
        wrong.extend(found.map(|what| format!("src/{}: {what}", source.path.display())));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Whether `name`'s segments stand in `path` in that order, side by side.
fn holds(path: &str, name: &str) -> bool {
    format!("::{path}::").contains(&format!("::{name}::"))
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|modules| modules.contains(&module))
}

fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let has = |line: &str| line.split(|c: char| !is_word(c)).any(|part| part == word);
    code.lines()
        .enumerate()
        .filter(|(_, line)| has(line))
        .map(|(index, _)| index + 1)
        .collect()
}

/// Modules are left out: what they are for stands at the head of their own file.
fn is_public_item(line: &str) -> bool {
    let Some(rest) = line.trim_start().strip_prefix("pub") else {
        return false;
    };
    let rest = rest.strip_prefix("(crate)").unwrap_or(rest);
    let kinds = [
        "fn", "struct", "enum", "trait", "type", "const", "static", "union",
    ];
    let mut words = rest.split_whitespace();
    rest.starts_with(' ')
        && words.next().is_some_and(|word| {
            kinds.contains(&word) || ["async", "unsafe", "extern"].contains(&word)
        })
}

/// Whether the lines above `index`, past attributes, end in a doc comment.
fn has_doc(text: &[&str], index: usize) -> bool {
    let mut above = text[..index].iter().rev().map(|line| line.trim());
    while let Some(line) = above.next() {
        if line.starts_with("///") || line.ends_with("*/") || line.starts_with("#[doc") {
            return true;
        }
        if !line.ends_with(']') {
            return false;
        }
        if !line.starts_with("#[") {
            above.find(|line| line.starts_with("#["));
        }
    }
    false
}
