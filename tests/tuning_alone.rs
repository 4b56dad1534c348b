//! `kernel-tuning/tune.sh --apply` in namespaces, and what its list says of ports and backlogs.
//!
//! Nothing of the machine is written: whatever is not a namespace's own is mounted so that it cannot
//! be.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use harness::{FLEETS, Server, alone};
use slapback::tuning::{self, Owner, Wanted};
use tune::{Said, script_with};

mod harness;
mod tune;

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
/// Seen in the network of the machine and in no other.
const OF_MACHINE: &str = "/proc/sys/net/core/netdev_max_backlog";

/// Sets what belongs to this network namespace.
fn set(path: &str, value: &str) {
    assert!(
        !Path::new(OF_MACHINE).exists(),
        "this is the machine's network"
    );
    fs::write(path, value).unwrap();
}

/// Runs the script with `--apply` in these namespaces, where what is `protected` cannot be written
/// and `/etc` is empty. Ends with the names of what is kept.
fn apply(namespaces: &[&str], protected: &str, script: &Path) -> Said {
    let steps = r#"
        mount --bind "$1" "$1"
        mount -o remount,bind,ro "$1"
        mount -t tmpfs tmpfs /etc
        mkdir /etc/sysctl.d
        code=0
        sh "$2" --apply || code=$?
        ls /etc/sysctl.d
        exit $code
    "#;
    let mut command = Command::new("unshare");
    command.args(namespaces);
    command
        .args(["sh", "-euc", steps, "sh", protected])
        .arg(script);
    command.output().unwrap().into()
}

/// A list of which the machine falls short, whatever it is.
const NEVER_MET: &str = "\
    fs.nr_open\tmin\t2147483584\tmachine\tso\tthere\n\
    net.core.somaxconn\tmin\t70000\tnetwork\tso\tthere\n\
    net.ipv4.ip_local_port_range\trange\t2000 65535\tnetwork\tso\tthere\n";

const LEFT: &str =
    "-> left as it is: to be set on the machine itself, or where this network is made\n";
const NOT_KEPT: &str = "nothing is kept for the next boot: this is not the machine itself\n";

#[test]
fn in_a_network_namespace_that_is_set_and_nothing_of_the_machine() {
    alone(|| {
        let files = fs::read_to_string("/proc/sys/fs/nr_open").unwrap();
        set(SOMAXCONN, "128");
        let script = script_with("tuning-namespace", NEVER_MET);
        let said = apply(&["--mount"], "/proc/sys/fs", &script);
        assert_eq!((said.err.as_str(), said.code), ("", Some(1)), "{said:?}");
        let [state, found, _] = said.row("fs.nr_open");
        assert_eq!([state.as_str(), &found], ["short", files.trim()]);
        let rest = said.out.split_once(LEFT).unwrap().1;
        let expected = format!(
            "set     net.core.somaxconn = 70000, wanted: at least 70000 (network)\n        \
             so [there]\n        -> was 128\n\
             set     net.ipv4.ip_local_port_range = 2000 65535, wanted: 2000 65535 or wider \
             (network)\n        so [there]\n        -> was 32768 60999\n{NOT_KEPT}"
        );
        assert_eq!(rest, expected);
        assert_eq!(fs::read_to_string(SOMAXCONN).unwrap(), "70000\n");
        assert_eq!(fs::read_to_string("/proc/sys/fs/nr_open").unwrap(), files);
    });
}

#[test]
fn in_a_container_on_the_network_of_the_machine_nothing_is_set() {
    if !Path::new(OF_MACHINE).exists() {
        return eprintln!("not shown: this is not the network of a machine");
    }
    let script = script_with("tuning-guest", NEVER_MET);
    for namespaces in [
        &["--map-root-user", "--mount"][..],
        &[
            "--map-root-user",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
        ],
    ] {
        let said = apply(namespaces, "/proc/sys", &script);
        assert_eq!((said.err.as_str(), said.code), ("", Some(1)), "{said:?}");
        assert_eq!(said.out.matches(LEFT).count(), 3, "{said:?}");
        assert!(said.out.ends_with(NOT_KEPT), "{said:?}");
    }
}

/// What is set there is not shown, since nothing of the machine may be: only that it is tried.
#[test]
#[ignore = "only root is on the machine itself: part of make test-slow"]
fn on_the_machine_itself_everything_would_be_set() {
    let script = script_with("tuning-machine", NEVER_MET);
    let said = apply(&["--mount"], "/proc/sys", &script);
    assert_eq!((said.err.as_str(), said.code), ("", Some(1)), "{said:?}");
    let tried = "-> cannot be written: only root may, and not where /proc/sys is read-only\n";
    assert_eq!(said.out.matches(tried).count(), 3, "{said:?}");
    assert!(said.out.ends_with(tried), "something is kept: {said:?}");
}

#[test]
fn a_shard_asks_for_as_many_waiting_connections_as_the_list_wants() {
    alone(|| {
        let settings = tuning::parse(tuning::LIST).unwrap();
        let mut settings = settings.into_iter();
        let somaxconn = settings
            .find(|setting| setting.name == "net.core.somaxconn")
            .unwrap();
        assert_eq!(somaxconn.owner, Owner::Network);
        for (allowed, got) in [("100", Wanted::AtLeast(100)), ("1000000", somaxconn.wanted)] {
            set(SOMAXCONN, allowed);
            let server = Server::start(FLEETS[0], &[]);
            let listens = Command::new("ss").args(["-Hltn"]).output().unwrap();
            let listens = String::from_utf8(listens.stdout).unwrap();
            let port = format!(":{} ", server.port);
            let line = listens.lines().find(|line| line.contains(&port)).unwrap();
            let backlog = line.split_whitespace().nth(2).unwrap();
            assert_eq!(Wanted::AtLeast(backlog.parse().unwrap()), got, "{line}");
        }
    });
}

/// Why the range of local ports must not hold the server's own, or only reserved.
#[test]
fn an_outgoing_connection_on_its_port_keeps_the_server_from_starting() {
    alone(|| {
        let other = TcpListener::bind("127.0.0.1:9000").unwrap();
        let to_other = || TcpStream::connect(other.local_addr().unwrap()).unwrap();
        let start = || {
            let app = ["ID", "KEY", "SECRET"].map(|name| (format!("REVERB_APP_{name}"), name));
            let app: Vec<_> = app
                .iter()
                .map(|(name, value)| (name.as_str(), *value))
                .collect();
            Server::launch(&["start", "--host=127.0.0.1", "--port=8080"], &app)
        };
        set(PORT_RANGE, "8080 8081");
        set(RESERVED_PORTS, "8080");
        let elsewhere = to_other();
        assert_eq!(elsewhere.local_addr().unwrap().port(), 8081);
        start().listens();
        set(RESERVED_PORTS, "\n");
        let in_the_way = to_other();
        assert_eq!(in_the_way.local_addr().unwrap().port(), 8080);
        let mut server = start();
        assert_eq!(server.exit_status().code(), Some(1), "{}", server.said());
        server.says("cannot listen on 127.0.0.1:8080");
    });
}
