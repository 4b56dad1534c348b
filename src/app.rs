//! Apps by id and by key: secrets, limits, origins, quota.
//!
//! Built whole from configuration; read by sessions, the HTTP API and the shards. It opens nothing
//! and never shows a secret.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ahash::AHashMap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::hex;

/// Apps that there can be: positions are 16 bits wide.
pub const APPS_MAX: usize = u16::MAX as usize;

/// Position of an app in [`Apps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppIndex(pub u16);

/// Who may whisper (`accept_client_events_from`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEvents {
    /// Everyone, to any channel.
    All,
    /// Subscribers of the channel.
    Members,
    /// Nobody.
    None,
}

impl fmt::Display for ClientEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Members => "members",
            Self::None => "none",
        })
    }
}

/// Messages a socket may send per window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Messages taken per window.
    pub max_attempts: u32,
    /// Length of the window, seconds.
    pub decay_s: u32,
    /// Close the socket at the first message over the limit.
    pub terminate: bool,
}

/// What configuration says of one app.
#[derive(Clone)]
pub struct AppSettings {
    /// The id in API paths.
    pub id: String,
    /// The public key clients connect with.
    pub key: String,
    /// The secret all signatures are made with.
    pub secret: String,
    /// Host patterns; `*` accepts every origin.
    pub allowed_origins: Vec<String>,
    /// Seconds of silence before the server pings.
    pub ping_interval_s: u32,
    /// Seconds, as announced to clients.
    pub activity_timeout_s: u32,
    /// None = unlimited.
    pub max_connections: Option<u32>,
    /// Bytes; 0 = no limit but that of a frame, 32 MiB.
    pub max_message_size: u64,
    /// Who may whisper.
    pub client_events: ClientEvents,
    /// None = no limit.
    pub rate_limit: Option<RateLimit>,
}

impl AppSettings {
    /// An app for which nothing but its names is set: what Reverb takes for the rest.
    pub fn new(id: impl Into<String>, key: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            key: key.into(),
            secret: secret.into(),
            allowed_origins: vec!["*".to_owned()],
            ping_interval_s: 60,
            activity_timeout_s: 30,
            max_connections: None,
            max_message_size: 10_000,
            client_events: ClientEvents::Members,
            rate_limit: None,
        }
    }

    /// The names of the settings in which two versions of an app differ.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let same = [
            ("key", self.key == other.key),
            ("secret", self.secret == other.secret),
            (
                "allowed_origins",
                self.allowed_origins == other.allowed_origins,
            ),
            (
                "ping_interval",
                self.ping_interval_s == other.ping_interval_s,
            ),
            (
                "activity_timeout",
                self.activity_timeout_s == other.activity_timeout_s,
            ),
            (
                "max_connections",
                self.max_connections == other.max_connections,
            ),
            (
                "max_message_size",
                self.max_message_size == other.max_message_size,
            ),
            (
                "accept_client_events_from",
                self.client_events == other.client_events,
            ),
            ("rate_limiting", self.rate_limit == other.rate_limit),
        ];
        let differs = same.into_iter().filter(|(_, is_same)| !is_same);
        differs.map(|(name, _)| name).collect()
    }
}

impl fmt::Debug for AppSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSettings")
            .field("id", &self.id)
            .field("key", &self.key)
            .field("secret", &"(redacted)")
            .field("allowed_origins", &self.allowed_origins)
            .field("ping_interval_s", &self.ping_interval_s)
            .field("activity_timeout_s", &self.activity_timeout_s)
            .field("max_connections", &self.max_connections)
            .field("max_message_size", &self.max_message_size)
            .field("client_events", &self.client_events)
            .field("rate_limit", &self.rate_limit)
            .finish()
    }
}

/// All apps. Lookup by exact string.
///
/// An app keeps its index over every reload, also while it is gone: what is kept elsewhere under
/// an index is always the same app's.
#[derive(Debug)]
pub struct Apps {
    places: Vec<Place>,
    /// Of every place, also those whose app is gone.
    by_id: AHashMap<String, AppIndex>,
    by_key: AHashMap<String, AppIndex>,
}

#[derive(Debug, Clone)]
struct Place {
    app: Arc<App>,
    is_served: bool,
}

impl Apps {
    /// At most [`APPS_MAX`]. Duplicate ids or keys are the caller's (config.rs) error, reported
    /// before this.
    pub fn new(settings: Vec<AppSettings>) -> Self {
        let mut apps = Self {
            places: Vec::new(),
            by_id: AHashMap::new(),
            by_key: AHashMap::new(),
        };
        for app in settings {
            apps.serve(app);
        }
        apps
    }

    /// These apps instead; those that were here before keep their index and their connections.
    /// `None` if there is no index left for a new one.
    pub fn reloaded(&self, settings: Vec<AppSettings>) -> Option<Self> {
        let gone = |place: &Place| Place {
            is_served: false,
            ..place.clone()
        };
        let mut apps = Self {
            places: self.places.iter().map(gone).collect(),
            by_id: self.by_id.clone(),
            by_key: AHashMap::new(),
        };
        for app in settings {
            apps.serve(app);
        }
        (apps.places.len() <= APPS_MAX).then_some(apps)
    }

    fn serve(&mut self, settings: AppSettings) {
        let next = AppIndex(u16::try_from(self.places.len()).unwrap_or(u16::MAX));
        let index = *self.by_id.entry(settings.id.clone()).or_insert(next);
        self.by_key.insert(settings.key.clone(), index);
        let mut app = App::new(settings);
        let is_served = true;
        if let Some(place) = self.places.get_mut(usize::from(index.0)) {
            app.connections = Arc::clone(&place.app.connections);
            let app = Arc::new(app);
            *place = Place { app, is_served };
        } else {
            let app = Arc::new(app);
            self.places.push(Place { app, is_served });
        }
    }

    /// None if the app is gone.
    pub fn get(&self, index: AppIndex) -> Option<&App> {
        let place = self.places.get(usize::from(index.0))?;
        place.is_served.then_some(&*place.app)
    }

    /// The app whose id stands in an API path.
    pub fn by_id(&self, id: &str) -> Option<AppIndex> {
        let index = self.by_id.get(id).copied()?;
        self.get(index).map(|_| index)
    }

    /// The app a client connects to.
    pub fn by_key(&self, key: &str) -> Option<AppIndex> {
        self.by_key.get(key).copied()
    }

    /// Gives back a place that [`App::admit`] gave, also if the app is gone.
    pub fn release(&self, index: AppIndex) {
        if let Some(place) = self.places.get(usize::from(index.0)) {
            place.app.release();
        }
    }

    /// Every app, in the order first configured.
    pub fn iter(&self) -> impl Iterator<Item = (AppIndex, &App)> {
        let places = (0..=u16::MAX).map(AppIndex).zip(&self.places);
        let served = places.filter(|(_, place)| place.is_served);
        served.map(|(index, place)| (index, &*place.app))
    }
}

/// One app at work.
#[derive(Debug)]
pub struct App {
    /// What configuration says of it.
    pub settings: AppSettings,
    signer: Signer,
    /// Established sockets of all shards, counted over every reload.
    connections: Arc<AtomicU32>,
}

impl App {
    /// An app with no connections.
    pub fn new(settings: AppSettings) -> Self {
        let signer = Signer::new(settings.secret.as_bytes());
        Self {
            settings,
            signer,
            connections: Arc::default(),
        }
    }

    /// Signs and verifies with the app's secret.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Takes a place under `max_connections`; false = over quota (R-029..R-032). Counted without a
    /// limit too, for a reload may set one.
    pub fn admit(&self) -> bool {
        let max = self.settings.max_connections.unwrap_or(u32::MAX);
        let take = |taken: u32| (taken < max).then(|| taken.saturating_add(1));
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// Gives a place taken by [`Self::admit`] back.
    pub fn release(&self) {
        let give = |taken: u32| taken.checked_sub(1);
        // Nothing taken means nothing to give back: the counter stays at zero.
        let _ = self
            .connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }

    /// R-021..R-027; `origin` is the raw header value.
    pub fn origin_allowed(&self, origin: Option<&str>) -> bool {
        let patterns = &self.settings.allowed_origins;
        if patterns.iter().any(|pattern| pattern == "*") {
            return true;
        }
        let host = origin.and_then(host_of).unwrap_or("");
        patterns
            .iter()
            .any(|pattern| matches(pattern.as_bytes(), host.as_bytes()))
    }
}

/// The app's secret as a keyed HMAC-SHA256 state, cloned per check.
pub struct Signer(Hmac<Sha256>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// Keys the state once.
    pub fn new(secret: &[u8]) -> Self {
        const BLOCK_BYTES: usize = 64;
        // RFC 2104: a key longer than a block is hashed, a shorter one is filled with zeros.
        let mut block = [0; BLOCK_BYTES];
        let digest;
        let key = if secret.len() > BLOCK_BYTES {
            digest = Sha256::digest(secret);
            digest.as_slice()
        } else {
            secret
        };
        block.iter_mut().zip(key).for_each(|(to, &from)| *to = from);
        Self(Hmac::new(&block.into()))
    }

    /// Lower-case hex of the HMAC over the concatenated parts.
    pub fn sign_hex(&self, parts: &[&[u8]]) -> [u8; 64] {
        let digest = self.over(parts).finalize().into_bytes();
        let mut digits = [0; 64];
        for (to, digit) in digits.iter_mut().zip(hex::encode(&digest)) {
            *to = digit;
        }
        digits
    }

    /// Constant time; false for anything but 64 lower-case hex digits.
    pub fn verify_hex(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        if signature.len() != 64 {
            return false;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(signature.chunks_exact(2)) {
            for digit in pair {
                let is_upper = digit.is_ascii_uppercase();
                let Some(bits) = hex::value(*digit).filter(|_| !is_upper) else {
                    return false;
                };
                *byte = (*byte << 4) | bits;
            }
        }
        self.over(parts).verify_slice(&digest).is_ok()
    }

    fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

/// The host of an origin as PHP's `parse_url` finds it: no scheme, user or port; brackets stay.
fn host_of(origin: &str) -> Option<&str> {
    const PORT_DIGITS_MAX: usize = 5;
    let (scheme, rest) = origin.split_once("//")?;
    let letters = scheme.strip_suffix(':').unwrap_or(scheme);
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if letters.len() == scheme.len() && !scheme.is_empty() || !letters.bytes().all(is_scheme) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (host, ""),
    };
    let is_port = port.len() <= PORT_DIGITS_MAX && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && !host.is_empty()).then_some(host)
}

/// Does the whole text fit, each `*` standing for any run of bytes? Backs up to the last `*` only,
/// so the time is bounded by pattern × text.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back_up = None;
    while let Some(byte) = text.get(t) {
        match (pattern.get(p), back_up) {
            (Some(b'*'), _) => {
                p += 1;
                back_up = Some((p, t));
            }
            (Some(wanted), _) if wanted == byte => {
                p += 1;
                t += 1;
            }
            (_, Some((after_star, start))) => {
                p = after_star;
                t = start + 1;
                back_up = Some((p, t));
            }
            (_, None) => return false,
        }
    }
    pattern.iter().skip(p).all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests;
