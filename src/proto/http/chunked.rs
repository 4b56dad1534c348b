//! The chunked transfer coding: finds the data in it and the end of it.
//!
//! Called by the request reader. Extensions and trailers are read, counted and dropped.

use super::Status;
use crate::hex;

/// Where in a chunked body we are.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// Bytes of the coding taken so far, framing included.
    taken: usize,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// At the first digit of a chunk's size.
    #[default]
    SizeStart,
    /// Behind a digit of it.
    Size(usize),
    /// In what follows the size: white space, extensions.
    Extension(usize),
    /// Behind the CR of the size's line.
    SizeEnd(usize),
    /// So many bytes of data are to come.
    Data(usize),
    /// Behind the data: at its CR.
    DataEnd,
    /// Behind that CR.
    DataEndLf,
    /// At the start of a trailer line; the CR of an empty one may stand here.
    TrailerStart,
    Trailer,
    /// Behind the CR of a trailer line.
    TrailerEnd,
    /// Behind the CR of the empty line that ends the body.
    LastLf,
    Done,
}

impl Chunks {
    /// Takes input up to the end of the body and appends the data in it to `out`.
    ///
    /// Gives how much input that was, or None if it was all and the body goes on. The coding may
    /// take `room` bytes altogether.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        room: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, Status> {
        let mut rest = input;
        while let [byte, tail @ ..] = rest {
            let step = match self.state {
                State::Data(left) => {
                    let data = rest.get(..left).unwrap_or(rest);
                    out.extend_from_slice(data);
                    self.state = match left - data.len() {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    rest = rest.get(data.len()..).unwrap_or_default();
                    data.len()
                }
                state => {
                    self.state = state.after(*byte)?;
                    rest = tail;
                    1
                }
            };
            self.taken += step;
            if self.taken.saturating_add(self.state.announced()) > room {
                return Err(Status::PayloadTooLarge);
            }
            if matches!(self.state, State::Done) {
                return Ok(Some(input.len() - rest.len()));
            }
        }
        Ok(None)
    }
}

impl State {
    /// The state behind one byte of framing.
    fn after(self, byte: u8) -> Result<Self, Status> {
        Ok(match (self, byte) {
            (Self::SizeStart, _) => Self::Size(size_digit(byte)?),
            (Self::Size(size) | Self::Extension(size), b'\r') => Self::SizeEnd(size),
            (Self::Size(size), b';' | b' ' | b'\t')
            | (Self::Extension(size), b' ' | b'\t' | b'!'..=b'~' | 0x80..) => Self::Extension(size),
            (Self::Size(size), _) => {
                let digit = size_digit(byte)?;
                let grown = size.checked_mul(16).ok_or(Status::PayloadTooLarge)?;
                Self::Size(grown + digit)
            }
            (Self::SizeEnd(0) | Self::TrailerEnd, b'\n') => Self::TrailerStart,
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataEnd, b'\r') => Self::DataEndLf,
            (Self::DataEndLf, b'\n') => Self::SizeStart,
            (Self::TrailerStart, b'\r') => Self::LastLf,
            (Self::Trailer, b'\r') => Self::TrailerEnd,
            (Self::TrailerStart | Self::Trailer, b' ' | b'\t' | b'!'..=b'~' | 0x80..) => {
                Self::Trailer
            }
            (Self::LastLf, b'\n') => Self::Done,
            _ => return Err(Status::BadRequest),
        })
    }

    /// Bytes of data that are known to come.
    fn announced(self) -> usize {
        match self {
            Self::Size(size) | Self::Extension(size) | Self::SizeEnd(size) => size,
            Self::Data(left) => left,
            _ => 0,
        }
    }
}

fn size_digit(byte: u8) -> Result<usize, Status> {
    let digit = hex::value(byte).map(usize::from);
    digit.ok_or(Status::BadRequest)
}
