//! Any bytes as what Redis says: the same things however they are cut, none longer than allowed,
//! and no more held than was sent.

use slapback::redis::resp::{Reader, Said, command};

const STRING_BYTES_MAX: usize = 64;

/// Reads the bytes whole, in halves, and one by one.
pub fn run(input: &[u8]) {
    let whole = read(input.chunks(usize::MAX));
    assert_eq!(read(input.chunks(1)), whole, "one by one");
    let half = input.len().div_ceil(2).max(1);
    assert_eq!(read(input.chunks(half)), whole, "in halves");
    // What is said as a command comes back as the array that it is.
    let parts: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    if parts.len() > 4 && parts.iter().all(|part| part.len() <= STRING_BYTES_MAX) {
        let mut bytes = Vec::new();
        command(&mut bytes, &parts);
        let strings = [parts[0], parts[1], parts[2], parts[3]];
        let count = parts.len();
        let said = format!("{:?}", Said::Array { strings, count });
        let (heard, is_resp) = read(bytes.chunks(7));
        assert!(count > 1024 || (heard == [said] && is_resp), "a command");
    }
}

/// What was said, and whether all of it was RESP.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, bool) {
    let mut reader = Reader::new(STRING_BYTES_MAX);
    let mut said = Vec::new();
    for piece in pieces {
        reader.room()[..piece.len()].copy_from_slice(piece);
        reader.filled(piece.len());
        loop {
            match reader.poll() {
                Ok(Some(one)) => {
                    check(one);
                    said.push(format!("{one:?}"));
                }
                Ok(None) => break,
                Err(_) => return (said, false),
            }
        }
    }
    (said, true)
}

fn check(said: Said<'_>) {
    let strings = match said {
        Said::Message {
            pattern,
            channel,
            payload,
        } => vec![pattern.unwrap_or_default(), channel, payload],
        Said::Bulk(Some(string)) => vec![string],
        Said::Array { strings, .. } => strings.to_vec(),
        _ => Vec::new(),
    };
    for string in strings {
        assert!(string.len() <= STRING_BYTES_MAX, "longer than allowed");
    }
}
