//! When each event was said, so that all nodes agree on which of two is the last.
//!
//! Owned by the bus. Nodes' own clocks differ, and an event that waited for Redis is heard long
//! after it was said. So each message bears a time that is greater than all its node had heard;
//! and what comes on the bus in time counts as later than all that came before it, by its own
//! clock or not. Every node hears the same order, so every node counts the same.

use crate::shard::cache::Stamp;

/// Greater times are not believed: there must be room behind them.
const AT_MAX: u64 = 1 << 53;

/// One node's sense of time, Unix milliseconds or later.
#[derive(Debug)]
pub(super) struct Clock {
    /// The number of the node.
    node: u64,
    /// The greatest time heard.
    heard: u64,
    /// The greatest time given to an own message.
    said: u64,
}

impl Clock {
    pub(super) fn new(node: &str) -> Self {
        Self {
            node: number_of(node),
            heard: 0,
            said: 0,
        }
    }

    /// The time of an own message that is said now.
    pub(super) fn say(&mut self, unix_ms: u64) -> u64 {
        self.said = unix_ms.min(AT_MAX).max(self.heard.max(self.said) + 1);
        self.said
    }

    /// The time at which this node says that it is there. Where PHP nodes alone say something, it
    /// keeps what they say near the hour.
    pub(super) fn greet(&self, unix_ms: u64) -> u64 {
        unix_ms.min(AT_MAX).max(self.heard)
    }

    /// The time of a message that came on the bus, in its place or late.
    pub(super) fn hear(&mut self, at: u64, is_late: bool) -> u64 {
        let at = at.min(AT_MAX);
        if is_late {
            self.heard = self.heard.max(at);
            return at;
        }
        self.heard = at.max(self.heard + 1);
        self.heard
    }

    /// This node hears the bus again, and all that it said meanwhile stands before.
    pub(super) fn come_back(&mut self) {
        self.heard = self.heard.max(self.said);
    }

    /// An own message's stamp.
    pub(super) fn stamp(&self, at: u64) -> Stamp {
        Stamp {
            at,
            node: self.node,
        }
    }
}

/// The stamp of another node's message; one without a name is of PHP.
pub(super) fn stamp(node: Option<&str>, at: u64) -> Stamp {
    Stamp {
        at,
        node: node.map_or(0, number_of),
    }
}

/// A number for a node's name; of two names the greater has the greater number, or the same.
fn number_of(node: &str) -> u64 {
    let letters = node
        .bytes()
        .chain(std::iter::repeat(0))
        .take(size_of::<u64>());
    letters.fold(0, |number, letter| number << 8 | u64::from(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_later_than_all_that_was_said_and_heard_before() {
        let mut clock = Clock::new("me.1");
        assert_eq!([clock.say(10), clock.say(10), clock.say(5)], [10, 11, 12]);
        assert_eq!(clock.hear(40, true), 40);
        assert_eq!([clock.say(20), clock.say(50)], [41, 50]);
        assert_eq!(clock.greet(20), 40);
        assert_eq!(clock.greet(60), 60);
    }

    #[test]
    fn what_comes_in_time_is_later_than_all_that_came_before_and_what_is_late_is_not() {
        let mut clock = Clock::new("me.1");
        assert_eq!(clock.hear(100, false), 100);
        assert_eq!(clock.hear(7, false), 101);
        assert_eq!(clock.hear(7, true), 7);
        assert_eq!(clock.hear(0, false), 102);
        assert_eq!(clock.hear(u64::MAX, true), AT_MAX);
        assert_eq!(clock.hear(7, false), AT_MAX + 1);
        clock.say(AT_MAX + 9);
        clock.come_back();
        assert_eq!(clock.hear(0, false), AT_MAX + 3);
    }

    #[test]
    fn greater_names_have_greater_numbers() {
        let at = |node| stamp(node, 1);
        assert!(at(None) < at(Some("a.1")) && at(Some("a.1")) < at(Some("b.1")));
        assert_eq!(at(Some("me.1")), Clock::new("me.1").stamp(1));
    }
}
