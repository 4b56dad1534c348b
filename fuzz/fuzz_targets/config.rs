//! libFuzzer's way into `src/config.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| slapback_fuzz::config::run(input));
