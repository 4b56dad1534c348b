//! libFuzzer's way into `src/session.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(slapback_fuzz::session::run(input)));
