//! A panic in one connection's protocol code costs that connection and nobody else.
//!
//! Needs the feature `planted-panic`: then an event named `client-panic-now` panics.
#![cfg(feature = "planted-panic")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use harness::{Client, Server, api, encode, on_every_fleet};
use harness::{Frame, Opcode};

mod harness;

/// So many that each of four shards holds some of both.
const HEALTHY: usize = 32;
const PANICKING: usize = 32;

#[test]
fn a_panic_in_a_session_closes_that_connection_with_1011_and_no_other() {
    on_every_fleet(|fleet| {
        let mut server = Server::start(fleet, &[("SLAPBACK_DRAIN_SECONDS", "0")]);
        let subscriber = || {
            let mut client = Client::of_app(&server, "1");
            client.subscribe("c1");
            client
        };
        let mut healthy: Vec<Client> = (0..HEALTHY).map(|_| subscriber()).collect();
        for round in 0..PANICKING {
            let mut client = subscriber();
            let panic = br#"{"event":"client-panic-now","channel":"c1","data":{}}"#;
            let ping = br#"{"event":"pusher:ping"}"#;
            let frame = |text: &[u8]| encode(Opcode::TEXT, true, text, Some([1, 2, 3, 4]));
            // What stands around it in the same segment: its answer comes, the other's does not.
            client.raw([frame(ping), frame(panic), frame(ping)].concat());
            assert_eq!(client.hear(), harness::PONG);
            client.is_closed_with(1011, "Internal error");
            let data = round.to_string();
            api::publish_event(&server, "1", "c1", "e", &data);
            for client in &mut healthy {
                let heard = format!(r#"{{"event":"e","data":"{data}","channel":"c1"}}"#);
                assert_eq!(client.hear(), heard);
            }
        }
        for client in &mut healthy {
            client.hears_nothing();
            client.send(Opcode::PING, "still here");
            assert_eq!(client.hear_frame(), Frame::new(Opcode::PONG, "still here"));
        }
        drop(healthy);
        assert_eq!(server.terminate().code(), Some(0));
        let stopped = server.says("stopped: ");
        let counted = format!("session_panicked={PANICKING}");
        assert!(
            stopped.split_whitespace().any(|field| field == counted),
            "{stopped}"
        );
    });
}
