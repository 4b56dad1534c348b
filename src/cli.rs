//! The command line: `start`, `check`, `health`, `restart`, and Reverb's own spelling of two.
//!
//! Called by `main`. Reads flags and runs the commands that need no fleet; never starts one.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::iter;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::config::{Address, Flags, host_in_url};

/// What the operator asked for.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Serve until told to stop.
    #[command(visible_alias = "reverb:start")]
    Start(Flags),
    /// Print the configuration, where each value comes from, and what this machine gives.
    ///
    /// Secrets are masked. Leaves with 0 if `start` would serve, else as `start` would.
    Check(Flags),
    /// Ask the running server for `/up` and leave: 0 if it answers 200.
    Health(Flags),
    /// Ask the running server to drain and leave, for its supervisor to start it anew.
    ///
    /// That is the server on the configured port, or if no port is configured the only one there
    /// is. Leaves with 1 if there is none; `reverb:restart` then leaves with 0, as Reverb's does.
    Restart(Flags),
    /// The same in Reverb's spelling: no server is no failure.
    #[command(name = "reverb:restart", hide = true)]
    ReverbRestart(Flags),
}

#[derive(clap::Parser)]
#[command(name = "slapback", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Reads the command line, program name first.
///
/// The error is also how `--help` and `--version` come: its `exit()` prints and leaves with 0 for
/// these and 2 for bad usage.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, clap::Error> {
    Cli::try_parse_from(translated(args.collect())).map(|cli| cli.command)
}

/// Takes away what stands before a command in Reverb's spelling, `php artisan` that is, and
/// artisan's own flags.
fn translated(mut args: Vec<OsString>) -> Vec<OsString> {
    let is_reverbs = |word: &OsString| word == "reverb:start" || word == "reverb:restart";
    let Some(position) = args.iter().position(is_reverbs) else {
        return args;
    };
    let ours = args.split_off(position);
    args.truncate(1);
    args.extend(
        ours.into_iter()
            .filter(|flag| !is_artisans(&flag.to_string_lossy())),
    );
    args
}

fn is_artisans(flag: &str) -> bool {
    ARTISANS_FLAGS.contains(&flag) || flag.starts_with("--env=")
}

/// Fills up the flags of a health check with those that the server of its container was started
/// with: nobody tells the check, and it has to ask where they say.
pub fn with_flags_of_the_container(flags: Flags) -> Flags {
    let first_process = fs::read("/proc/1/cmdline").ok();
    match first_process.and_then(|line| flags_of_a_start(&line)) {
        Some(of_server) => flags.or(of_server),
        None => flags,
    }
}

/// The flags in a process's command line, as the kernel shows it, if it starts a server. It may be
/// an init's that has the server's behind its own.
fn flags_of_a_start(line: &[u8]) -> Option<Flags> {
    let words = line.strip_suffix(b"\0")?.split(|&byte| byte == 0);
    let words: Vec<_> = words
        .map(|word| OsStr::from_bytes(word).to_owned())
        .collect();
    let is_binary = |word: &OsString| Path::new(word).file_name() == Some(OsStr::new("slapback"));
    let begin = match words.iter().position(is_binary) {
        Some(place) => place + 1,
        None => words.iter().position(|word| word == "reverb:start")?,
    };
    let program = OsString::from("slapback");
    match parse(iter::once(program).chain(words.into_iter().skip(begin))) {
        Ok(Command::Start(flags)) => Some(flags),
        _ => None,
    }
}

/// Asks a running server for `/up`: the line to print, `Ok` for exit 0 and `Err` for exit 1.
pub fn health(address: &Address) -> Result<String, String> {
    let host = match address.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let shown = host_in_url(host);
    let url = format!("http://{shown}:{}{}/up", address.port, address.path);
    match status(host, &shown, address) {
        Ok(200) => Ok(format!("{url} is up")),
        Ok(status) => Err(format!("{url} answered {status}")),
        Err(error) => Err(format!("{url} does not answer: {error}")),
    }
}

/// The status of `GET /up`, all within [`HEALTH_WAIT`].
fn status(host: &str, shown: &str, address: &Address) -> io::Result<u16> {
    let until = Instant::now() + HEALTH_WAIT;
    let left = || match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for target in (host, address.port).to_socket_addrs()? {
        let mut stream = match TcpStream::connect_timeout(&target, left()?) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        stream.set_write_timeout(Some(left()?))?;
        let (port, path) = (address.port, &address.path);
        let head =
            format!("GET {path}/up HTTP/1.1\r\nHost: {shown}:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut line = Vec::new();
        let mut buffer = [0; 64];
        while line.len() < STATUS_LINE_BYTES {
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(&mut buffer)? {
                0 => break,
                count => line.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            }
        }
        return parse_status(&line)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is not HTTP"));
    }
    Err(last)
}

/// The three digits of `HTTP/1.1 200`.
fn parse_status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.get(..STATUS_LINE_BYTES)?).ok()?;
    line.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

const STATUS_LINE_BYTES: usize = "HTTP/1.1 200".len();
const HEALTH_WAIT: Duration = Duration::from_secs(2);
const ARTISANS_FLAGS: [&str; 11] = [
    "-n",
    "--no-interaction",
    "-q",
    "--quiet",
    "--silent",
    "-v",
    "-vv",
    "-vvv",
    "--verbose",
    "--ansi",
    "--no-ansi",
];

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn command(line: &str) -> Result<Command, clap::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn flags_of(line: &str) -> Flags {
        match command(line).unwrap() {
            Command::Start(flags)
            | Command::Check(flags)
            | Command::Health(flags)
            | Command::Restart(flags)
            | Command::ReverbRestart(flags) => flags,
        }
    }

    #[test]
    fn start_takes_every_flag() {
        let flags = flags_of(
            "slapback start --host ::1 --port=9000 --path ws --hostname a.test --config c.toml \
             --demo --debug",
        );
        let expected = Flags {
            host: Some("::1".into()),
            port: Some("9000".into()),
            path: Some("ws".into()),
            hostname: Some("a.test".into()),
            config: Some("c.toml".into()),
            demo: true,
            debug: true,
        };
        assert_eq!(flags, expected);
    }

    #[test]
    fn r248_words_before_reverb_start_are_ignored() {
        let line = "slapback php -d memory_limit=-1 artisan reverb:start --host=0.0.0.0 \
                    --port=8080 --path=ws --hostname=a.test --debug";
        let Ok(Command::Start(flags)) = command(line) else {
            panic!("not a start")
        };
        assert_eq!(flags.host.as_deref(), Some("0.0.0.0"));
        assert_eq!(flags.port.as_deref(), Some("8080"));
        assert_eq!(flags.path.as_deref(), Some("ws"));
        assert_eq!(flags.hostname.as_deref(), Some("a.test"));
        assert!(flags.debug);
    }

    #[test]
    fn restart_has_two_spellings() {
        let flags = Flags {
            port: Some("9000".into()),
            ..Flags::default()
        };
        let ours = command("slapback restart --port=9000").unwrap();
        assert_eq!(ours, Command::Restart(flags.clone()));
        let reverbs = command("slapback php artisan reverb:restart --port=9000 --no-ansi");
        assert_eq!(reverbs.unwrap(), Command::ReverbRestart(flags));
    }

    #[test]
    fn flags_of_artisan_itself_are_ignored() {
        let flags = flags_of("slapback artisan reverb:start --no-interaction -vvv --env=local");
        assert_eq!(flags, Flags::default());
    }

    #[test]
    fn bad_usage_leaves_with_2_and_help_with_0() {
        for line in [
            "slapback",
            "slapback serve",
            "slapback start --prot 1",
            "slapback start -v",
            "slapback reverb:start --prot=1",
            "slapback restart now",
        ] {
            assert_eq!(command(line).unwrap_err().exit_code(), 2, "{line}");
        }
        for line in [
            "slapback --help",
            "slapback --version",
            "slapback start --help",
        ] {
            assert_eq!(command(line).unwrap_err().exit_code(), 0, "{line}");
        }
    }

    #[test]
    fn a_health_check_takes_the_flags_of_the_server_that_its_container_starts() {
        let flags = |line: &str| flags_of_a_start(line.replace(' ', "\0").as_bytes());
        let of_server = Flags {
            port: Some("9000".to_owned()),
            debug: true,
            ..Flags::default()
        };
        for line in [
            "slapback start --port=9000 --debug ",
            "/usr/local/bin/slapback reverb:start --port 9000 --debug -v ",
            "/sbin/docker-init -- php artisan reverb:start --port=9000 --debug ",
            "tini -- slapback start --port=9000 --debug ",
        ] {
            assert_eq!(flags(line), Some(of_server.clone()), "{line}");
        }
        for line in [
            "/sbin/init ",
            "slapback health --port=9000 ",
            "sh -c start ",
            "",
        ] {
            assert_eq!(flags(line), None, "{line}");
        }
        let of_check = flags_of("slapback health --port=9001 --host ::1");
        let asked = of_check.or(of_server);
        assert_eq!(
            (asked.port, asked.host.as_deref()),
            (Some("9001".to_owned()), Some("::1"))
        );
    }

    fn health_against(answer: &'static str) -> (Result<String, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 512];
            let count = stream.read(&mut buffer).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&buffer[..count]).replace(&port.to_string(), "PORT")
        });
        let address = Address {
            host: "0.0.0.0".into(),
            port,
            path: "/ws".into(),
            is_port_said: true,
        };
        let outcome = health(&address);
        let outcome = match outcome {
            Ok(line) => Ok(line.replace(&port.to_string(), "PORT")),
            Err(line) => Err(line.replace(&port.to_string(), "PORT")),
        };
        (outcome, server.join().unwrap())
    }

    #[test]
    fn health_is_up_on_200_alone() {
        let (outcome, request) = health_against("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(outcome.unwrap(), "http://127.0.0.1:PORT/ws/up is up");
        assert_eq!(
            request,
            "GET /ws/up HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nConnection: close\r\n\r\n"
        );
        let (outcome, _) = health_against("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(
            outcome.unwrap_err(),
            "http://127.0.0.1:PORT/ws/up answered 503"
        );
        let (outcome, _) = health_against("SSH-2.0-OpenSSH_9.6\r\n");
        assert!(outcome.unwrap_err().ends_with("this is not HTTP"));
    }

    #[test]
    fn health_of_a_silent_port_fails_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let began = Instant::now();
        let address = Address {
            host: "127.0.0.1".into(),
            port,
            path: String::new(),
            is_port_said: true,
        };
        assert!(health(&address).is_err());
        assert!(began.elapsed() < HEALTH_WAIT * 2);
        drop(listener);
        assert!(health(&address).unwrap_err().contains("does not answer"));
    }
}
