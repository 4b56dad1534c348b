//! The floor: what the kernel alone costs. One frame to every socket, from a loop with nothing
//! around it.
//!
//! Runs in a process of its own, as the server does: a number comes in on stdin, the frame of that
//! event goes out on every socket. Same flags, batch, pinning and payload as the server's flusher.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};

use crate::Failure;
use crate::publisher::frame;

/// First argument of the process that is the floor.
pub const ROLE: &str = "floor-sender";

/// Sends per `io_uring_enter`.
const BATCH: usize = 256;
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

/// Accepts `connections` sockets and sends an event to all of them whenever stdin names one.
pub fn send_on_request(driver: &str, connections: usize) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    let mut sockets = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let mut ring = match driver {
        "uring" => Some(
            IoUring::builder()
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_cqsize(1024)
                .build(512)?,
        ),
        _ => None,
    };
    let mut number = [0; 8];
    while io::stdin().read_exact(&mut number).is_ok() {
        let frame = frame(u64::from_le_bytes(number));
        match &mut ring {
            Some(ring) => send_by_ring(ring, &sockets, &frame)?,
            None => send_by_call(&sockets, &frame)?,
        }
    }
    Ok(())
}

fn send_by_ring(ring: &mut IoUring, sockets: &[TcpStream], frame: &[u8]) -> Result<(), Failure> {
    for batch in sockets.chunks(BATCH) {
        for socket in batch {
            let length = u32::try_from(frame.len())?;
            let send = opcode::Send::new(types::Fd(socket.as_raw_fd()), frame.as_ptr(), length)
                .flags(FLAGS)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS);
            // SAFETY: with MSG_DONTWAIT the send ends inside `submit`, while `frame` lives.
            unsafe { ring.submission().push(&send) }?;
        }
        let submitted = ring.submit()?;
        if submitted != batch.len() || ring.completion().next().is_some() {
            return Err("the floor's receiver is too slow: a send did not go out whole".into());
        }
    }
    Ok(())
}

fn send_by_call(sockets: &[TcpStream], frame: &[u8]) -> Result<(), Failure> {
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    for socket in sockets {
        if rustix::net::send(socket, frame, flags)? != frame.len() {
            return Err("the floor's receiver is too slow: a send did not go out whole".into());
        }
    }
    Ok(())
}
