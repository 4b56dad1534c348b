//! A process of clients, for more sockets than one process may hold, and how the run speaks to it.
//!
//! The run writes an order, a line, and the crowd an answer, a line. Between orders a crowd answers
//! pings. Whatever is not as it should be ends it, and with it the run: a refusal, a socket that is
//! closed.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Failure;
use crate::client::{AT_ONCE, Client};
use crate::contender::Server;
use crate::pace::{Burst, Untimed};
use crate::process::{Process, spawn};
use crate::receiver::{CHANNEL, Receiver};
use crate::sequence::Sequence;
use crate::tally::Tally;

/// The command of such a process.
pub const ROLE: &str = "crowd";

/// Crowds at most: crowd 0 has the addresses 127.0.1.1, 127.0.1.2 and so on, crowd 1 127.0.2.1.
pub const CROWDS_MAX: usize = 255;
/// Sockets that come from one address. There are more ports, but once half of them are taken the
/// kernel looks through all of the other half for each that is left.
const PORTS: usize = 8192;

const OPEN: &str = "open";
const PINGS: &str = "pings";
const EVENT: &str = "event";

/// The longest wait before looking for an order.
const GLANCE: Duration = Duration::from_millis(20);
/// Without a frame for so long an event is over, and what is missing is lost.
const SILENCE: Duration = Duration::from_secs(20);
/// So long a crowd that has everything waits for what comes twice.
const SETTLING: Duration = Duration::from_secs(1);

/// What a crowd knows of pings.
#[derive(Clone, Copy)]
pub struct Pings {
    /// Answered by all sockets together.
    pub answered: u64,
    /// Answered by the socket that was asked least.
    pub least: u64,
}

/// A crowd, as the run sees it.
pub struct Crowd {
    process: Process,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Crowd {
    /// Starts crowd `number`, which is to have so many sockets to a server.
    pub fn start(server: SocketAddr, number: usize, sockets: usize) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(ROLE)
            .args([server.to_string(), number.to_string(), sockets.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = spawn(&mut command)?;
        let orders = process.0.stdin.take().ok_or("no stdin")?;
        let answers = process.0.stdout.take().ok_or("no stdout")?;
        Ok(Self {
            process,
            orders,
            answers: BufReader::new(answers),
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Connects and subscribes every socket.
    pub fn open(&mut self) -> Result<(), Failure> {
        self.order(OPEN)
    }

    /// Asks how many pings were answered.
    pub fn ask_for_pings(&mut self) -> Result<(), Failure> {
        self.order(PINGS)
    }

    /// Says when the next event is due.
    pub fn expect_event(&mut self, due: SystemTime) -> Result<(), Failure> {
        let due = due.duration_since(UNIX_EPOCH)?.as_nanos();
        self.order(&format!("{EVENT} {due}"))
    }

    /// Waits until every socket has subscribed.
    pub fn opened(&mut self) -> Result<(), Failure> {
        self.answer().map(drop)
    }

    /// Hears how many pings were answered.
    pub fn pings(&mut self) -> Result<Pings, Failure> {
        let answer = self.answer()?;
        let (answered, least) = answer.split_once(' ').ok_or("a crowd counts no pings")?;
        Ok(Pings {
            answered: answered.parse()?,
            least: least.parse()?,
        })
    }

    /// Hears what came of the event.
    pub fn tally(&mut self) -> Result<Tally, Failure> {
        Tally::of_text(&self.answer()?)
    }

    fn order(&mut self, order: &str) -> Result<(), Failure> {
        Ok(writeln!(self.orders, "{order}")?)
    }

    fn answer(&mut self) -> Result<String, Failure> {
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err("a crowd has ended".into());
        }
        Ok(answer.trim_end().to_owned())
    }
}

/// The process itself: does what it is told on stdin, until that ends.
pub fn run(server: SocketAddr, number: usize, sockets: usize) -> Result<(), Failure> {
    let mut receiver = Receiver::new()?;
    let stdin = io::stdin();
    loop {
        while !has_order(&stdin)? {
            receiver.receive(GLANCE, &Untimed)?;
        }
        let mut order = String::new();
        if stdin.read_line(&mut order)? == 0 {
            return Ok(());
        }
        match order.trim_end().split_once(' ') {
            None if order.trim_end() == OPEN => {
                open(&mut receiver, server, number, sockets)?;
                println!("opened");
            }
            None if order.trim_end() == PINGS => {
                let answered: u64 = receiver.pings().map(u64::from).sum();
                let least = receiver.pings().min().unwrap_or(0);
                println!("{answered} {least}");
            }
            Some((EVENT, due)) => {
                let tally = take_event(&mut receiver, instant_of(due.parse()?)?)?;
                println!("{}", tally.to_text());
            }
            _ => return Err(format!("no such order: {order}").into()),
        }
    }
}

fn has_order(stdin: &io::Stdin) -> Result<bool, Failure> {
    let mut ready = [PollFd::new(stdin, PollFlags::IN)];
    Ok(poll(&mut ready, Some(&Timespec::default()))? > 0)
}

/// Opens a few, then answers those that are open already, and so on.
fn open(
    receiver: &mut Receiver,
    server: SocketAddr,
    number: usize,
    sockets: usize,
) -> Result<(), Failure> {
    let (server, channels) = (Server::at(server), [CHANNEL.to_owned()]);
    for opened in (0..sockets).step_by(AT_ONCE) {
        let count = AT_ONCE.min(sockets - opened);
        let (third, last) = (u8::try_from(1 + number)?, u8::try_from(1 + opened / PORTS)?);
        let source = Ipv4Addr::new(127, 0, third, last);
        for client in Client::join_from(source, &server, &channels, count)? {
            receiver.take_over(client, Sequence::of_all())?;
        }
        while receiver.receive(Duration::ZERO, &Untimed)? {}
    }
    Ok(())
}

fn take_event(receiver: &mut Receiver, due: Instant) -> Result<Tally, Failure> {
    let schedule = Burst::at(0, due);
    let mut last_news = due;
    loop {
        let is_whole = receiver.frames() >= receiver.sockets();
        if last_news.elapsed() > if is_whole { SETTLING } else { SILENCE } {
            return receiver.finish(1);
        }
        let frames = receiver.frames();
        receiver.receive(GLANCE, &schedule)?;
        if receiver.frames() > frames {
            last_news = Instant::now();
        }
    }
}

/// All processes of this host share one clock of the day.
fn instant_of(nanos: u64) -> Result<Instant, Failure> {
    let now = Instant::now();
    let time = UNIX_EPOCH + Duration::from_nanos(nanos);
    let instant = match time.duration_since(SystemTime::now()) {
        Ok(ahead) => now + ahead,
        // It took long to hear of it: what came in between is as late as it is.
        Err(behind) => now
            .checked_sub(behind.duration())
            .ok_or("due before this host")?,
    };
    Ok(instant)
}
