//! Apps by id and by key: secrets, limits, origins, quota.
//!
//! Built whole from configuration; read by sessions, the HTTP API and the shards. It opens nothing
//! and never shows a secret.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use ahash::AHashMap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::hex;

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
#[derive(Debug)]
pub struct Apps {
    list: Vec<App>,
    by_id: AHashMap<String, AppIndex>,
    by_key: AHashMap<String, AppIndex>,
}

impl Apps {
    /// Duplicate ids or keys are the caller's (config.rs) error, reported before this.
    pub fn new(settings: Vec<AppSettings>) -> Self {
        let list: Vec<App> = settings.into_iter().map(App::new).collect();
        let indices = || (0..=u16::MAX).map(AppIndex);
        let by_id = list
            .iter()
            .map(|app| app.settings.id.clone())
            .zip(indices())
            .collect();
        let by_key = list
            .iter()
            .map(|app| app.settings.key.clone())
            .zip(indices())
            .collect();
        Self {
            list,
            by_id,
            by_key,
        }
    }

    /// None if the index is stale.
    pub fn get(&self, index: AppIndex) -> Option<&App> {
        self.list.get(usize::from(index.0))
    }

    /// The app whose id stands in an API path.
    pub fn by_id(&self, id: &str) -> Option<AppIndex> {
        self.by_id.get(id).copied()
    }

    /// The app a client connects to.
    pub fn by_key(&self, key: &str) -> Option<AppIndex> {
        self.by_key.get(key).copied()
    }

    /// Every app, in the order configured.
    pub fn iter(&self) -> impl Iterator<Item = (AppIndex, &App)> {
        (0..=u16::MAX).map(AppIndex).zip(&self.list)
    }
}

/// One app at work.
#[derive(Debug)]
pub struct App {
    /// What configuration says of it.
    pub settings: AppSettings,
    signer: Signer,
    connections: AtomicU32,
}

impl App {
    /// An app with no connections.
    pub fn new(settings: AppSettings) -> Self {
        let signer = Signer::new(settings.secret.as_bytes());
        Self {
            settings,
            signer,
            connections: AtomicU32::new(0),
        }
    }

    /// Signs and verifies with the app's secret.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Takes a place under `max_connections`; false = over quota (R-029..R-032). Touches the
    /// counter only if a limit is set.
    pub fn admit(&self) -> bool {
        let Some(max) = self.settings.max_connections else {
            return true;
        };
        let take = |taken: u32| (taken < max).then(|| taken.saturating_add(1));
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// Gives a place taken by [`Self::admit`] back.
    pub fn release(&self) {
        if self.settings.max_connections.is_some() {
            let give = |taken: u32| taken.checked_sub(1);
            // Nothing taken means nothing to give back: the counter stays at zero.
            let _ = self
                .connections
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
        }
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
mod tests {
    use super::*;

    fn app(origins: &[&str], max_connections: Option<u32>) -> App {
        App::new(AppSettings {
            allowed_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            max_connections,
            ..AppSettings::new("123456", "reverb-key", "reverb-secret")
        })
    }

    fn allows(origins: &[&str], origin: &str) -> bool {
        app(origins, None).origin_allowed(Some(origin))
    }

    #[test]
    fn r021_a_star_accepts_any_origin_and_none() {
        let app = app(&["laravel.com", "*"], None);
        assert!(app.origin_allowed(None));
        assert!(app.origin_allowed(Some("https://evil.test")));
    }

    #[test]
    fn r022_only_the_host_of_the_origin_counts() {
        for origin in [
            "http://laravel.com",
            "https://laravel.com:8443",
            "https://a:b@laravel.com:1/x",
        ] {
            assert!(allows(&["laravel.com"], origin), "{origin}");
        }
        assert!(allows(&["[::1]"], "http://[::1]:8000"));
    }

    #[test]
    fn r023_no_origin_is_refused() {
        assert!(!app(&["laravel.com"], None).origin_allowed(None));
        assert!(!app(&[], None).origin_allowed(None));
    }

    #[test]
    fn r024_r027_other_hosts_are_refused() {
        for origin in [
            "http://localhost",
            "http://sub.laravel.com",
            "http://LARAVEL.com",
            "null",
            "laravel.com",
            "http://laravel.com.evil.com",
            "http:/laravel.com",
            "http://laravel.com:port",
            "",
        ] {
            assert!(!allows(&["laravel.com"], origin), "{origin}");
        }
        assert!(!allows(&["https://laravel.com"], "https://laravel.com"));
    }

    #[test]
    fn r025_r026_a_wildcard_stands_for_any_run() {
        assert!(!allows(&["*.laravel.com"], "http://laravel.com"));
        assert!(allows(&["*.laravel.com"], "http://a.laravel.com"));
        assert!(allows(&["*.laravel.com"], "http://a.b.laravel.com"));
        assert!(allows(
            &["localhost", "*.localhost"],
            "http://sub.localhost"
        ));
        assert!(allows(&["a*b*c"], "http://aXbXbXc"));
        assert!(!allows(&["a*b*c"], "http://aXbXbX"));
        assert!(allows(&["a**"], "http://a"));
    }

    #[test]
    fn r029_r032_places_are_taken_and_given_back() {
        let limited = app(&[], Some(1));
        assert!(limited.admit());
        assert!(!limited.admit());
        limited.release();
        limited.release();
        assert!(limited.admit());
        assert!(!app(&[], Some(0)).admit());
        let unlimited = app(&[], None);
        assert!((0..10).all(|_| unlimited.admit()));
        assert_eq!(unlimited.connections.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn signatures_equal_those_of_rfc_4231() {
        let short = Signer::new(b"Jefe");
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        let hex = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(&short.sign_hex(&parts), hex);
        assert!(short.verify_hex(&parts, hex));
        assert!(!short.verify_hex(&parts, &hex.to_ascii_uppercase()));
        assert!(!short.verify_hex(&parts, &hex[1..]));
        let long = Signer::new(&[0xaa; 131]);
        let text: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";
        let hex = b"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        assert_eq!(&long.sign_hex(&[text]), hex);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let shown = format!("{:?}", app(&[], None).settings);
        assert!(shown.contains("reverb-key") && !shown.contains("reverb-secret"));
    }

    #[test]
    fn r019_apps_are_found_by_exact_id_and_key() {
        let mut second = app(&[], None).settings;
        second.id = "654321".to_owned();
        second.key = "reverb-key-2".to_owned();
        let apps = Apps::new(vec![app(&[], None).settings, second]);
        assert_eq!(apps.by_id("654321"), Some(AppIndex(1)));
        assert_eq!(apps.by_key("reverb-key"), Some(AppIndex(0)));
        assert_eq!(apps.by_id("123456.0"), None);
        assert_eq!(apps.by_key(""), None);
        assert!(apps.get(AppIndex(2)).is_none());
        assert_eq!(apps.iter().count(), 2);
    }
}
