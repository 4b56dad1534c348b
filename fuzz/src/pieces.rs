//! The ways in which the network may cut one stream of bytes.

/// The stream in single bytes, and twice in pieces of drawn lengths. What is drawn depends on the
/// bytes alone, so that each input is cut the same way whenever it is tried.
pub(crate) fn cuts(stream: &[u8]) -> [Vec<&[u8]>; 3] {
    let mut random = fastrand::Rng::with_seed(seed(stream));
    let mut drawn = |most: usize| {
        let mut rest = stream;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(random.usize(1..=most.min(rest.len())));
            pieces.push(piece);
            rest = tail;
        }
        pieces
    };
    [stream.chunks(1).collect(), drawn(8), drawn(usize::MAX)]
}

fn seed(stream: &[u8]) -> u64 {
    let mix = |seed: u64, &byte: &u8| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    stream.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
