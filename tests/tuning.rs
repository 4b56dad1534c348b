//! `kernel-tuning/`: its script on copies of the kernel's files, and that `slapback check` says the
//! same. What it does in namespaces is in `tuning_alone.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::directory;
use slapback::tuning::{self, OPEN_FILES, Wanted};
use tune::{Said, folder, script_with, tune};

mod harness;
mod tune;

const SLOW_START_KEPT: &str = "net.ipv4.tcp_slow_start_after_idle = 0";

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

/// What is not there for now, as a module's settings, comes back; what was raised stays raised.
#[test]
fn a_kept_line_stays_unless_it_would_lower_a_setting_at_the_next_boot() {
    let root = copy("raised");
    let script = folder().join("tune.sh");
    let apply = || {
        let said = tune(&script, &["--apply", "--root", root.to_str().unwrap()]);
        assert_eq!(said.err, "");
        let kept = fs::read_to_string(root.join("etc/sysctl.d/90-slapback.conf")).unwrap();
        ["net.core.somaxconn = 4096", SLOW_START_KEPT].map(|line| kept.lines().any(|l| l == line))
    };
    let somaxconn = root.join("proc/sys/net/core/somaxconn");
    assert_eq!(apply(), [true, true]);
    fs::remove_file(root.join("proc/sys/net/ipv4/tcp_slow_start_after_idle")).unwrap();
    assert_eq!(apply(), [true, true]);
    fs::write(somaxconn, "65535\n").unwrap();
    assert_eq!(apply(), [false, true]);
}

#[test]
fn with_enough_of_everything_there_is_nothing_to_do() {
    let root = copy("enough");
    let list = "fs.nr_open\tmin\t1048576\tmachine\tso\tthere\n\
                net.ipv4.ip_local_port_range\trange\t40000 50000\tnetwork\tso\tthere";
    let script = script_with("tuning-enough", list);
    for mode in ["--check", "--apply"] {
        let said = tune(&script, &[mode, "--root", root.to_str().unwrap()]);
        assert_eq!((said.err.as_str(), said.code), ("", Some(0)));
        assert_eq!(
            said.row("fs.nr_open"),
            ["ok", "1048576", "at least 1048576 (machine)"]
        );
        let without_end_of_line = said.row("net.ipv4.ip_local_port_range");
        assert_eq!(without_end_of_line[..2], ["ok", "32768 60999"]);
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
