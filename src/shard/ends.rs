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
    /// From the other shards, and behind them from the Redis thread if there is one.
    receivers: Vec<Receiver<Message>>,
    /// How much is left of what each of them held when all were looked at.
    held: Vec<usize>,
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
    ///
    /// All rings are looked at, then emptied as far, over as many calls as it takes, before they
    /// are looked at again: so none waits for another that never ends. The last, that of the Redis
    /// thread, is looked at last and emptied first. It gives a home an event and then the
    /// publisher's shard the answer, and what follows from the answer, as a subscription that is to
    /// be shown that event, comes to the home over a shard's ring.
    pub fn take_while(&mut self, mut each: impl FnMut(Message) -> bool) -> bool {
        if self.held.iter().all(|&held| held == 0) {
            self.held.clear();
            let held = self.receivers.iter().map(Receiver::available);
            self.held.extend(held);
        }
        let (mut took, mut goes_on) = (false, true);
        for (receiver, held) in self.receivers.iter_mut().zip(&mut self.held).rev() {
            while goes_on && *held > 0 {
                let Some(message) = receiver.pop() else { break };
                goes_on = each(message);
                took = true;
                *held -= 1;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Wake;
    use crate::shard::index::Slot;
    use crate::shard::message::SessionKey;

    struct Unheard;

    impl Wake for Unheard {
        fn wake(&self) {}
    }

    #[test]
    fn what_follows_from_an_answer_of_the_last_comes_behind_what_the_last_had_said() {
        let inbox = || Arc::new(Inbox::new(usize::MAX, Box::new(Unheard)));
        let inboxes: Vec<_> = (0..3).map(|_| inbox()).collect();
        let mut ends = mesh(4096, &inboxes);
        let said = |slot| {
            Message::Published(SessionKey {
                shard: ShardIndex(0),
                slot: Slot(slot),
                generation: 0,
            })
        };
        let (home, count) = (ShardIndex(1), 2000);
        for number in 0..count {
            ends[2].push(home, said(number));
        }
        ends[0].push(home, said(count));
        let (mut heard, mut calls) = (Vec::new(), 0);
        while ends[1].take_while(|message| {
            let Message::Published(key) = message else {
                panic!("{message:?}");
            };
            heard.push(key.slot.0);
            heard.len() % 500 != 0
        }) {
            // What the last says meanwhile has its turn behind what was there.
            if calls < 3 {
                calls += 1;
                ends[2].push(home, said(count + calls));
            }
        }
        assert_eq!(heard, (0..=count + 3).collect::<Vec<_>>());
    }
}
