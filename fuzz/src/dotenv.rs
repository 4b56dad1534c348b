//! Any bytes as a `.env` file: a complaint names a line of it, and what is read is read again
//! when it is written down plainly.

use std::fmt::Write as _;

use slapback::env::{Entry, parse_dotenv, read_value};

/// Reads the file, writes what it says, and reads that.
pub fn run(text: &[u8]) {
    let outer = |name: &str| (name == "OUTER").then(|| "outside".to_owned());
    let breaks = text.iter().filter(|byte| matches!(byte, b'\n' | b'\r'));
    let lines = 1..=1 + breaks.count();
    let said = match parse_dotenv(text, outer) {
        Ok(said) => said,
        Err(error) => return assert!(lines.contains(&error.line), "{error}"),
    };
    let mut plain = String::new();
    for entry in &said {
        assert!(lines.contains(&entry.line));
        let _ = read_value(&entry.value);
        writeln!(plain, "{}={}", entry.name, quoted(&entry.value)).expect("a string takes all");
    }
    let again = parse_dotenv(plain.as_bytes(), |_| None).expect("it is written plainly");
    let pairs = |entries: Vec<Entry>| -> Vec<(String, String)> {
        let pair = |entry: Entry| (entry.name, entry.value);
        entries.into_iter().map(pair).collect()
    };
    assert_eq!(pairs(again), pairs(said));
}

/// A value in double quotes, all in it that means something escaped.
fn quoted(value: &str) -> String {
    let mut out = String::from('"');
    for letter in value.chars() {
        match letter {
            '\\' | '"' | '$' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            _ => out.push(letter),
        }
    }
    out.push('"');
    out
}
