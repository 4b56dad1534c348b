//! Lists, comparisons, and a file system of its own for the kernel's values.

use std::path::PathBuf;

use super::*;

/// A root with these files and their texts below it.
fn root(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let root = std::env::temp_dir().join(format!("slapback-tuning-{}-{name}", std::process::id()));
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn found_below(name: &str, files: &[(&str, &str)], port: u16) -> Vec<Finding> {
    let root = root(name, files);
    let findings = findings(&root, port);
    fs::remove_dir_all(root).unwrap();
    findings
}

#[test]
fn the_list_can_be_read_and_names_each_setting_once() {
    let settings = parse(LIST).unwrap();
    let mut names: Vec<_> = settings.iter().map(|setting| setting.name).collect();
    assert!(names.contains(&"net.core.somaxconn") && names.contains(&OPEN_FILES));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for setting in settings {
        let is_process = setting.owner == Owner::Process;
        assert_eq!(is_process, setting.name == OPEN_FILES, "{setting:?}");
        if let Wanted::Range(from, to) = setting.wanted {
            assert!(8080 < from && from < to && to <= 65_535, "{setting:?}");
        }
    }
}

#[test]
fn a_row_is_six_columns() {
    let setting = Setting {
        name: "a.b",
        wanted: Wanted::Range(1, 20),
        owner: Owner::Network,
        why: "so",
    };
    let list = "# a\tb\n\na.b\trange\t1 20\tnetwork\tso\tthere\n";
    assert_eq!(parse(list), Ok(vec![setting]));
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    for (row, error) in [
        (
            "a\tmin\t1\tmachine\tso",
            "not six columns: a\tmin\t1\tmachine\tso",
        ),
        ("a\tmin\t1\tmachine\t\tthere", "a: a column is empty"),
        (
            "a\tmost\t1\tmachine\tso\tthere",
            "a: unknown comparison most",
        ),
        ("a\tmin\t1\thost\tso\tthere", "a: unknown owner host"),
        (
            "a\tmin\t+1\tmachine\tso\tthere",
            "a: +1 is not to be compared by min",
        ),
        (
            "a\tis\t1 2\tmachine\tso\tthere",
            "a: 1 2 is not to be compared by is",
        ),
        (
            "a\trange\t1\tmachine\tso\tthere",
            "a: 1 is not to be compared by range",
        ),
        (
            "a\trange\t1 2 3\tmachine\tso\tthere",
            "a: 1 2 3 is not to be compared by range",
        ),
    ] {
        assert_eq!(parse(row), Err(error.to_owned()));
    }
}

#[test]
fn enough_is_what_the_comparison_says() {
    for (wanted, found, is_met) in [
        (Wanted::AtLeast(10), "10", Some(true)),
        (Wanted::AtLeast(10), "9", Some(false)),
        (Wanted::AtLeast(10), "18446744073709551615", Some(true)),
        (Wanted::AtLeast(10), "unlimited", Some(true)),
        (Wanted::AtLeast(10), "", None),
        (Wanted::AtLeast(10), "-1", None),
        (Wanted::Just(0), "0", Some(true)),
        (Wanted::Just(0), "1", Some(false)),
        (Wanted::Just(0), "unlimited", None),
        (Wanted::Range(10, 20), "10 20", Some(true)),
        (Wanted::Range(10, 20), "9 21", Some(true)),
        (Wanted::Range(10, 20), "11 21", Some(false)),
        (Wanted::Range(10, 20), "9 19", Some(false)),
        (Wanted::Range(10, 20), "9", None),
    ] {
        assert_eq!(wanted.is_met_by(found), is_met, "{wanted:?} {found}");
    }
}

#[test]
fn each_setting_is_told_with_what_was_found() {
    let findings = found_below(
        "told",
        &[
            (
                "proc/self/limits",
                "Max open files            1024                 4096                 files     \n",
            ),
            ("proc/sys/fs/file-max", "9223372036854775807\n"),
            ("proc/sys/net/core/somaxconn", "128\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "10240\t65535\n"),
        ],
        0,
    );
    let told = |name: &str| {
        let mut findings = findings.iter().filter(|finding| finding.name == name);
        let finding = findings.next().unwrap();
        (finding.found.clone(), finding.note.clone())
    };
    assert_eq!(findings.len(), parse(LIST).unwrap().len());
    let (found, note) = told("net.core.somaxconn");
    assert_eq!(found, "128");
    assert!(
        note.starts_with("wanted: at least 4096 (network): connections that "),
        "{note}"
    );
    let (found, note) = told(OPEN_FILES);
    assert_eq!(found, "4096");
    assert!(
        note.starts_with("wanted: at least 1048576 (process): files of "),
        "{note}"
    );
    for (name, found, note) in [
        (
            "fs.file-max",
            "unlimited",
            "as wanted: at least 2097152 (machine)",
        ),
        (
            "net.ipv4.ip_local_port_range",
            "10240 65535",
            "as wanted: 10240 65535 or wider (network)",
        ),
        (
            "fs.nr_open",
            "none",
            "not seen here; wanted: at least 1048576 (machine)",
        ),
    ] {
        assert_eq!(told(name), (found.to_owned(), note.to_owned()));
    }
}

#[test]
fn a_port_that_connections_may_take_is_told_unless_it_is_reserved() {
    let told = |port: u16, reserved: &str| {
        let range = ("proc/sys/net/ipv4/ip_local_port_range", "10240\t65535\n");
        let reserved = ("proc/sys/net/ipv4/ip_local_reserved_ports", reserved);
        let findings = found_below(&format!("port-{port}"), &[range, reserved], port);
        let is_it = |finding: &Finding| finding.name == "net.ipv4.ip_local_reserved_ports";
        let finding = findings.into_iter().find(is_it)?;
        Some((finding.found, finding.note))
    };
    for (port, reserved) in [
        (0, "\n"),
        (8080, "\n"),
        (10_239, "\n"),
        (20_000, "20000\n"),
        (20_000, "8080,19999-20001,30000\n"),
    ] {
        assert_eq!(told(port, reserved), None, "{port} {reserved}");
    }
    for (port, reserved, found) in [
        (10_240, "\n", "none"),
        (20_000, "8080,20001-20002\n", "8080,20001-20002"),
        (65_535, "\n", "none"),
    ] {
        let (told, note) = told(port, reserved).unwrap();
        assert_eq!(told, found);
        assert!(
            note.starts_with(&format!("wanted: {port} among them (network): ")),
            "{note}"
        );
    }
}
