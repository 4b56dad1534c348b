//! Where and when a run was: kernel, CPU, commit, date. Without them a figure says nothing.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// What is known of this run.
pub struct Host {
    kernel: String,
    cpu: String,
    cpus: usize,
    commit: String,
    /// UTC, as `2026-11-26T05:00:00Z`.
    date: String,
}

impl Host {
    /// Asks the machine.
    pub fn ask() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            kernel: kernel.trim().to_owned(),
            cpu: cpu_model(&cpuinfo),
            cpus: cpuinfo.matches("processor\t").count(),
            commit: told("git", &["describe", "--always", "--dirty"]),
            date: told("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        }
    }

    /// What the files of a run are called.
    pub fn stem(&self, run: &str) -> String {
        format!("{}-{run}", self.date.replace(':', ""))
    }

    /// One line.
    pub fn text(&self) -> String {
        let Self {
            kernel,
            cpu,
            cpus,
            commit,
            date,
        } = self;
        format!("{date}, commit {commit}, Linux {kernel}, {cpus} x {cpu}")
    }

    /// The same for machines.
    pub fn json(&self) -> Value {
        json!({
            "date": self.date, "commit": self.commit, "kernel": self.kernel,
            "cpu": self.cpu, "cpus": self.cpus,
        })
    }
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(':'));
    model
        .map_or("unknown CPU", |(_, model)| model.trim())
        .to_owned()
}

/// What a program says; "unknown" where there is none.
fn told(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_a_name_or_none() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU of 2 GHz\n";
        assert_eq!(cpu_model(cpuinfo), "A CPU of 2 GHz");
        assert_eq!(cpu_model(""), "unknown CPU");
    }

    #[test]
    fn a_program_that_fails_is_unknown() {
        assert_eq!(told("true", &[]), "");
        assert_eq!(told("false", &[]), "unknown");
    }
}
