//! `SLAPBACK_UNIX_SOCKET`: all that the port serves is served there too, and the socket's file
//! comes and goes with its server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use harness::{
    ACCEPTED, Client, FLEETS, Fleet, Opcode, Server, api, error, on_every_fleet, upgrade_head,
};
use rustix::process::Signal;

mod harness;

const LEAVING: &str = "Server is restarting";

/// A name for one fleet's socket, short enough wherever the tests run; nothing has it yet.
fn place(test: &str, fleet: Fleet) -> PathBuf {
    let (process, Fleet { shards, driver }) = (std::process::id(), fleet);
    std::env::temp_dir().join(format!("slapback-{process}-{test}-{shards}-{driver}"))
}

fn start(fleet: Fleet, test: &str, environment: &[(&str, &str)]) -> Server {
    Server::start_on_unix(fleet, &place(test, fleet), environment)
}

fn path(server: &Server) -> &Path {
    server.unix_socket.as_deref().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What a start with this socket says that cannot be served.
fn complaint(path: &Path) -> String {
    let socket = ("SLAPBACK_UNIX_SOCKET", path.to_str().unwrap());
    let mut server = launch(socket);
    assert_eq!(server.exit_status().code(), Some(1), "{}", server.said());
    server.said()
}

fn launch(variable: (&str, &str)) -> Server {
    let app = [
        ("REVERB_SERVER_HOST", "127.0.0.1"),
        ("REVERB_SERVER_PORT", "0"),
        ("REVERB_APP_ID", "app-1"),
        ("REVERB_APP_KEY", "key-1"),
        ("REVERB_APP_SECRET", "secret-1"),
        ("SLAPBACK_SHARDS", "2"),
    ];
    Server::launch(&["start"], &[&app[..], &[variable]].concat())
}

#[test]
fn sockets_and_calls_on_it_and_on_the_port_are_of_one_server() {
    on_every_fleet(|fleet| {
        let mut server = start(fleet, "both", &[]);
        let mut clients: Vec<_> = (0..8).map(|_| Client::of_app(&server, "1")).collect();
        let socket = server.unix_socket.take();
        clients.extend((0..8).map(|_| Client::of_app(&server, "1")));
        for client in &mut clients {
            client.subscribe("news");
        }
        api::publish_event(&server, "1", "news", "E", "by the port");
        server.unix_socket = socket;
        api::publish_event(&server, "1", "news", "E", "by the socket");
        for client in &mut clients {
            for by in ["port", "socket"] {
                let event = format!(r#"{{"event":"E","data":"by the {by}","channel":"news"}}"#);
                assert_eq!(client.hear(), event);
            }
        }
    });
}

/// The accept rate shows it: each shard lets in one, and no two come to the same.
#[test]
fn connections_are_handed_to_all_shards_in_turn() {
    on_every_fleet(|fleet| {
        let rate = fleet.shards.to_string();
        let server = start(fleet, "turns", &[("SLAPBACK_ACCEPT_RATE", &rate)]);
        let heads = (0..fleet.shards).map(|_| upgrade_head("/app/key-1", ""));
        let clients: Vec<_> = heads
            .map(|head| Client::connect_with(&server, &head))
            .collect();
        for mut client in clients {
            assert_eq!(client.head(), ACCEPTED);
            client.is_established(30);
        }
    });
}

#[test]
fn pipelined_calls_are_answered_in_order_on_every_connection() {
    on_every_fleet(|fleet| {
        let server = start(fleet, "pipeline", &[]);
        let mut listener = Client::of_app(&server, "1");
        listener.subscribe("news");
        let body = r#"{"name":"E","channel":"news","data":"x"}"#;
        let publish = api::publish_request("1", body);
        let occupied = api::call_request("1", "GET", "/channels/news", "");
        let batch = format!("{publish}{occupied}").repeat(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut client = Client::open(&server);
                    for _ in 0..20 {
                        client.raw(&batch);
                        for _ in 0..8 {
                            let [taken, asked] = [client.answer(), client.answer()];
                            assert_eq!([taken.status, asked.status], [200, 200]);
                            assert_eq!(taken.body, "{}");
                            assert_eq!(asked.body, r#"{"occupied":true}"#);
                        }
                    }
                });
            }
        });
        for _ in 0..8 * 20 * 8 {
            let event = r#"{"event":"E","data":"x","channel":"news"}"#;
            assert_eq!(listener.hear(), event);
        }
        listener.hears_nothing();
    });
}

#[test]
fn hundreds_of_sockets_hear_every_event_in_order() {
    on_every_fleet(|fleet| {
        let server = start(fleet, "many", &[]);
        let mut clients: Vec<_> = (0..300).map(|_| Client::of_app(&server, "1")).collect();
        for client in &mut clients {
            client.subscribe("news");
        }
        for number in 0..20 {
            api::publish_event(&server, "1", "news", "E", &number.to_string());
        }
        for client in &mut clients {
            for number in 0..20 {
                let event = format!(r#"{{"event":"E","data":"{number}","channel":"news"}}"#);
                assert_eq!(client.hear(), event);
            }
            client.hears_nothing();
        }
    });
}

/// Of what a reader leaves lying the kernel keeps little, so the bounds of a backlog hold.
#[test]
fn a_slow_reader_gets_all_of_a_backlog_and_one_that_owes_too_much_is_closed() {
    on_every_fleet(|fleet| {
        for (allowed, is_enough) in [("1048576", true), ("65536", false)] {
            let server = start(fleet, "slow", &[("SLAPBACK_BACKLOG_BYTES", allowed)]);
            let mut slow = Client::of_app(&server, "1");
            slow.subscribe("news");
            let data = "x".repeat(9_000);
            for _ in 0..EVENTS {
                api::publish_event(&server, "1", "news", "E", &data);
            }
            let event = format!(r#"{{"event":"E","data":"{data}","channel":"news"}}"#);
            let mut heard = 0;
            while heard < EVENTS {
                let frame = slow.hear_frame();
                if frame.opcode == Opcode::CLOSE {
                    assert_eq!(frame.payload[..2], 4100_u16.to_be_bytes());
                    break;
                }
                assert_eq!(String::from_utf8(frame.payload).unwrap(), event);
                heard += 1;
            }
            assert_eq!(heard == EVENTS, is_enough, "{heard} heard");
            assert!(is_enough || heard * 9_000 < 3 * 65_536, "{heard} heard");
        }
    });
}

/// Half a megabyte: more than the kernel keeps, less than a backlog may.
const EVENTS: usize = 60;

#[test]
fn during_a_drain_it_sends_elsewhere_and_then_its_file_is_gone() {
    on_every_fleet(|fleet| {
        let mut server = start(fleet, "drain", &[("SLAPBACK_DRAIN_SECONDS", "2")]);
        // While one of these is open the drain goes on.
        let mut clients: Vec<_> = (0..8).map(|_| Client::of_app(&server, "1")).collect();
        for client in &mut clients {
            client.subscribe("news");
        }
        server.signal(Signal::TERM);
        clients.remove(0).is_closed_with(4100, LEAVING);
        let mut late = Client::upgrade(&server, "/app/key-1", "");
        assert_eq!(late.hear(), error(4100, LEAVING));
        late.is_closed_with(4100, LEAVING);
        api::publish_event(&server, "1", "news", "E", "x");
        let mut heard = 0;
        for client in &mut clients {
            let frame = client.hear_frame();
            heard += usize::from(frame.opcode == Opcode::TEXT);
        }
        assert!(heard > 0, "nobody was left to hear the event");
        drop(clients);
        assert_eq!(server.exit_status().code(), Some(0));
        let error = UnixStream::connect(path(&server)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_dead_servers_file_is_replaced_and_a_living_ones_is_an_error() {
    on_every_fleet(|fleet| {
        let mut dead = start(fleet, "stale", &[]);
        let path = path(&dead).to_owned();
        dead.signal(Signal::KILL);
        dead.exit_status();
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        let living = start(fleet, "stale", &[]);
        let mut client = Client::of_app(&living, "1");
        let said = complaint(&path);
        let taken = format!(
            "slapback: cannot listen on {}: Address already in use",
            path.display()
        );
        assert!(said.starts_with(&taken), "{said}");
        client.hears_nothing();
        Client::of_app(&living, "1").hears_nothing();
    });
}

#[test]
fn of_two_that_find_a_dead_servers_file_at_once_one_serves_and_one_leaves() {
    let path = place("race", FLEETS[0]);
    let socket = ("SLAPBACK_UNIX_SOCKET", path.to_str().unwrap());
    for _ in 0..2 {
        // Dropping it leaves the file.
        drop(UnixListener::bind(&path).unwrap());
        let both = [launch(socket), launch(socket)];
        // Either the banner or the complaint.
        let lines = both.each_ref().map(|server| server.says(" on "));
        let serves = lines.map(|line| line.contains("Starting server on "));
        assert_ne!(serves[0], serves[1]);
        for (mut server, serves) in both.into_iter().zip(serves) {
            if serves {
                let mut client = Client::open_path(&path);
                client.raw(api::request("GET", "/up", "", ""));
                assert_eq!(client.answer().status, 200);
                drop(client);
                server.signal(Signal::TERM);
            }
            let code = i32::from(!serves);
            assert_eq!(server.exit_status().code(), Some(code));
        }
    }
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let path = place("file", FLEETS[0]);
    fs::write(&path, "mine").unwrap();
    let said = complaint(&path);
    let shown = path.display();
    let expected = format!("slapback: cannot listen on {shown}: there is a file that is no socket");
    assert_eq!(said, expected);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    let nowhere = path.join("socket");
    let said = complaint(&nowhere);
    let expected = format!("slapback: cannot listen on {}: ", nowhere.display());
    assert!(said.starts_with(&expected), "{said}");
    fs::remove_file(&path).unwrap();
}

#[test]
fn another_servers_file_is_not_taken_away() {
    let mut server = start(FLEETS[0], "other", &[]);
    let path = path(&server).to_owned();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    assert_eq!(server.terminate().code(), Some(0));
    assert!(path.exists());
    drop(other);
}

#[test]
fn owner_and_group_may_connect_or_whoever_the_mode_lets() {
    let server = start(FLEETS[0], "mode", &[]);
    assert_eq!(mode(path(&server)), 0o660);
    let open = start(FLEETS[0], "open", &[("SLAPBACK_UNIX_SOCKET_MODE", "0666")]);
    assert_eq!(mode(path(&open)), 0o666);
}
