//! libFuzzer's way into `src/bus.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| slapback_fuzz::bus::run(input));
