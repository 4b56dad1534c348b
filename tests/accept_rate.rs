//! `SLAPBACK_ACCEPT_RATE`: of a storm only so many come in, the rest is told to come back, and
//! whoever is connected hears on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use harness::{Client, DEADLINE, Fleet, Server, api, error, on_every_fleet, upgrade_head};

mod harness;

/// Handshakes per second.
const RATE: u16 = 8;
const TOO_MANY: &str = "Too many new connections";
const TARGET: &str = "/app/key-1?protocol=7";

fn limited(fleet: Fleet) -> Server {
    Server::start(fleet, &[("SLAPBACK_ACCEPT_RATE", &RATE.to_string())])
}

/// Whether the upgrade that this client asked for came to something; if not, it was told to come
/// back, and the connection has ended in order.
fn comes_in(client: &mut Client) -> bool {
    assert_eq!(client.head(), harness::ACCEPTED);
    let text = client.hear();
    if text.contains("pusher:connection_established") {
        return true;
    }
    assert_eq!(text, error(4100, TOO_MANY));
    client.is_closed_with(4100, TOO_MANY);
    false
}

#[test]
fn of_a_storm_so_many_come_in_and_the_rest_gets_101_and_4100_while_others_hear_on() {
    on_every_fleet(|fleet| {
        let (server, start) = (limited(fleet), Instant::now());
        let mut healthy = Client::of_app(&server, "1");
        healthy.subscribe("news");
        let mut storm = Vec::new();
        for number in 0..64 {
            let upgrade = upgrade_head(TARGET, "");
            storm.push(Client::connect_with(&server, &upgrade));
            if number % 16 == 0 {
                let data = number.to_string();
                api::publish_event(&server, "1", "news", "E", &data);
                let event = format!(r#"{{"event":"E","data":"{data}","channel":"news"}}"#);
                assert_eq!(healthy.hear(), event);
            }
        }
        let came: Vec<_> = storm.iter_mut().map(comes_in).collect();
        let (seconds, count) = (
            start.elapsed().as_secs_f64(),
            1 + came.iter().filter(|came| **came).count(),
        );
        let most = f64::from(RATE) * (seconds + 1.0);
        assert!(
            f64::from(u32::try_from(count).unwrap()) <= most,
            "{count} in {seconds} s"
        );
        assert!(came.contains(&false), "all came in, in {seconds} s");
        server.says(&format!("refused: {TOO_MANY}"));
        healthy.hears_nothing();
    });
}

#[test]
fn whoever_was_turned_away_took_no_place_of_the_quota_and_gets_in_when_it_returns() {
    on_every_fleet(|fleet| {
        let server = limited(fleet);
        let mut crowd = Vec::new();
        while crowd.len() <= usize::from(RATE) {
            crowd.push(Client::connect_with(&server, &upgrade_head(TARGET, "")));
        }
        assert!(crowd.iter_mut().map(comes_in).any(|came| !came));
        // There are two places: one for each of these, however often they had to ask.
        let places = [returns_until_in(&server), returns_until_in(&server)];
        let mut third = Client::upgrade(&server, "/app/key-max", "");
        let quota = "Application is over connection quota";
        assert_eq!(third.hear(), error(4004, quota));
        third.is_closed_with(4004, quota);
        drop(places);
    });
}

/// A socket of the app with a quota, by somebody who does not give up.
fn returns_until_in(server: &Server) -> Client {
    let start = Instant::now();
    loop {
        let mut client = Client::connect_with(server, &upgrade_head("/app/key-max", ""));
        if comes_in(&mut client) {
            return client;
        }
        assert!(start.elapsed() < DEADLINE, "never let in");
    }
}
