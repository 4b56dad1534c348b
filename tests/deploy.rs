//! The files of `deploy/`, as far as can be tried without being root: `make container` tries all.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the image's `php`, which finds nothing in `PATH` but Slapback, and that finds no app.
fn php(arguments: &str) -> Output {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_slapback"));
    let mut command = Command::new(root().join("deploy/php"));
    command.args(arguments.split_whitespace()).env_clear();
    command.env("PATH", binary.parent().unwrap());
    command.current_dir(env!("CARGO_TARGET_TMPDIR"));
    command.output().unwrap()
}

#[test]
fn r248_the_images_php_starts_slapback_for_reverb_start() {
    for arguments in [
        "artisan reverb:start",
        "artisan reverb:start --host=0.0.0.0 --port=8080 --debug",
        "/var/www/html/artisan reverb:start -vvv",
        "-d memory_limit=512M artisan --env=production --no-ansi reverb:start",
        "artisan --env production reverb:start",
    ] {
        let done = php(arguments);
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.starts_with("slapback: no app to serve: "), "{said}");
    }
    let done = php("artisan reverb:start --port=65536");
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.starts_with("slapback: --port: "), "{said}");
}

#[test]
fn the_images_php_has_nothing_to_do_for_the_rest_of_artisan() {
    for (arguments, command) in [
        ("artisan queue:work --tries=3", "queue:work"),
        ("artisan help reverb:start", "help"),
        ("./artisan --env=local migrate --force", "migrate"),
        ("artisan --env", "list"),
        ("artisan", "list"),
    ] {
        let done = php(arguments);
        assert_eq!(done.status.code(), Some(0), "{arguments}");
        assert_eq!(
            String::from_utf8(done.stdout).unwrap(),
            format!(
                "slapback: artisan {command} has nothing to do in this image, \
                 which serves WebSockets alone\n"
            )
        );
    }
}

#[test]
fn the_images_php_is_no_php() {
    for arguments in ["", "-v", "-r echo", "vendor/bin/pest reverb:start"] {
        let done = php(arguments);
        assert_eq!(done.status.code(), Some(127), "{arguments}");
        assert_eq!(
            String::from_utf8(done.stderr).unwrap(),
            "slapback: there is no PHP in this image, only artisan reverb:start and reverb:restart\n"
        );
    }
}

#[test]
fn the_profile_allows_io_uring_by_the_rule_that_allows_the_older_calls() {
    let text = fs::read_to_string(root().join("deploy/seccomp.json")).unwrap();
    let profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rules = profile["syscalls"].as_array().unwrap();
    let names = |rule: &serde_json::Value| -> Vec<String> {
        serde_json::from_value(rule["names"].clone()).unwrap()
    };
    let with_rings: Vec<_> = rules
        .iter()
        .filter(|rule| names(rule).iter().any(|name| name.starts_with("io_uring_")))
        .collect();
    let [rule] = with_rings[..] else {
        panic!("{} rules name io_uring", with_rings.len())
    };
    assert_eq!(rule["action"], "SCMP_ACT_ALLOW");
    for call in ["enter", "register", "setup"] {
        assert!(names(rule).contains(&format!("io_uring_{call}")), "{call}");
    }
    assert!(names(rule).contains(&"io_submit".to_owned()));
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
}

#[test]
fn the_image_is_built_by_a_rust_that_is_new_enough() {
    let dockerfile = fs::read_to_string(root().join("deploy/Dockerfile")).unwrap();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = |text: &str, before: &str| -> (u32, u32) {
        let (_, rest) = text.split_once(before).unwrap();
        let (major, rest) = rest.split_once('.').unwrap();
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        (major.parse().unwrap(), minor.parse().unwrap())
    };
    let image = version(&dockerfile, "FROM rust:");
    assert!(image >= version(&manifest, "\nrust-version = \""));
}
