//! Any bytes, at any split: the request reader never panics and never gives more than it may.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slapback::proto::http::{Limits, Read, Reader};

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let limits = Limits {
        max_request_size: 1000,
    };
    let mut reader = Reader::default();
    for piece in &pieces {
        let mut rest = piece.as_slice();
        loop {
            match reader.read(rest, &limits) {
                Read::Incomplete => break,
                Read::Continue { consumed } => rest = &rest[consumed..],
                Read::Request { consumed, request } => {
                    assert!(request.body.len() < limits.max_request_size);
                    rest = &rest[consumed..];
                }
                Read::Refused { .. } => return,
            }
        }
    }
});
