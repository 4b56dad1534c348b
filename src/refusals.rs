//! The log of refused API calls and handshakes: why a publish failed is what users search for
//! most. At most ten lines a second, then a count. Called by the edges; never shows a secret.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::proto::session::Refused;

/// Lines in one window.
const LINES_PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);
/// Text of a client's that is longer than this is cut, characters.
const TEXT_MAX: usize = 200;

/// Shared by all shards; a cold path.
#[derive(Debug, Default)]
pub struct RefusalLog(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    start: Option<Instant>,
    lines: u32,
    silent: u64,
}

/// What to do with one refusal.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// Refusals of the window before that got no line.
    missed: u64,
    speak: bool,
}

impl RefusalLog {
    /// Logs one refusal, or counts it.
    pub fn log(&self, refused: &Refused) {
        let verdict = match self.0.lock() {
            Ok(mut window) => window.admit(Instant::now()),
            Err(_) => return,
        };
        if verdict.missed > 0 {
            warn!(count = verdict.missed, "refusals not logged");
        }
        if verdict.speak {
            let Refused {
                code,
                app,
                path,
                reason,
                size,
            } = refused;
            let (app, path, reason) = (cut(app), cut(path), cut(reason));
            warn!(code, app, path, size, "refused: {reason}");
        }
    }
}

impl Window {
    fn admit(&mut self, now: Instant) -> Verdict {
        let mut missed = 0;
        if self
            .start
            .is_none_or(|start| now.duration_since(start) >= WINDOW)
        {
            self.start = Some(now);
            self.lines = 0;
            missed = std::mem::take(&mut self.silent);
        }
        let speak = self.lines < LINES_PER_WINDOW;
        if speak {
            self.lines += 1;
        } else {
            self.silent += 1;
        }
        Verdict { missed, speak }
    }
}

fn cut(text: &str) -> &str {
    text.char_indices()
        .nth(TEXT_MAX)
        .map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_then_a_count() {
        let mut window = Window::default();
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(
                window.admit(start),
                Verdict {
                    missed: 0,
                    speak: true
                }
            );
        }
        for _ in 0..5 {
            assert_eq!(
                window.admit(start),
                Verdict {
                    missed: 0,
                    speak: false
                }
            );
        }
        let later = start + WINDOW;
        assert_eq!(
            window.admit(later),
            Verdict {
                missed: 5,
                speak: true
            }
        );
    }
}
