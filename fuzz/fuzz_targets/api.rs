//! libFuzzer's way into `src/api.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| slapback_fuzz::api::run(input));
