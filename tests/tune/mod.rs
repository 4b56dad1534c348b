//! `kernel-tuning/tune.sh` as `tuning.rs` and `tuning_alone.rs` run it.
#![allow(dead_code)] // each test crate uses its part of it

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::harness::directory;

/// Where the script and its list lie.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel-tuning")
}

/// The script in a folder of its own, with this list beside it.
pub(crate) fn script_with(name: &str, list: &str) -> PathBuf {
    let directory = directory(name);
    fs::write(directory.join("settings.tsv"), list).unwrap();
    let script = directory.join("tune.sh");
    fs::copy(folder().join("tune.sh"), &script).unwrap();
    script
}

/// What a run of the script said, and its exit status.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
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
    pub(crate) fn rows(&self) -> Vec<[String; 4]> {
        let rows = self.out.lines().filter_map(|line| {
            let (state, rest) = line.split_once(' ')?;
            let (name, rest) = rest.trim_start().split_once(" = ")?;
            let (found, wanted) = rest.split_once(", wanted: ")?;
            Some([state, name, found, wanted].map(str::to_owned))
        });
        rows.collect()
    }

    /// The row of a setting: state, found, wanted and whose.
    pub(crate) fn row(&self, name: &str) -> [String; 3] {
        let mut rows = self.rows().into_iter();
        let row = rows.find(|[_, of_row, ..]| of_row == name);
        let [state, _, found, wanted] = row.unwrap_or_else(|| panic!("no {name} in {self:?}"));
        [state, found, wanted]
    }
}

/// Runs a script. By `sh`: a file that was just written may not be executed for a moment, as long as
/// another thread's child still has it open.
pub(crate) fn tune(script: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new("sh");
    command.arg(script).args(arguments);
    command.output().unwrap().into()
}
