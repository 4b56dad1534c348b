//! The flusher: writes one turn's bytes to its sockets, straight from the turn log.
//!
//! One trait, two drivers: [`UringFlusher`] hands hundreds of sends to the kernel in one call,
//! [`SendmsgFlusher`] makes one call each, where `io_uring` is forbidden. Called by the edge once
//! per chunk of a turn; [`open`] chooses. Never waits, never keeps a buffer beyond a call, never
//! closes a descriptor.
#![allow(
    unsafe_code,
    reason = "only here may the kernel be given raw descriptors and pointers"
)]

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{BorrowedFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use crate::config::DriverChoice;
use crate::shard::flusher::{Flusher, Outgoing, RANGES_PER_SEND_MAX, Sent};

mod self_test;
pub use self_test::{SelfTestFailure, self_test};

/// Which driver runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// [`UringFlusher`].
    Uring,
    /// [`SendmsgFlusher`].
    Sendmsg,
}

/// Why `io_uring` cannot be used here.
#[derive(Debug, thiserror::Error)]
pub enum UringUnusable {
    /// The kernel or a seccomp filter refuses to make a ring.
    #[error("io_uring is not available here ({0})")]
    Refused(#[source] io::Error),
    /// A ring was made, but its sends do not end as ours must.
    #[error("io_uring failed the self-test: {0}")]
    Differs(#[from] SelfTestFailure),
}

/// What helps where `io_uring` is not available.
pub const URING_ADVICE: &str = "to allow io_uring in a container, permit io_uring_setup, \
     io_uring_enter and io_uring_register in its seccomp profile";

/// A flusher, and how it came to be chosen.
pub struct Opened {
    /// To be used on the thread that called [`open`], and no other.
    pub flusher: Box<dyn Flusher>,
    /// Which one it is.
    pub driver: Driver,
    /// Why `Auto` did not take `io_uring`.
    pub fallback: Option<UringUnusable>,
}

/// Opens the flusher of the calling thread; takes about a millisecond.
///
/// # Errors
/// Only if `choice` is [`DriverChoice::Uring`] and it cannot be had: the process exits 70.
pub fn open(choice: DriverChoice) -> Result<Opened, UringUnusable> {
    let fallback = match choice {
        DriverChoice::Epoll => None,
        DriverChoice::Auto | DriverChoice::Uring => match open_uring() {
            Ok(flusher) => {
                return Ok(Opened {
                    flusher,
                    driver: Driver::Uring,
                    fallback: None,
                });
            }
            Err(unusable) if choice == DriverChoice::Uring => return Err(unusable),
            Err(unusable) => Some(unusable),
        },
    };
    Ok(Opened {
        flusher: Box::new(SendmsgFlusher),
        driver: Driver::Sendmsg,
        fallback,
    })
}

/// Opens the flusher of another thread, once [`open`] has chosen the driver.
///
/// # Errors
/// The kernel refuses a ring that it gave before.
pub fn open_driver(driver: Driver) -> io::Result<Box<dyn Flusher>> {
    match driver {
        Driver::Uring => Ok(Box::new(UringFlusher::new()?)),
        Driver::Sendmsg => Ok(Box::new(SendmsgFlusher)),
    }
}

fn open_uring() -> Result<Box<dyn Flusher>, UringUnusable> {
    let mut flusher = UringFlusher::new().map_err(UringUnusable::Refused)?;
    self_test(&mut flusher)?;
    // A ring that broke under the self-test hands over to `sendmsg`, and that would have passed.
    if flusher.ring.is_none() {
        return Err(UringUnusable::Refused(io::Error::other(
            "its ring refuses submissions",
        )));
    }
    Ok(Box::new(flusher))
}

/// What an entry is to be sent: at most [`RANGES_PER_SEND_MAX`] of its ranges.
struct Portion<'a> {
    ranges: &'a [Range<u32>],
    bytes: usize,
    /// What it means if the kernel takes all of `bytes`.
    whole: Sent,
}

impl<'a> Portion<'a> {
    /// `None` if the entry does not lie within `ranges` and `log`: a defect of the caller, and no
    /// bytes are better than wrong ones.
    fn of(entry: &Outgoing, ranges: &'a [Range<u32>], log: &[u8]) -> Option<Self> {
        let all = ranges.get(entry.ranges.start as usize..entry.ranges.end as usize)?;
        let ranges = all.get(..RANGES_PER_SEND_MAX).unwrap_or(all);
        let mut bytes = 0;
        for range in ranges {
            bytes += slice(log, range)?.len();
        }
        let whole = if ranges.len() < all.len() {
            Sent::Part(bytes)
        } else {
            Sent::All
        };
        Some(Self {
            ranges,
            bytes,
            whole,
        })
    }

    fn taken(&self, bytes: usize) -> Sent {
        match bytes {
            0 => Sent::Full,
            bytes if bytes >= self.bytes => self.whole,
            bytes => Sent::Part(bytes),
        }
    }
}

fn slice<'a>(log: &'a [u8], range: &Range<u32>) -> Option<&'a [u8]> {
    log.get(range.start as usize..range.end as usize)
}

/// What a failed send tells about its socket.
fn refused(errno: Errno) -> Sent {
    match errno {
        // Out of memory is the kernel's state, not the socket's: the bytes stay owed, as if full.
        Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM => Sent::Full,
        _ => Sent::Dead,
    }
}

/// Of a `send` or `sendmsg` that never waits.
const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// One `send` or `sendmsg` call per socket.
#[derive(Debug, Default)]
pub struct SendmsgFlusher;

impl Flusher for SendmsgFlusher {
    fn flush(
        &mut self,
        log: &[u8],
        ranges: &[Range<u32>],
        batch: &[Outgoing],
        results: &mut Vec<Sent>,
    ) {
        results.clear();
        results.extend(batch.iter().map(|entry| send_now(entry, ranges, log)));
    }
}

#[expect(
    clippy::inline_always,
    reason = "a return right behind a system call costs half a microsecond a send where the kernel \
              guards the prediction of returns, so the call is one with the loop around it (0015)"
)]
#[inline(always)]
fn send_now(entry: &Outgoing, ranges: &[Range<u32>], log: &[u8]) -> Sent {
    let Some(portion) = Portion::of(entry, ranges, log) else {
        return Sent::Dead;
    };
    if portion.bytes == 0 {
        return portion.whole;
    }
    // SAFETY: `Outgoing` promises an open descriptor, see `borrow`.
    let socket = unsafe { borrow(entry.socket) };
    loop {
        let sent = match portion.ranges {
            [only] => rustix::net::send(socket, slice(log, only).unwrap_or_default(), FLAGS),
            several => send_parts(socket, several, log),
        };
        match sent {
            Ok(bytes) => return portion.taken(bytes),
            Err(Errno::INTR) => {}
            Err(errno) => return refused(errno),
        }
    }
}

#[inline(never)]
fn send_parts(
    socket: BorrowedFd<'_>,
    ranges: &[Range<u32>],
    log: &[u8],
) -> rustix::io::Result<usize> {
    let mut parts = [IoSlice::new(&[]); RANGES_PER_SEND_MAX];
    for (part, range) in parts.iter_mut().zip(ranges) {
        *part = IoSlice::new(slice(log, range).unwrap_or_default());
    }
    let parts = parts.get(..ranges.len()).unwrap_or_default();
    rustix::net::sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), FLAGS)
}

/// Sends per `io_uring_enter`.
const CHUNK: usize = 512;
/// Room for completions; a chunk makes at most [`CHUNK`] and they are read before the next.
const COMPLETIONS: u32 = 1024;
/// Ranges of one chunk's `SENDMSG`s together.
const CHUNK_PARTS: usize = 4096;
/// How often in a row the kernel may take nothing of a chunk before its ring counts as broken.
const ATTEMPTS: usize = 64;

/// Hundreds of sends per system call, on a ring of its own.
///
/// Every send ends inside the call that submits it: `MSG_DONTWAIT` forbids the kernel to park it,
/// `MSG_WAITALL` makes a short one a failure that is reported in spite of `CQE_SKIP_SUCCESS`. So a
/// complete send is silent, and no operation is in flight when [`Flusher::flush`] returns. The
/// self-test holds the kernel to it.
pub struct UringFlusher {
    /// `None` once it refused work; then `sendmsg` takes over for good.
    ring: Option<IoUring>,
    /// Positions in the batch of this chunk's sends, in the order submitted.
    queued: Vec<u32>,
    /// Headers and parts that this chunk's `SENDMSG`s point to. Their capacity never grows.
    headers: Vec<libc::msghdr>,
    parts: Vec<libc::iovec>,
}

impl UringFlusher {
    /// Makes the ring; only the calling thread may use it.
    ///
    /// # Errors
    /// What `io_uring_setup` says: EPERM, ENOSYS, or EINVAL before Linux 6.1.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(u32::try_from(CHUNK).unwrap_or(u32::MAX))?;
        Ok(Self {
            ring: Some(ring),
            queued: Vec::with_capacity(CHUNK),
            headers: Vec::with_capacity(CHUNK),
            parts: Vec::with_capacity(CHUNK_PARTS),
        })
    }

    fn is_chunk_full(&self) -> bool {
        self.queued.len() == CHUNK || self.parts.len() + RANGES_PER_SEND_MAX > CHUNK_PARTS
    }

    /// Queues one send. False if there is no ring to queue it in.
    fn queue(&mut self, position: u32, socket: RawFd, portion: &Portion<'_>, log: &[u8]) -> bool {
        let Some(ring) = &mut self.ring else {
            return false;
        };
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let send = if let [only] = portion.ranges {
            let bytes = slice(log, only).unwrap_or_default();
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            opcode::Send::new(types::Fd(socket), bytes.as_ptr(), length)
                .flags(flags)
                .build()
        } else {
            let header = header(&mut self.parts, &mut self.headers, portion, log);
            opcode::SendMsg::new(types::Fd(socket), header)
                .flags(flags.cast_unsigned())
                .build()
        };
        let send = send
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(u64::from(position));
        // SAFETY: the send points into `log`, `headers` and `parts`. All three outlive `submit`,
        // which ends every operation or drops the ring before `flush` returns (self-test, and
        // `streams_survive_a_slow_reader_byte_for_byte`); the two vectors never grow beyond the
        // capacity they were made with, which `is_chunk_full` guards, so nothing moves.
        let pushed = unsafe { ring.submission().push(&send) }.is_ok();
        if pushed {
            self.queued.push(position);
        }
        pushed
    }

    /// Submits the chunk and notes in `results` what did not go out whole.
    fn submit(&mut self, call: &Call<'_>, results: &mut [Sent]) {
        let unsubmitted = match &mut self.ring {
            Some(ring) => submit_all(ring, |completion| note(&completion, call, results)),
            None => 0,
        };
        if unsubmitted > 0 {
            // What still stands in the ring must never reach the kernel: it points into a log that
            // will hold other bytes. Dropping the ring drops it.
            self.ring = None;
            tracing::error!(
                unsubmitted,
                "io_uring refuses submissions, sendmsg takes over"
            );
            let first = self.queued.len().saturating_sub(unsubmitted);
            for &position in self.queued.iter().skip(first) {
                call.send_without_ring(position, results);
            }
        }
        self.queued.clear();
        self.headers.clear();
        self.parts.clear();
    }
}

impl Flusher for UringFlusher {
    fn flush(
        &mut self,
        log: &[u8],
        ranges: &[Range<u32>],
        batch: &[Outgoing],
        results: &mut Vec<Sent>,
    ) {
        let call = Call { log, ranges, batch };
        results.clear();
        results.resize(batch.len(), Sent::Dead);
        for (position, entry) in (0_u32..).zip(batch) {
            let Some(portion) = Portion::of(entry, ranges, log) else {
                continue;
            };
            // Silence means that all was taken.
            if let Some(result) = results.get_mut(position as usize) {
                *result = portion.whole;
            }
            if portion.bytes == 0 {
                continue;
            }
            if self.is_chunk_full() {
                self.submit(&call, results);
            }
            if !self.queue(position, entry.socket, &portion, log) {
                call.send_without_ring(position, results);
            }
        }
        self.submit(&call, results);
    }
}

/// What one call of [`Flusher::flush`] was given.
struct Call<'a> {
    log: &'a [u8],
    ranges: &'a [Range<u32>],
    batch: &'a [Outgoing],
}

impl Call<'_> {
    fn send_without_ring(&self, position: u32, results: &mut [Sent]) {
        let entry = self.batch.get(position as usize);
        if let (Some(entry), Some(result)) = (entry, results.get_mut(position as usize)) {
            *result = send_now(entry, self.ranges, self.log);
        }
    }
}

/// Notes what one completion says of its socket.
fn note(completion: &cqueue::Entry, call: &Call<'_>, results: &mut [Sent]) {
    let position = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
    let (Some(entry), Some(result)) = (call.batch.get(position), results.get_mut(position)) else {
        return;
    };
    let Some(portion) = Portion::of(entry, call.ranges, call.log) else {
        return;
    };
    *result = match usize::try_from(completion.result()) {
        Ok(bytes) => portion.taken(bytes),
        Err(_) => refused(Errno::from_raw_os_error(-completion.result())),
    };
}

/// Appends the parts of a `SENDMSG` and the header that names them; returns where it stands.
fn header(
    parts: &mut Vec<libc::iovec>,
    headers: &mut Vec<libc::msghdr>,
    portion: &Portion<'_>,
    log: &[u8],
) -> *const libc::msghdr {
    let first = parts.len();
    parts.extend(portion.ranges.iter().map(|range| {
        let bytes = slice(log, range).unwrap_or_default();
        libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        }
    }));
    // SAFETY: all-zero bytes are a valid `msghdr` (null pointers and zero lengths), and the struct
    // has private padding on some targets, so it cannot be written as a literal.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = parts.as_mut_ptr().wrapping_add(first);
    header.msg_iovlen = portion.ranges.len() as _;
    headers.push(header);
    headers.as_ptr().wrapping_add(headers.len() - 1)
}

/// Hands everything queued to the kernel and reads every completion. Returns how many sends the
/// kernel did not take: zero, unless the ring is broken.
fn submit_all(ring: &mut IoUring, mut each: impl FnMut(cqueue::Entry)) -> usize {
    let mut left = ring.submission().len();
    let mut attempts = 0;
    while left > 0 && attempts < ATTEMPTS {
        // EINTR, EAGAIN (no memory for a request) and EBUSY (completions to be read first) pass by
        // themselves; the count below tells whether they did.
        let submitted = ring.submit();
        ring.completion().for_each(&mut each);
        let now_left = ring.submission().len();
        attempts = if now_left < left { 0 } else { attempts + 1 };
        left = now_left;
        if submitted.is_err() && attempts > 1 {
            std::thread::yield_now();
        }
    }
    ring.completion().for_each(&mut each);
    left
}

/// Lends a raw descriptor to a safe call.
///
/// # Safety
/// It must be open for the whole call, and be the socket meant. The edge's slot table keeps each
/// socket open until its slot has left the turn, and everything happens on one thread (the
/// reused-slot cases of the simulation).
unsafe fn borrow<'a>(socket: RawFd) -> BorrowedFd<'a> {
    debug_assert!(socket >= 0);
    // SAFETY: passed on to our caller.
    unsafe { BorrowedFd::borrow_raw(socket) }
}

#[cfg(test)]
mod tests;
