//! Percent-encoding, of paths and of query strings.
//!
//! Called by `api` and `auth`. A broken escape stays as it is; what comes out may be no UTF-8.

use std::borrow::Cow;

use crate::hex;

/// Decodes a text in which `+` stands for `plus`; borrows it if there is nothing to decode.
pub fn decoded(text: &str, plus: u8) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        let (decoded, behind) = match (byte, tail) {
            (b'%', [high, low, behind @ ..]) => match (hex::value(*high), hex::value(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => (b'%', tail),
            },
            (b'+', _) => (plus, tail),
            _ => (*byte, tail),
        };
        out.push(decoded);
        rest = behind;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_either_case_are_decoded_and_broken_ones_stay() {
        let cases: [(&str, &[u8]); 6] = [
            ("a%2Db%2d", b"a-b-"),
            ("%ff", b"\xff"),
            ("%", b"%"),
            ("%2", b"%2"),
            ("%zz%41", b"%zzA"),
            ("%%41", b"%A"),
        ];
        for (text, bytes) in cases {
            assert_eq!(&*decoded(text, b'+'), bytes, "{text}");
        }
    }

    #[test]
    fn a_plus_is_what_the_caller_says() {
        assert_eq!(&*decoded("a+b%2B", b' '), b"a b+");
        assert_eq!(&*decoded("a+b%2B", b'+'), b"a+b+");
    }
}
