//! libFuzzer's way into `src/laravel.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| slapback_fuzz::laravel::run(input));
