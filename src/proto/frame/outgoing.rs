//! Writes the server's frames: final, unmasked, one per message.
//!
//! Called by whoever has something to say to a client; appends to a buffer and never sends.

use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::CONTROL_BYTES_MAX;

/// Appends one text frame, the payload written by `write`.
pub fn text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let length = (out.len() - start) as u64;
    let mut head = [0; HEADER_BYTES_MAX];
    let mut cursor = Cursor::new(head.as_mut_slice());
    // An unmasked header is at most ten bytes, so it cannot fail to fit.
    let _ = header(OpCode::Data(Data::Text)).format(length, &mut cursor);
    let head_bytes = usize::try_from(cursor.position()).unwrap_or_default();
    out.splice(start..start, head.into_iter().take(head_bytes));
}

/// Appends one binary frame.
pub fn binary(out: &mut Vec<u8>, payload: &[u8]) {
    append(out, OpCode::Data(Data::Binary), payload);
}

/// Appends a ping; of `payload` the first 125 bytes count.
pub fn ping(out: &mut Vec<u8>, payload: &[u8]) {
    append(
        out,
        OpCode::Control(Control::Ping),
        at_most(payload, CONTROL_BYTES_MAX),
    );
}

/// Appends a pong; of `payload` the first 125 bytes count.
pub fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    append(
        out,
        OpCode::Control(Control::Pong),
        at_most(payload, CONTROL_BYTES_MAX),
    );
}

/// Appends a Close; without a code its payload is empty, of `reason` the first 123 bytes count.
pub fn close(out: &mut Vec<u8>, code: Option<u16>, reason: &[u8]) {
    let Some(code) = code else {
        return append(out, OpCode::Control(Control::Close), &[]);
    };
    let reason = at_most(reason, CONTROL_BYTES_MAX - 2);
    // Writing to a Vec cannot fail.
    let _ = header(OpCode::Control(Control::Close)).format(2 + reason.len() as u64, out);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}

/// One text frame on its own, for a broadcast's delivery.
pub fn text_frame(write: impl FnOnce(&mut Vec<u8>)) -> Box<[u8]> {
    let mut out = Vec::new();
    text(&mut out, write);
    out.into_boxed_slice()
}

/// The payload of one whole server frame.
pub fn payload(frame: &[u8]) -> &[u8] {
    let head_bytes = match frame {
        [_, 126, ..] => 4,
        [_, 127, ..] => 10,
        _ => 2,
    };
    frame.get(head_bytes..).unwrap_or_default()
}

fn append(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    // Writing to a Vec cannot fail.
    let _ = header(opcode).format(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

fn header(opcode: OpCode) -> FrameHeader {
    FrameHeader {
        opcode,
        ..FrameHeader::default()
    }
}

fn at_most(payload: &[u8], bytes_max: u8) -> &[u8] {
    payload.get(..usize::from(bytes_max)).unwrap_or(payload)
}

/// Two bytes and a 64-bit length.
const HEADER_BYTES_MAX: usize = 10;
