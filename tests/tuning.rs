//! `kernel-tuning/`: its script on copies and in namespaces, and that `slapback check` says the same.
//!
//! Nothing of the machine is written. Where the script runs in a namespace, whatever is not that
//! namespace's own is mounted so that it cannot be.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::{FLEETS, Server, alone, directory};
use slapback::tuning::{self, OPEN_FILES, Owner, Wanted};

mod harness;

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel-tuning")
}

/// The script in a folder of its own, with this list beside it.
fn script_with(name: &str, list: &str) -> PathBuf {
    let directory = directory(name);
    fs::write(directory.join("settings.tsv"), list).unwrap();
    let script = directory.join("tune.sh");
    fs::copy(folder().join("tune.sh"), &script).unwrap();
    script
}

/// What a run of the script said, and its exit status.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }
}

impl Said {
    /// The rows: state, name, found, wanted and whose.
    fn rows(&self) -> Vec<[String; 4]> {
        let rows = self.out.lines().filter_map(|line| {
            let (state, rest) = line.split_once(' ')?;
            let (name, rest) = rest.trim_start().split_once(" = ")?;
            let (found, wanted) = rest.split_once(", wanted: ")?;
            Some([state, name, found, wanted].map(str::to_owned))
        });
        rows.collect()
    }

    fn row(&self, name: &str) -> [String; 3] {
        let mut rows = self.rows().into_iter();
        let row = rows.find(|[_, of_row, ..]| of_row == name);
        let [state, _, found, wanted] = row.unwrap_or_else(|| panic!("no {name} in {self:?}"));
        [state, found, wanted]
    }
}

fn tune(script: &Path, arguments: &[&str]) -> Said {
    let output = Command::new(script).args(arguments).output().unwrap();
    output.into()
}

#[test]
fn the_script_and_slapback_check_tell_the_same_of_each_setting() {
    let script = tune(&folder().join("tune.sh"), &[]);
    let check = Command::new(env!("CARGO_BIN_EXE_slapback"))
        .args(["check", "--host=127.0.0.1", "--port=0"])
        .env_clear()
        .envs(["ID", "KEY", "SECRET"].map(|name| (format!("REVERB_APP_{name}"), name)))
        .current_dir(directory("tuning"))
        .output()
        .unwrap();
    let check = Said::from(check);
    let (_, section) = check.out.split_once("\nkernel\n").unwrap();
    let (section, _) = section.split_once("\n\n").unwrap();
    let rows = script.rows();
    let settings = tuning::parse(tuning::LIST).unwrap();
    assert_eq!(section.lines().count(), rows.len());
    assert_eq!(settings.len(), rows.len());
    for ((line, setting), [state, name, found, wanted]) in section.lines().zip(settings).zip(&rows)
    {
        let whole = match state.as_str() {
            "ok" => format!("{name} {found} as wanted: {wanted}"),
            "absent" => format!("{name} {found} not seen here; wanted: {wanted}"),
            _ => format!("{name} {found} wanted: {wanted}: {}", setting.why),
        };
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words.join(" "), whole);
        assert!(script.out.contains(&format!("        {} [", setting.why)));
    }
    let is_short = rows.iter().any(|[state, ..]| state == "short");
    assert_eq!(script.code, Some(i32::from(is_short)), "{script:?}");
    assert_eq!(check.code, Some(0));
    assert!(!section.contains("unreadable"), "{section}");
}

/// A copy of what is read of the machine, with settings that fall short.
fn copy(name: &str) -> PathBuf {
    let root = directory("tuning").join(name);
    if root.exists() {
        fs::remove_dir_all(&root).unwrap();
    }
    for (path, text) in [
        ("etc/sysctl.d/10-other.conf", "a = 1\n"),
        (
            "proc/self/limits",
            "Max open files            1024                 524288               files     \n",
        ),
        ("proc/sys/fs/nr_open", "1048576\n"),
        ("proc/sys/fs/file-max", "9223372036854775807\n"),
        ("proc/sys/net/core/somaxconn", "128\n"),
        ("proc/sys/net/ipv4/tcp_syncookies", "2\n"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn what_falls_short_in_a_copy_is_set_and_kept_once() {
    let root = copy("applied");
    let of_root = ["--root", root.to_str().unwrap()];
    let script = folder().join("tune.sh");
    let states = |said: &Said| {
        let rows = said.rows().into_iter();
        rows.map(|[state, _, found, _]| format!("{state} {found}"))
            .collect::<Vec<_>>()
    };
    let before = [
        "ok 1048576",
        "ok unlimited",
        "short 524288",
        "short 128",
        "ok 2",
    ];
    let said = tune(&script, &of_root);
    assert_eq!(states(&said)[..5], before);
    assert_eq!(
        states(&said)[5..],
        ["short 32768 60999", "short 1", "absent none"]
    );
    assert_eq!(said.code, Some(1));
    let kept = root.join("etc/sysctl.d/90-slapback.conf");
    assert!(!kept.exists(), "--check has written");

    let expected: Vec<_> = tuning::parse(tuning::LIST).unwrap();
    let line = |name: &str, value: &str| {
        let setting = expected
            .iter()
            .find(|setting| setting.name == name)
            .unwrap();
        format!("\n# {}\n{name} = {value}\n", setting.why)
    };
    let head = "# Written by tune.sh --apply of Slapback: edit settings.tsv and run it again.\n";
    let whole = [
        head,
        &line("net.core.somaxconn", "4096"),
        &line("net.ipv4.ip_local_port_range", "10240 65535"),
        &line("net.ipv4.tcp_slow_start_after_idle", "0"),
    ]
    .concat();
    for state in ["set", "ok", "ok"] {
        let said = tune(&script, &["--apply", of_root[0], of_root[1]]);
        let after = [
            "ok 1048576".to_owned(),
            "ok unlimited".to_owned(),
            "short 524288".to_owned(),
            format!("{state} 4096"),
            "ok 2".to_owned(),
            format!("{state} 10240 65535"),
            format!("{state} 0"),
            "absent none".to_owned(),
        ];
        assert_eq!(states(&said), after);
        assert_eq!((said.err.as_str(), said.code), ("", Some(1)));
        assert!(
            said.out.contains("-> left as it is: see limits.conf\n"),
            "{said:?}"
        );
        assert_eq!(fs::read_to_string(&kept).unwrap(), whole);
        let folder = fs::read_dir(kept.parent().unwrap()).unwrap();
        assert_eq!(
            folder.count(),
            2,
            "something is left beside {}",
            kept.display()
        );
    }
}

#[test]
fn a_line_that_would_lower_a_setting_at_the_next_boot_is_kept_no_longer() {
    let root = copy("raised");
    let script = folder().join("tune.sh");
    let kept = root.join("etc/sysctl.d/90-slapback.conf");
    for (somaxconn, is_kept) in [("128", true), ("4096", true), ("65535", false)] {
        fs::write(root.join("proc/sys/net/core/somaxconn"), somaxconn).unwrap();
        let said = tune(&script, &["--apply", "--root", root.to_str().unwrap()]);
        assert_eq!(said.err, "");
        let kept = fs::read_to_string(&kept).unwrap();
        assert_eq!(
            kept.contains("\nnet.core.somaxconn = 4096\n"),
            is_kept,
            "{kept}"
        );
        assert!(
            kept.contains("\nnet.ipv4.tcp_slow_start_after_idle = 0\n"),
            "{kept}"
        );
    }
}

#[test]
fn with_enough_of_everything_there_is_nothing_to_do() {
    let root = copy("enough");
    let list = "fs.nr_open\tmin\t1048576\tmachine\tso\tthere\n\
                net.ipv4.ip_local_port_range\trange\t40000 50000\tnetwork\tso\tthere\n";
    let script = script_with("tuning-enough", list);
    for mode in ["--check", "--apply"] {
        let said = tune(&script, &[mode, "--root", root.to_str().unwrap()]);
        assert_eq!((said.err.as_str(), said.code), ("", Some(0)));
        assert_eq!(
            said.row("fs.nr_open"),
            ["ok", "1048576", "at least 1048576 (machine)"]
        );
    }
    assert!(!root.join("etc/sysctl.d/90-slapback.conf").exists());
}

#[test]
fn a_list_or_a_value_that_cannot_be_compared_changes_nothing() {
    let good = "net.core.somaxconn\tmin\t4096\tnetwork\tso\tthere\n";
    for (row, error) in [
        (
            "fs.nr_open\tmost\t1\tmachine\tso\tthere",
            "fs.nr_open: unknown comparison most",
        ),
        (
            "fs.nr_open\tmin\t1\thost\tso\tthere",
            "fs.nr_open: unknown owner host",
        ),
        (
            "fs.nr_open\tmin\t1k\tmachine\tso\tthere",
            "fs.nr_open: 1k is not to be compared by min",
        ),
        (
            "fs.nr_open\trange\t1\tmachine\tso\tthere",
            "fs.nr_open: 1 is not to be compared by range",
        ),
        (
            "fs.nr_open\tmin\t1\tmachine\tso",
            "fs.nr_open: not six columns",
        ),
        (
            "fs.nr_open\tmin\t1\tmachine\tso\tthere\tno",
            "fs.nr_open: not six columns",
        ),
        (
            "fs.odd\tmin\t1\tmachine\tso\tthere",
            "fs.odd: one, as found, is not to be compared by min",
        ),
    ] {
        let root = copy("unsound");
        fs::write(root.join("proc/sys/fs/odd"), "one\n").unwrap();
        let script = script_with("tuning-unsound", &format!("{good}{row}\n"));
        let said = tune(&script, &["--apply", "--root", root.to_str().unwrap()]);
        assert_eq!(said.code, Some(2), "{row}: {said:?}");
        assert!(said.err.ends_with(&format!(": {error}\n")), "{said:?}");
        let somaxconn = fs::read_to_string(root.join("proc/sys/net/core/somaxconn")).unwrap();
        assert_eq!(somaxconn, "128\n", "{row}");
        assert!(!root.join("etc/sysctl.d/90-slapback.conf").exists());
    }
}

#[test]
fn wrong_usage_is_told_and_a_root_must_be_a_copy() {
    let script = folder().join("tune.sh");
    for arguments in [
        &["--aply"][..],
        &["--check", "now"],
        &["--root"],
        &["--root", "/nowhere"],
    ] {
        let said = tune(&script, arguments);
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(64), ""),
            "{arguments:?}"
        );
        assert!(said.err.starts_with("usage: "), "{said:?}");
    }
    let kernels = copy("kernels");
    fs::remove_dir_all(kernels.join("proc/sys")).unwrap();
    symlink("/proc/sys", kernels.join("proc/sys")).unwrap();
    let elsewhere = copy("elsewhere");
    fs::remove_dir_all(elsewhere.join("etc")).unwrap();
    symlink(copy("copied").join("etc"), elsewhere.join("etc")).unwrap();
    for (root, part) in [(kernels, "proc"), (elsewhere, "etc")] {
        let said = tune(&script, &["--check", "--root", root.to_str().unwrap()]);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
        let error = format!("{}/{part} is none\n", root.display());
        assert!(said.err.ends_with(&error), "{said:?}");
    }
    let said = tune(&script, &["--check", "--root", "/"]);
    assert!(
        matches!(said.code, Some(2 | 64)) && said.out.is_empty(),
        "{said:?}"
    );
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
        "$2" --apply || code=$?
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
        fs::write(SOMAXCONN, "128").unwrap();
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
    if !Path::new("/proc/sys/net/core/netdev_max_backlog").exists() {
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
        for (allowed, got) in [(100, Wanted::AtLeast(100)), (1_000_000, somaxconn.wanted)] {
            fs::write(SOMAXCONN, allowed.to_string()).unwrap();
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
        fs::write(PORT_RANGE, "8080 8081").unwrap();
        fs::write(RESERVED_PORTS, "8080").unwrap();
        let elsewhere = to_other();
        assert_eq!(elsewhere.local_addr().unwrap().port(), 8081);
        start().listens();
        fs::write(RESERVED_PORTS, "\n").unwrap();
        let in_the_way = to_other();
        assert_eq!(in_the_way.local_addr().unwrap().port(), 8080);
        let mut server = start();
        assert_eq!(server.exit_status().code(), Some(1), "{}", server.said());
        server.says("cannot listen on 127.0.0.1:8080");
    });
}

#[test]
fn the_page_tells_of_each_setting_what_is_wanted() {
    let page = fs::read_to_string(folder().join("README.md")).unwrap();
    for setting in tuning::parse(tuning::LIST).unwrap() {
        let tuning::Setting {
            name,
            wanted,
            owner,
            ..
        } = setting;
        let row = format!("\n| `{name}` | {wanted} | {owner} | ");
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn files_of_limits_give_what_the_list_wants() {
    let settings = tuning::parse(tuning::LIST).unwrap();
    let wanted = |name: &str| {
        let setting = settings
            .iter()
            .find(|setting| setting.name == name)
            .unwrap();
        let Wanted::AtLeast(files) = setting.wanted else {
            panic!("{setting:?}")
        };
        files
    };
    let files = wanted(OPEN_FILES);
    assert!(files <= wanted("fs.nr_open") && files < wanted("fs.file-max"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, lines) in [
        (
            "kernel-tuning/limits.conf",
            &[
                format!("slapback  soft  nofile  {files}"),
                format!("slapback  hard  nofile  {files}"),
            ][..],
        ),
        ("deploy/slapback.service", &[format!("LimitNOFILE={files}")]),
        ("deploy/compose.yml", &[format!("        hard: {files}")]),
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        for line in lines {
            assert!(text.lines().any(|found| found == line), "{file}: {line}");
        }
    }
}
