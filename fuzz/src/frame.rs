//! Any bytes as a client's frames, read the same however the network cuts them; and any bytes as
//! a payload that must come through masking, fragments and the server's own frames unchanged.

use slapback::proto::frame::{self, Decoder, Incoming, Violation};

use super::{pieces, wire};

/// Bytes of one message, small enough to be met.
const MESSAGE_BYTES_MAX: u64 = 300;

/// One thing that came of the stream.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Message { payload: Vec<u8>, text: bool },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
    Violated(Violation),
}

/// Reads the bytes as a stream, and sends them as payloads.
pub fn run(bytes: &[u8]) {
    let whole = read(&[bytes]);
    for pieces in pieces::cuts(bytes) {
        assert_eq!(read(&pieces), whole);
    }
    check_fragments(bytes);
    check_server_frames(bytes);
}

fn read(pieces: &[&[u8]]) -> Vec<Reading> {
    // Unmasking writes into the input.
    let mut stream = pieces.concat();
    let mut rest = stream.as_mut_slice();
    let mut decoder = Decoder::default();
    let mut readings = Vec::new();
    for piece in pieces {
        let (mut input, behind) = rest.split_at_mut(piece.len());
        rest = behind;
        loop {
            let (taken, item) = decoder.decode(input, MESSAGE_BYTES_MAX);
            match item {
                Ok(None) => break assert_eq!(taken, input.len()),
                Ok(Some(incoming)) => {
                    assert!(taken > 0, "an item of nothing");
                    readings.push(keep(&incoming));
                    input = &mut input[taken..];
                }
                Err(violation) => {
                    readings.push(Reading::Violated(violation));
                    return readings;
                }
            }
        }
    }
    readings
}

fn keep(incoming: &Incoming<'_>) -> Reading {
    match *incoming {
        Incoming::Message { payload, text } => {
            assert!(payload.len() as u64 <= MESSAGE_BYTES_MAX);
            assert!(!text || str::from_utf8(payload).is_ok());
            Reading::Message {
                payload: payload.to_vec(),
                text,
            }
        }
        Incoming::Ping(payload) => Reading::Ping(payload.to_vec()),
        Incoming::Pong(payload) => Reading::Pong(payload.to_vec()),
        Incoming::Close { code, reason } => {
            assert!(reason.len() <= 123 && str::from_utf8(reason).is_ok());
            Reading::Close(code, reason.to_vec())
        }
    }
}

/// One binary message in fragments, a ping behind each but the last, is that message behind them.
fn check_fragments(bytes: &[u8]) {
    const FRAGMENTED_MAX: usize = 100;
    let (mask, payload) = bytes.split_first_chunk().unwrap_or((&[0; 4], bytes));
    let payload = &payload[..payload.len().min(FRAGMENTED_MAX)];
    let [_, mut fragments, _] = pieces::cuts(payload);
    let last = fragments.pop().unwrap_or_default();
    let mut stream = Vec::new();
    for (at, fragment) in fragments.iter().enumerate() {
        let start = stream.len();
        stream.extend(wire::masked(if at == 0 { 2 } else { 0 }, fragment, *mask));
        stream[start] &= 0x7f;
        stream.extend(wire::masked(9, b"?", *mask));
    }
    let opcode = if fragments.is_empty() { 2 } else { 0 };
    stream.extend(wire::masked(opcode, last, *mask));
    let mut readings = read(&[&stream]);
    let whole = Reading::Message {
        payload: payload.to_vec(),
        text: false,
    };
    assert_eq!(readings.pop(), Some(whole));
    let ping = Reading::Ping(b"?".to_vec());
    assert!(readings.len() == fragments.len() && readings.iter().all(|item| *item == ping));
}

/// What the server writes is a whole frame around what it was given.
fn check_server_frames(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        let frame = frame::text_frame(|out| out.extend_from_slice(bytes));
        assert_eq!(frame::payload(&frame), bytes);
        let (heard, length) = wire::frame(&frame).expect("a whole frame");
        assert!(heard == wire::Frame::Text(text.to_owned()) && length == frame.len());
    }
    let mut out = Vec::new();
    frame::binary(&mut out, bytes);
    assert_eq!(frame::payload(&out), bytes);
    out.clear();
    frame::pong(&mut out, bytes);
    let most = bytes.len().min(125);
    let (heard, length) = wire::frame(&out).expect("a whole frame");
    assert!(heard == wire::Frame::Pong(bytes[..most].to_vec()) && length == out.len());
}
