//! The HTTP API alone: signed events on a channel that nobody is on.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{Baseline, Effort, Scenario};
use crate::Failure;
use crate::contender::{Contender, Server};
use crate::meter::Meter;
use crate::publisher::count_answers;
use crate::receiver::CHANNEL;
use crate::sample::Sample;
use crate::tally::Tally;

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "http",
    about: "signed API calls on connections that stay, with no subscribers",
    unit: "CPU ns per call",
    sockets: &[64],
    baseline: Baseline::Floor,
    missing: || None,
    rounds: 3,
    round,
};

const CALLS: (u64, u64) = (100_000, 20_000);
/// Calls that nobody measures.
const WARM_UP: u64 = 1000;
/// Calls that are signed beforehand and made in turn, for the load to cost less than the server.
const SIGNED: u64 = 1000;

/// One caller.
struct Caller {
    stream: TcpStream,
    heard: Vec<u8>,
}

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let Some(server) = contender.start_answering()? else {
        return Ok(Vec::new());
    };
    let sign = |number| server.app.request(CHANNEL, number);
    let requests = (0..SIGNED).map(sign).collect::<Result<Vec<_>, _>>()?;
    let connect = |_| Caller::connect(&server);
    let mut callers = (0..sockets).map(connect).collect::<Result<Vec<_>, _>>()?;
    call(&mut callers, &requests, WARM_UP)?;
    let calls = effort.pick(CALLS.0, CALLS.1);
    let meter = Meter::start(server.pid)?;
    let answers = call(&mut callers, &requests, calls)?;
    let usage = meter.stop()?;
    let tally = Tally::of_answers(answers, calls)?;
    Ok(vec![Sample::of_cpu(
        format!("{sockets} connections"),
        usage,
        tally,
    )])
}

/// Makes so many calls, those of all connections at once; gives how many were answered.
fn call(callers: &mut [Caller], requests: &[Vec<u8>], calls: u64) -> Result<u64, Failure> {
    let mut requests = requests.iter().cycle();
    let (mut made, mut answered) = (0, 0);
    let mut is_calling = vec![false; callers.len()];
    while answered < calls {
        for (caller, is_calling) in callers.iter_mut().zip(&mut is_calling) {
            if *is_calling {
                caller.hear()?;
                answered += 1;
                *is_calling = false;
            }
            if made < calls
                && let Some(request) = requests.next()
            {
                caller.stream.write_all(request)?;
                made += 1;
                *is_calling = true;
            }
        }
    }
    Ok(answered)
}

impl Caller {
    fn connect(server: &Server) -> Result<Self, Failure> {
        let stream = TcpStream::connect(server.address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            heard: Vec::new(),
        })
    }

    /// Waits for the answer.
    fn hear(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        while count_answers(&self.heard)?.0 == 0 {
            match self.stream.read(&mut buffer)? {
                0 => return Err("the server closed an API connection".into()),
                count => self.heard.extend_from_slice(&buffer[..count]),
            }
        }
        self.heard.clear();
        Ok(())
    }
}
