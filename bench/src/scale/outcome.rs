//! What came of a run with many servers, as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cpu::Time;
use crate::memory::{Kernel, Resident};
use crate::process::SHARDS;
use crate::tally::Tally;

/// Kinds of kernel objects that take less for a connection are left out.
const KIND_BYTES_MIN: f64 = 16.0;

/// Everything.
pub struct Outcome {
    /// How the servers send.
    pub driver: &'static str,
    /// Sockets at once.
    pub sockets: u64,
    /// Seconds of silence before a ping.
    pub ping_interval: u64,
    /// Open files of each server.
    pub shares: Vec<u64>,
    /// Connecting and subscribing them.
    pub opened: Work,
    /// How many the servers say there are.
    pub counted: Counted,
    /// Pings while nothing else happened.
    pub pinged: Pinged,
    /// Each event.
    pub events: Vec<Event>,
    /// Sockets that the servers have no more at the end.
    pub closed: u64,
    /// Memory: before the first socket, then after each of these.
    pub held: Vec<Held>,
}

/// CPU of all servers and all clients.
pub struct Work {
    /// By the clock.
    pub elapsed: Duration,
    /// The servers.
    pub servers: Time,
    /// The clients.
    pub clients: Time,
}

/// What one server answered for all.
pub struct Counted {
    /// Sockets on the channel.
    pub sockets: u64,
    /// When the answer was there.
    pub elapsed: Duration,
}

/// Pings that were answered.
pub struct Pinged {
    /// What it took.
    pub work: Work,
    /// Answered meanwhile.
    pub answered: u64,
    /// Answered by the socket that was asked least, since it was opened.
    pub least: u64,
    /// Answered in the busiest second.
    pub most_per_second: u64,
}

/// One event to everybody.
pub struct Event {
    /// What came of it.
    pub tally: Tally,
    /// What it took.
    pub work: Work,
}

/// Memory at some moment.
pub struct Held {
    /// Which.
    pub when: &'static str,
    /// All servers.
    pub servers: Resident,
    /// All clients.
    pub clients: Resident,
    /// The kernel.
    pub kernel: Kernel,
}

impl Outcome {
    /// Whether every socket was counted, was pinged, was never closed, and had every event once.
    pub fn is_exact(&self) -> bool {
        let is_exact = |event: &Event| event.tally.is_exact() && event.tally.frames == self.sockets;
        self.counted.sockets == self.sockets
            && self.closed == 0
            && self.pinged.least > 0
            && self.events.iter().all(is_exact)
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = self.head();
        let (opened, pinged) = (&self.opened, &self.pinged);
        let per_second = self.sockets as f64 / opened.elapsed.as_secs_f64();
        // A String takes everything.
        let _ = writeln!(
            text,
            "\nopened     in {:.1} s, {per_second:.0} per second; CPU each: {}",
            opened.elapsed.as_secs_f64(),
            opened.per(self.sockets),
        );
        let _ = writeln!(
            text,
            "counted    {} by the servers themselves, in {:.1} ms",
            self.counted.sockets,
            1000.0 * self.counted.elapsed.as_secs_f64(),
        );
        let _ = writeln!(
            text,
            "pings      {} answered in {:.0} s, at most {} in one of them, at least {} by each \
             socket; CPU each: {}",
            pinged.answered,
            pinged.work.elapsed.as_secs_f64(),
            pinged.most_per_second,
            pinged.least,
            pinged.work.per(pinged.answered),
        );
        for (number, event) in self.events.iter().enumerate() {
            let _ = writeln!(text, "event {}    {}", number + 1, event.text());
        }
        text += &self.memory();
        let ([lost, doubled, reordered], closed) = (self.wrong(), self.closed);
        text + &format!(
            "scale: lost {lost}, doubled {doubled}, reordered {reordered}, closed {closed}"
        )
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let pinged = &self.pinged;
        json!({
            "driver": self.driver, "sockets": self.sockets, "shards": SHARDS,
            "servers_files": self.shares, "ping_interval_s": self.ping_interval,
            "exact": self.is_exact(), "closed": self.closed,
            "opened": self.opened.json(),
            "counted": {
                "sockets": self.counted.sockets,
                "elapsed_s": self.counted.elapsed.as_secs_f64(),
            },
            "pings": {
                "answered": pinged.answered, "least": pinged.least,
                "most_per_second": pinged.most_per_second, "work": pinged.work.json(),
            },
            "events": self.events.iter().map(Event::json).collect::<Vec<_>>(),
            "memory": self.held.iter().map(Held::json).collect::<Vec<_>>(),
        })
    }

    fn head(&self) -> String {
        let servers = self.shares.len();
        let least = self.shares.iter().min().unwrap_or(&0);
        let most = self.shares.iter().max().unwrap_or(&0);
        format!(
            "{} sockets at once to {servers} servers of {SHARDS} shard on {}, on one port and one \
             CPU;\n{servers} processes of clients on another; {least} to {most} files a server, \
             a ping after {} s\n",
            self.sockets, self.driver, self.ping_interval,
        )
    }

    /// What each moment holds more than the first, for each socket.
    fn memory(&self) -> String {
        let Some((before, later)) = self.held.split_first() else {
            return String::new();
        };
        let moments: Vec<Vec<(String, f64)>> =
            later.iter().map(|held| self.rows(before, held)).collect();
        let mut text = format!("\n{:<38}", "bytes per socket, more than before");
        text.extend(later.iter().map(|held| format!(" {:>10}", held.when)));
        text.push('\n');
        for (name, _) in moments.first().into_iter().flatten() {
            let _ = write!(text, "{name:<38}");
            for moment in &moments {
                let row = moment.iter().find(|(other, _)| other == name);
                let _ = write!(text, " {:>10.0}", row.map_or(0.0, |(_, bytes)| *bytes));
            }
            text.push('\n');
        }
        if let Some(last) = later.last() {
            let sockets = last.kernel.sockets.saturating_sub(before.kernel.sockets);
            let _ = writeln!(text, "sockets of this host, both ends: {sockets} more");
        }
        text + "Kernel objects are those of both ends: of TCP, sock_inode_cache, filp and dentry each \
                end has\none, of the rest no figure of the kernel says whose they are.\n"
    }

    fn rows(&self, before: &Held, held: &Held) -> Vec<(String, f64)> {
        let each = |now: u64, then: u64| (now as f64 - then as f64) / self.sockets as f64;
        let kernel = (&held.kernel, &before.kernel);
        let mut rows = vec![
            ("servers, Rss", each(held.servers.rss, before.servers.rss)),
            ("servers, Pss", each(held.servers.pss, before.servers.pss)),
            ("clients, Rss", each(held.clients.rss, before.clients.rss)),
            ("kernel, buffers of TCP", each(kernel.0.tcp, kernel.1.tcp)),
            ("kernel, objects", each(kernel.0.slab, kernel.1.slab)),
        ];
        let kinds = kernel.0.kinds.iter().filter_map(|(kind, &bytes)| {
            let then = *kernel.1.kinds.get(kind)?;
            Some((kind.as_str(), each(bytes, then)))
        });
        rows.extend(kinds.filter(|(_, bytes)| *bytes >= KIND_BYTES_MIN));
        let named = |(name, bytes): (&str, f64)| match name.split_once(", ") {
            Some(_) => (name.to_owned(), bytes),
            None => (format!("  of them {name}"), bytes),
        };
        rows.into_iter().map(named).collect()
    }

    fn wrong(&self) -> [u64; 3] {
        let sum = |of: fn(&Tally) -> u64| self.events.iter().map(|event| of(&event.tally)).sum();
        [
            sum(|tally| tally.lost),
            sum(|tally| tally.doubled),
            sum(|tally| tally.reordered),
        ]
    }
}

impl Work {
    fn per(&self, units: u64) -> String {
        let each = |time: Time| time.ran_ns as f64 / 1000.0 / units as f64;
        format!(
            "servers {:.1} us, clients {:.1} us",
            each(self.servers),
            each(self.clients)
        )
    }

    fn json(&self) -> Value {
        let time = |time: Time| json!({ "ran_ns": time.ran_ns, "waited_ns": time.waited_ns });
        json!({
            "elapsed_s": self.elapsed.as_secs_f64(),
            "servers": time(self.servers), "clients": time(self.clients),
        })
    }
}

impl Event {
    /// Milliseconds from when it was due to the first socket, to those in between, to the last.
    fn milliseconds(&self) -> [f64; 4] {
        [0.0, 0.5, 0.99, 1.0].map(|part| self.tally.latency_us(part).unwrap_or(f64::NAN) / 1000.0)
    }

    fn text(&self) -> String {
        let [first, median, most, last] = self.milliseconds();
        let frames = self.tally.frames;
        format!(
            "to {frames} sockets: the first after {first:.1} ms, half after {median:.0}, \
             99 % after {most:.0}, the last after {last:.0}; CPU each: {}",
            self.work.per(frames.max(1)),
        )
    }

    fn json(&self) -> Value {
        let [first, median, most, last] = self.milliseconds();
        json!({
            "frames": self.tally.frames, "lost": self.tally.lost,
            "doubled": self.tally.doubled, "reordered": self.tally.reordered,
            "latency_ms": { "first": first, "p50": median, "p99": most, "last": last },
            "work": self.work.json(),
        })
    }
}

impl Held {
    fn json(&self) -> Value {
        let resident = |held: Resident| json!({ "rss": held.rss, "pss": held.pss });
        json!({
            "when": self.when,
            "servers": resident(self.servers), "clients": resident(self.clients),
            "kernel": {
                "objects": self.kernel.slab, "tcp_buffers": self.kernel.tcp,
                "sockets": self.kernel.sockets, "kinds": self.kernel.kinds,
            },
        })
    }
}
