//! Messages over an app's rate limit (R-145 to R-150).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use channels::subscribe_to;
use harness::{Client, Frame, Opcode, PONG, Server, api};
use harness::{error, invalid_message, on_every_fleet, on_every_server, subscribed};

mod channels;
mod harness;

const PING: &str = r#"{"event":"pusher:ping"}"#;

/// Length of the window of [`three`]: long enough for a slow machine to say four messages in.
const WINDOW: Duration = Duration::from_secs(2);

fn limited() -> String {
    error(4301, "Rate limit exceeded")
}

/// An app that takes three messages per [`WINDOW`].
fn three() -> String {
    format!(
        r#"
        [[apps]]
        app_id = "app-three"
        key = "key-three"
        secret = "secret-three"
        allowed_origins = ["*"]
        [apps.rate_limiting]
        enabled = true
        max_attempts = 3
        decay_seconds = {}
        "#,
        WINDOW.as_secs()
    )
}

#[test]
fn r145_r146_what_is_over_the_limit_is_dropped_until_the_window_ends() {
    on_every_fleet(|fleet| {
        let server = Server::start_with_file(fleet, &three(), &[]);
        let mut client = Client::of_app(&server, "three");
        let start = Instant::now();
        client.subscribe("fence");
        for _ in 0..2 {
            client.say(PING);
            assert_eq!(client.hear(), PONG);
        }
        client.say(subscribe_to("news"));
        assert_eq!(client.hear(), limited());
        // Not processed: it is not on that channel.
        for channel in ["news", "fence"] {
            api::publish_event(&server, "three", channel, "ev", "x");
        }
        assert_eq!(
            client.hear(),
            r#"{"event":"ev","data":"x","channel":"fence"}"#
        );
        // What was refused does not count, so asking again does not put the end off.
        let mut refused = 0;
        loop {
            client.say(PING);
            let answer = client.hear();
            if answer == PONG {
                break;
            }
            assert_eq!(answer, limited());
            refused += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(start.elapsed() >= WINDOW && refused > 0);
        client.say(subscribe_to("news"));
        assert_eq!(client.hear(), subscribed("news"));
    });
}

#[test]
fn r145_r149_bad_messages_count_control_frames_do_not() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "rate");
        for _ in 0..4 {
            client.say("bad");
            assert_eq!(client.hear(), invalid_message());
        }
        for _ in 0..3 {
            client.send(Opcode::PING, "hb");
            assert_eq!(client.hear_frame(), Frame::new(Opcode::PONG, "hb"));
        }
        client.say(PING);
        assert_eq!(client.hear(), PONG);
        for text in [PING, "bad", "", r#"{"event":"pusher:pong"}"#] {
            client.say(text);
            assert_eq!(client.hear(), limited());
        }
        client.send(Opcode::BINARY, PING);
        assert_eq!(client.hear(), limited());
        client.send(Opcode::PING, "hb");
        assert_eq!(client.hear_frame(), Frame::new(Opcode::PONG, "hb"));
    });
}

#[test]
fn r145_each_connection_has_its_own_count() {
    on_every_server(|server| {
        let mut first = Client::of_app(server, "rate");
        let mut second = Client::of_app(server, "rate");
        for _ in 0..5 {
            first.hears_nothing();
        }
        first.say(PING);
        assert_eq!(first.hear(), limited());
        second.hears_nothing();
    });
}

#[test]
fn r147_where_the_limit_terminates_the_error_is_said_before_the_close() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "rateterm");
        for _ in 0..5 {
            client.hears_nothing();
        }
        client.say(PING);
        assert_eq!(client.hear(), limited());
        client.is_closed_with(4100, "Rate limit exceeded");
    });
}

#[test]
fn r148_without_a_limit_there_is_none() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for _ in 0..200 {
            client.say(PING);
        }
        for _ in 0..200 {
            assert_eq!(client.hear(), PONG);
        }
    });
}

#[test]
fn r150_only_true_enables_the_limit_from_the_environment() {
    let variables = |enabled| {
        [
            ("REVERB_APP_ID", "app-env"),
            ("REVERB_APP_KEY", "key-env"),
            ("REVERB_APP_SECRET", "secret-env"),
            ("REVERB_APP_RATE_LIMITING_ENABLED", enabled),
            ("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "1"),
        ]
    };
    on_every_fleet(|fleet| {
        for (enabled, is_limited) in [
            ("1", false),
            ("yes", false),
            ("false", false),
            ("true", true),
        ] {
            let server = Server::start_with(fleet, &["start"], &variables(enabled));
            let mut client = Client::of_app(&server, "env");
            client.hears_nothing();
            client.say(PING);
            let expected = if is_limited {
                limited()
            } else {
                PONG.to_owned()
            };
            assert_eq!(client.hear(), expected, "{enabled}");
        }
    });
}
