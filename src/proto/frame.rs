//! RFC 6455 frames, server side: unmask, reassemble, check, encode.
//!
//! Called by the session with whatever bytes arrived. A frame that is whole in the input is
//! unmasked there and borrowed from it; bytes are owned only while a frame or a fragmented message
//! is incomplete. Never sends, and never reserves memory for what a header merely announces.

mod outgoing;

use std::io::Cursor;

pub use outgoing::{binary, close, payload, ping, pong, text, text_frame};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// Decodes the frames of one client, however the network splits them.
///
/// Call [`Decoder::decode`] until it gives no item: that call also frees the last item's memory.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Option<Box<Held>>,
}

/// One thing that came of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole message. Text has been checked for UTF-8, binary has not.
    Message {
        /// The unmasked bytes of all its fragments.
        payload: &'a [u8],
        /// The message began with a text frame.
        text: bool,
    },
    /// Answer with a pong of the same payload.
    Ping(&'a [u8]),
    /// Proof of life.
    Pong(&'a [u8]),
    /// The peer's Close, checked. Echo it verbatim; an empty one is echoed as 1000.
    Close {
        /// None if the payload was empty.
        code: Option<u16>,
        /// UTF-8, up to 123 bytes.
        reason: &'a [u8],
    },
}

/// What the peer did against RFC 6455: send Close with this code and reason, read no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// 1002, 1007 or 1009.
    pub code: u16,
    /// Reverb's own text.
    pub reason: &'static str,
}

/// What must outlive one call because it is not complete yet.
#[derive(Debug, Default)]
struct Held {
    /// The first bytes of a frame whose header is not whole.
    head: Vec<u8>,
    /// A frame whose payload is not whole.
    frame: Option<Frame>,
    /// Payload of a control frame that is not whole.
    control: Vec<u8>,
    /// Payload so far of the message in progress.
    message: Vec<u8>,
    /// How far `message` is known to be UTF-8; a cut-off sequence may follow.
    checked_bytes: usize,
    /// Set while a message is in progress: is it text?
    message_is_text: Option<bool>,
    /// The item given last lies in here: forget it at the next call.
    spent: bool,
}

/// A frame after its header.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    /// The key for the next payload byte, turned as bytes are taken.
    mask: [u8; 4],
    /// Payload bytes still to come.
    left: usize,
}

/// An item that is complete, and where its payload lies.
struct Found {
    opcode: OpCode,
    text: bool,
    place: Place,
}

enum Place {
    /// So many bytes of the input, after those taken before.
    Input {
        skip: usize,
        length: usize,
    },
    Control,
    Message,
}

impl Decoder {
    /// Takes bytes from the front of `input` until one item is complete or the input ends.
    ///
    /// Returns how many bytes were taken, and the item. `max_message_size` is in bytes, 0 means
    /// the bound of one frame; it holds for the declared length plus the fragments already here,
    /// for control frames too, and strikes as soon as a header is read (R-048..R-050). After a
    /// violation the stream cannot be trusted: all input counts as taken.
    pub fn decode<'a>(
        &'a mut self,
        input: &'a mut [u8],
        max_message_size: u64,
    ) -> (usize, Result<Option<Incoming<'a>>, Violation>) {
        self.forget_spent();
        let mut taken = 0;
        let found = loop {
            let rest = input.get_mut(taken..).unwrap_or_default();
            match self.advance(rest, max_message_size) {
                Ok((_, None)) if rest.is_empty() => break None,
                Ok((bytes, None)) => taken += bytes,
                Ok((bytes, Some(mut found))) => {
                    if let Place::Input { skip, .. } = &mut found.place {
                        *skip += taken;
                    }
                    taken += bytes;
                    break Some(found);
                }
                Err(violation) => {
                    self.held = None;
                    return (input.len(), Err(violation));
                }
            }
        };
        let item = found.map(|found| self.item(&found, input)).transpose();
        (taken, item)
    }

    /// Nothing incomplete is held.
    pub fn is_idle(&self) -> bool {
        self.held
            .as_ref()
            .is_none_or(|held| held.is_between_messages())
    }

    /// Takes one step: a header, a piece of payload, or both if the frame is whole.
    fn advance(
        &mut self,
        input: &mut [u8],
        max_message_size: u64,
    ) -> Result<(usize, Option<Found>), Violation> {
        if let Some(held) = &mut self.held
            && let Some(frame) = held.frame.take()
        {
            return held.take_payload(frame, input);
        }
        let Some((frame, skip)) = self.take_header(input, max_message_size)? else {
            return Ok((input.len(), None));
        };
        let is_single = frame.is_final && frame.opcode != OpCode::Data(Data::Continue);
        match input
            .get_mut(skip..)
            .and_then(|rest| rest.get_mut(..frame.left))
        {
            Some(payload) if is_single => {
                unmask(payload, frame.mask);
                let text = frame.opcode == OpCode::Data(Data::Text);
                if text && std::str::from_utf8(payload).is_err() {
                    return Err(NOT_UTF8);
                }
                let place = Place::Input {
                    skip,
                    length: frame.left,
                };
                Ok((
                    skip + frame.left,
                    Some(Found {
                        opcode: frame.opcode,
                        text,
                        place,
                    }),
                ))
            }
            _ => {
                let held = self.held.get_or_insert_default();
                if let OpCode::Data(kind @ (Data::Text | Data::Binary)) = frame.opcode {
                    held.message_is_text = Some(kind == Data::Text);
                }
                let rest = input.get_mut(skip..).unwrap_or_default();
                let (taken, found) = held.take_payload(frame, rest)?;
                Ok((skip + taken, found))
            }
        }
    }

    /// Reads and judges the next header; gives it and its bytes in `input`, or keeps a part of one.
    fn take_header(
        &mut self,
        input: &[u8],
        max_message_size: u64,
    ) -> Result<Option<(Frame, usize)>, Violation> {
        let kept = self.held.as_ref().map_or(&[][..], |held| &held.head);
        let mut head = [0; HEADER_BYTES_MAX];
        let known = head
            .iter_mut()
            .zip(kept.iter().chain(input))
            .map(|(to, from)| *to = *from);
        let known = known.count();
        let head = head.get(..known).unwrap_or_default();
        if let [first, second, ..] = *head {
            check_first_bytes(first, second)?;
        }
        let mut cursor = Cursor::new(head);
        // Only a reserved opcode makes this fail, and that has been refused above.
        let Some((header, length)) = FrameHeader::parse(&mut cursor).or(Err(BAD_OPCODE))? else {
            if !input.is_empty() {
                self.held
                    .get_or_insert_default()
                    .head
                    .extend_from_slice(input);
            }
            return Ok(None);
        };
        let skip = usize::try_from(cursor.position())
            .unwrap_or(known)
            .saturating_sub(kept.len());
        self.check_length(length, max_message_size)?;
        self.check_sequence(header.opcode)?;
        if let Some(held) = &mut self.held {
            held.head = Vec::new();
            if held.is_between_messages() {
                self.held = None;
            }
        }
        let frame = Frame {
            opcode: header.opcode,
            is_final: header.is_final,
            mask: header.mask.ok_or(NOT_MASKED)?,
            left: usize::try_from(length).or(Err(FRAME_TOO_BIG))?,
        };
        Ok(Some((frame, skip)))
    }

    fn check_length(&self, length: u64, max_message_size: u64) -> Result<(), Violation> {
        if length > i64::MAX.unsigned_abs() {
            return Err(BAD_LENGTH);
        }
        if length > FRAME_BYTES_MAX {
            return Err(FRAME_TOO_BIG);
        }
        let held = self
            .held
            .as_ref()
            .map_or(0, |held| held.message.len() as u64);
        let most = match max_message_size {
            0 => FRAME_BYTES_MAX,
            bytes => bytes,
        };
        if length + held > most {
            return Err(MESSAGE_TOO_BIG);
        }
        Ok(())
    }

    fn check_sequence(&self, opcode: OpCode) -> Result<(), Violation> {
        let in_message = self
            .held
            .as_ref()
            .is_some_and(|held| held.message_is_text.is_some());
        match opcode {
            OpCode::Data(Data::Continue) if !in_message => Err(STRAY_CONTINUATION),
            OpCode::Data(Data::Text | Data::Binary) if in_message => Err(CONTINUATION_EXPECTED),
            _ => Ok(()),
        }
    }

    fn item<'a>(&'a self, found: &Found, input: &'a [u8]) -> Result<Incoming<'a>, Violation> {
        let held = self.held.as_deref();
        let payload = match found.place {
            Place::Input { skip, length } => input.get(skip..).and_then(|rest| rest.get(..length)),
            Place::Control => held.map(|held| held.control.as_slice()),
            Place::Message => held.map(|held| held.message.as_slice()),
        };
        let payload = payload.unwrap_or_default();
        match found.opcode {
            OpCode::Control(Control::Ping) => Ok(Incoming::Ping(payload)),
            OpCode::Control(Control::Pong) => Ok(Incoming::Pong(payload)),
            OpCode::Control(Control::Close | Control::Reserved(_)) => parse_close(payload),
            OpCode::Data(_) => Ok(Incoming::Message {
                payload,
                text: found.text,
            }),
        }
    }

    fn forget_spent(&mut self) {
        let Some(held) = &mut self.held else { return };
        if !held.spent {
            return;
        }
        held.spent = false;
        held.control = Vec::new();
        if held.is_between_messages() {
            self.held = None;
        }
    }
}

impl Held {
    fn is_between_messages(&self) -> bool {
        self.head.is_empty() && self.frame.is_none() && self.message_is_text.is_none()
    }

    /// Takes what there is of a frame's payload; the frame is kept unless that completes it.
    fn take_payload(
        &mut self,
        mut frame: Frame,
        input: &mut [u8],
    ) -> Result<(usize, Option<Found>), Violation> {
        let taken = frame.left.min(input.len());
        let piece = input.get_mut(..taken).unwrap_or_default();
        unmask(piece, frame.mask);
        frame.mask.rotate_left(taken % 4);
        frame.left -= taken;
        let is_control = matches!(frame.opcode, OpCode::Control(_));
        if is_control {
            self.control.extend_from_slice(piece);
        } else {
            self.message.extend_from_slice(piece);
            self.check_utf8()?;
        }
        if frame.left > 0 {
            self.frame = Some(frame);
            return Ok((taken, None));
        }
        if is_control {
            self.spent = true;
            let place = Place::Control;
            return Ok((
                taken,
                Some(Found {
                    opcode: frame.opcode,
                    text: false,
                    place,
                }),
            ));
        }
        if !frame.is_final {
            return Ok((taken, None));
        }
        let text = self.message_is_text.take().unwrap_or_default();
        if text && self.checked_bytes < self.message.len() {
            return Err(NOT_UTF8);
        }
        self.spent = true;
        Ok((
            taken,
            Some(Found {
                opcode: frame.opcode,
                text,
                place: Place::Message,
            }),
        ))
    }

    /// Refuses a text message at the first byte that no later byte can make good.
    fn check_utf8(&mut self) -> Result<(), Violation> {
        if self.message_is_text != Some(true) {
            return Ok(());
        }
        let unchecked = self.message.get(self.checked_bytes..).unwrap_or_default();
        self.checked_bytes += match std::str::from_utf8(unchecked) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(NOT_UTF8),
        };
        Ok(())
    }
}

/// Judges what the first two bytes of a frame tell, in Reverb's order (R-041..R-043, R-045).
fn check_first_bytes(first: u8, second: u8) -> Result<(), Violation> {
    let opcode = first & 0x0f;
    let is_final = first & 0x80 != 0;
    if first & 0x70 != 0 {
        return Err(BAD_RESERVED_BITS);
    }
    if second & 0x80 == 0 {
        return Err(NOT_MASKED);
    }
    if opcode > 2 && (!is_final || second & 0x7f > CONTROL_BYTES_MAX) {
        return Err(BAD_CONTROL);
    }
    match OpCode::from(opcode) {
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => Err(BAD_OPCODE),
        OpCode::Data(_) | OpCode::Control(_) => Ok(()),
    }
}

fn parse_close(payload: &[u8]) -> Result<Incoming<'_>, Violation> {
    let (code, reason) = match *payload {
        [] => {
            return Ok(Incoming::Close {
                code: None,
                reason: &[],
            });
        }
        [_] => return Err(BAD_CLOSE_CODE),
        [high, low, ref reason @ ..] => (u16::from_be_bytes([high, low]), reason),
    };
    if !is_valid_close_code(code) {
        return Err(BAD_CLOSE_CODE);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(BAD_CLOSE_REASON);
    }
    Ok(Incoming::Close {
        code: Some(code),
        reason,
    })
}

/// The codes a peer may send (R-047; 1012 to 1014 are registered and echoed).
fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Removes the mask, eight bytes at a time.
fn unmask(payload: &mut [u8], [a, b, c, d]: [u8; 4]) {
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip([a, b, c, d].into_iter().cycle()) {
        *byte ^= key;
    }
}

/// Two bytes, a 64-bit length, a mask.
const HEADER_BYTES_MAX: usize = 14;
/// RFC 6455 5.5.
const CONTROL_BYTES_MAX: u8 = 125;
/// Reverb's bound on one frame under PHP's default memory limit; it holds for a whole message too
/// where the app sets none, or fragments without end would take all memory.
const FRAME_BYTES_MAX: u64 = 32 << 20;

const BAD_RESERVED_BITS: Violation = protocol("Ratchet detected an invalid reserve code");
const NOT_MASKED: Violation = protocol("Ratchet detected an incorrect frame mask");
const BAD_OPCODE: Violation = protocol("Ratchet detected an invalid OP code");
const BAD_CONTROL: Violation =
    protocol("Ratchet detected a mismatch between final bit and indicated payload length");
const STRAY_CONTINUATION: Violation =
    protocol("Ratchet detected the first frame of a message was a continue");
const CONTINUATION_EXPECTED: Violation =
    protocol("Ratchet detected invalid OP code when expecting continue frame");
const BAD_CLOSE_CODE: Violation = protocol("Ratchet detected an invalid close code");
const BAD_LENGTH: Violation = protocol("Invalid frame length");
const NOT_UTF8: Violation = not_utf8("Ratchet detected an invalid UTF-8 payload");
const BAD_CLOSE_REASON: Violation =
    not_utf8("Ratchet detected an invalid UTF-8 payload in the close reason");
const MESSAGE_TOO_BIG: Violation = too_big("Maximum message size exceeded");
const FRAME_TOO_BIG: Violation = too_big("Maximum frame size exceeded");

const fn protocol(reason: &'static str) -> Violation {
    Violation { code: 1002, reason }
}

const fn not_utf8(reason: &'static str) -> Violation {
    Violation { code: 1007, reason }
}

const fn too_big(reason: &'static str) -> Violation {
    Violation { code: 1009, reason }
}

#[cfg(test)]
mod tests;
