//! Any text as a configuration file; what is accepted must have distinct apps.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use slapback::config::{self, Flags};
use slapback::env::Environment;

fuzz_target!(|text: &str| {
    let flags = Flags {
        config: Some("fuzz.toml".into()),
        ..Flags::default()
    };
    let read = |_: &std::path::Path| Ok(text.to_owned());
    if let Ok(config) = config::load(&flags, &Environment::default(), read) {
        let ids: HashSet<_> = config.apps.iter().map(|app| &app.id).collect();
        let keys: HashSet<_> = config.apps.iter().map(|app| &app.key).collect();
        assert_eq!(ids.len(), config.apps.len());
        assert_eq!(keys.len(), config.apps.len());
        assert!(config.apps.iter().all(|app| app.activity_timeout_s > 0));
        let _ = config.to_string();
    }
});
