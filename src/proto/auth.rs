//! HMAC checks: of channel subscriptions and of API calls.
//!
//! Called by the session and by `api`. What is signed is rebuilt from what came, as Reverb does;
//! beyond Reverb, the key must be the app's and an old timestamp is refused.

pub mod query;

use md5::{Digest, Md5};

use crate::app::App;
use crate::broadcast::SocketId;
use crate::hex;
use crate::proto::auth::query::Query;

/// Is `auth`, the whole `key:signature`, right for this socket and channel? The signed text ends
/// with `channel_data` unless that is `""` or `"0"` (R-082..R-092).
pub fn channel_is_authorised(
    app: &App,
    socket: SocketId,
    channel: &str,
    auth: Option<&str>,
    channel_data: Option<&str>,
) -> bool {
    let Some((key, signature)) = auth.and_then(|auth| auth.split_once(':')) else {
        return false;
    };
    if key != app.settings.key {
        return false;
    }
    let (mut a, mut b) = (itoa::Buffer::new(), itoa::Buffer::new());
    let signed = [a.format(socket.a), ".", b.format(socket.b), ":", channel].map(str::as_bytes);
    match channel_data {
        None | Some("" | "0") => app.signer().verify_hex(&signed, signature.as_bytes()),
        Some(data) => {
            let [a, dot, b, colon, channel] = signed;
            let signed = [a, dot, b, colon, channel, colon, data.as_bytes()];
            app.signer().verify_hex(&signed, signature.as_bytes())
        }
    }
}

/// Why an API call is refused, for the log; never a secret. `BadQuery` is 400, the others 401.
#[derive(Debug, PartialEq, Eq)]
pub enum ApiRefusal {
    /// No `auth_signature`, or it is a list.
    SignatureMissing,
    /// The signature is not that of this call.
    SignatureWrong,
    /// `auth_key` is missing or not the app's.
    KeyWrong,
    /// `auth_timestamp` is too far off.
    TimestampSkewed {
        /// Our clock less the caller's.
        skew_s: i64,
    },
    /// `auth_timestamp` is not a number.
    TimestampInvalid,
    /// A parameter is a list of lists, which nobody can sign.
    BadQuery,
}

/// Checks a signed API call (R-174..R-187). `path` is as sent, already without the server's path
/// prefix; `query` is raw; a tolerance of 0 s switches the check of the timestamp off. Gives the
/// query as it was read.
pub fn check_api_call<'a>(
    app: &App,
    method: &str,
    path: &str,
    query: &'a str,
    body: &[u8],
    now_unix_s: u64,
    tolerance_s: u64,
) -> Result<Query<'a>, ApiRefusal> {
    let mut query = Query::parse(query);
    let signature = query
        .text(b"auth_signature")
        .ok_or(ApiRefusal::SignatureMissing)?
        .to_vec();
    let key_is_ours = query.text(b"auth_key") == Some(app.settings.key.as_bytes());
    let timestamp = query.text(b"auth_timestamp").map(<[u8]>::to_vec);
    let has_digest_of_nothing = query.text(b"body_md5") == Some(MD5_OF_NOTHING);
    for name in UNSIGNED {
        query.remove(name);
    }
    if !body.is_empty() {
        query.set_text(b"body_md5", hex::encode(&Md5::digest(body)).collect());
    }
    let mut signed = signed_text(method, path, &mut query)?;
    if !key_is_ours {
        return Err(ApiRefusal::KeyWrong);
    }
    let mut is_ours = app.signer().verify_hex(&[&signed], &signature);
    if !is_ours && body.is_empty() && has_digest_of_nothing {
        // Pusher's library for Python signs the digest of no body as well; Reverb refuses it.
        query.set_text(b"body_md5", MD5_OF_NOTHING.to_vec());
        signed = signed_text(method, path, &mut query)?;
        is_ours = app.signer().verify_hex(&[&signed], &signature);
    }
    if !is_ours {
        return Err(ApiRefusal::SignatureWrong);
    }
    if let Some(timestamp) = timestamp.filter(|_| tolerance_s > 0) {
        check_timestamp(&timestamp, now_unix_s, tolerance_s)?;
    }
    Ok(query)
}

/// What a client signs of a call.
fn signed_text(method: &str, path: &str, query: &mut Query<'_>) -> Result<Vec<u8>, ApiRefusal> {
    let mut text = method.to_ascii_uppercase().into_bytes();
    text.push(b'\n');
    text.extend_from_slice(path.as_bytes());
    text.push(b'\n');
    query
        .write_sorted(&mut text)
        .map_err(|query::Nested| ApiRefusal::BadQuery)?;
    Ok(text)
}

/// Parameters that are no part of the signed text; `body_md5` is put back from the body itself.
const UNSIGNED: [&[u8]; 5] = [
    b"auth_signature",
    b"body_md5",
    b"appId",
    b"appKey",
    b"channelName",
];

const MD5_OF_NOTHING: &[u8] = b"d41d8cd98f00b204e9800998ecf8427e";

fn check_timestamp(timestamp: &[u8], now_unix_s: u64, tolerance_s: u64) -> Result<(), ApiRefusal> {
    let digits = std::str::from_utf8(timestamp).map_err(|_| ApiRefusal::TimestampInvalid)?;
    let then: i64 = digits.parse().map_err(|_| ApiRefusal::TimestampInvalid)?;
    let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
    let skew_s = now.saturating_sub(then);
    if skew_s.unsigned_abs() > tolerance_s {
        return Err(ApiRefusal::TimestampSkewed { skew_s });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
