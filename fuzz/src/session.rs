//! A script of what peers, shards, sockets and time do, played on a whole fleet: whatever the
//! order, each socket is told whole and allowed things only, and in the end nothing is left over.
//!
//! The first line may be `@21`: two shards, and tight bounds.

use std::sync::Arc;
use std::time::Duration;

use slapback::app::{AppSettings, ClientEvents, RateLimit};
use slapback::metrics::{Counter, Metrics};
use slapback::proto::session::Pressure;
use slapback::shard::wheel::TICK;

use super::fleet::{Fleet, TIGHT, WIDE};
use super::net::{Peer, Server};
use super::script::{self, Operation};
use super::wire;

/// Sockets of one script.
const SOCKETS_MAX: usize = 12;

/// Members of app c, the one with a quota.
const QUOTA: u32 = 2;

/// Plays the script, and gives what the shards counted.
pub fn run(input: &[u8]) -> Vec<Arc<Metrics>> {
    let Ok(script) = str::from_utf8(input) else {
        return Vec::new();
    };
    let (shards, is_tight) = match script.as_bytes() {
        [b'@', shards, bounds, ..] => (1 + u16::from(shards % 2 == 0), bounds % 2 == 1),
        _ => (2, false),
    };
    let bounds = if is_tight { TIGHT } else { WIDE };
    let mut fleet = Fleet::new(shards, apps(), bounds);
    for operation in script::operations(script) {
        let is_settled = matches!(operation, Operation::Settle);
        operate(&mut fleet, operation);
        if is_settled {
            check_quota(&fleet);
        }
    }
    fleet.finish_reload();
    fleet.settle();
    // Some things are left to the next tick, such as what came before a Close.
    fleet.advance(TICK);
    fleet.settle();
    check_rest(&fleet);
    fleet.pressure = Pressure {
        over_full: false,
        node_full: false,
        ..fleet.pressure
    };
    outlast(&mut fleet);
    fleet.check_nothing_remains();
    fleet.check_caches();
    assert_eq!(
        fleet.count(Counter::SessionPanicked),
        0,
        "a session panicked"
    );
    fleet.metrics()
}

/// Three apps that differ in who may whisper and how much.
fn apps() -> Vec<AppSettings> {
    vec![
        AppSettings {
            ping_interval_s: 20,
            ..AppSettings::new("a", "key-a", "secret-a")
        },
        AppSettings {
            client_events: ClientEvents::All,
            rate_limit: Some(RateLimit {
                max_attempts: 5,
                decay_s: 1,
                terminate: true,
            }),
            max_message_size: 100,
            ping_interval_s: 3,
            ..AppSettings::new("b", "key-b", "secret-b")
        },
        AppSettings {
            client_events: ClientEvents::None,
            rate_limit: Some(RateLimit {
                max_attempts: 3,
                decay_s: 10,
                terminate: false,
            }),
            max_connections: Some(QUOTA),
            ping_interval_s: 7,
            ..AppSettings::new("c", "key-c", "secret-c")
        },
    ]
}

/// The apps after a reload; each bit is one thing that is other than before.
fn edition(bits: usize) -> Vec<AppSettings> {
    let mut apps = apps();
    for (at, app) in apps.iter_mut().enumerate() {
        if bits & 1 != 0 {
            app.max_connections = Some(1);
            app.ping_interval_s = 1;
        }
        if bits & 2 != 0 {
            app.secret.push('!');
            app.max_message_size = 50;
        }
        if bits & 4 != 0 && at == 1 {
            app.key.push('!');
            app.client_events = ClientEvents::Members;
        }
    }
    if bits & 8 != 0 {
        apps.remove(0);
    }
    apps
}

fn operate(fleet: &mut Fleet, operation: Operation<'_>) {
    let shards = fleet.shards();
    match operation {
        Operation::Open { shard } => {
            if fleet.net.sockets.len() < SOCKETS_MAX {
                fleet.open(shard % shards);
            }
        }
        Operation::Carry { from, to, most } => {
            fleet.carry(from % shards, to % shards, most);
        }
        Operation::Flush { shard, most } => {
            fleet.flush(shard % shards, most);
        }
        Operation::Time { tenths } => fleet.advance(Duration::from_millis(100 * tenths)),
        Operation::Pressure { bits } => {
            fleet.pressure.over_full = bits & 1 != 0;
            fleet.pressure.node_full = bits & 2 != 0;
        }
        Operation::Reload { shard, edition } => {
            fleet.reload(shard % shards, self::edition(edition));
        }
        Operation::Drain { tenths } => fleet.begin_drain(Duration::from_millis(100 * tenths)),
        Operation::Settle => fleet.settle(),
        Operation::Upgrade { socket, .. }
        | Operation::Subscribe { socket, .. }
        | Operation::Message { socket, .. }
        | Operation::Frame { socket, .. }
        | Operation::Input { socket, .. }
        | Operation::Post { socket, .. }
        | Operation::Get { socket, .. }
        | Operation::Eof { socket }
        | Operation::Lost { socket }
        | Operation::Cut { socket, .. }
        | Operation::Room { socket, .. } => {
            if socket < fleet.net.sockets.len() {
                operate_socket(fleet, socket, operation);
            }
        }
    }
    fleet.read_all();
}

fn operate_socket(fleet: &mut Fleet, number: usize, operation: Operation<'_>) {
    let apps = apps().len();
    match operation {
        Operation::Upgrade { app, .. } => fleet.upgrade(number, app % apps),
        Operation::Subscribe {
            channel, member, ..
        } => fleet.subscribe(number, channel, member),
        Operation::Message { text, .. } => {
            fleet.net.sockets[number].write(&wire::masked(1, &text, [1, 2, 3, 4]));
        }
        Operation::Frame {
            opcode, payload, ..
        } => fleet.net.sockets[number].write(&wire::masked(opcode, &payload, [5; 4])),
        Operation::Input { bytes, .. } => {
            let socket = &mut fleet.net.sockets[number];
            let mut letters = bytes.windows(4);
            socket.listener.is_patient |= letters.any(|word| word.eq_ignore_ascii_case(b"head"));
            socket.write(&bytes);
        }
        Operation::Post {
            app, path, body, ..
        } => call(fleet, number, app % apps, ("POST", path), body),
        Operation::Get { app, target, .. } => {
            call(fleet, number, app % apps, ("GET", target), "");
        }
        Operation::Eof { .. } => {
            let socket = &mut fleet.net.sockets[number];
            if socket.peer == Peer::Open {
                socket.peer = Peer::Fin;
            }
        }
        Operation::Lost { .. } => fleet.net.sockets[number].peer = Peer::Reset,
        Operation::Cut { most, .. } => fleet.net.sockets[number].read_max = most,
        Operation::Room { bytes, .. } => {
            fleet.make_room(number, bytes);
        }
        _ => unreachable!("an operation on no socket"),
    }
}

fn call(fleet: &mut Fleet, number: usize, app: usize, target: (&str, &str), body: &str) {
    if let Some(app) = fleet.app(app) {
        let call = wire::call(app, fleet.now.unix_s, target, body, false);
        fleet.net.sockets[number].write(&call);
    }
}

/// Once everything has arrived. Before, a socket may be out already that has not heard its Close;
/// and so may one that is owed bytes.
fn check_quota(fleet: &Fleet) {
    let sockets = fleet.net.sockets.iter();
    let inside = sockets.filter(|socket| {
        let is_open = socket.peer == Peer::Open && socket.server == Server::Open;
        let is_open = is_open && !socket.is_awaited;
        socket.app == Some(2) && is_open && socket.listener.is_established()
    });
    assert!(
        fleet.is_reloaded || inside.count() <= QUOTA as usize,
        "over quota"
    );
}

/// Everything has been said and heard: nobody waits for anything but its peer.
fn check_rest(fleet: &Fleet) {
    // A reader that falls behind may lose its name with the rest of its backlog.
    let cuts = [
        Counter::BacklogBytes,
        Counter::BacklogSeconds,
        Counter::BacklogTotal,
    ];
    let mut is_exact = cuts.into_iter().all(|cut| fleet.count(cut) == 0);
    let mut established = 0;
    for socket in &fleet.net.sockets {
        established += u64::from(socket.listener.socket_id.is_some());
        is_exact &= socket.peer != Peer::Reset
            && socket.server != Server::Reset
            && !socket.listener.is_patient;
        let waits = socket.is_paused && socket.server == Server::Open;
        assert!(!waits || socket.peer == Peer::Fin, "nobody resumes it");
    }
    let sockets = fleet.net.sockets.len() as u64;
    assert_eq!(fleet.count(Counter::Accepted), sockets);
    let counted = fleet.count(Counter::Established);
    assert!(counted >= established, "more are in than were let in");
    assert!(
        !is_exact || counted == established,
        "one does not know that it is in"
    );
}

/// Silent peers are given up one after another: whoever is there longest waits for a request.
fn outlast(fleet: &mut Fleet) {
    const STEP: Duration = Duration::from_secs(5);
    const STEPS_MAX: usize = 20;
    for _ in 0..STEPS_MAX {
        if fleet.is_over() {
            return;
        }
        fleet.advance(STEP);
        fleet.settle();
    }
}
