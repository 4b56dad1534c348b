//! One shard's ends of the rings, and the order in which a turn does its parts.
//!
//! The edge takes its turns with these, and so does the simulation: what is shown of the order
//! there holds here. Nothing in here waits.

use std::sync::Arc;

use super::Shard;
use crate::metrics::Counter;
use crate::proto::Now;
use crate::proto::session::Protocol;
use crate::ring::{Inbox, Receiver, Sender, ring};
use crate::shard::message::{Message, ShardIndex};

/// A turn takes no more in than this before it flushes, bytes.
pub const TURN_BYTES_MAX: usize = 4 << 20;

/// Entries taken from one ring before the next ring's turn.
const RING_BATCH: usize = 1024;

/// One part of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// [`Ends::take`]: rings in.
    Take,
    /// [`Ends::publish`]: messages out.
    Publish,
    /// [`Shard::flush`]: a chunk of sockets is written to.
    Flush,
}

/// A turn. An answer must not reach a client before the news it rests on is on its way, so what
/// was taken is published before the flush; the losses that the flush finds are published behind.
pub const TURN: [Part; 4] = [Part::Take, Part::Publish, Part::Flush, Part::Publish];

/// One shard's ends of the rings.
#[derive(Default)]
pub struct Ends {
    /// To the other shards, by their number; `None` at its own.
    senders: Vec<Option<Sender<Message>>>,
    /// From the other shards.
    receivers: Vec<Receiver<Message>>,
}

/// One ring of `capacity` entries per ordered pair of shards, given each shard's inbox.
pub fn mesh(capacity: usize, inboxes: &[Arc<Inbox>]) -> Vec<Ends> {
    let mut ends: Vec<Ends> = inboxes.iter().map(|_| Ends::default()).collect();
    for (from, producer) in inboxes.iter().enumerate() {
        for (to, consumer) in inboxes.iter().enumerate() {
            let pair =
                (from != to).then(|| ring(capacity, Arc::clone(producer), Arc::clone(consumer)));
            let (sender, receiver) = pair.unzip();
            if let Some(ends) = ends.get_mut(from) {
                ends.senders.push(sender);
            }
            if let Some(ends) = ends.get_mut(to) {
                ends.receivers.extend(receiver);
            }
        }
    }
    ends
}

impl Ends {
    /// Hands the shard what others say, until this turn holds enough. True if there was anything.
    pub fn take<S: Protocol>(&mut self, now: Now, shard: &mut Shard<S>) -> bool {
        let has_room = |shard: &Shard<S>| shard.filled_bytes() <= TURN_BYTES_MAX;
        has_room(shard)
            && self.take_while(|message| {
                shard.handle_message(now, message);
                has_room(shard)
            })
    }

    /// Hands on what others say, while `each` goes on. True if there was anything.
    pub fn take_while(&mut self, mut each: impl FnMut(Message) -> bool) -> bool {
        let (mut took, mut goes_on) = (false, true);
        for receiver in &mut self.receivers {
            let mut left = RING_BATCH.min(receiver.available());
            while goes_on && left > 0 {
                let Some(message) = receiver.pop() else { break };
                goes_on = each(message);
                took = true;
                left -= 1;
            }
            receiver.drained();
        }
        took
    }

    /// Puts the shard's messages on their rings, and wakes each destination that sleeps once.
    pub fn publish<S: Protocol>(&mut self, shard: &mut Shard<S>) {
        for (to, message) in shard.outbox.drain(..) {
            if self.push(to, message) {
                shard.metrics.add(Counter::Spilled, 1);
            }
        }
        self.wake();
    }

    /// Puts a message on the ring to a shard, to be seen when it next looks. Tells whether it went
    /// into the spill.
    pub fn push(&mut self, to: ShardIndex, message: Message) -> bool {
        match self.senders.get_mut(usize::from(to.0)) {
            Some(Some(sender)) => sender.push(message),
            _ => false,
        }
    }

    /// Moves spills on, and wakes each destination once that sleeps and was given anything.
    pub fn wake(&mut self) {
        for sender in self.senders.iter_mut().flatten() {
            sender.publish();
        }
    }

    /// Is more waiting for a shard than it should be given?
    pub fn is_over_full(&self, to: ShardIndex) -> bool {
        let sender = self.senders.get(usize::from(to.0));
        sender.is_some_and(|sender| {
            let inbox = sender.as_ref().map(Sender::destination);
            inbox.is_some_and(Inbox::is_over_full)
        })
    }

    /// Does a ring hold anything for this shard?
    pub fn has_news(&self) -> bool {
        self.receivers
            .iter()
            .any(|receiver| receiver.available() > 0)
    }

    /// Does any message wait for room in its ring?
    pub fn has_spill(&self) -> bool {
        self.senders.iter().flatten().any(Sender::has_spill)
    }
}
