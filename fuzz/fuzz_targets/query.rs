//! libFuzzer's way into `src/query.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| slapback_fuzz::query::run(input));
