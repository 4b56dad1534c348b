//! What happens to a fleet, as text: one operation a line, so that a corpus can be read and
//! libFuzzer's cuts and pastes mostly give other scripts.
//!
//! A line is a letter, the digits of the sockets or shards it is about, and the rest. See
//! [`Operation`] for each; what cannot be read is skipped.

/// Operations of one script; what follows is not read.
const OPERATIONS_MAX: usize = 64;

/// One line.
#[derive(Debug)]
pub(crate) enum Operation<'a> {
    /// `o0`: a peer connects to shard 0.
    Open { shard: usize },
    /// `h0a`: socket 0 asks for a WebSocket of app a.
    Upgrade { socket: usize, app: usize },
    /// `s0 presence-x {"user_id":1}`: socket 0 asks for a channel, signed where it must be.
    Subscribe {
        socket: usize,
        channel: &'a str,
        member: &'a str,
    },
    /// `m0 TEXT`: socket 0 sends a text message.
    Message { socket: usize, text: Vec<u8> },
    /// `c0 9 TEXT`: socket 0 sends a frame of opcode 9.
    Frame {
        socket: usize,
        opcode: u8,
        payload: Vec<u8>,
    },
    /// `i0 BYTES`: socket 0 sends them as they are.
    Input { socket: usize, bytes: Vec<u8> },
    /// `p0a /events {…}`: socket 0 makes a signed POST to app a.
    Post {
        socket: usize,
        app: usize,
        path: &'a str,
        body: &'a str,
    },
    /// `g0a /channels?info=x`: socket 0 makes a signed GET.
    Get {
        socket: usize,
        app: usize,
        target: &'a str,
    },
    /// `e0`: socket 0 sends FIN.
    Eof { socket: usize },
    /// `x0`: the peer of socket 0 is gone.
    Lost { socket: usize },
    /// `k0 5`: from now on reads of socket 0 give 5 bytes at most.
    Cut { socket: usize, most: usize },
    /// `r0 5`: socket 0 has room for 5 bytes, and its shard is told if it waits.
    Room { socket: usize, bytes: usize },
    /// `y01 5`: up to 5 messages of shard 0 reach shard 1.
    Carry { from: usize, to: usize, most: usize },
    /// `f0 5`: shard 0 writes to up to 5 sockets.
    Flush { shard: usize, most: usize },
    /// `t 5`: so many tenths of a second pass.
    Time { tenths: u64 },
    /// `z3`: the node is short of what the bits name: rings, files.
    Pressure { bits: usize },
    /// `l0 2`: another edition of the apps is there, and shard 0 has it.
    Reload { shard: usize, edition: usize },
    /// `d 5`: all shards close their sockets over so many tenths of a second.
    Drain { tenths: u64 },
    /// `a`: everything that is under way arrives.
    Settle,
}

/// The operations of a script.
pub(crate) fn operations(script: &str) -> impl Iterator<Item = Operation<'_>> {
    script.lines().take(OPERATIONS_MAX).filter_map(operation)
}

fn operation(line: &str) -> Option<Operation<'_>> {
    let mut letters = line.chars();
    let letter = letters.next()?;
    let (names, rest) = letters
        .as_str()
        .split_once(' ')
        .unwrap_or((letters.as_str(), ""));
    let name = |at: usize| {
        names
            .as_bytes()
            .get(at)
            .map(|&byte| usize::from(byte & 0x0f))
    };
    let number = || rest.parse().unwrap_or(usize::MAX);
    let tenths = || rest.parse().unwrap_or(1_u64).min(TENTHS_MAX);
    let socket = name(0);
    // `a` is the first app.
    let app = name(1).map(|app| app.wrapping_sub(1));
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(match letter {
        'o' => Operation::Open { shard: name(0)? },
        'h' => Operation::Upgrade {
            socket: socket?,
            app: app?,
        },
        's' => Operation::Subscribe {
            socket: socket?,
            channel: first,
            member: second,
        },
        'm' => Operation::Message {
            socket: socket?,
            text: unescaped(rest),
        },
        'c' => Operation::Frame {
            socket: socket?,
            opcode: u8::from_str_radix(first, 16).ok()? & 0x0f,
            payload: unescaped(second),
        },
        'i' => Operation::Input {
            socket: socket?,
            bytes: unescaped(rest),
        },
        'p' => Operation::Post {
            socket: socket?,
            app: app?,
            path: first,
            body: second,
        },
        'g' => Operation::Get {
            socket: socket?,
            app: app?,
            target: rest,
        },
        'e' => Operation::Eof { socket: socket? },
        'x' => Operation::Lost { socket: socket? },
        'k' => Operation::Cut {
            socket: socket?,
            most: number().max(1),
        },
        'r' => Operation::Room {
            socket: socket?,
            bytes: number(),
        },
        'y' => Operation::Carry {
            from: name(0)?,
            to: name(1)?,
            most: number(),
        },
        'f' => Operation::Flush {
            shard: name(0)?,
            most: number().max(1),
        },
        't' => Operation::Time { tenths: tenths() },
        'z' => Operation::Pressure { bits: name(0)? },
        'l' => Operation::Reload {
            shard: name(0)?,
            edition: number(),
        },
        'd' => Operation::Drain { tenths: tenths() },
        'a' => Operation::Settle,
        _ => return None,
    })
}

/// `\r`, `\n`, `\\` and `\x41` stand for bytes; any other backslash stays.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, behind) = match (first, tail) {
            (b'\\', [b'r', behind @ ..]) => (b'\r', behind),
            (b'\\', [b'n', behind @ ..]) => (b'\n', behind),
            (b'\\', [b'\\', behind @ ..]) => (b'\\', behind),
            (b'\\', [b'x', high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => (b'\\', tail),
            },
            (byte, behind) => (*byte, behind),
        };
        out.push(byte);
        rest = behind;
    }
    out
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// No script waits longer than this at once, tenths of a second.
const TENTHS_MAX: u64 = 800;
