//! Cache channels: who comes later is shown the last event (R-089, R-114 to R-120).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use channels::{enter, join, member_added, member_removed, signed, subscribe_to};
use channels::{hears_nothing_published, unauthorised, unsubscribe};
use harness::{Client, Server, api, on_every_fleet, on_every_server, subscribed};

mod channels;
mod harness;

/// One of each kind that may be entered without member data.
const PLAIN: [&str; 4] = [
    "cache-k",
    "cachefoo",
    "private-cache-k",
    "private-cache-user.1",
];

const ONE: &str = r#"{"user_id":"1","user_info":{"name":"u"}}"#;
const TWO: &str = r#"{"user_id":"2","user_info":{"name":"u"}}"#;
const ONE_ALONE: &str = r#"{"count":1,"ids":["1"],"hash":{"1":{"name":"u"}}}"#;
const BOTH: &str = r#"{"count":2,"ids":["1","2"],"hash":{"1":{"name":"u"},"2":{"name":"u"}}}"#;

fn miss(channel: &str) -> String {
    format!(r#"{{"event":"pusher:cache_miss","channel":"{channel}"}}"#)
}

/// The event that [`publish`] publishes, as it is heard.
fn update(channel: &str, version: usize) -> String {
    format!(r#"{{"event":"upd","data":"{{\"v\":{version}}}","channel":"{channel}"}}"#)
}

fn publish(server: &Server, channel: &str, version: usize) {
    let data = format!(r#"{{"v":{version}}}"#);
    api::publish_event(server, "1", channel, "upd", &data);
}

/// Subscribes to a cache channel without member data; what it is shown is still unread.
fn open(client: &mut Client, channel: &str) {
    client.say(signed("1", client, channel, None));
    assert_eq!(client.hear(), subscribed(channel));
}

/// A new socket subscribes, and is shown this.
fn is_shown(server: &Server, channel: &str, expected: &str) -> Client {
    let mut client = Client::of_app(server, "1");
    open(&mut client, channel);
    assert_eq!(client.hear(), expected);
    client.hears_nothing();
    client
}

#[test]
fn r114_r119_the_first_subscriber_is_told_that_there_is_nothing_and_no_more() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        client.say(
            r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"cache-test-channel"}}"#,
        );
        assert_eq!(
            client.hear(),
            concat!(
                r#"{"event":"pusher_internal:subscription_succeeded","#,
                r#""data":"{}","channel":"cache-test-channel"}"#
            )
        );
        assert_eq!(
            client.hear(),
            r#"{"event":"pusher:cache_miss","channel":"cache-test-channel"}"#
        );
        hears_nothing_published(server, "1", &mut client);
    });
}

#[test]
fn r081_r089_r114_each_kind_that_is_open_to_the_socket_misses_its_first_event() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for channel in PLAIN {
            open(&mut client, channel);
            assert_eq!(client.hear(), miss(channel));
        }
        join("1", &mut client, "presence-cache-k", ONE, ONE_ALONE);
        assert_eq!(client.hear(), miss("presence-cache-k"));
        // Their prefixes want the last dash.
        for channel in [
            "private-cache",
            "private-cachex",
            "private-encrypted-cache-x",
        ] {
            enter("1", &mut client, channel);
        }
        join("1", &mut client, "presence-cache", ONE, ONE_ALONE);
        hears_nothing_published(server, "1", &mut client);
    });
}

#[test]
fn r089_private_and_presence_caches_want_a_signature() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        publish(server, "private-cache-k", 1);
        for channel in ["private-cache-k", "presence-cache-k", "presence-k"] {
            client.say(subscribe_to(channel));
            assert_eq!(client.hear(), unauthorised(), "{channel}");
            let other = signed("1", &client, "private-cache-other", None);
            client.say(other.replace("private-cache-other", channel));
            assert_eq!(client.hear(), unauthorised(), "{channel}");
        }
        publish(server, "private-cache-k", 2);
        hears_nothing_published(server, "1", &mut client);
        open(&mut client, "private-cache-k");
        assert_eq!(client.hear(), update("private-cache-k", 2));
    });
}

#[test]
fn r115_who_comes_later_gets_the_very_bytes_that_the_others_got() {
    on_every_server(|server| {
        for channel in ["cache-test-channel", "private-cache-test-channel"] {
            let mut early = is_shown(server, channel, &miss(channel));
            let event = r"App\\Events\\TestEvent";
            api::publish_event(server, "1", channel, event, r#"{"foo":"bar"}"#);
            let said = format!(
                r#"{{"event":"{event}","data":"{{\"foo\":\"bar\"}}","channel":"{channel}"}}"#
            );
            assert_eq!(early.hear(), said);
            is_shown(server, channel, &said);

            // Escapes, and frames of a longer form.
            for data in [r#"{"text":"é/<b>"}"#.to_owned(), "x".repeat(5000)] {
                api::publish_event(server, "1", channel, "upd", &data);
                let mut late = Client::of_app(server, "1");
                open(&mut late, channel);
                assert_eq!(late.hear_frame(), early.hear_frame());
            }
        }
    });
}

#[test]
fn r115_r120_a_presence_cache_shows_who_is_there_then_the_last_event_of_a_server() {
    const CHANNEL: &str = "presence-cache-x";
    const THREE: &str = r#"{"user_id":"3","user_info":{"name":"u"}}"#;
    on_every_server(|server| {
        let (mut ann, mut bob) = (Client::of_app(server, "1"), Client::of_app(server, "1"));
        join("1", &mut ann, CHANNEL, ONE, ONE_ALONE);
        assert_eq!(ann.hear(), miss(CHANNEL));
        // Neither a member that came nor one that went is an event to keep.
        for _ in 0..2 {
            join("1", &mut bob, CHANNEL, TWO, BOTH);
            assert_eq!(bob.hear(), miss(CHANNEL));
            assert_eq!(ann.hear(), member_added(CHANNEL, TWO));
            bob.say(unsubscribe(CHANNEL));
            assert_eq!(ann.hear(), member_removed(CHANNEL, r#""2""#));
        }
        publish(server, CHANNEL, 1);
        assert_eq!(ann.hear(), update(CHANNEL, 1));
        join("1", &mut bob, CHANNEL, TWO, BOTH);
        assert_eq!(bob.hear(), update(CHANNEL, 1));
        assert_eq!(ann.hear(), member_added(CHANNEL, TWO));
        drop(ann);
        assert_eq!(bob.hear(), member_removed(CHANNEL, r#""1""#));

        let mut cleo = Client::of_app(server, "1");
        let present = r#"{"count":2,"ids":["2","3"],"hash":{"2":{"name":"u"},"3":{"name":"u"}}}"#;
        join("1", &mut cleo, CHANNEL, THREE, present);
        assert_eq!(cleo.hear(), update(CHANNEL, 1));
        assert_eq!(bob.hear(), member_added(CHANNEL, THREE));
        publish(server, CHANNEL, 2);
        for client in [&mut bob, &mut cleo] {
            assert_eq!(client.hear(), update(CHANNEL, 2));
            hears_nothing_published(server, "1", client);
        }
    });
}

#[test]
fn r116_the_event_stays_when_the_last_subscriber_goes() {
    on_every_server(|server| {
        for channel in PLAIN {
            let mut last = is_shown(server, channel, &miss(channel));
            publish(server, channel, 1);
            assert_eq!(last.hear(), update(channel, 1));
            last.say(unsubscribe(channel));
            last.hears_nothing();
            drop(is_shown(server, channel, &update(channel, 1)));
            is_shown(server, channel, &update(channel, 1));
            last.hears_nothing();
        }
    });
}

#[test]
fn r117_an_event_that_nobody_hears_is_kept() {
    on_every_server(|server| {
        for channel in PLAIN {
            for version in 1..=3 {
                publish(server, channel, version);
            }
            is_shown(server, channel, &update(channel, 3));
        }
        publish(server, "presence-cache-k", 1);
        let mut client = Client::of_app(server, "1");
        join("1", &mut client, "presence-cache-k", ONE, ONE_ALONE);
        assert_eq!(client.hear(), update("presence-cache-k", 1));
    });
}

#[test]
fn r118_a_client_event_is_never_kept_whoever_sends_it() {
    on_every_server(|server| {
        for channel in PLAIN {
            let mut listener = is_shown(server, channel, &miss(channel));
            let mut whisperer = is_shown(server, channel, &miss(channel));
            let whisper =
                format!(r#"{{"event":"client-x","channel":"{channel}","data":{{"c":1}}}}"#);
            whisperer.say(&whisper);
            assert_eq!(listener.hear(), whisper);
            is_shown(server, channel, &miss(channel));

            publish(server, channel, 1);
            assert_eq!(whisperer.hear(), update(channel, 1));
            whisperer.say(&whisper);
            whisperer.hears_nothing();
            api::publish_event(server, "1", channel, "client-api", "1");
            let from_api = format!(r#"{{"event":"client-api","data":"1","channel":"{channel}"}}"#);
            assert_eq!(whisperer.hear(), from_api);
            is_shown(server, channel, &update(channel, 1));
        }
    });
}

#[test]
fn r118_a_whisper_to_many_channels_is_kept_on_none() {
    on_every_server(|server| {
        let mut whisperer = Client::of_app(server, "all");
        let whisper = r#""event":"client-x","data":{"c":1}"#;
        whisperer.say(format!(
            r#"{{{whisper},"channels":["cache-a","cache-b"],"channel":"x"}}"#
        ));
        whisperer.hears_nothing();
        for channel in ["cache-a", "cache-b"] {
            whisperer.subscribe(channel);
            assert_eq!(whisperer.hear(), miss(channel));
        }
    });
}

#[test]
fn who_subscribes_again_is_shown_the_last_event_again_and_hears_the_next_once() {
    on_every_server(|server| {
        for channel in PLAIN {
            let mut client = is_shown(server, channel, &miss(channel));
            for version in 1..=3 {
                publish(server, channel, version);
                assert_eq!(client.hear(), update(channel, version));
                open(&mut client, channel);
                assert_eq!(client.hear(), update(channel, version));
            }
            hears_nothing_published(server, "1", &mut client);
        }
    });
}

#[test]
fn an_event_that_spares_one_socket_is_kept_for_all() {
    on_every_server(|server| {
        let mut spared = is_shown(server, "cache-e", &miss("cache-e"));
        let body = format!(
            r#"{{"name":"upd","channels":["news","cache-e","cache-f"],"data":"{{\"v\":2}}","socket_id":"{}"}}"#,
            spared.id
        );
        assert_eq!(api::publish(server, "1", &body).status, 200);
        hears_nothing_published(server, "1", &mut spared);
        open(&mut spared, "cache-e");
        assert_eq!(spared.hear(), update("cache-e", 2));
        is_shown(server, "cache-f", &update("cache-f", 2));
    });
}

#[test]
fn apps_keep_their_own_events() {
    on_every_server(|server| {
        publish(server, "cache-k", 1);
        let mut stranger = Client::of_app(server, "all");
        stranger.subscribe("cache-k");
        assert_eq!(stranger.hear(), miss("cache-k"));
        is_shown(server, "cache-k", &update("cache-k", 1));
    });
}

#[test]
fn subscriptions_in_one_write_are_answered_in_order() {
    on_every_server(|server| {
        publish(server, "cache-a", 1);
        let mut client = Client::of_app(server, "1");
        let channels = ["news", "cache-a", "private-cache-b", "feed", "cache-a"];
        let messages = channels.map(|channel| signed("1", &client, channel, None));
        for message in messages {
            client.say(message);
        }
        for channel in channels {
            assert_eq!(client.hear(), subscribed(channel));
            match channel {
                "cache-a" => assert_eq!(client.hear(), update(channel, 1)),
                "private-cache-b" => assert_eq!(client.hear(), miss(channel)),
                _ => {}
            }
        }
        client.hears_nothing();
    });
}

#[test]
fn over_the_limit_of_channels_the_oldest_event_goes() {
    on_every_fleet(|fleet| {
        let mut server = Server::start(fleet, &[("SLAPBACK_CACHE_CHANNELS", "2")]);
        for channel in ["cache-a", "cache-b", "cache-a", "cache-c"] {
            publish(&server, channel, 1);
        }
        is_shown(&server, "cache-a", &update("cache-a", 1));
        is_shown(&server, "cache-b", &miss("cache-b"));
        is_shown(&server, "cache-c", &update("cache-c", 1));
        assert!(server.terminate().success());
        let stopped = server.says("stopped: ");
        assert!(stopped.contains("cache_dropped=1"), "{stopped}");
    });
}

#[test]
fn an_event_over_the_limit_of_bytes_takes_the_one_before_it_away() {
    on_every_fleet(|fleet| {
        let server = Server::start(fleet, &[("SLAPBACK_CACHE_BYTES", "2000")]);
        publish(&server, "cache-a", 1);
        let mut client = is_shown(&server, "cache-a", &update("cache-a", 1));
        let data = "x".repeat(2000);
        api::publish_event(&server, "1", "cache-a", "upd", &data);
        let said = format!(r#"{{"event":"upd","data":"{data}","channel":"cache-a"}}"#);
        assert_eq!(client.hear(), said);
        is_shown(&server, "cache-a", &miss("cache-a"));
        publish(&server, "cache-a", 3);
        is_shown(&server, "cache-a", &update("cache-a", 3));
    });
}

/// One publisher counts up; sockets on all shards come and go. Each is shown an event at least as
/// new as the last one answered 200 before it asked, and then every one behind it.
#[test]
fn nobody_is_left_with_an_old_event_and_nobody_gets_one_twice() {
    const EVENTS: usize = 400;
    const LISTENERS: usize = 6;
    on_every_server(|server| {
        for channel in ["cache-count", "presence-cache-count"] {
            let answered = AtomicUsize::new(0);
            let listen = || {
                while answered.load(Ordering::SeqCst) < EVENTS {
                    let mut client = Client::of_app(server, "1");
                    let before = answered.load(Ordering::SeqCst);
                    let mut shown = follow(&mut client, channel);
                    assert!(shown >= before, "{shown} is shown, {before} was answered");
                    let until = EVENTS.min(shown + 10);
                    while shown < until {
                        shown += 1;
                        assert_eq!(client.hear(), update(channel, shown));
                    }
                }
            };
            thread::scope(|scope| {
                for _ in 0..LISTENERS {
                    scope.spawn(listen);
                }
                for version in 1..=EVENTS {
                    publish(server, channel, version);
                    answered.store(version, Ordering::SeqCst);
                }
            });
        }
    });
}

/// Subscribes, everyone as the same user where there are members; gives the version shown.
fn follow(client: &mut Client, channel: &str) -> usize {
    if channel.starts_with("presence") {
        join("1", client, channel, ONE, ONE_ALONE);
    } else {
        open(client, channel);
    }
    let shown = client.hear();
    if shown == miss(channel) {
        return 0;
    }
    let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
    let version = digits.parse().unwrap();
    assert_eq!(shown, update(channel, version));
    version
}
