//! Any text as a configuration file, TOML and JSON; what is accepted must have distinct apps.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use slapback::config::{self, Flags};
use slapback::env::Environment;

fuzz_target!(|text: &str| {
    for file in ["fuzz.toml", "fuzz.json", "fuzz"] {
        let flags = Flags {
            config: Some(file.into()),
            ..Flags::default()
        };
        let read = |_: &std::path::Path| Ok(text.to_owned());
        let Ok(config) = config::load(&flags, &Environment::default(), read) else {
            continue;
        };
        let ids: HashSet<_> = config.apps.iter().map(|app| &app.id).collect();
        let keys: HashSet<_> = config.apps.iter().map(|app| &app.key).collect();
        assert_eq!(ids.len(), config.apps.len());
        assert_eq!(keys.len(), config.apps.len());
        assert!(config.apps.iter().all(|app| app.activity_timeout_s > 0));
        assert_eq!(config.listings.len(), 1 + config.apps.len());
    }
});
