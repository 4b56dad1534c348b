//! Reads settings from sources laid over one another, and keeps what each came to be and why.
//!
//! Called by `server` and `app`, with the forms below: what a value may be. An error names the
//! place; neither errors nor rows hold a secret.

use std::fmt;

use super::ConfigError;
use super::document::Value;
use super::file::Spelling;
use super::source::{Found, Manner, Origin, Said, Setting, Source};

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What the setting is called.
    pub label: String,
    /// The variable that can say it.
    pub variable: &'static str,
    /// What it is, secrets masked.
    pub value: String,
    /// What a number counts; empty if there is nothing to add.
    pub unit: &'static str,
    /// Who says so.
    pub origin: Origin,
}

/// What was read of the server or of one app, row by row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// `server`, or the app.
    pub title: String,
    /// In the order read.
    pub rows: Vec<Row>,
}

/// Reads settings; of several sources the first that says anything counts.
pub(super) struct Reader<'a> {
    sources: Vec<&'a dyn Source>,
    pub(super) rows: Vec<Row>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: Vec<&'a dyn Source>) -> Self {
        Self {
            sources,
            rows: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// What the first source says that says anything.
    pub(super) fn find(&self, setting: &Setting) -> Option<Found<'a>> {
        self.sources.iter().find_map(|source| source.find(setting))
    }

    /// Tells, as a warning, if a source that counts more speaks of `strong` than any of `weak`.
    pub(super) fn overruled(&self, weak: &Setting, strong: &Setting) -> Option<String> {
        let first = |setting| {
            let mut sources = self.sources.iter().enumerate();
            sources.find_map(|(rank, source)| {
                let found = source.find(setting).filter(|found| !found.is_nothing())?;
                Some((rank, found.origin))
            })
        };
        let ((strong_rank, strong), (weak_rank, weak)) = (first(strong)?, first(weak)?);
        (strong_rank < weak_rank).then(|| format!("{weak} is ignored: {strong} counts more"))
    }

    /// Reads a setting that has a default.
    pub(super) fn read<T: fmt::Display>(
        &mut self,
        setting: Setting,
        form: impl Fn(&Found<'_>) -> Result<T, String>,
        default: T,
    ) -> Result<T, ConfigError> {
        let (value, origin) = self.look(&setting, form)?;
        let value = value.unwrap_or(default);
        self.note(&setting, value.to_string(), setting.unit, origin);
        Ok(value)
    }

    /// Reads a setting that may be left unset; `unset` says what that means.
    pub(super) fn read_optional<T: fmt::Display>(
        &mut self,
        setting: Setting,
        form: impl Fn(&Found<'_>) -> Result<T, String>,
        unset: &str,
    ) -> Result<Option<T>, ConfigError> {
        let (value, origin) = self.look(&setting, form)?;
        match &value {
            Some(value) => self.note(&setting, value.to_string(), setting.unit, origin),
            None => self.note(&setting, unset.to_owned(), "", origin),
        }
        Ok(value)
    }

    /// Reads a name that must be there.
    pub(super) fn require(&mut self, setting: Setting) -> Result<String, ConfigError> {
        let (value, origin) = self.name(&setting)?;
        self.note(&setting, value.clone(), "", origin);
        Ok(value)
    }

    /// Reads a secret that must be there; it is kept out of the rows.
    pub(super) fn require_secret(&mut self, setting: Setting) -> Result<String, ConfigError> {
        let (value, origin) = self.name(&setting)?;
        self.note(&setting, MASK.to_owned(), "", origin);
        Ok(value)
    }

    fn name(&self, setting: &Setting) -> Result<(String, Origin), ConfigError> {
        let (value, origin) = self.look(setting, name)?;
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            return Ok((value, origin));
        }
        let nowhere = self.sources.first().map(|source| source.place(setting));
        let origin = match origin {
            Origin::Default => nowhere.unwrap_or(Origin::Default),
            origin => origin,
        };
        let problem = "is missing or empty".to_owned();
        Err(ConfigError::Setting { origin, problem })
    }

    /// Looks for a text that says something even if it is empty.
    pub(super) fn look_for_text(
        &self,
        setting: &Setting,
    ) -> Result<Option<(String, Origin)>, ConfigError> {
        let Some(found) = self.find(setting) else {
            return Ok(None);
        };
        match text(&found) {
            Ok(text) => Ok(Some((text, found.origin))),
            Err(problem) => Err(ConfigError::Setting {
                origin: found.origin,
                problem,
            }),
        }
    }

    /// Looks for a setting without a row.
    pub(super) fn look<T>(
        &self,
        setting: &Setting,
        form: impl Fn(&Found<'_>) -> Result<T, String>,
    ) -> Result<(Option<T>, Origin), ConfigError> {
        match self.find(setting) {
            None => Ok((None, Origin::Default)),
            Some(found) if found.is_nothing() => Ok((None, found.origin)),
            Some(found) => match form(&found) {
                Ok(value) => Ok((Some(value), found.origin)),
                Err(problem) => Err(ConfigError::Setting {
                    origin: found.origin,
                    problem,
                }),
            },
        }
    }

    /// Adds a row.
    pub(super) fn note(
        &mut self,
        setting: &Setting,
        value: String,
        unit: &'static str,
        origin: Origin,
    ) {
        let value = if value.is_empty() {
            NONE.to_owned()
        } else {
            value
        };
        self.rows.push(Row {
            label: setting.label(),
            variable: setting.variable,
            value,
            unit,
            origin,
        });
    }
}

/// A text.
pub(super) fn text(found: &Found<'_>) -> Result<String, String> {
    match &found.said {
        Said::Text(text) => Ok(text.clone().into_owned()),
        Said::Truth(truth) if found.manner == Manner::Words => Ok(truth.to_string()),
        Said::Empty => Ok(String::new()),
        _ => Err("must be a text in quotes".to_owned()),
    }
}

/// A text that may be written as a bare number, as ids are.
pub(super) fn name(found: &Found<'_>) -> Result<String, String> {
    match found.said {
        Said::Number(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(digits.to_owned())
        }
        _ => text(found),
    }
}

/// A whole number between two bounds.
pub(super) fn whole<T>(min: u64, max: T) -> impl Fn(&Found<'_>) -> Result<T, String>
where
    T: TryFrom<u64> + TryInto<u64>,
{
    let max = max.try_into().unwrap_or(u64::MAX);
    move |found| {
        let wrong = || match max {
            LARGEST.. => format!("must be a whole number, at least {min}"),
            _ => format!("must be a whole number from {min} to {max}"),
        };
        let digits = match &found.said {
            Said::Number(digits) => digits,
            Said::Text(text) => text.trim(),
            _ => return Err(wrong()),
        };
        let value = digits.parse().ok();
        let value = value.filter(|value| (min..=max).contains(value));
        let value = value.and_then(|value| T::try_from(value).ok());
        value.ok_or_else(wrong)
    }
}

/// True or false, in the words people use for it.
pub(super) fn truth(found: &Found<'_>) -> Result<bool, String> {
    let word = match &found.said {
        Said::Truth(truth) => return Ok(*truth),
        Said::Number(word) => word,
        Said::Text(word) => word.trim(),
        _ => "",
    };
    match word.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// True or false where PHP casts to it, so that "off" and "no" are true; the short
/// spelling has no such habits.
pub(super) fn php_truth(found: &Found<'_>) -> Result<bool, String> {
    if found.manner == Manner::File(Spelling::Short) {
        return truth(found);
    }
    Ok(match &found.said {
        Said::Empty => false,
        Said::Truth(truth) => *truth,
        Said::Number(number) => number.parse() != Ok(0.0),
        Said::Text(text) => text != "0",
        Said::List(items) => !items.is_empty(),
        Said::Other => true,
    })
}

/// Names: a list in the file, parted by commas in the environment.
pub(super) fn names(found: &Found<'_>) -> Result<Names, String> {
    let wrong = || "must be a list of texts, such as [\"*\"]".to_owned();
    match &found.said {
        Said::Text(text) if found.manner == Manner::Words => {
            let names = text.split(',').map(|name| name.trim().to_owned());
            Ok(Names(names.filter(|name| !name.is_empty()).collect()))
        }
        Said::List(items) => {
            let text = |item: &super::document::Node| match &item.value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            };
            let names: Option<_> = items.iter().map(text).collect();
            names.map(Names).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// Some names.
pub(super) struct Names(pub(super) Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join(", "))
    }
}

/// Shown in place of a secret.
pub(super) const MASK: &str = "********";
/// Shown in place of an empty text or list.
pub(super) const NONE: &str = "none";
/// Bounds from here on are not worth telling.
const LARGEST: u64 = 1 << 31;
