//! Client messages, and the bytes of what servers say.

use proptest::prelude::*;

use super::*;

fn said(message: &str) -> String {
    let mut scratch = Scratch::default();
    match parse(message.as_bytes(), &mut scratch) {
        Ok(ClientMessage::Subscribe(subscribe)) => format!(
            "subscribe {} {:?} {:?}",
            subscribe.channel,
            subscribe.auth.as_deref(),
            subscribe.channel_data.as_deref()
        ),
        Ok(ClientMessage::Unsubscribe { channel }) => format!("unsubscribe {channel}"),
        Ok(ClientMessage::Whisper(whisper)) => {
            format!(
                "whisper {} {} {}",
                whisper.event, whisper.channel, whisper.data
            )
        }
        Ok(message) => format!("{message:?}"),
        Err(InvalidMessage) => "E4200".to_owned(),
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

/// What others get of a whisper, in either mode.
fn passed_on(message: &str, channel: &str, user_id: Option<&str>, is_whole: bool) -> String {
    let mut scratch = Scratch::default();
    let Ok(ClientMessage::Whisper(said)) = parse(message.as_bytes(), &mut scratch) else {
        panic!("{message} is no whisper")
    };
    written(|out| {
        if is_whole {
            whisper_whole(out, &said, channel, user_id);
        } else {
            whisper(out, &said, channel, user_id);
        }
    })
}

#[test]
fn r039_r055_r056_what_is_no_object_is_refused() {
    for message in [
        "Hi",
        "",
        "5",
        "null",
        "\"str\"",
        "[]",
        "{}",
        "[\"pusher:ping\"]",
        "true",
        "{",
    ] {
        assert_eq!(said(message), "E4200", "{message}");
    }
    let mut scratch = Scratch::default();
    assert_eq!(
        parse(b"{\"event\":\"pusher:ping\",\"x\":\"\xff\"}", &mut scratch),
        Err(InvalidMessage)
    );
}

#[test]
fn r057_event_must_be_a_string_with_something_in_it() {
    for event in [
        "[]",
        "5",
        "\"\"",
        "\" \"",
        "null",
        "{}",
        "true",
        "\"\\u0000\\t\"",
    ] {
        assert_eq!(
            said(&format!(r#"{{"event":{event},"channel":"c"}}"#)),
            "E4200",
            "{event}"
        );
    }
    assert_eq!(said(r#"{"data":{}}"#), "E4200");
}

#[test]
fn r058_unknown_pusher_events_are_refused() {
    for event in [
        "pusher:nope",
        "pusher:signin",
        "pusher:pusher:ping",
        "pusher:",
        "pusher:error",
    ] {
        assert_eq!(
            said(&format!(r#"{{"event":"{event}","channel":"c"}}"#)),
            "E4200",
            "{event}"
        );
    }
}

#[test]
fn r059_r060_other_events_need_a_channel_and_are_ignored() {
    assert_eq!(said(r#"{"event":"foo"}"#), "E4200");
    assert_eq!(said(r#"{"event":"foo","channel":"x"}"#), "Ignored");
    assert_eq!(
        said(r#"{"event":"pusher_internal:x","channel":"x"}"#),
        "Ignored"
    );
    assert_eq!(said(r#"{"event":"Pusher:Ping","channel":"c"}"#), "Ignored");
    assert_eq!(said(r#"{"event":"PUSHER:ping"}"#), "E4200");
}

#[test]
fn r061_trailing_garbage_is_refused() {
    assert_eq!(said(r#"{"event":"pusher:ping"}extra"#), "E4200");
    assert_eq!(said("\u{feff}{\"event\":\"pusher:ping\"}"), "E4200");
    assert_eq!(said(r#"{"event":"pusher:ping","x":"\ud800"}"#), "E4200");
}

#[test]
fn r062_r063_r064_r065_pusher_events_without_content() {
    for data in [
        "",
        r#","data":{}"#,
        r#","data":"{}""#,
        r#","data":"""#,
        r#","data":12345678901234567890,"x":1"#,
    ] {
        assert_eq!(said(&format!(r#"{{"event":"pusher:ping"{data}}}"#)), "Ping");
        assert_eq!(said(&format!(r#"{{"event":"pusher:pong"{data}}}"#)), "Pong");
    }
    assert_eq!(said(" {\"event\" : \"pusher:ping\"}\n"), "Ping");
    assert_eq!(
        said(r#"{"event":"pusher:connection_established"}"#),
        "Establish"
    );
    assert_eq!(
        said(r#"{"event":"pusher:foo","event":"pusher:\u0070ing"}"#),
        "Ping"
    );
}

#[test]
fn g101_a_message_may_nest_511_deep() {
    let message = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"{{"event":"pusher:ping","data":{open}{close}}}"#)
    };
    assert_eq!(said(&message(511)), "Ping");
    assert_eq!(said(&message(512)), "E4200");
    assert_eq!(said(&message(1_000_000)), "E4200");
}

fn subscribing(data: &str) -> String {
    said(&format!(r#"{{"event":"pusher:subscribe","data":{data}}}"#))
}

#[test]
fn r066_r067_subscribing_takes_channel_auth_and_data() {
    assert_eq!(
        subscribing(r#"{"channel":"test-channel"}"#),
        "subscribe test-channel None None"
    );
    assert_eq!(
        subscribing(r#"{"auth":"k:s","channel_data":"{\"user_id\":\"1\"}","channel":"p","x":1}"#),
        r#"subscribe p Some("k:s") Some("{\"user_id\":\"1\"}")"#
    );
    assert_eq!(
        subscribing(r#"{"channel":"a","auth":""}"#),
        r#"subscribe a Some("") None"#
    );
    assert_eq!(subscribing(r#"{"channel":""}"#), "subscribe  None None");
}

#[test]
fn r070_numbers_and_true_are_channels_too() {
    for (value, name) in [
        ("5", "5"),
        ("true", "1"),
        ("1.5", "1.5"),
        ("1.0", "1"),
        ("false", ""),
    ] {
        let expected = format!("subscribe {name} None None");
        assert_eq!(subscribing(&format!(r#"{{"channel":{value}}}"#)), expected);
    }
}

#[test]
fn r071_r072_without_a_channel_nothing_is_subscribed() {
    for data in [
        r#"{"channel":null}"#,
        r#"{"channel":[]}"#,
        r#"{"channel":{"a":1}}"#,
        "{}",
        "[]",
        "null",
        "5",
        "\"sfsfsfs\"",
        "\"5\"",
        "\"\"",
    ] {
        assert_eq!(subscribing(data), "E4200", "{data}");
    }
    assert_eq!(said(r#"{"event":"pusher:subscribe"}"#), "E4200");
}

#[test]
fn r073_data_may_be_encoded_twice() {
    assert_eq!(
        subscribing(r#""{\"channel\":\"dbl\"}""#),
        "subscribe dbl None None"
    );
}

#[test]
fn r074_r075_channel_data_is_a_string_and_auth_no_list() {
    for data in [
        r#"{"channel":"a","channel_data":[]}"#,
        r#"{"channel":"a","channel_data":{"user_id":"7"}}"#,
        r#"{"channel":"a","channel_data":5}"#,
        r#"{"channel":"a","auth":[]}"#,
        r#"{"channel":"a","auth":{}}"#,
    ] {
        assert_eq!(subscribing(data), "E4200", "{data}");
    }
    assert_eq!(
        subscribing(r#"{"channel":"a","channel_data":""}"#),
        r#"subscribe a None Some("")"#
    );
    assert_eq!(
        subscribing(r#"{"channel":"a","auth":5}"#),
        r#"subscribe a Some("5") None"#
    );
    assert_eq!(
        subscribing(r#"{"channel":"a","auth":null,"channel_data":null}"#),
        "subscribe a None None"
    );
}

#[test]
fn r122_r124_unsubscribing_needs_a_channel() {
    let unsubscribing = |data: &str| said(&format!(r#"{{"event":"pusher:unsubscribe"{data}}}"#));
    assert_eq!(unsubscribing(r#","data":{"channel":"x"}"#), "unsubscribe x");
    assert_eq!(
        unsubscribing(r#","data":"{\"channel\":\"x\"}""#),
        "unsubscribe x"
    );
    for data in [
        "",
        r#","data":{}"#,
        r#","data":{"channel":null}"#,
        r#","data":{"channel":[]}"#,
    ] {
        assert_eq!(unsubscribing(data), "E4200", "{data}");
    }
}

#[test]
fn r127_a_whisper_reaches_others_byte_for_byte() {
    let message = concat!(
        r#"{"event":"client-start-typing","channel":"test-channel","#,
        r#""data":{"id":123,"name":"Joe Dixon"}}"#
    );
    assert_eq!(passed_on(message, "test-channel", None, false), message);
}

#[test]
fn r128_the_senders_user_id_comes_last_with_its_type() {
    let message = r#"{"event":"client-a","channel":"presence-c","data":{"foo":"bar"}}"#;
    let start = r#"{"event":"client-a","channel":"presence-c","data":{"foo":"bar"},"user_id":"#;
    assert_eq!(
        passed_on(message, "presence-c", Some("\"1\""), false),
        format!("{start}\"1\"}}")
    );
    assert_eq!(
        passed_on(message, "presence-c", Some("1"), false),
        format!("{start}1}}")
    );
}

#[test]
fn r132_r133_mode_all_keeps_further_members_in_order() {
    let message = concat!(
        r#"{"x":[1, {}],"event":"client-x","channels":["m1",5,null,"m2"],"#,
        r#""channel":"m1","data":"{\"a\":1}","user_id":"forged","foo":"bar"}"#
    );
    assert_eq!(
        passed_on(message, "m/2", None, true),
        r#"{"x":[1, {}],"event":"client-x","channel":"m\/2","data":{"a":1},"foo":"bar"}"#
    );
    assert_eq!(
        passed_on(message, "m1", Some("7"), true),
        r#"{"x":[1, {}],"event":"client-x","channel":"m1","data":{"a":1},"foo":"bar","user_id":7}"#
    );
    let mut scratch = Scratch::default();
    let Ok(ClientMessage::Whisper(whisper)) = parse(message.as_bytes(), &mut scratch) else {
        panic!("no whisper")
    };
    assert_eq!(whisper.channels.unwrap(), ["m1", "5", "m2"]);
    let message = r#"{"event":"client-y","a":1,"channel":"c","a":2,"event":"client-x"}"#;
    assert_eq!(
        passed_on(message, "c", None, true),
        r#"{"event":"client-x","a":2,"channel":"c"}"#
    );
}

fn whispering(data: &str) -> String {
    let message = said(&format!(r#"{{"event":"client-x","channel":"c"{data}}}"#));
    message
        .strip_prefix(r#"whisper "client-x" c "#)
        .map_or(message.clone(), str::to_owned)
}

#[test]
fn r134_r135_r136_r138_data_is_passed_on_as_sent() {
    for (data, passed) in [
        ("", "null"),
        (r#","data":null"#, "null"),
        (r#","data":"""#, "\"\""),
        (r#","data":" ""#, "\" \""),
        (r#","data":{}"#, "{}"),
        (r#","data":[]"#, "[]"),
        (
            r#","data":{"a":12345678901234567890,"b":1.0,"u":"é/\u00e9"}"#,
            r#"{"a":12345678901234567890,"b":1.0,"u":"é/\u00e9"}"#,
        ),
        (r#","data":"{\"a\":{}}""#, r#"{"a":{}}"#),
        (r#","data":" [1,2] ""#, "[1,2]"),
        (r#","data":"null""#, "null"),
    ] {
        assert_eq!(whispering(data), passed, "{data}");
    }
}

#[test]
fn r137_scalars_are_no_data() {
    for data in [
        "\"plain\"",
        "\"5\"",
        r#""\"s\"""#,
        "5",
        "false",
        "true",
        r#""{\"a\":}""#,
    ] {
        assert_eq!(whispering(&format!(",\"data\":{data}")), "E4200", "{data}");
    }
}

#[test]
fn r139_mode_members_drops_everything_else() {
    let message = concat!(
        r#"{"event":"client-x","channel":"c","data":{"x":1},"#,
        r#""user_id":"forged","foo":"bar","channels":["other"]}"#
    );
    assert_eq!(
        passed_on(message, "c", None, false),
        r#"{"event":"client-x","channel":"c","data":{"x":1}}"#
    );
}

#[test]
fn r140_only_client_events_are_whispers() {
    for event in ["test-message", "client", "CLIENT-x"] {
        assert_eq!(
            said(&format!(
                r#"{{"event":"{event}","channel":"c","data":{{}}}}"#
            )),
            "Ignored"
        );
    }
    let message = r#"{"event":"client-","channel":"c","data":{}}"#;
    assert_eq!(said(message), r#"whisper "client-" c {}"#);
}

#[test]
fn r141_a_whispers_channel_is_a_string_with_something_in_it() {
    for channel in ["[]", "\"\"", "\" \"", "null", "5"] {
        let message = format!(r#"{{"event":"client-x","channel":{channel},"data":{{}}}}"#);
        assert_eq!(said(&message), "E4200", "{channel}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&payload, &mut Scratch::default());
    }

    #[test]
    fn any_members_are_parsed_or_refused(
        event in r#""(client-x|pusher:subscribe|foo)"|[\[\]{}"0-9]{0,6}"#,
        data in r#"[\[\]{}",:\\0-9a-c ]{0,30}"#,
        is_text in any::<bool>(),
    ) {
        let data = if is_text { serde_json::Value::from(data).to_string() } else { data };
        let message = format!(r#"{{"event":{event},"channel":"c","data":{data}}}"#);
        let mut scratch = Scratch::default();
        if let Ok(ClientMessage::Whisper(said)) = parse(message.as_bytes(), &mut scratch) {
            for write in [whisper, whisper_whole] {
                let text = written(|out| write(out, &said, "c", Some("1")));
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            }
        }
    }

    #[test]
    fn a_scratch_used_before_makes_no_difference(first in ".*", channel in ".{1,20}x") {
        let mut scratch = Scratch::default();
        let quoted = serde_json::Value::from(channel.clone()).to_string();
        let message = format!(r#"{{"event":"pusher:subscribe","data":{{"channel":{quoted}}}}}"#);
        let _ = parse(first.as_bytes(), &mut scratch);
        let Ok(ClientMessage::Subscribe(said)) = parse(message.as_bytes(), &mut scratch) else {
            return Err(TestCaseError::fail(message));
        };
        prop_assert_eq!(said.channel, channel);
    }
}
