//! A Redis as the bus sees it: commands in, replies and messages out, in order on each connection.

use std::collections::{HashMap, VecDeque};

/// What a node has published.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Message {
        node: String,
        seq: u64,
        event: u64,
    },
    Hello {
        node: String,
        seq: u64,
    },
    Ask {
        from: String,
        to: String,
        after: u64,
    },
    Replay {
        from: String,
        to: String,
        messages: Vec<(u64, u64)>,
        until: u64,
        is_whole: bool,
    },
}

impl Command {
    /// Is this node subscribed to where it is published?
    pub(crate) fn is_for(&self, node: &str) -> bool {
        match self {
            Self::Message { .. } | Self::Hello { .. } => true,
            Self::Ask { to, .. } | Self::Replay { to, .. } => to == node,
        }
    }
}

/// What Redis says on a connection.
#[derive(Debug)]
pub(crate) enum Heard {
    Reply(i64),
    Asked { node: String, receivers: i64 },
    Subscribed,
    Said(Command),
}

/// One connection of a node; a new one has nothing under way.
#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) is_up: bool,
    pub(crate) is_subscribed: bool,
    pub(crate) to_redis: VecDeque<Command>,
    pub(crate) from_redis: VecDeque<Heard>,
}

impl Connection {
    /// On a connection that is gone it is lost.
    pub(crate) fn say(&mut self, command: Command) {
        if self.is_up {
            self.to_redis.push_back(command);
        }
    }
}

/// Whether it runs, and what its one PHP subscriber has heard.
pub(crate) struct Redis {
    pub(crate) is_up: bool,
    pub(crate) is_paused: bool,
    pub(crate) heard_by_php: HashMap<u64, u32>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            is_up: true,
            is_paused: false,
            heard_by_php: HashMap::new(),
        }
    }
}

impl Redis {
    pub(crate) fn php_hears(&mut self, command: &Command) {
        if let Command::Message { event, .. } = command {
            *self.heard_by_php.entry(*event).or_default() += 1;
        }
    }
}
