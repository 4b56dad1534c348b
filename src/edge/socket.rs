//! The connections at the edge: one table of them, and one epoll set that the kernel tells their
//! news in.
//!
//! A connection that waits is a descriptor and four flags, no task and no buffer: reading borrows
//! the shard's scratch. Called by the edge's tasks; never writes, which is the flusher's.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown, sockopt};
use tracing::warn;

use super::Edge;
use super::poll::Readiness;
use crate::proto::session::Protocol;
use crate::shard::ends::TURN_BYTES_MAX;
use crate::shard::index::Slot;
use crate::shard::message::SessionKey;
use crate::shard::{Command, Reading, wheel};

/// One read takes at most this, bytes.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// Sockets whose news one call takes.
const NEWS: usize = 64;

/// What is told of every socket, once each time that it comes to be.
const INPUT: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::ET);

/// That nothing more will come: reading ends with an end or an error.
const END: epoll::EventFlags = epoll::EventFlags::RDHUP
    .union(epoll::EventFlags::HUP)
    .union(epoll::EventFlags::ERR);

/// That bytes can be written, or at least tried.
const ROOM: epoll::EventFlags = epoll::EventFlags::OUT
    .union(epoll::EventFlags::HUP)
    .union(epoll::EventFlags::ERR);

const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// A connection's descriptor, open as long as its slot is in the shard's table.
struct Socket {
    descriptor: OwnedFd,
    key: SessionKey,
    /// The shard reads no more of it for now.
    is_paused: bool,
    input: Input,
    /// It is on the list of those to be read.
    is_due: bool,
    /// The shard wants to know when it can take bytes again.
    awaits_room: bool,
}

/// What the kernel told of a socket's input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    /// Nothing since it was read to its end.
    Nothing,
    /// Something.
    Some,
    /// That no more will come: reading ends with an end or an error.
    Last,
}

/// All connections of one shard.
pub(super) struct Sockets {
    watch: OwnedFd,
    /// By slot.
    table: Vec<Option<Socket>>,
    /// Those to be read.
    due: Vec<Slot>,
    news: Vec<epoll::Event>,
}

impl Sockets {
    /// None yet.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            watch: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            table: Vec::new(),
            due: Vec::new(),
            news: Vec::with_capacity(NEWS),
        })
    }

    /// The epoll set, for whoever waits for news.
    pub(super) fn watch(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    fn insert(&mut self, key: SessionKey, descriptor: OwnedFd) -> io::Result<()> {
        if self.table.len() <= key.slot.at() {
            self.table.resize_with(key.slot.at() + 1, || None);
        }
        let watched = epoll::add(&self.watch, &descriptor, data(key.slot), INPUT);
        if let Some(entry) = self.table.get_mut(key.slot.at()) {
            *entry = Some(Socket {
                descriptor,
                key,
                is_paused: false,
                input: Input::Nothing,
                is_due: false,
                awaits_room: false,
            });
        }
        Ok(watched?)
    }

    /// Closes it. False if it is not there.
    fn close(&mut self, slot: Slot) -> bool {
        let socket = self.table.get_mut(slot.at()).and_then(Option::take);
        socket.is_some()
    }

    fn get(&self, slot: Slot) -> Option<&Socket> {
        self.table.get(slot.at())?.as_ref()
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Socket> {
        self.table.get_mut(slot.at())?.as_mut()
    }

    /// Asks to be told once it can take bytes, also if it can already; or to be told no more.
    fn await_room(&mut self, slot: Slot, awaits_room: bool) {
        let Some(socket) = self.table.get_mut(slot.at()).and_then(Option::as_mut) else {
            return;
        };
        socket.awaits_room = awaits_room;
        let flags = if awaits_room {
            INPUT | epoll::EventFlags::OUT
        } else {
            INPUT
        };
        if let Err(error) = epoll::modify(&self.watch, &socket.descriptor, data(slot), flags) {
            warn!(%error, "a full connection could not be watched");
        }
    }

    /// Reads on, or no more for now.
    fn set_paused(&mut self, slot: Slot, is_paused: bool) {
        if let Some(socket) = self.get_mut(slot) {
            socket.is_paused = is_paused;
        }
        self.mark_due(slot);
    }

    /// Puts it on the list of those to be read, if there is something and the shard wants it.
    fn mark_due(&mut self, slot: Slot) {
        if let Some(socket) = self.get_mut(slot)
            && socket.input != Input::Nothing
            && !socket.is_paused
            && !std::mem::replace(&mut socket.is_due, true)
        {
            self.due.push(slot);
        }
    }

    /// Takes what the kernel tells, without waiting. Adds whom it tells to have room again to
    /// `have_room`. True if there may be more.
    fn look(&mut self, have_room: &mut Vec<SessionKey>) -> io::Result<bool> {
        let mut news = std::mem::take(&mut self.news);
        news.clear();
        let looked = epoll::wait(&self.watch, spare_capacity(&mut news), Some(&AT_ONCE));
        for event in &news {
            let (flags, data) = (event.flags, event.data);
            let slot = Slot(u32::try_from(data.u64()).unwrap_or(u32::MAX));
            // What was told of a slot's last connection makes us read from the next one in vain.
            let Some(socket) = self.get_mut(slot) else {
                continue;
            };
            if flags.intersects(ROOM) && socket.awaits_room {
                have_room.push(socket.key);
            }
            if flags.intersects(END) {
                socket.input = Input::Last;
            } else if flags.intersects(INPUT) && socket.input == Input::Nothing {
                socket.input = Input::Some;
            }
            self.mark_due(slot);
        }
        let is_full = news.len() >= NEWS;
        self.news = news;
        looked?;
        Ok(is_full)
    }

    /// Takes all that the kernel tells now; what comes meanwhile is left at some point.
    fn look_at_all(&mut self, have_room: &mut Vec<SessionKey>) -> io::Result<()> {
        for _ in 0..=self.table.len() / NEWS {
            if !self.look(have_room)? {
                break;
            }
        }
        Ok(())
    }

    /// Reads from it once.
    fn read(
        &mut self,
        slot: Slot,
        buffer: &mut [u8],
    ) -> Option<(SessionKey, rustix::io::Result<usize>)> {
        let socket = self.get_mut(slot)?;
        socket.is_due = false;
        if socket.is_paused {
            return None;
        }
        let received = recv(&socket.descriptor, &mut *buffer, RecvFlags::DONTWAIT);
        // Less than there was room for is all there was, unless the end stands behind it: whatever
        // comes later is told anew.
        let is_more = match received {
            Ok((taken, _)) => taken == buffer.len() || socket.input == Input::Last && taken > 0,
            Err(errno) => errno == Errno::INTR,
        };
        if !is_more {
            socket.input = Input::Nothing;
        }
        Some((socket.key, received.map(|(taken, _)| taken)))
    }
}

fn data(slot: Slot) -> epoll::EventData {
    epoll::EventData::new_u64(slot.0.into())
}

/// Waits for the kernel's news and reads.
pub(super) async fn news_task<S: Protocol>(edge: Rc<Edge<S>>, news: Readiness) {
    loop {
        if let Err(error) = news.readable().await {
            warn!(%error, "waiting for connections' news failed");
            monoio::time::sleep(wheel::TICK).await;
        }
        edge.take_news();
        edge.bounce.yield_now().await;
    }
}

/// Reads on where not all was read at once, or the shard wanted none of it.
pub(super) async fn rest_task<S: Protocol>(edge: Rc<Edge<S>>) {
    loop {
        edge.rest_due.raised().await;
        edge.read_due();
        edge.bounce.yield_now().await;
    }
}

impl<S: Protocol> Edge<S> {
    /// Makes an accepted connection one of this shard's.
    pub(super) fn admit(&self, descriptor: OwnedFd) {
        let key = self
            .shard
            .borrow_mut()
            .handle_opened(self.now(), descriptor.as_raw_fd());
        let watched = self.sockets.borrow_mut().insert(key, descriptor);
        if let Err(error) = watched {
            warn!(%error, "a connection could not be watched");
            self.handle_lost(key);
        }
    }

    /// Takes all news before anybody is read, so that who has much to say is read no more often
    /// than the others.
    fn take_news(&self) {
        let mut have_room = Vec::new();
        let looked = self.sockets.borrow_mut().look_at_all(&mut have_room);
        if let Err(error) = looked {
            warn!(%error, "connections' news could not be taken");
        }
        for key in have_room {
            self.sockets.borrow_mut().await_room(key.slot, false);
            self.shard.borrow_mut().handle_writable(key);
            self.turn_due.raise();
        }
        self.read_due();
    }

    /// Reads once from each socket that has something. What others said before that comes first: a
    /// client may have been told of it, and speak of it.
    fn read_due(&self) {
        if self.ends.borrow().has_news() {
            self.take_messages(self.now());
        }
        let mut due = std::mem::take(&mut self.sockets.borrow_mut().due);
        for slot in due.drain(..) {
            self.read(slot);
            self.sockets.borrow_mut().mark_due(slot);
        }
        let mut sockets = self.sockets.borrow_mut();
        due.append(&mut sockets.due);
        sockets.due = due;
        if !sockets.due.is_empty() {
            self.rest_due.raise();
        }
    }

    fn read(&self, slot: Slot) {
        let mut scratch = self.scratch.borrow_mut();
        let read = self.sockets.borrow_mut().read(slot, &mut scratch);
        match read {
            None | Some((_, Err(Errno::AGAIN | Errno::INTR))) => {}
            Some((key, Ok(0))) => {
                // The shard closes the slot once the last answer is written.
                self.sockets.borrow_mut().set_paused(slot, true);
                let mut shard = self.shard.borrow_mut();
                shard.pressure = self.pressure();
                shard.handle_eof(self.now(), key);
                self.carry_out(shard);
            }
            Some((key, Ok(length))) => {
                self.handle_bytes(key, scratch.get_mut(..length).unwrap_or_default());
            }
            Some((key, Err(_))) => self.handle_lost(key),
        }
    }

    fn handle_bytes(&self, key: SessionKey, input: &mut [u8]) {
        let mut shard = self.shard.borrow_mut();
        shard.pressure = self.pressure();
        let reading = shard.handle_bytes(self.now(), key, input);
        // Before the commands are carried out: one of them may be to resume.
        if reading == Reading::Paused {
            self.sockets.borrow_mut().set_paused(key.slot, true);
        }
        let is_enough = shard.filled_bytes() > TURN_BYTES_MAX;
        self.carry_out(shard);
        if is_enough {
            self.turn();
        }
    }

    fn handle_lost(&self, key: SessionKey) {
        let mut shard = self.shard.borrow_mut();
        shard.handle_lost(self.now(), key);
        self.carry_out(shard);
    }

    /// Does to a socket what the shard wants.
    pub(super) fn carry_out_one(&self, command: Command) {
        let mut sockets = self.sockets.borrow_mut();
        match command {
            Command::AwaitWritable(key) => sockets.await_room(key.slot, true),
            Command::Resume(slot) => {
                sockets.set_paused(slot, false);
                if !sockets.due.is_empty() {
                    self.rest_due.raise();
                }
            }
            Command::Fin(slot) => {
                if let Some(socket) = sockets.get(slot) {
                    // A peer that is gone already needs no FIN.
                    let _ = shutdown(&socket.descriptor, Shutdown::Write);
                }
            }
            Command::Reset(slot) => {
                if let Some(socket) = sockets.get(slot) {
                    // Makes the close an RST that drops what is unsent. If not, it is an ordinary
                    // one: nothing worse can come of it.
                    let _ = sockopt::set_socket_linger(&socket.descriptor, Some(Duration::ZERO));
                }
                self.close(&mut sockets, slot);
            }
            Command::Close(slot) => self.close(&mut sockets, slot),
        }
    }

    fn close(&self, sockets: &mut Sockets, slot: Slot) {
        if sockets.close(slot) {
            self.files.close();
        }
    }
}
