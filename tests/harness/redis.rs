//! A real `redis-server` of a test's own, and a connection that says commands to it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::DEADLINE;

/// A running Redis on a free port of 127.0.0.1. Dropping it kills the process.
pub struct Redis {
    pub port: u16,
    arguments: Vec<String>,
    child: Child,
}

impl Redis {
    /// Starts one that keeps nothing on disk and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further arguments, such as `["--requirepass", "secret"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_as(&[arguments, &["--save", "", "--appendonly", "no"]].concat())
    }

    fn start_as(arguments: &[&str]) -> Self {
        loop {
            let port = free_port();
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            // Somebody else may have taken the port in between.
            if let Some(child) = spawn(port, &arguments) {
                return Self {
                    port,
                    arguments,
                    child,
                };
            }
        }
    }

    /// A sentinel that watches a master under this name; two of them must agree that it is gone.
    pub fn sentinel(service: &str, master: &Self) -> Self {
        // It writes what it learns into its configuration.
        let file = super::directory("sentinels").join(format!("{}.conf", fastrand::u64(..)));
        let port = master.port;
        let text = format!(
            "sentinel monitor {service} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {service} 1000\n\
             sentinel failover-timeout {service} 5000\n"
        );
        fs::write(&file, text).unwrap();
        Self::start_as(&[file.to_str().unwrap(), "--sentinel"])
    }

    /// Waits until a sentinel knows of so many other sentinels, and of so many replicas.
    pub fn knows(&self, service: &str, sentinels: usize, replicas: usize) {
        let end = Instant::now() + DEADLINE;
        let mut client = self.client();
        let mut count = |what: &str| {
            client
                .ask(&["SENTINEL", what, service])
                .matches("runid")
                .count()
        };
        while count("SENTINELS") < sentinels || count("REPLICAS") < replicas {
            assert!(
                Instant::now() < end,
                "the sentinels do not find one another"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The URL of it without name and password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it anew on the same port.
    pub fn revive(&mut self) {
        self.child = spawn(self.port, &self.arguments).expect("its port is taken");
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to it.
    pub fn client(&self) -> RedisClient {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        RedisClient(BufReader::new(stream))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 that nobody listens on, below those that the kernel gives to whoever
/// connects: a Redis that is away for a while must find its own free again.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(10_000..32_000))
        .find(is_free)
        .unwrap()
}

fn spawn(port: u16, arguments: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(arguments)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests need redis-server");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_ready = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("Ready to accept") || line.contains("Sentinel ID is"));
    // Or it would wait for somebody to read what it says.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    if is_ready {
        return Some(child);
    }
    child.wait().unwrap();
    None
}

/// A connection to a Redis.
pub struct RedisClient(BufReader<TcpStream>);

impl RedisClient {
    /// Says a command and gives the answer as text, one element a line.
    pub fn ask(&mut self, parts: &[&str]) -> String {
        self.say(parts);
        self.hear()
    }

    /// Says a command without waiting for the answer.
    pub fn say(&mut self, parts: &[&str]) {
        let mut command = format!("*{}\r\n", parts.len());
        for part in parts {
            write!(command, "${}\r\n{part}\r\n", part.len()).unwrap();
        }
        self.0.get_mut().write_all(command.as_bytes()).unwrap();
    }

    /// The next answer, or the next message of a subscription, one element a line.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "$" if rest == "-1" => String::new(),
            "$" => {
                let mut bulk = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut bulk).unwrap();
                String::from_utf8_lossy(&bulk[..bulk.len() - 2]).into_owned()
            }
            "*" => {
                let count = rest.parse().unwrap();
                let elements: Vec<_> = (0..count).map(|_| self.hear()).collect();
                elements.join("\n")
            }
            _ => rest.to_owned(),
        }
    }

    /// Makes a user of this name, or gives it further rules: passwords, commands, channels.
    pub fn set_user(&mut self, name: &str, rules: &[&str]) {
        let command = [&["ACL", "SETUSER", name], rules].concat();
        assert_eq!(self.ask(&command), "OK");
    }

    /// Publishes and gives how many subscribers Redis had for it.
    pub fn publish(&mut self, channel: &str, payload: &str) -> usize {
        self.ask(&["PUBLISH", channel, payload]).parse().unwrap()
    }
}
