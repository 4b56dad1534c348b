//! Laravel's redis broadcaster: what it publishes, and under which names.
//!
//! Called by `ingest`; knows no socket. An event that came this way is delivered byte for byte as
//! the same event of the HTTP API would be: `data` is passed on as it was encoded, without the
//! `socket` that Laravel leaves in it.

use crate::app::AppIndex;
use crate::broadcast::{Delivery, SocketId};
use crate::proto::channel::ChannelKind;
use crate::proto::json::{self, Malformed, Value, Workspace};
use crate::proto::{event, frame};
use crate::redis::side;

/// Buffers reused between messages.
#[derive(Default)]
pub struct Scratch {
    outer: Workspace,
    inner: Workspace,
    data: String,
    frame: Vec<u8>,
}

/// A message that is no event of Laravel's: why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAnEvent(&'static str);

/// Reads `{"event":…,"data":…,"socket":…}`, published for a channel without its prefix.
///
/// # Errors
/// It is not a JSON object with a name in `event`.
pub fn read(payload: &[u8], channel: &str, scratch: &mut Scratch) -> Result<Delivery, NotAnEvent> {
    let Ok(payload) = str::from_utf8(payload) else {
        return Err(NotAnEvent("it is not UTF-8"));
    };
    let Scratch {
        outer,
        inner,
        data,
        frame,
    } = scratch;
    let (mut name, mut value, mut except) = (None, Value::Null, None);
    let read = json::visit(payload, outer, |child| match (child.key, child.value) {
        (Some("event"), Value::Text { text, .. }) => name = Some(text),
        (Some("event"), _) => name = None,
        (Some("data"), data) => value = data,
        (Some("socket"), Value::Text { text, .. }) => except = SocketId::parse(text),
        (Some("socket"), _) => except = None,
        _ => {}
    });
    match read {
        Ok(Value::Object { .. }) => {}
        Ok(_) => return Err(NotAnEvent("it is no JSON object")),
        Err(Malformed) => return Err(NotAnEvent("it is not JSON")),
    }
    let name = name.filter(|name| !json::is_blank(name));
    let Some(name) = name else {
        return Err(NotAnEvent("it has no event"));
    };
    let data = match value {
        Value::Object { raw } if raw.contains(SOCKET_KEY) => without_socket(raw, inner, data),
        value => value.raw(),
    };
    frame.clear();
    frame::text(frame, |out| event::api_event(out, name, data, channel));
    Ok(Delivery {
        channel: channel.into(),
        except,
        frame: frame.as_slice().into(),
        is_kept: ChannelKind::of(channel).keeps(name),
    })
}

/// The member that Laravel leaves in `data`.
const SOCKET: &str = "socket";
/// As `json_encode` writes it; other spellings of the name come from nobody.
const SOCKET_KEY: &str = "\"socket\"";

/// An object without its members named `socket`. Every other byte stays, unless what is left is a
/// PHP array that `json_encode` writes as a list: the member made an object of it.
fn without_socket<'a>(raw: &'a str, inner: &mut Workspace, out: &'a mut String) -> &'a str {
    out.clear();
    let start = raw.as_ptr() as usize;
    // Where the last member begins that is not copied yet; what stands before the first stays.
    let mut from = 0;
    let (mut is_copied, mut has_dropped, mut ends_dropped) = (true, false, false);
    // Members that stay, while their names are 0, 1, 2 and so on.
    let mut list = Some(0_usize);
    // The slice is part of a document that has passed the same check.
    let _ = json::visit(raw, inner, |child| {
        let key = child.key_raw.as_ptr() as usize - start;
        if is_copied {
            out.push_str(raw.get(from..key).unwrap_or_default());
        }
        from = key;
        ends_dropped = child.key == Some(SOCKET);
        has_dropped |= ends_dropped;
        is_copied = !ends_dropped;
        if is_copied {
            list = list.filter(|&index| is_index(child.key, index));
            list = list.map(|index| index + 1);
        }
    });
    if has_dropped && list.is_some() {
        return as_list(raw, inner, out);
    }
    if ends_dropped {
        // The comma before it is the last one: behind it there was but the name.
        out.truncate(out.rfind(',').unwrap_or(out.len()));
        out.push('}');
    } else {
        out.push_str(raw.get(from..).unwrap_or_default());
    }
    out
}

/// Is the name of a member the place it would have in a list?
fn is_index(key: Option<&str>, index: usize) -> bool {
    key == Some(itoa::Buffer::new().format(index))
}

/// The values of an object but those of `socket`.
fn as_list<'a>(raw: &str, inner: &mut Workspace, out: &'a mut String) -> &'a str {
    out.clear();
    out.push('[');
    // The same document once more.
    let _ = json::visit(raw, inner, |child| {
        if child.key != Some(SOCKET) {
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(child.value.raw());
        }
    });
    out.push(']');
    out
}

/// Which names are events of which app.
#[derive(Debug)]
pub struct Prefixes {
    /// The longest prefix first.
    sources: Vec<Source>,
    /// Buses between nodes: what is said there is no event, whatever the prefix.
    buses: Vec<String>,
}

#[derive(Debug)]
struct Source {
    prefix: String,
    pattern: String,
    app: AppIndex,
}

impl Prefixes {
    /// `buses`: names that are not to be taken for channels, nor is what is beside them.
    pub fn new(sources: impl Iterator<Item = (String, AppIndex)>, buses: Vec<String>) -> Self {
        let source = |(prefix, app): (String, AppIndex)| Source {
            pattern: pattern(&prefix),
            prefix,
            app,
        };
        let mut sources: Vec<_> = sources.map(source).collect();
        sources.sort_by_key(|source| std::cmp::Reverse(source.prefix.len()));
        Self { sources, buses }
    }

    /// What to give to `PSUBSCRIBE`.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|source| source.pattern.as_str())
    }

    /// What to give to `SUBSCRIBE` for one channel of an app.
    pub fn names(&self, app: AppIndex, channel: &str) -> impl Iterator<Item = String> {
        let own = self.sources.iter().filter(move |source| source.app == app);
        let names = own.map(move |source| format!("{}{channel}", source.prefix));
        // Another app's prefix may be longer and fit as well: then the name is not this channel's.
        names
            .filter(move |name| self.find(None, name.as_bytes()) == Some((app, channel.as_bytes())))
    }

    /// The app and the channel that a message is for, by the name under which it was published.
    /// Where several patterns fit Redis sends the message once for each; it is for the app with
    /// the longest prefix, once.
    pub fn find<'a>(&self, pattern: Option<&[u8]>, name: &'a [u8]) -> Option<(AppIndex, &'a [u8])> {
        let mut fitting = self.sources.iter().filter_map(|source| {
            let channel = name.strip_prefix(source.prefix.as_bytes())?;
            Some((source, channel))
        });
        let (source, channel) = fitting.next()?;
        let is_its_own = pattern.is_none_or(|pattern| pattern == source.pattern.as_bytes());
        (is_its_own && !self.is_no_channel(name)).then_some((source.app, channel))
    }

    fn is_no_channel(&self, name: &[u8]) -> bool {
        let is_of_nodes = |bus: &String| {
            let rest = name.strip_prefix(bus.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(side::SUFFIX.as_bytes()))
        };
        // What Redis itself says of keys is no application's channel.
        name.starts_with(b"__keyspace@")
            || name.starts_with(b"__keyevent@")
            || self.buses.iter().any(is_of_nodes)
    }
}

/// A glob pattern for every name under a prefix.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests;
