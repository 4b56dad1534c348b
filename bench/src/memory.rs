//! What processes and the kernel hold in memory, in bytes, as the kernel tells it.
//!
//! The `idle` scenario and `scale` ask before and after their sockets are there. Tells only what is:
//! whose an object of the kernel is cannot be seen here.

use std::collections::BTreeMap;
use std::fs;

use crate::Failure;

/// The column of slabinfo that counts slabs, and the one that says how many pages each has.
const SLABS: usize = 14;
const PAGES: usize = 5;

/// What a process has in memory.
#[derive(Clone, Copy, Default)]
pub struct Resident {
    /// All of it.
    pub rss: u64,
    /// The same, where what several processes share is divided among them.
    pub pss: u64,
}

impl Resident {
    /// Of a process now.
    pub fn of(process: u32) -> Result<Self, Failure> {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        Ok(Self {
            rss: bytes_of("Rss:", &text)?,
            pss: bytes_of("Pss:", &text)?,
        })
    }

    /// Of several.
    pub fn of_all(processes: &[u32]) -> Result<Self, Failure> {
        let mut sum = Self::default();
        for &process in processes {
            let one = Self::of(process)?;
            sum.rss += one.rss;
            sum.pss += one.pss;
        }
        Ok(sum)
    }
}

/// What the kernel holds, of this machine as a whole.
pub struct Kernel {
    /// Its objects.
    pub slab: u64,
    /// The same by kind; nothing where only root may know.
    pub kinds: BTreeMap<String, u64>,
    /// Sockets of every kind.
    pub sockets: u64,
    /// What stands in the buffers of TCP.
    pub tcp: u64,
}

impl Kernel {
    /// Now.
    pub fn now() -> Result<Self, Failure> {
        let sockstat = fs::read_to_string("/proc/net/sockstat")?;
        let slabinfo = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        Ok(Self {
            slab: slab_bytes()?,
            kinds: slabinfo.lines().filter_map(kind).collect(),
            sockets: word_behind("sockets: used", &sockstat)?,
            tcp: word_behind(" mem", tcp_line(&sockstat)?)? * page_bytes(),
        })
    }
}

/// Bytes of the kernel's objects.
pub fn slab_bytes() -> Result<u64, Failure> {
    bytes_of("Slab:", &fs::read_to_string("/proc/meminfo")?)
}

/// One line of slabinfo: a kind, and the bytes of its slabs.
fn kind(line: &str) -> Option<(String, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |column: usize| words.get(column)?.parse::<u64>().ok();
    let bytes = number(SLABS)? * number(PAGES)? * page_bytes();
    Some((words[0].to_owned(), bytes))
}

fn tcp_line(sockstat: &str) -> Result<&str, Failure> {
    let mut lines = sockstat.lines();
    Ok(lines
        .find(|line| line.starts_with("TCP:"))
        .ok_or("no TCP in sockstat")?)
}

/// One line of a file that counts in kB.
fn bytes_of(name: &str, text: &str) -> Result<u64, Failure> {
    Ok(1024 * word_behind(name, text)?)
}

fn word_behind(name: &str, text: &str) -> Result<u64, Failure> {
    let (_, rest) = text.split_once(name).ok_or_else(|| format!("no {name}"))?;
    let word = rest.split_whitespace().next();
    Ok(word
        .ok_or_else(|| format!("nothing behind {name}"))?
        .parse()?)
}

fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_found_by_its_name() {
        assert_eq!(
            bytes_of("Slab:", "Cached: 7 kB\nSlab:  2 kB\n").unwrap(),
            2048
        );
        assert!(bytes_of("Rss:", "Pss: 1 kB\n").is_err());
        let sockstat = "sockets: used 13\nTCP: inuse 1 orphan 0 tw 1 alloc 1 mem 66\nUDP: mem 0\n";
        assert_eq!(word_behind("sockets: used", sockstat).unwrap(), 13);
        assert_eq!(
            word_behind(" mem", tcp_line(sockstat).unwrap()).unwrap(),
            66
        );
    }

    #[test]
    fn a_kind_of_objects_has_the_bytes_of_its_slabs() {
        let line = "TCP 78 130 2496 13 8 : tunables 0 0 0 : slabdata 6 10 0";
        assert_eq!(kind(line), Some(("TCP".into(), 10 * 8 * page_bytes())));
        assert_eq!(kind("slabinfo - version: 2.1"), None);
    }

    #[test]
    fn this_process_has_some_memory() {
        let all = Resident::of_all(&[std::process::id()]).unwrap();
        assert!(all.pss > 0 && all.pss <= all.rss);
    }
}
