//! One event, serialised once and shared by every shard.
//!
//! Built by a session from a whisper or an API call; ordered by the app's home; read by every
//! shard. Never copied per subscriber.

use std::fmt;

use crate::app::AppIndex;

/// A WebSocket connection's public name, `"{a}.{b}"`, both parts 1..=1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId {
    /// Part before the dot.
    pub a: u32,
    /// Part after the dot.
    pub b: u32,
}

/// The largest value of either part of a [`SocketId`].
pub const SOCKET_ID_PART_MAX: u32 = 1_000_000_000;

impl SocketId {
    /// Draws a new id.
    pub fn draw(random: &mut fastrand::Rng) -> Self {
        Self {
            a: random.u32(1..=SOCKET_ID_PART_MAX),
            b: random.u32(1..=SOCKET_ID_PART_MAX),
        }
    }

    /// Reads `"{a}.{b}"` exactly as [`fmt::Display`] writes it: no sign, no leading zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (a, b) = text.split_once('.')?;
        Some(Self {
            a: part(a)?,
            b: part(b)?,
        })
    }
}

fn part(digits: &str) -> Option<u32> {
    if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits
        .parse()
        .ok()
        .filter(|&value| (1..=SOCKET_ID_PART_MAX).contains(&value))
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.a, self.b)
    }
}

/// What is published in one go, on its way to the subscribers of channels of one app.
///
/// An event for many channels is one broadcast, and so is a batch: its home takes it whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// The app whose channels these are.
    pub app: AppIndex,
    /// What each channel gets, in the order published.
    pub deliveries: Vec<Delivery>,
    /// It is one event of the HTTP API for all of them, not one for each.
    pub is_one_event: bool,
}

/// What the subscribers of one channel get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The channel's name.
    pub channel: Box<str>,
    /// The socket that must not get it: the whisper's sender, or `socket_id` of an API call.
    pub except: Option<SocketId>,
    /// One whole WebSocket text frame, header included, as it goes on the wire.
    pub frame: Box<[u8]>,
    /// The channel keeps it for those who subscribe later.
    pub is_kept: bool,
}

impl Broadcast {
    /// What is said to nobody.
    pub fn nothing(app: AppIndex) -> Self {
        Self {
            app,
            deliveries: Vec::new(),
            is_one_event: false,
        }
    }

    /// Bytes this broadcast keeps in memory while it waits in a ring.
    pub fn weight(&self) -> usize {
        let held =
            |delivery: &Delivery| delivery.channel.len() + delivery.frame.len() + RECORD_BYTES;
        self.deliveries.iter().map(held).sum::<usize>() + RECORD_BYTES
    }
}

/// About what a broadcast, and each of its deliveries, takes beside its texts.
const RECORD_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r006_socket_id_is_two_numbers_from_one_to_a_thousand_million() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1000 {
            let id = SocketId::draw(&mut random);
            assert!(
                (1..=SOCKET_ID_PART_MAX).contains(&id.a)
                    && (1..=SOCKET_ID_PART_MAX).contains(&id.b)
            );
            assert_eq!(SocketId::parse(&id.to_string()), Some(id));
        }
    }

    #[test]
    fn socket_id_refuses_what_it_never_writes() {
        for text in [
            "",
            ".",
            "1",
            "1.",
            ".1",
            "01.1",
            "1.1.1",
            "+1.1",
            "0.1",
            "1000000001.1",
            "1.9999999999",
        ] {
            assert_eq!(SocketId::parse(text), None, "{text}");
        }
    }
}
