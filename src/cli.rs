//! The command line: `start`, `check`, `health`, `restart`, and Reverb's own spelling of two.
//!
//! Called by `main`. Reads what was asked for; never does it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::iter;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use clap::Parser;

use crate::config::Flags;

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
}
