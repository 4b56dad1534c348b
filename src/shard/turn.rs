//! Turn logs: what each socket is to be sent this turn.
//!
//! Every frame is appended to the log once; each socket gets byte ranges of it, and adjacent
//! ranges merge, so a burst on one channel is one contiguous send. What is for one socket alone
//! stands apart until the flush begins, or each answer to a publisher would tear a burst in two.
//! There are two logs: what comes while one is being flushed goes into the other. Range lists
//! live in an arena of the log, not in the socket, and are gone with the turn.

use std::ops::Range;

use crate::shard::flusher::RANGES_PER_SEND_MAX;
use crate::shard::index::Slot;

/// A log keeps this much memory, or twice what its last turn needed, bytes.
const LOG_KEPT: usize = 1 << 20;

/// A turn for so many sockets takes a millisecond or more.
const LARGE: usize = 256;

/// Set in offsets into the replies, which come to stand behind the log's other bytes.
const REPLY: u32 = 1 << 31;

/// No link, no entry.
const NONE: u32 = u32::MAX;

/// Both turn logs of a shard.
#[derive(Debug, Default)]
pub struct Turn {
    filling: Log,
    flushing: Log,
    /// Turns so far: the first socket served rotates with it.
    count: usize,
}

#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    /// What is for one socket alone, until the flush begins.
    replies: Vec<u8>,
    /// Where the replies stand in `bytes` during the flush.
    replies_at: u32,
    /// By slot: its place in `entries`, or [`NONE`].
    places: Vec<u32>,
    entries: Vec<Entry>,
    links: Vec<Link>,
    /// How often a socket was given a frame.
    gifts: usize,
    /// Entries taken so far in this flush.
    taken: usize,
    /// The entry that is served first.
    first: usize,
}

/// One socket's ranges: the last one here, those before it in links.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// `Slot(NONE)`: the socket is gone.
    slot: Slot,
    first: u32,
    last: u32,
    start: u32,
    end: u32,
    links: u32,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    start: u32,
    end: u32,
    next: u32,
}

/// What waits for the next flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathered {
    /// Frames, each counted once per socket that gets it.
    pub frames: usize,
    /// Sockets that get any.
    pub sockets: usize,
    /// Bytes, each counted once.
    pub bytes: usize,
}

/// A frame's place in the log being filled.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    start: u32,
    end: u32,
}

/// One socket's share of the log being flushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Whose it is.
    pub slot: Slot,
    /// Its part of the range list given to [`Turn::take`].
    pub ranges: Range<usize>,
}

impl Turn {
    /// Appends bytes to the log being filled, once for all who will get them.
    pub fn place(&mut self, bytes: &[u8]) -> Placed {
        let start = narrow(self.filling.bytes.len());
        self.filling.bytes.extend_from_slice(bytes);
        Placed {
            start,
            end: narrow(self.filling.bytes.len()),
        }
    }

    /// Appends bytes that only one socket will get.
    pub fn place_reply(&mut self, bytes: &[u8]) -> Placed {
        let start = narrow(self.filling.replies.len()) | REPLY;
        self.filling.replies.extend_from_slice(bytes);
        Placed {
            start,
            end: narrow(self.filling.replies.len()) | REPLY,
        }
    }

    /// Gives a socket bytes placed in this turn, behind all it was given before.
    #[inline]
    pub fn give(&mut self, slot: Slot, placed: Placed) {
        let log = &mut self.filling;
        let Some(place) = log.places.get_mut(slot.at()) else {
            return;
        };
        log.gifts += 1;
        // No entry is at `NONE`.
        match log.entries.get_mut(*place as usize) {
            Some(entry) if entry.end == placed.start => entry.end = placed.end,
            Some(entry) => entry.extend(placed, &mut log.links),
            None => {
                *place = narrow(log.entries.len());
                log.entries.push(Entry::of(slot, placed));
            }
        }
    }

    /// Makes room for a slot that is being taken into use.
    pub fn open(&mut self, slot: Slot) {
        for log in [&mut self.filling, &mut self.flushing] {
            if log.places.len() <= slot.at() {
                log.places.resize(slot.at() + 1, NONE);
            }
        }
    }

    /// Forgets what a slot has not been sent: its socket is going.
    pub fn close(&mut self, slot: Slot) {
        for log in [&mut self.filling, &mut self.flushing] {
            if let Some(place) = log.places.get_mut(slot.at())
                && let Some(entry) = log.entries.get_mut(std::mem::replace(place, NONE) as usize)
            {
                entry.slot = Slot(NONE);
            }
        }
    }

    /// Has a slot been given anything that has not been taken?
    pub fn is_pending(&self, slot: Slot) -> bool {
        [&self.filling, &self.flushing].iter().any(|log| {
            log.places
                .get(slot.at())
                .is_some_and(|&place| place != NONE)
        })
    }

    /// Bytes in the log being filled.
    pub fn filled_bytes(&self) -> usize {
        self.filling.bytes.len() + self.filling.replies.len()
    }

    /// What the log being filled holds.
    pub fn gathered(&self) -> Gathered {
        Gathered {
            frames: self.filling.gifts,
            sockets: self.filling.entries.len(),
            bytes: self.filled_bytes(),
        }
    }

    /// Will what is placed now have to wait for many sockets?
    pub fn is_large(&self) -> bool {
        !self.flushing.is_done() || self.filling.entries.len() >= LARGE
    }

    /// Is the log of the last turn flushed?
    pub fn is_flushed(&self) -> bool {
        self.flushing.is_done()
    }

    /// Is there nothing to flush?
    pub fn is_empty(&self) -> bool {
        self.filling.entries.is_empty() && self.flushing.is_done()
    }

    /// Takes up to `most` sockets' shares, with their ranges. False if nothing is left.
    ///
    /// When one log is through, the other takes its place.
    pub fn take(
        &mut self,
        most: usize,
        shares: &mut Vec<Share>,
        ranges: &mut Vec<Range<u32>>,
    ) -> bool {
        shares.clear();
        ranges.clear();
        if self.flushing.is_done() {
            self.swap();
        }
        while shares.len() < most && !self.flushing.is_done() {
            let Some(entry) = self.flushing.next() else {
                break;
            };
            if entry.slot == Slot(NONE) {
                continue;
            }
            if let Some(place) = self.flushing.places.get_mut(entry.slot.at()) {
                *place = NONE;
            }
            let start = ranges.len();
            self.flushing.collect(entry, ranges);
            shares.push(Share {
                slot: entry.slot,
                ranges: start..ranges.len(),
            });
        }
        !shares.is_empty()
    }

    /// The log that shares and ranges of [`Self::take`] speak of.
    pub fn log(&self) -> &[u8] {
        &self.flushing.bytes
    }

    fn swap(&mut self) {
        self.flushing.reset();
        std::mem::swap(&mut self.filling, &mut self.flushing);
        self.flushing.append_replies();
        self.count = self.count.wrapping_add(1);
        let count = self.flushing.entries.len();
        self.flushing.first = if count == 0 { 0 } else { self.count % count };
    }
}

impl Entry {
    fn of(slot: Slot, Placed { start, end }: Placed) -> Self {
        Self {
            slot,
            first: NONE,
            last: NONE,
            start,
            end,
            links: 0,
        }
    }

    /// Adds a range that does not touch the last one.
    fn extend(&mut self, placed: Placed, links: &mut Vec<Link>) {
        let link = narrow(links.len());
        links.push(Link {
            start: self.start,
            end: self.end,
            next: NONE,
        });
        match links.get_mut(self.last as usize) {
            Some(last) => last.next = link,
            None => self.first = link,
        }
        (self.last, self.start, self.end) = (link, placed.start, placed.end);
        self.links += 1;
    }
}

impl Log {
    fn is_done(&self) -> bool {
        self.taken >= self.entries.len()
    }

    /// The next entry to be served: from the first one to the last, then those before the first.
    fn next(&mut self) -> Option<Entry> {
        let at = self.first + self.taken;
        let at = at.checked_sub(self.entries.len()).unwrap_or(at);
        let entry = *self.entries.get(at)?;
        self.taken += 1;
        Some(entry)
    }

    fn append_replies(&mut self) {
        self.replies_at = narrow(self.bytes.len());
        self.bytes.append(&mut self.replies);
    }

    /// Where a range stands once the flush has begun.
    fn resolve(&self, start: u32, end: u32) -> Range<u32> {
        if start & REPLY == 0 {
            return start..end;
        }
        let at = |offset: u32| self.replies_at + (offset & !REPLY);
        at(start)..at(end)
    }

    /// Appends an entry's ranges in order, or one range of a copy if they are too many.
    fn collect(&mut self, entry: Entry, ranges: &mut Vec<Range<u32>>) {
        let many = entry.links as usize >= RANGES_PER_SEND_MAX;
        let copy = self.bytes.len();
        let mut next = entry.first;
        while let Some(&link) = self.links.get(next as usize) {
            self.collect_range(self.resolve(link.start, link.end), many, ranges);
            next = link.next;
        }
        self.collect_range(self.resolve(entry.start, entry.end), many, ranges);
        if many {
            ranges.push(narrow(copy)..narrow(self.bytes.len()));
        }
    }

    fn collect_range(&mut self, range: Range<u32>, copy: bool, ranges: &mut Vec<Range<u32>>) {
        if copy {
            self.bytes
                .extend_from_within(range.start as usize..range.end as usize);
        } else {
            ranges.push(range);
        }
    }

    fn reset(&mut self) {
        for entry in &self.entries {
            if let Some(place) = self.places.get_mut(entry.slot.at()) {
                *place = NONE;
            }
        }
        let kept = LOG_KEPT.max(2 * self.bytes.len());
        self.bytes.clear();
        self.bytes.shrink_to(kept);
        self.replies.shrink_to(LOG_KEPT);
        self.entries.clear();
        self.links.clear();
        (self.gifts, self.taken, self.first) = (0, 0, 0);
    }
}

/// Offsets fit: the shard stops taking input long before a log has 2 GiB.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).map_or(REPLY - 1, |offset| offset.min(REPLY - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `take` hands out, as the bytes of each slot in order of service.
    fn flushed(turn: &mut Turn, most: usize) -> Vec<(u32, Vec<u8>)> {
        let (mut shares, mut ranges, mut out) = (Vec::new(), Vec::new(), Vec::new());
        while turn.take(most, &mut shares, &mut ranges) {
            for share in &shares {
                let mut bytes = Vec::new();
                for range in &ranges[share.ranges.clone()] {
                    bytes.extend_from_slice(&turn.log()[range.start as usize..range.end as usize]);
                }
                assert!(share.ranges.len() <= RANGES_PER_SEND_MAX);
                out.push((share.slot.0, bytes));
            }
        }
        out
    }

    fn turn(slots: u32) -> Turn {
        let mut turn = Turn::default();
        (0..slots).for_each(|slot| turn.open(Slot(slot)));
        turn
    }

    #[test]
    fn a_burst_on_one_channel_is_one_range() {
        let mut turn = turn(1);
        for frame in [b"one".as_slice(), b"two", b"three"] {
            let placed = turn.place(frame);
            turn.give(Slot(0), placed);
        }
        let (mut shares, mut ranges) = (Vec::new(), Vec::new());
        assert!(turn.take(9, &mut shares, &mut ranges));
        assert_eq!((ranges.len(), ranges[0].clone()), (1, 0..11));
    }

    #[test]
    fn answers_to_a_publisher_do_not_tear_a_burst_in_two() {
        let mut turn = turn(2);
        for answer in [b"200".as_slice(), b"201"] {
            let placed = turn.place(b"event");
            turn.give(Slot(0), placed);
            turn.give(Slot(1), placed);
            let placed = turn.place_reply(answer);
            turn.give(Slot(1), placed);
        }
        let (mut shares, mut ranges) = (Vec::new(), Vec::new());
        assert!(turn.take(9, &mut shares, &mut ranges));
        let of = |slot: u32| {
            let share = shares
                .iter()
                .find(|share| share.slot == Slot(slot))
                .unwrap();
            ranges[share.ranges.clone()]
                .iter()
                .map(|range| (range.start, range.end))
        };
        assert!(of(0).eq([(0, 10)]));
        assert!(of(1).eq([(0, 5), (10, 13), (5, 10), (13, 16)]));
    }

    #[test]
    fn what_comes_while_a_log_is_flushed_comes_after_it() {
        let mut turn = turn(2);
        let placed = turn.place(b"first");
        turn.give(Slot(0), placed);
        turn.give(Slot(1), placed);
        let (mut shares, mut ranges) = (Vec::new(), Vec::new());
        assert!(turn.take(1, &mut shares, &mut ranges));
        let placed = turn.place(b"second");
        turn.give(Slot(0), placed);
        turn.give(Slot(1), placed);
        let rest: Vec<Vec<u8>> = flushed(&mut turn, 1)
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        assert_eq!(
            rest,
            [b"first".to_vec(), b"second".to_vec(), b"second".to_vec()]
        );
        assert!(turn.is_empty());
    }

    #[test]
    fn a_closed_slot_gets_nothing_and_its_next_owner_only_its_own() {
        let mut turn = turn(1);
        let placed = turn.place(b"old");
        turn.give(Slot(0), placed);
        turn.close(Slot(0));
        let placed = turn.place(b"new");
        turn.give(Slot(0), placed);
        assert_eq!(flushed(&mut turn, 9), [(0, b"new".to_vec())]);
    }

    #[test]
    fn more_than_64_ranges_become_one_send() {
        let mut turn = turn(2);
        let mut expected = Vec::new();
        for frame in 0..200u8 {
            let placed = turn.place(&[frame]);
            turn.give(Slot(u32::from(frame % 2)), placed);
            if frame % 2 == 0 {
                expected.push(frame);
            }
        }
        let sent = flushed(&mut turn, 9);
        assert!(sent.contains(&(0, expected)));
    }

    proptest! {
        #[test]
        fn every_slot_gets_its_frames_once_in_order(
            frames in proptest::collection::vec((any::<u8>(), 0u8..16), 0..120),
            most in 1usize..5,
            takes in proptest::collection::vec(any::<bool>(), 120),
        ) {
            let mut turn = turn(4);
            let mut expected = vec![Vec::new(); 4];
            let mut got = vec![Vec::new(); 4];
            let (mut shares, mut ranges) = (Vec::new(), Vec::new());
            for ((byte, to), take) in frames.into_iter().zip(takes) {
                let placed = match to {
                    1 | 2 | 4 | 8 => turn.place_reply(&[byte, to]),
                    _ => turn.place(&[byte, to]),
                };
                for slot in (0..4u32).filter(|slot| to >> slot & 1 == 1) {
                    turn.give(Slot(slot), placed);
                    expected[slot as usize].extend_from_slice(&[byte, to]);
                }
                if take && turn.take(most, &mut shares, &mut ranges) {
                    for share in &shares {
                        for range in &ranges[share.ranges.clone()] {
                            let bytes = &turn.log()[range.start as usize..range.end as usize];
                            got[share.slot.at()].extend_from_slice(bytes);
                        }
                    }
                }
            }
            for (slot, bytes) in flushed(&mut turn, most) {
                got[slot as usize].extend_from_slice(&bytes);
            }
            prop_assert_eq!(got, expected);
        }
    }
}
