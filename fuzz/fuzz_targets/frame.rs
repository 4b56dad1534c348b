//! libFuzzer's way into `src/frame.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| slapback_fuzz::frame::run(input));
