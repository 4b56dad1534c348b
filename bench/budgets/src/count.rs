//! Counts what each path takes, by running this program inside callgrind.
//!
//! What callgrind wrote is kept beside the program, one file for each path, for
//! `callgrind_annotate`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

use crate::Failure;

/// Says to this program that callgrind counts.
pub const INSIDE: &str = "inside-callgrind";

/// The function that is counted; callgrind writes a file each time that it returns.
const COUNTED: &str = "slapback_budgets::paths::counted_by_callgrind";

/// What callgrind calls its files, with a number behind a dot.
const DUMP: &str = "dump";

/// What one path has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Its name.
    pub path: String,
    /// How many of what it is named for were done.
    pub times: u64,
    /// Instructions of all of them.
    pub instructions: u64,
}

/// Runs and counts all paths.
pub fn count() -> Result<Vec<Counted>, Failure> {
    let program = env::current_exe()?;
    let beside = program.parent().ok_or("the program lies nowhere")?;
    let name = program.file_name().ok_or("the program has no name")?;
    let folder = folder()?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    let mut dumps = OsString::from("--callgrind-out-file=");
    dumps.push(folder.join(DUMP));
    let run = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--collect-atstart=no"])
        .args(["toggle-collect", "dump-after"].map(|what| format!("--{what}={COUNTED}")))
        // Each file is to be read without those before it.
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(dumps)
        .args([&Path::new(".").join(name), Path::new(INSIDE)])
        .current_dir(beside)
        // The environment lies on the stack, and shifts what lies behind it.
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        // Memory is given back to the kernel after a time, and time is not counted here.
        .env("MIMALLOC_PURGE_DELAY", "-1")
        .stderr(Stdio::inherit())
        .output()
        .map_err(without_valgrind)?;
    if !run.status.success() {
        return Err(format!("the paths ended with {}", run.status).into());
    }
    let said = String::from_utf8(run.stdout)?;
    let counted = said.lines().enumerate();
    let counted = counted.map(|(number, line)| counted_as(line, &folder, number + 1));
    let counted = counted.collect::<Result<Vec<_>, _>>()?;
    fs::remove_file(folder.join(DUMP))?;
    if fs::read_dir(&folder)?.count() != counted.len() {
        return Err("callgrind has counted something else as well".into());
    }
    Ok(counted)
}

/// Where the counts lie: beside the program.
pub fn folder() -> Result<PathBuf, Failure> {
    Ok(env::current_exe()?.with_file_name("budgets"))
}

/// What the counts depend on beside the sources.
pub fn tools() -> Result<String, Failure> {
    let compiler = version("rustc")?;
    let compiler = compiler.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let valgrind = version("valgrind").map_err(without_valgrind)?;
    Ok(format!("{compiler}, {valgrind}, {}", env::consts::ARCH))
}

fn version(tool: &str) -> Result<String, io::Error> {
    let said = Command::new(tool).arg("--version").output()?;
    let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    Ok(said)
}

fn without_valgrind(why: io::Error) -> Failure {
    match why.kind() {
        io::ErrorKind::NotFound => "no valgrind here: tests/install.sh budgets".into(),
        _ => why.into(),
    }
}

/// Takes the file of a path, of which the program has said name and number.
fn counted_as(line: &str, folder: &Path, number: usize) -> Result<Counted, Failure> {
    let (path, times) = line.split_once('\t').ok_or("a path without a number")?;
    let dump = folder.join(format!("{DUMP}.{number}"));
    let text = fs::read_to_string(&dump).map_err(|why| format!("{path}: no count: {why}"))?;
    let instructions = summary(&text).ok_or_else(|| format!("{path}: a count without a sum"))?;
    fs::rename(dump, folder.join(format!("{path}.out")))?;
    Ok(Counted {
        path: path.to_owned(),
        times: times.parse()?,
        instructions,
    })
}

/// The instructions of a file of callgrind's.
fn summary(dump: &str) -> Option<u64> {
    let mut sums = dump
        .lines()
        .filter_map(|line| line.strip_prefix("summary: "));
    sums.next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_count_is_read() {
        let dump = "# callgrind format\nevents: Ir\nsummary: 3883796\n\nfn=main\n1 7\n";
        assert_eq!(summary(dump), Some(3_883_796));
        assert_eq!(summary("events: Ir\n\nfn=main\n1 7\n"), None);
    }

    #[test]
    fn the_counted_function_bears_the_name_that_callgrind_is_told() {
        let module = COUNTED.rsplit_once("::").map(|(module, _)| module);
        assert_eq!(module, Some(concat!(env!("CARGO_CRATE_NAME"), "::paths")));
    }
}
