//! The lines of `--debug`, as Reverb prints them: never a signature in them.
//!
//! Called where the thing happens; costs one comparison while `--debug` is off.

use std::borrow::Cow;
use std::fmt::Display;

use tracing::{Level, debug, enabled};

/// Bodies are cut here, characters.
const BODY_MAX: usize = 200;

/// Where the second column begins.
const COLUMN: usize = 40;

/// One line of two columns.
pub fn line(title: &str, value: &dyn Display) {
    if enabled!(Level::DEBUG) {
        let dots = ".".repeat(COLUMN.saturating_sub(title.len()));
        debug!("{title} {dots} {value}");
    }
}

/// The same, with a message's body behind it.
pub fn line_with_body(title: &str, value: &dyn Display, body: &[u8]) {
    if enabled!(Level::DEBUG) {
        line(title, value);
        let text = String::from_utf8_lossy(body);
        let masked = mask(&text);
        let end = masked
            .char_indices()
            .nth(BODY_MAX)
            .map_or(masked.len(), |(end, _)| end);
        let shown = masked.get(..end).unwrap_or_default();
        // A line break in a body must not look like another line of ours.
        debug!("{}", shown.replace(char::is_control, " "));
    }
}

/// Puts stars in place of every `auth` value, also in JSON inside a string.
fn mask(text: &str) -> Cow<'_, str> {
    if !text.contains("auth") {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut parts = text.split("auth");
    masked.push_str(parts.next().unwrap_or_default());
    for part in parts {
        masked.push_str("auth");
        let is_open = |letter: char| matches!(letter, '\\' | '"' | ':' | ' ' | '\t' | '\r' | '\n');
        let value = part.trim_start_matches(is_open);
        let opened = part.get(..part.len() - value.len()).unwrap_or_default();
        masked.push_str(opened);
        masked.push_str("***");
        masked.push_str(value.get(value_end(opened, value)..).unwrap_or_default());
    }
    Cow::Owned(masked)
}

/// Where a JSON value ends whose opening quote, if any, ends `opened`.
fn value_end(opened: &str, value: &str) -> usize {
    let end = if opened.ends_with("\\\"") {
        value.find("\\\"")
    } else if opened.ends_with('"') {
        let mut quotes = value.match_indices('"').map(|(at, _)| at);
        quotes.find(|&at| !value.get(..at).is_some_and(|before| before.ends_with('\\')))
    } else {
        value.find([',', '}'])
    };
    end.unwrap_or(value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_never_shown() {
        assert_eq!(
            mask(r#"{"event":"e","data":{"auth":"key-1:abc","channel":"private-a"}}"#),
            r#"{"event":"e","data":{"auth":"***","channel":"private-a"}}"#
        );
        assert_eq!(
            mask(r#"{"data":"{\"auth\" : \"key-1:abc\",\"channel\":\"c\"}"}"#),
            r#"{"data":"{\"auth\" : \"***\",\"channel\":\"c\"}"}"#
        );
        assert_eq!(mask(r#"{"auth":"key-1:abc"#), r#"{"auth":"***"#);
        assert_eq!(mask(r#"{"auth":"key\/1:abc"}"#), r#"{"auth":"***"}"#);
        assert_eq!(mask(r#"{"auth":5}"#), r#"{"auth":***}"#);
    }
}
