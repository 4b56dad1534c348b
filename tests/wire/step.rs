//! One step of a transcript: what a socket says, or what it must hear.
//!
//! Called by `entry.rs` for every line; knows the notation, and no connection. Payloads stay
//! templates (`template.rs`) until they are played.

use std::time::Duration;

use super::harness::ACCEPTED;

/// A step, and the line it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The line and those that belong to it.
    pub(crate) text: String,
    /// Whose it is; calls without a name share one that is nobody's.
    pub(crate) socket: String,
    pub(crate) act: Act,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Opens a WebSocket of the entry's app and hears its greeting.
    Opens,
    /// Opens a connection and says nothing.
    Connects,
    /// Subscribes and hears the acknowledgement, whatever it tells.
    Joins {
        channel: String,
        channel_data: Option<String>,
    },
    /// Ends both halves, as a process that is gone.
    Leaves,
    /// Ends the connection with a reset.
    Resets,
    /// Ends our half.
    Ends,
    /// From now on, pings of the protocol are answered and nobody hears of them.
    AnswersPings,
    /// Lets time pass.
    After(Duration),
    Sends(Sending),
    /// Hears this, `times` times.
    Hears {
        times: usize,
        what: Heard,
    },
}

/// Bytes on their way to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sending {
    /// Goes out together with the next.
    pub(crate) is_held: bool,
    /// Goes out in pieces of so many bytes.
    pub(crate) pieces: Option<usize>,
    pub(crate) times: usize,
    pub(crate) what: Sent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    Frame {
        /// FIN, reserved bits, opcode.
        first: u8,
        is_masked: bool,
        payload: String,
    },
    Bytes(String),
    Request(Request),
}

/// An HTTP request. Without a version it is completed: with a Host, and a length if it has a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// `METHOD TARGET` or `METHOD TARGET VERSION`.
    pub(crate) line: String,
    /// Whole lines, with their ends.
    pub(crate) headers: Vec<String>,
    pub(crate) body: Option<String>,
    /// The headers of an upgrade to WebSocket go with it.
    pub(crate) is_upgrade: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Frame {
        opcode: u8,
        payload: String,
    },
    /// A head, byte for byte.
    Head(String),
    /// An HTTP answer, in the frame that every answer of a server has.
    Answer(Answer),
    /// FIN.
    End,
    /// The connection is open and nothing more has been sent.
    Nothing,
    /// The same where the server is in the middle of something and cannot be asked.
    Waits,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Number and reason.
    pub(crate) status: String,
    pub(crate) allow: Option<String>,
    pub(crate) body: String,
    /// The body is counted and not sent.
    pub(crate) is_head_only: bool,
}

impl Step {
    pub(crate) fn read(line: &str, more: &[&str]) -> Result<Self, String> {
        let mut text = line.to_owned();
        for line in more {
            text = format!("{text}\n    {line}");
        }
        let (socket, rest) = match line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "))
        {
            Some((socket, rest)) => (socket.to_owned(), rest),
            None => (String::new(), line),
        };
        let act = match (rest.split_once(' ').unwrap_or((rest, "")), more) {
            ((">", what), more) => Act::Sends(Sending::read(what, more)?),
            (("<", what), more) => {
                let (times, what) = times(what);
                let what = Heard::read(what, more)?;
                Act::Hears { times, what }
            }
            (("opens", ""), []) => Act::Opens,
            (("connects", ""), []) => Act::Connects,
            (("leaves", ""), []) => Act::Leaves,
            (("resets", ""), []) => Act::Resets,
            (("ends", ""), []) => Act::Ends,
            (("answers", "pings"), []) => Act::AnswersPings,
            (("joins", channel), []) => {
                let (channel, data) = match channel.split_once(" as ") {
                    Some((channel, data)) => (channel, Some(data.to_owned())),
                    None => (channel, None),
                };
                Act::Joins {
                    channel: channel.to_owned(),
                    channel_data: data,
                }
            }
            (("after", time), []) => {
                let ms = time.strip_suffix(" ms").and_then(|ms| ms.parse().ok());
                Act::After(Duration::from_millis(ms.ok_or("after how many ms?")?))
            }
            _ => return Err(format!("no step: {line}")),
        };
        Ok(Self { text, socket, act })
    }
}

impl Sending {
    fn read(what: &str, more: &[&str]) -> Result<Self, String> {
        let (is_held, what) = stripped(what, "held ");
        let (pieces, what) = match what.strip_prefix("split ") {
            Some(rest) => {
                let (size, rest) = rest.split_once(' ').ok_or("split what?")?;
                (Some(size.parse().map_err(|_| "split how?")?), rest)
            }
            None => (None, what),
        };
        let (times, what) = times(what);
        let what = Sent::read(what, more)?;
        Ok(Self {
            is_held,
            pieces,
            times,
            what,
        })
    }
}

impl Sent {
    fn read(what: &str, more: &[&str]) -> Result<Self, String> {
        if let Some(bytes) = what.strip_prefix("bytes ") {
            return Ok(Self::Bytes(bytes.to_owned()));
        }
        if let Some(target) = what.strip_prefix("upgrade ") {
            return Ok(Self::Request(Request::read(
                &format!("GET {target}"),
                more,
                true,
            )));
        }
        let (is_unmasked, frame) = stripped(what, "unmasked ");
        let (is_reserved, frame) = stripped(frame, "rsv1 ");
        let (kind, payload) = frame.split_once(' ').unwrap_or((frame, ""));
        let (opcode, is_final) = match kind.strip_suffix('…') {
            Some(kind) => (opcode(kind), false),
            None => (opcode(kind), true),
        };
        match opcode {
            Some(opcode) if more.is_empty() => Ok(Self::Frame {
                first: u8::from(is_final) << 7 | u8::from(is_reserved) << 6 | opcode,
                is_masked: !is_unmasked,
                payload: match opcode {
                    CLOSE => close_payload(payload),
                    _ => payload.to_owned(),
                },
            }),
            _ if what.contains(" /") => Ok(Self::Request(Request::read(what, more, false))),
            _ => Err(format!("nothing to send: {what}")),
        }
    }
}

impl Request {
    fn read(line: &str, more: &[&str], is_upgrade: bool) -> Self {
        let mut request = Self {
            line: line.to_owned(),
            headers: Vec::new(),
            body: None,
            is_upgrade,
        };
        for line in more {
            match line.strip_prefix("body: ") {
                Some(body) => request.body = Some(body.to_owned()),
                None => request.headers.push(format!("{line}\r\n")),
            }
        }
        request
    }
}

impl Heard {
    fn read(what: &str, more: &[&str]) -> Result<Self, String> {
        let (kind, payload) = what.split_once(' ').unwrap_or((what, ""));
        match (kind, opcode(kind), more) {
            ("101", ..) if payload.is_empty() => Ok(Self::Head(ACCEPTED.to_owned())),
            ("end", _, []) => Ok(Self::End),
            ("nothing", _, []) => Ok(Self::Nothing),
            ("waits", _, []) => Ok(Self::Waits),
            (_, Some(opcode), []) => Ok(Self::Frame {
                opcode,
                payload: match opcode {
                    CLOSE => close_payload(payload),
                    _ => payload.to_owned(),
                },
            }),
            ("HTTP/1.1", _, headers) => {
                let lines = [&[what], headers].concat();
                Ok(Self::Head(lines.join("\r\n") + "\r\n\r\n"))
            }
            (status, _, more) if status.len() == 3 && status.parse::<u16>().is_ok() => {
                Answer::read(what, more).map(Self::Answer)
            }
            _ => Err(format!("nothing to hear: {what}")),
        }
    }
}

impl Answer {
    fn read(status: &str, more: &[&str]) -> Result<Self, String> {
        let mut answer = Self {
            status: status.to_owned(),
            allow: None,
            body: String::new(),
            is_head_only: false,
        };
        for line in more {
            match line.split_once(": ") {
                Some(("Allow", method)) => answer.allow = Some(method.to_owned()),
                Some(("body", body)) => body.clone_into(&mut answer.body),
                Some(("no body", body)) => {
                    body.clone_into(&mut answer.body);
                    answer.is_head_only = true;
                }
                _ => return Err(format!("no part of an answer: {line}")),
            }
        }
        Ok(answer)
    }
}

/// `1000 times …`
fn times(what: &str) -> (usize, &str) {
    let found = what.split_once(" times ");
    let found = found.and_then(|(count, rest)| Some((count.parse().ok()?, rest)));
    found.unwrap_or((1, what))
}

fn stripped<'a>(text: &'a str, prefix: &str) -> (bool, &'a str) {
    match text.strip_prefix(prefix) {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

/// The opcode of a kind of frame; `op3` is any other.
fn opcode(kind: &str) -> Option<u8> {
    match NAMES.iter().find(|(name, _)| *name == kind) {
        Some((_, opcode)) => Some(*opcode),
        None => kind.strip_prefix("op")?.parse().ok(),
    }
}

/// How a frame is written in a data file.
pub(crate) fn name_of(opcode: u8) -> String {
    match NAMES.iter().find(|(_, known)| *known == opcode) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("op{opcode}"),
    }
}

/// `1000 bye` as a template of its bytes; what does not begin with a code is one already.
fn close_payload(text: &str) -> String {
    let (code, reason) = text.split_once(' ').unwrap_or((text, ""));
    match code.parse::<u16>() {
        Ok(code) => {
            let [high, low] = code.to_be_bytes();
            format!("«{high:02x} {low:02x}»{reason}")
        }
        Err(_) => text.to_owned(),
    }
}

/// The opcode of a Close frame.
pub(crate) const CLOSE: u8 = 8;
/// The opcode of a ping.
pub(crate) const PING: u8 = 9;
/// The opcode of a pong.
pub(crate) const PONG: u8 = 10;

const NAMES: [(&str, u8); 6] = [
    ("cont", 0),
    ("text", 1),
    ("binary", 2),
    ("close", CLOSE),
    ("ping", PING),
    ("pong", PONG),
];
