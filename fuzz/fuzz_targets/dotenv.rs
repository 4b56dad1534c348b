//! libFuzzer's way into `src/dotenv.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| slapback_fuzz::dotenv::run(input));
