//! What Slapback links, held to `deny.toml`: licences, sources, versions that occur twice.
//!
//! Reads `cargo metadata` for this machine's target, so it needs neither the network nor a tool
//! that would have to be built first. Advisories are `make audit`, by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Entry>,
    skip: Vec<Entry>,
}

/// A crate, `name` or `name@version`, and why it is listed.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[test]
fn every_licence_is_on_the_allow_list() {
    let allowed = policy().licenses.allow;
    let refused: Vec<String> = packages()
        .into_iter()
        .filter(|package| {
            let text = package.license.as_deref().unwrap_or_default();
            !Expression::read(text).is_met_by(&allowed)
        })
        .map(|package| {
            format!(
                "{} {}: {:?}",
                package.name, package.version, package.license
            )
        })
        .collect();
    assert!(
        refused.is_empty(),
        "not on the list in deny.toml:\n{}",
        refused.join("\n")
    );
}

#[test]
fn every_crate_comes_from_the_registry_or_from_this_tree() {
    for package in packages() {
        let known = match &package.source {
            Some(source) => source.starts_with("registry+") && source.ends_with("/crates.io-index"),
            None => package.name.starts_with("slapback"),
        };
        assert!(known, "{} comes from {:?}", package.name, package.source);
    }
}

#[test]
fn no_version_occurs_twice_without_a_reason() {
    let skipped: BTreeSet<String> = policy()
        .bans
        .skip
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        versions
            .entry(package.name)
            .or_default()
            .insert(package.version);
    }
    let mut used = BTreeSet::new();
    for (name, versions) in &versions {
        let is_skipped = |version: &&String| skipped.contains(&format!("{name}@{version}"));
        if versions.len() > 1 {
            used.extend(
                versions
                    .iter()
                    .filter(is_skipped)
                    .map(|version| format!("{name}@{version}")),
            );
        }
        let kept = versions
            .iter()
            .filter(|version| !is_skipped(version))
            .count();
        assert!(
            kept <= 1,
            "{name} occurs as {versions:?}: unify it, or give deny.toml a reason"
        );
    }
    assert_eq!(
        skipped, used,
        "deny.toml excuses versions that no longer occur twice"
    );
}

#[test]
fn no_denied_crate_is_linked_and_every_entry_says_why() {
    let bans = policy().bans;
    let linked: BTreeSet<String> = packages().into_iter().map(|package| package.name).collect();
    for entry in &bans.deny {
        assert!(
            !linked.contains(&entry.name),
            "{}: {}",
            entry.name,
            entry.reason
        );
    }
    for entry in bans.deny.iter().chain(&bans.skip) {
        assert!(
            !entry.reason.trim().is_empty(),
            "{} has no reason",
            entry.name
        );
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_writes_them() {
    let allowed: BTreeSet<String> = ["MIT", "Zlib"].map(String::from).into();
    for (text, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(GPL-3.0 OR MIT) AND Zlib", true),
        ("GPL-3.0 OR MIT AND Zlib", true),
        ("MIT WITH Some-exception", false),
        ("MIT WITH Some-exception OR Zlib", true),
    ] {
        assert_eq!(Expression::read(text).is_met_by(&allowed), met, "{text}");
    }
}

/// A licence expression in disjunctive form: any of these sets, all of its names.
struct Expression(Vec<BTreeSet<String>>);

impl Expression {
    fn read(text: &str) -> Self {
        let spaced = text
            .replace('(', " ( ")
            .replace(')', " ) ")
            .replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = words.as_slice();
        let read = Self(Self::any(&mut rest));
        assert!(rest.is_empty(), "not a licence expression: {text}");
        read
    }

    fn any(rest: &mut &[&str]) -> Vec<BTreeSet<String>> {
        let mut sets = Self::all(rest);
        while take(rest, "OR") {
            sets.extend(Self::all(rest));
        }
        sets
    }

    fn all(rest: &mut &[&str]) -> Vec<BTreeSet<String>> {
        let mut sets = Self::one(rest);
        while take(rest, "AND") {
            let right = Self::one(rest);
            let joined = |left: &BTreeSet<String>| -> Vec<BTreeSet<String>> {
                right.iter().map(|set| left | set).collect()
            };
            sets = sets.iter().flat_map(joined).collect();
        }
        sets
    }

    fn one(rest: &mut &[&str]) -> Vec<BTreeSet<String>> {
        if take(rest, "(") {
            let inner = Self::any(rest);
            assert!(take(rest, ")"), "a bracket is not closed");
            return inner;
        }
        let Some((name, tail)) = rest.split_first() else {
            return Vec::new();
        };
        *rest = tail;
        let mut name = (*name).to_owned();
        if take(rest, "WITH") {
            let exception = rest.first().copied().unwrap_or_default();
            name = format!("{name} WITH {exception}");
            *rest = rest.get(1..).unwrap_or_default();
        }
        vec![BTreeSet::from([name])]
    }

    fn is_met_by(&self, allowed: &BTreeSet<String>) -> bool {
        self.0.iter().any(|set| set.is_subset(allowed))
    }
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    match rest.split_first() {
        Some((first, tail)) if *first == word => {
            *rest = tail;
            true
        }
        _ => false,
    }
}

fn policy() -> Policy {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", &host()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let packages = serde_json::from_slice::<Metadata>(&output.stdout)
        .unwrap()
        .packages;
    assert!(
        packages.len() > 20,
        "cargo metadata named {} packages",
        packages.len()
    );
    packages
}

fn host() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap()
        .to_owned()
}
