//! The flusher on real sockets, both drivers, byte for byte.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "ranges of the log are meant"
)]

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::net::sockopt;

use super::self_test::PEER_BUFFER;
use super::*;

/// Runs a test on both drivers; the ring is left out only where the kernel has none.
fn on_both_drivers(mut test: impl FnMut(&mut dyn Flusher)) {
    test(&mut SendmsgFlusher);
    match UringFlusher::new() {
        Ok(mut flusher) => {
            test(&mut flusher);
            assert!(flusher.ring.is_some(), "the ring broke");
        }
        Err(error) => eprintln!("no io_uring here: {error}"),
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    (socket, peer)
}

fn small_pair() -> (TcpStream, TcpStream) {
    let (socket, peer) = pair();
    sockopt::set_socket_send_buffer_size(&socket, 1).unwrap();
    sockopt::set_socket_recv_buffer_size(&peer, PEER_BUFFER).unwrap();
    (socket, peer)
}

fn entry(socket: &TcpStream, ranges: Range<u32>) -> Outgoing {
    Outgoing {
        socket: socket.as_raw_fd(),
        ranges,
    }
}

fn received(peer: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

/// Leaves a socket whose peer reads nothing without room; returns what it took.
fn fill(flusher: &mut dyn Flusher, socket: &TcpStream) -> usize {
    let (log, mut results, mut taken) = (vec![b'f'; 1 << 20], Vec::new(), 0);
    loop {
        flusher.flush(&log, &[0..1 << 20], &[entry(socket, 0..1)], &mut results);
        match results[0] {
            Sent::Part(bytes) => taken += bytes,
            Sent::Full => return taken,
            other => panic!("{other:?}"),
        }
        // What the peer's kernel takes over makes room once more.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Makes the peer's reset arrive.
fn kill(mut socket: &TcpStream, peer: TcpStream) {
    sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    let end = socket.read(&mut [0]);
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn both_drivers_pass_the_self_test() {
    on_both_drivers(|flusher| self_test(flusher).unwrap());
}

#[test]
fn the_self_test_catches_a_flusher_that_claims_too_much() {
    struct Boaster(SendmsgFlusher);
    impl Flusher for Boaster {
        fn flush(
            &mut self,
            log: &[u8],
            ranges: &[Range<u32>],
            batch: &[Outgoing],
            results: &mut Vec<Sent>,
        ) {
            self.0.flush(log, ranges, batch, results);
            results.fill(Sent::All);
        }
    }
    let failure = self_test(&mut Boaster(SendmsgFlusher)).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "a short send: the send ended as Some(All)"
    );
}

#[test]
fn auto_falls_back_with_a_reason_and_uring_does_not() {
    assert_eq!(open(DriverChoice::Epoll).unwrap().driver, Driver::Sendmsg);
    let auto = open(DriverChoice::Auto).unwrap();
    let forced = open(DriverChoice::Uring);
    match auto.fallback {
        None => assert_eq!(
            (auto.driver, forced.unwrap().driver),
            (Driver::Uring, Driver::Uring)
        ),
        Some(reason) => {
            assert_eq!(auto.driver, Driver::Sendmsg);
            assert_eq!(forced.err().unwrap().to_string(), reason.to_string());
        }
    }
}

#[test]
fn ranges_go_out_in_their_order() {
    on_both_drivers(|flusher| {
        let (socket, mut peer) = pair();
        let mut results = Vec::new();
        let ranges = [4..8, 0..4, 2..2, 8..9];
        flusher.flush(b"onlyreadX", &ranges, &[entry(&socket, 0..4)], &mut results);
        assert_eq!(results, [Sent::All]);
        assert_eq!(received(&mut peer, 9), b"readonlyX");
    });
}

#[test]
fn nothing_to_send_is_sent() {
    on_both_drivers(|flusher| {
        let (socket, _peer) = pair();
        let mut results = vec![Sent::Dead];
        flusher.flush(b"", &[], &[], &mut results);
        assert_eq!(results, []);
        let batch = [entry(&socket, 0..0), entry(&socket, 0..1)];
        flusher.flush(b"log", &[1..1], &batch, &mut results);
        assert_eq!(results, [Sent::All, Sent::All]);
    });
}

#[test]
fn an_entry_with_too_many_ranges_is_cut_and_says_so() {
    on_both_drivers(|flusher| {
        let (socket, mut peer) = pair();
        let (ranges, mut results) = (vec![0..2; RANGES_PER_SEND_MAX + 1], Vec::new());
        let all = entry(&socket, 0..u32::try_from(ranges.len()).unwrap());
        flusher.flush(b"ab", &ranges, &[all], &mut results);
        assert_eq!(results, [Sent::Part(2 * RANGES_PER_SEND_MAX)]);
        assert_eq!(
            received(&mut peer, 2 * RANGES_PER_SEND_MAX),
            b"ab".repeat(RANGES_PER_SEND_MAX)
        );
    });
}

#[test]
fn a_range_outside_the_log_is_never_sent() {
    on_both_drivers(|flusher| {
        let (socket, mut peer) = pair();
        let mut results = Vec::new();
        let batch = [
            entry(&socket, 0..1),
            entry(&socket, 1..3),
            entry(&socket, 1..2),
        ];
        flusher.flush(b"log", &[2..4, 0..1], &batch, &mut results);
        assert_eq!(results, [Sent::Dead, Sent::Dead, Sent::All]);
        drop(socket);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"l");
    });
}

/// Several hundred sockets, every one with its own ranges; some dead, some full.
struct Crowd {
    /// The peer is gone where the socket is to be dead.
    pairs: Vec<(TcpStream, Option<TcpStream>)>,
    /// What full sockets took before.
    filled: Vec<usize>,
    ranges: Vec<Range<u32>>,
    batch: Vec<Outgoing>,
}

/// The entry whose descriptor is not open at all.
const NO_SOCKET: usize = 300;

impl Crowd {
    fn gather(sockets: usize, flusher: &mut dyn Flusher) -> Self {
        let mut crowd = Self {
            pairs: Vec::new(),
            filled: Vec::new(),
            ranges: Vec::new(),
            batch: Vec::new(),
        };
        for n in 0..sockets {
            let (socket, peer) = small_pair();
            let first = u32::try_from(crowd.ranges.len()).unwrap();
            let at = u32::try_from(n).unwrap();
            crowd
                .ranges
                .extend((0..=at % 5).map(|part| at + part..at + 2 * part + 1));
            let last = u32::try_from(crowd.ranges.len()).unwrap();
            crowd.batch.push(entry(&socket, first..last));
            crowd.filled.push(if n % 50 == 9 {
                fill(flusher, &socket)
            } else {
                0
            });
            let peer = if n % 50 == 7 {
                kill(&socket, peer);
                None
            } else {
                Some(peer)
            };
            crowd.pairs.push((socket, peer));
        }
        crowd.batch[NO_SOCKET].socket = 1_000_000;
        crowd
    }

    /// What the socket was to get of `log`.
    fn expected(&self, n: usize, log: &[u8]) -> Vec<u8> {
        let Range { start, end } = self.batch[n].ranges.clone();
        let ranges = &self.ranges[start as usize..end as usize];
        ranges
            .iter()
            .flat_map(|r| &log[r.start as usize..r.end as usize])
            .copied()
            .collect()
    }
}

#[test]
fn hundreds_of_sockets_in_one_batch_each_tell_their_own() {
    on_both_drivers(|flusher| {
        let mut crowd = Crowd::gather(700, flusher); // more than one chunk
        let log: Vec<u8> = (0..1000_u32).map(|n| (n % 251) as u8).collect();
        let mut results = Vec::new();
        flusher.flush(&log, &crowd.ranges, &crowd.batch, &mut results);
        assert_eq!(results.len(), crowd.pairs.len());
        assert!(results.contains(&Sent::Full));
        for (n, (socket, peer)) in std::mem::take(&mut crowd.pairs).into_iter().enumerate() {
            let expected = crowd.expected(n, &log);
            let taken = match (results[n], peer.is_some() && n != NO_SOCKET) {
                (Sent::Dead, false) => continue,
                (Sent::All, true) => expected.len(),
                // A delayed acknowledgement may have made room in a socket that was full.
                (Sent::Full, true) if crowd.filled[n] > 0 => 0,
                (Sent::Part(bytes), true) if crowd.filled[n] > 0 => bytes,
                (result, alive) => panic!("{n}: {result:?}, alive {alive}"),
            };
            drop(socket);
            let mut all = Vec::new();
            peer.unwrap().read_to_end(&mut all).unwrap();
            let (before, now) = all.split_at(crowd.filled[n]);
            assert!(before.iter().all(|&byte| byte == b'f'));
            assert_eq!(
                now,
                &expected[..taken],
                "{n}: as many bytes as were reported"
            );
        }
    });
}

/// One socket as the shard keeps it: what is owed goes before what is new.
struct Stream {
    socket: TcpStream,
    backlog: Vec<u8>,
    expected: Vec<u8>,
}

/// Rounds with a log that is overwritten each time: a send still in flight would show.
#[derive(Default)]
struct Rounds {
    log: Vec<u8>,
    ranges: Vec<Range<u32>>,
    batch: Vec<Outgoing>,
    results: Vec<Sent>,
    /// How often a socket took all, a part, nothing.
    seen: [u32; 3],
}

impl Rounds {
    fn run(&mut self, flusher: &mut dyn Flusher, streams: &mut [Stream], new_frames: usize) {
        let position = |at: usize| u32::try_from(at).unwrap();
        self.log.clear();
        self.ranges.clear();
        self.batch.clear();
        for stream in &mut *streams {
            let first = self.ranges.len();
            let start = self.log.len();
            self.log.append(&mut stream.backlog);
            self.ranges.push(position(start)..position(self.log.len()));
            for _ in 0..fastrand::usize(0..=new_frames) {
                self.log
                    .resize(self.log.len() + fastrand::usize(0..3), b'-');
                let start = self.log.len();
                self.log
                    .extend((0..fastrand::usize(0..6000)).map(|_| fastrand::u8(..)));
                stream.expected.extend_from_slice(&self.log[start..]);
                self.ranges.push(position(start)..position(self.log.len()));
            }
            self.batch.push(entry(
                &stream.socket,
                position(first)..position(self.ranges.len()),
            ));
        }
        flusher.flush(&self.log, &self.ranges, &self.batch, &mut self.results);
        for (n, stream) in streams.iter_mut().enumerate() {
            let (kind, taken) = match self.results[n] {
                Sent::All => (0, usize::MAX),
                Sent::Part(bytes) => (1, bytes),
                Sent::Full => (2, 0),
                Sent::Dead => panic!("{n} died"),
            };
            self.seen[kind] += 1;
            let Range { start, end } = self.batch[n].ranges.clone();
            let ranges = &self.ranges[start as usize..end as usize];
            let all = ranges
                .iter()
                .flat_map(|r| &self.log[r.start as usize..r.end as usize]);
            stream.backlog.extend(all.skip(taken));
        }
    }
}

#[test]
fn streams_survive_a_slow_reader_byte_for_byte() {
    on_both_drivers(|flusher| {
        let (mut streams, readers): (Vec<_>, Vec<_>) = (0..8)
            .map(|_| {
                let (socket, peer) = small_pair();
                let reader = std::thread::spawn(|| read_slowly(peer));
                (
                    Stream {
                        socket,
                        backlog: Vec::new(),
                        expected: Vec::new(),
                    },
                    reader,
                )
            })
            .unzip();
        let mut rounds = Rounds::default();
        for _ in 0..800 {
            rounds.run(flusher, &mut streams, 3);
            std::thread::sleep(Duration::from_micros(20));
        }
        while streams.iter().any(|stream| !stream.backlog.is_empty()) {
            rounds.run(flusher, &mut streams, 0);
            std::thread::sleep(Duration::from_micros(20));
        }
        for (stream, reader) in streams.into_iter().zip(readers) {
            drop(stream.socket);
            assert!(
                reader.join().unwrap() == stream.expected,
                "the stream is corrupt"
            );
        }
        assert!(
            rounds.seen.iter().all(|&seen| seen > 0),
            "not every case: {:?}",
            rounds.seen
        );
    });
}

fn read_slowly(mut peer: TcpStream) -> Vec<u8> {
    let (mut all, mut buffer, mut reads) = (Vec::new(), [0; 3000], 0);
    loop {
        let count = peer.read(&mut buffer).unwrap();
        if count == 0 {
            return all;
        }
        all.extend_from_slice(&buffer[..count]);
        reads += 1;
        if reads % 8 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_broken_ring_hands_over_to_sendmsg_and_sends_nothing_twice() {
    // A ring that was made disabled refuses every submission.
    let Ok(mut flusher) = UringFlusher::new() else {
        return;
    };
    let disabled = IoUring::builder()
        .setup_single_issuer()
        .setup_r_disabled()
        .build(512)
        .unwrap();
    flusher.ring = Some(disabled);
    let (mut pairs, mut results): (Vec<_>, _) = ((0..600).map(|_| pair()).collect(), Vec::new());
    let batch: Vec<_> = pairs
        .iter()
        .map(|(socket, _)| entry(socket, 0..2))
        .collect();
    flusher.flush(b"once", &[0..2, 2..4], &batch, &mut results);
    assert!(flusher.ring.is_none());
    assert_eq!(results, [Sent::All; 600]);
    flusher.flush(b"more", &[0..4], &[entry(&pairs[0].0, 0..1)], &mut results);
    assert_eq!(results, [Sent::All]);
    for (n, (socket, mut peer)) in pairs.drain(..).enumerate() {
        drop(socket);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert_eq!(
            all,
            if n == 0 {
                b"oncemore".as_slice()
            } else {
                b"once"
            }
        );
    }
}

#[test]
fn a_flusher_works_beside_the_runtimes_own_ring() {
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
    let runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new().build();
    runtime.unwrap().block_on(async {
        let mut opened = open(DriverChoice::Auto).unwrap();
        let (socket, peer) = pair();
        let mut reader = socket.try_clone().unwrap();
        let ours = monoio::net::TcpStream::from_std(socket).unwrap();
        let mut peer = monoio::net::TcpStream::from_std(peer).unwrap();
        let mut results = Vec::new();
        for round in 0..200_u8 {
            let log = [round; 100];
            let batch = [Outgoing {
                socket: ours.as_raw_fd(),
                ranges: 0..1,
            }];
            opened.flusher.flush(&log, &[0..100], &batch, &mut results);
            assert_eq!(results, [Sent::All]);
            let (read, bytes) = peer.read(Vec::with_capacity(100)).await;
            assert_eq!((read.unwrap(), bytes.as_slice()), (100, log.as_slice()));
            let (written, _) = peer.write_all(vec![round; 3]).await;
            assert_eq!(written.unwrap(), 3);
            ours.readable(false).await.unwrap();
            assert_eq!(reader.read(&mut [0; 8]).unwrap(), 3);
        }
    });
}
