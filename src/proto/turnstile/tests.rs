//! Never more than the rate and one bucket, and no less where there is a crowd.

use proptest::prelude::*;

use super::*;

fn turnstile(rate: u32, shards: u16) -> Turnstile {
    Turnstile::new(NonZeroU32::new(rate), shards)
}

/// How many of `count` that come at one moment are let in.
fn wave(turnstile: &mut Turnstile, at: Instant, count: usize) -> usize {
    (0..count).filter(|_| turnstile.admit(at)).count()
}

#[test]
fn without_a_rate_everybody_comes_in() {
    let mut open = turnstile(0, 1);
    assert_eq!(wave(&mut open, Instant::now(), 100_000), 100_000);
}

#[test]
fn of_a_wave_a_second_s_worth_comes_in_and_so_of_the_next_a_second_later() {
    let (mut turnstile, start) = (turnstile(100, 2), Instant::now());
    for second in 0..5 {
        let at = start + Duration::from_secs(second);
        assert_eq!(wave(&mut turnstile, at, 1_000), 50, "second {second}");
    }
    let half = start + Duration::from_millis(4_500);
    assert_eq!(wave(&mut turnstile, half, 1_000), 25);
    let long_after = start + Duration::from_secs(3_600);
    assert_eq!(wave(&mut turnstile, long_after, 1_000), 50, "never more");
}

#[test]
fn less_than_one_a_second_and_shard_is_one_now_and_then() {
    let (mut turnstile, start) = (turnstile(1, 4), Instant::now());
    let seconds = (0..13).filter(|&second| turnstile.admit(start + Duration::from_secs(second)));
    assert_eq!(seconds.collect::<Vec<_>>(), [0, 4, 8, 12]);
}

#[test]
fn a_clock_that_stands_or_a_moment_told_late_gains_nothing() {
    let (mut turnstile, start) = (turnstile(10, 1), Instant::now());
    let later = start + Duration::from_millis(500);
    assert_eq!(wave(&mut turnstile, later, 100), 10);
    assert_eq!(wave(&mut turnstile, start, 100), 0);
    assert_eq!(wave(&mut turnstile, later, 100), 0);
}

proptest! {
    /// Over every stretch of time, on all shards together, however people come.
    #[test]
    fn never_more_than_rate_times_time_and_one_bucket(
        rate in 1_u32..5_000,
        shards in 1_u16..9,
        arrivals in prop::collection::vec((0_u64..40_000_000, 0_u16..9, 1_usize..60), 1..200),
    ) {
        let start = Instant::now();
        let mut turnstiles = vec![turnstile(rate, shards); usize::from(shards)];
        let mut at = start;
        let mut admitted = Vec::new();
        for (gap_ns, shard, count) in arrivals {
            at += Duration::from_nanos(gap_ns);
            let turnstile = &mut turnstiles[usize::from(shard % shards)];
            admitted.push((at, wave(turnstile, at, count)));
        }
        // Where a shard's share is less than one a second, its bucket still holds one.
        let bucket = f64::from(rate.max(u32::from(shards)));
        for (from, &(since, _)) in admitted.iter().enumerate() {
            let mut sum = 0;
            for &(until, count) in &admitted[from..] {
                sum += u32::try_from(count).unwrap();
                let most = f64::from(rate) * (until - since).as_secs_f64() + bucket;
                prop_assert!(f64::from(sum) <= most + 1e-6, "{sum} of {most} in {:?}", until - since);
            }
        }
    }

    /// A crowd that never ends is let in at the rate: nothing is lost but by rounding.
    #[test]
    fn a_crowd_comes_in_at_the_full_rate(rate in 1_u32..2_000, seconds in 1_u64..5) {
        let (mut turnstile, start) = (turnstile(rate, 1), Instant::now());
        let mut sum = 0;
        for millisecond in 0..=seconds * 1_000 {
            sum += wave(&mut turnstile, start + Duration::from_millis(millisecond), 2_001);
        }
        let least = usize::try_from(u64::from(rate) * (seconds + 1)).unwrap();
        prop_assert!(sum + 1 >= least && sum <= least, "{sum} of {least}");
    }
}
