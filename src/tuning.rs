//! What the kernel should allow a server with many sockets, beside what it does allow.
//!
//! Called by `check`. It holds the list that `kernel-tuning/tune.sh` reads too, and reads what the
//! kernel shows of itself; it never changes anything.

use std::fmt;
use std::fs;
use std::path::Path;

/// The list, as it stands in `kernel-tuning/`.
pub const LIST: &str = include_str!("../kernel-tuning/settings.tsv");

/// One row of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'list> {
    /// As sysctl spells it, or [`OPEN_FILES`].
    pub name: &'list str,
    /// What is enough.
    pub wanted: Wanted,
    /// Who has a value of its own.
    pub owner: Owner,
    /// What it is for.
    pub why: &'list str,
}

/// What is enough for a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// This or more.
    AtLeast(u64),
    /// This and nothing else.
    Just(u64),
    /// From and to, or wider.
    Range(u64, u64),
}

/// Who has a value of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The whole machine, whatever containers there are on it.
    Machine,
    /// Each network namespace, so most containers.
    Network,
    /// Each process.
    Process,
}

/// A row beside what was found, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The setting's name.
    pub name: &'static str,
    /// Its value, `none` if this kernel or this namespace does not have it.
    pub found: String,
    /// What is wanted, and why if that is not met.
    pub note: String,
}

/// Compares this kernel with the list. `root`: of the file system; `port`: where `start` would
/// listen.
pub fn findings(root: &Path, port: u16) -> Vec<Finding> {
    let rows = parse(LIST).map(|settings| {
        let rows = settings.iter().map(|setting| setting.look(root));
        rows.chain(port_at_risk(root, port)).collect()
    });
    rows.unwrap_or_else(|malformed| {
        vec![Finding {
            name: "settings.tsv",
            found: "unreadable".to_owned(),
            note: malformed,
        }]
    })
}

/// Reads a list.
///
/// # Errors
/// The row that cannot be read, and why.
pub fn parse(list: &str) -> Result<Vec<Setting<'_>>, String> {
    let rows = list
        .lines()
        .filter(|row| !row.is_empty() && !row.starts_with('#'));
    rows.map(parse_row).collect()
}

fn parse_row(row: &str) -> Result<Setting<'_>, String> {
    let columns: Vec<_> = row.split('\t').collect();
    let [name, comparison, wanted, owner, why, _source] = columns[..] else {
        return Err(format!("not six columns: {row}"));
    };
    if columns.contains(&"") {
        return Err(format!("{name}: a column is empty"));
    }
    let wanted = Wanted::parse(comparison, wanted).map_err(|why| format!("{name}: {why}"))?;
    let owner = match owner {
        "machine" => Owner::Machine,
        "network" => Owner::Network,
        "process" => Owner::Process,
        _ => return Err(format!("{name}: unknown owner {owner}")),
    };
    Ok(Setting {
        name,
        wanted,
        owner,
        why,
    })
}

impl Wanted {
    fn parse(comparison: &str, wanted: &str) -> Result<Self, String> {
        let read = match comparison {
            "min" => number(wanted).map(Self::AtLeast),
            "is" => number(wanted).map(Self::Just),
            "range" => range(wanted).map(|(from, to)| Self::Range(from, to)),
            _ => return Err(format!("unknown comparison {comparison}")),
        };
        read.ok_or_else(|| format!("{wanted} is not to be compared by {comparison}"))
    }

    /// Whether what was found is enough; `None` if it is nothing to compare.
    pub fn is_met_by(self, found: &str) -> Option<bool> {
        match self {
            Self::AtLeast(_) if found == UNLIMITED => Some(true),
            Self::AtLeast(least) => number(found).map(|found| found >= least),
            Self::Just(wanted) => number(found).map(|found| found == wanted),
            Self::Range(from, to) => {
                range(found).map(|(lowest, highest)| lowest <= from && highest >= to)
            }
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(out, "at least {least}"),
            Self::Just(wanted) => write!(out, "{wanted}"),
            Self::Range(from, to) => write!(out, "{from} {to} or wider"),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Machine => "machine",
            Self::Network => "network",
            Self::Process => "process",
        })
    }
}

impl Setting<'static> {
    fn look(&self, root: &Path) -> Finding {
        let Self {
            name,
            wanted,
            owner,
            why,
        } = self;
        let found = found(root, name);
        let note = match found.as_deref().map(|found| wanted.is_met_by(found)) {
            None => format!("not seen here; wanted: {wanted} ({owner})"),
            Some(None) => format!("unreadable; wanted: {wanted} ({owner})"),
            Some(Some(true)) => format!("as wanted: {wanted} ({owner})"),
            Some(Some(false)) => format!("wanted: {wanted} ({owner}): {why}"),
        };
        Finding {
            name,
            found: found.unwrap_or_else(|| "none".to_owned()),
            note,
        }
    }
}

/// What the kernel shows, on one line with single spaces.
fn found(root: &Path, name: &str) -> Option<String> {
    let text = if name == OPEN_FILES {
        let limits = fs::read_to_string(root.join("proc/self/limits")).ok()?;
        let row = limits
            .lines()
            .find_map(|row| row.strip_prefix("Max open files"))?;
        row.split_whitespace().nth(1)?.to_owned()
    } else {
        fs::read_to_string(root.join("proc/sys").join(name.replace('.', "/"))).ok()?
    };
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ");
    // The largest number there is means no limit.
    let is_unlimited = number(&text) == Some(i64::MAX.unsigned_abs());
    Some(if is_unlimited {
        UNLIMITED.to_owned()
    } else {
        text
    })
}

/// An outgoing connection may hold the port of a server that is down for a moment, and then keeps
/// it from starting.
fn port_at_risk(root: &Path, port: u16) -> Option<Finding> {
    let (lowest, highest) = range(&found(root, "net.ipv4.ip_local_port_range")?)?;
    let name = "net.ipv4.ip_local_reserved_ports";
    let reserved = found(root, name)?;
    let is_in = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(number(first)? <= port.into() && number(last)? >= port.into())
    };
    let is_reserved = reserved.split(',').any(|part| is_in(part) == Some(true));
    let is_local = port != 0 && (lowest..=highest).contains(&port.into());
    (is_local && !is_reserved).then(|| Finding {
        name,
        found: if reserved.is_empty() {
            "none".to_owned()
        } else {
            reserved
        },
        note: format!(
            "wanted: {port} among them ({}): an outgoing connection may hold that port, and start \
             then fails",
            Owner::Network
        ),
    })
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once(' ')?;
    Some((number(from)?, number(to)?))
}

fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// The hard limit of open files, which is no sysctl.
pub const OPEN_FILES: &str = "nofile";
const UNLIMITED: &str = "unlimited";

#[cfg(test)]
mod tests;
