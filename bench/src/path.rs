//! A long path: two networks, 25 ms from one to the other, on which one packet in a hundred is
//! lost.
//!
//! The `wan` scenario puts a server at one end and its clients at the other. Each end is a network
//! namespace with a TUN device; a thread carries what comes out of one device to the other. Needs
//! root, and `ip`.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::Failure;

/// The address of the server's end, of a range that is set aside for benchmarks.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const CLIENTS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

const DELAY: Duration = Duration::from_millis(25);
/// Of so many packets one is lost.
const LOST_OF: u32 = 100;
/// Packets that are on their way in one direction; more are lost.
const ON_THEIR_WAY_MAX: usize = 20_000;
const PACKET_MAX: usize = 2048;
const DEVICE: &str = "bench";
/// The same packets are lost for everybody.
const SEED: u64 = 1;

/// Where a socket or a process is made.
#[derive(Clone, Copy)]
pub enum End {
    /// Where [`SERVER`] is.
    Server,
    /// At the other end.
    Clients,
}

/// The path, as long as it lives. The thread that opened it is back in its own network afterwards.
pub struct LongPath {
    origin: File,
    server: File,
    clients: File,
    is_over: Arc<AtomicBool>,
    relay: Option<JoinHandle<()>>,
}

impl LongPath {
    /// Makes both ends and joins them.
    pub fn open() -> Result<Self, Failure> {
        let origin = network()?;
        let ends = Self::ends();
        let returned = enter(&origin);
        let [(server, server_device), (clients, clients_device)] = ends?;
        returned?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let relay = thread::spawn(move || relay(&server_device, &clients_device, &over));
        Ok(Self {
            origin,
            server,
            clients,
            is_over,
            relay: Some(relay),
        })
    }

    /// From here on this thread makes its sockets and processes at that end.
    pub fn enter(&self, end: End) -> Result<(), Failure> {
        enter(match end {
            End::Server => &self.server,
            End::Clients => &self.clients,
        })
    }

    fn ends() -> Result<[(File, File); 2], Failure> {
        Ok([make_end(SERVER)?, make_end(CLIENTS)?])
    }
}

impl Drop for LongPath {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(relay) = self.relay.take() {
            // A relay that panicked has been heard of by the lack of packets.
            let _ = relay.join();
        }
        // Without it the next scenario finds no server, and says so.
        let _ = enter(&self.origin);
    }
}

/// The network of this thread.
fn network() -> Result<File, Failure> {
    Ok(File::open("/proc/thread-self/ns/net")?)
}

fn enter(network: &File) -> Result<(), Failure> {
    let kind = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(network.as_fd(), kind)?)
}

/// A network of its own with a device; this thread is in it afterwards.
fn make_end(address: Ipv4Addr) -> Result<(File, File), Failure> {
    // SAFETY: no file descriptors are unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|errno| format!("no network of its own: {errno}"))?;
    let device = open_device()?;
    ip("link set lo up")?;
    ip(&format!("addr add {address}/30 dev {DEVICE}"))?;
    ip(&format!("link set {DEVICE} up"))?;
    Ok((network()?, device))
}

fn open_device() -> Result<File, Failure> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(|error| format!("/dev/net/tun: {error}"))?;
    // SAFETY: all zeros are a valid request, whose name then ends with a zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    // SAFETY: the device is open, and the request outlives the call.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
    if made < 0 {
        return Err(format!("no TUN device: {}", std::io::Error::last_os_error()).into());
    }
    Ok(device)
}

fn ip(arguments: &str) -> Result<(), Failure> {
    let status = Command::new("ip").args(arguments.split(' ')).status()?;
    if status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {status}").into())
}

/// Carries packets both ways until it is over.
fn relay(server: &File, clients: &File, is_over: &AtomicBool) {
    let mut there = Direction::new(server, clients);
    let mut back = Direction::new(clients, server);
    while !is_over.load(Ordering::Relaxed) {
        let now = Instant::now();
        let due = there.due().into_iter().chain(back.due()).min();
        let wait = due.map_or(DELAY, |due| due.saturating_duration_since(now));
        let mut devices = [server, clients].map(|device| PollFd::new(device, PollFlags::IN));
        // DELAY always fits; an interrupted wait is only a short one.
        let timeout = Timespec::try_from(wait).ok();
        let _ = poll(&mut devices, timeout.as_ref());
        let now = Instant::now();
        for direction in [&mut there, &mut back] {
            direction.take(now);
            direction.give(now);
        }
    }
}

/// What is on its way from one end to the other.
struct Direction<'a> {
    from: &'a File,
    to: &'a File,
    packets: VecDeque<(Instant, Vec<u8>)>,
    chance: fastrand::Rng,
}

impl<'a> Direction<'a> {
    fn new(from: &'a File, to: &'a File) -> Self {
        Self {
            from,
            to,
            packets: VecDeque::new(),
            chance: fastrand::Rng::with_seed(SEED),
        }
    }

    /// When the next packet arrives.
    fn due(&self) -> Option<Instant> {
        self.packets.front().map(|(due, _)| *due)
    }

    /// Takes what has been sent.
    fn take(&mut self, now: Instant) {
        let mut buffer = [0; PACKET_MAX];
        while let Ok(count) = self.from.read(&mut buffer) {
            let is_lost = self.chance.u32(..LOST_OF) == 0;
            if !is_lost && self.packets.len() < ON_THEIR_WAY_MAX {
                self.packets
                    .push_back((now + DELAY, buffer[..count].to_vec()));
            }
        }
    }

    /// Hands over what arrives.
    fn give(&mut self, now: Instant) {
        while self.due().is_some_and(|due| due <= now)
            && let Some((_, packet)) = self.packets.pop_front()
        {
            // A packet that the other end does not take is lost too.
            let _ = self.to.write(&packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// Two ends of which one is a device of the relay.
    fn device() -> (UnixDatagram, File) {
        let (end, device) = UnixDatagram::pair().unwrap();
        end.set_nonblocking(true).unwrap();
        device.set_nonblocking(true).unwrap();
        (end, File::from(OwnedFd::from(device)))
    }

    #[test]
    fn packets_arrive_late_in_order_and_some_never() {
        let ((sender, from), (receiver, to)) = (device(), device());
        let mut direction = Direction::new(&from, &to);
        let (sent, mut arrived) = (Instant::now(), Vec::new());
        for number in 0_u32..1000 {
            sender.send(&number.to_be_bytes()).unwrap();
            direction.take(sent);
            direction.give(sent + DELAY - Duration::from_nanos(1));
            let mut packet = [0; 4];
            assert!(receiver.recv(&mut packet).is_err());
            direction.give(sent + DELAY);
            if receiver.recv(&mut packet).is_ok() {
                arrived.push(u32::from_be_bytes(packet));
            }
        }
        assert!(arrived.is_sorted());
        assert!((980..1000).contains(&arrived.len()), "{}", arrived.len());
        assert_eq!(direction.due(), None);
    }
}
