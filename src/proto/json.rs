//! JSON read as PHP's `json_decode` reads it, by simd-json, with every value's text kept as sent.
//!
//! [`visit`] checks a document and hands out the children of its outermost list or object, each
//! both decoded and as the slice of the source it came from, so that what is passed on is never
//! encoded again. What is written anew gets PHP's escapes. Called by `event`, `presence` and `api`;
//! it neither recurses nor builds a tree. The one known difference: a number beyond a double
//! (`1e999`), PHP's INF, is refused here.

use std::borrow::Cow;

use simd_json::{Buffers, Node, StaticNode, Tape};

use crate::hex;

/// Nested lists and objects a document may hold; PHP refuses one more.
pub const NESTING_MAX: usize = 511;

/// Buffers reused between documents.
pub struct Workspace {
    copy: Vec<u8>,
    buffers: Buffers,
    nodes: Tape<'static>,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            copy: Vec::new(),
            buffers: Buffers::default(),
            nodes: Tape(Vec::new()),
        }
    }
}

/// A workspace that has read a longer text is given back with the next shorter one.
const KEPT_BYTES: usize = 1 << 20;

/// Not JSON, or nested too deeply.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// One value. Every `raw` is the value's JSON text as it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number as sent.
    Number {
        /// Its digits.
        raw: &'a str,
    },
    /// A string.
    Text {
        /// Decoded.
        text: &'a str,
        /// With its quotes and escapes.
        raw: &'a str,
    },
    /// A list.
    List {
        /// From bracket to bracket.
        raw: &'a str,
    },
    /// An object.
    Object {
        /// From brace to brace.
        raw: &'a str,
    },
}

impl<'a> Value<'a> {
    /// The JSON text as sent.
    pub fn raw(self) -> &'a str {
        match self {
            Self::Null => "null",
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
            Self::Number { raw }
            | Self::Text { raw, .. }
            | Self::List { raw }
            | Self::Object { raw } => raw,
        }
    }

    /// The string PHP makes of a scalar where it wants one; None for null, lists and objects.
    pub fn coerced(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text { text, .. } => Some(Cow::Borrowed(text)),
            Self::Number { raw } => Some(number_text(raw)),
            Self::Bool(true) => Some(Cow::Borrowed("1")),
            Self::Bool(false) => Some(Cow::Borrowed("")),
            Self::Null | Self::List { .. } | Self::Object { .. } => None,
        }
    }
}

/// One child of the outermost list (`key` None) or object.
#[derive(Debug, Clone, Copy)]
pub struct Child<'a> {
    /// The member's name, decoded.
    pub key: Option<&'a str>,
    /// The member's name as sent, quotes included; empty in a list.
    pub key_raw: &'a str,
    /// Its value.
    pub value: Value<'a>,
}

/// Checks `source` whole, then calls `child` for each child of the outermost value in order,
/// duplicate keys included. Returns that outermost value.
pub fn visit<'a>(
    source: &'a str,
    workspace: &'a mut Workspace,
    mut child: impl FnMut(Child<'a>),
) -> Result<Value<'a>, Malformed> {
    if is_nested_too_deeply(source.as_bytes()) {
        return Err(Malformed);
    }
    if workspace.copy.capacity() > KEPT_BYTES && source.len() <= KEPT_BYTES {
        *workspace = Workspace::default();
    }
    workspace.copy.clear();
    workspace.copy.extend_from_slice(source.as_bytes());
    let mut tape = std::mem::replace(&mut workspace.nodes, Tape(Vec::new())).reset();
    let read = simd_json::fill_tape(&mut workspace.copy, &mut workspace.buffers, &mut tape);
    let outermost = match read {
        Ok(()) => walk(source, &tape.0, &mut child),
        Err(_) => Err(Malformed),
    };
    workspace.nodes = tape.reset();
    outermost
}

/// Follows tape and source side by side: the tape has what is decoded, the source what was sent.
fn walk<'a>(
    source: &'a str,
    nodes: &[Node<'a>],
    child: &mut impl FnMut(Child<'a>),
) -> Result<Value<'a>, Malformed> {
    let outermost = trimmed(source);
    let first = *nodes.first().ok_or(Malformed)?;
    let (children, keyed) = match first {
        Node::Object { len, .. } => (len, true),
        Node::Array { len, .. } => (len, false),
        Node::String(_) | Node::Static(_) => (0, false),
    };
    let mut rest = outermost.get(1..).unwrap_or("");
    let mut index = 1;
    for _ in 0..children {
        let (mut key, mut key_raw) = (None, "");
        if keyed {
            let Some(Node::String(name)) = nodes.get(index) else {
                return Err(Malformed);
            };
            key = Some(*name);
            (key_raw, rest) = take_value(rest);
            index += 1;
        }
        let node = *nodes.get(index).ok_or(Malformed)?;
        let raw;
        (raw, rest) = take_value(rest);
        child(Child {
            key,
            key_raw,
            value: value(node, raw),
        });
        index += match node {
            Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
            Node::String(_) | Node::Static(_) => 1,
        };
    }
    Ok(value(first, outermost))
}

fn value<'a>(node: Node<'a>, raw: &'a str) -> Value<'a> {
    match node {
        Node::String(text) => Value::Text { text, raw },
        Node::Object { .. } => Value::Object { raw },
        Node::Array { .. } => Value::List { raw },
        Node::Static(StaticNode::Null) => Value::Null,
        Node::Static(StaticNode::Bool(truth)) => Value::Bool(truth),
        Node::Static(_) => Value::Number { raw },
    }
}

/// Splits the next value off text that is known to be valid; separators before it are skipped.
fn take_value(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(|c| is_whitespace(c) || c == ',' || c == ':');
    let bytes = text.as_bytes();
    let end = match bytes.first() {
        Some(b'"') => string_end(bytes, 0),
        Some(b'{' | b'[') => container_end(bytes),
        _ => bytes
            .iter()
            .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
            .unwrap_or(bytes.len()),
    };
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The position after the string that opens at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(tail) = bytes.get(at..) {
        match memchr::memchr2(b'"', b'\\', tail) {
            Some(found) if tail.get(found) == Some(&b'"') => return at + found + 1,
            Some(found) => at += found + 2,
            None => break,
        }
    }
    bytes.len()
}

/// The position after the list or object that opens at the first byte.
fn container_end(bytes: &[u8]) -> usize {
    let closed = depths(bytes).find(|&(_, depth)| depth == 0);
    closed.map_or(bytes.len(), |(end, _)| end)
}

/// Looked at before anything else reads the document, so it must stand invalid input.
fn is_nested_too_deeply(bytes: &[u8]) -> bool {
    // A level takes two bytes: what is shorter cannot be too deep, which spares the usual message.
    bytes.len() > 2 * NESTING_MAX && depths(bytes).any(|(_, depth)| depth > NESTING_MAX)
}

/// The position after each bracket and brace outside strings, and the depth there.
fn depths(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let (mut at, mut depth) = (0, 0_usize);
    std::iter::from_fn(move || {
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b'"' => {
                    at = string_end(bytes, at - 1);
                    continue;
                }
                _ => continue,
            }
            return Some((at, depth));
        }
        None
    })
}

/// Without the whitespace JSON allows around a value.
pub fn trimmed(text: &str) -> &str {
    text.trim_matches(is_whitespace)
}

fn is_whitespace(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// A JSON number as PHP casts it to a string: `5` stays, `1.0` is `1`, `1e3` is `1000`.
fn number_text(raw: &str) -> Cow<'_, str> {
    const EXACT_MAX: f64 = 1e15;
    if !raw.contains(['.', 'e', 'E']) {
        return Cow::Borrowed(raw);
    }
    match raw.parse::<f64>() {
        Ok(number) if number.abs() < EXACT_MAX => Cow::Owned(number.to_string()),
        _ => Cow::Borrowed(raw),
    }
}

/// PHP's `trim($text) === ''`: how Laravel's validator tells a blank string.
pub fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0b | 0))
}

/// Appends a whole number.
pub fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `text` with the escapes of PHP's `json_encode`, without quotes: `/` as `\/`, all that
/// is not ASCII as `\uXXXX` in UTF-16.
pub fn escape(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some(at) = first_escape(rest.as_bytes()) {
        let (plain, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.extend_from_slice(plain.as_bytes());
        let mut chars = tail.chars();
        let Some(c) = chars.next() else { return };
        escape_char(out, c);
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Appends `text` with the escapes of Symfony's JSON answers, without quotes: as [`escape`] does,
/// and also what HTML could take for its own.
pub fn escape_response(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['"', '<', '>', '&', '\'']) {
        let (plain, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        escape(out, plain);
        let mut chars = tail.chars();
        out.extend_from_slice(chars.next().map_or(b"", escape_in_html));
        rest = chars.as_str();
    }
    escape(out, rest);
}

/// Appends JSON that [`escape`] has written with the escapes of [`escape_response`].
pub fn escape_response_again(out: &mut Vec<u8>, json: &str) {
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(b'"') => out.extend_from_slice(escape_in_html('"')),
                escaped => out.extend([byte].into_iter().chain(escaped)),
            },
            b'<' | b'>' | b'&' | b'\'' => out.extend_from_slice(escape_in_html(byte.into())),
            _ => out.push(byte),
        }
    }
}

fn escape_in_html(c: char) -> &'static [u8] {
    match c {
        '<' => b"\\u003C",
        '>' => b"\\u003E",
        '&' => b"\\u0026",
        '\'' => b"\\u0027",
        '"' => b"\\u0022",
        _ => b"",
    }
}

/// The place of the first byte that needs an escape.
fn first_escape(bytes: &[u8]) -> Option<usize> {
    let (chunks, _) = bytes.as_chunks::<CHUNK_BYTES>();
    let is_plain = |chunk: &&[u8; CHUNK_BYTES]| {
        let any = |any, &byte| any | needs_escape(byte);
        !chunk.iter().fold(false, any)
    };
    let plain = chunks.iter().take_while(is_plain).count() * CHUNK_BYTES;
    let mut rest = bytes.get(plain..)?.iter();
    Some(plain + rest.position(|&byte| needs_escape(byte))?)
}

/// Bytes that are looked at at once: a vector register or two.
const CHUNK_BYTES: usize = 32;

#[expect(
    clippy::needless_bitwise_bool,
    reason = "without branches a whole chunk is looked at in a few instructions"
)]
fn needs_escape(byte: u8) -> bool {
    // As signed numbers, those that are not ASCII are below zero.
    (byte.cast_signed() < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == b'/')
}

fn escape_char(out: &mut Vec<u8>, c: char) {
    let short = match c {
        '"' => b'"',
        '\\' => b'\\',
        '/' => b'/',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        _ => {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.extend_from_slice(b"\\u");
                out.extend(hex::encode(&unit.to_be_bytes()));
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests;
