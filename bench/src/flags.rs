//! What each setting of a ring is worth: the same sends to the same sockets, in turns.
//!
//! Not a scenario: it has no contenders, and its table is what the server's flusher is set by.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::net::SendFlags;
use rustix::time::{ClockId, clock_gettime};

use crate::floor::sender::{BATCH, FLAGS};
use crate::message::frame;
use crate::pace::Untimed;
use crate::receiver::{CHANNEL, Receiver};
use crate::table::median;
use crate::tally::Tally;
use crate::{Failure, cpu, process};

const SOCKETS: usize = 1000;
/// Events of one setting in one round.
const EVENTS: usize = 20;
const ROUNDS: usize = 9;
/// Room for two completions of each send.
const COMPLETIONS: u32 = 4096;
/// In the flags of a completion that gives a buffer back: `IORING_CQE_F_NOTIF`.
const NOTIFICATION: u32 = 1 << 3;
/// The receiver looks so often whether it is to end.
const GLANCE: Duration = Duration::from_millis(10);

/// How a frame is handed to the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    /// One call each.
    Call,
    /// A ring as it comes.
    Plain,
    /// `SINGLE_ISSUER` and `COOP_TASKRUN`.
    Coop,
    /// `SINGLE_ISSUER` and `DEFER_TASKRUN`, as in the server's flusher. The next are so too.
    Defer,
    /// The sockets are registered.
    Files,
    /// They and the frame's buffer.
    Buffer,
    /// They, and the kernel takes the frame from where it lies.
    ZeroCopy,
}

use Setting::{Buffer, Call, Coop, Defer, Files, Plain, ZeroCopy};

const SETTINGS: [(Setting, &str); 7] = [
    (Call, "one call per send"),
    (Plain, "ring, no flags"),
    (Coop, "ring, SINGLE_ISSUER | COOP_TASKRUN"),
    (Defer, "ring, SINGLE_ISSUER | DEFER_TASKRUN"),
    (Files, "… and registered files"),
    (Buffer, "… and a registered buffer"),
    (ZeroCopy, "… and SEND_ZC from it"),
];

/// Measures all settings and prints the table. False if a stream was not exact.
pub fn run() -> Result<bool, Failure> {
    process::raise_file_limit();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (address, heard) = (listener.local_addr()?, Heard::default());
    let receiver = thread::spawn({
        let heard = heard.clone();
        move || receive(&heard, || Ok(TcpStream::connect(address)?)).map_err(|why| why.to_string())
    });
    let accept = |_| -> Result<TcpStream, Failure> {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let sockets = (0..SOCKETS).map(accept).collect::<Result<Vec<_>, _>>()?;
    cpu::pin(cpu::SENDER)?;
    let mut costs = [const { Vec::new() }; SETTINGS.len()];
    let mut number = 0;
    for _ in 0..ROUNDS {
        for ((setting, _), costs) in SETTINGS.into_iter().zip(&mut costs) {
            let mut sender = Sender::of(setting, &sockets)?;
            let mut cost = Duration::ZERO;
            for _ in 0..EVENTS {
                let event = frame(CHANNEL, number);
                cost += cpu_of(|| sender.send(&event))?;
                number += 1;
                while heard.frames.load(Ordering::Acquire) < number * SOCKETS as u64 {
                    thread::yield_now();
                }
                cost += cpu_of(|| sender.reap())?;
            }
            costs.push(cost.as_nanos() as f64 / (EVENTS * SOCKETS) as f64);
        }
    }
    heard.published.store(number, Ordering::Release);
    let tally = receiver.join().map_err(|_| "the receiver has died")??;
    print(&costs);
    Ok(tally.is_exact())
}

/// What the receiver tells, and is told.
#[derive(Clone, Default)]
struct Heard {
    frames: Arc<AtomicU64>,
    /// Events in all, once there will be no more.
    published: Arc<AtomicU64>,
}

fn receive(
    heard: &Heard,
    connect: impl Fn() -> Result<TcpStream, Failure>,
) -> Result<Tally, Failure> {
    cpu::pin(cpu::RECEIVER)?;
    let mut receiver = Receiver::bare(connect, SOCKETS)?;
    loop {
        receiver.receive_awake(GLANCE, &Untimed)?;
        heard.frames.store(receiver.frames(), Ordering::Release);
        let published = heard.published.load(Ordering::Acquire);
        if published > 0 {
            return receiver.finish(published);
        }
    }
}

/// CPU time that this thread takes for it.
fn cpu_of(work: impl FnOnce() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime));
    let before = now()?;
    work()?;
    Ok(now()?.saturating_sub(before))
}

/// All sockets, and one way to send to them.
struct Sender<'a> {
    sockets: &'a [TcpStream],
    setting: Setting,
    /// `None` sends by one call each.
    ring: Option<IoUring>,
    /// Where a registered frame lies.
    buffer: Box<[u8]>,
    /// Buffers that the kernel has not given back.
    lent: usize,
}

impl<'a> Sender<'a> {
    fn of(setting: Setting, sockets: &'a [TcpStream]) -> Result<Self, Failure> {
        let mut builder = IoUring::builder();
        match setting {
            Call | Plain => {}
            Coop => _ = builder.setup_single_issuer().setup_coop_taskrun(),
            _ => _ = builder.setup_single_issuer().setup_defer_taskrun(),
        }
        builder.setup_cqsize(COMPLETIONS);
        let ring = match setting {
            Call => None,
            _ => Some(builder.build(u32::try_from(BATCH)?)?),
        };
        let mut sender = Self {
            sockets,
            setting,
            ring,
            buffer: frame(CHANNEL, 0).into(),
            lent: 0,
        };
        let Some(ring) = &sender.ring else {
            return Ok(sender);
        };
        if matches!(setting, Files | Buffer | ZeroCopy) {
            let files: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
            ring.submitter().register_files(&files)?;
        }
        if matches!(setting, Buffer | ZeroCopy) {
            let buffer = libc::iovec {
                iov_base: sender.buffer.as_mut_ptr().cast(),
                iov_len: sender.buffer.len(),
            };
            // SAFETY: the buffer lies on the heap, and is let go of behind the ring.
            unsafe { ring.submitter().register_buffers(&[buffer]) }?;
        }
        Ok(sender)
    }

    /// To every socket once.
    fn send(&mut self, event: &[u8]) -> Result<(), Failure> {
        self.buffer.copy_from_slice(event);
        let Some(ring) = &mut self.ring else {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let send = |socket| Ok(rustix::net::send(socket, &self.buffer, flags).map(drop)?);
            return self.sockets.iter().try_for_each(send);
        };
        for first in (0..self.sockets.len()).step_by(BATCH) {
            let batch = first..self.sockets.len().min(first + BATCH);
            let count = batch.len();
            for at in batch {
                let send = entry(self.setting, &self.sockets[at], at, &self.buffer)?;
                // SAFETY: the sends end inside `submit`, but for those that `reap` waits for; until
                // then nobody touches the buffer.
                unsafe { ring.submission().push(&send) }?;
            }
            if ring.submit()? != count {
                return Err("the ring did not take a whole batch".into());
            }
            self.lent = look(ring, self.lent)?;
        }
        Ok(())
    }

    /// Waits until the kernel has given all buffers back.
    fn reap(&mut self) -> Result<(), Failure> {
        let Some(ring) = &mut self.ring else {
            return Ok(());
        };
        while self.lent > 0 {
            ring.submit_and_wait(1)?;
            self.lent = look(ring, self.lent)?;
        }
        Ok(())
    }
}

/// Reads the completions, and gives how many buffers are lent now.
fn look(ring: &mut IoUring, mut lent: usize) -> Result<usize, Failure> {
    for completion in ring.completion() {
        if completion.flags() & NOTIFICATION != 0 {
            lent -= 1;
            continue;
        }
        lent += usize::from(cqueue::more(completion.flags()));
        if completion.result() < 0 {
            return Err(std::io::Error::from_raw_os_error(-completion.result()).into());
        }
    }
    Ok(lent)
}

fn entry(
    setting: Setting,
    socket: &TcpStream,
    at: usize,
    buffer: &[u8],
) -> Result<squeue::Entry, Failure> {
    let (fixed, open) = (
        types::Fixed(u32::try_from(at)?),
        types::Fd(socket.as_raw_fd()),
    );
    let (bytes, length) = (buffer.as_ptr(), u32::try_from(buffer.len())?);
    let silent = squeue::Flags::SKIP_SUCCESS;
    Ok(match setting {
        Files => opcode::Send::new(fixed, bytes, length)
            .flags(FLAGS)
            .build()
            .flags(silent),
        Buffer => opcode::WriteFixed::new(fixed, bytes, length, 0)
            .build()
            .flags(silent),
        ZeroCopy => opcode::SendZc::new(fixed, bytes, length)
            .buf_index(Some(0))
            .flags(FLAGS)
            .build(),
        _ => opcode::Send::new(open, bytes, length)
            .flags(FLAGS)
            .build()
            .flags(silent),
    })
}

fn print(costs: &[Vec<f64>]) {
    println!("CPU ns per send of one frame to one of {SOCKETS} sockets, median of {ROUNDS} rounds");
    let flusher = SETTINGS.iter().position(|&(setting, _)| setting == Defer);
    let base = flusher.map_or(&costs[0], |at| &costs[at]);
    println!(
        "{:>8} {:>6}  setting; \"x\" is against that of the server's flusher",
        "ns", "x"
    );
    for ((_, name), own) in SETTINGS.into_iter().zip(costs) {
        let ratio = median(own.iter().zip(base).map(|(own, base)| own / base));
        println!("{:>8.0} {ratio:>6.2}  {name}", median(own.iter().copied()));
    }
}
