//! Client events in the modes `members`, `all` and `none` (R-127 to R-143).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use channels::{enter, join, member_added, signed};
use harness::{Client, Opcode, Server, api, encode, error, invalid_message};
use harness::{on_every_fleet, on_every_server};

mod channels;
mod harness;

const ONE_ALONE: &str = r#"{"count":1,"ids":["1"],"hash":{"1":{}}}"#;
const BOTH: &str = r#"{"count":2,"ids":["1","2"],"hash":{"1":{},"2":{}}}"#;

fn not_a_member() -> String {
    error(4009, "The client is not a member of the specified channel.")
}

fn switched_off() -> String {
    error(4301, "The app does not have client messaging enabled.")
}

/// Two sockets of `app-NAME`: who whispers and who listens.
fn pair(server: &Server, name: &str) -> (Client, Client) {
    (Client::of_app(server, name), Client::of_app(server, name))
}

/// The same, both on a private channel.
fn pair_on(server: &Server, name: &str, channel: &str) -> (Client, Client) {
    let (mut sender, mut listener) = pair(server, name);
    enter(name, &mut sender, channel);
    enter(name, &mut listener, channel);
    (sender, listener)
}

fn client_x(channel: &str, data: &str) -> String {
    format!(r#"{{"event":"client-x","channel":"{channel}","data":{data}}}"#)
}

/// A whole text frame as a client sends it.
fn masked(text: &str) -> Vec<u8> {
    encode(Opcode::TEXT, true, text.as_bytes(), Some([1, 2, 3, 4]))
}

/// Nothing that `sender` said before has reached the listener: its next whisper comes first.
fn hears_no_whisper(listener: &mut Client, sender: &mut Client, channel: &str) {
    let fence = format!(r#"{{"event":"client-fence","channel":"{channel}","data":null}}"#);
    sender.say(&fence);
    assert_eq!(listener.hear(), fence);
}

#[test]
fn r127_r129_r142_a_whisper_reaches_the_others_of_a_public_channel_as_it_was_said() {
    on_every_server(|server| {
        let (mut sender, mut listener) = pair(server, "1");
        sender.subscribe("test-channel");
        listener.subscribe("test-channel");
        let whisper = concat!(
            r#"{"event":"client-start-typing","channel":"test-channel","#,
            r#""data":{"id":123,"name":"Joe Dixon"}}"#
        );
        sender.say(whisper);
        assert_eq!(listener.hear(), whisper);
        // The listener's answer comes to the sender first: its own never came.
        listener.say(client_x("test-channel", "{}"));
        assert_eq!(sender.hear(), client_x("test-channel", "{}"));
    });
}

#[test]
fn r127_everyone_on_every_shard_hears_it_once_but_the_sender() {
    on_every_server(|server| {
        let mut members: Vec<Client> = (0..16).map(|_| Client::of_app(server, "1")).collect();
        for member in &mut members {
            enter("1", member, "private-crowd");
        }
        for sender in 0..members.len() {
            let whisper = client_x("private-crowd", &format!(r#"{{"from":{sender}}}"#));
            members[sender].say(&whisper);
            for (number, member) in members.iter_mut().enumerate() {
                if number != sender {
                    assert_eq!(member.hear(), whisper);
                }
            }
        }
    });
}

#[test]
fn r128_a_presence_member_is_named_with_the_type_of_its_id() {
    on_every_server(|server| {
        for (channel, id) in [("presence-c", r#""1""#), ("presence-ci", "1")] {
            let (mut sender, mut listener) = pair(server, "1");
            let data = format!(r#"{{"user_id":{id},"user_info":{{}}}}"#);
            let two = r#"{"user_id":"2","user_info":{}}"#;
            join(
                "1",
                &mut sender,
                channel,
                &data,
                &ONE_ALONE.replace(r#""1"]"#, &format!("{id}]")),
            );
            let both = BOTH.replace(r#"["1""#, &format!("[{id}"));
            join("1", &mut listener, channel, two, &both);
            assert_eq!(sender.hear(), member_added(channel, two));
            sender.say(client_x(channel, r#"{"foo":"bar"}"#));
            let said = format!(
                r#"{{"event":"client-x","channel":"{channel}","data":{{"foo":"bar"}},"user_id":{id}}}"#
            );
            assert_eq!(listener.hear(), said);
        }
        // A private channel takes a user's name as well, if one is signed.
        let (mut sender, mut listener) = pair(server, "1");
        sender.say(signed(
            "1",
            &sender,
            "private-c",
            Some(r#"{"user_id":"1"}"#),
        ));
        sender.hear();
        enter("1", &mut listener, "private-c");
        sender.say(client_x("private-c", "{}"));
        assert_eq!(
            listener.hear(),
            r#"{"event":"client-x","channel":"private-c","data":{},"user_id":"1"}"#
        );
    });
}

#[test]
fn r130_who_is_not_subscribed_is_refused_and_stays_connected() {
    on_every_server(|server| {
        let (mut stranger, mut listener) = pair(server, "1");
        stranger.subscribe("other");
        enter("1", &mut listener, "private-c2");
        for channel in ["private-c2", "private-none", "presence-none", "nothing"] {
            stranger.say(client_x(channel, "{}"));
            assert_eq!(stranger.hear(), not_a_member(), "{channel}");
        }
        enter("1", &mut stranger, "private-c2");
        hears_no_whisper(&mut listener, &mut stranger, "private-c2");
    });
}

#[test]
fn r131_where_whispers_are_off_each_is_refused() {
    on_every_server(|server| {
        let (mut sender, mut listener) = pair_on(server, "none", "private-c");
        for channel in ["private-c", "private-none"] {
            sender.say(client_x(channel, r#"{"x":1}"#));
            assert_eq!(sender.hear(), switched_off());
        }
        // Not a whisper, so not even refused.
        sender.say(r#"{"event":"foo","channel":"private-c","data":{"x":1}}"#);
        sender.hears_nothing();
        channels::hears_nothing_published(server, "none", &mut listener);
    });
}

#[test]
fn r131_an_unknown_word_for_who_may_whisper_means_nobody() {
    let file = "[[apps]]\napp_id = \"app-odd\"\nkey = \"key-odd\"\nsecret = \"secret-odd\"\n\
                accept_client_events_from = \"anybody\"\n";
    on_every_fleet(|fleet| {
        let server = Server::start_with_file(fleet, file, &[]);
        let (mut sender, mut listener) = pair_on(&server, "odd", "private-c");
        sender.say(client_x("private-c", "{}"));
        assert_eq!(sender.hear(), switched_off());
        channels::hears_nothing_published(&server, "odd", &mut listener);
    });
}

#[test]
fn r132_r139_mode_all_keeps_every_member_but_a_forged_user() {
    on_every_server(|server| {
        let (mut stranger, mut listener) = pair(server, "all");
        enter("all", &mut listener, "private-c");
        for (said, heard) in [
            (
                r#"{"event":"client-x","channel":"private-c","data":{"x":1},"user_id":"forged","foo":"bar"}"#,
                r#"{"event":"client-x","channel":"private-c","data":{"x":1},"foo":"bar"}"#,
            ),
            (
                r#"{"z":[1,{}],"data":[],"event":"client-x","channel":"private-c"}"#,
                r#"{"z":[1,{}],"data":[],"event":"client-x","channel":"private-c"}"#,
            ),
            (
                r#"{"event":"client-x","channel":"private-c"}"#,
                r#"{"event":"client-x","channel":"private-c"}"#,
            ),
        ] {
            stranger.say(said);
            assert_eq!(listener.hear(), heard);
        }
        stranger.hears_nothing();
    });
}

#[test]
fn r132_r142_mode_all_names_the_sender_if_it_is_a_member_and_spares_it() {
    on_every_server(|server| {
        let (mut sender, mut listener) = pair(server, "all");
        let two = r#"{"user_id":"2","user_info":{}}"#;
        let one = r#"{"user_id":"1","user_info":{}}"#;
        join("all", &mut sender, "presence-c", one, ONE_ALONE);
        join("all", &mut listener, "presence-c", two, BOTH);
        sender.say(
            r#"{"event":"client-x","user_id":"2","channel":"presence-c","data":{"x":1},"foo":0}"#,
        );
        assert_eq!(
            listener.hear(),
            r#"{"event":"client-x","channel":"presence-c","data":{"x":1},"foo":0,"user_id":"1"}"#
        );
        assert_eq!(sender.hear(), member_added("presence-c", two));
        // The listener's answer comes next: the sender's own whisper never came.
        listener.say(client_x("presence-c", "{}"));
        assert_eq!(
            sender.hear(),
            r#"{"event":"client-x","channel":"presence-c","data":{},"user_id":"2"}"#
        );
    });
}

#[test]
fn r133_mode_all_takes_a_list_of_channels() {
    on_every_server(|server| {
        let (mut sender, mut listener) = pair(server, "all");
        listener.subscribe("m1");
        listener.subscribe("m2");
        listener.subscribe("m3");
        sender.say(r#"{"event":"client-x","channel":"m3","channels":["m1","m2"],"data":{"x":1}}"#);
        for channel in ["m1", "m2"] {
            assert_eq!(listener.hear(), client_x(channel, r#"{"x":1}"#));
        }
        hears_no_whisper(&mut listener, &mut sender, "m1");
    });
}

#[test]
fn r134_r135_r136_r137_r138_data_may_be_nothing_or_json_and_stays_as_it_is() {
    on_every_server(|server| {
        let (mut sender, mut listener) = pair_on(server, "1", "private-c4");
        for (said, heard) in [
            ("", "null"),
            (r#","data":null"#, "null"),
            (r#","data":"""#, r#""""#),
            (r#","data":"null""#, "null"),
            (r#","data":{}"#, "{}"),
            (r#","data":[]"#, "[]"),
            (r#","data":"{\"a\":{}}""#, r#"{"a":{}}"#),
            (r#","data":"[1,2]""#, "[1,2]"),
            (
                r#","data":{"i":12345678901234567890,"f":1.0,"e":1e3,"k":{"0":1},"u":"é","s":"a/b"}"#,
                r#"{"i":12345678901234567890,"f":1.0,"e":1e3,"k":{"0":1},"u":"é","s":"a/b"}"#,
            ),
        ] {
            sender.say(format!(
                r#"{{"event":"client-x","channel":"private-c4"{said}}}"#
            ));
            assert_eq!(listener.hear(), client_x("private-c4", heard), "{said}");
        }
        sender.hears_nothing();
    });
}

#[test]
fn r137_data_that_is_a_plain_value_is_invalid() {
    on_every_server(|server| {
        let (mut sender, mut listener) = pair_on(server, "1", "private-c4");
        for data in [
            r#""plain""#,
            r#""5""#,
            r#""\"s\"""#,
            r#""true""#,
            "5",
            "7.5",
            "true",
            "false",
        ] {
            sender.say(client_x("private-c4", data));
            assert_eq!(sender.hear(), invalid_message(), "{data}");
        }
        hears_no_whisper(&mut listener, &mut sender, "private-c4");
    });
}

#[test]
fn r139_mode_members_passes_on_event_channel_and_data_only() {
    on_every_server(|server| {
        let (mut sender, mut listener) = pair_on(server, "1", "private-c3");
        sender.say(concat!(
            r#"{"foo":"bar","data":{"x":1},"event":"client-x","channel":"private-c3","#,
            r#""user_id":"forged","channels":["other"]}"#
        ));
        assert_eq!(listener.hear(), client_x("private-c3", r#"{"x":1}"#));
    });
}

#[test]
fn r140_what_does_not_begin_with_client_is_ignored() {
    on_every_server(|server| {
        for name in ["1", "all"] {
            let (mut sender, mut listener) = pair_on(server, name, "private-c6");
            for event in [
                "test-message",
                "client",
                "CLIENT-x",
                "pusher_internal:member_added",
                " client-x",
            ] {
                sender.say(client_x("private-c6", "{}").replace("client-x", event));
            }
            sender.hears_nothing();
            // The shortest name there is.
            let shortest = client_x("private-c6", "{}").replace("client-x", "client-");
            sender.say(&shortest);
            assert_eq!(listener.hear(), shortest);
        }
    });
}

#[test]
fn r141_a_whisper_without_a_channel_is_invalid() {
    on_every_server(|server| {
        for name in ["1", "all", "none"] {
            let mut client = Client::of_app(server, name);
            for channel in [
                "",
                r#","channel":null"#,
                r#","channel":[]"#,
                r#","channel":"""#,
                r#","channel":5"#,
            ] {
                client.say(format!(r#"{{"event":"client-x","data":{{}}{channel}}}"#));
                assert_eq!(client.hear(), invalid_message(), "{name}: {channel}");
            }
        }
    });
}

#[test]
fn r143_what_other_apps_do_changes_nothing() {
    on_every_server(|server| {
        let (mut sender, mut listener) = pair_on(server, "1", "private-c");
        let (mut stranger, mut bystander) = pair_on(server, "all", "private-c");
        stranger.subscribe("news");
        api::publish_event(server, "all", "news", "ev", "x");
        assert_eq!(
            stranger.hear(),
            r#"{"event":"ev","data":"x","channel":"news"}"#
        );
        sender.say(client_x("private-c", r#"{"x":1}"#));
        assert_eq!(listener.hear(), client_x("private-c", r#"{"x":1}"#));
        hears_no_whisper(&mut bystander, &mut stranger, "private-c");
    });
}

#[test]
fn a_whisper_never_overtakes_its_senders_arrival() {
    on_every_server(|server| {
        let mut listener = Client::of_app(server, "1");
        let two = r#"{"user_id":"2","user_info":{}}"#;
        let two_alone = ONE_ALONE.replace('1', "2").replacen('2', "1", 1);
        join("1", &mut listener, "presence-c", two, &two_alone);
        for number in 0..20 {
            let mut sender = Client::of_app(server, "1");
            let data = format!(r#"{{"user_id":"u{number}","user_info":{{}}}}"#);
            // One write: the whisper is read with the join that it follows.
            let said = [
                signed("1", &sender, "presence-c", Some(&data)),
                client_x("presence-c", "{}"),
            ];
            sender.raw(said.map(|text| masked(&text)).concat());
            assert_eq!(listener.hear(), member_added("presence-c", &data));
            let said = format!(
                r#"{{"event":"client-x","channel":"presence-c","data":{{}},"user_id":"u{number}"}}"#
            );
            assert_eq!(listener.hear(), said);
            drop(sender);
            let gone = channels::member_removed("presence-c", &format!(r#""u{number}""#));
            assert_eq!(listener.hear(), gone);
        }
    });
}
