//! Hexadecimal digits. Called wherever bytes are written or read as such; it keeps nothing.

/// The lower-case digit of a number below 16.
pub fn digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + nibble - 10
    }
}

/// The number a digit of either case stands for.
pub fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Two lower-case digits for each byte.
pub fn encode(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let pair = |&byte: &u8| [digit(byte >> 4), digit(byte & 0xf)];
    bytes.iter().flat_map(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_two_digits_that_are_read_back() {
        for byte in 0..=u8::MAX {
            let digits: Vec<u8> = encode(&[byte]).collect();
            assert_eq!(digits, format!("{byte:02x}").as_bytes());
            let read = |digit: u8| value(digit).unwrap();
            assert_eq!(read(digits[0]) << 4 | read(digits[1]), byte);
            assert_eq!(value(digits[0].to_ascii_uppercase()), value(digits[0]));
        }
        for stranger in [b'/', b':', b'@', b'G', b'`', b'g'] {
            assert_eq!(value(stranger), None);
        }
    }
}
