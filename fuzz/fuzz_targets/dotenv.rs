//! Any bytes as a `.env` file, and each value as `env()` reads it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slapback::env::{parse_dotenv, read_value};

fuzz_target!(|bytes: &[u8]| {
    let outer = |name: &str| (name == "OUTER").then(|| "outside".to_owned());
    for entry in parse_dotenv(bytes, outer).unwrap_or_default() {
        read_value(&entry.value);
    }
});
