//! libFuzzer's way into `src/http.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| slapback_fuzz::http::run(input));
