//! What came of a round: how many frames, what was wrong with them, and how late they were.

use hdrhistogram::Histogram;
use serde_json::json;

use crate::Failure;

/// Latencies are told apart from a microsecond on and up to a minute, to three digits.
const LATENCY_NS: (u64, u64) = (1000, 60_000_000_000);
const DIGITS: u8 = 3;

/// What was received in one round.
pub struct Tally {
    /// Frames with a number.
    pub frames: u64,
    /// Frames that had not come by the end.
    pub lost: u64,
    /// Frames that came again, or to who was not to have them.
    pub doubled: u64,
    /// Frames that came behind a later one.
    pub reordered: u64,
    /// Nanoseconds from when an event was due to when its frame was read.
    pub latency_ns: Histogram<u64>,
}

impl Tally {
    /// Nothing has come yet.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            frames: 0,
            lost: 0,
            doubled: 0,
            reordered: 0,
            latency_ns: Histogram::new_with_bounds(LATENCY_NS.0, LATENCY_NS.1, DIGITS)?,
        })
    }

    /// So many answers came of those that were due; nothing of them has a number or a time.
    pub fn of_answers(answers: u64, due: u64) -> Result<Self, Failure> {
        Ok(Self {
            frames: answers,
            lost: due.saturating_sub(answers),
            ..Self::new()?
        })
    }

    /// For another process of this bench.
    pub fn to_text(&self) -> String {
        let latencies = self.latency_ns.iter_recorded();
        let latencies: Vec<_> = latencies
            .map(|latency| [latency.value_iterated_to(), latency.count_at_value()])
            .collect();
        json!([
            self.frames,
            self.lost,
            self.doubled,
            self.reordered,
            latencies
        ])
        .to_string()
    }

    /// From another process of this bench.
    pub fn of_text(text: &str) -> Result<Self, Failure> {
        let (frames, lost, doubled, reordered, latencies): (_, _, _, _, Vec<[u64; 2]>) =
            serde_json::from_str(text)?;
        let mut tally = Self {
            frames,
            lost,
            doubled,
            reordered,
            ..Self::new()?
        };
        for [latency, count] in latencies {
            tally.latency_ns.saturating_record_n(latency, count);
        }
        Ok(tally)
    }

    /// Whether every frame came once, in order.
    pub fn is_exact(&self) -> bool {
        self.lost + self.doubled + self.reordered == 0
    }

    /// Takes another round in.
    pub fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        // Both have the same bounds, so adding cannot fail.
        let _ = self.latency_ns.add(&other.latency_ns);
    }

    /// Microseconds within which that part of the frames came; `None` where none was timed.
    pub fn latency_us(&self, quantile: f64) -> Option<f64> {
        let latency = self.latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        (!self.latency_ns.is_empty()).then_some(latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_add_up_and_their_latencies_with_them() {
        let mut sum = Tally::new().unwrap();
        assert_eq!(sum.latency_us(0.5), None);
        for (frames, micros) in [(1, 100), (2, 300)] {
            let mut round = Tally::new().unwrap();
            (round.frames, round.lost) = (frames, 1);
            round.latency_ns.record_n(micros * 1000, frames).unwrap();
            sum.add(&round);
        }
        assert_eq!((sum.frames, sum.lost, sum.is_exact()), (3, 2, false));
        let latency = sum.latency_us(0.5).unwrap();
        assert!((299.0..301.0).contains(&latency), "{latency}");
    }

    #[test]
    fn a_tally_is_the_same_in_another_process() {
        let mut tally = Tally::of_answers(5, 7).unwrap();
        tally.latency_ns.record_n(1_234_567, 5).unwrap();
        let other = Tally::of_text(&tally.to_text()).unwrap();
        assert_eq!((other.frames, other.lost), (5, 2));
        assert_eq!(other.latency_ns, tally.latency_ns);
        assert!(Tally::of_text("[]").is_err());
    }

    #[test]
    fn answers_that_are_missing_are_lost() {
        assert!(Tally::of_answers(7, 7).unwrap().is_exact());
        assert_eq!(Tally::of_answers(5, 7).unwrap().lost, 2);
    }
}
