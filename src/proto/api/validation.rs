//! What is wrong with a call's fields, in Laravel's words and order. Called by the readers of
//! bodies and queries; it refuses, and never reads.

use std::fmt;

use crate::proto::api::{Answer, Refusal};
use crate::proto::json::{self, Value};

/// Messages as members of a JSON object, in the order pushed.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<u8>);

/// Messages beyond so many bytes are left out: a body of two bytes per item can be wrong in
/// hundreds of bytes per item.
const ERRORS_BYTES_MAX: usize = 1 << 20;

/// Bytes of the messages that the log is given.
const WHY_BYTES_MAX: usize = 400;

impl Errors {
    /// Adds a message: `problem` follows "The … field".
    pub(super) fn push(&mut self, field: impl fmt::Display, problem: &str) {
        if self.0.len() > ERRORS_BYTES_MAX {
            return;
        }
        if !self.0.is_empty() {
            self.0.push(b',');
        }
        let field = field.to_string();
        self.0.push(b'"');
        json::escape_response(&mut self.0, &field);
        self.0.extend_from_slice(br#"":["The "#);
        json::escape_response(&mut self.0, &field.replace('_', " "));
        self.0.extend_from_slice(b" field ");
        self.0.extend_from_slice(problem.as_bytes());
        self.0.extend_from_slice(br#"."]"#);
    }

    /// Laravel's `required` and `string`.
    pub(super) fn require_text(&mut self, field: impl fmt::Display, value: Option<Value<'_>>) {
        if is_missing(value) {
            self.push(field, "is required");
        } else {
            self.allow_text(field, value);
        }
    }

    /// Laravel's `string`: it may be absent.
    pub(super) fn allow_text(&mut self, field: impl fmt::Display, value: Option<Value<'_>>) {
        if !matches!(value, None | Some(Value::Text { .. })) {
            self.push(field, MUST_BE_A_STRING);
        }
    }

    /// Puts others behind these.
    pub(super) fn append(&mut self, others: &Self) {
        if !(self.0.is_empty() || others.0.is_empty()) {
            self.0.push(b',');
        }
        self.0.extend_from_slice(&others.0);
    }

    /// Are there none?
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses with 422 if there are any.
    pub(super) fn refuse(self) -> Result<(), Refusal> {
        if self.is_empty() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&self.0);
        let why = errors.chars().take(WHY_BYTES_MAX).collect();
        let answer = Answer::json(422, format!("{{{errors}}}"));
        Err(Refusal { answer, why })
    }
}

/// The problem of a field that is something else.
pub(super) const MUST_BE_A_STRING: &str = "must be a string";

/// What Laravel's `required` calls missing: absent, null, a blank string, an empty list or object.
pub(super) fn is_missing(value: Option<Value<'_>>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Text { text, .. }) => json::is_blank(text),
        Some(Value::List { raw } | Value::Object { raw }) => {
            let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or("");
            json::trimmed(inside).is_empty()
        }
        Some(Value::Bool(_) | Value::Number { .. }) => false,
    }
}
