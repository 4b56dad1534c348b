//! `slapback-bench`: what the server costs, next to what the kernel alone would cost.
//!
//! The real server and bare loops, the floor, run in turns on one CPU, on both drivers; one load
//! generator on another serves them all. Only ratios within one run mean much: absolute figures
//! belong to the machine. Exits 1 if a single frame was lost, doubled or out of order.

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Run};
use contender::Contender;
use floor::{discarder, replier, sender};
use report::Report;
use scale::crowd;

mod arrival;
mod chart;
mod cli;
mod client;
mod contender;
mod cpu;
mod flags;
mod floor;
mod host;
mod memory;
mod message;
mod meter;
mod node;
mod pace;
mod path;
mod process;
mod publisher;
mod receiver;
mod redis;
mod report;
mod sample;
mod scale;
mod scenario;
mod sequence;
mod source;
mod stage;
mod table;
mod tally;
mod targets;
mod wire;

/// Whatever ends a run: a sentence for the operator.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let Cli { command, run } = Cli::parse();
    let done = match command {
        None => measure(&run, None),
        Some(Command::Compare(compare)) => compare
            .other()
            .and_then(|other| measure(&compare.run, Some(other))),
        Some(Command::Scale(scale)) => scale::run(&scale),
        Some(Command::Flags) => flags::run(),
        Some(Command::Crowd {
            server,
            number,
            sockets,
        }) => crowd::run(server, number, sockets).map(|()| true),
        Some(Command::FloorSender {
            driver,
            sockets,
            host,
            unix,
        }) => sender::run(&driver, sockets, host, unix.as_deref()).map(|()| true),
        Some(Command::FloorReplier) => replier::run().map(|()| true),
        Some(Command::FloorDiscarder { port }) => discarder::run(port).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("slapback-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// False if a stream was not exact.
fn measure(run: &Run, other: Option<Contender>) -> Result<bool, Failure> {
    process::raise_file_limit();
    cpu::pin(cpu::RECEIVER)?;
    let mut contenders = Contender::ours(&run.paths.binary()?);
    match Contender::uws() {
        Ok(uws) => contenders.push(uws),
        Err(why) => eprintln!("uWebSockets is not measured: {why}"),
    }
    contenders.extend(other);
    let mut report = Report::new(run.effort());
    println!("{}", report.head());
    for scenario in run.scenarios() {
        let table = scenario.run(&contenders, run.effort())?;
        println!("\n{}", table.text());
        report.add(table);
    }
    if let Some(targets) = report.targets() {
        println!("\n{targets}");
    }
    let file = report.write(&run.paths.out)?;
    println!("\nwritten to {}", file.display());
    Ok(report.is_exact())
}
