//! Deliveries allocate nothing: a counting allocator watches the shard's thread while 1,000 events
//! reach 1,000 subscribers through the real flusher, on both drivers. Nor does the answer to a ping.
//! It watches the thread of Redis too, which may allocate what it hands on and nothing else.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use md5::{Digest, Md5};
use slapback::app::{AppSettings, Apps, ClientEvents, Signer};
use slapback::config::{DriverChoice, Ingest, IngestSource, RedisAddress, RedisServer, Topology};
use slapback::edge::flush::{self, Driver};
use slapback::fleet::{Blueprint, Fleet, Shards};
use slapback::hex;
use slapback::proto::session::{Session, Settings};
use slapback::shard::BacklogLimits;
use slapback::shard::cache::CacheLimits;

/// Events of one measurement; how many are published in one go varies, and so do the turns.
const EVENTS: u64 = 1000;
const BURSTS: [usize; 4] = [1, 9, 30, 60];
const SUBSCRIBERS: usize = 1000;

/// What one API call may allocate on the shard, from its head to its answer: the parsed request,
/// the event, its channel and frame. The same for any number of subscribers.
const PER_EVENT_MAX: u64 = 24;
/// Buffers of the shard that may grow once more after the warm-up, in a million deliveries.
const LATE_GROWTH_MAX: u64 = 8;

/// What a message of Redis may allocate on its thread: the frame, and the channel's name.
const PER_MESSAGE: u64 = 2;
/// Messages that Redis says in one go, and how often it does.
const MESSAGES: usize = 1000;
const TIMES: u64 = 10;
/// What each read of them allocates besides comes to one for so many messages at most.
const SHARED_BY: u64 = 5;

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "secret";
const ESTABLISHED: &[u8] = b"pusher:connection_established";
const SUBSCRIBED: &[u8] = br#""data":"{}","channel":"feed"}"#;
const PONG: &[u8] = br#"{"event":"pusher:pong"}"#;
const ANSWER: &[u8] = b"\r\n\r\n{}";

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ON_SHARDS: AtomicU64 = AtomicU64::new(0);
static ON_REDIS: AtomicU64 = AtomicU64::new(0);

/// Held by the one test whose threads are counted.
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    static COUNTER: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

/// The system's allocator; counts what threads named `shard-…` and `redis` ask of it.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory that
// was allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count() {
    // A thread that is ending has no such counter any more, and is not at work.
    let counter = COUNTER.try_with(|counter| {
        if counter.get().is_none() {
            counter.set(counter_by_name());
        }
        counter.get()
    });
    if let Ok(Some(counter)) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks the kernel, since the standard library would allocate the answer.
fn counter_by_name() -> Option<&'static AtomicU64> {
    let mut name = [0_u8; 16];
    // SAFETY: the call writes at most 16 bytes, and `name` has them.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    match name {
        name if name.starts_with(b"shard-") => Some(&ON_SHARDS),
        name if name.starts_with(b"redis\0") => Some(&ON_REDIS),
        _ => None,
    }
}

#[test]
fn a_delivery_allocates_nothing_on_either_driver() {
    let _turn = TURN.lock().unwrap();
    for choice in [DriverChoice::Uring, DriverChoice::Epoll] {
        let opened = flush::open(choice).expect("this kernel allows io_uring");
        let fleet = start(opened.driver, None);
        let mut subscribers = Vec::new();
        let mut publisher = connect(fleet.address);
        subscribers.push(subscribe(fleet.address));
        let to_one = allocations(&mut publisher, &mut subscribers);
        subscribers.extend((1..SUBSCRIBERS).map(|_| subscribe(fleet.address)));
        let to_all = allocations(&mut publisher, &mut subscribers);
        println!("{choice:?}: {to_one} to one subscriber, {to_all} to {SUBSCRIBERS}");
        let driver = opened.driver;
        assert!(
            to_all <= EVENTS * PER_EVENT_MAX,
            "{driver:?}: {to_all} allocations for {EVENTS} events"
        );
        assert!(
            to_all <= to_one + LATE_GROWTH_MAX,
            "{driver:?}: {to_one} allocations to one subscriber, {to_all} to {SUBSCRIBERS}"
        );
        drop((publisher, subscribers));
        fleet.drain();
    }
}

#[test]
fn a_ping_allocates_nothing_on_either_driver() {
    let _turn = TURN.lock().unwrap();
    for choice in [DriverChoice::Uring, DriverChoice::Epoll] {
        let driver = flush::open(choice).unwrap().driver;
        let fleet = start(driver, None);
        let mut client = subscribe(fleet.address);
        let ping = masked(br#"{"event":"pusher:ping","data":{}}"#);
        let mut ask = |times: u64| {
            for _ in 0..times {
                client.write_all(&ping).unwrap();
                read_until(&mut client, PONG);
            }
        };
        ask(EVENTS / 5);
        let before = ON_SHARDS.load(Ordering::Relaxed);
        ask(EVENTS);
        let allocations = ON_SHARDS.load(Ordering::Relaxed) - before;
        println!("{driver:?}: {allocations} for {EVENTS} pings");
        assert!(allocations <= LATE_GROWTH_MAX, "{driver:?}: {allocations}");
        drop(client);
        fleet.drain();
    }
}

#[test]
fn a_message_of_redis_allocates_what_is_handed_on() {
    let _turn = TURN.lock().unwrap();
    let redis = TcpListener::bind("127.0.0.1:0").unwrap();
    let driver = flush::open(DriverChoice::Auto).unwrap().driver;
    let fleet = start(driver, Some(ingest(redis.local_addr().unwrap().port())));
    let mut redis = redis.accept().unwrap().0;
    redis.set_read_timeout(Some(PATIENCE)).unwrap();
    read_until(&mut redis, b"PSUBSCRIBE\r\n$7\r\nprefix*\r\n");
    let mut subscriber = subscribe(fleet.address);
    let text = format!(r#"{{"event":"tick","data":"{}","socket":null}}"#, data());
    let parts = ["pmessage", "prefix*", "prefixfeed", &text];
    let parts = parts.map(|part| format!("${}\r\n{part}\r\n", part.len()));
    let said = format!("*4\r\n{}", parts.concat()).repeat(MESSAGES);
    let expected = frame(&format!(r#"\"{}\""#, data())).repeat(MESSAGES);
    let mut received = vec![0; expected.len()];
    let mut hear = |times| {
        for _ in 0..times {
            redis.write_all(said.as_bytes()).unwrap();
            subscriber.read_exact(&mut received).unwrap();
            assert_eq!(received, expected);
        }
    };
    hear(1);
    let before = ON_REDIS.load(Ordering::Relaxed);
    hear(TIMES);
    let allocations = ON_REDIS.load(Ordering::Relaxed) - before;
    let messages = TIMES * u64::try_from(MESSAGES).unwrap();
    println!("{allocations} for {messages} messages");
    assert!(
        allocations <= messages * PER_MESSAGE + messages / SHARED_BY,
        "{allocations} allocations for {messages} messages"
    );
    drop((redis, subscriber));
    fleet.drain();
}

fn ingest(port: u16) -> Ingest {
    Ingest {
        server: RedisServer {
            address: RedisAddress::Tcp {
                host: "127.0.0.1".into(),
                port,
            },
            tls: None,
            username: None,
            password: None,
            database: 0,
            topology: Topology::Single,
        },
        sources: vec![IngestSource {
            prefix: "prefix".into(),
            app_id: "app".into(),
        }],
        by_interest: false,
        message_bytes: 1 << 20,
    }
}

fn start(driver: Driver, ingest: Option<Ingest>) -> Fleet {
    let app = AppSettings {
        ping_interval_s: 3600,
        client_events: ClientEvents::All,
        ..AppSettings::new("app", "key", SECRET)
    };
    Fleet::start::<Session>(&Blueprint {
        host: "127.0.0.1".into(),
        port: 0,
        is_shared: false,
        unix_socket: None,
        shards: Shards {
            count: 1,
            cpus: None,
        },
        driver,
        apps: Arc::new(Apps::new(vec![app])),
        settings: Arc::new(Settings {
            max_request_size: 10_000,
            ..Settings::default()
        }),
        limits: BacklogLimits {
            bytes: 1 << 20,
            wait: Duration::from_secs(10),
            total: 256 << 20,
        },
        cache: CacheLimits {
            channels: 100,
            bytes: 1 << 20,
        },
        ring_bytes: 64 << 20,
        connections_max: 10 * SUBSCRIBERS,
        drain: Duration::ZERO,
        ingest,
        scaling: None,
        redis: Arc::default(),
    })
    .unwrap()
}

/// What the shard allocates while [`EVENTS`] events reach every subscriber, once all is warm.
fn allocations(publisher: &mut TcpStream, subscribers: &mut [TcpStream]) -> u64 {
    publish(publisher, subscribers, EVENTS / 5);
    let before = ON_SHARDS.load(Ordering::Relaxed);
    publish(publisher, subscribers, EVENTS);
    ON_SHARDS.load(Ordering::Relaxed) - before
}

/// Publishes in bursts, and reads everything that comes of one before the next.
fn publish(publisher: &mut TcpStream, subscribers: &mut [TcpStream], events: u64) {
    let (request, frame) = (request(), frame(&data()));
    let bursts: usize = BURSTS.iter().sum();
    for _ in 0..usize::try_from(events).unwrap() / bursts {
        for burst in BURSTS {
            publisher.write_all(&request.repeat(burst)).unwrap();
            for _ in 0..burst {
                read_until(publisher, ANSWER);
            }
            let expected = frame.repeat(burst);
            let mut received = vec![0; expected.len()];
            for subscriber in &mut *subscribers {
                subscriber.read_exact(&mut received).unwrap();
                assert_eq!(received, expected);
            }
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn subscribe(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    write!(
        stream,
        "GET /app/key?protocol=7 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    read_until(&mut stream, ESTABLISHED);
    let message = masked(br#"{"event":"pusher:subscribe","data":{"channel":"feed"}}"#);
    stream.write_all(&message).unwrap();
    read_until(&mut stream, SUBSCRIBED);
    stream
}

/// A client's frame; a mask of zeros is a mask.
fn masked(message: &[u8]) -> Vec<u8> {
    let length = u8::try_from(message.len()).unwrap();
    [&[0x81, 0x80 | length, 0, 0, 0, 0], message].concat()
}

/// Reads up to the end of `text`, and not a byte further.
fn read_until(stream: &mut TcpStream, text: &[u8]) {
    let mut heard = Vec::new();
    while !heard.ends_with(text) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        heard.extend(byte);
    }
}

fn request() -> Vec<u8> {
    let body = format!(r#"{{"name":"tick","channel":"feed","data":"{}"}}"#, data());
    let digest: String = hex::encode(&Md5::digest(&body)).map(char::from).collect();
    let path = "/apps/app/events";
    let query = format!("auth_key=key&auth_timestamp=1&auth_version=1.0&body_md5={digest}");
    let signed = format!("POST\n{path}\n{query}");
    let signature = Signer::new(SECRET.as_bytes()).sign_hex(&[signed.as_bytes()]);
    let signature = String::from_utf8_lossy(&signature);
    let length = body.len();
    format!(
        "POST {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What a subscriber of `feed` gets; `data` has its escapes.
fn frame(data: &str) -> Vec<u8> {
    let message = format!(r#"{{"event":"tick","data":"{data}","channel":"feed"}}"#);
    let length = u16::try_from(message.len()).unwrap();
    let mut frame = vec![0x81, 126];
    frame.extend(length.to_be_bytes());
    frame.extend(message.as_bytes());
    frame
}

fn data() -> String {
    "x".repeat(150)
}
