//! The wire, replayed: exchanges captured from Reverb, byte for byte, on every fleet.
//!
//! `tests/wire/README.md` says how the data files are written. An entry that deviates holds both
//! sides' bytes and is played with ours; what is left out says why.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use entry::{Entry, Fate};
use harness::{FLEETS, Fleet, Redis, Server, on_every_fleet};
use player::play;

mod answers;
#[path = "wire/entry.rs"]
mod entry;
#[path = "wire/failure.rs"]
mod failure;
mod harness;
#[path = "wire/player.rs"]
mod player;
#[path = "wire/sent.rs"]
mod sent;
#[path = "wire/socket.rs"]
mod socket;
#[path = "wire/step.rs"]
mod step;
#[path = "wire/template.rs"]
mod template;

const APPS: &str = include_str!("wire/apps.toml");
/// How many entries must be played.
const PLAYED_MIN: usize = 325;
/// After so many failures the rest is not played: each may have waited for what does not come.
const FAILURES_MAX: usize = 20;

#[test]
fn every_exchange_is_answered_as_its_file_says() {
    let all = entries().iter().collect::<Vec<_>>();
    on_every_fleet(|fleet| {
        let servers = Servers::start(fleet, &all);
        let failures = play_all(&servers, &all);
        assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    });
    // Not by `println!`, which a passed test keeps to itself.
    writeln!(io::stderr(), "wire: {}", counts(entries())).unwrap();
}

/// A call that all nodes answer is answered in the same bytes when there is but one (R-230).
#[test]
fn r230_every_exchange_is_the_same_with_scaling_on() {
    // Who is on a plain and on a presence channel hears their events in either order (docs/redis.md).
    const IN_EITHER_ORDER: [u16; 2] = [206, 283];
    let in_one_order = entries()
        .iter()
        .filter(|entry| !IN_EITHER_ORDER.contains(&entry.number));
    let (entries, redis) = (in_one_order.collect::<Vec<_>>(), Redis::start());
    let (entries, redis) = (&*entries, &redis);
    thread::scope(|scope| {
        for fleet in [FLEETS[0], FLEETS[5]] {
            scope.spawn(move || {
                let servers = Servers::start_on(fleet, entries, redis);
                let failures = play_all(&servers, entries);
                assert!(failures.is_empty(), "{fleet}:\n{}", failures.join("\n"));
            });
        }
    });
}

#[test]
fn the_conformance_document_says_how_many_are_the_same() {
    let document = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let counts = counts(entries());
    assert!(document.contains(&format!("`{counts}`")), "{counts}");
}

#[test]
fn every_exchange_stands_in_the_files_once_and_most_are_played() {
    let numbers: Vec<u16> = entries().iter().map(|entry| entry.number).collect();
    let all: Vec<u16> = (1..=335).chain(386..=395).collect();
    assert_eq!(numbers, all);
    let played = entries()
        .iter()
        .filter(|entry| entry.fate() != Fate::LeftOut);
    assert!(played.count() >= PLAYED_MIN);
}

#[test]
fn every_deviation_names_what_the_compatibility_document_says_of_it() {
    let document = fs::read_to_string(root().join("docs/compatibility.md")).unwrap();
    for entry in entries() {
        let Some(differs) = &entry.differs else {
            continue;
        };
        let (heading, items) = differs.split_once(" (").unwrap_or_default();
        let (items, _) = items.split_once("): ").unwrap_or_default();
        let is_known = |item: &str| match item.strip_prefix("R-") {
            Some(_) => document.contains(&format!("\n| {item} | fix | ")),
            None => document.contains(&format!("`{item}`")),
        };
        let is_heading = document.contains(&format!("\n### {heading}\n"));
        let place = &entry.place;
        assert!(
            is_heading && items.split(", ").all(is_known),
            "{differs} ({place})"
        );
    }
}

#[test]
fn a_changed_byte_is_told_with_what_was_expected_and_what_came() {
    let server = start(FLEETS[0], "");
    let told = |steps: &str| {
        let file = format!("G-001 A title\n{steps}\n");
        let entry = entry::read("a.txt", &file).unwrap().remove(0);
        play(&server, &entry).unwrap_err().to_string()
    };
    assert_eq!(
        told("  [a] > text {}\n  [a] < text {\"event\":\"pusher:Error\"}"),
        r#"G-001 A title (tests/wire/a.txt:1)
  [a] > text {}
  [a] < text {"event":"pusher:Error"}
    expected: text {"event":"pusher:Error"}
    got:      text {"event":"pusher:error","data":"{\"code\":4200,\"message\":\"Invalid message format\"}"}
                                    ^
"#
    );
    for (steps, expected, got) in [
        (
            "  [a] > text {\"event\":\"pusher:ping\"}",
            "nothing",
            "text {\"event\":\"pusher:pong\"}",
        ),
        ("  [a] > ping a\n  [a] < pong b", "pong b", "pong a"),
        ("  [a] > ping a\n  [a] < end", "end", "pong a"),
        (
            "  [a] > close 1000\n  [a] < close 1001",
            "close 1001",
            "close 1000",
        ),
        (
            "  [a] > close 1000\n  [a] < close 1000\n  [a] < text x",
            "text x",
            "end",
        ),
        (
            "  [a] > upgrade /app/key-1\n  [a] < HTTP/1.1 101 No",
            "HTTP/1.1 101 No",
            "HTTP/1.1 101 Switching",
        ),
        (
            "  [a] > upgrade /app/key-1\n  [a] < 101",
            "nothing",
            "text {\"event\":\"pusher:connection",
        ),
        ("  > GET /up\n  < waits", "waits", "bytes HTTP/1.1 200 OK"),
        (
            "  > GET /up\n  < 201 OK\n    body: {}",
            "HTTP/1.1 201 OK",
            "HTTP/1.1 200 OK",
        ),
        (
            "  > GET /up\n  < 200 OK\n    body: {}\n  < end",
            "Length: 2↵",
            "Length: 15↵",
        ),
    ] {
        let told = told(steps);
        let (_, told) = told.split_once("    expected: ").unwrap();
        let (told_expected, told_got) = told.split_once("\n    got:      ").unwrap();
        assert!(told_expected.contains(expected), "{expected} in {told}");
        assert!(told_got.contains(got), "{got} in {told}");
    }
}

/// How many are the same, how many deviate, how many are left out.
fn counts(entries: &[Entry]) -> String {
    let count = |fate: Fate| entries.iter().filter(|entry| entry.fate() == fate).count();
    let (same, deviating) = (count(Fate::Same), count(Fate::Deviating));
    format!(
        "same {same}, deviating {deviating}, left out {}",
        count(Fate::LeftOut)
    )
}

/// All entries, read once.
fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| entry::read_folder(&root().join("tests/wire")))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A server for each path that entries ask for.
struct Servers(BTreeMap<String, Server>);

impl Servers {
    fn start(fleet: Fleet, entries: &[&Entry]) -> Self {
        let mut servers = BTreeMap::new();
        for entry in entries {
            let server = servers.entry(entry.path.clone());
            server.or_insert_with(|| start(fleet, &entry.path));
        }
        Self(servers)
    }

    /// The same with scaling on; each is alone on a bus of its own.
    fn start_on(fleet: Fleet, entries: &[&Entry], redis: &Redis) -> Self {
        let port = redis.port.to_string();
        let mut servers = BTreeMap::new();
        for entry in entries {
            let server = servers.entry(entry.path.clone());
            server.or_insert_with(|| {
                let bus = format!("reverb of {fleet} under {:?}", entry.path);
                let environment = [
                    ("REVERB_SERVER_PATH", entry.path.as_str()),
                    ("REVERB_SCALING_ENABLED", "true"),
                    ("REVERB_SCALING_CHANNEL", &bus),
                    ("REDIS_PORT", &port),
                ];
                let server = Server::start_with_file(fleet, APPS, &environment);
                server.is_on_the_bus();
                server
            });
        }
        Self(servers)
    }

    fn of(&self, entry: &Entry) -> &Server {
        &self.0[&entry.path]
    }
}

fn start(fleet: Fleet, path: &str) -> Server {
    Server::start_with_file(fleet, APPS, &[("REVERB_SERVER_PATH", path)])
}

/// Plays the entries in their order, as they were captured; the slow ones beside them, each in a
/// thread of its own. Returns what failed.
fn play_all(servers: &Servers, entries: &[&Entry]) -> Vec<String> {
    let played = entries.iter().copied();
    let played = played.filter(|entry| entry.fate() != Fate::LeftOut);
    let (slow, quick): (Vec<&Entry>, Vec<&Entry>) = played.partition(|entry| entry.is_slow);
    let failed = |entry: &Entry| play(servers.of(entry), entry).err().map(|f| f.to_string());
    thread::scope(|scope| {
        let slow = slow
            .into_iter()
            .map(|entry| scope.spawn(move || failed(entry)));
        let slow: Vec<_> = slow.collect();
        let quick = quick.into_iter().filter_map(failed);
        let mut failures: Vec<String> = quick.take(FAILURES_MAX).collect();
        failures.extend(slow.into_iter().filter_map(|slow| slow.join().unwrap()));
        failures
    })
}
