//! What a reader makes of transcripts, of garbage, and of what is too long.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// A transcript of a subscriber, and what it says.
const TRANSCRIPT: &str = concat!(
    "+OK\r\n",
    "*3\r\n$10\r\npsubscribe\r\n$2\r\na*\r\n:1\r\n",
    "*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$3\r\na-b\r\n$4\r\n1\r\n2\r\n",
    "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n",
    "*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    "+PONG\r\n",
    "-ERR no\r\n",
    ":-42\r\n",
    "$-1\r\n",
    "$2\r\n\r\n\r\n",
    "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
    "*-1\r\n",
    ">3\r\n$12\r\npunsubscribe\r\n$2\r\na*\r\n:0\r\n",
);

const SAID: &[Said<'static>] = &[
    Said::Status(b"OK"),
    Said::Subscribed(b"a*"),
    Said::Message {
        pattern: Some(b"a*"),
        channel: b"a-b",
        payload: b"1\r\n2",
    },
    Said::Message {
        pattern: None,
        channel: b"c",
        payload: b"",
    },
    Said::Pong,
    Said::Pong,
    Said::Error(b"ERR no"),
    Said::Integer(-42),
    Said::Bulk(None),
    Said::Bulk(Some(b"\r\n")),
    Said::Array {
        strings: [b"", b"x", b"", b""],
        count: 2,
    },
    Said::Array {
        strings: [b""; KEPT],
        count: 0,
    },
    Said::Unsubscribed,
];

/// Reads pieces and gives what was said, as text, and the last error.
fn read(pieces: &[&[u8]], max: usize) -> (Vec<String>, Option<Malformed>) {
    let mut reader = Reader::new(max);
    let mut said = Vec::new();
    for piece in pieces {
        for part in piece.chunks(READ_BYTES) {
            reader.room()[..part.len()].copy_from_slice(part);
            reader.filled(part.len());
            loop {
                match reader.poll() {
                    Ok(Some(one)) => said.push(format!("{one:?}")),
                    Ok(None) => break,
                    Err(malformed) => return (said, Some(malformed)),
                }
            }
        }
    }
    (said, None)
}

fn shown() -> Vec<String> {
    SAID.iter().map(|one| format!("{one:?}")).collect()
}

#[test]
fn a_transcript_says_the_same_wherever_it_is_split() {
    let bytes = TRANSCRIPT.as_bytes();
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(
            read(&[first, second], 100),
            (shown(), None),
            "split at {at}"
        );
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single, 100), (shown(), None));
}

#[test]
fn what_is_not_resp_is_refused() {
    for garbage in [
        "x",
        "HTTP/1.1 400 Bad Request\r\n",
        ":\r\n",
        ":1x\r\n",
        ":1\rx",
        ":99999999999999999999\r\n",
        "$2\r\nabc\r\n",
        "$9999999999999\r\n",
        "*99999999\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        "*2\r\n$101\r\n",
    ] {
        assert!(read(&[garbage.as_bytes()], 100).1.is_some(), "{garbage:?}");
    }
    let endless = vec![b'a'; LINE_BYTES_MAX + 1];
    assert!(read(&[b"+", &endless], 100).1.is_some());
}

#[test]
fn what_is_too_long_streams_by_and_is_never_held() {
    const LENGTH: usize = 64 << 20;
    let mut reader = Reader::new(1000);
    let head = format!("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${LENGTH}\r\n");
    let feed = |reader: &mut Reader, bytes: &[u8]| {
        reader.room()[..bytes.len()].copy_from_slice(bytes);
        reader.filled(bytes.len());
    };
    feed(&mut reader, head.as_bytes());
    let piece = vec![b'x'; 1 << 16];
    for _ in 0..LENGTH / piece.len() {
        feed(&mut reader, &piece);
        assert_eq!(reader.poll(), Ok(None));
        assert!(reader.buffer.len() <= 2 * READ_BYTES);
    }
    feed(&mut reader, b"\r\n:1\r\n");
    assert_eq!(reader.poll(), Ok(Some(Said::TooLong)));
    assert_eq!(reader.poll(), Ok(Some(Said::Integer(1))));
}

#[test]
fn the_room_of_a_long_message_is_given_back() {
    let payload = vec![b'x'; 4 << 20];
    let head = format!("${}\r\n", payload.len());
    let mut reader = Reader::new(usize::MAX);
    for piece in [head.as_bytes(), &payload, b"\r\n"] {
        for part in piece.chunks(READ_BYTES) {
            assert_eq!(reader.poll(), Ok(None));
            reader.room()[..part.len()].copy_from_slice(part);
            reader.filled(part.len());
        }
    }
    assert_eq!(reader.poll(), Ok(Some(Said::Bulk(Some(&payload)))));
    let _ = reader.room();
    assert!(reader.buffer.len() <= 2 * READ_BYTES);
}

#[test]
fn a_command_is_an_array_of_strings() {
    let mut out = Vec::new();
    command(&mut out, &[b"AUTH", b"", b"p\r\nw"]);
    assert_eq!(out, b"*3\r\n$4\r\nAUTH\r\n$0\r\n\r\n$4\r\np\r\nw\r\n");
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_read_alike(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'$'),
            Just(b'*'), Just(b':'), b'0'..=b'9', any::<u8>()], 0..200),
        at in 0_usize..200,
    ) {
        let (first, second) = bytes.split_at(at.min(bytes.len()));
        prop_assert_eq!(read(&[&bytes], 50), read(&[first, second], 50));
    }

    #[test]
    fn any_command_is_read_as_it_was_said(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 3..=3),
    ) {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        command(&mut out, &[b"message", parts[0], parts[1]]);
        let (channel, payload) = (parts[0], parts[1]);
        let message = Said::Message { pattern: None, channel, payload };
        prop_assert_eq!(read(&[&out], 50), (vec![format!("{message:?}")], None));
    }
}

#[test]
fn an_array_of_too_many_strings_is_refused_before_it_is_whole() {
    let mut reader = Reader::new(1000);
    let element = format!("$1000\r\n{}\r\n", "x".repeat(1000));
    let mut said = Ok(None);
    for piece in std::iter::once("*1024\r\n").chain(std::iter::repeat_n(&*element, 1023)) {
        let room = reader.room();
        room[..piece.len()].copy_from_slice(piece.as_bytes());
        reader.filled(piece.len());
        said = reader.poll().map(|said| said.map(|_| ()));
        if said.is_err() {
            break;
        }
    }
    assert_eq!(said, Err(Malformed("an array that is too long")));
}
