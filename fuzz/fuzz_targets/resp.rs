//! libFuzzer's way into `src/resp.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| slapback_fuzz::resp::run(input));
