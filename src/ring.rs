//! One single-producer ring between two threads, with a coalesced wake and a spill behind it.
//!
//! Shards talk to one another through these, one per ordered pair. The ring is `rtrb`'s; what is
//! added here is that a push never fails (what does not fit waits in the producer's spill), that a
//! sleeping consumer is woken once per batch, and that the bytes waiting for a destination are
//! counted. Nothing here blocks, and nobody waits for anybody.
//!
//! Before it sleeps, a thread calls [`Inbox::announce_sleep`], then looks once more at everything
//! that could give it work: [`Receiver::available`] of its receivers, and [`Sender::publish`] of
//! its senders that have a spill. Only if there is none does it sleep.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// Wakes a sleeping consumer thread. The edge does it with an eventfd, the simulation with a flag.
pub trait Wake: Send + Sync {
    /// Called at most once per [`Inbox::announce_sleep`], from any thread.
    fn wake(&self);
}

/// Bytes an entry keeps in memory while it waits in a ring.
pub trait Weigh {
    /// Asked once, when the entry is pushed.
    fn weight(&self) -> usize;
}

/// On cache lines of its own, two for the sake of the CPUs that fetch them in pairs.
#[repr(align(128))]
struct Apart<T>(T);

/// What one thread shares with everyone who sends to it: whether it sleeps, and what waits for it.
pub struct Inbox {
    sleeping: AtomicBool,
    /// Changed by every push, where each shard asks at every read whether it is over-full.
    waiting_bytes: Apart<AtomicUsize>,
    over_full: AtomicBool,
    shut: AtomicBool,
    limit_bytes: usize,
    wake: Box<dyn Wake>,
}

impl Inbox {
    /// An inbox that counts as over-full above `limit_bytes` of waiting entries.
    pub fn new(limit_bytes: usize, wake: Box<dyn Wake>) -> Self {
        Self {
            sleeping: AtomicBool::new(false),
            waiting_bytes: Apart(AtomicUsize::new(0)),
            over_full: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            limit_bytes,
            wake,
        }
    }

    /// Says that the owner is about to sleep. It must look at its rings once more before it does.
    pub fn announce_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `wake_if_asleep`: either the owner's second look sees what the
        // other thread just did, or the other thread sees `sleeping`.
        fence(Ordering::SeqCst);
    }

    /// Says that the owner works again, so that nobody spends a wake on it.
    pub fn announce_awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Whether data for this thread is to be refused at the entrance. Set when more than the limit
    /// waits, over all producers, in rings and spills; cleared when no more than half of it does.
    pub fn is_over_full(&self) -> bool {
        self.over_full.load(Ordering::Relaxed) || self.shut.load(Ordering::Relaxed)
    }

    /// Says whether the owner has no room for more behind what waits here.
    pub fn shut(&self, is_shut: bool) {
        self.shut.store(is_shut, Ordering::Relaxed);
    }

    /// Bytes now waiting, over all producers, in rings and spills.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.0.load(Ordering::Relaxed)
    }

    /// To be called behind whatever the owner must notice: a push, or room made for its spill.
    fn wake_if_asleep(&self) {
        fence(Ordering::SeqCst);
        // The load spares the shared cache line a write while the owner is busy.
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            self.wake.wake();
        }
    }

    fn add_bytes(&self, bytes: usize) {
        let before = self.waiting_bytes.0.fetch_add(bytes, Ordering::SeqCst);
        if before.saturating_add(bytes) > self.limit_bytes
            && !self.over_full.load(Ordering::Relaxed)
        {
            self.over_full.store(true, Ordering::SeqCst);
            // The owner may have taken everything in between; without this look the flag would
            // stay up over an empty ring, and the closed entrance would keep it empty.
            self.clear_if_half(self.waiting_bytes.0.load(Ordering::SeqCst));
        }
    }

    fn subtract_bytes(&self, bytes: usize) {
        let before = self.waiting_bytes.0.fetch_sub(bytes, Ordering::SeqCst);
        if self.over_full.load(Ordering::SeqCst) {
            self.clear_if_half(before.saturating_sub(bytes));
        }
    }

    fn clear_if_half(&self, waiting: usize) {
        if waiting <= self.limit_bytes / 2 {
            self.over_full.store(false, Ordering::SeqCst);
        }
    }
}

/// An entry and its weight, so that what is subtracted is what was added.
type Weighed<T> = (usize, T);

/// Makes one ring of `capacity` entries. `producer_inbox` belongs to the thread that holds the
/// sender and is woken when room appears for its spill; `consumer_inbox` to the receiver's.
pub fn ring<T: Weigh>(
    capacity: usize,
    producer_inbox: Arc<Inbox>,
    consumer_inbox: Arc<Inbox>,
) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    let spilled = Arc::new(AtomicBool::new(false));
    let sender = Sender {
        ring: producer,
        spill: VecDeque::new(),
        spilled: Arc::clone(&spilled),
        unpublished: false,
        consumer_inbox: Arc::clone(&consumer_inbox),
    };
    let receiver = Receiver {
        ring: consumer,
        popped: false,
        popped_bytes: 0,
        spilled,
        producer_inbox,
        consumer_inbox,
    };
    (sender, receiver)
}

/// The producer's end.
pub struct Sender<T> {
    ring: rtrb::Producer<Weighed<T>>,
    spill: VecDeque<Weighed<T>>,
    /// Tells the receiver that room is waited for.
    spilled: Arc<AtomicBool>,
    unpublished: bool,
    consumer_inbox: Arc<Inbox>,
}

/// Entries a spill may keep room for once it is empty.
const SPILL_ROOM_KEPT: usize = 256;

impl<T: Weigh> Sender<T> {
    /// Takes the entry, always: into the ring, or into the spill behind it. Tells whether it went
    /// into the spill. The consumer may see it at once, but is woken only by [`Self::publish`].
    pub fn push(&mut self, entry: T) -> bool {
        let weighed = (entry.weight(), entry);
        // Added before the entry is visible, or the receiver could subtract it first.
        self.consumer_inbox.add_bytes(weighed.0);
        self.unpublished = true;
        if !self.spill.is_empty() {
            self.spill.push_back(weighed);
            return true;
        }
        match self.ring.push(weighed) {
            Ok(()) => false,
            Err(rtrb::PushError::Full(weighed)) => {
                self.spill.push_back(weighed);
                true
            }
        }
    }

    /// Moves the spill into the ring as far as there is room, then wakes the consumer if it sleeps
    /// and anything was pushed or moved since the last call.
    pub fn publish(&mut self) {
        if !self.spill.is_empty() {
            self.move_spill();
        }
        if self.unpublished {
            self.unpublished = false;
            self.consumer_inbox.wake_if_asleep();
        }
    }

    /// Whether entries wait for room in the ring.
    pub fn has_spill(&self) -> bool {
        !self.spill.is_empty()
    }

    /// The inbox of the thread this ring leads to.
    pub fn destination(&self) -> &Inbox {
        &self.consumer_inbox
    }

    fn move_spill(&mut self) {
        // The flag goes up before the look for room, as the receiver pops before it looks at the
        // flag: one of the two sees the other.
        self.spilled.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while let Some(weighed) = self.spill.pop_front() {
            if let Err(rtrb::PushError::Full(weighed)) = self.ring.push(weighed) {
                self.spill.push_front(weighed);
                return;
            }
            self.unpublished = true;
        }
        self.spilled.store(false, Ordering::Relaxed);
        self.spill.shrink_to(SPILL_ROOM_KEPT);
    }
}

/// The consumer's end.
pub struct Receiver<T> {
    ring: rtrb::Consumer<Weighed<T>>,
    popped: bool,
    popped_bytes: usize,
    spilled: Arc<AtomicBool>,
    producer_inbox: Arc<Inbox>,
    consumer_inbox: Arc<Inbox>,
}

impl<T> Receiver<T> {
    /// Entries visible now; a spill behind them is not counted.
    pub fn available(&self) -> usize {
        self.ring.slots()
    }

    /// Takes the oldest entry.
    pub fn pop(&mut self) -> Option<T> {
        let (weight, entry) = self.ring.pop().ok()?;
        self.popped = true;
        self.popped_bytes += weight;
        Some(entry)
    }

    /// Says that this batch of pops is over: gives their bytes back, and wakes the producer if it
    /// sleeps over a spill. To be called behind every batch, also one that left entries behind.
    pub fn drained(&mut self) {
        if !self.popped {
            return;
        }
        self.popped = false;
        self.consumer_inbox
            .subtract_bytes(std::mem::take(&mut self.popped_bytes));
        fence(Ordering::SeqCst);
        if self.spilled.load(Ordering::Relaxed) {
            self.producer_inbox.wake_if_asleep();
        }
    }
}

#[cfg(test)]
mod tests;
