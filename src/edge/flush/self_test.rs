//! Holds a flusher to what the shard relies on, on a TCP pair over loopback, before it gets a
//! socket of ours. Called once per shard at start, and by the tests. Takes about a millisecond.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "ranges of the log are meant"
)]

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::net::sockopt;

use crate::shard::flusher::{Flusher, Outgoing, Sent};

/// What a flusher did that it must not do, or why that could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestFailure {
    /// There is no loopback to test on.
    #[error("no TCP pair on loopback: {0}")]
    NoPair(#[from] io::Error),
    /// A send ended otherwise than it must.
    #[error("{case}: the send ended as {result:?}")]
    Result {
        /// Which send it was.
        case: &'static str,
        /// What was reported of it.
        result: Option<Sent>,
    },
    /// The peer received other bytes than were reported as sent.
    #[error("{case}: the bytes received are not the bytes sent")]
    Bytes {
        /// Which send it was.
        case: &'static str,
    },
}

/// More than the two socket buffers swallow.
const LOG_BYTES: u32 = 256 * 1024;
/// Asked for as the peer's receive buffer. One below a loopback segment (64 KiB in the end, as the
/// kernel doubles it) would leave the pair waiting for window probes.
pub(super) const PEER_BUFFER: usize = 32 * 1024;
/// Sends until a socket must be full or dead, with a pause between.
const ROUNDS: usize = 200;
const PAUSE: Duration = Duration::from_micros(50);

/// Tries a complete send, several ranges, a short send, a full and a dead socket.
///
/// # Errors
/// The first thing that differs.
pub fn self_test(flusher: &mut dyn Flusher) -> Result<(), SelfTestFailure> {
    let log: Vec<u8> = (0..LOG_BYTES)
        .map(|n| (n.wrapping_mul(0x9E37_79B1) >> 24) as u8)
        .collect();
    let mut probe = Probe {
        flusher,
        log,
        results: Vec::new(),
    };
    let (socket, mut peer) = small_pair()?;

    probe.expect_all(&socket, &mut peer, "one range", &[100..300])?;
    probe.expect_all(
        &socket,
        &mut peer,
        "three ranges",
        &[700..900, 0..50, 300..301],
    )?;
    let owed = probe.fill(&socket)?;
    probe.expect_bytes(&mut peer, "a short send", 0..owed)?;
    // Unread bytes make the close a reset.
    probe.send(&socket, &[0..50]);
    drop(peer);
    probe.expect_dead(&socket)
}

/// The test under way.
struct Probe<'a> {
    flusher: &'a mut dyn Flusher,
    log: Vec<u8>,
    results: Vec<Sent>,
}

impl Probe<'_> {
    fn send(&mut self, socket: &TcpStream, ranges: &[Range<u32>]) -> Option<Sent> {
        let count = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
        let entry = Outgoing {
            socket: socket.as_raw_fd(),
            ranges: 0..count,
        };
        self.flusher
            .flush(&self.log, ranges, &[entry], &mut self.results);
        self.results.first().copied()
    }

    fn expect_all(
        &mut self,
        socket: &TcpStream,
        peer: &mut TcpStream,
        case: &'static str,
        ranges: &[Range<u32>],
    ) -> Result<(), SelfTestFailure> {
        match self.send(socket, ranges) {
            Some(Sent::All) => {}
            result => return Err(SelfTestFailure::Result { case, result }),
        }
        ranges
            .iter()
            .try_for_each(|range| self.expect_bytes(peer, case, range.clone()))
    }

    /// Sends the log until the socket takes no more; returns how many bytes it took.
    fn fill(&mut self, socket: &TcpStream) -> Result<u32, SelfTestFailure> {
        let mut taken = 0;
        for _ in 0..ROUNDS {
            match self.send(socket, &[taken..LOG_BYTES]) {
                Some(Sent::Part(bytes)) => taken += u32::try_from(bytes).unwrap_or(LOG_BYTES),
                Some(Sent::Full) if taken > 0 => return Ok(taken),
                result => {
                    return Err(SelfTestFailure::Result {
                        case: "a short send",
                        result,
                    });
                }
            }
        }
        Err(SelfTestFailure::Result {
            case: "a full socket",
            result: None,
        })
    }

    fn expect_bytes(
        &self,
        peer: &mut TcpStream,
        case: &'static str,
        range: Range<u32>,
    ) -> Result<(), SelfTestFailure> {
        let expected = self
            .log
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default();
        let mut received = vec![0; expected.len()];
        peer.read_exact(&mut received)
            .map_err(|_| SelfTestFailure::Bytes { case })?;
        if received == expected {
            Ok(())
        } else {
            Err(SelfTestFailure::Bytes { case })
        }
    }

    /// The reset takes a moment to arrive; until then sends may still be taken.
    fn expect_dead(&mut self, socket: &TcpStream) -> Result<(), SelfTestFailure> {
        let mut result = None;
        for _ in 0..ROUNDS {
            result = self.send(socket, &[0..1]);
            if result == Some(Sent::Dead) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Err(SelfTestFailure::Result {
            case: "a closed peer",
            result,
        })
    }
}

/// A connected pair with small buffers; reads end after a second.
fn small_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let socket = TcpStream::connect(address)?;
    let own = socket.local_addr()?;
    // Any local process may connect to the listener as well: take the one that is ours.
    let peer = loop {
        let (peer, from) = listener.accept()?;
        if from == own {
            break peer;
        }
    };
    sockopt::set_socket_recv_buffer_size(&peer, PEER_BUFFER)?;
    sockopt::set_socket_send_buffer_size(&socket, 1)?;
    socket.set_nodelay(true)?;
    peer.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok((socket, peer))
}
