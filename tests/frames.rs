//! RFC 6455 as the server keeps it: frames in, frames out, sizes, closes (R-035 to R-054).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use harness::{Client, Frame, Opcode, PONG, Server, api, close_payload, encode, invalid_message};
use harness::{on_every_fleet, on_every_server, subscribed};

mod harness;

const PING: &str = r#"{"event":"pusher:ping"}"#;
const TOO_LARGE: &str = "Maximum message size exceeded";

#[test]
fn r035_a_ping_is_answered_with_its_payload() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for payload in ["hello", "", &"p".repeat(125)] {
            client.send(Opcode::PING, payload);
            assert_eq!(client.hear_frame(), Frame::new(Opcode::PONG, payload));
        }
    });
}

#[test]
fn r036_a_pong_is_not_answered() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for payload in ["x", ""] {
            client.send(Opcode::PONG, payload);
            client.hears_nothing();
        }
    });
}

#[test]
fn r035_r036_control_frames_count_as_life() {
    let file = app("restless", "ping_interval = 1");
    on_every_fleet(|fleet| {
        let server = Server::start_with_file(fleet, &file, &[]);
        let mut client = Client::connect(&server, "/app/restless");
        client.send(Opcode::PONG, "");
        // Who ever sent a control frame is pinged with one, and again once it has answered.
        for _ in 0..2 {
            assert_eq!(client.hear_frame(), Frame::new(Opcode::PING, ""));
            client.send(Opcode::PONG, "");
            assert_eq!(client.hear_frame(), Frame::new(Opcode::PING, ""));
            client.send(Opcode::PING, "hb");
            assert_eq!(client.hear_frame(), Frame::new(Opcode::PONG, "hb"));
        }
        client.hears_nothing();
    });
}

#[test]
fn r037_fragments_are_one_message_and_a_ping_between_them_is_answered_at_once() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.send_frame(Opcode::TEXT, false, br#"{"event":"#, true);
        client.send_frame(Opcode::CONTINUATION, false, b"\"pusher:", true);
        client.send(Opcode::PING, "mid");
        assert_eq!(client.hear_frame(), Frame::new(Opcode::PONG, "mid"));
        client.send_frame(Opcode::CONTINUATION, true, b"ping\"}", true);
        assert_eq!(client.hear(), PONG);
    });
}

#[test]
fn r038_r039_a_binary_frame_is_a_message_too() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.send(Opcode::BINARY, PING);
        assert_eq!(client.hear(), PONG);
        client.send(Opcode::BINARY, b"{\"event\":\"\xff\xfe\"}");
        assert_eq!(client.hear(), invalid_message());
        client.hears_nothing();
    });
}

#[test]
fn any_way_to_cut_pack_and_mask_frames_is_read() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let ping = |mask| encode(Opcode::TEXT, true, PING.as_bytes(), Some(mask));
        client.raw([ping([1, 2, 3, 4]), ping([0; 4])].concat());
        assert_eq!([client.hear(), client.hear()], [PONG, PONG]);
        for byte in ping([9, 8, 7, 6]) {
            client.raw([byte]);
        }
        assert_eq!(client.hear(), PONG);
    });
}

/// Each of these bytes, sent on a socket of its own, is answered with Close and the end, while a
/// socket beside it lives on.
fn are_violations(code: u16, violations: &[(&[u8], &str)]) {
    on_every_server(|server| {
        let mut bystander = Client::of_app(server, "1");
        for (bytes, reason) in violations {
            let mut client = Client::of_app(server, "1");
            client.raw(bytes);
            client.is_closed_with(code, reason);
        }
        bystander.hears_nothing();
    });
}

/// A masked frame with its first byte and payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = encode(Opcode::TEXT, true, payload, Some([5, 6, 7, 8]));
    bytes[0] = first;
    bytes
}

#[test]
fn r040_text_that_is_not_utf8_is_1007() {
    let reason = "Ratchet detected an invalid UTF-8 payload";
    let cut = [frame(0x01, b"\xc3"), frame(0x80, b"\"")].concat();
    are_violations(
        1007,
        &[
            (&frame(0x81, b"{\"event\":\"\xff\xfe\"}"), reason),
            (&cut, reason),
        ],
    );
}

#[test]
fn r041_an_unmasked_frame_is_1002() {
    let reason = "Ratchet detected an incorrect frame mask";
    let text = encode(Opcode::TEXT, true, PING.as_bytes(), None);
    let ping = encode(Opcode::PING, true, b"", None);
    are_violations(1002, &[(&text, reason), (&ping, reason)]);
}

#[test]
fn r042_r043_reserved_bits_and_opcodes_are_1002() {
    let bits = "Ratchet detected an invalid reserve code";
    let opcode = "Ratchet detected an invalid OP code";
    let violations = [
        (frame(0xc1, PING.as_bytes()), bits),
        (frame(0xa1, PING.as_bytes()), bits),
        (frame(0x91, PING.as_bytes()), bits),
        (frame(0x83, b"x"), opcode),
        (frame(0x87, b"x"), opcode),
        (frame(0x8b, b"x"), opcode),
        (frame(0x8f, b"x"), opcode),
    ];
    let violations = violations.each_ref().map(|(bytes, why)| (&bytes[..], *why));
    are_violations(1002, &violations);
}

#[test]
fn r044_fragments_out_of_sequence_are_1002() {
    let first = "Ratchet detected the first frame of a message was a continue";
    let second = "Ratchet detected invalid OP code when expecting continue frame";
    let text = [frame(0x01, b"{"), frame(0x81, PING.as_bytes())].concat();
    let continued = frame(0x80, PING.as_bytes());
    are_violations(1002, &[(&continued, first), (&text, second)]);
}

#[test]
fn r045_a_long_or_fragmented_control_frame_is_1002() {
    let reason = "Ratchet detected a mismatch between final bit and indicated payload length";
    let long = frame(0x89, &[b'p'; 126]);
    let fragment = frame(0x09, b"p");
    are_violations(1002, &[(&long, reason), (&fragment, reason)]);
}

/// The server answers a Close frame with this one and ends the connection.
fn is_echoed(server: &Server, payload: &[u8], echo: &Frame) {
    let mut client = Client::of_app(server, "1");
    client.send(Opcode::CLOSE, payload);
    assert_eq!(client.hear_frame(), *echo, "{}", payload.escape_ascii());
    client.ends();
}

#[test]
fn r046_r047_close_is_echoed_with_code_and_reason() {
    on_every_server(|server| {
        is_echoed(server, b"", &Frame::close(1000, ""));
        let codes = [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4000,
            4200, 4999,
        ];
        for code in codes {
            for reason in ["", "bye", "x", "\u{e9}"] {
                let payload = close_payload(code, reason.as_bytes());
                is_echoed(server, &payload, &Frame::close(code, reason));
            }
        }
    });
}

#[test]
fn r047_a_close_that_no_peer_may_send_is_1002_or_1007() {
    let code = "Ratchet detected an invalid close code";
    let reason = "Ratchet detected an invalid UTF-8 payload in the close reason";
    let numbers = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535];
    let bad = numbers.map(|number| frame(0x88, &close_payload(number, b"")));
    let bad: Vec<_> = bad.iter().map(|bytes| (&bytes[..], code)).collect();
    are_violations(1002, &bad);
    are_violations(1002, &[(&frame(0x88, b"\x03"), code)]);
    let payload = close_payload(1000, b"\xff\xfe");
    are_violations(1007, &[(&frame(0x88, &payload), reason)]);
}

/// A ping event of exactly this many bytes.
fn ping_of(length: usize) -> String {
    let (head, tail) = (r#"{"event":"pusher:ping","data":{"x":""#, r#""}}"#);
    let filling = length - head.len() - tail.len();
    format!("{head}{}{tail}", "x".repeat(filling))
}

#[test]
fn r048_a_message_may_be_as_long_as_the_limit_and_no_longer() {
    on_every_server(|server| {
        for (app, limit) in [("small", 200), ("1", 10_000)] {
            let mut client = Client::of_app(server, app);
            client.say(ping_of(limit));
            assert_eq!(client.hear(), PONG);
            client.say(ping_of(limit + 1));
            client.is_closed_with(1009, TOO_LARGE);
        }
        // Bytes are counted, not characters.
        let mut client = Client::of_app(server, "small");
        client.say("\u{e9}".repeat(101));
        client.is_closed_with(1009, TOO_LARGE);
    });
}

#[test]
fn r048_a_declared_length_beyond_the_limit_is_refused_before_it_comes() {
    let lengths = [
        (10_001, 1009, TOO_LARGE),
        (10_000_000, 1009, TOO_LARGE),
        (1 << 62, 1009, "Maximum frame size exceeded"),
        // RFC 6455, 5.2: the most significant bit must be 0.
        (1 << 63, 1002, "Invalid frame length"),
    ];
    on_every_server(|server| {
        for (length, code, reason) in lengths {
            let mut client = Client::of_app(server, "1");
            let head = [&[0x81, 0xff][..], &u64::to_be_bytes(length), &[1, 2, 3, 4]];
            client.raw(head.concat());
            client.is_closed_with(code, reason);
        }
    });
}

#[test]
fn r049_fragments_count_together() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.send_frame(Opcode::TEXT, false, &[b'x'; 6_000], true);
        client.send_frame(Opcode::CONTINUATION, true, &[b'x'; 6_000], true);
        client.is_closed_with(1009, TOO_LARGE);
    });
}

#[test]
fn r048_who_says_too_much_leaves_the_channels() {
    on_every_server(|server| {
        let mut stays = Client::of_app(server, "small");
        let mut goes = Client::of_app(server, "small");
        let join = |client: &mut Client, user: u8| {
            let data = format!(r#"{{"user_id":"{user}"}}"#);
            let auth = api::channel_auth("small", &client.id, "presence-s", Some(&data));
            // The whole message would be longer than the app's 200 bytes with a longer name.
            let data = data.replace('"', "\\\"");
            client.say(format!(
                r#"{{"event":"pusher:subscribe","data":{{"channel":"presence-s","auth":"{auth}","channel_data":"{data}"}}}}"#
            ));
            assert!(client.hear().contains("subscription_succeeded"));
        };
        join(&mut stays, 1);
        join(&mut goes, 2);
        let member = |event| {
            format!(
                r#"{{"event":"pusher_internal:{event}","data":"{{\"user_id\":\"2\"}}","channel":"presence-s"}}"#
            )
        };
        assert_eq!(stays.hear(), member("member_added"));
        goes.say("z".repeat(201));
        goes.is_closed_with(1009, TOO_LARGE);
        assert_eq!(stays.hear(), member("member_removed"));
    });
}

fn app(key: &str, setting: &str) -> String {
    format!("[[apps]]\napp_id = \"{key}\"\nkey = \"{key}\"\nsecret = \"s\"\n{setting}\n")
}

/// A subscription whose member carries `copies` times 100 bytes.
fn subscribe_with(copies: usize) -> String {
    let info = format!(
        "[{}]",
        vec![format!(r#""{}""#, "x".repeat(97)); copies].join(",")
    );
    let data = format!(r#"{{"user_id":1,"user_info":{info}}}"#).replace('"', "\\\"");
    format!(
        r#"{{"event":"pusher:subscribe","data":{{"channel":"my-channel","channel_data":"{data}"}}}}"#
    )
}

#[test]
fn r050_r051_r052_the_limit_is_the_apps() {
    let file = [
        app("one", "max_message_size = 1"),
        app("default", ""),
        app("million", "max_message_size = 1000000"),
    ]
    .concat();
    on_every_fleet(|fleet| {
        let server = Server::start_with_file(fleet, &file, &[]);
        let mut client = Client::connect(&server, "/app/one");
        client.say(PING);
        assert_eq!(client.hear_frame(), Frame::close(1009, TOO_LARGE));
        // The limit holds for control frames too.
        let mut client = Client::connect(&server, "/app/one");
        client.send(Opcode::PING, "hello");
        assert_eq!(client.hear_frame(), Frame::close(1009, TOO_LARGE));
        let mut client = Client::connect(&server, "/app/million");
        client.say(subscribe_with(200));
        assert_eq!(client.hear(), subscribed("my-channel"));
        let mut client = Client::connect(&server, "/app/default");
        client.say(subscribe_with(101));
        client.is_closed_with(1009, TOO_LARGE);
    });
}

#[test]
fn r054_an_outgoing_frame_takes_the_shortest_form_of_its_length() {
    // `hear` refuses a fragment, a mask, and a longer form than the length needs.
    let lengths = [0, 125, 126, 127, 65_535, 65_536, 200_000];
    on_every_fleet(|fleet| {
        let server = Server::start(fleet, &[("REVERB_MAX_REQUEST_SIZE", "300000")]);
        let mut client = Client::of_app(&server, "1");
        client.subscribe("c");
        let envelope = r#"{"event":"E","data":"","channel":"c"}"#.len();
        for length in lengths {
            let data = "x".repeat(usize::max(length, envelope + 1) - envelope);
            api::publish_event(&server, "1", "c", "E", &data);
            let event = format!(r#"{{"event":"E","data":"{data}","channel":"c"}}"#);
            assert_eq!(client.hear(), event);
        }
    });
}
