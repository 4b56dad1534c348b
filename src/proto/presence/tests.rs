//! Rosters: joins, leaves, and what each member is told.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn member(channel_data: &str) -> Member {
    Member::parse(Some(channel_data)).unwrap()
}

fn user(id: &str) -> Member {
    member(&format!(r#"{{"user_id":{id},"user_info":{{"name":"N"}}}}"#))
}

fn joined(members: &[&str]) -> Presence<usize> {
    let mut presence = Presence::new();
    for (session, channel_data) in members.iter().enumerate() {
        presence.join(session, member(channel_data));
    }
    presence
}

fn succeeded(presence: &Presence<usize>) -> String {
    let mut out = String::new();
    presence.write_succeeded(&mut out);
    out
}

const NOBODY: &str = r#"{"presence":{"count":0,"ids":[],"hash":[]}}"#;

#[test]
fn r093_first_member_is_listed_with_its_type() {
    let presence = joined(&[r#"{"user_id":1,"user_info":{"name":"Test User"}}"#]);
    assert_eq!(
        succeeded(&presence),
        r#"{"presence":{"count":1,"ids":[1],"hash":{"1":{"name":"Test User"}}}}"#
    );
}

#[test]
fn r094_r111_string_ids_stay_strings_in_order_of_subscription() {
    let presence = joined(&[
        r#"{"user_id":1,"user_info":{"name":"N"}}"#,
        r#"{"user_id":"2","user_info":{"name":"N"}}"#,
    ]);
    assert_eq!(
        succeeded(&presence),
        r#"{"presence":{"count":2,"ids":[1,"2"],"hash":{"1":{"name":"N"},"2":{"name":"N"}}}}"#
    );
}

#[test]
fn r097_r112_second_session_of_a_user_is_silent_and_listed_once() {
    let mut presence = Presence::new();
    assert_eq!(
        presence.join(0, member(r#"{"user_id":"1","user_info":1}"#)),
        Arrival::NewMember
    );
    assert_eq!(
        presence.join(1, member(r#"{"user_id":"1","user_info":2}"#)),
        Arrival::KnownMember
    );
    assert_eq!(
        succeeded(&presence),
        r#"{"presence":{"count":1,"ids":["1"],"hash":{"1":1}}}"#
    );
    presence.leave(0);
    assert_eq!(
        succeeded(&presence),
        r#"{"presence":{"count":1,"ids":["1"],"hash":{"1":2}}}"#
    );
}

#[test]
fn r098_r099_one_and_its_string_are_the_same_user_and_the_leavers_type_counts() {
    let mut presence = Presence::new();
    assert_eq!(presence.join(0, user("1")), Arrival::NewMember);
    assert_eq!(presence.join(1, user("\"1\"")), Arrival::KnownMember);
    assert_eq!(presence.user_ids().collect::<Vec<_>>(), ["1"]);
    assert_eq!(presence.leave(0), Departure::Silent);
    assert_eq!(
        presence.leave(1),
        Departure::MemberGone {
            user_id: "\"1\"".into()
        }
    );
    assert_eq!(presence.leave(1), Departure::Absent);
    assert!(presence.is_empty());
}

#[test]
fn r101_without_channel_data_a_member_is_empty_and_everyone_reads_nobody() {
    assert_eq!(Member::parse(None).unwrap().data.as_ref(), "{}");
    assert_eq!(Member::parse(Some("")), Member::parse(None));
    let mut presence = Presence::new();
    assert_eq!(
        presence.join(0, Member::parse(None).unwrap()),
        Arrival::NewMember
    );
    assert_eq!(succeeded(&presence), NOBODY);
    assert_eq!(presence.user_count(), 1);
}

#[test]
fn r102_r103_r104_a_member_without_id_empties_the_list_and_leaves_silently() {
    let mut presence = joined(&[r#"{"user_id":1}"#, r#"{"name":"Joe"}"#]);
    assert_eq!(
        member(r#"{"name":"Joe"}"#).data.as_ref(),
        r#"{"name":"Joe"}"#
    );
    assert_eq!(succeeded(&presence), NOBODY);
    assert_eq!(presence.user_ids().collect::<Vec<_>>(), ["1"]);
    assert_eq!(presence.user_count(), 2);
    assert_eq!(presence.leave(1), Departure::Silent);
    assert_eq!(
        succeeded(&presence),
        r#"{"presence":{"count":1,"ids":[1],"hash":{"1":null}}}"#
    );
}

#[test]
fn r105_r108_lists_as_ids_and_scalars_as_data_are_refused() {
    for data in [
        r#"{"user_id":[1]}"#,
        r#"{"user_id":{}}"#,
        "5",
        "\"s\"",
        "null",
        "true",
        "x",
    ] {
        assert_eq!(Member::parse(Some(data)), Err(InvalidMember), "{data}");
    }
    for data in ["[]", "{}", "[1,2]", r#"{"user_id":null}"#] {
        assert_eq!(member(data).user_id, None, "{data}");
    }
}

#[test]
fn r106_user_zero_is_a_user_like_any_other() {
    let mut presence = joined(&[r#"{"user_id":"0","user_info":{"name":"N"}}"#]);
    assert_eq!(
        succeeded(&presence),
        r#"{"presence":{"count":1,"ids":["0"],"hash":{"0":{"name":"N"}}}}"#
    );
    assert_eq!(presence.join(1, user("0")), Arrival::KnownMember);
    assert_eq!(presence.leave(1), Departure::Silent);
    assert_eq!(
        presence.leave(0),
        Departure::MemberGone {
            user_id: "\"0\"".into()
        }
    );
}

#[test]
fn r107_r109_user_info_is_kept_as_sent_and_null_when_missing() {
    let presence = joined(&[
        r#"{"user_id":"1","user_info":{"a":{},"b":1.0}}"#,
        r#"{"user_id":2}"#,
    ]);
    assert_eq!(
        succeeded(&presence),
        r#"{"presence":{"count":2,"ids":["1",2],"hash":{"1":{"a":{},"b":1.0},"2":null}}}"#
    );
}

#[test]
fn r110_a_repeated_join_replaces_the_member_in_its_place() {
    let mut presence = joined(&[
        r#"{"user_id":"w"}"#,
        r#"{"user_id":"1"}"#,
        r#"{"user_id":"z"}"#,
    ]);
    assert_eq!(presence.join(1, user("\"1\"")), Arrival::KnownMember);
    assert_eq!(presence.join(1, user("\"2\"")), Arrival::NewMember);
    assert_eq!(
        presence.user_ids().collect::<Vec<_>>(),
        ["\"w\"", "\"2\"", "\"z\""]
    );
    assert_eq!(presence.join(1, user("\"z\"")), Arrival::KnownMember);
    assert_eq!(presence.user_ids().collect::<Vec<_>>(), ["\"w\"", "\"z\""]);
}

#[test]
fn r113_unicode_ids_are_escaped_as_php_does() {
    let presence = joined(&[r#"{"user_id":"\u00e9\/1"}"#]);
    assert_eq!(
        succeeded(&presence),
        r#"{"presence":{"count":1,"ids":["\u00e9\/1"],"hash":{"\u00e9\/1":null}}}"#
    );
}

#[test]
fn odd_ids_get_the_keys_php_gives_them() {
    for (id, key) in [
        ("\"\"", ""),
        ("false", "0"),
        ("true", "1"),
        ("1.5", "1"),
        ("\"1.5\"", "1.5"),
    ] {
        let presence = joined(&[&format!(r#"{{"user_id":{id}}}"#)]);
        let listed =
            format!(r#"{{"presence":{{"count":1,"ids":[{id}],"hash":{{"{key}":null}}}}}}"#);
        assert_eq!(succeeded(&presence), listed);
    }
}

proptest! {
    #[test]
    fn what_is_announced_rebuilds_the_roster(
        steps in prop::collection::vec((any::<bool>(), 0..6_usize, 0..4_u8), 0..80),
    ) {
        let mut presence = Presence::new();
        let mut seats = BTreeMap::new();
        let mut roster = BTreeSet::new();
        for (is_join, session, id) in steps {
            // A session that changes its user is never announced as gone: left out here.
            let id = *seats.get(&session).unwrap_or(&id);
            if is_join {
                let arrival = presence.join(session, user(&id.to_string()));
                prop_assert_eq!(arrival == Arrival::NewMember, roster.insert(id.to_string()));
                seats.insert(session, id);
            } else if let Departure::MemberGone { user_id } = presence.leave(session) {
                seats.remove(&session);
                prop_assert!(roster.remove(user_id.as_ref()));
            } else {
                seats.remove(&session);
            }
            let listed: BTreeSet<String> = presence.user_ids().map(str::to_owned).collect();
            prop_assert_eq!(&listed, &roster);
            prop_assert_eq!(presence.user_count(), roster.len());
            prop_assert_eq!(presence.is_empty(), seats.is_empty());
        }
    }

    #[test]
    fn sessions_that_change_users_leave_nothing_behind(
        steps in prop::collection::vec((0..5_usize, 0..5_u8), 0..60),
    ) {
        let mut presence = Presence::new();
        for &(session, id) in &steps {
            let none = Member::parse(None).unwrap();
            presence.join(session, if id == 0 { none } else { user(&id.to_string()) });
        }
        for session in 0..5 {
            presence.leave(session);
        }
        prop_assert!(presence.is_empty() && presence.users.is_empty());
        prop_assert!(presence.speakers.is_empty() && presence.anonymous_count == 0);
    }
}
