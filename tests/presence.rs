//! Presence channels: who is here, who came, who went (R-093 to R-113).
//!
//! Sockets land on shards as the kernel likes, so on fleets of several the members of a channel
//! mostly live on different shards and meet at the app's home.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use channels::{escaped, hears_nothing_published, join, joined, member_added, member_removed};
use channels::{signed, subscribe, unauthorised, unsubscribe};
use harness::{Client, Opcode, Server, api, invalid_message, on_every_server};

mod channels;
mod harness;

/// What is said as long as somebody without an id is here.
const NOBODY: &str = r#"{"count":0,"ids":[],"hash":[]}"#;

const WATCHER: &str = r#"{"user_id":"w","user_info":{"name":"u"}}"#;
const WATCHER_ALONE: &str = r#"{"count":1,"ids":["w"],"hash":{"w":{"name":"u"}}}"#;
const ONE: &str = r#"{"user_id":"1","user_info":{"name":"u"}}"#;
const WATCHER_AND_ONE: &str =
    r#"{"count":2,"ids":["w","1"],"hash":{"w":{"name":"u"},"1":{"name":"u"}}}"#;

/// A socket that is on the channel before anyone else.
fn watcher(server: &Server, channel: &str) -> Client {
    let mut client = Client::of_app(server, "1");
    join("1", &mut client, channel, WATCHER, WATCHER_ALONE);
    client
}

/// Everything this socket has asked of the home so far is done: an answer of the home's is here.
fn is_done(client: &mut Client) {
    client.say(signed("1", client, "presence-done", None));
    assert_eq!(client.hear(), joined("presence-done", NOBODY));
    client.say(unsubscribe("presence-done"));
}

#[test]
fn r093_the_first_member_with_a_number_for_an_id() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        let data = r#"{"user_id":1,"user_info":{"name":"Test User"}}"#;
        client.say(signed("1", &client, "presence-test-channel", Some(data)));
        assert_eq!(
            client.hear(),
            concat!(
                r#"{"event":"pusher_internal:subscription_succeeded","data":"{\"presence\":"#,
                r#"{\"count\":1,\"ids\":[1],\"hash\":{\"1\":{\"name\":\"Test User\"}}}}","#,
                r#""channel":"presence-test-channel"}"#
            )
        );
    });
}

#[test]
fn r094_r095_r099_r111_members_come_and_go_and_keep_the_type_of_their_id() {
    on_every_server(|server| {
        let (mut ann, mut bob) = (Client::of_app(server, "1"), Client::of_app(server, "1"));
        let ann_data = r#"{"user_id":1,"user_info":{"name":"Ann"}}"#;
        let bob_data = r#"{"user_id":"2","user_info":{"name":"Bob"}}"#;
        let ann_alone = r#"{"count":1,"ids":[1],"hash":{"1":{"name":"Ann"}}}"#;
        let both = r#"{"count":2,"ids":[1,"2"],"hash":{"1":{"name":"Ann"},"2":{"name":"Bob"}}}"#;
        join("1", &mut ann, "presence-r", ann_data, ann_alone);
        for _ in 0..2 {
            join("1", &mut bob, "presence-r", bob_data, both);
            assert_eq!(
                ann.hear(),
                concat!(
                    r#"{"event":"pusher_internal:member_added","data":"{\"user_id\":\"2\","#,
                    r#"\"user_info\":{\"name\":\"Bob\"}}","channel":"presence-r"}"#
                )
            );
            bob.say(unsubscribe("presence-r"));
            assert_eq!(
                ann.hear(),
                concat!(
                    r#"{"event":"pusher_internal:member_removed","#,
                    r#""data":"{\"user_id\":\"2\"}","channel":"presence-r"}"#
                )
            );
        }
        join("1", &mut bob, "presence-r", bob_data, both);
        drop(ann);
        assert_eq!(bob.hear(), member_removed("presence-r", "1"));
    });
}

#[test]
fn r095_r099_members_on_every_shard_hear_of_each_other_once_and_in_order() {
    const MEMBERS: usize = 24;
    let data = |number: usize| format!(r#"{{"user_id":{number},"user_info":{{}}}}"#);
    on_every_server(|server| {
        let mut members: Vec<Client> = Vec::new();
        let (mut ids, mut hash) = (Vec::new(), Vec::new());
        for number in 0..MEMBERS {
            let mut member = Client::of_app(server, "1");
            ids.push(number.to_string());
            hash.push(format!(r#""{number}":{{}}"#));
            let (count, ids, hash) = (ids.len(), ids.join(","), hash.join(","));
            let present = format!(r#"{{"count":{count},"ids":[{ids}],"hash":{{{hash}}}}}"#);
            join("1", &mut member, "presence-crowd", &data(number), &present);
            members.push(member);
        }
        for (number, member) in members.iter_mut().enumerate() {
            for later in number + 1..MEMBERS {
                assert_eq!(member.hear(), member_added("presence-crowd", &data(later)));
            }
        }
        for number in 0..MEMBERS - 1 {
            let mut member = members.remove(0);
            match number % 3 {
                0 => member.say(unsubscribe("presence-crowd")),
                1 => member.send(Opcode::CLOSE, [0x03, 0xe8]),
                _ => drop(member),
            }
            for rest in &mut members {
                let gone = member_removed("presence-crowd", &number.to_string());
                assert_eq!(rest.hear(), gone);
            }
        }
        hears_nothing_published(server, "1", &mut members[0]);
    });
}

#[test]
fn r097_r099_r112_a_user_on_several_sockets_is_one_member() {
    on_every_server(|server| {
        let mut watcher = watcher(server, "presence-s");
        let present = r#"{"count":2,"ids":["w","1"],"hash":{"w":{"name":"u"},"1":{"tab":1}}}"#;
        let mut tabs = Vec::new();
        for tab in 1..=3 {
            let mut client = Client::of_app(server, "1");
            let data = format!(r#"{{"user_id":"1","user_info":{{"tab":{tab}}}}}"#);
            join("1", &mut client, "presence-s", &data, present);
            tabs.push(client);
        }
        let first = r#"{"user_id":"1","user_info":{"tab":1}}"#;
        assert_eq!(watcher.hear(), member_added("presence-s", first));
        hears_nothing_published(server, "1", &mut watcher);
        for mut tab in tabs.drain(..2) {
            tab.say(unsubscribe("presence-s"));
            is_done(&mut tab);
        }
        hears_nothing_published(server, "1", &mut watcher);
        drop(tabs);
        assert_eq!(watcher.hear(), member_removed("presence-s", r#""1""#));
        hears_nothing_published(server, "1", &mut watcher);
    });
}

#[test]
fn r098_r099_a_number_and_its_digits_are_one_user_and_the_leavers_type_is_said() {
    let present = |id: &str| {
        let hash = r#"{"w":{"name":"u"},"1":{"name":"u"}}"#;
        format!(r#"{{"count":2,"ids":["w",{id}],"hash":{hash}}}"#)
    };
    let data = |id: &str| format!(r#"{{"user_id":{id},"user_info":{{"name":"u"}}}}"#);
    on_every_server(|server| {
        for (channel, first, second) in [
            ("presence-is", "1", r#""1""#),
            ("presence-si", r#""1""#, "1"),
        ] {
            let mut watcher = watcher(server, channel);
            let mut a = Client::of_app(server, "1");
            let mut b = Client::of_app(server, "1");
            join("1", &mut a, channel, &data(first), &present(first));
            assert_eq!(watcher.hear(), member_added(channel, &data(first)));
            join("1", &mut b, channel, &data(second), &present(first));
            a.say(unsubscribe(channel));
            is_done(&mut a);
            b.say(unsubscribe(channel));
            assert_eq!(watcher.hear(), member_removed(channel, second));
            hears_nothing_published(server, "1", &mut watcher);
        }
    });
}

#[test]
fn r100_a_connection_that_ends_leaves_all_its_channels() {
    on_every_server(|server| {
        let mut a = watcher(server, "presence-a");
        let mut b = watcher(server, "presence-b");
        for end in 0..3 {
            let mut client = Client::of_app(server, "1");
            client.subscribe("news");
            join("1", &mut client, "presence-a", ONE, WATCHER_AND_ONE);
            join("1", &mut client, "presence-b", ONE, WATCHER_AND_ONE);
            match end {
                0 => client.send(Opcode::CLOSE, [0x03, 0xe8]),
                1 => client.finish(),
                // A reserved bit: the server ends it.
                _ => client.raw([0xf1, 0x80, 0, 0, 0, 0]),
            }
            for (watcher, channel) in [(&mut a, "presence-a"), (&mut b, "presence-b")] {
                assert_eq!(watcher.hear(), member_added(channel, ONE));
                assert_eq!(watcher.hear(), member_removed(channel, r#""1""#));
                hears_nothing_published(server, "1", watcher);
            }
        }
    });
}

#[test]
fn r101_without_channel_data_one_is_on_the_channel_but_not_counted() {
    on_every_server(|server| {
        let (mut a, mut b) = (Client::of_app(server, "1"), Client::of_app(server, "1"));
        for client in [&mut a, &mut b] {
            client.say(signed("1", client, "presence-nd", None));
            assert_eq!(client.hear(), joined("presence-nd", NOBODY));
        }
        assert_eq!(
            a.hear(),
            r#"{"event":"pusher_internal:member_added","data":"{}","channel":"presence-nd"}"#
        );
        api::publish_event(server, "1", "presence-nd", "ev", "x");
        for client in [&mut a, &mut b] {
            assert_eq!(
                client.hear(),
                r#"{"event":"ev","data":"x","channel":"presence-nd"}"#
            );
        }
    });
}

#[test]
fn r102_r103_r104_one_without_an_id_is_announced_uncounts_all_and_leaves_silently() {
    on_every_server(|server| {
        let mut watcher = watcher(server, "presence-nu");
        let mut nameless = Client::of_app(server, "1");
        let joe = r#"{"name":"Joe"}"#;
        join("1", &mut nameless, "presence-nu", joe, NOBODY);
        assert_eq!(watcher.hear(), member_added("presence-nu", joe));
        let mut one = Client::of_app(server, "1");
        join("1", &mut one, "presence-nu", ONE, NOBODY);
        assert_eq!(watcher.hear(), member_added("presence-nu", ONE));
        assert_eq!(nameless.hear(), member_added("presence-nu", ONE));
        nameless.say(unsubscribe("presence-nu"));
        is_done(&mut nameless);
        hears_nothing_published(server, "1", &mut watcher);
        // With it gone, the others count again.
        join("1", &mut one, "presence-nu", ONE, WATCHER_AND_ONE);
    });
}

#[test]
fn r105_an_id_that_is_a_list_or_an_object_is_refused() {
    on_every_server(|server| {
        let mut watcher = watcher(server, "presence-arr");
        let mut client = Client::of_app(server, "1");
        for id in ["[1]", "[]", r#"{"a":1}"#, "{}"] {
            let data = format!(r#"{{"user_id":{id},"user_info":{{}}}}"#);
            client.say(signed("1", &client, "presence-arr", Some(&data)));
            assert_eq!(client.hear(), invalid_message(), "{id}");
        }
        api::publish_event(server, "1", "presence-arr", "ev", "x");
        hears_nothing_published(server, "1", &mut client);
        assert_eq!(
            watcher.hear(),
            r#"{"event":"ev","data":"x","channel":"presence-arr"}"#
        );
    });
}

#[test]
fn r106_user_0_is_a_user_like_any_other() {
    on_every_server(|server| {
        for (channel, id) in [("presence-0", "0"), ("presence-00", r#""0""#)] {
            let data = format!(r#"{{"user_id":{id},"user_info":{{"name":"N"}}}}"#);
            let alone = format!(r#"{{"count":1,"ids":[{id}],"hash":{{"0":{{"name":"N"}}}}}}"#);
            let (mut a, mut b) = (Client::of_app(server, "1"), Client::of_app(server, "1"));
            join("1", &mut a, channel, &data, &alone);
            join("1", &mut b, channel, &data, &alone);
            let mut watcher = Client::of_app(server, "1");
            let hash = r#"{"0":{"name":"N"},"w":{"name":"u"}}"#;
            let both = format!(r#"{{"count":2,"ids":[{id},"w"],"hash":{hash}}}"#);
            join("1", &mut watcher, channel, WATCHER, &both);
            assert_eq!(a.hear(), member_added(channel, WATCHER));
            a.say(unsubscribe(channel));
            is_done(&mut a);
            drop(b);
            assert_eq!(watcher.hear(), member_removed(channel, id));
            hears_nothing_published(server, "1", &mut watcher);
        }
    });
}

#[test]
fn r107_a_member_without_user_info_has_null_for_it() {
    on_every_server(|server| {
        let mut watcher = watcher(server, "presence-ni");
        let mut client = Client::of_app(server, "1");
        let bare = r#"{"user_id":"1"}"#;
        let present = r#"{"count":2,"ids":["w","1"],"hash":{"w":{"name":"u"},"1":null}}"#;
        join("1", &mut client, "presence-ni", bare, present);
        assert_eq!(watcher.hear(), member_added("presence-ni", bare));
        drop(client);
        assert_eq!(watcher.hear(), member_removed("presence-ni", r#""1""#));
    });
}

#[test]
fn r108_channel_data_is_an_object_or_at_least_a_list() {
    on_every_server(|server| {
        let mut client = Client::of_app(server, "1");
        for data in ["null", "5", r#""s""#, "nope", "true"] {
            client.say(signed("1", &client, "presence-l", Some(data)));
            assert_eq!(client.hear(), invalid_message(), "{data}");
        }
        for (data, channel) in [
            ("[]", "presence-l1"),
            ("{}", "presence-l2"),
            ("[1,2]", "presence-l3"),
        ] {
            join("1", &mut client, channel, data, NOBODY);
        }
        // PHP takes these two for nothing, and so does not sign them either.
        for (data, channel) in [("", "presence-l4"), ("0", "presence-l5")] {
            let auth = api::channel_auth("1", &client.id, channel, None);
            client.say(subscribe(&format!(
                r#""channel":"{channel}","auth":"{auth}","channel_data":"{data}""#
            )));
            assert_eq!(client.hear(), joined(channel, NOBODY));
        }
    });
}

#[test]
fn r109_user_info_comes_back_as_it_was_sent() {
    on_every_server(|server| {
        let mut watcher = watcher(server, "presence-ui");
        let mut members = Vec::new();
        let (mut ids, mut hash) = (
            vec![r#""w""#.to_owned()],
            vec![r#""w":{"name":"u"}"#.to_owned()],
        );
        let infos = [
            "null",
            "{}",
            "[]",
            r#""str""#,
            r#"{"f":1.0,"big":12345678901234567890,"deep":{"a":[1,{}]},"s":"a/b","n":"é"}"#,
        ];
        for (user, info) in infos.iter().enumerate() {
            let mut client = Client::of_app(server, "1");
            let data = format!(r#"{{ "user_info" : {info}, "user_id":"{user}","role":"x"}}"#);
            ids.push(format!(r#""{user}""#));
            hash.push(format!(r#""{user}":{info}"#));
            let (count, ids, hash) = (ids.len(), ids.join(","), hash.join(","));
            let present = format!(r#"{{"count":{count},"ids":[{ids}],"hash":{{{hash}}}}}"#);
            join("1", &mut client, "presence-ui", &data, &present);
            assert_eq!(watcher.hear(), member_added("presence-ui", &data));
            members.push(client);
        }
    });
}

#[test]
fn r110_who_subscribes_again_as_another_user_is_the_new_one_only() {
    on_every_server(|server| {
        let mut watcher = watcher(server, "presence-u");
        let mut client = Client::of_app(server, "1");
        join("1", &mut client, "presence-u", ONE, WATCHER_AND_ONE);
        assert_eq!(watcher.hear(), member_added("presence-u", ONE));
        join("1", &mut client, "presence-u", ONE, WATCHER_AND_ONE);
        hears_nothing_published(server, "1", &mut watcher);
        let two = ONE.replace('1', "2");
        let watcher_and_two = WATCHER_AND_ONE.replace('1', "2");
        join("1", &mut client, "presence-u", &two, &watcher_and_two);
        assert_eq!(watcher.hear(), member_added("presence-u", &two));
        drop(client);
        assert_eq!(watcher.hear(), member_removed("presence-u", r#""2""#));
        hears_nothing_published(server, "1", &mut watcher);
    });
}

#[test]
fn r113_an_id_need_not_be_ascii() {
    on_every_server(|server| {
        let mut watcher = watcher(server, "presence-x");
        let mut client = Client::of_app(server, "1");
        let data = r#"{"user_id":"é/1","user_info":{"name":"😀"}}"#;
        let present = concat!(
            r#"{"count":2,"ids":["w","é/1"],"#,
            r#""hash":{"w":{"name":"u"},"\u00e9\/1":{"name":"😀"}}}"#
        );
        join("1", &mut client, "presence-x", data, present);
        assert_eq!(watcher.hear(), member_added("presence-x", data));
        drop(client);
        assert_eq!(
            watcher.hear(),
            concat!(
                r#"{"event":"pusher_internal:member_removed","#,
                r#""data":"{\"user_id\":\"\u00e9\/1\"}","channel":"presence-x"}"#
            )
        );
    });
}

#[test]
fn a_wrong_signature_keeps_one_out() {
    on_every_server(|server| {
        let mut watcher = watcher(server, "presence-ba");
        let mut client = Client::of_app(server, "1");
        let auth = api::channel_auth("1", &client.id, "presence-ba", Some(WATCHER));
        let other = escaped(ONE);
        client.say(subscribe(&format!(
            r#""channel":"presence-ba","auth":"{auth}","channel_data":"{other}""#
        )));
        assert_eq!(client.hear(), unauthorised());
        hears_nothing_published(server, "1", &mut watcher);
        client.subscribe("still-open");
    });
}

#[test]
fn all_members_hear_the_same_comings_and_goings_in_the_same_order() {
    const WATCHERS: usize = 4;
    const ROUNDS: usize = 20;
    on_every_server(|server| {
        let mut watchers: Vec<Client> = Vec::new();
        for number in 0..WATCHERS {
            let mut client = Client::of_app(server, "1");
            let data = WATCHER.replace('w', &format!("w{number}"));
            client.say(signed("1", &client, "presence-churn", Some(&data)));
            hear_past(&mut client, "subscription_succeeded");
            watchers.push(client);
        }
        api::publish_event(server, "1", "presence-churn", "start", "x");
        for watcher in &mut watchers {
            hear_past(watcher, r#""event":"start""#);
        }
        // Two sockets to each user, so that most comings and goings are nobody's business.
        std::thread::scope(|scope| {
            for number in 0..6 {
                scope.spawn(move || come_and_go(server, number % 3, ROUNDS));
            }
        });
        api::publish_event(server, "1", "presence-churn", "end", "x");
        let mut heard = watchers
            .iter_mut()
            .map(|watcher| hear_past(watcher, r#""event":"end""#));
        let first = heard.next().unwrap();
        for other in heard {
            assert_eq!(other, first);
        }
        for user in 0..3 {
            let id = format!(r#"\"user_id\":{user}"#);
            let of_user: Vec<&String> = first.iter().filter(|text| text.contains(&id)).collect();
            let is_added = |text: &&String| text.contains("member_added");
            let added: Vec<bool> = of_user.iter().map(is_added).collect();
            let is_told_once = added
                .iter()
                .enumerate()
                .all(|(at, &is)| is == (at % 2 == 0));
            assert!(
                is_told_once && added.len().is_multiple_of(2),
                "{of_user:#?}"
            );
        }
    });
}

/// Joins and leaves as this user, and returns when the last leave is done.
fn come_and_go(server: &Server, user: usize, rounds: usize) {
    let data = format!(r#"{{"user_id":{user},"user_info":{{}}}}"#);
    let mut client = Client::of_app(server, "1");
    for _ in 0..rounds {
        client.say(signed("1", &client, "presence-churn", Some(&data)));
        let heard = hear_past(&mut client, "subscription_succeeded");
        assert!(
            heard
                .last()
                .unwrap()
                .contains(&format!(r#"\"{user}\":{{}}"#))
        );
        client.say(unsubscribe("presence-churn"));
    }
    client.say(signed("1", &client, "presence-done", None));
    hear_past(&mut client, "presence-done");
}

/// Everything up to and with the first message that holds `part`.
fn hear_past(client: &mut Client, part: &str) -> Vec<String> {
    let mut heard = vec![client.hear()];
    while heard.last().is_some_and(|text| !text.contains(part)) {
        heard.push(client.hear());
    }
    heard
}
