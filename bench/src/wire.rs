//! A socket that is written to and read from without ever waiting, and what is not yet written.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::Failure;

/// Bytes after which reading goes on another time.
const HEARD_MAX: usize = 1 << 20;

/// One connection of the load generator.
pub struct Wire {
    /// The socket, for whoever waits for it.
    pub stream: TcpStream,
    unwritten: Vec<u8>,
}

impl Wire {
    /// Takes a connected socket over.
    pub fn new(stream: TcpStream) -> Result<Self, Failure> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            unwritten: Vec::new(),
        })
    }

    /// Queues bytes; they go out with the next [`Self::write`].
    pub fn queue(&mut self, bytes: &[u8]) {
        self.unwritten.extend_from_slice(bytes);
    }

    /// Whether everything has been written.
    pub fn is_written(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// Writes what the socket takes.
    pub fn write(&mut self) -> Result<(), Failure> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        match self.stream.write(&self.unwritten) {
            Ok(count) => drop(self.unwritten.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Reads all that is there behind what `heard` holds already.
    pub fn read(&mut self, heard: &mut Vec<u8>) -> Result<(), Failure> {
        let mut buffer = [0; 16384];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if heard.len() > HEARD_MAX {
                return Ok(());
            }
        }
    }
}
