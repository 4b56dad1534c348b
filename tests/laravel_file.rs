//! A configuration in Laravel's spelling: each field of an app does what it does in Reverb (R-144,
//! R-251).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use answers::{is_answered, taken};
use harness::api::publish_request;
use harness::{Client, Frame, Server, error, on_every_fleet, subscribed};

mod answers;
mod harness;

/// `config("reverb")` with these fields behind id, key and secret of app-1; app-all has no others.
fn printed(fields: &str) -> String {
    let app = |name: &str, fields: &str| {
        format!(
            concat!(
                r#"{{"key":"key-{name}","secret":"secret-{name}","app_id":"app-{name}","#,
                r#""options":{{"host":"ws.example.com","port":443,"scheme":"https"}}"#,
                r#"{fields}}}"#
            ),
            name = name,
            fields = fields
        )
    };
    let apps = [app("1", fields), app("all", "")].join(",");
    format!(
        concat!(
            r#"{{"default":"reverb","servers":{{"reverb":{{"host":"127.0.0.1","port":"0"}}}},"#,
            r#""apps":{{"provider":"config","apps":[{apps}]}}}}"#
        ),
        apps = apps
    )
}

const WHISPER: &str = r#"{"event":"client-x","channel":"c","data":{}}"#;

/// A listener on `c`, and a socket of the same app that is not.
fn listener_and_stranger(server: &Server, name: &str) -> [Client; 2] {
    let mut listener = Client::of_app(server, name);
    listener.subscribe("c");
    [listener, Client::of_app(server, name)]
}

#[test]
fn r144_a_file_of_before_the_setting_lets_strangers_whisper_and_the_environment_does_not() {
    let not_a_member = error(4009, "The client is not a member of the specified channel.");
    on_every_fleet(|fleet| {
        let members = r#","accept_client_events_from":"members""#;
        let server = Server::start_with_file(fleet, &printed(members), &[]);
        let [mut listener, mut stranger] = listener_and_stranger(&server, "all");
        stranger.say(WHISPER);
        assert_eq!(listener.hear(), WHISPER);
        stranger.hears_nothing();
        let [mut listener, mut stranger] = listener_and_stranger(&server, "1");
        stranger.say(WHISPER);
        assert_eq!(stranger.hear(), not_a_member);
        listener.hears_nothing();

        let app = [
            ("REVERB_APP_ID", "app-1"),
            ("REVERB_APP_KEY", "key-1"),
            ("REVERB_APP_SECRET", "secret-1"),
        ];
        let server = Server::start_with(fleet, &["start"], &app);
        let [mut listener, mut stranger] = listener_and_stranger(&server, "1");
        stranger.say(WHISPER);
        assert_eq!(stranger.hear(), not_a_member);
        listener.hears_nothing();
    });
}

#[test]
fn r251_each_field_of_an_app_is_kept_to() {
    const FIELDS: &str = concat!(
        r#","allowed_origins":["laravel.com"],"activity_timeout":45,"max_connections":"2","#,
        r#""max_message_size":"100","#,
        r#""rate_limiting":{"enabled":true,"max_attempts":3,"decay_seconds":60}"#
    );
    on_every_fleet(|fleet| {
        let server = Server::start_with_file(fleet, &printed(FIELDS), &[]);
        let connect = |host: &str| {
            Client::upgrade(
                &server,
                "/app/key-1",
                &format!("Origin: https://{host}\r\n"),
            )
        };
        let mut foreign = connect("laravel.com.example");
        assert_eq!(foreign.hear(), error(4009, "Origin not allowed"));
        foreign.is_closed_with(4009, "Origin not allowed");

        let [mut one, mut two] = [(); 2].map(|()| connect("laravel.com"));
        one.is_established(45);
        two.is_established(45);
        let mut third = connect("laravel.com");
        let over = "Application is over connection quota";
        assert_eq!(third.hear(), error(4004, over));
        third.is_closed_with(4004, over);

        one.subscribe("c");
        let event = r#"{"name":"e","channel":"c","data":"1"}"#;
        is_answered(&server, publish_request("1", event), &taken());
        assert_eq!(one.hear(), r#"{"event":"e","data":"1","channel":"c"}"#);
        for _ in 0..2 {
            one.hears_nothing();
        }
        one.say(r#"{"event":"pusher:ping"}"#);
        assert_eq!(one.hear(), error(4301, "Rate limit exceeded"));
        two.say("x".repeat(101));
        let too_large = Frame::close(1009, "Maximum message size exceeded");
        assert_eq!(two.hear_frame(), too_large);
        two.ends();

        // Without the fields: any origin, 30 s, no limits.
        let mut plain = Client::upgrade(&server, "/app/key-all", "");
        plain.is_established(30);
        plain.say(format!(
            r#"{{"event":"pusher:subscribe","data":{{"channel":"c","auth":"{}"}}}}"#,
            "x".repeat(9000)
        ));
        assert_eq!(plain.hear(), subscribed("c"));
    });
}

#[test]
fn r251_the_ping_interval_of_an_app_is_kept_to() {
    on_every_fleet(|fleet| {
        let server = Server::start_with_file(fleet, &printed(r#","ping_interval":1"#), &[]);
        let mut client = Client::of_app(&server, "1");
        assert_eq!(client.hear(), r#"{"event":"pusher:ping"}"#);
    });
}
