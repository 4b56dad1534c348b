//! A home by plain calls: what it says to whom, in which order, and what it shows later.

use std::time::Duration;

use super::*;
use crate::proto::presence::Member;
use crate::shard::cache::KEPT_FOR;
use crate::shard::index::Slot;

const APP: AppIndex = AppIndex(0);
const ANN: &str = r#"{"user_id":"1","user_info":{"n":"Ann"}}"#;
const EVENT: &str = r#"{"event":"upd","data":"1","channel":"c"}"#;

fn homes() -> Homes {
    let limits = CacheLimits {
        channels: 10,
        bytes: 1 << 20,
    };
    Homes::new(limits, RandomState::with_seeds(1, 2, 3, 4))
}

fn session(slot: u32) -> SessionKey {
    SessionKey {
        shard: ShardIndex(1),
        slot: Slot(slot),
        generation: 0,
    }
}

fn publish(homes: &mut Homes, now: Instant, channel: &str, is_kept: bool) -> Arc<Broadcast> {
    let broadcast = Arc::new(Broadcast {
        app: APP,
        deliveries: vec![Delivery {
            channel: channel.into(),
            except: None,
            frame: frame::text_frame(|out| out.extend_from_slice(EVENT.as_bytes())),
            is_kept,
        }],
        is_one_event: false,
    });
    assert_eq!(homes.handle_publish(now, &broadcast, None), 0);
    broadcast
}

/// What a home says to a join: to everyone, to who asked, and the event it is shown.
fn join(
    homes: &mut Homes,
    now: Instant,
    slot: u32,
    channel: &str,
    data: Option<&str>,
) -> (Vec<String>, Vec<String>, Option<Cached>) {
    let mut said = Vec::new();
    let join = Join {
        app: APP,
        channel: channel.into(),
        session: session(slot),
        socket: SocketId { a: 1, b: slot },
        member: Member::parse(data).unwrap(),
    };
    homes.handle_join(now, join, &mut said);
    let Some(Said::Joined(joined)) = said.pop() else {
        panic!("no answer comes last: {said:?}");
    };
    assert_eq!(joined.session, session(slot));
    let to_everyone = said.iter().map(|said| match said {
        Said::Everyone(broadcast) => {
            let [delivery] = &broadcast.deliveries[..] else {
                panic!("not one delivery: {broadcast:?}");
            };
            assert!(!delivery.is_kept);
            assert_eq!(delivery.except, Some(SocketId { a: 1, b: slot }));
            texts(&delivery.frame).remove(0)
        }
        Said::Joined(joined) => panic!("a second answer: {joined:?}"),
    });
    (to_everyone.collect(), texts(&joined.frames), joined.last)
}

/// The texts of frames, none of them longer than 64 KiB.
fn texts(mut frames: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while !frames.is_empty() {
        let (head, length) = match frames {
            [0x81, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            [0x81, length, ..] => (2, usize::from(*length)),
            _ => panic!("no text frame: {frames:?}"),
        };
        let (frame, rest) = frames.split_at(head + length);
        found.push(String::from_utf8(frame[head..].to_vec()).unwrap());
        frames = rest;
    }
    found
}

fn ok(channel: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","data":"{{}}","channel":"{channel}"}}"#
    )
}

fn miss(channel: &str) -> String {
    format!(r#"{{"event":"pusher:cache_miss","channel":"{channel}"}}"#)
}

#[test]
fn r114_a_plain_cache_channel_answers_with_a_miss_and_keeps_no_members() {
    let mut homes = homes();
    let now = Instant::now();
    for channel in ["cache-a", "private-cache-a"] {
        let (everyone, answer, last) = join(&mut homes, now, 0, channel, Some(ANN));
        assert_eq!(everyone, [""; 0]);
        assert_eq!(answer, [ok(channel), miss(channel)]);
        assert!(last.is_none());
    }
    assert_eq!(homes.channels_count(), 0);
}

#[test]
fn r115_the_answer_brings_the_frame_that_was_delivered() {
    let mut homes = homes();
    let now = Instant::now();
    let sent = publish(&mut homes, now, "cache-a", true);
    for _ in 0..2 {
        let (_, answer, last) = join(&mut homes, now, 0, "cache-a", None);
        assert_eq!(answer, [ok("cache-a")]);
        let frame = &*sent.deliveries[0].frame;
        assert!(std::ptr::eq(last.unwrap().frame(), frame));
    }
    let cached = homes.cached(now, APP, "cache-a");
    assert_eq!(cached, Some(EVENT.as_bytes()));
}

#[test]
fn r096_r115_r120_a_presence_cache_says_who_came_then_who_is_there_then_the_event() {
    let mut homes = homes();
    let now = Instant::now();
    let channel = "presence-cache-a";
    let (everyone, answer, last) = join(&mut homes, now, 0, channel, Some(ANN));
    let added = concat!(
        r#"{"event":"pusher_internal:member_added","data":"{\"user_id\":\"1\","#,
        r#"\"user_info\":{\"n\":\"Ann\"}}","channel":"presence-cache-a"}"#
    );
    assert_eq!(everyone, [added]);
    let succeeded = concat!(
        r#"{"event":"pusher_internal:subscription_succeeded","data":"{\"presence\":{\"count\":1,"#,
        r#"\"ids\":[\"1\"],\"hash\":{\"1\":{\"n\":\"Ann\"}}}}","channel":"presence-cache-a"}"#
    );
    assert_eq!(answer, [succeeded.to_owned(), miss(channel)]);
    assert!(last.is_none());

    publish(&mut homes, now, channel, true);
    let mut said = Vec::new();
    homes.handle_leave(APP, channel, session(0), &mut said);
    assert!(matches!(said[..], [Said::Everyone(_)]), "{said:?}");
    assert_eq!(homes.channels_count(), 0);
    let (_, answer, last) = join(&mut homes, now, 1, channel, Some(ANN));
    assert_eq!(answer, [succeeded]);
    assert_eq!(last.unwrap().text(), EVENT.as_bytes());
}

#[test]
fn a_presence_channel_that_is_no_cache_says_nothing_of_events() {
    let mut homes = homes();
    let now = Instant::now();
    publish(&mut homes, now, "presence-cache", false);
    let (_, answer, last) = join(&mut homes, now, 0, "presence-cache", Some(ANN));
    assert_eq!((answer.len(), last.is_none()), (1, true));
    assert_eq!(homes.cached(now, APP, "presence-cache"), None);
}

#[test]
fn r116_r117_an_event_is_shown_for_thirty_minutes_whoever_is_there() {
    let mut homes = homes();
    let start = Instant::now();
    publish(&mut homes, start, "cache-a", true);
    let last_moment = start + Duration::from_millis(1_799_999);
    homes.handle_tick(last_moment);
    assert!(homes.cached(last_moment, APP, "cache-a").is_some());
    assert_eq!(homes.cached_count(), 1);

    let (_, answer, last) = join(&mut homes, start + KEPT_FOR, 0, "cache-a", None);
    assert_eq!(answer, [ok("cache-a"), miss("cache-a")]);
    assert!(last.is_none());
    homes.handle_tick(start + KEPT_FOR);
    assert_eq!(homes.cached_count(), 0);
}
