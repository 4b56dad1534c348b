//! libFuzzer's way into `src/client_event.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| slapback_fuzz::client_event::run(input));
