//! Who is told to send an event: the API, a client that whispers, or the floor.

use std::net::{SocketAddr, TcpStream};

use crate::Failure;
use crate::client::Client;
use crate::contender::Server;
use crate::floor::{Command, Sockets};
use crate::message::{App, whisper};
use crate::publisher::Publisher;
use crate::receiver::CHANNEL;
use crate::wire::Wire;

/// Takes numbered events and sends them on their way.
pub trait Source: Send {
    /// Queues one event; it goes out with the next [`Self::work`].
    fn queue(&mut self, number: u64) -> Result<(), Failure>;
    /// Writes and reads what the socket allows.
    fn work(&mut self) -> Result<(), Failure>;
    /// Whether all that was queued has gone out and been answered.
    fn is_settled(&self) -> bool;
    /// The socket, for whoever waits until there is work.
    fn stream(&self) -> &TcpStream;
}

/// Events over the HTTP API, each on the channel that its number gives.
pub struct Api {
    app: App,
    channel: fn(u64) -> String,
    publisher: Publisher,
}

impl Api {
    /// Connects to the server's API.
    pub fn connect(
        address: SocketAddr,
        app: &App,
        channel: fn(u64) -> String,
    ) -> Result<Self, Failure> {
        Ok(Self {
            app: app.clone(),
            channel,
            publisher: Publisher::connect(address)?,
        })
    }

    /// The same of a server whose subscribers are all on [`CHANNEL`].
    pub fn to_all(server: &Server) -> Result<Self, Failure> {
        Self::connect(server.address, &server.app, |_| CHANNEL.to_owned())
    }
}

impl Source for Api {
    fn queue(&mut self, number: u64) -> Result<(), Failure> {
        let request = self.app.request(&(self.channel)(number), number)?;
        self.publisher.publish(&request);
        Ok(())
    }

    fn work(&mut self) -> Result<(), Failure> {
        self.publisher.work()
    }

    fn is_settled(&self) -> bool {
        self.publisher.answered() == self.publisher.published()
    }

    fn stream(&self) -> &TcpStream {
        self.publisher.stream()
    }
}

/// A subscriber that whispers to the others.
pub struct Whisperer {
    channel: String,
    wire: Wire,
    heard: Vec<u8>,
}

impl Whisperer {
    /// Takes over a client that is on the channel.
    pub fn new(client: Client, channel: &str) -> Result<Self, Failure> {
        Ok(Self {
            channel: channel.to_owned(),
            wire: Wire::new(client.stream)?,
            heard: client.heard,
        })
    }
}

impl Source for Whisperer {
    fn queue(&mut self, number: u64) -> Result<(), Failure> {
        self.wire.queue(&whisper(&self.channel, number)?);
        Ok(())
    }

    /// Nothing is to be heard: whoever whispers is told only what was wrong.
    fn work(&mut self) -> Result<(), Failure> {
        self.wire.write()?;
        self.wire.read(&mut self.heard)?;
        if self.heard.is_empty() {
            return Ok(());
        }
        let heard = String::from_utf8_lossy(&self.heard).into_owned();
        Err(format!("a whisper was answered: {heard}").into())
    }

    fn is_settled(&self) -> bool {
        self.wire.is_written()
    }

    fn stream(&self) -> &TcpStream {
        &self.wire.stream
    }
}

/// Subscribers that whisper in turn.
pub struct Whisperers(pub Vec<Whisperer>);

impl Source for Whisperers {
    fn queue(&mut self, number: u64) -> Result<(), Failure> {
        let turn = usize::try_from(number)? % self.0.len();
        self.0[turn].queue(number)
    }

    fn work(&mut self) -> Result<(), Failure> {
        let mut busy = self.0.iter_mut().filter(|one| !one.is_settled());
        busy.try_for_each(Whisperer::work)
    }

    fn is_settled(&self) -> bool {
        self.0.iter().all(Whisperer::is_settled)
    }

    /// That of the first: nobody waits for an answer.
    fn stream(&self) -> &TcpStream {
        self.0[0].stream()
    }
}

/// The floor, which is told the number and to which sockets.
pub struct Told {
    sockets: fn(u64) -> Sockets,
    wire: Wire,
}

impl Told {
    /// Connects to the floor; this must be its first connection.
    pub fn connect(address: SocketAddr, sockets: fn(u64) -> Sockets) -> Result<Self, Failure> {
        Ok(Self {
            sockets,
            wire: Wire::new(TcpStream::connect(address)?)?,
        })
    }
}

impl Source for Told {
    fn queue(&mut self, number: u64) -> Result<(), Failure> {
        let sockets = (self.sockets)(number);
        self.wire.queue(&Command { number, sockets }.to_bytes());
        Ok(())
    }

    fn work(&mut self) -> Result<(), Failure> {
        self.wire.write()
    }

    fn is_settled(&self) -> bool {
        self.wire.is_written()
    }

    fn stream(&self) -> &TcpStream {
        &self.wire.stream
    }
}
