//! Questions to all nodes as Reverb asks them, its metrics, and what nodes answer.
//!
//! A question goes out once, in a form that nodes of both kinds read; a PHP node answers in JSON of
//! Reverb's, one of this kind with all that it knows. Called by `scaling`; sans-io, keeps no state.

use crate::proto::api::{self, Facts, Info, Occupied, Question, Word};
use crate::proto::json::{self, Malformed, Value, Workspace};
use crate::redis::php::{Choice, Metric, MetricType};

/// Bytes of an answer at most: Redis cuts a subscriber that is owed twice as much.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Buffers reused between answers.
#[derive(Default)]
pub struct Scratch {
    answer: Workspace,
    list: Workspace,
    item: Workspace,
}

/// Puts a question as a metric, about the app that it will be written for; `None` of what is no
/// question but a deed.
pub fn with_metric<T>(
    question: &Question,
    key: &str,
    use_it: impl FnOnce(&Metric<'_>) -> T,
) -> Option<T> {
    let named = question.named();
    let info = match question {
        Question::Channels { info, .. } => *info,
        _ => named.values().copied().fold(Info::default(), Info::and),
    };
    let words = info.text();
    let given = |text| match text {
        "" => Choice::Null,
        text => Choice::Text(text),
    };
    let info = ("info", given(&words));
    let (metric, options) = match question {
        Question::Connections | Question::Sockets => (MetricType::Connections, Vec::new()),
        Question::Channels { prefix, .. } => {
            let options = vec![("filter", given(prefix)), info];
            (MetricType::Channels, options)
        }
        Question::Channel { channel, .. } => {
            let options = vec![("channel", Choice::Text(channel)), info];
            (MetricType::Channel, options)
        }
        Question::Users { channel } => {
            let options = vec![("channel", Choice::Text(channel))];
            (MetricType::ChannelUsers, options)
        }
        Question::Event { .. } | Question::Batch { .. } => {
            let channels = Choice::Texts(named.keys().copied().collect());
            (MetricType::Channels, vec![info, ("channels", channels)])
        }
        Question::Terminate { .. } => return None,
    };
    Some(use_it(&Metric {
        key,
        app: "",
        metric,
        options,
    }))
}

/// What a metric asks; `None` if an option that it needs is missing. PHP nodes want to know which
/// sockets there are, where ours want their number.
pub fn question_of(metric: &Metric<'_>, is_of_php: bool) -> Option<Question> {
    let option = |wanted| {
        let mut options = metric.options.iter();
        options.find_map(|(name, choice)| (*name == wanted).then_some(choice))
    };
    let text = |wanted| match option(wanted) {
        Some(Choice::Text(text)) => Some(*text),
        _ => None,
    };
    let info = Info::parse(text("info").unwrap_or_default());
    Some(match (metric.metric, option("channels")) {
        (MetricType::Connections, _) if is_of_php => Question::Sockets,
        (MetricType::Connections, _) => Question::Connections,
        (MetricType::Channels, Some(Choice::Texts(channels))) => Question::Event {
            channels: channels.iter().map(|&channel| channel.into()).collect(),
            info,
        },
        (MetricType::Channels, _) => Question::Channels {
            prefix: text("filter").unwrap_or_default().into(),
            info,
        },
        (MetricType::Channel, _) => Question::Channel {
            channel: text("channel")?.into(),
            info,
        },
        (MetricType::ChannelUsers, _) => Question::Users {
            channel: text("channel")?.into(),
        },
    })
}

/// Appends what a PHP node is answered: what is known of what it asked.
pub fn write_for_php(out: &mut Vec<u8>, question: &Question, facts: &Facts) {
    match question {
        Question::Channels { info, .. } => {
            let known = facts.channels.iter();
            let known = known.map(|known| (&*known.channel, Some(known)));
            write_channels(out, known, *info);
        }
        Question::Event { channels, info } => {
            let channels = channels.iter();
            let known = channels.map(|channel| (&**channel, facts.channel(channel)));
            write_channels(out, known, *info);
        }
        Question::Channel { channel, info } => {
            write_info(out, channel, facts.channel(channel), *info);
        }
        Question::Users { .. } => write_users(out, facts),
        Question::Connections
        | Question::Sockets
        | Question::Batch { .. }
        | Question::Terminate { .. } => {
            let sockets = facts.sockets.iter();
            let sockets = sockets.map(|socket| (socket.to_string(), ()));
            write_object(out, sockets, |out, _, ()| out.extend_from_slice(b"{}"));
        }
    }
}

/// Appends all that is known, for a node of this kind.
pub fn write_facts(out: &mut Vec<u8>, facts: &Facts) {
    out.extend_from_slice(b"{\"connections\":");
    json::number(out, facts.connections);
    out.extend_from_slice(b",\"channels\":");
    let all = Info::default()
        .with(Word::UserCount)
        .with(Word::SubscriptionCount)
        .with(Word::Cache);
    let known = facts.channels.iter();
    write_channels(out, known.map(|known| (&*known.channel, Some(known))), all);
    out.extend_from_slice(b",\"users\":");
    write_users(out, facts);
    if facts.is_cut {
        out.extend_from_slice(b",\"cut\":true");
    }
    out.push(b'}');
}

/// Reads what a node of this kind knows.
pub fn read_facts(answer: &str, scratch: &mut Scratch) -> Result<Facts, Malformed> {
    let Scratch {
        answer: outer,
        list,
        item,
    } = scratch;
    let mut facts = Facts::default();
    let (mut channels, mut users) = (None, None);
    json::visit(answer, outer, |child| match (child.key, child.value) {
        (Some("connections"), Value::Number { raw }) => {
            facts.connections = raw.parse().unwrap_or_default();
        }
        (Some("channels"), value) => channels = Some(value.raw()),
        (Some("users"), value) => users = Some(value.raw()),
        (Some("cut"), Value::Bool(is_cut)) => facts.is_cut = is_cut,
        _ => {}
    })?;
    if let Some(channels) = channels {
        read_channels(channels, |_| true, &mut facts, (list, item))?;
    }
    if let Some(users) = users {
        read_users(users, &mut facts, (list, item))?;
    }
    Ok(facts)
}

/// Reads what a PHP node answers to a question.
pub fn read_of_php(
    question: &Question,
    answer: &str,
    scratch: &mut Scratch,
) -> Result<Facts, Malformed> {
    let Scratch { list, item, .. } = scratch;
    let mut facts = Facts::default();
    match question {
        Question::Connections | Question::Sockets => {
            json::visit(answer, list, |_| facts.connections += 1)?;
        }
        // All that is listed has subscribers.
        Question::Channels { .. } => {
            read_channels(answer, |_| true, &mut facts, (list, item))?;
        }
        Question::Event { .. } | Question::Batch { .. } => {
            read_channels(answer, is_occupied, &mut facts, (list, item))?;
        }
        Question::Channel { channel, .. } => {
            let info = read_info(channel, answer, item)?;
            facts
                .channels
                .extend(is_occupied(&info).then_some(info.known));
        }
        Question::Users { channel } => {
            read_users(answer, &mut facts, (list, item))?;
            if !facts.users.is_empty() {
                facts.channels.push(Occupied {
                    channel: channel.clone(),
                    users: facts.users.len(),
                    ..Occupied::default()
                });
            }
        }
        Question::Terminate { .. } => {}
    }
    Ok(facts)
}

/// What is said of a channel, and whether it is called occupied.
struct Said {
    known: Occupied,
    is_occupied: bool,
}

fn is_occupied(said: &Said) -> bool {
    said.is_occupied || said.known.users > 0 || said.known.subscriptions > 0
}

fn read_channels(
    channels: &str,
    is_there: fn(&Said) -> bool,
    facts: &mut Facts,
    (list, item): (&mut Workspace, &mut Workspace),
) -> Result<(), Malformed> {
    let mut outcome = Ok(());
    json::visit(channels, list, |child| {
        // An empty list stands for an empty object.
        let Some(name) = child.key else { return };
        match read_info(name, child.value.raw(), item) {
            Ok(said) if is_there(&said) => facts.channels.push(said.known),
            Ok(_) => {}
            Err(malformed) => outcome = Err(malformed),
        }
    })?;
    outcome
}

fn read_info(channel: &str, info: &str, item: &mut Workspace) -> Result<Said, Malformed> {
    let mut known = Occupied {
        channel: channel.into(),
        ..Occupied::default()
    };
    let mut is_occupied = false;
    json::visit(info, item, |child| match (child.key, child.value) {
        (Some("user_count"), Value::Number { raw }) => {
            known.users = raw.parse().unwrap_or_default();
        }
        (Some("subscription_count"), Value::Number { raw }) => {
            known.subscriptions = raw.parse().unwrap_or_default();
        }
        (Some("cache"), Value::Object { raw }) => known.cached = Some(raw.into()),
        (Some("occupied"), Value::Bool(truth)) => is_occupied = truth,
        _ => {}
    })?;
    Ok(Said { known, is_occupied })
}

fn read_users(
    users: &str,
    facts: &mut Facts,
    (list, item): (&mut Workspace, &mut Workspace),
) -> Result<(), Malformed> {
    let mut outcome = Ok(());
    json::visit(users, list, |child| {
        let read = json::visit(child.value.raw(), item, |child| {
            if child.key == Some("id") && child.value.coerced().is_some() {
                facts.users.push(child.value.raw().into());
            }
        });
        if let Err(malformed) = read {
            outcome = Err(malformed);
        }
    })?;
    outcome
}

fn write_channels<'a>(
    out: &mut Vec<u8>,
    known: impl Iterator<Item = (&'a str, Option<&'a Occupied>)>,
    info: Info,
) {
    write_object(out, known, |out, channel, known| {
        write_info(out, channel, known, info);
    });
}

/// As PHP has it, nothing is an empty list.
fn write_object<T>(
    out: &mut Vec<u8>,
    members: impl Iterator<Item = (impl AsRef<str>, T)>,
    write: impl Fn(&mut Vec<u8>, &str, T),
) {
    let mut opening = b'{';
    for (name, value) in members {
        out.push(std::mem::replace(&mut opening, b','));
        out.push(b'"');
        json::escape(out, name.as_ref());
        out.extend_from_slice(b"\":");
        write(out, name.as_ref(), value);
    }
    out.extend_from_slice(if opening == b'{' { b"[]" } else { b"}" });
}

fn write_info(out: &mut Vec<u8>, channel: &str, known: Option<&Occupied>, info: Info) {
    let start = out.len();
    api::write_info(out, channel, known, info, |out, event| {
        out.extend_from_slice(event.as_bytes());
    });
    if out.get(start..) == Some(b"{}") {
        out.truncate(start);
        out.extend_from_slice(b"[]");
    }
}

fn write_users(out: &mut Vec<u8>, facts: &Facts) {
    out.push(b'[');
    for (number, id) in facts.users.iter().enumerate() {
        out.extend_from_slice(if number > 0 {
            b",{\"id\":"
        } else {
            b"{\"id\":"
        });
        out.extend_from_slice(id.as_bytes());
        out.push(b'}');
    }
    out.push(b']');
}

#[cfg(test)]
mod tests;
