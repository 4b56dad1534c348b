//! One connection, sans-io: bytes and time in, effects out.
//!
//! Nothing in this folder names a socket, a thread, a clock or a runtime, so every rule of the
//! protocol is tested by plain calls.

pub mod api;
pub mod auth;
pub mod channel;
pub mod event;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod json;
pub mod percent;
pub mod presence;
pub mod session;
pub mod trace;
pub mod turnstile;

use std::time::Instant;

/// The time of one call, read once by whoever makes it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic time, for every wait and timeout.
    pub instant: Instant,
    /// Wall clock in whole seconds since 1970, for API timestamps and the `Date` header.
    pub unix_s: u64,
}
