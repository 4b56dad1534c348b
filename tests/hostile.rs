//! Bad input and bad manners never stop the server, and never cost anyone else a message.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crowd::{Crowd, Publisher};
use harness::{Client, Fleet, Opcode, PONG, Server, encode, on_every_fleet, upgrade_head};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use socket2::SockRef;

mod crowd;
mod harness;

/// Healthy subscribers: so many that each of four shards holds some.
const HEALTHY: usize = 64;

/// How long an attack, and what follows it, may take. Only a failing test takes as long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs an attack on every fleet while numbered events are published to healthy subscribers, who
/// must hear all of them. Afterwards every file must have come back, and no session panicked.
fn survives(attack: impl Fn(SocketAddr) + Sync) {
    on_every_fleet(|fleet| {
        let mut server = Server::start(fleet, &[("SLAPBACK_DRAIN_SECONDS", "0")]);
        let address = SocketAddr::from(([127, 0, 0, 1], server.port));
        let mut crowd = Crowd::join(&server, HEALTHY, None);
        let mut publisher = Publisher::new(&server, 0);
        publisher.publish();
        let files_before = server.files();
        let (is_over, wanted) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    publisher.publish();
                    std::thread::sleep(Duration::from_millis(2));
                }
                // Said before the last event, so that who hears that one knows it is the last.
                let events = u64::from(publisher.count + 1) * HEALTHY as u64;
                wanted.store(events, Ordering::Release);
                publisher.publish();
            });
            scope.spawn(|| {
                let _over = SetOnDrop(&is_over);
                attack(address);
            });
            let is_done = |crowd: &Crowd| crowd.events_count >= wanted.load(Ordering::Acquire);
            crowd.watch(PATIENCE, is_done);
        });
        assert_eq!(crowd.ended_count, 0, "a healthy subscriber was closed");
        let end = Instant::now() + Duration::from_secs(20);
        while server.files() > files_before {
            assert!(Instant::now() < end, "files are left open");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(server.terminate().code(), Some(0));
        let stopped = server.says("stopped: ");
        assert!(!stopped.contains("session_panicked"), "{stopped}");
    });
}

/// Ends the publishing also when the attack's own asserts fail.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    stream
}

/// Sends what the server will take and reads until it ends the connection, in whatever way.
fn send_and_read_to_the_end(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    // It may have had enough before the last byte.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return heard,
            Ok(count) => heard.extend_from_slice(&buffer[..count]),
            Err(error) => {
                let kind = error.kind();
                assert_eq!(kind, ErrorKind::ConnectionReset, "not closed: {error}");
                return heard;
            }
        }
    }
}

/// Closes with a RST.
fn reset(stream: &TcpStream) {
    SockRef::from(stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

fn upgrade() -> Vec<u8> {
    upgrade_head("/app/key-1?protocol=7", "").into_bytes()
}

fn text(text: &str) -> Vec<u8> {
    encode(Opcode::TEXT, true, text.as_bytes(), Some([1, 2, 3, 4]))
}

#[test]
fn garbage_is_refused_and_hurts_nobody() {
    survives(|address| {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..300 {
            let mut garbage = vec![0; random.usize(1..3000)];
            random.fill(&mut garbage);
            let bytes = match round % 4 {
                0 => garbage,
                // As a request's head, and as frames.
                1 => [b"GET ", garbage.as_slice(), b"\r\n\r\n"].concat(),
                2 => [upgrade(), garbage].concat(),
                _ => {
                    let frame = encode(Opcode::TEXT, true, &garbage, Some([9, 8, 7, 6]));
                    [upgrade(), frame, text("\u{0}"), text("{\"event\":")].concat()
                }
            };
            send_and_read_to_the_end(connect(address), &bytes);
        }
    });
}

#[test]
fn giant_heads_are_413_or_cut_off() {
    survives(|address| {
        let line = format!("X-Header: {}\r\n", "x".repeat(1000)).repeat(1000);
        for head in [
            format!("GET /up HTTP/1.1\r\nHost: x\r\n{line}"),
            format!("GET /{} HTTP/1.1\r\n\r\n", "u".repeat(1_000_000)),
            "G".repeat(1_000_000),
            "X: y\r\n".repeat(100_000),
        ] {
            for _ in 0..10 {
                let answer = send_and_read_to_the_end(connect(address), head.as_bytes());
                let too_large = answer.starts_with(b"HTTP/1.1 413 Request Entity Too Large\r\n");
                // The answer may be lost if it crosses bytes that nobody reads any more.
                assert!(too_large || answer.is_empty(), "{}", answer.escape_ascii());
            }
        }
    });
}

#[test]
fn half_frames_and_resets_in_mid_frame_hurt_nobody() {
    survives(|address| {
        let subscribe = text(r#"{"event":"pusher:subscribe","data":{"channel":"crowd"}}"#);
        let long = encode(Opcode::TEXT, true, &[b'x'; 9000], Some([5, 6, 7, 8]));
        let first = encode(Opcode::TEXT, false, b"{\"event\":", Some([1, 1, 1, 1]));
        let half = &long[..4500];
        let tails: [&[u8]; 5] = [half, &long[..1], &long[..3], &long[..7], &first];
        for round in 0..1000 {
            let mut stream = connect(address);
            let bytes = [&upgrade(), &subscribe, tails[round % tails.len()]].concat();
            stream.write_all(&bytes).unwrap();
            if round % 3 == 0 {
                // The server is in the middle of the frame now.
                stream.read_exact(&mut [0; 100]).unwrap();
            }
            if round % 2 == 0 {
                reset(&stream);
            }
        }
        // Half a frame is waited for; the other half makes it whole.
        let mut stream = connect(address);
        let ping = text(r#"{"event":"pusher:ping"}"#);
        stream
            .write_all(&[&upgrade(), &ping[..9]].concat())
            .unwrap();
        let heard = send_and_read_to_the_end(stream, &ping[9..]);
        let expected = br#"{"event":"pusher:pong"}"#;
        assert!(heard.ends_with(expected), "{}", heard.escape_ascii());
    });
}

/// Opens and drops connections one after another, in each of the ways that a peer may vanish.
fn open_and_drop(address: SocketAddr, count: usize) {
    let subscribe = text(r#"{"event":"pusher:subscribe","data":{"channel":"crowd"}}"#);
    let whole = [upgrade(), subscribe].concat();
    let said: [&[u8]; 4] = [
        b"",
        b"GET /up HT",
        b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n",
        &whole,
    ];
    for round in 0..count {
        let mut stream = connect(address);
        stream.write_all(said[round % said.len()]).unwrap();
        // By RST, but for some: as many FINs would use up the ports of this machine.
        if round % 8 != round / 8 % 8 {
            reset(&stream);
        }
    }
}

#[test]
fn ten_thousand_connections_opened_and_dropped_leave_nothing_behind() {
    survives(|address| open_and_drop(address, 10_000));
}

#[test]
#[ignore = "ten times the one above; make test-slow runs it"]
fn a_hundred_thousand_connections_opened_and_dropped_leave_nothing_behind() {
    survives(|address| open_and_drop(address, 100_000));
}

/// The kernel refuses a file although our own count says there is room.
#[test]
fn a_server_that_can_accept_nobody_serves_on_and_does_not_spin() {
    for driver in ["uring", "epoll"] {
        let server = Server::start(Fleet { shards: 1, driver }, &[]);
        let mut client = Client::of_app(&server, "1");
        // Those that it has it keeps.
        let few = Some(3);
        let limit = Rlimit {
            current: few,
            maximum: few,
        };
        let pid = Pid::from_raw(server.pid().cast_signed());
        prlimit(pid, Resource::Nofile, limit).unwrap();
        let _waiting: Vec<_> = (0..8).map(|_| Client::open(&server)).collect();
        server.says("accepting pauses");
        // For this caller there is a file, set aside when its thread began to wait; for the next
        // there is none.
        let mut said = Vec::new();
        let mut door = harness::restart_door(server.port);
        door.write_all(b"restart?").unwrap();
        door.read_to_end(&mut said).unwrap();
        let before = cpu_ticks(&server);
        for _ in 0..20 {
            client.say(r#"{"event":"pusher:ping","data":{}}"#);
            assert_eq!(client.hear(), PONG);
            std::thread::sleep(Duration::from_millis(50));
        }
        let spent = cpu_ticks(&server) - before;
        assert!(spent < 20, "{spent} ticks of CPU in a second of waiting");
    }
}

/// CPU time of the process in hundredths of a second.
fn cpu_ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<_> = behind_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
