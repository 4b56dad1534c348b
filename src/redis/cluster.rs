//! Redis Cluster: the slot of a key, and what a node tells of the others and of who owns a slot.
//!
//! Called by `topology`, which asks the nodes. Never opens a socket.

/// Asks a node of a cluster for all nodes it knows: one line each, the one that is asked marked.
pub(super) const NODES: &[&[u8]] = &[b"CLUSTER", b"NODES"];

/// Slots of every cluster.
const SLOTS_COUNT: u16 = 16384;

/// Other nodes that are taken from one answer.
const OTHERS_MAX: usize = 16;

/// Host and port.
pub(super) type Address = (String, u16);

/// What a node tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// The master that owns the slot; `None` if it has failed, or nobody does.
    pub(super) owner: Option<Owner>,
    /// Where other nodes are, masters and replicas, but for those that have failed.
    pub(super) others: Vec<Address>,
}

/// The master that owns a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// What the nodes call it, wherever it moves.
    pub(super) id: String,
    /// Where it is; `None` if it is the one that was asked.
    pub(super) address: Option<Address>,
}

/// The slot of a key. Of a key with braces it is that of what stands between the first `{` and the
/// next `}`, unless that is nothing.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    crc(tag(key).unwrap_or(key)) % SLOTS_COUNT
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let behind = key.get(memchr::memchr(b'{', key)? + 1..)?;
    let tag = behind.get(..memchr::memchr(b'}', behind)?)?;
    (!tag.is_empty()).then_some(tag)
}

/// CRC-16/XMODEM.
fn crc(bytes: &[u8]) -> u16 {
    const POLYNOMIAL: u16 = 0x1021;
    bytes.iter().fold(0, |crc, byte| {
        (0..u8::BITS).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let is_over = crc & 0x8000 != 0;
            (crc << 1) ^ if is_over { POLYNOMIAL } else { 0 }
        })
    })
}

/// Reads the answer to [`NODES`]. A line that is none of a node counts for nothing.
pub(super) fn read(answer: &str, slot: u16) -> View {
    let mut view = View {
        owner: None,
        others: Vec::new(),
    };
    for node in answer.lines().filter_map(Node::read) {
        if node.owns(slot) {
            let address = node.address().filter(|_| !node.is_asked);
            view.owner = (node.is_asked || address.is_some()).then(|| Owner {
                id: node.id.to_owned(),
                address,
            });
        } else if view.others.len() < OTHERS_MAX && !node.is_asked {
            view.others.extend(node.address());
        }
    }
    view
}

/// A line: `ID HOST:PORT@BUS,NAME FLAGS MASTER PING PONG EPOCH LINK SLOTS…`.
struct Node<'a> {
    id: &'a str,
    place: &'a str,
    is_asked: bool,
    slots: std::str::Split<'a, char>,
}

impl<'a> Node<'a> {
    /// Reads a line, if the node has not failed.
    fn read(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let (id, place, flags) = (words.next()?, words.next()?, words.next()?);
        words.nth(WORDS_BEFORE_SLOTS - 1)?;
        let is = |flag| flags.split(',').any(|one| one == flag);
        (!is("fail")).then_some(Self {
            id,
            place,
            is_asked: is("myself"),
            slots: words,
        })
    }

    /// A slot, or the first and the last of several; one that is on its way stands in brackets.
    fn owns(&self, slot: u16) -> bool {
        self.slots.clone().any(|slots| {
            let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
            let ends = first.parse().ok().zip(last.parse().ok());
            ends.is_some_and(|(first, last)| (first..=last).contains(&slot))
        })
    }

    /// By the name that the node announces, which its certificate may be for; else as its peers
    /// reach it.
    fn address(&self) -> Option<Address> {
        let (place, announced) = self.place.split_once('@').unwrap_or((self.place, ""));
        let (host, port) = place.rsplit_once(':')?;
        let name = announced.split(',').nth(1).filter(|name| !name.is_empty());
        let host = name.unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then(|| (host.to_owned(), port))
    }
}

/// Words between a node's flags and its slots.
const WORDS_BEFORE_SLOTS: usize = 5;

#[cfg(test)]
mod tests;
