//! One server process: started with an environment of its own, gone when dropped.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::{DEADLINE, Fleet, apps};

const BINARY: &str = env!("CARGO_BIN_EXE_slapback");

/// A running server. Dropping it kills the process.
pub struct Server {
    pub port: u16,
    /// Where clients go instead of the port.
    pub unix_socket: Option<PathBuf>,
    child: Child,
    log: Arc<Log>,
}

impl Server {
    /// Starts with the fixture's apps on a free port of 127.0.0.1 and waits until it listens.
    pub fn start(fleet: Fleet, environment: &[(&str, &str)]) -> Self {
        let file = apps::file().to_str().unwrap();
        Self::start_with(fleet, &["start", "--config", file], environment)
    }

    /// The same, and clients come by a Unix socket of its own.
    pub fn start_on_unix(fleet: Fleet, path: &Path, environment: &[(&str, &str)]) -> Self {
        let socket = ("SLAPBACK_UNIX_SOCKET", path.to_str().unwrap());
        let mut server = Self::start(fleet, &[&[socket], environment].concat());
        server.says(&format!("unix socket: {}", path.display()));
        server.unix_socket = Some(path.to_owned());
        server
    }

    /// The same with the apps of a configuration file's text instead.
    pub fn start_with_file(fleet: Fleet, text: &str, environment: &[(&str, &str)]) -> Self {
        let file = apps::write(text);
        let arguments = ["start", "--config", file.to_str().unwrap()];
        Self::start_with(fleet, &arguments, environment)
    }

    /// The same with these arguments; `environment` counts more than the fleet's variables.
    pub fn start_with(fleet: Fleet, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let shards = fleet.shards.to_string();
        let mut variables = vec![
            ("REVERB_SERVER_HOST", "127.0.0.1"),
            ("REVERB_SERVER_PORT", "0"),
            ("SLAPBACK_SHARDS", &shards),
            ("SLAPBACK_DRIVER", fleet.driver),
        ];
        variables.extend(environment);
        let mut server = Self::launch(arguments, &variables);
        server.listens();
        server.says(match fleet.driver {
            "uring" => "driver: io_uring (self-test passed)",
            _ => "driver: epoll (asked for)",
        });
        server.says(&format!("shards: {shards}, "));
        server
    }

    /// Starts the binary without waiting for anything; its port is not known.
    pub fn launch(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::launch_in(
            Path::new(env!("CARGO_TARGET_TMPDIR")),
            arguments,
            environment,
        )
    }

    /// The same in a working directory, whose `.env` it reads.
    pub fn launch_in(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(arguments);
        Self::spawn(command, directory, environment)
    }

    /// The same by a command that is given the binary and its arguments and executes them.
    pub fn launch_by(command: Command, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command;
        command.arg(BINARY).args(arguments);
        Self::spawn(command, Path::new(env!("CARGO_TARGET_TMPDIR")), environment)
    }

    fn spawn(mut command: Command, directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = command
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let port = 0;
        let unix_socket = None;
        Self {
            port,
            unix_socket,
            child,
            log,
        }
    }

    /// Waits for the banner line, keeps its port and returns it.
    pub fn listens(&mut self) -> String {
        let banner = self.says("Starting server on ");
        let address = banner.split_whitespace().nth(4).unwrap();
        let port = address.rsplit(':').next().unwrap();
        let digits = port.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        self.port = digits.parse().unwrap();
        banner
    }

    /// Waits for a line that holds `part` and returns it.
    pub fn says(&self, part: &str) -> String {
        let said = self.log.wait(|log| {
            let line = log.lines.iter().find(|line| line.contains(part));
            (line.is_some() || log.open == 0).then(|| line.cloned())
        });
        let line = said.flatten();
        line.unwrap_or_else(|| panic!("never said {part:?}: {}", self.said()))
    }

    /// Waits until so many lines hold `part`.
    pub fn says_times(&self, part: &str, times: usize) {
        let is_enough = self.log.wait(|log| {
            let lines = log.lines.iter().filter(|line| line.contains(part));
            (lines.count() >= times).then_some(())
        });
        assert!(
            is_enough.is_some(),
            "said {part:?} less than {times} times: {}",
            self.said()
        );
    }

    /// Waits until it hears other nodes, and they it.
    pub fn is_on_the_bus(&self) {
        self.says("redis: scaling (hearing) works");
        self.says("redis: scaling (publishing) works");
    }

    /// All that it has said so far.
    pub fn said(&self) -> String {
        self.log.text.lock().unwrap().lines.join("\n")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process has ended: its standard streams end with it.
    pub fn exit_status(&mut self) -> ExitStatus {
        let ended = self.log.wait(|log| (log.open == 0).then_some(()));
        assert!(ended.is_some(), "has not ended: {}", self.said());
        self.child.wait().unwrap()
    }

    /// How many files it has open.
    pub fn files(&self) -> usize {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        folder.unwrap().count()
    }

    /// A field of its `/proc/PID/status`, in bytes.
    pub fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exit_status()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(path) = &self.unix_socket {
            // Gone already if the server left in order.
            let _ = fs::remove_file(path);
        }
    }
}

/// What a process has said on both its streams.
#[derive(Default)]
struct Log {
    text: Mutex<Text>,
    more: Condvar,
}

#[derive(Default)]
struct Text {
    lines: Vec<String>,
    /// How many streams have not ended.
    open: usize,
}

impl Log {
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        self.text.lock().unwrap().open += 1;
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                log.text.lock().unwrap().lines.push(line);
                log.more.notify_all();
            }
            log.text.lock().unwrap().open -= 1;
            log.more.notify_all();
        });
    }

    /// Waits until `find` finds something, or the deadline has passed.
    fn wait<T>(&self, find: impl Fn(&Text) -> Option<T>) -> Option<T> {
        let end = Instant::now() + DEADLINE;
        let mut text = self.text.lock().unwrap();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let found = find(&text);
            if found.is_some() || left.is_zero() {
                return found;
            }
            text = self.more.wait_timeout(text, left).unwrap().0;
        }
    }
}

/// A connection to where the server on a port waits to be asked to leave.
pub fn restart_door(port: u16) -> UnixStream {
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let prefix = format!("@slapback/{port}/");
    let mut names = table
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    let name = names.find(|name| name.starts_with(&prefix)).unwrap();
    let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
    let socket = UnixStream::connect_addr(&address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}
