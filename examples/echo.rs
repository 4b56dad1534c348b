//! The server that Autobahn tests: Slapback's codec, shard and edge, with an echo for a protocol.
//!
//! `SLAPBACK_DRIVER=auto|uring|epoll echo --port N`; it listens on 127.0.0.1 until it is killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slapback::app::Apps;
use slapback::config::DriverChoice;
use slapback::edge::flush;
use slapback::fleet::{Blueprint, Fleet, Shards};
use slapback::proto::frame::{self, Decoder, Incoming};
use slapback::proto::handshake;
use slapback::proto::http::{Limits, Read, Reader};
use slapback::proto::session::{Context, Effect, Effects, Protocol, Reply, Settings};
use slapback::shard::BacklogLimits;
use slapback::shard::cache::CacheLimits;

/// Autobahn sends messages of up to 16 MiB.
const MESSAGE_BYTES_MAX: u64 = 32 << 20;
const BACKLOG_BYTES: usize = 32 << 20;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut port = 9001;
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--port", Some(value)) => {
                port = value
                    .parse()
                    .unwrap_or_else(|_| panic!("--port takes a number"));
            }
            _ => panic!("usage: echo --port N"),
        }
    }
    let choice = match std::env::var("SLAPBACK_DRIVER").as_deref() {
        Ok("epoll") => DriverChoice::Epoll,
        Ok("uring") => DriverChoice::Uring,
        _ => DriverChoice::Auto,
    };
    let driver = flush::open(choice)
        .unwrap_or_else(|error| panic!("{error}"))
        .driver;
    let fleet = Fleet::start::<Echo>(&Blueprint {
        host: "127.0.0.1".to_owned(),
        port,
        is_shared: false,
        unix_socket: None,
        shards: Shards {
            count: 1,
            cpus: None,
        },
        driver,
        apps: Arc::new(Apps::new(Vec::new())),
        settings: Arc::new(Settings::default()),
        limits: BacklogLimits {
            bytes: BACKLOG_BYTES,
            wait: Duration::from_secs(10),
            total: 8 * BACKLOG_BYTES,
        },
        cache: CacheLimits {
            channels: 100,
            bytes: 1 << 20,
        },
        ring_bytes: 1 << 20,
        connections_max: 1000,
        drain: Duration::ZERO,
        ingest: None,
        scaling: None,
        redis: Arc::default(),
    });
    let fleet = fleet.unwrap_or_else(|error| panic!("port {port}: {error}"));
    let name = match driver {
        flush::Driver::Uring => "io_uring",
        flush::Driver::Sendmsg => "epoll",
    };
    println!("echo on {} driver: {name}", fleet.address);
    loop {
        std::thread::park();
    }
}

/// Says back what it is told.
enum Echo {
    Http(Reader),
    WebSocket(Decoder),
    Ended,
}

impl Protocol for Echo {
    fn open(_: Instant) -> Self {
        Self::Http(Reader::default())
    }

    fn handle_bytes(
        &mut self,
        input: &mut [u8],
        _: &mut Context<'_>,
        effects: &mut Effects,
    ) -> usize {
        let (taken, next) = match self {
            Self::Http(reader) => shake_hands(reader, input, effects),
            Self::WebSocket(decoder) => echo(decoder, input, effects),
            Self::Ended => (input.len(), None),
        };
        if let Some(next) = next {
            *self = next;
        }
        taken
    }

    fn handle_reply(&mut self, _: Reply, _: &mut Context<'_>, _: &mut Effects) {}

    fn handle_deadline(&mut self, _: &mut Context<'_>, _: &mut Effects) {}

    fn deadline(&self, _: &Apps) -> Option<Instant> {
        None
    }

    fn close(&mut self, code: u16, reason: &str, effects: &mut Effects) {
        effects.send(|out| frame::close(out, Some(code), reason.as_bytes()));
        effects.list.push(Effect::Close);
    }

    fn is_web_socket(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    fn is_idle_http(&self) -> bool {
        matches!(self, Self::Http(reader) if reader.is_idle())
    }
}

fn shake_hands(
    reader: &mut Reader,
    input: &mut [u8],
    effects: &mut Effects,
) -> (usize, Option<Echo>) {
    match reader.read(
        input,
        &Limits {
            max_request_size: 10_000,
        },
    ) {
        Read::Incomplete => (input.len(), None),
        Read::Request { consumed, request } => match handshake::check(&request) {
            Ok(accept) => {
                effects.send(|out| handshake::write_accept(out, &accept));
                (consumed, Some(Echo::WebSocket(Decoder::default())))
            }
            Err(refusal) => {
                effects.send(|out| handshake::write_refusal(out, &refusal));
                effects.list.push(Effect::Finish);
                (consumed, Some(Echo::Ended))
            }
        },
        Read::Continue { .. } | Read::Refused { .. } => {
            effects.list.push(Effect::Finish);
            (input.len(), Some(Echo::Ended))
        }
    }
}

fn echo(decoder: &mut Decoder, input: &mut [u8], effects: &mut Effects) -> (usize, Option<Echo>) {
    let (taken, item) = decoder.decode(input, MESSAGE_BYTES_MAX);
    match item {
        Ok(None | Some(Incoming::Pong(_))) => (taken, None),
        Ok(Some(Incoming::Message {
            payload,
            text: true,
        })) => {
            effects.send(|out| frame::text(out, |out| out.extend_from_slice(payload)));
            (taken, None)
        }
        Ok(Some(Incoming::Message {
            payload,
            text: false,
        })) => {
            effects.send(|out| frame::binary(out, payload));
            (taken, None)
        }
        Ok(Some(Incoming::Ping(payload))) => {
            effects.send(|out| frame::pong(out, payload));
            (taken, None)
        }
        Ok(Some(Incoming::Close { code, reason })) => {
            effects.send(|out| frame::close(out, Some(code.unwrap_or(1000)), reason));
            effects.list.push(Effect::Finish);
            (taken, Some(Echo::Ended))
        }
        Err(violation) => {
            let reason = violation.reason.as_bytes();
            effects.send(|out| frame::close(out, Some(violation.code), reason));
            effects.list.push(Effect::Finish);
            (taken, Some(Echo::Ended))
        }
    }
}
