//! Processes that are measured: started on the senders' CPU, gone when the run ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{
    Resource, Signal, getrlimit, kill_process, set_parent_process_death_signal, setrlimit,
};

use crate::publisher::KEY;
use crate::{Failure, cpu};

/// The id of the app that every server of our own runs.
pub const APP: &str = "bench-app";
/// Its secret.
pub const SECRET: &str = "bench-secret";
/// Shards of every server of our own: one core, to be held against one loop.
pub const SHARDS: usize = 1;

/// A server has so many times to listen, [`STEP`] apart.
const ATTEMPTS: usize = 500;
const STEP: Duration = Duration::from_millis(10);

/// A child that does not outlive the run, however it ends.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already; what was measured stands.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The name of a Unix socket, which is gone when the run ends.
pub struct SocketFile(pub PathBuf);

impl SocketFile {
    /// One of this process, where nothing is yet.
    pub fn new() -> Self {
        let name = format!("slapback-bench-{}.socket", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Who listened may have taken it away already.
        let _ = fs::remove_file(&self.0);
    }
}

/// The server, with one shard and nothing of our own environment.
pub fn server_command(binary: &Path, address: SocketAddr, driver: &str) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("start")
        .env_clear()
        .current_dir(std::env::temp_dir())
        .env("REVERB_APP_ID", APP)
        .env("REVERB_APP_KEY", KEY)
        .env("REVERB_APP_SECRET", SECRET)
        .env("REVERB_APP_PING_INTERVAL", "3600")
        .env("REVERB_SERVER_HOST", address.ip().to_string())
        .env("REVERB_SERVER_PORT", address.port().to_string())
        .env("SLAPBACK_SHARDS", SHARDS.to_string())
        .env("SLAPBACK_PIN", "false")
        .env("SLAPBACK_DRIVER", driver)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Runs a child on the senders' CPU: it inherits that of the thread that spawns it.
pub fn spawn_on_sender_cpu(command: &mut Command) -> Result<Process, Failure> {
    spawn_on_cpus(command, 1)
}

/// Runs a child on so many CPUs, the senders' first. From the second on it shares that of the load.
pub fn spawn_on_cpus(command: &mut Command, count: usize) -> Result<Process, Failure> {
    let cpus: Vec<usize> = (cpu::SENDER..cpu::SENDER + count).collect();
    cpu::place(None, &cpus)?;
    let process = spawn(command);
    cpu::pin(cpu::RECEIVER)?;
    process
}

/// Runs a child, which the kernel ends if this process is killed.
pub fn spawn(command: &mut Command) -> Result<Process, Failure> {
    let die_with_parent = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec only this one system call is made.
    unsafe { command.pre_exec(die_with_parent) };
    Ok(Process(command.spawn()?))
}

/// Stops every thread of a process, and waits until none runs.
pub fn pause(process: u32) -> Result<(), Failure> {
    kill_process(cpu::pid(process)?, Signal::STOP)?;
    for _ in 0..ATTEMPTS {
        let mut is_stopped = true;
        for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
            let stat = std::fs::read_to_string(task?.path().join("stat"))?;
            // Behind the name, which may hold anything.
            let state = stat.rsplit(") ").next();
            is_stopped &= state.is_some_and(|state| state.starts_with('T'));
        }
        if is_stopped {
            return Ok(());
        }
        std::thread::yield_now();
    }
    Err("a process does not stop".into())
}

/// Lets it go on.
pub fn resume(process: u32) -> Result<(), Failure> {
    Ok(kill_process(cpu::pid(process)?, Signal::CONT)?)
}

/// Runs a child that says on stdout which port of that address it listens on.
pub fn start_on_own_port(
    command: &mut Command,
    host: Ipv4Addr,
) -> Result<(Process, SocketAddr), Failure> {
    let mut process = spawn_on_sender_cpu(command.stdout(Stdio::piped()))?;
    let mut said = String::new();
    BufReader::new(process.0.stdout.take().ok_or("no stdout")?).read_line(&mut said)?;
    let port = said.trim().parse();
    let port = port.map_err(|_| format!("a process says {said:?} and not its port"))?;
    Ok((process, SocketAddr::from((host, port))))
}

/// Waits until somebody listens there.
pub fn wait_for(address: SocketAddr) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(STEP);
    }
    Err(format!("the server does not listen on {address}").into())
}

/// Says so if a program cannot be found.
pub fn is_missing(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    (!is_there).then(|| format!("there is no {program} in PATH"))
}

/// Children inherit it. If it cannot be raised, connecting fails with the reason.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
