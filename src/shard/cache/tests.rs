//! The cache against plain expectations, and against a list searched from the front.

use proptest::prelude::*;

use super::*;

const APP: AppIndex = AppIndex(0);
const AMPLE: CacheLimits = CacheLimits {
    channels: 100,
    bytes: 1 << 20,
};

fn cache(limits: CacheLimits) -> Cache {
    Cache::new(limits, RandomState::with_seeds(1, 2, 3, 4))
}

fn delivery(channel: &str, text: &str) -> Delivery {
    Delivery {
        channel: channel.into(),
        except: None,
        frame: frame::text_frame(|out| out.extend_from_slice(text.as_bytes())),
        is_kept: channel.starts_with("cache"),
    }
}

fn broadcast(app: AppIndex, deliveries: Vec<Delivery>) -> Arc<Broadcast> {
    Arc::new(Broadcast {
        app,
        deliveries,
        is_one_event: false,
    })
}

fn event(channel: &str, text: &str) -> Arc<Broadcast> {
    broadcast(APP, vec![delivery(channel, text)])
}

fn weight(channel: &str, text: &str) -> usize {
    Cached(event(channel, text)).weight()
}

fn shown(cache: &Cache, now: Instant, channel: &str) -> Option<String> {
    let last = cache.last(now, APP, channel)?;
    Some(String::from_utf8(last.text().to_vec()).unwrap())
}

#[test]
fn r114_r119_nothing_is_shown_before_the_first_event() {
    let mut cache = cache(AMPLE);
    let now = Instant::now();
    assert_eq!(shown(&cache, now, "cache-a"), None);
    cache.keep(now, &event("cache-a", "1"), None);
    assert_eq!(shown(&cache, now, "cache-b"), None);
    assert!(cache.last(now, AppIndex(1), "cache-a").is_none());
}

#[test]
fn an_event_does_not_replace_one_that_was_published_after_it() {
    let mut cache = cache(AMPLE);
    let now = Instant::now();
    let stamp = |at, node| Some(Stamp { at, node });
    for (text, stamp, last) in [
        ("first", stamp(10, 1), "first"),
        ("older", stamp(9, 9), "first"),
        ("by a lower node", stamp(10, 0), "first"),
        ("by a higher node", stamp(10, 2), "by a higher node"),
        ("again", stamp(10, 2), "by a higher node"),
        ("newer", stamp(11, 0), "newer"),
        ("of this node alone", None, "of this node alone"),
        ("behind it", stamp(1, 1), "behind it"),
    ] {
        cache.keep(now, &event("cache-a", text), stamp);
        let shown = shown(&cache, now, "cache-a").unwrap();
        assert!(shown.contains(last), "{shown} behind {text}");
    }
}

#[test]
fn r115_the_last_event_is_shown_in_the_very_frame_that_was_delivered() {
    let mut cache = cache(AMPLE);
    let now = Instant::now();
    for text in ["1", "2", "3"] {
        cache.keep(now, &event("cache-a", text), None);
    }
    let sent = event("cache-a", "4");
    cache.keep(now, &sent, None);
    let last = cache.last(now, APP, "cache-a").unwrap();
    assert!(std::ptr::eq(
        last.frame(),
        sent.deliveries[0].frame.as_ref()
    ));
    assert_eq!((last.frame(), last.text()), (&b"\x81\x014"[..], &b"4"[..]));
    assert_eq!(cache.events_count(), 1);
}

#[test]
fn r118_r120_what_is_not_to_be_kept_replaces_nothing() {
    let mut cache = cache(AMPLE);
    let now = Instant::now();
    cache.keep(now, &event("cache-a", "server"), None);
    let mut other = delivery("cache-a", "client");
    other.is_kept = false;
    cache.keep(now, &broadcast(APP, vec![other]), None);
    cache.keep(now, &event("news", "1"), None);
    assert_eq!(shown(&cache, now, "cache-a").as_deref(), Some("server"));
    assert_eq!(cache.events_count(), 1);
}

#[test]
fn an_event_of_many_channels_is_kept_for_each_and_holds_no_other() {
    let mut cache = cache(AMPLE);
    let now = Instant::now();
    let channels = ["cache-a", "news", "cache-b"];
    let sent = broadcast(APP, channels.map(|name| delivery(name, name)).into());
    cache.keep(now, &sent, None);
    for channel in ["cache-a", "cache-b"] {
        assert_eq!(shown(&cache, now, channel).as_deref(), Some(channel));
    }
    assert_eq!(shown(&cache, now, "news"), None);
    assert_eq!(Arc::strong_count(&sent), 1);
}

#[test]
fn an_event_is_shown_for_less_than_thirty_minutes_and_then_swept() {
    let mut cache = cache(AMPLE);
    let start = Instant::now();
    let late = start + Duration::from_secs(60);
    cache.keep(start, &event("cache-a", "1"), None);
    cache.keep(late, &event("cache-b", "2"), None);
    let last_moment = start + Duration::from_millis(1_799_999);
    assert_eq!(shown(&cache, last_moment, "cache-a").as_deref(), Some("1"));
    let over = start + Duration::from_secs(1800);
    assert_eq!(shown(&cache, over, "cache-a"), None);
    assert_eq!(shown(&cache, over, "cache-b").as_deref(), Some("2"));

    cache.sweep(last_moment);
    assert_eq!(cache.events_count(), 2);
    cache.sweep(over);
    assert_eq!(cache.events_count(), 1);
    cache.sweep(late + KEPT_FOR);
    assert_eq!((cache.events_count(), cache.apps.len()), (0, 0));
}

#[test]
fn a_new_event_lasts_thirty_minutes_again() {
    let mut cache = cache(AMPLE);
    let start = Instant::now();
    cache.keep(start, &event("cache-a", "1"), None);
    cache.keep(start + KEPT_FOR / 2, &event("cache-a", "2"), None);
    cache.sweep(start + KEPT_FOR);
    assert_eq!(
        shown(&cache, start + KEPT_FOR, "cache-a").as_deref(),
        Some("2")
    );
    assert_eq!(shown(&cache, start + KEPT_FOR * 3 / 2, "cache-a"), None);
}

#[test]
fn the_oldest_goes_when_there_are_too_many() {
    let mut cache = cache(CacheLimits {
        channels: 2,
        ..AMPLE
    });
    let now = Instant::now();
    for channel in ["cache-a", "cache-b", "cache-a"] {
        assert_eq!(cache.keep(now, &event(channel, channel), None), 0);
    }
    assert_eq!(cache.keep(now, &event("cache-c", "c"), None), 1);
    assert_eq!(shown(&cache, now, "cache-b"), None);
    for channel in ["cache-a", "cache-c"] {
        assert!(shown(&cache, now, channel).is_some(), "{channel}");
    }
}

#[test]
fn the_oldest_go_when_they_are_too_large_together() {
    let each = weight("cache-a", "small");
    let mut cache = cache(CacheLimits {
        bytes: 3 * each,
        ..AMPLE
    });
    let now = Instant::now();
    for channel in ["cache-a", "cache-b", "cache-c"] {
        assert_eq!(cache.keep(now, &event(channel, "small"), None), 0);
    }
    // Larger than two of them, so that not even one has room beside it.
    assert_eq!(
        cache.keep(now, &event("cache-d", &"x".repeat(each + 11)), None),
        3
    );
    assert_eq!(cache.events_count(), 1);
    assert!(shown(&cache, now, "cache-d").is_some());
}

#[test]
fn an_event_that_is_too_large_is_not_kept_and_neither_is_the_one_before_it() {
    let limit = weight("cache-a", &"x".repeat(100));
    let mut cache = cache(CacheLimits {
        bytes: limit,
        ..AMPLE
    });
    let now = Instant::now();
    cache.keep(now, &event("cache-a", "old"), None);
    assert_eq!(
        cache.keep(now, &event("cache-a", &"x".repeat(101)), None),
        1
    );
    assert_eq!(shown(&cache, now, "cache-a"), None);
    assert_eq!(cache.events_count(), 0);
    assert_eq!(
        cache.keep(now, &event("cache-a", &"x".repeat(100)), None),
        0
    );
    assert!(shown(&cache, now, "cache-a").is_some());
}

#[test]
fn each_app_has_its_own_room() {
    let mut cache = cache(CacheLimits {
        channels: 1,
        ..AMPLE
    });
    let now = Instant::now();
    for app in [APP, AppIndex(1)] {
        let sent = broadcast(app, vec![delivery("cache-a", "1")]);
        assert_eq!(cache.keep(now, &sent, None), 0);
    }
    assert_eq!(cache.events_count(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    /// App, channel, length of the text.
    Keep(u16, u8, usize),
    Wait(u64),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2_u16, 0..6_u8, 0..300_usize)
            .prop_map(|(app, channel, length)| Step::Keep(app, channel, length)),
        2 => (1..1200_u64).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ]
}

/// One kept event of the model: app, channel, text, and when it was kept.
type Row = (u16, String, String, Instant);

proptest! {
    #[test]
    fn the_cache_equals_a_list_with_the_oldest_in_front(
        steps in proptest::collection::vec(step(), 0..200),
        channels in 1..6_usize,
        bytes in 200..3000_usize,
    ) {
        let limits = CacheLimits { channels, bytes };
        let mut cache = cache(limits);
        let mut model: Vec<Row> = Vec::new();
        let mut now = Instant::now();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Keep(app, channel, length) => {
                    let channel = format!("cache-{channel}");
                    let text = format!("{number}{}", "x".repeat(length));
                    let sent = broadcast(AppIndex(app), vec![delivery(&channel, &text)]);
                    let dropped = cache.keep(now, &sent, None);
                    model.retain(|row| (row.0, &row.1) != (app, &channel));
                    model.push((app, channel, text, now));
                    prop_assert_eq!(dropped, drop_from(&mut model, app, limits));
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Sweep => {
                    cache.sweep(now);
                    model.retain(|row| now < row.3 + KEPT_FOR);
                    prop_assert_eq!(cache.apps.len(), {
                        usize::from(model.iter().any(|row| row.0 == 0))
                            + usize::from(model.iter().any(|row| row.0 == 1))
                    });
                }
            }
            prop_assert_eq!(cache.events_count(), model.len());
            for app in 0..2 {
                for channel in (0..6).map(|channel| format!("cache-{channel}")) {
                    let last = cache.last(now, AppIndex(app), &channel);
                    let row = model.iter().find(|row| (row.0, &row.1) == (app, &channel));
                    let expected = row.filter(|row| now < row.3 + KEPT_FOR);
                    prop_assert_eq!(last.map(Cached::text), expected.map(|row| row.2.as_bytes()));
                }
                let store = cache.apps.get(&AppIndex(app));
                prop_assert_eq!(store.map_or(0, |store| store.bytes), bytes_of(&model, app));
                prop_assert!(store.is_none_or(|store| store.places.len() == store.events.len()));
            }
        }
    }
}

/// Takes from an app's rows what is over the limits: the newest if it is too large by itself,
/// else the oldest. Gives how many that were.
fn drop_from(model: &mut Vec<Row>, app: u16, limits: CacheLimits) -> u64 {
    let (_, channel, text, _) = model.last().unwrap();
    if weight(channel, text) > limits.bytes {
        model.pop();
        return 1;
    }
    let mut dropped = 0;
    while model.iter().filter(|row| row.0 == app).count() > limits.channels
        || bytes_of(model, app) > limits.bytes
    {
        let oldest = model.iter().position(|row| row.0 == app).unwrap();
        model.remove(oldest);
        dropped += 1;
    }
    dropped
}

fn bytes_of(model: &[Row], app: u16) -> usize {
    let rows = model.iter().filter(|row| row.0 == app);
    rows.map(|row| weight(&row.1, &row.2)).sum()
}
