//! The frame codec at any split of the bytes.

use proptest::prelude::*;

use super::*;

const MAX: u64 = 10_000;

/// An [`Incoming`] that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Message(Vec<u8>, bool),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
    Violation(u16, &'static str),
}

impl From<Incoming<'_>> for Item {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Message { payload, text } => Self::Message(payload.to_vec(), text),
            Incoming::Ping(payload) => Self::Ping(payload.to_vec()),
            Incoming::Pong(payload) => Self::Pong(payload.to_vec()),
            Incoming::Close { code, reason } => Self::Close(code, reason.to_vec()),
        }
    }
}

/// A client's frame; `first` holds FIN, RSV and opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length.to_be_bytes()[7]),
        length @ 126..=0xffff => {
            out.push(0xfe);
            out.extend(&length.to_be_bytes()[6..]);
        }
        length => {
            out.push(0xff);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    out
}

/// Feeds the pieces one after the other, and checks that nothing stays behind unasked.
fn decode_pieces(pieces: &[&[u8]], max: u64) -> (Vec<Item>, Decoder) {
    let mut decoder = Decoder::default();
    let mut items = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut rest = piece.as_mut_slice();
        loop {
            let (taken, item) = decoder.decode(rest, max);
            let is_last = match item {
                Ok(Some(incoming)) => {
                    items.push(incoming.into());
                    false
                }
                Ok(None) => true,
                Err(Violation { code, reason }) => {
                    items.push(Item::Violation(code, reason));
                    return (items, decoder);
                }
            };
            rest = &mut rest[taken..];
            if is_last {
                assert!(
                    rest.is_empty(),
                    "input was left although no item came of it"
                );
                break;
            }
        }
    }
    (items, decoder)
}

fn decode(bytes: &[u8]) -> Vec<Item> {
    let whole = decode_pieces(&[bytes], MAX).0;
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode_pieces(&single, MAX).0, whole, "byte by byte");
    whole
}

fn text_item(payload: &[u8]) -> Item {
    Item::Message(payload.to_vec(), true)
}

fn refused(bytes: &[u8], code: u16, reason: &'static str) {
    assert_eq!(
        decode(bytes),
        [Item::Violation(code, reason)],
        "{bytes:02x?}"
    );
}

#[test]
fn an_idle_decoder_is_one_pointer() {
    assert_eq!(size_of::<Decoder>(), size_of::<usize>());
}

#[test]
fn a_whole_frame_is_unmasked_in_place() {
    let mut bytes = frame(0x81, b"hello, shard");
    let place = bytes[6..].as_ptr();
    let mut decoder = Decoder::default();
    let (taken, item) = decoder.decode(&mut bytes, MAX);
    assert_eq!(taken, 18);
    let Ok(Some(Incoming::Message {
        payload,
        text: true,
    })) = item
    else {
        panic!("{item:?}")
    };
    assert_eq!(payload, b"hello, shard");
    assert_eq!(payload.as_ptr(), place);
    assert!(decoder.is_idle());
}

#[test]
fn bytes_are_held_only_while_something_is_incomplete() {
    let bytes = frame(0x81, b"hello");
    for cut in 1..bytes.len() {
        let (items, decoder) = decode_pieces(&[&bytes[..cut]], MAX);
        assert_eq!(items, []);
        assert!(!decoder.is_idle());
        let (items, decoder) = decode_pieces(&[&bytes[..cut], &bytes[cut..]], MAX);
        assert_eq!(items, [text_item(b"hello")]);
        assert!(decoder.is_idle() && decoder.held.is_none());
    }
}

#[test]
fn r035_ping_and_r036_pong_carry_their_payload() {
    assert_eq!(
        decode(&frame(0x89, b"hello")),
        [Item::Ping(b"hello".to_vec())]
    );
    assert_eq!(decode(&frame(0x89, b"")), [Item::Ping(Vec::new())]);
    assert_eq!(decode(&frame(0x8a, &[7; 125])), [Item::Pong(vec![7; 125])]);
}

#[test]
fn r037_fragments_are_one_message_and_a_ping_between_them_comes_first() {
    let mut bytes = frame(0x01, br#"{"event":"#);
    bytes.extend(frame(0x89, b"mid"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x80, br#""pusher:ping"}"#));
    bytes.extend(frame(0x81, b"next"));
    let ping = Item::Ping(b"mid".to_vec());
    let whole = text_item(br#"{"event":"pusher:ping"}"#);
    assert_eq!(decode(&bytes), [ping, whole, text_item(b"next")]);
}

#[test]
fn an_empty_last_fragment_ends_the_message_at_once() {
    let mut bytes = frame(0x01, b"a");
    bytes.extend(frame(0x80, b""));
    assert_eq!(decode(&bytes), [text_item(b"a")]);
    let mut bytes = frame(0x01, b"");
    bytes.extend(frame(0x80, b""));
    assert_eq!(decode(&bytes), [text_item(b"")]);
}

#[test]
fn r038_r039_binary_is_a_message_whatever_its_bytes() {
    let item = Item::Message(vec![0xff, 0xfe], false);
    assert_eq!(decode(&frame(0x82, &[0xff, 0xfe])), [item]);
}

#[test]
fn r040_text_that_is_not_utf8_is_1007() {
    refused(
        &frame(0x81, b"{\"event\":\"\xff\xfe\"}"),
        1007,
        "Ratchet detected an invalid UTF-8 payload",
    );
    refused(
        &frame(0x81, b"cut \xe2\x82"),
        1007,
        "Ratchet detected an invalid UTF-8 payload",
    );
}

#[test]
fn r040_bad_utf8_is_refused_inside_an_unfinished_frame() {
    let payload = b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80 and more";
    let bytes = frame(0x01, payload);
    let bad = Item::Violation(1007, "Ratchet detected an invalid UTF-8 payload");
    // The first byte that cannot be made good is 0x90, the seventh.
    assert_eq!(decode_pieces(&[&bytes[..6 + 6]], MAX).0, []);
    assert_eq!(decode_pieces(&[&bytes[..6 + 7]], MAX).0, [bad]);
}

#[test]
fn r040_a_sequence_may_be_cut_between_fragments_but_not_by_the_end() {
    let mut bytes = frame(0x01, b"\xe2\x82");
    bytes.extend(frame(0x80, b"\xac"));
    assert_eq!(decode(&bytes), [text_item("€".as_bytes())]);
    let mut bytes = frame(0x01, b"\xe2");
    bytes.extend(frame(0x80, b"\x82"));
    refused(&bytes, 1007, "Ratchet detected an invalid UTF-8 payload");
}

#[test]
fn r041_unmasked_frame_is_1002() {
    refused(
        b"\x81\x05hello",
        1002,
        "Ratchet detected an incorrect frame mask",
    );
    refused(
        b"\x89\x00",
        1002,
        "Ratchet detected an incorrect frame mask",
    );
}

#[test]
fn r042_reserved_bits_are_1002() {
    for first in [0xc1, 0xa1, 0x91] {
        refused(
            &frame(first, b"x"),
            1002,
            "Ratchet detected an invalid reserve code",
        );
    }
}

#[test]
fn r043_reserved_opcodes_are_1002() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        refused(
            &frame(0x80 | opcode, b"x"),
            1002,
            "Ratchet detected an invalid OP code",
        );
    }
}

#[test]
fn r044_fragments_out_of_sequence_are_1002() {
    let stray = "Ratchet detected the first frame of a message was a continue";
    refused(&frame(0x80, b"x"), 1002, stray);
    refused(&frame(0x00, b"x"), 1002, stray);
    for first in [0x81, 0x01, 0x82] {
        let mut bytes = frame(0x01, b"a");
        bytes.extend(frame(first, b"b"));
        refused(
            &bytes,
            1002,
            "Ratchet detected invalid OP code when expecting continue frame",
        );
    }
}

#[test]
fn r045_long_or_fragmented_control_frames_are_1002() {
    let reason = "Ratchet detected a mismatch between final bit and indicated payload length";
    refused(&frame(0x89, &[b'p'; 126]), 1002, reason);
    refused(&frame(0x09, b"p"), 1002, reason);
    refused(&frame(0x88, &[3; 126]), 1002, reason);
}

#[test]
fn r046_close_is_given_with_code_and_reason() {
    assert_eq!(decode(&frame(0x88, b"")), [Item::Close(None, Vec::new())]);
    assert_eq!(
        decode(&frame(0x88, b"\x03\xe8bye")),
        [Item::Close(Some(1000), b"bye".to_vec())]
    );
    assert_eq!(
        decode(&frame(0x88, b"\x10\x68x")),
        [Item::Close(Some(4200), b"x".to_vec())]
    );
}

#[test]
fn r047_close_codes_are_those_a_peer_may_send() {
    for code in 0..=u16::MAX {
        let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let item = decode_pieces(&[&frame(0x88, &code.to_be_bytes())], MAX).0;
        let bad = Item::Violation(1002, "Ratchet detected an invalid close code");
        assert_eq!(
            item,
            [if valid {
                Item::Close(Some(code), Vec::new())
            } else {
                bad
            }]
        );
    }
    refused(
        &frame(0x88, b"\x03"),
        1002,
        "Ratchet detected an invalid close code",
    );
    let reason = "Ratchet detected an invalid UTF-8 payload in the close reason";
    refused(&frame(0x88, b"\x03\xe8\xff\xfe"), 1007, reason);
}

#[test]
fn r048_a_message_of_exactly_the_limit_passes_and_one_more_byte_is_1009() {
    let payload = vec![b'x'; 10_000];
    assert_eq!(decode(&frame(0x81, &payload)), [text_item(&payload)]);
    // The header alone is enough.
    let too_big = frame(0x81, &[b'x'; 10_001]);
    refused(&too_big[..8], 1009, "Maximum message size exceeded");
    refused(
        b"\x81\xff\0\0\0\0\0\x98\x96\x80\x01\x02\x03\x04",
        1009,
        "Maximum message size exceeded",
    );
}

#[test]
fn r049_fragments_count_together() {
    let mut bytes = frame(0x01, &[b'x'; 6000]);
    bytes.extend(&frame(0x80, &[b'y'; 6000])[..8]);
    refused(&bytes, 1009, "Maximum message size exceeded");
}

#[test]
fn r050_the_limit_holds_for_control_frames_too() {
    let too_big = [Item::Violation(1009, "Maximum message size exceeded")];
    for bytes in [
        frame(0x81, b"{}"),
        frame(0x89, b"hello"),
        frame(0x88, b"\x03\xe8"),
    ] {
        assert_eq!(decode_pieces(&[&bytes], 1).0, too_big);
    }
}

#[test]
fn without_a_limit_a_frame_is_still_bounded() {
    let head = |length: u64| [&b"\x82\xff"[..], &length.to_be_bytes(), b"\0\0\0\0"].concat();
    let decoded = |length| decode_pieces(&[&head(length)], 0).0;
    assert_eq!(decoded(32 << 20), []);
    assert_eq!(
        decoded((32 << 20) + 1),
        [Item::Violation(1009, "Maximum frame size exceeded")]
    );
    assert_eq!(
        decoded(1 << 63),
        [Item::Violation(1002, "Invalid frame length")]
    );
}

#[test]
fn memory_grows_with_bytes_received_not_with_bytes_announced() {
    let bytes = frame(0x82, &vec![1; 16 << 20]);
    let (_, decoder) = decode_pieces(&[&bytes[..1000]], 0);
    assert!(
        decoder
            .held
            .is_some_and(|held| held.message.capacity() < 4096)
    );
    let sixteen_mib = decode_pieces(&bytes.chunks(65_536).collect::<Vec<_>>(), 16 << 20).0;
    assert!(sixteen_mib == [Item::Message(vec![1; 16 << 20], false)]);
}

#[test]
fn lengths_may_be_written_longer_than_needed() {
    // Reverb waits for ever; a frame that can be read is read.
    assert_eq!(decode(b"\x81\xfe\0\x02\0\0\0\0ab"), [text_item(b"ab")]);
    assert_eq!(
        decode(b"\x81\xff\0\0\0\0\0\0\0\x02\0\0\0\0ab"),
        [text_item(b"ab")]
    );
}

#[test]
fn r054_server_frames_are_final_unmasked_and_of_the_shortest_form() {
    let written = |length: usize| text_frame(|out| out.resize(out.len() + length, b'x'));
    assert_eq!(&written(0)[..], b"\x81\0");
    assert_eq!(&written(125)[..3], b"\x81\x7dx");
    assert_eq!(&written(126)[..5], b"\x81\x7e\0\x7ex");
    assert_eq!(&written(65_535)[..5], b"\x81\x7e\xff\xffx");
    assert_eq!(&written(65_536)[..11], b"\x81\x7f\0\0\0\0\0\x01\0\0x");
    assert_eq!(written(65_536).len(), 65_546);
}

#[test]
fn writers_append_behind_what_is_there() {
    let mut out = b"before".to_vec();
    text(&mut out, |out| out.extend(br#"{"event":"pusher:pong"}"#));
    binary(&mut out, &[0, 1]);
    ping(&mut out, b"");
    pong(&mut out, b"hello");
    close(&mut out, None, b"dropped");
    close(&mut out, Some(4100), b"later");
    let expected = b"before\x81\x17{\"event\":\"pusher:pong\"}\x82\x02\0\x01\x89\0\x8a\x05hello\
        \x88\0\x88\x07\x10\x04later";
    assert_eq!(out, expected);
}

#[test]
fn control_frames_are_never_written_too_long() {
    let mut out = Vec::new();
    pong(&mut out, &[0; 200]);
    assert_eq!((out[1], out.len()), (125, 127));
    out.clear();
    close(&mut out, Some(1000), &[b'x'; 200]);
    assert_eq!((out[1], out.len()), (125, 127));
}

/// A list of frames: mostly good, in any order, some with bytes that are nobody's UTF-8.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88]);
    let payload = prop_oneof![
        "\\PC{0,80}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..140),
    ];
    let one = (first, payload).prop_map(|(first, payload)| frame(first, &payload));
    prop::collection::vec(one, 0..8).prop_map(|list| list.concat())
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| &bytes[pair[0]..pair[1]])
        .collect()
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_items(
        bytes in frames(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = decode_pieces(&[&bytes], 300).0;
        prop_assert_eq!(decode_pieces(&pieces(&bytes, &cuts), 300).0, whole);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decode_pieces(&[&bytes], 100);
    }

    #[test]
    fn what_is_masked_comes_back(
        payload in prop::collection::vec(any::<u8>(), 0..300),
        fragment in 1_usize..300,
    ) {
        let count = payload.len().div_ceil(fragment).max(1);
        let mut bytes = Vec::new();
        for index in 0..count {
            let piece = payload.chunks(fragment).nth(index).unwrap_or_default();
            let opcode = if index == 0 { 2 } else { 0 };
            let fin = if index + 1 == count { 0x80 } else { 0 };
            bytes.extend(frame(fin | opcode, piece));
        }
        prop_assert_eq!(decode_pieces(&[&bytes], 0).0, [Item::Message(payload, false)]);
    }
}

#[test]
fn a_message_without_a_limit_of_its_own_holds_to_the_bound_of_a_frame() {
    const PIECE: usize = 1 << 20;
    let header = |first| {
        let length = (PIECE as u64).to_be_bytes();
        [&[first, 0xff], &length[..], &[0; 4]].concat()
    };
    let mut decoder = Decoder::default();
    for piece in 0..32 {
        let first = if piece == 0 { 0x02 } else { 0x00 };
        let mut frame = [header(first), vec![0; PIECE]].concat();
        let length = frame.len();
        assert_eq!(decoder.decode(&mut frame, 0), (length, Ok(None)));
    }
    let mut one_more = header(0x00);
    let (_, item) = decoder.decode(&mut one_more, 0);
    assert_eq!(item, Err(MESSAGE_TOO_BIG));
}
