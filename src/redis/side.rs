//! What nodes of this kind say to one another beside the bus: that they are there, what they have
//! missed, and what was missed; what they know of a question.
//!
//! JSON on channels of our own, `{channel}:slapback` and `{channel}:slapback:{node}`, which PHP
//! nodes never hear. Called by `scaling`; keeps no state. A message of the bus stands in it as it
//! was published.

use std::time::Duration;

use crate::proto::json::{self, Value, Workspace};
use crate::redis::envelope::NODE_BYTES_MAX;

/// What the names of our own channels have behind that of the bus.
pub const SUFFIX: &str = ":slapback";

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub struct Side<'a> {
    /// Who says it.
    pub node: &'a str,
    /// What it says.
    pub said: Said<'a>,
}

/// What a node says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// It is there.
    Hello {
        /// Its last number.
        seq: u64,
        /// All others are to say the same.
        asks: bool,
        /// When it says so, Unix milliseconds or later.
        at: u64,
    },
    /// It leaves, and has said all there was; its last number.
    Goodbye(u64),
    /// It wants what comes behind a number.
    Ask {
        /// The last one that was had.
        after: u64,
        /// Only what was sent within this time.
        within: Option<Duration>,
    },
    /// What it knows of a question.
    Answer {
        /// The question's key.
        key: &'a str,
        /// JSON of `metric`.
        facts: &'a str,
    },
    /// What was asked for.
    Replay {
        /// A JSON list of messages of the bus.
        messages: &'a str,
        /// The last number.
        until: u64,
        /// The first is the one that was asked for.
        is_whole: bool,
    },
}

/// Reads one message; `None` if it is none.
pub fn read<'a>(message: &'a [u8], workspace: &'a mut Workspace) -> Option<Side<'a>> {
    let message = str::from_utf8(message).ok()?;
    let (mut node, mut kind, mut seq, mut messages, mut is_whole) = (None, None, None, "[]", false);
    let (mut within, mut key, mut facts, mut asks, mut at) = (None, None, None, false, None);
    json::visit(message, workspace, |child| match (child.key, child.value) {
        (Some("node"), Value::Text { text, .. }) if text.len() <= NODE_BYTES_MAX => {
            node = Some(text);
        }
        (Some("slapback"), Value::Text { text, .. }) => kind = Some(text),
        (Some("seq"), Value::Number { raw }) => seq = raw.parse().ok(),
        (Some("at"), Value::Number { raw }) => at = raw.parse().ok(),
        (Some("within"), Value::Number { raw }) => within = raw.parse().ok(),
        (Some("messages"), Value::List { raw }) => messages = raw,
        (Some("whole"), Value::Bool(whole)) => is_whole = whole,
        (Some("asks"), Value::Bool(truth)) => asks = truth,
        (Some("key"), Value::Text { text, .. }) => key = Some(text),
        (Some("facts"), Value::Object { raw }) => facts = Some(raw),
        _ => {}
    })
    .ok()?;
    let said = match kind? {
        "hello" => Said::Hello {
            seq: seq?,
            asks,
            at: at?,
        },
        "goodbye" => Said::Goodbye(seq?),
        "ask" => Said::Ask {
            after: seq?,
            within: within.map(Duration::from_millis),
        },
        "replay" => Said::Replay {
            messages,
            until: seq?,
            is_whole,
        },
        "answer" => Said::Answer {
            key: key?,
            facts: facts?,
        },
        _ => return None,
    };
    Some(Side { node: node?, said })
}

/// Appends a message; `body` appends the messages of a replay, with commas between, or the facts of
/// an answer.
pub fn write(out: &mut Vec<u8>, node: &str, said: &Said<'_>, body: impl FnOnce(&mut Vec<u8>)) {
    let kind = match said {
        Said::Hello { .. } => "hello",
        Said::Goodbye(_) => "goodbye",
        Said::Ask { .. } => "ask",
        Said::Replay { .. } => "replay",
        Said::Answer { .. } => "answer",
    };
    out.push(b'{');
    text(out, "slapback", kind);
    out.push(b',');
    text(out, "node", node);
    match said {
        Said::Hello { seq, asks, at } => {
            number(out, "seq", *seq);
            number(out, "at", *at);
            truth(out, "asks", *asks);
        }
        Said::Goodbye(seq) => number(out, "seq", *seq),
        Said::Ask { after, within } => {
            number(out, "seq", *after);
            if let Some(within) = within {
                let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                number(out, "within", within);
            }
        }
        Said::Replay {
            until, is_whole, ..
        } => {
            number(out, "seq", *until);
            truth(out, "whole", *is_whole);
            out.extend_from_slice(b",\"messages\":[");
            body(out);
            out.push(b']');
        }
        Said::Answer { key, .. } => {
            out.push(b',');
            text(out, "key", key);
            out.extend_from_slice(b",\"facts\":");
            body(out);
        }
    }
    out.push(b'}');
}

fn text(out: &mut Vec<u8>, name: &str, text: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    json::escape(out, text);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, name: &str, number: u64) {
    member(out, name);
    json::number(out, number);
}

fn truth(out: &mut Vec<u8>, name: &str, truth: bool) {
    member(out, name);
    out.extend_from_slice(if truth { b"true" } else { b"false" });
}

fn member(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (said, body) in [
            (
                Said::Hello {
                    seq: 7,
                    asks: true,
                    at: 9,
                },
                "",
            ),
            (Said::Goodbye(8), ""),
            (
                Said::Ask {
                    after: 0,
                    within: None,
                },
                "",
            ),
            (
                Said::Ask {
                    after: 3,
                    within: Some(Duration::from_millis(1500)),
                },
                "",
            ),
            (
                Said::Replay {
                    messages: r#"[{"type":"message"},{}]"#,
                    until: u64::MAX,
                    is_whole: true,
                },
                r#"{"type":"message"},{}"#,
            ),
            (
                Said::Answer {
                    key: "AbCdEfGhIj",
                    facts: r#"{"connections":1}"#,
                },
                r#"{"connections":1}"#,
            ),
        ] {
            let mut out = Vec::new();
            write(&mut out, "a.1", &said, |out| {
                out.extend_from_slice(body.as_bytes());
            });
            let mut workspace = Workspace::default();
            let side = read(&out, &mut workspace).unwrap();
            assert_eq!(side, Side { node: "a.1", said });
        }
    }

    #[test]
    fn what_is_none_is_none() {
        for message in [
            "",
            "[]",
            "{}",
            r#"{"slapback":"hello","node":"a","at":1}"#,
            r#"{"slapback":"hello","node":"a","seq":1}"#,
            r#"{"slapback":"hello","seq":1,"at":1}"#,
            r#"{"slapback":"shout","node":"a","seq":1}"#,
            r#"{"slapback":"ask","node":"a","seq":-1}"#,
            r#"{"slapback":"answer","node":"a","key":"k","facts":[]}"#,
            r#"{"slapback":"answer","node":"a","facts":{}}"#,
        ] {
            assert_eq!(
                read(message.as_bytes(), &mut Workspace::default()),
                None,
                "{message}"
            );
        }
    }
}
