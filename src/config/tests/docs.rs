//! What `docs/configuration.md` says, held to what the code reads.

use crate::app::ClientEvents;
use crate::config::tests::{from_file, from_named, no_file};
use crate::config::{Flags, Origin, Row, file, load};
use crate::env::Environment;

#[test]
fn the_docs_list_every_name_with_its_key_and_default() {
    let documented: Vec<Vec<&str>> = section("## Environment")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            line.split('|')
                .map(|cell| cell.trim().trim_matches('`'))
                .collect()
        })
        .collect();
    let rows = rows();
    assert_eq!(documented.len(), rows.len());
    for row in &rows {
        let cells = documented.iter().find(|cells| cells[1] == row.variable);
        let cells = cells.unwrap_or_else(|| panic!("{} is not documented", row.variable));
        let (key, default) = (cells[2], cells[3]);
        assert!(key.is_empty() || key == row.label, "{key} is {}", row.label);
        if row.origin == Origin::Default {
            assert_eq!(default, row.value, "{}", row.variable);
        }
    }
    for key in file::keys() {
        let is_documented = documented.iter().any(|cells| cells[2] == key);
        assert!(is_documented, "{key} is not documented");
    }
}

/// Every setting. All but the names of the app are by default, but for the switches of what Redis
/// is for: on, they have further rows.
fn rows() -> Vec<Row> {
    let mut rows = rows_with(&[]);
    for row in rows_with(&["REVERB_SCALING_ENABLED", "SLAPBACK_REDIS_INGEST"]) {
        if rows.iter().all(|other| other.variable != row.variable) {
            rows.push(row);
        }
    }
    rows
}

fn rows_with(switches: &[&str]) -> Vec<Row> {
    let names = ["REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET"];
    let names = names.iter().map(|name| (name.into(), "x".into()));
    let switches = switches.iter().map(|name| (name.into(), "true".into()));
    let environment = Environment::new(names.chain(switches), None).unwrap();
    let config = load(&Flags::default(), &environment, no_file).unwrap();
    let rows = config.listings.into_iter().map(|listing| listing.rows);
    rows.flatten().collect()
}

#[test]
fn the_files_in_the_docs_are_read() {
    let example = |language: &str, at: usize| {
        let fence = format!("```{language}\n");
        let after = section("## File").split(&fence).nth(at).unwrap();
        after.split("```").next().unwrap()
    };
    assert_eq!(from_file(example("toml", 1)).unwrap().apps.len(), 2);
    let config = from_file(example("toml", 2)).unwrap();
    let (scaling, ingest) = (config.scaling.unwrap(), config.ingest.unwrap());
    assert_eq!(scaling.server.username.as_deref(), Some("slapback"));
    assert_eq!(
        (ingest.server.username, ingest.server.tls.is_some()),
        (None, true)
    );
    assert_eq!(ingest.sources[0].prefix, "shop_database_");
    let config = from_named("reverb.json", example("json", 1)).unwrap();
    assert_eq!(config.apps[0].client_events, ClientEvents::All);
    assert_eq!(config.warnings, [""; 0]);
}

fn section(title: &str) -> &'static str {
    let docs = include_str!("../../../docs/configuration.md");
    let body = docs.split_once(title).unwrap().1;
    body.split("\n## ").next().unwrap()
}
