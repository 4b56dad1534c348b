//! Plays one entry against a server: our transcript, step by step, byte for byte.
//!
//! Called by the tests. Whatever is open at the end of an entry has heard nothing more, and is
//! closed. A step that goes otherwise ends the entry with a [`Failure`].

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::answers::{self, undated};
use super::entry::Entry;
use super::failure::Failure;
use super::harness::{ACCEPTED, DEADLINE, Server, api, upgrade_head};
use super::socket::{Instead, Socket, State, shown};
use super::step::{Act, Answer, CLOSE, Heard, PING, PONG, Sending, Sent, Step, name_of};
use super::template::Terms;

/// Plays an entry. The server must bear the entry's path.
pub(crate) fn play(server: &Server, entry: &Entry) -> Result<(), Failure> {
    let mut player = Player {
        server,
        entry,
        now_unix_s: api::unix_s(),
        sockets: BTreeMap::new(),
        ids: BTreeMap::new(),
    };
    for index in 0..entry.ours.len() {
        let failure = |mismatch| Failure::new(entry, Some(index), mismatch);
        player.step(index).map_err(failure)?;
    }
    player
        .rest()
        .map_err(|mismatch| Failure::new(entry, None, mismatch))
}

/// What a step wanted and what it got, in the words of the data files.
#[derive(Debug)]
pub(crate) struct Mismatch {
    pub(crate) expected: String,
    pub(crate) got: String,
}

type Played = Result<(), Mismatch>;

struct Player<'a> {
    server: &'a Server,
    entry: &'a Entry,
    now_unix_s: u64,
    sockets: BTreeMap<String, Socket>,
    /// Socket ids, by the names of their sockets.
    ids: BTreeMap<String, String>,
}

impl Player<'_> {
    fn step(&mut self, index: usize) -> Played {
        let step = &self.entry.ours[index];
        let name = step.socket.as_str();
        match &step.act {
            Act::Opens => self.open(name),
            Act::Connects => {
                let socket = Socket::open(self.server);
                self.sockets.insert(name.to_owned(), socket);
                Ok(())
            }
            Act::Joins {
                channel,
                channel_data,
            } => self.join(name, channel, channel_data.as_deref()),
            Act::Leaves => {
                let mut socket = self.sockets.remove(name).ok_or_else(|| unopened(name))?;
                socket.finish();
                socket.end().map_err(|instead| wanted("end", instead))?;
                self.is_noticed()
            }
            Act::Resets => {
                let mut socket = self.sockets.remove(name).ok_or_else(|| unopened(name))?;
                socket.reset();
                drop(socket);
                self.is_noticed()
            }
            Act::Ends => {
                self.socket(name)?.finish();
                Ok(())
            }
            Act::AnswersPings => {
                self.socket(name)?.answers_pings = true;
                Ok(())
            }
            Act::After(time) => {
                thread::sleep(*time);
                Ok(())
            }
            Act::Sends(sending) => self.send(name, sending),
            Act::Hears { times, what } => (1..=*times).try_for_each(|n| self.hear(index, what, n)),
        }
    }

    /// Opens a WebSocket and reads its greeting, whatever timeout that names.
    fn open(&mut self, name: &str) -> Played {
        let mut socket = Socket::open(self.server);
        let target = format!("{}/app/key-{}?protocol=7", self.entry.path, self.entry.app);
        let opened = socket.send(upgrade_head(&target, "").as_bytes(), None);
        opened.map_err(|instead| wanted("to be heard", instead))?;
        self.sockets.insert(name.to_owned(), socket);
        self.hear_head(name, ACCEPTED)?;
        let heard = self.socket(name)?.frame();
        let greeting = shown(&heard.map_err(|instead| wanted("the greeting", instead))?);
        let pattern = format!("text {GREETING}«id {name}»");
        self.learn_ids(&pattern, &greeting);
        if self.ids.contains_key(name) {
            Ok(())
        } else {
            Err(wanted("the greeting", greeting))
        }
    }

    fn join(&mut self, name: &str, channel: &str, channel_data: Option<&str>) -> Played {
        let app = &self.entry.app;
        let mut data = serde_json::Map::new();
        data.insert("channel".to_owned(), channel.into());
        data.insert("auth".to_owned(), format!("key-{app}:«sig»").into());
        if let Some(channel_data) = channel_data {
            data.insert("channel_data".to_owned(), channel_data.into());
        }
        let data = Value::Object(data);
        self.send(
            name,
            &Sending {
                is_held: false,
                pieces: None,
                times: 1,
                what: Sent::Frame {
                    first: 0x81,
                    is_masked: true,
                    payload: format!(r#"{{"event":"pusher:subscribe","data":{data}}}"#),
                },
            },
        )?;
        let socket = self.socket(name)?;
        let mut heard = socket.frame().map(|frame| shown(&frame));
        if CACHE_PREFIXES
            .iter()
            .any(|prefix| channel.starts_with(prefix))
        {
            // What is told of the last event is another entry's matter.
            heard = heard.and_then(|heard| socket.frame().map(|_| heard));
        }
        match heard {
            Ok(heard) if heard.starts_with(&format!("text {SUCCEEDED}")) => Ok(()),
            Ok(other) | Err(other) => Err(wanted(SUCCEEDED, other)),
        }
    }

    fn send(&mut self, name: &str, sending: &Sending) -> Played {
        if name.is_empty()
            && let Some(mut last) = self.sockets.remove(name)
        {
            rest(&mut last)?;
            hang_up(&mut last);
        }
        match &sending.what {
            _ if self.sockets.contains_key(name) => {}
            Sent::Frame { .. } => self.open(name)?,
            Sent::Bytes(_) | Sent::Request(_) => {
                self.sockets
                    .insert(name.to_owned(), Socket::open(self.server));
            }
        }
        let mut bytes = Vec::new();
        for n in 1..=sending.times {
            let terms = self.terms(name, "", n);
            let more = sending.what.bytes(&terms, &self.entry.path);
            bytes.extend(more.map_err(|wrong| wanted("bytes to send", wrong))?);
        }
        let socket = self.socket(name)?;
        socket.state = State::Open;
        if sending.is_held {
            socket.hold(&bytes);
            return Ok(());
        }
        let sent = socket.send(&bytes, sending.pieces);
        sent.map_err(|instead| wanted("to be heard", instead))
    }

    fn hear(&mut self, index: usize, what: &Heard, n: usize) -> Played {
        let steps = &self.entry.ours;
        let name = steps[index].socket.as_str();
        match what {
            Heard::Frame { opcode, payload } => self.hear_frame(name, *opcode, payload, n),
            Heard::Head(head) => self.hear_head(name, head),
            Heard::Answer(answer) => self.hear_answer(name, answer, is_last(&steps[index..])),
            Heard::End => {
                let socket = self.socket(name)?;
                socket.end().map_err(|instead| wanted("end", instead))?;
                socket.state = State::Ended;
                Ok(())
            }
            Heard::Nothing => fence(self.socket(name)?),
            Heard::Waits => {
                // Whoever is asked now has read what came before, unless it is another thread.
                let mut other = Socket::open(self.server);
                fence(&mut other)?;
                let socket = self.socket(name)?;
                socket.state = State::Waiting;
                let silent = socket.has_heard_nothing();
                silent.map_err(|instead| wanted("waits", instead))
            }
        }
    }

    fn hear_frame(&mut self, name: &str, opcode: u8, payload: &str, n: usize) -> Played {
        let kind = name_of(opcode);
        let heard = self.socket(name)?.frame();
        let heard = heard.map_err(|instead| wanted(&format!("{kind} {payload}"), instead))?;
        self.learn_ids(&format!("{kind} {payload}"), &shown(&heard));
        let expected = self.terms(name, payload, n).expand(payload);
        let expected = (
            opcode,
            expected.map_err(|wrong| wanted("a payload", wrong))?,
        );
        if heard != expected {
            return Err(wanted(&shown(&expected), shown(&heard)));
        }
        if opcode == CLOSE {
            // As a browser does; the server waits for it, unless we have said it first.
            let _ = self.socket(name)?.send_frame(CLOSE, &heard.1);
        }
        Ok(())
    }

    fn hear_head(&mut self, name: &str, expected: &str) -> Played {
        let socket = self.socket(name)?;
        let head = socket.head().map_err(|instead| wanted(expected, instead))?;
        if head != expected {
            return Err(wanted(expected, head));
        }
        socket.speaks_frames = head.starts_with("HTTP/1.1 101 ");
        Ok(())
    }

    fn hear_answer(&mut self, name: &str, answer: &Answer, is_last: bool) -> Played {
        let expected = whole_answer(answer, is_last);
        let socket = self.socket(name)?;
        let got = whole_heard(socket, answer.is_head_only);
        match got.map_err(|instead| wanted(&expected, instead))? {
            got if got == expected => Ok(()),
            got => Err(wanted(&expected, got)),
        }
    }

    /// Sees that nothing more comes to whatever is open, and closes it.
    fn rest(&mut self) -> Played {
        let mut sockets = std::mem::take(&mut self.sockets);
        sockets.values_mut().try_for_each(rest)?;
        sockets.values_mut().for_each(hang_up);
        self.is_noticed()
    }

    /// Waits until the server counts as many sockets as are open: then all that the leaving of the
    /// others means has happened. Slow entries share their app, so they cannot tell.
    fn is_noticed(&self) -> Played {
        let Entry { app, path, .. } = self.entry;
        if self.entry.is_slow {
            return Ok(());
        }
        let is_open = |socket: &&Socket| socket.speaks_frames && socket.state == State::Open;
        let open = self.sockets.values().filter(is_open).count();
        let expected = format!(r#"{{"connections":{open}}}"#);
        let end = Instant::now() + DEADLINE;
        loop {
            let request = api::call_request(app, "GET", "/connections", "");
            let request = request.replacen("GET ", &format!("GET {path}"), 1);
            let got = api::call(self.server, &request).body;
            if got == expected {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(wanted(&expected, got));
            }
        }
    }

    /// Keeps ids that a payload names and nobody knew, if they are ids.
    fn learn_ids(&mut self, pattern: &str, heard: &str) {
        let Some((before, rest)) = pattern.split_once("«id ") else {
            return;
        };
        let name = rest.split('»').next().unwrap_or_default();
        let found = heard.strip_prefix(before).unwrap_or_default();
        let id: String = found
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        if is_id(&id) {
            self.ids.entry(name.to_owned()).or_insert(id);
        }
    }

    fn socket(&mut self, name: &str) -> Result<&mut Socket, Mismatch> {
        self.sockets.get_mut(name).ok_or_else(|| unopened(name))
    }

    fn terms<'a>(&'a self, socket: &'a str, message: &'a str, n: usize) -> Terms<'a> {
        Terms {
            ids: &self.ids,
            app: &self.entry.app,
            socket,
            now_unix_s: self.now_unix_s,
            n,
            message,
            request: None,
        }
    }
}

/// Nothing more has come to a socket, as far as can be told.
fn rest(socket: &mut Socket) -> Played {
    match socket.state {
        State::Open => fence(socket),
        State::Waiting | State::Ended => Ok(()),
    }
}

/// Ends a connection. What the server says of the others' leaving is nobody's matter.
fn hang_up(socket: &mut Socket) {
    socket.finish();
    socket.drain();
}

/// Asks for a sign of life: it is the next thing that comes.
fn fence(socket: &mut Socket) -> Played {
    let asked = if socket.speaks_frames {
        socket.send_frame(PING, b"fence")
    } else {
        socket.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", None)
    };
    asked.map_err(|instead| wanted("to be heard", instead))?;
    let next = if socket.speaks_frames {
        socket
            .frame()
            .map(|frame| (frame != (PONG, b"fence".to_vec())).then(|| shown(&frame)))
    } else {
        let expected = answers::text("404 Not Found", "Not found.");
        let bytes = socket.take(expected.len());
        bytes.map(|bytes| (bytes != expected.as_bytes()).then(|| bytes.escape_ascii().to_string()))
    };
    match next {
        Ok(None) => Ok(()),
        Ok(Some(other)) | Err(other) => Err(wanted("nothing", other)),
    }
}

/// The bytes of an answer, with the head that all our answers have.
fn whole_answer(answer: &Answer, is_last: bool) -> String {
    let Answer {
        status,
        allow,
        body,
        is_head_only,
    } = answer;
    let mut whole = match body.as_bytes() {
        [b'{', ..] => answers::json(status, body),
        _ => answers::text(status, body),
    };
    if let Some(method) = allow {
        whole = answers::allowing(method, &whole);
    }
    if is_last {
        whole = answers::closing(&whole);
    }
    if *is_head_only {
        whole.truncate(whole.len() - body.len());
    }
    whole
}

/// The next answer on a connection, but for the digits of its date.
fn whole_heard(socket: &mut Socket, is_head_only: bool) -> Result<String, Instead> {
    let head = socket.head()?;
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let length = headers.find(|(name, _)| *name == "Content-Length");
    let length = length.and_then(|(_, length)| length.parse().ok());
    let body = match length {
        Some(length) if !is_head_only => socket.take(length)?,
        _ => Vec::new(),
    };
    Ok(undated(&head) + &String::from_utf8_lossy(&body))
}

/// Does the connection of the first of these steps end behind it?
fn is_last(steps: &[Step]) -> bool {
    let socket = &steps[0].socket;
    let next = steps[1..].iter().find(|step| step.socket == *socket);
    next.is_some_and(|step| {
        matches!(
            step.act,
            Act::Hears {
                what: Heard::End,
                ..
            }
        )
    })
}

/// Two numbers from 1 to 1,000,000,000, without zeros before them.
fn is_id(text: &str) -> bool {
    let is_half = |half: &str| {
        let number = half.parse::<u32>().unwrap_or_default();
        (1..=1_000_000_000).contains(&number) && number.to_string() == half
    };
    text.split_once('.')
        .is_some_and(|(a, b)| is_half(a) && is_half(b))
}

fn wanted(expected: &str, got: Instead) -> Mismatch {
    let expected = expected.to_owned();
    Mismatch { expected, got }
}

fn unopened(name: &str) -> Mismatch {
    wanted("an open socket", format!("[{name}] is not open"))
}

const GREETING: &str = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\""#;
const SUCCEEDED: &str = r#"{"event":"pusher_internal:subscription_succeeded","#;
const CACHE_PREFIXES: [&str; 3] = ["cache", "private-cache-", "presence-cache-"];
