//! The environment: one value as Laravel's `env()` reads it, `.env` as phpdotenv reads it.
//!
//! Called by `config` and `main`. Never decides what a name means and never shows a value in
//! an error, for most values here are secrets.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;

/// One value as Laravel's `env()` hands it to a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null` or `(null)`.
    Null,
    /// `true`, `(true)`, `false` or `(false)`.
    Bool(bool),
    /// All else, one pair of surrounding quotes removed; empty for `empty` and `(empty)`.
    Text(String),
}

/// Reads one raw value as `env()` does; words count in any case, quoted words stay text.
pub fn read_value(raw: &str) -> Value {
    match raw.to_ascii_lowercase().as_str() {
        "true" | "(true)" => Value::Bool(true),
        "false" | "(false)" => Value::Bool(false),
        "null" | "(null)" => Value::Null,
        "empty" | "(empty)" => Value::Text(String::new()),
        _ => Value::Text(unquoted(raw).to_owned()),
    }
}

fn unquoted(raw: &str) -> &str {
    let inside = |quote| raw.strip_prefix(quote)?.strip_suffix(quote);
    match inside('"').or_else(|| inside('\'')) {
        Some(text) if !text.contains('\n') => text,
        _ => raw,
    }
}

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The environment of the process.
    Process,
    /// The `.env` file.
    Dotenv {
        /// The line, counted from 1; of a multi-line value its first.
        line: usize,
    },
}

/// The environment of the process laid over `.env`.
///
/// A name that the process has, even with an empty value, hides the one in `.env`.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    process: HashMap<String, String>,
    dotenv: HashMap<String, Entry>,
}

/// One assignment of a `.env` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The value, quotes, escapes and `${NAME}`s resolved.
    pub value: String,
    /// Its line, counted from 1; of a multi-line value its first.
    pub line: usize,
}

impl Environment {
    /// Lays the variables of the process over the text of a `.env` file, if there is one.
    pub fn new(
        process: impl IntoIterator<Item = (OsString, OsString)>,
        dotenv: Option<&[u8]>,
    ) -> Result<Self, DotenvError> {
        // A name that is not UTF-8 is none of ours. A value that is not UTF-8 can match nothing
        // that a client sends, so replacing the broken bytes loses nothing.
        let process: HashMap<_, _> = process
            .into_iter()
            .filter_map(|(name, value)| {
                Some((
                    name.into_string().ok()?,
                    value.to_string_lossy().into_owned(),
                ))
            })
            .collect();
        let outer = |name: &str| process.get(name).cloned();
        let dotenv = parse_dotenv(dotenv.unwrap_or_default(), outer)?
            .into_iter()
            .map(|entry| (entry.name.clone(), entry))
            .collect();
        Ok(Self { process, dotenv })
    }

    /// The value of a name; `None` if neither the process nor `.env` has it.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.process
            .get(name)
            .or_else(|| self.dotenv.get(name).map(|entry| &entry.value))
            .map(|raw| read_value(raw))
    }

    /// Where [`Environment::get`] finds the name.
    pub fn source(&self, name: &str) -> Option<Source> {
        if self.process.contains_key(name) {
            return Some(Source::Process);
        }
        let line = self.dotenv.get(name)?.line;
        Some(Source::Dotenv { line })
    }
}

/// A line of `.env` that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(".env, line {line}: {problem}")]
pub struct DotenvError {
    /// Counted from 1; of a multi-line value its first line.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a line of `.env`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Bytes that are not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// `=value`.
    #[error("there is no name before the equals sign")]
    NameMissing,
    /// Something else than letters, digits, `_` and `.` in a name.
    #[error("a name may hold only letters, digits, `_` and `.`")]
    NameInvalid,
    /// `NAME="value` up to the end of the file, or `NAME='value`.
    #[error("a quote is opened and never closed")]
    QuoteOpen,
    /// `NAME=two words`.
    #[error("a value with spaces must stand in quotes")]
    SpaceUnquoted,
    /// A backslash before a character that it cannot escape.
    #[error("a backslash in double quotes may stand only before \\ \" $ f n r t v")]
    EscapeUnknown,
    /// A value, its `${NAME}`s filled in, of more than 64 KiB.
    #[error("the value is longer than 64 KiB")]
    TooLong,
}

/// Reads the text of a `.env` file as phpdotenv does; of one name given twice the last counts.
///
/// `outer` gives the variables of the process, which `${NAME}` sees before those of the file;
/// a `${NAME}` that nobody knows stays as it is written. The answer is sorted by name.
pub fn parse_dotenv(
    text: &[u8],
    outer: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Entry>, DotenvError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|error| {
        let valid = text.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + memchr::memchr_iter(b'\n', valid).count();
        DotenvError {
            line,
            problem: Problem::NotUtf8,
        }
    })?;
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for (line, statement) in statements(text)? {
        let broken = |problem| DotenvError { line, problem };
        let (name, raw) = match statement.split_once('=') {
            Some((name, raw)) => (name, Some(raw.trim_matches(PADDING))),
            None => (statement.as_str(), None),
        };
        let name = parse_name(name.trim_matches(PADDING)).map_err(broken)?;
        let Some(raw) = raw else {
            entries.remove(name); // a bare name unsets what stood above
            continue;
        };
        let known = |name: &str| outer(name).or_else(|| value_of(&entries, name));
        let value = parse_value(raw)
            .and_then(|value| value.fill_in(known))
            .map_err(broken)?;
        let name = name.to_owned();
        entries.insert(name.clone(), Entry { name, value, line });
    }
    Ok(entries.into_values().collect())
}

fn value_of(entries: &BTreeMap<String, Entry>, name: &str) -> Option<String> {
    entries.get(name).map(|entry| entry.value.clone())
}

/// Cuts the text into statements with the number of their first line; comments are left out.
fn statements(text: &str) -> Result<Vec<(usize, String)>, DotenvError> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in lines(text).enumerate() {
        if let Some((start, mut value)) = open.take() {
            value.push('\n');
            value.push_str(line);
            if stays_open(line) {
                open = Some((start, value));
            } else {
                found.push((start, value));
            }
        } else if is_comment(line) {
            // phpdotenv lets a lone quote in a comment swallow the lines below; nobody means that.
        } else if opens_quote(line) {
            open = Some((index + 1, line.to_owned()));
        } else {
            found.push((index + 1, line.to_owned()));
        }
    }
    match open {
        Some((line, _)) => Err(DotenvError {
            line,
            problem: Problem::QuoteOpen,
        }),
        None => Ok(found),
    }
}

/// Splits at LF, CRLF and a lone CR.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .flat_map(|line| line.split('\r'))
}

/// Whether there is nothing on the line, or only a comment.
fn is_comment(line: &str) -> bool {
    matches!(line.trim_matches(PADDING).chars().next(), None | Some('#'))
}

/// Whether the line is `NAME="…` and the quote is still open at its end.
fn opens_quote(line: &str) -> bool {
    let value = line
        .split_once('=')
        .and_then(|(_, value)| value.strip_prefix('"'));
    value.is_some_and(stays_open)
}

/// Whether double quotes that are open before the text are open after it.
fn stays_open(text: &str) -> bool {
    let mut escaped = false;
    for byte in text.bytes() {
        if byte == b'"' && !escaped {
            return false;
        }
        escaped = byte == b'\\' && !escaped;
    }
    true
}

fn parse_name(text: &str) -> Result<&str, Problem> {
    let name = match text.strip_prefix("export") {
        Some(rest) if rest.starts_with(is_space) => rest.trim_start_matches(is_space),
        _ => text,
    };
    let inside = |quote| name.strip_prefix(quote)?.strip_suffix(quote);
    let name = inside('"').or_else(|| inside('\'')).unwrap_or(name);
    if text.is_empty() {
        Err(Problem::NameMissing)
    } else if name.is_empty()
        || !name
            .chars()
            .all(|letter| letter.is_alphanumeric() || "_.".contains(letter))
    {
        Err(Problem::NameInvalid)
    } else {
        Ok(name)
    }
}

/// A value without its quotes, comment and escapes.
#[derive(Default)]
struct Template {
    text: String,
    /// Byte positions of the `$` signs that may start a `${NAME}`, rising.
    dollars: Vec<usize>,
}

impl Template {
    /// Fills in the `${NAME}`s from the last to the first, as phpdotenv does, so that one may
    /// name another: `${A${B}}`.
    fn fill_in(self, known: impl Fn(&str) -> Option<String>) -> Result<String, Problem> {
        let Self { mut text, dollars } = self;
        for dollar in dollars.into_iter().rev() {
            if text.len() > VALUE_BYTES_MAX {
                break;
            }
            let rest = text.get(dollar..).and_then(|rest| rest.strip_prefix("${"));
            let Some((name, _)) = rest.and_then(|rest| rest.split_once('}')) else {
                continue;
            };
            if let Some(value) = known(name) {
                let end = dollar + "${}".len() + name.len();
                text.replace_range(dollar..end, &value);
            }
        }
        if text.len() > VALUE_BYTES_MAX {
            Err(Problem::TooLong)
        } else {
            Ok(text)
        }
    }
}

/// Where in a value the parser stands.
#[derive(Clone, Copy)]
enum State {
    Start,
    Bare,
    Single,
    Double,
    Escape,
    /// After the value: only space or a comment may follow.
    Ended,
}

fn parse_value(raw: &str) -> Result<Template, Problem> {
    let mut value = Template::default();
    let mut state = State::Start;
    for letter in raw.chars() {
        state = match (state, letter) {
            (State::Start, '\'') => State::Single,
            (State::Start, '"') => State::Double,
            (State::Start | State::Bare | State::Ended, '#') => return Ok(value),
            (State::Single | State::Double, _) if ends_quote(state, letter) => State::Ended,
            (State::Double, '\\') => State::Escape,
            (State::Escape, _) => {
                value.text.push(unescaped(letter)?);
                State::Double
            }
            (State::Bare | State::Ended, _) if is_space(letter) => State::Ended,
            (State::Ended, _) => return Err(Problem::SpaceUnquoted),
            (State::Start | State::Bare | State::Single | State::Double, _) => {
                if letter == '$' && !matches!(state, State::Single) {
                    value.dollars.push(value.text.len());
                }
                value.text.push(letter);
                if matches!(state, State::Start) {
                    State::Bare
                } else {
                    state
                }
            }
        };
    }
    match state {
        State::Start | State::Bare | State::Ended => Ok(value),
        State::Single | State::Double | State::Escape => Err(Problem::QuoteOpen),
    }
}

fn ends_quote(state: State, letter: char) -> bool {
    matches!(
        (state, letter),
        (State::Single, '\'') | (State::Double, '"')
    )
}

fn unescaped(letter: char) -> Result<char, Problem> {
    match letter {
        '\\' | '"' | '$' => Ok(letter),
        'f' => Ok('\x0c'),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'v' => Ok('\x0b'),
        _ => Err(Problem::EscapeUnknown),
    }
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// What PHP's `trim` takes away.
const PADDING: [char; 6] = [' ', '\t', '\n', '\r', '\x0b', '\0'];

const VALUE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
