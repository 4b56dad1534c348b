//! A Redis as the bus sees it: commands in, replies and messages out, in order on each connection.
//! A PHP node listens to it too.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// One message of a node.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) is_late: bool,
    pub(crate) event: u64,
}

/// What a node has published.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Message {
        node: String,
        told: Told,
    },
    /// Of the PHP node.
    Foreign(u64),
    Hello {
        node: String,
        seq: u64,
        asks: bool,
        at: u64,
    },
    Ask {
        from: String,
        to: String,
        after: u64,
        within: Option<Duration>,
    },
    Replay {
        from: String,
        to: String,
        messages: Vec<Told>,
        until: u64,
        is_whole: bool,
    },
}

impl Command {
    /// Is this node subscribed to where it is published?
    pub(crate) fn is_for(&self, node: &str) -> bool {
        match self {
            Self::Message { .. } | Self::Foreign(_) | Self::Hello { .. } => true,
            Self::Ask { to, .. } | Self::Replay { to, .. } => to == node,
        }
    }

    /// Is it none of the PHP node's business?
    pub(crate) fn is_aside(&self) -> bool {
        !matches!(self, Self::Message { .. } | Self::Foreign(_))
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
#[derive(Debug, Default)]
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

/// Whether it runs, and what it still has to do.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) is_up: bool,
    pub(crate) is_paused: bool,
    pub(crate) heard_by_php: HashMap<u64, u32>,
    /// Commands of connections that their nodes have given up: it may read them still.
    pub(crate) leftovers: Vec<VecDeque<Command>>,
    /// Side messages that come a second time.
    pub(crate) doubled: Vec<Command>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            is_up: true,
            is_paused: false,
            heard_by_php: HashMap::new(),
            leftovers: Vec::new(),
            doubled: Vec::new(),
        }
    }
}

impl Redis {
    pub(crate) fn works(&self) -> bool {
        self.is_up && !self.is_paused
    }

    /// Takes commands that nobody waits for any more: all that one connection left.
    pub(crate) fn strays(&mut self, random: &mut fastrand::Rng) -> VecDeque<Command> {
        if random.bool() && !self.doubled.is_empty() {
            let at = random.usize(0..self.doubled.len());
            return VecDeque::from([self.doubled.swap_remove(at)]);
        }
        match self.leftovers.len() {
            0 => VecDeque::new(),
            count => self.leftovers.swap_remove(random.usize(0..count)),
        }
    }

    pub(crate) fn die(&mut self) {
        self.is_up = false;
        self.leftovers.clear();
        self.doubled.clear();
    }

    pub(crate) fn php_hears(&mut self, command: &Command) {
        if let Command::Message { told, .. } = command {
            *self.heard_by_php.entry(told.event).or_default() += 1;
        }
    }
}
