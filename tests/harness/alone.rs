//! A test in a network of its own, in which every port is free and no other server runs.

use std::process::{Command, Stdio};

/// Runs `body` in a network namespace that it has for itself: the test binary starts itself anew
/// in there for the test that is running.
pub fn alone(body: impl FnOnce()) {
    const INSIDE: &str = "SLAPBACK_TEST_ALONE";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let thread = std::thread::current();
    let name = thread.name().unwrap();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-ec"])
        .args(["ip link set lo up; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--include-ignored", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("1 passed"), "{name} is not found: {out}");
}
