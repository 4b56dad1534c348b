//! What the kernel notes of the bytes that wait in a socket: when the last of them came, and on
//! which CPU. So a sender can be timed while nobody reads and nobody waits.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Room for the one note that is asked for, and its head.
const NOTE_BYTES: usize = 64;

/// Asks the kernel to note when bytes come. It does so from a moment later on, unless it does for
/// another socket already.
pub fn note(stream: &TcpStream) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the socket is open, and the value is as long as it is said to be.
    let done = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Copies what waits in a socket and leaves it there; gives how much it is, and when the last of it
/// came. Nothing at all is no error.
pub fn peek(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Option<SystemTime>)> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // Of words, because the note's head must be aligned as one.
    let mut notes = [0_usize; NOTE_BYTES / size_of::<usize>()];
    // SAFETY: all zeros are a valid message without parts.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = notes.as_mut_ptr().cast();
    message.msg_controllen = NOTE_BYTES;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: buffer and notes outlive the call, and are as long as they are said to be.
    let count = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, flags) };
    let Ok(count) = usize::try_from(count) else {
        let error = io::Error::last_os_error();
        let is_empty = error.kind() == io::ErrorKind::WouldBlock;
        return if is_empty { Ok((0, None)) } else { Err(error) };
    };
    Ok((count, noted(&message)))
}

/// The time in a message's notes.
fn noted(message: &libc::msghdr) -> Option<SystemTime> {
    // SAFETY: the kernel has filled the message in, and its notes live as long as it does.
    let head = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if (head.cmsg_level, head.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
        return None;
    }
    // SAFETY: behind a head of this type stands a timespec, not necessarily aligned.
    let time: libc::timespec = unsafe {
        libc::CMSG_DATA(head)
            .cast::<libc::timespec>()
            .read_unaligned()
    };
    let since = Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?);
    Some(UNIX_EPOCH + since)
}

/// The CPU on which bytes came last. On a loopback device it is the sender's.
pub fn cpu(stream: &TcpStream) -> io::Result<usize> {
    let mut cpu: libc::c_int = 0;
    let mut length = size_of_val(&cpu) as libc::socklen_t;
    // SAFETY: the socket is open, and the value is as long as it is said to be.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_INCOMING_CPU,
            (&raw mut cpu).cast(),
            &raw mut length,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(cpu).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn bytes_that_wait_tell_when_they_came_and_stay() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut receiver = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut sender, _) = listener.accept().unwrap();
        note(&receiver).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(peek(&receiver, &mut buffer).unwrap(), (0, None));
        // Until the kernel has begun.
        loop {
            sender.write_all(b"0").unwrap();
            let (_, came) = peek(&receiver, &mut buffer).unwrap();
            receiver.read_exact(&mut buffer[..1]).unwrap();
            if came.is_some() {
                break;
            }
            std::thread::yield_now();
        }
        let before = SystemTime::now();
        sender.write_all(b"first").unwrap();
        sender.write_all(b"second").unwrap();
        let after = SystemTime::now();
        for _ in 0..2 {
            let (count, came) = peek(&receiver, &mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"firstsecond");
            assert!((before..=after).contains(&came.unwrap()), "{came:?}");
        }
        assert!(cpu(&receiver).unwrap() < 4096);
    }
}
