//! The log: lines for stdout, written by a thread of their own.
//!
//! A shard that logs must never wait for whoever reads the log. So lines go through a bounded
//! queue; what does not fit is dropped and counted. `main` starts it, everybody logs through
//! `tracing`, and whoever ends the process flushes it first.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the reader.
const LINES_MAX: usize = 4096;

/// How long the end of the process waits for the reader.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

static LINES: OnceLock<SyncSender<Entry>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

enum Entry {
    Line(Vec<u8>),
    /// Everything before it has been written when the other end of this is answered.
    Flush(SyncSender<()>),
}

/// Starts the log, without colour unless stdout is a terminal.
///
/// # Errors
/// The kernel gives no thread.
pub fn start(debug: bool) -> io::Result<()> {
    let (sender, receiver) = sync_channel(LINES_MAX);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(&receiver))?;
    if LINES.set(sender).is_err() {
        return Err(io::Error::other("the log runs already"));
    }
    let level = if debug {
        tracing::Level::DEBUG
    } else {
        tracing::Level::INFO
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(io::stdout().is_terminal())
        .with_target(false)
        .with_writer(Queue)
        .log_internal_errors(false)
        .init();
    Ok(())
}

/// Waits until all that was logged is written, for a second at most.
pub fn flush() {
    let Some(lines) = LINES.get() else { return };
    let (sender, written) = sync_channel(1);
    if lines.try_send(Entry::Flush(sender)).is_ok() {
        // Nobody reads: the process ends without its last lines rather than not at all.
        let _ = written.recv_timeout(FLUSH_WAIT);
    }
}

/// Logs text as it stands.
pub fn print(text: &str) {
    put(text.as_bytes());
}

/// Puts a line into the queue, whole or not at all.
fn put(line: &[u8]) {
    let sent = LINES
        .get()
        .map(|lines| lines.try_send(Entry::Line(line.to_vec())));
    if !matches!(sent, Some(Ok(()))) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

fn write(entries: &Receiver<Entry>) {
    for entry in entries {
        let mut out = io::stdout().lock();
        // A closed stdout must not stop a server.
        match entry {
            Entry::Line(line) => {
                let dropped = DROPPED.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    let _ = writeln!(out, "{dropped} log lines were dropped: nobody read them");
                }
                let _ = out.write_all(&line);
            }
            Entry::Flush(written) => {
                let _ = written.try_send(());
            }
        }
        let _ = out.flush();
    }
}

/// Where `tracing` writes its lines, each by one call.
struct Queue;

impl MakeWriter<'_> for Queue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
