//! Any bytes, at any split: the frame decoder never panics and always moves on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slapback::proto::frame::Decoder;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut decoder = Decoder::default();
    for mut piece in pieces {
        let mut rest = piece.as_mut_slice();
        loop {
            let (taken, item) = decoder.decode(rest, 1000);
            match item {
                Ok(Some(_)) => rest = &mut rest[taken..],
                Ok(None) => break assert_eq!(taken, rest.len()),
                Err(_) => return,
            }
        }
    }
});
