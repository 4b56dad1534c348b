//! WebSocket clients as they come: they connect, subscribe, and are then handed to the receiver.
//!
//! Blocking, for what happens before a measurement. Speaks just enough of the protocol.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use memchr::memmem;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::Failure;
use crate::contender::Server;
use crate::message::{App, client_frame};
use crate::receiver::split_frame;

/// The server has so long to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Clients that are at the same step.
pub const AT_ONCE: usize = 64;
/// Close with the code for a normal end, under a mask of zeros.
const CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";
const PING: &str = r#"{"event":"pusher:ping","data":{}}"#;
/// In the error for those who come too fast, and the first bytes of the close that follows.
const TOO_FAST: &str = "4100";
const TOO_FAST_CLOSE: [u8; 2] = 4100_u16.to_be_bytes();

/// A client that is connected.
pub struct Client {
    /// Its socket, blocking.
    pub stream: TcpStream,
    /// What came behind the last answer that was waited for.
    pub heard: Vec<u8>,
    socket_id: String,
}

/// The upgrade that opens a WebSocket.
pub fn upgrade(key: &str) -> String {
    format!(
        "GET /app/{key}?protocol=7&client=bench&version=1 HTTP/1.1\r\nHost: localhost\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// The frame that asks for a channel; `socket_id` is signed where the channel is private.
pub fn subscription(app: &App, socket_id: &str, channel: &str) -> Result<Vec<u8>, Failure> {
    let auth = if channel.starts_with("private-") {
        format!(r#","auth":"{}""#, app.auth(socket_id, channel)?)
    } else {
        String::new()
    };
    client_frame(&format!(
        r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"{auth}}}}}"#
    ))
}

/// The socket id in a `pusher:connection_established`, whose data is JSON in a JSON string.
pub fn socket_id(hello: &[u8]) -> Option<String> {
    let message: serde_json::Value = serde_json::from_slice(hello).ok()?;
    let data: serde_json::Value = serde_json::from_str(message["data"].as_str()?).ok()?;
    Some(data["socket_id"].as_str()?.to_owned())
}

impl Client {
    /// So many clients of a server, each on all of these channels.
    pub fn join(server: &Server, channels: &[String], count: usize) -> Result<Vec<Self>, Failure> {
        Self::join_through(&|| server.connect(), server, channels, count)
    }

    /// The same from one address of this host: each has ports of its own.
    pub fn join_from(
        source: Ipv4Addr,
        server: &Server,
        channels: &[String],
        count: usize,
    ) -> Result<Vec<Self>, Failure> {
        let connect = || connect_from(source, server.address);
        Self::join_through(&connect, server, channels, count)
    }

    fn join_through(
        connect: &dyn Fn() -> Result<TcpStream, Failure>,
        server: &Server,
        channels: &[String],
        count: usize,
    ) -> Result<Vec<Self>, Failure> {
        let mut joined = Vec::with_capacity(count);
        while joined.len() < count {
            let more = AT_ONCE.min(count - joined.len());
            let clients = Self::try_through(connect, server, channels, more)?;
            if clients.len() < more {
                return Err("the server turned somebody away".into());
            }
            joined.extend(clients);
        }
        Ok(joined)
    }

    /// Those of so many that a server lets in. The others are told in full that they come too fast.
    pub fn try_to_join(
        server: &Server,
        channels: &[String],
        count: usize,
    ) -> Result<Vec<Self>, Failure> {
        Self::try_through(&|| server.connect(), server, channels, count)
    }

    fn try_through(
        connect: &dyn Fn() -> Result<TcpStream, Failure>,
        server: &Server,
        channels: &[String],
        count: usize,
    ) -> Result<Vec<Self>, Failure> {
        let upgrading = |_| Self::upgrading(connect()?, &server.app.key);
        let dialled = (0..count).map(upgrading).collect::<Result<Vec<_>, _>>()?;
        let (mut clients, mut turned_away) = (Vec::with_capacity(count), Vec::new());
        for mut client in dialled {
            if client.greet()? {
                client.ask(&server.app, channels)?;
                clients.push(client);
            } else {
                client.close()?;
                turned_away.push(client);
            }
        }
        for client in &mut clients {
            client.confirm(channels.len())?;
        }
        turned_away.into_iter().try_for_each(Self::hear_refusal)?;
        Ok(clients)
    }

    /// Asks for a WebSocket.
    fn upgrading(mut stream: TcpStream, key: &str) -> Result<Self, Failure> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(upgrade(key).as_bytes())?;
        Ok(Self {
            stream,
            heard: Vec::new(),
            socket_id: String::new(),
        })
    }

    /// Waits for the server's hello. False if it says instead that there are too many at once.
    fn greet(&mut self) -> Result<bool, Failure> {
        self.hear_head()?;
        let hello = self.hear_any()?;
        if let Some(socket_id) = socket_id(&hello) {
            self.socket_id = socket_id;
            return Ok(true);
        }
        if memmem::find(&hello, TOO_FAST.as_bytes()).is_some() {
            return Ok(false);
        }
        let hello = String::from_utf8_lossy(&hello).into_owned();
        Err(format!("the server's hello has no socket id: {hello}").into())
    }

    /// Asks for all of these channels.
    fn ask(&mut self, app: &App, channels: &[String]) -> Result<(), Failure> {
        let mut frames = Vec::new();
        for channel in channels {
            frames.extend(subscription(app, &self.socket_id, channel)?);
        }
        Ok(self.stream.write_all(&frames)?)
    }

    /// Waits until the server has said of so many channels that the client is on them.
    fn confirm(&mut self, channels: usize) -> Result<(), Failure> {
        for _ in 0..channels {
            self.hear("subscription_succeeded")?;
        }
        Ok(())
    }

    /// Asks whether the server is there, and waits for its answer.
    pub fn ping(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&client_frame(PING)?)?;
        self.hear("pusher:pong")
    }

    /// Says that it is done.
    pub fn close(&mut self) -> Result<(), Failure> {
        Ok(self.stream.write_all(CLOSE)?)
    }

    /// Waits until the server has closed the connection.
    pub fn hear_the_end(mut self) -> Result<(), Failure> {
        self.stream.read_to_end(&mut self.heard)?;
        Ok(())
    }

    /// Waits for the close of a connection of which there are too many, and for the end.
    fn hear_refusal(mut self) -> Result<(), Failure> {
        let close = self.hear_any()?;
        if !close.starts_with(&TOO_FAST_CLOSE) {
            return Err(format!("not a Close 4100: {close:?}").into());
        }
        self.hear_the_end()
    }

    fn hear_head(&mut self) -> Result<(), Failure> {
        loop {
            let end = self.heard.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.heard.drain(..end + 4).collect();
                if head.starts_with(b"HTTP/1.1 101") {
                    return Ok(());
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                return Err(format!("not an upgrade: {head}").into());
            }
            self.read()?;
        }
    }

    /// Waits for the next frame, whose payload must hold this text.
    fn hear(&mut self, text: &str) -> Result<(), Failure> {
        let payload = self.hear_any()?;
        if memmem::find(&payload, text.as_bytes()).is_some() {
            return Ok(());
        }
        let payload = String::from_utf8_lossy(&payload).into_owned();
        Err(format!("the server says {payload} instead of {text}").into())
    }

    /// The next frame's payload.
    fn hear_any(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some((payload, rest)) = split_frame(&self.heard) {
                let payload = payload.to_vec();
                self.heard.drain(..self.heard.len() - rest.len());
                return Ok(payload);
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer)? {
            0 => Err("the server closed a socket before it had subscribed".into()),
            count => {
                self.heard.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}

fn connect_from(source: Ipv4Addr, to: SocketAddr) -> Result<TcpStream, Failure> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::from((source, 0)))?;
    connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_id_stands_in_the_hello() {
        let hello =
            br#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\"}"}"#;
        assert_eq!(socket_id(hello).as_deref(), Some("1.2"));
        assert_eq!(socket_id(b"{}"), None);
    }

    #[test]
    fn only_a_private_channel_is_signed() {
        let app = App {
            id: "1".into(),
            key: "k".into(),
            secret: "s".into(),
        };
        let text = |channel| {
            let frame = subscription(&app, "1.2", channel).unwrap();
            String::from_utf8_lossy(&frame).into_owned()
        };
        assert!(text("private-a").contains(r#""auth":"k:"#));
        assert!(!text("a").contains("auth"));
    }
}
