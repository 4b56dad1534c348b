//! Where a setting may be said: a flag, a table of the file, the environment; and what is found.
//!
//! Called by `reader`. A source tells what it holds as it is written, and never what that means.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use super::document::{self, Node};
use super::file::Spelling;
use super::flags::Flags;
use crate::env::{self, Environment};

/// The names of one setting; empty where it has none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    /// The variable of the environment.
    pub(super) variable: &'static str,
    /// The key in a table of the file, with dots for tables in it.
    pub(super) key: &'static str,
    /// The flag of the command line.
    pub(super) flag: &'static str,
    /// What its number counts.
    pub(super) unit: &'static str,
    /// What a report puts before the key, where the table alone does not tell whose it is.
    heading: &'static str,
}

/// A setting that only a variable can say, until it is given more names.
pub(super) const fn variable(variable: &'static str) -> Setting {
    Setting {
        variable,
        key: "",
        flag: "",
        unit: "",
        heading: "",
    }
}

impl Setting {
    pub(super) const fn key(self, key: &'static str) -> Self {
        Self { key, ..self }
    }

    pub(super) const fn flag(self, flag: &'static str) -> Self {
        Self { flag, ..self }
    }

    pub(super) const fn counts(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    pub(super) const fn under(self, heading: &'static str) -> Self {
        Self { heading, ..self }
    }

    /// What a report calls it.
    pub(super) fn label(&self) -> String {
        if self.key.is_empty() {
            let name = self.variable.trim_start_matches("SLAPBACK_");
            name.trim_start_matches("REVERB_").to_ascii_lowercase()
        } else {
            format!("{}{}", self.heading, self.key)
        }
    }
}

/// Something that may say what a setting is.
pub(super) trait Source {
    /// What it says; `None` if nothing, or null.
    fn find(&self, setting: &Setting) -> Option<Found<'_>>;

    /// Where it would say it.
    fn place(&self, setting: &Setting) -> Origin;
}

/// What a source says of one setting.
pub(super) struct Found<'a> {
    pub(super) said: Said<'a>,
    pub(super) manner: Manner,
    pub(super) origin: Origin,
}

impl Found<'_> {
    /// Laravel writes an empty text where nothing is set: the default counts.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.said, Said::Empty) && self.manner != Manner::File(Spelling::Short)
    }
}

/// How it is written.
pub(super) enum Said<'a> {
    /// A text without letters.
    Empty,
    Truth(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
    List(&'a [Node]),
    /// A table, a date.
    Other,
}

/// Whose habits count for how truths, lists and numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// The command line and the environment: all is text.
    Words,
    /// A file in one of the two spellings.
    File(Spelling),
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody says anything.
    Default,
    /// A flag of the command line.
    Flag(&'static str),
    /// A key of the file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The full key, such as `apps[0].secret`.
        key: String,
    },
    /// A variable of the process.
    Variable(&'static str),
    /// A variable of `.env`.
    Dotenv {
        /// Its name.
        variable: &'static str,
        /// Counted from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::Flag(flag) => out.write_str(flag),
            Self::File { path, line, key } => {
                write!(out, "{}, line {line}: {key}", path.display())
            }
            Self::Variable(variable) => out.write_str(variable),
            Self::Dotenv { variable, line } => write!(out, ".env, line {line}: {variable}"),
        }
    }
}

impl Source for Flags {
    fn find(&self, setting: &Setting) -> Option<Found<'_>> {
        let word = match setting.flag {
            "--host" => self.host.as_deref(),
            "--port" => self.port.as_deref(),
            "--path" => self.path.as_deref(),
            "--hostname" => self.hostname.as_deref(),
            "--config" => self.config.as_deref(),
            _ => None,
        };
        // A flag given as an empty word, such as `--port=$UNSET`, counts as not given.
        let word = word.filter(|word| !word.is_empty())?;
        Some(Found {
            said: Said::Text(word.into()),
            manner: Manner::Words,
            origin: Origin::Flag(setting.flag),
        })
    }

    fn place(&self, setting: &Setting) -> Origin {
        Origin::Flag(setting.flag)
    }
}

impl Source for Environment {
    fn find(&self, setting: &Setting) -> Option<Found<'_>> {
        let variable = setting.variable;
        let said = match self.get(variable)? {
            env::Value::Null => Said::Empty,
            env::Value::Text(text) if text.is_empty() => Said::Empty,
            env::Value::Bool(truth) => Said::Truth(truth),
            env::Value::Text(text) => Said::Text(text.into()),
        };
        let origin = match self.source(variable)? {
            env::Source::Process => Origin::Variable(variable),
            env::Source::Dotenv { line } => Origin::Dotenv { variable, line },
        };
        let manner = Manner::Words;
        Some(Found {
            said,
            manner,
            origin,
        })
    }

    fn place(&self, setting: &Setting) -> Origin {
        Origin::Variable(setting.variable)
    }
}

/// One table of the file.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) spelling: Spelling,
    /// Its full name, such as `servers.reverb`.
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) entries: Vec<document::Entry>,
}

impl Table {
    fn origin(&self, line: usize, key: &str) -> Origin {
        Origin::File {
            path: self.path.clone(),
            line,
            key: format!("{}.{key}", self.name),
        }
    }
}

impl Source for Table {
    fn find(&self, setting: &Setting) -> Option<Found<'_>> {
        if setting.key.is_empty() {
            return None;
        }
        let mut entries = &self.entries;
        let (tables, key) = setting
            .key
            .rsplit_once('.')
            .map_or((None, setting.key), |(tables, key)| (Some(tables), key));
        for name in tables.into_iter().flat_map(|tables| tables.split('.')) {
            match &document::entry(entries, name)?.node.value {
                document::Value::Table(inner) => entries = inner,
                _ => return None,
            }
        }
        let entry = document::entry(entries, key)?;
        let said = match &entry.node.value {
            document::Value::Null => return None,
            document::Value::Truth(truth) => Said::Truth(*truth),
            document::Value::Number(number) => Said::Number(number),
            document::Value::Text(text) if text.is_empty() => Said::Empty,
            document::Value::Text(text) => Said::Text(text.into()),
            document::Value::List(items) => Said::List(items),
            document::Value::Table(_) | document::Value::Other => Said::Other,
        };
        Some(Found {
            said,
            manner: Manner::File(self.spelling),
            origin: self.origin(entry.line, setting.key),
        })
    }

    fn place(&self, setting: &Setting) -> Origin {
        self.origin(self.line, setting.key)
    }
}
