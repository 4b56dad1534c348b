//! Any text as the query of an API call: read the same however much of it is percent-encoded, and
//! let in if it is signed as a plain reading has it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use slapback::app::{App, AppSettings};
use slapback::proto::auth::{self, ApiRefusal};

const PATH: &str = "/apps/1/events";
const UNIX_S: u64 = 1_800_000_000;
const TOLERANCE_S: u64 = 600;
const MD5_OF_NOTHING: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// Checks the query as it is, encoded, and signed.
pub fn run(input: &[u8]) {
    let Ok(query) = str::from_utf8(input) else {
        return;
    };
    let app = App::new(AppSettings::new("1", "key", "secret"));
    let verdict = check(&app, query);
    assert_eq!(check(&app, &encoded(query)), verdict, "encoding tells");
    let Some(mut parameters) = plain(query) else {
        return;
    };
    for unsigned in [
        "auth_signature",
        "body_md5",
        "appId",
        "appKey",
        "channelName",
    ] {
        parameters.remove(unsigned);
    }
    parameters.insert("auth_key".to_owned(), "key".to_owned());
    parameters.insert("auth_timestamp".to_owned(), UNIX_S.to_string());
    let plainly = signed(&app, query, &parameters);
    assert_eq!(check(&app, &plainly), Ok(()));
    // Some sign the digest of no body too.
    parameters.insert("body_md5".to_owned(), MD5_OF_NOTHING.to_owned());
    let with_digest = signed(
        &app,
        &format!("{query}&body_md5={MD5_OF_NOTHING}"),
        &parameters,
    );
    assert_eq!(check(&app, &with_digest), Ok(()));
    // Longer than what it was, so another.
    let forged = "x".repeat(1 + parameters.get("forged").map_or(0, String::len));
    for call in [plainly, with_digest] {
        let call = format!("{call}&forged={forged}");
        assert_eq!(check(&app, &call), Err(ApiRefusal::SignatureWrong));
    }
}

/// The query with what makes it a call that is signed for these parameters.
fn signed(app: &App, query: &str, parameters: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let signed = format!("GET\n{PATH}\n{}", pairs.join("&"));
    let signature = app.signer().sign_hex(&[signed.as_bytes()]);
    let signature = str::from_utf8(&signature).expect("digits");
    format!("{query}&auth_key=key&auth_timestamp={UNIX_S}&auth_signature={signature}")
}

fn check(app: &App, query: &str) -> Result<(), ApiRefusal> {
    let checked = auth::check_api_call(app, "GET", PATH, query, b"", UNIX_S, TOLERANCE_S);
    checked.map(|_| ())
}

/// The parameters of a query whose names PHP takes as they are; None for any other.
pub(crate) fn plain(query: &str) -> Option<BTreeMap<String, String>> {
    // PHP reads no more than 1000 parameters, of which we add some.
    const PARAMETERS_MAX: usize = 900;
    let pieces = || query.split('&').filter(|piece| !piece.is_empty());
    if pieces().count() > PARAMETERS_MAX {
        return None;
    }
    let mut parameters = BTreeMap::new();
    for piece in pieces() {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let starts = name.starts_with(|first: char| first.is_ascii_alphabetic());
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if !starts || !name.chars().all(is_plain) {
            return None;
        }
        let value = String::from_utf8(decoded(value)).ok()?;
        parameters.insert(name.to_owned(), value);
    }
    Some(parameters)
}

/// Every byte between `&` and `=` percent-encoded, those that were so already decoded before.
fn encoded(query: &str) -> String {
    let encode = |text: &str| {
        let mut out = String::new();
        for byte in decoded(text) {
            write!(out, "%{byte:02x}").expect("a string takes all");
        }
        out
    };
    let pairs: Vec<String> = query
        .split('&')
        .map(|piece| match piece.split_once('=') {
            Some((name, value)) => format!("{}={}", encode(name), encode(value)),
            None => encode(piece),
        })
        .collect();
    pairs.join("&")
}

/// `%41` is `A`, `+` a space; a percent sign with no digits behind it stays.
fn decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut out = Vec::new();
    while let [first, tail @ ..] = rest {
        rest = tail;
        out.push(match (first, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        });
    }
    out
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}
