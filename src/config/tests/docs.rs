//! What `docs/configuration.md` says, held to what the code reads.

use crate::app::ClientEvents;
use crate::config::tests::{from_file, from_named, no_file};
use crate::config::{Config, Flags, Origin, file, load};
use crate::env::Environment;

#[test]
fn the_docs_list_every_name_with_its_key_and_default() {
    let config = with_only_an_app();
    let documented: Vec<Vec<&str>> = section("## Environment")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            line.split('|')
                .map(|cell| cell.trim().trim_matches('`'))
                .collect()
        })
        .collect();
    let rows: Vec<_> = config
        .listings
        .iter()
        .flat_map(|listing| &listing.rows)
        .collect();
    assert_eq!(documented.len(), rows.len());
    for row in rows {
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

/// Everything but the names of the app is by default.
fn with_only_an_app() -> Config {
    let names = ["REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET"];
    let process = names.map(|name| (name.into(), "x".into()));
    let environment = Environment::new(process, None).unwrap();
    load(&Flags::default(), &environment, no_file).unwrap()
}

#[test]
fn the_files_in_the_docs_are_read() {
    let example = |language: &str| {
        let fence = format!("```{language}\n");
        let after = section("## File").split_once(&fence).unwrap().1;
        after.split("```").next().unwrap()
    };
    assert_eq!(from_file(example("toml")).unwrap().apps.len(), 2);
    let config = from_named("reverb.json", example("json")).unwrap();
    assert_eq!(config.apps[0].client_events, ClientEvents::All);
    assert_eq!(config.warnings, [""; 0]);
}

fn section(title: &str) -> &'static str {
    let docs = include_str!("../../../docs/configuration.md");
    let body = docs.split_once(title).unwrap().1;
    body.split("\n## ").next().unwrap()
}
