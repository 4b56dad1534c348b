//! A proxy on the same host may connect over a Unix socket: what that saves against loopback TCP.

use std::net::Ipv4Addr;

use super::{Baseline, Effort, Scenario, storm};
use crate::Failure;
use crate::contender::{Contender, Server};
use crate::floor;
use crate::process::SocketFile;
use crate::receiver::Receiver;
use crate::sample::Sample;
use crate::source::{Api, Told};
use crate::stage::{Load, Stage};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "unix",
    about: "the same over loopback TCP and over a Unix socket",
    unit: "CPU ns per delivery, and per socket that came and went",
    sockets: &[1000],
    baseline: Baseline::Words {
        own: UNIX,
        other: TCP,
    },
    missing: || None,
    rounds: 3,
    round,
};

const TCP: &str = "over TCP";
const UNIX: &str = "over a Unix socket";
const EVENTS: (u64, u64) = (100, 30);
const COME_AND_GO: (u64, u64) = (5_120, 1_280);

fn round(contender: &Contender, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    if matches!(contender, Contender::Floor(_)) {
        return floor_round(contender.driver(), sockets, effort);
    }
    let file = SocketFile::new();
    let setting = ("SLAPBACK_UNIX_SOCKET", file.0.as_os_str());
    // Of another nobody knows whether it has such a socket.
    let Some(mut server) = contender.start_with(setting)? else {
        return Ok(Vec::new());
    };
    let mut samples = both(&server, TCP, sockets, effort)?;
    server.unix = Some(file);
    samples.extend(both(&server, UNIX, sockets, effort)?);
    Ok(samples)
}

/// A fan-out and a storm.
fn both(
    server: &Server,
    over: &str,
    sockets: usize,
    effort: Effort,
) -> Result<Vec<Sample>, Failure> {
    let (receiver, source) = (Receiver::of(server, sockets)?, Api::to_all(server)?);
    let mut stage = Stage::new(server.pid, source, receiver, sockets as u64)?;
    let fanout = fan_out(&mut stage, over, sockets, effort)?;
    drop(stage);
    let all = effort.pick(COME_AND_GO.0, COME_AND_GO.1);
    let storm = storm::measure(server, format!("they come and go {over}"), all)?;
    Ok(vec![fanout, storm])
}

fn fan_out(
    stage: &mut Stage,
    over: &str,
    sockets: usize,
    effort: Effort,
) -> Result<Sample, Failure> {
    stage.warm_up()?;
    let (name, events) = (
        format!("{sockets} sockets {over}"),
        effort.pick(EVENTS.0, EVENTS.1),
    );
    stage.measure(name, Load::Bursts(1), events)
}

/// The bare loop sends; it lets nobody come and go.
fn floor_round(driver: &str, sockets: usize, effort: Effort) -> Result<Vec<Sample>, Failure> {
    let tcp = floor::start_sender(driver, sockets, Ipv4Addr::LOCALHOST)?;
    let unix = floor::start_unix_sender(driver, sockets)?;
    let mut samples = Vec::new();
    for (server, over) in [(tcp, TCP), (unix, UNIX)] {
        let source = Told::connect(server.address, |_| floor::ALL)?;
        let receiver = Receiver::of(&server, sockets)?;
        let mut stage = Stage::new(server.pid, source, receiver, sockets as u64)?;
        samples.push(fan_out(&mut stage, over, sockets, effort)?);
    }
    Ok(samples)
}
