//! Slots as Redis counts them, and what nodes say of one another.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// As a Redis 7 says it: three masters, one of which has failed, their replicas, and one that just
/// comes in.
const ANSWER: &str = "\
a1 127.0.0.1:30001@40001 myself,master - 0 1426238317239 1 connected 0-5460 9000 [93-<-b2]
b2 127.0.0.1:30002@40002,b.test master - 0 1426238316232 2 connected 5461-8999 [77->-a1]
c3 127.0.0.1:30003@40003 master,fail - 1426238316232 1426238316232 3 disconnected 10923-16383
d4 2001:db8::4:30004@40004,,shard-id=1 slave b2 0 1426238317741 2 connected
e5 127.0.0.1:30005 slave,fail? a1 0 1426238317741 1 connected
f6 :0@0 master,noaddr - 0 0 0 disconnected
";

fn at(host: &str, port: u16) -> Address {
    (host.to_owned(), port)
}

/// Whom a node names as the owner, and where.
fn owner(answer: &str, slot: u16) -> Option<(String, Option<Address>)> {
    let owner = read(answer, slot).owner?;
    Some((owner.id, owner.address))
}

#[test]
fn slots_are_those_of_the_specification() {
    assert_eq!(crc(b"123456789"), 0x31c3);
    for (key, slot) in [
        ("", 0),
        ("123456789", 0x31c3),
        ("foo", 12182),
        ("hello", 866),
        ("{foo}.bar", 12182),
        ("any{foo}{hello}", 12182),
    ] {
        assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
    }
    assert_eq!(slot_of(b"foo{{hello}}"), crc(b"{hello") % SLOTS_COUNT);
    // Braces around nothing, or one alone, are letters like others.
    for whole in ["{}foo", "foo{}{hello}", "{foo", "foo}", "}foo{"] {
        let slot = crc(whole.as_bytes()) % SLOTS_COUNT;
        assert_eq!(slot_of(whole.as_bytes()), slot, "{whole}");
    }
}

#[test]
fn the_owner_of_a_slot_is_told_and_where_it_is() {
    for asked in [0, 93, 5460, 9000] {
        assert_eq!(
            owner(ANSWER, asked),
            Some(("a1".to_owned(), None)),
            "{asked}"
        );
    }
    for other in [5461, 8999] {
        let address = Some(at("b.test", 30002));
        assert_eq!(
            owner(ANSWER, other),
            Some(("b2".to_owned(), address)),
            "{other}"
        );
    }
    for nobody in [9001, 10923, 16383] {
        assert_eq!(owner(ANSWER, nobody), None, "{nobody}");
    }
}

#[test]
fn other_nodes_are_told_but_for_those_that_are_gone() {
    let (b, d, e) = (
        at("b.test", 30002),
        at("2001:db8::4", 30004),
        at("127.0.0.1", 30005),
    );
    assert_eq!(read(ANSWER, 0).others, [b, d.clone(), e.clone()]);
    // The owner is no other.
    assert_eq!(read(ANSWER, 5461).others, [d, e]);
    let many: Vec<_> = (1..100)
        .map(|port| format!("{port} h:{port}@1 slave a 0 0 1 connected"))
        .collect();
    assert_eq!(read(&many.join("\n"), 0).others.len(), OTHERS_MAX);
}

#[test]
fn what_is_no_node_counts_for_nothing() {
    for garbage in [
        "",
        "\n\n",
        "a1 127.0.0.1:1@2 master - 0 0 1",
        "a1 127.0.0.1:99999@2 master - 0 0 1 connected 0-1",
        "a1 127.0.0.1:0@2 master - 0 0 1 connected 0-1",
        "a1 127.0.0.1 master - 0 0 1 connected 0-1",
        "a1 :1@2 master - 0 0 1 connected 0-1",
        "a1 127.0.0.1:1@2 master - 0 0 1 connected 0-x 1-0 - 99999 -1",
    ] {
        assert_eq!(read(garbage, 0).owner, None, "{garbage}");
    }
}

proptest! {
    #[test]
    fn any_key_has_a_slot_and_keys_of_one_tag_have_the_same(
        tag in "[^{}]{1,20}",
        before in "[^{}]{0,20}",
        behind in ".{0,20}",
    ) {
        let slot = slot_of(format!("{before}{{{tag}}}{behind}").as_bytes());
        prop_assert_eq!(slot, slot_of(tag.as_bytes()));
        prop_assert!(slot < SLOTS_COUNT);
    }

    #[test]
    fn any_text_is_read_within_bounds(
        answer in "([a-z0-9:@,. \\[\\]\n-]|master|myself|fail| - ){0,300}",
        slot in any::<u16>(),
    ) {
        let view = read(&answer, slot);
        prop_assert!(view.others.len() <= OTHERS_MAX);
        let owner = view.owner.iter().filter_map(|owner| owner.address.as_ref());
        let mut addresses = view.others.iter().chain(owner);
        prop_assert!(addresses.all(|(host, port)| !host.is_empty() && *port > 0));
    }
}
