//! Files run out: new sockets are turned away in a way that lets them return, API calls are
//! served, then accepting pauses; whoever is connected lives on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use harness::{Client, Server, api, error, on_every_fleet, upgrade_head};
use rustix::process::{Resource, Rlimit, setrlimit};

mod harness;

/// What a server may open in all; this process too, for the limit is inherited.
const FILES: usize = 400;

#[test]
fn near_the_file_limit_websockets_get_4100_and_api_calls_are_served() {
    let limit = Some(FILES as u64);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )
    .unwrap();
    // One fleet after the other: the clients of all together would not fit in this process.
    let one_at_a_time = std::sync::Mutex::new(());
    on_every_fleet(|fleet| {
        let turn = one_at_a_time.lock().unwrap();
        let server = Server::start(fleet, &[]);
        server.says(&format!("open files: {FILES}"));
        fill_up(&server);
        drop(turn);
    });
}

fn fill_up(server: &Server) {
    let mut healthy = Client::of_app(server, "1");
    healthy.subscribe("news");
    let mut others = Vec::new();
    let turned_away = loop {
        let mut client = Client::upgrade(server, "/app/key-1", "");
        let text = client.hear();
        if text == error(4100, "Server is over capacity") {
            client.is_closed_with(4100, "Server is over capacity");
            break others.len();
        }
        assert!(text.contains("pusher:connection_established"), "{text}");
        others.push(client);
    };
    assert!(
        (FILES / 2..FILES - 64).contains(&turned_away),
        "turned away after {turned_away}"
    );
    api::publish_event(server, "1", "news", "E", "x");
    assert_eq!(
        healthy.hear(),
        r#"{"event":"E","data":"x","channel":"news"}"#
    );

    // Connections that say nothing take the last files; the next one waits in the kernel.
    let silent: Vec<_> = (0..70).map(|_| Client::open(server)).collect();
    server.says("accepting pauses");
    let mut waiting = Client::connect_with(server, &upgrade_head("/app/key-1", ""));
    healthy.hears_nothing();
    drop(silent);
    drop(others);
    assert!(waiting.head().starts_with("HTTP/1.1 101 "));
    healthy.hears_nothing();
}
