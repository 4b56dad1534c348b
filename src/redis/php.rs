//! PHP's `serialize()`, as far as Reverb's bus needs it.
//!
//! Reads the two classes that Reverb sends, any subset of their properties in any order, and
//! writes them whole. Called by `envelope`. It never builds a tree, never knows another class,
//! and never takes memory for a length that is merely announced.

use crate::app::AppSettings;

/// Arrays and objects within one another.
pub const DEPTH_MAX: usize = 8;
/// Entries of all arrays and objects of one text.
pub const ENTRIES_MAX: usize = 16_384;
/// Bytes of one string.
pub const STRING_BYTES_MAX: usize = 1 << 20;

const APPLICATION: &str = r"Laravel\Reverb\Application";
const METRIC: &str = r"Laravel\Reverb\Protocols\Pusher\PendingMetric";
const METRIC_TYPE: &str = r"Laravel\Reverb\Protocols\Pusher\MetricType";
/// How the name of a protected property begins.
const PROTECTED: &str = "\0*\0";

/// Why a text was refused; it holds nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable(pub &'static str);

/// What a metrics question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// All connections of the app.
    Connections,
    /// Its channels.
    Channels,
    /// One channel.
    Channel,
    /// The users of one channel.
    ChannelUsers,
}

impl MetricType {
    const ALL: [Self; 4] = [
        Self::Connections,
        Self::Channels,
        Self::Channel,
        Self::ChannelUsers,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Connections => "CONNECTIONS",
            Self::Channels => "CHANNELS",
            Self::Channel => "CHANNEL",
            Self::ChannelUsers => "CHANNEL_USERS",
        }
    }
}

/// A metrics question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric<'a> {
    /// The `type` its answers bear.
    pub key: &'a str,
    /// The app it is about.
    pub app: &'a str,
    /// What is asked.
    pub metric: MetricType,
    /// Its options, in the order given.
    pub options: Vec<(&'a str, Choice<'a>)>,
}

/// The value of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Not given.
    Null,
    /// A channel, a prefix or the fields wanted.
    Text(&'a str),
    /// Channels.
    Texts(Vec<&'a str>),
}

/// Where Laravel publishes to: what an application's `options` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// None = not set.
    pub host: Option<&'a str>,
    /// The port.
    pub port: u16,
    /// `https` is TLS, all else is not.
    pub scheme: &'a str,
}

/// The id in a serialised application.
pub fn read_application(text: &str) -> Result<&str, Unreadable> {
    let mut reader = Reader::new(text);
    let id = reader.application()?;
    reader.end()?;
    Ok(id)
}

/// Reads a metrics question.
pub fn read_metric(text: &str) -> Result<Metric<'_>, Unreadable> {
    let mut reader = Reader::new(text);
    let (mut key, mut app, mut metric, mut options) = (None, None, None, Vec::new());
    reader.object(METRIC, |reader, name| {
        match name {
            "key" => key = Some(reader.text()?),
            "application" => app = Some(reader.application()?),
            "type" => metric = Some(reader.metric_type()?),
            "options" => options = reader.options()?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    Ok(Metric {
        key: key.ok_or(Unreadable("the metric has no key"))?,
        app: app.ok_or(Unreadable("the metric has no application"))?,
        metric: metric.ok_or(Unreadable("the metric has no type"))?,
        options,
    })
}

enum Item<'a> {
    Null,
    Scalar,
    Text(&'a str),
    Case(&'a str),
    Array(usize),
    Object(&'a str, usize),
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
    entries_left: usize,
}

impl<'a> Reader<'a> {
    fn new(rest: &'a str) -> Self {
        Self {
            rest,
            depth: 0,
            entries_left: ENTRIES_MAX,
        }
    }

    fn application(&mut self) -> Result<&'a str, Unreadable> {
        let mut id = None;
        self.object(APPLICATION, |reader, name| {
            match name {
                "id" => id = Some(reader.text()?),
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        id.ok_or(Unreadable("the application has no id"))
    }

    fn object(
        &mut self,
        wanted: &str,
        mut property: impl FnMut(&mut Self, &'a str) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        let count = match self.item()? {
            Item::Object(class, count) if class == wanted => count,
            _ => return Err(Unreadable("not an object of the class expected")),
        };
        for _ in 0..count {
            let name = self.text()?;
            property(self, name.strip_prefix(PROTECTED).unwrap_or(name))?;
        }
        self.close()
    }

    fn metric_type(&mut self) -> Result<MetricType, Unreadable> {
        let unknown = Unreadable("not a type of metric");
        let Item::Case(case) = self.item()? else {
            return Err(unknown);
        };
        let (class, case) = case.split_once(':').ok_or(unknown)?;
        let mut known = MetricType::ALL.into_iter();
        let found = known.find(|metric| class == METRIC_TYPE && metric.name() == case);
        found.ok_or(unknown)
    }

    fn options(&mut self) -> Result<Vec<(&'a str, Choice<'a>)>, Unreadable> {
        let Item::Array(count) = self.item()? else {
            return Err(Unreadable("the options are no array"));
        };
        let mut options = Vec::new();
        for _ in 0..count {
            options.push((self.text()?, self.choice()?));
        }
        self.close()?;
        Ok(options)
    }

    fn choice(&mut self) -> Result<Choice<'a>, Unreadable> {
        let count = match self.item()? {
            Item::Null => return Ok(Choice::Null),
            Item::Text(text) => return Ok(Choice::Text(text)),
            Item::Array(count) => count,
            _ => return Err(Unreadable("not the value of an option")),
        };
        let mut texts = Vec::new();
        for _ in 0..count {
            self.skip()?;
            texts.push(self.text()?);
        }
        self.close()?;
        Ok(Choice::Texts(texts))
    }

    /// As deep as [`DEPTH_MAX`] at the most.
    fn skip(&mut self) -> Result<(), Unreadable> {
        let count = match self.item()? {
            Item::Array(count) => count,
            Item::Object(class, count) if class == APPLICATION || class == METRIC => count,
            Item::Object(..) => return Err(Unreadable("not a class of the bus")),
            Item::Null | Item::Scalar | Item::Text(_) | Item::Case(_) => return Ok(()),
        };
        for _ in 0..count {
            self.skip()?;
            self.skip()?;
        }
        self.close()
    }

    fn text(&mut self) -> Result<&'a str, Unreadable> {
        match self.item()? {
            Item::Text(text) => Ok(text),
            _ => Err(Unreadable("not a string where one belongs")),
        }
    }

    /// A scalar whole, or the head of an array or object.
    fn item(&mut self) -> Result<Item<'a>, Unreadable> {
        let cut = Unreadable("ends too early");
        let (kind, rest) = self.rest.split_at_checked(2).ok_or(cut)?;
        self.rest = rest;
        match kind {
            "N;" => Ok(Item::Null),
            "b:" | "i:" | "d:" => {
                let number = self.until(';')?.parse::<f64>();
                number.map_err(|_| Unreadable("not a number"))?;
                Ok(Item::Scalar)
            }
            "s:" => {
                let text = self.counted()?;
                self.take(";")?;
                Ok(Item::Text(text))
            }
            "E:" => {
                let case = self.counted()?;
                self.take(";")?;
                let is_known = case.split_once(':').is_some_and(|(c, _)| c == METRIC_TYPE);
                let known = is_known.then_some(Item::Case(case));
                known.ok_or(Unreadable("not an enum of the bus"))
            }
            "a:" => Ok(Item::Array(self.open()?)),
            "O:" => {
                let class = self.counted()?;
                self.take(":")?;
                Ok(Item::Object(class, self.open()?))
            }
            _ => Err(Unreadable("not a value of PHP")),
        }
    }

    fn counted(&mut self) -> Result<&'a str, Unreadable> {
        let length = self.length()?;
        if length > STRING_BYTES_MAX {
            return Err(Unreadable("a string is too long"));
        }
        self.take("\"")?;
        let split = self.rest.split_at_checked(length);
        let (text, rest) = split.ok_or(Unreadable("a string is cut off"))?;
        self.rest = rest;
        self.take("\"")?;
        Ok(text)
    }

    fn open(&mut self) -> Result<usize, Unreadable> {
        let count = self.length()?;
        self.take("{")?;
        let left = self.entries_left.checked_sub(count);
        self.entries_left = left.ok_or(Unreadable("too many entries"))?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Unreadable("nested too deeply"));
        }
        Ok(count)
    }

    fn close(&mut self) -> Result<(), Unreadable> {
        self.depth -= 1;
        self.take("}")
    }

    fn length(&mut self) -> Result<usize, Unreadable> {
        let digits = self.until(':')?;
        digits.parse().map_err(|_| Unreadable("not a length"))
    }

    fn until(&mut self, mark: char) -> Result<&'a str, Unreadable> {
        let split = self.rest.split_once(mark);
        let (before, rest) = split.ok_or(Unreadable("ends too early"))?;
        self.rest = rest;
        Ok(before)
    }

    fn take(&mut self, mark: &str) -> Result<(), Unreadable> {
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.ok_or(Unreadable("a mark is missing"))?;
        Ok(())
    }

    fn end(&self) -> Result<(), Unreadable> {
        let is_all = self.rest.is_empty();
        is_all.then_some(()).ok_or(Unreadable("has a tail"))
    }
}

/// The whole application, its 11 properties in Reverb's order.
pub fn application(app: &AppSettings, at: Address<'_>) -> String {
    let mut out = Writer::default();
    out.object(APPLICATION, 11);
    out.property("id").text(&app.id);
    out.property("key").text(&app.key);
    out.property("secret").text(&app.secret);
    out.property("pingInterval").int(app.ping_interval_s.into());
    out.property("activityTimeout")
        .int(app.activity_timeout_s.into());
    out.property("allowedOrigins").texts(&app.allowed_origins);
    out.property("maxMessageSize").int(app.max_message_size);
    let most = app.max_connections;
    out.property("maxConnections")
        .option(most, |out, most| out.int(most.into()));
    out.property("acceptClientEventsFrom")
        .text(&app.client_events.to_string());
    out.rate_limit(app);
    out.address(at);
    out.close();
    out.0
}

/// A metrics question about the app that [`application`] wrote.
pub fn metric(key: &str, app: &str, metric: MetricType, options: &[(&str, Choice<'_>)]) -> String {
    let mut out = Writer::default();
    out.object(METRIC, 6);
    out.property("subscribers").raw("N;");
    out.property("data").raw("a:0:{}");
    out.property("key").text(key);
    out.property("application").raw(app);
    out.property("type");
    let case = format!("{METRIC_TYPE}:{}", metric.name());
    out.raw(&format!("E:{}:\"{case}\";", case.len()));
    out.property("options").array(options.len());
    for (name, choice) in options {
        out.text(name);
        match choice {
            Choice::Null => out.raw("N;"),
            Choice::Text(text) => out.text(text),
            Choice::Texts(texts) => out.texts(texts),
        }
    }
    out.close();
    out.close();
    out.0
}

#[derive(Default)]
struct Writer(String);

impl Writer {
    fn rate_limit(&mut self, app: &AppSettings) {
        // What Reverb's own configuration says when nothing is set.
        const ATTEMPTS: u32 = 60;
        const DECAY_S: u32 = 60;
        let limit = app.rate_limit;
        self.property("rateLimiting").array(4);
        self.text("enabled");
        self.bool(limit.is_some());
        self.text("max_attempts");
        self.int(limit.map_or(ATTEMPTS, |limit| limit.max_attempts).into());
        self.text("decay_seconds");
        self.int(limit.map_or(DECAY_S, |limit| limit.decay_s).into());
        self.text("terminate_on_limit");
        self.bool(limit.is_some_and(|limit| limit.terminate));
        self.close();
    }

    fn address(&mut self, at: Address<'_>) {
        self.property("options").array(4);
        self.text("host");
        self.option(at.host, Self::text);
        self.text("port");
        self.int(at.port.into());
        self.text("scheme");
        self.text(at.scheme);
        self.text("useTLS");
        self.bool(at.scheme == "https");
        self.close();
    }

    fn property(&mut self, name: &str) -> &mut Self {
        self.text(&format!("{PROTECTED}{name}"));
        self
    }

    fn object(&mut self, class: &str, count: usize) {
        self.raw(&format!("O:{}:\"{class}\":{count}:{{", class.len()));
    }

    fn array(&mut self, count: usize) {
        self.raw(&format!("a:{count}:{{"));
    }

    fn close(&mut self) {
        self.raw("}");
    }

    fn text(&mut self, text: &str) {
        self.raw(&format!("s:{}:\"{text}\";", text.len()));
    }

    fn texts(&mut self, texts: &[impl AsRef<str>]) {
        self.array(texts.len());
        for (index, text) in texts.iter().enumerate() {
            self.raw(&format!("i:{index};"));
            self.text(text.as_ref());
        }
        self.close();
    }

    fn int(&mut self, number: u64) {
        self.raw(&format!("i:{number};"));
    }

    fn bool(&mut self, truth: bool) {
        self.raw(if truth { "b:1;" } else { "b:0;" });
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.raw("N;"),
        }
    }

    fn raw(&mut self, text: &str) {
        self.0.push_str(text);
    }
}

#[cfg(test)]
mod tests;
