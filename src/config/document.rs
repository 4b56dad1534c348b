//! A configuration file as a tree, read from JSON or TOML; every value knows its line.
//!
//! Called by `file`. It knows of no key and never shows a value, for some are secrets.

use std::fmt::Write as _;
use std::path::Path;

use ahash::AHashMap;
use jsonc_parser::ast;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What JSON and TOML can both say.
#[derive(Debug)]
pub(super) enum Value {
    /// JSON alone has it.
    Null,
    Truth(bool),
    /// As it is written; need not be whole.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// Dates, and numbers that are not decimal: nothing here is one.
    Other,
}

/// A key of a table with its value; the key stands on a line of its own.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

/// The entry of a key.
pub(super) fn entry<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.key == key)
}

/// What is wrong with a file, and where.
#[derive(Debug)]
pub(super) struct Complaint {
    /// Counted from 1.
    pub(super) line: usize,
    /// The key, and what is wrong with it.
    pub(super) problem: String,
}

impl Complaint {
    pub(super) fn new(line: usize, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { line, problem }
    }
}

/// Reads a file as its extension says, and without a known one as it looks.
pub(super) fn parse(path: &Path, text: &str) -> Result<Node, Complaint> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with("<?") {
        return Err(Complaint::new(1, PHP));
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "json" => parse_json(text),
        "toml" => parse_toml(text),
        _ if text.trim_start().starts_with('{') => parse_json(text),
        _ => parse_toml(text).map_err(|complaint| Complaint {
            problem: format!("{}{READ_AS_TOML}", complaint.problem),
            ..complaint
        }),
    }
}

fn parse_json(text: &str) -> Result<Node, Complaint> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICT)
        .map_err(|error| Complaint::new(error.line_display(), format!("JSON: {}", error.kind())))?;
    let value = parsed
        .value
        .ok_or_else(|| Complaint::new(1, "the file is empty"))?;
    Tree::new(text).of_json(value)
}

fn parse_toml(text: &str) -> Result<Node, Complaint> {
    let mut tree = Tree::new(text);
    match DeTable::parse(text) {
        Ok(table) => Ok(Node {
            line: 1,
            value: tree.of_table(table.into_inner()),
        }),
        Err(error) => {
            let position = error.span().map_or(0, |span| span.start);
            Err(Complaint::new(tree.line_at(position), error.message()))
        }
    }
}

/// Makes nodes of what the parsers give.
struct Tree {
    /// Where each line but the first begins, rising.
    lines: Vec<usize>,
    /// The key that is being read, such as `apps.apps[0].key`.
    path: String,
}

impl Tree {
    fn new(text: &str) -> Self {
        let feeds = memchr::memchr_iter(b'\n', text.as_bytes());
        Self {
            lines: feeds.map(|feed| feed + 1).collect(),
            path: String::new(),
        }
    }

    fn line_at(&self, position: usize) -> usize {
        1 + self.lines.partition_point(|&begin| begin <= position)
    }

    fn of_json(&mut self, value: ast::Value<'_>) -> Result<Node, Complaint> {
        use jsonc_parser::common::Ranged as _;
        let line = self.line_at(value.start());
        let value = match value {
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::BooleanLit(truth) => Value::Truth(truth.value),
            ast::Value::NumberLit(number) => Value::Number(number.value.to_owned()),
            ast::Value::StringLit(text) => Value::Text(text.value.into_owned()),
            ast::Value::Array(array) => {
                let depth = self.path.len();
                let mut items = Vec::with_capacity(array.elements.len());
                for (at, item) in array.elements.into_iter().enumerate() {
                    // Writing to a string cannot fail.
                    let _ = write!(self.path, "[{at}]");
                    items.push(self.of_json(item)?);
                    self.path.truncate(depth);
                }
                Value::List(items)
            }
            ast::Value::Object(object) => Value::Table(self.of_object(object)?),
        };
        Ok(Node { line, value })
    }

    fn of_object(&mut self, object: ast::Object<'_>) -> Result<Vec<Entry>, Complaint> {
        use jsonc_parser::common::Ranged as _;
        let depth = self.path.len();
        let mut entries = Vec::with_capacity(object.properties.len());
        let mut seen: AHashMap<String, usize> = AHashMap::new();
        for property in object.properties {
            let line = self.line_at(property.start());
            let key = property.name.as_str().to_owned();
            if depth > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            if let Some(first) = seen.insert(key.clone(), line) {
                let problem = format!("{}: is given twice, first on line {first}", self.path);
                return Err(Complaint::new(line, problem));
            }
            let node = self.of_json(property.value)?;
            self.path.truncate(depth);
            entries.push(Entry { key, line, node });
        }
        Ok(entries)
    }

    fn of_table(&mut self, table: DeTable<'_>) -> Value {
        let entry = |(key, value): (Spanned<_>, Spanned<DeValue<'_>>)| Entry {
            line: self.line_at(key.span().start),
            key: std::borrow::Cow::into_owned(key.into_inner()),
            node: self.of_toml(value),
        };
        Value::Table(table.into_iter().map(entry).collect())
    }

    fn of_toml(&mut self, value: Spanned<DeValue<'_>>) -> Node {
        let line = self.line_at(value.span().start);
        let value = match value.into_inner() {
            DeValue::Boolean(truth) => Value::Truth(truth),
            DeValue::Integer(number) if number.radix() == 10 => {
                Value::Number(number.as_str().to_owned())
            }
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Array(items) => {
                Value::List(items.into_iter().map(|item| self.of_toml(item)).collect())
            }
            DeValue::Table(table) => self.of_table(table),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => Value::Other,
        };
        Node { line, value }
    }
}

/// JSON as PHP writes it, and nothing beyond.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};
const READ_AS_TOML: &str = " (the file is read as TOML: it is not named .json, nor does it begin \
     with a brace)";
const PHP: &str = "PHP is not read: php artisan tinker --execute 'echo \
     json_encode(config(\"reverb\"));' prints it as JSON";
