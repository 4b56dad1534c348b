//! This node on the bus: two connections, one that publishes and one that hears, and between them
//! the machine that decides ([`Bus`]).
//!
//! Owned by the Redis thread. It turns bytes into what the machine is told, and what the machine
//! wants into bytes, rings and answers.

mod hearing;
mod wording;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::event::PollFlags;
use tracing::{info, warn};

use self::hearing::Hearing;
use self::wording::Wording;
use crate::app::Apps;
use crate::broadcast::Broadcast;
use crate::config;
use crate::metrics::{Counter, Metrics};
use crate::proto::json::Workspace;
use crate::redis::bus::{Bus, Caller, Effect, Limits};
use crate::redis::envelope;
use crate::redis::link::Link;
use crate::redis::outlet::Outlet;
use crate::redis::resp::Said;
use crate::redis::side;
use crate::ring::Wake;
use crate::serving::Serving;
use crate::shard;
use crate::shard::question::Ask;
use crate::status::RedisStatus;

/// Bytes of one message that is read: Redis cuts a subscriber that is owed more.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What Redis gives one node.
pub(super) struct Scaling {
    channel: String,
    publisher: Link,
    subscriber: Link,
    /// What the answers of the publishing connection are to.
    replies: VecDeque<Reply>,
    bus: Bus,
    /// What the status says.
    was_live: bool,
    effects: Vec<Effect>,
    serving: Arc<Serving>,
    edition: u64,
    apps: Arc<Apps>,
    wording: Wording,
    scratch: Scratch,
    metrics: Arc<Metrics>,
    status: Arc<RedisStatus>,
    has_refused: bool,
}

/// Buffers reused between messages.
#[derive(Default)]
struct Scratch {
    message: envelope::Scratch,
    event: envelope::Scratch,
    side: Workspace,
    list: Workspace,
    text: Vec<u8>,
}

/// What an answer of Redis is to.
enum Reply {
    Message,
    Asked(Box<str>),
    Other,
}

impl Scaling {
    /// Will dial at once.
    pub(super) fn new(
        scaling: config::Scaling,
        serving: Arc<Serving>,
        metrics: Arc<Metrics>,
        status: Arc<RedisStatus>,
        wake: &Arc<dyn Wake>,
        now: Instant,
    ) -> Self {
        let server = Arc::new(scaling.server);
        let link = |purpose| {
            let (server, wake) = (Arc::clone(&server), Arc::clone(wake));
            Link::new(purpose, server, MESSAGE_BYTES_MAX, wake, now)
        };
        let node = format!("{:016x}.{}", fastrand::u64(..), unix_ms());
        let limits = Limits {
            replay_bytes: scaling.replay_bytes,
            timeout: scaling.timeout,
        };
        info!("scaling: this node is {node}");
        status.scaling.begin();
        Self {
            bus: Bus::new(&node, limits, now),
            channel: scaling.channel,
            publisher: link("scaling (publishing)"),
            subscriber: link("scaling (hearing)"),
            replies: VecDeque::new(),
            was_live: false,
            effects: Vec::new(),
            edition: 0,
            apps: serving.apps(),
            serving,
            wording: Wording::new(node, scaling.public),
            scratch: Scratch::default(),
            metrics,
            status,
            has_refused: false,
        }
    }

    /// When [`Self::turn`] has something to do next.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let links = [self.publisher.deadline(), self.subscriber.deadline()];
        links
            .into_iter()
            .flatten()
            .chain([now + shard::wheel::TICK])
            .min()
    }

    /// What to wait on, and for what.
    pub(super) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.publisher.fd().into_iter().chain(self.subscriber.fd())
    }

    /// Does what is due.
    pub(super) fn turn(&mut self, now: Instant, outlet: &mut Outlet) {
        if let Some(apps) = self.serving.look(&mut self.edition) {
            self.apps = apps;
            self.wording.handle_apps(&self.apps);
        }
        if self.publisher.turn(now) {
            self.publisher.works();
            self.replies.clear();
            self.bus.handle_publisher_up(now, &mut self.effects);
        }
        if self.subscriber.turn(now) {
            let own = [
                self.channel.clone(),
                format!("{}{}", self.channel, side::SUFFIX),
                format!("{}{}:{}", self.channel, side::SUFFIX, self.bus.node()),
            ];
            self.has_refused = false;
            let own = own.iter().map(String::as_str);
            self.subscriber.subscribe("SUBSCRIBE", own);
        }
        self.bus.handle_tick(now, &mut self.effects);
        self.carry_out(now, outlet);
    }

    /// A shard hands in events.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        message: shard::message::Message,
        outlet: &mut Outlet,
    ) {
        let shard::message::Message::Publish {
            broadcast,
            answer_to,
            question,
        } = message
        else {
            return;
        };
        let app = broadcast.app;
        let caller = answer_to.map(|session| Caller {
            session,
            asks: question.map(|question| Ask {
                app,
                session,
                question,
            }),
        });
        let broadcasts = if broadcast.is_one_event {
            vec![broadcast]
        } else {
            split(&broadcast)
        };
        self.bus
            .handle_publish(now, unix_ms(), broadcasts, caller, &mut self.effects);
        self.carry_out(now, outlet);
    }

    /// Writes what it can.
    pub(super) fn write(&mut self, now: Instant, outlet: &mut Outlet) {
        if let Err(why) = self.publisher.write() {
            self.lose_publisher(now, &why);
        }
        if let Err(why) = self.subscriber.write() {
            self.lose_subscriber(now, &why);
        }
        self.carry_out(now, outlet);
    }

    /// Reads once from each connection and does what comes of it. True if there may be more.
    pub(super) fn read(&mut self, now: Instant, outlet: &mut Outlet) -> bool {
        let replies = self.publisher.read().and_then(|has_more| {
            self.take_replies()?;
            Ok(has_more)
        });
        let has_more = replies.unwrap_or_else(|why| {
            self.lose_publisher(now, &why);
            false
        });
        let heard = self.subscriber.read().and_then(|has_more| {
            self.take_messages(now)?;
            Ok(has_more)
        });
        let has_more = has_more
            | heard.unwrap_or_else(|why| {
                self.lose_subscriber(now, &why);
                false
            });
        self.carry_out(now, outlet);
        has_more
    }

    /// Whether more events would be refused.
    pub(super) fn is_full(&self) -> bool {
        self.bus.is_full()
    }

    fn take_replies(&mut self) -> Result<(), String> {
        while let Some(said) = self.publisher.poll()? {
            let receivers = match said {
                Said::Integer(receivers) => receivers,
                Said::Error(why) => return Err(String::from_utf8_lossy(why).into_owned()),
                _ => continue,
            };
            match self.replies.pop_front() {
                Some(Reply::Message) => self.bus.handle_reply(receivers, &mut self.effects),
                Some(Reply::Asked(node)) => self.bus.handle_asked(&node, receivers),
                Some(Reply::Other) | None => {}
            }
        }
        Ok(())
    }

    fn take_messages(&mut self, now: Instant) -> Result<(), String> {
        let mut hearing = Hearing {
            now,
            channel: &self.channel,
            bus: &mut self.bus,
            apps: &self.apps,
            scratch: &mut self.scratch,
            effects: &mut self.effects,
            metrics: &self.metrics,
            has_refused: &mut self.has_refused,
        };
        while let Some(said) = self.subscriber.poll()? {
            match said {
                Said::Message {
                    channel, payload, ..
                } => hearing.hear(channel, payload),
                Said::Subscribed => {
                    let is_last = self.subscriber.confirm();
                    if is_last {
                        self.subscriber.works();
                        hearing.bus.handle_subscriber_up(now, hearing.effects);
                    }
                }
                Said::TooLong => hearing.refuse("longer than Redis lets a subscriber be owed"),
                Said::Error(why) => return Err(String::from_utf8_lossy(why).into_owned()),
                _ => {}
            }
        }
        Ok(())
    }

    fn lose_publisher(&mut self, now: Instant, why: &str) {
        self.publisher.lose(now, why);
        if self.bus.publisher_works() {
            self.metrics.add(Counter::RedisLost, 1);
            self.bus.handle_publisher_down(&mut self.effects);
        }
    }

    fn lose_subscriber(&mut self, now: Instant, why: &str) {
        self.subscriber.lose(now, why);
        if self.bus.subscriber_works() {
            self.metrics.add(Counter::RedisLost, 1);
            self.bus.handle_subscriber_down(&mut self.effects);
        }
    }

    /// Does what the machine wants, until it wants nothing more.
    fn carry_out(&mut self, now: Instant, outlet: &mut Outlet) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.carry_out_one(now, effect, outlet);
            }
        }
        let is_live = self.bus.is_live();
        if std::mem::replace(&mut self.was_live, is_live) == is_live {
            return;
        }
        if is_live {
            if let Some(gap) = self.status.scaling.regain(now) {
                let seconds = gap.as_secs_f64();
                warn!("redis: scaling was away for {seconds:.1} s; what was said then is told now");
            }
        } else {
            self.status.scaling.lose(now);
        }
    }

    fn carry_out_one(&mut self, now: Instant, effect: Effect, outlet: &mut Outlet) {
        match effect {
            Effect::Publish(out) => {
                self.metrics.add(Counter::BusPublished, 1);
                self.replies.push_back(Reply::Message);
                let mut text = std::mem::take(&mut self.scratch.text);
                text.clear();
                self.wording.write(&mut text, &out, &self.apps);
                self.publisher
                    .say(&[b"PUBLISH", self.channel.as_bytes(), &text]);
                self.scratch.text = text;
            }
            Effect::Deliver(broadcast) => outlet.deliver(&broadcast),
            Effect::Taken(Caller { session, asks }) => match asks {
                None => outlet.tell(session.shard, shard::message::Message::Published(session)),
                Some(ask) => outlet.ask(&ask),
            },
            Effect::Refused(Caller { session, .. }) => {
                outlet.tell(session.shard, shard::message::Message::Refused(session));
            }
            Effect::Dropped => self.metrics.add(Counter::BusDropped, 1),
            Effect::Hello { seq } => self.say_beside(None, &side::Said::Hello(seq), |_, _| {}),
            Effect::Ask {
                node,
                after,
                within,
            } => {
                let said = side::Said::Ask { after, within };
                self.say_beside(Some(&node), &said, |_, _| {});
                if let Some(last) = self.replies.back_mut() {
                    *last = Reply::Asked(node);
                }
            }
            Effect::Replay {
                node,
                messages,
                until,
                is_whole,
            } => {
                let said = side::Said::Replay {
                    messages: "",
                    until,
                    is_whole,
                };
                self.say_beside(Some(&node), &said, |this, out| {
                    for (number, message) in messages.iter().enumerate() {
                        if number > 0 {
                            out.push(b',');
                        }
                        this.wording.write(out, message, &this.apps);
                    }
                });
            }
            Effect::CloseAll => {
                warn!("scaling: messages of other nodes are lost; all clients are told to return");
                for index in self.apps.iter().map(|(index, _)| index) {
                    outlet.lose_all(index);
                }
            }
            Effect::Redial => {
                self.lose_publisher(now, "Redis does not answer in time");
                self.lose_subscriber(now, "Redis does not answer in time");
            }
        }
    }

    /// Publishes on the channels that only nodes of this kind hear.
    fn say_beside(
        &mut self,
        node: Option<&str>,
        said: &side::Said<'_>,
        replayed: impl FnOnce(&mut Self, &mut Vec<u8>),
    ) {
        let mut channel = format!("{}{}", self.channel, side::SUFFIX);
        if let Some(node) = node {
            channel = format!("{channel}:{node}");
        }
        let own = self.bus.node().to_owned();
        let mut text = Vec::new();
        side::write(&mut text, &own, said, |out| replayed(self, out));
        self.replies.push_back(Reply::Other);
        self.publisher.say(&[b"PUBLISH", channel.as_bytes(), &text]);
    }
}

/// Each delivery as an event of its own.
fn split(broadcast: &Broadcast) -> Vec<Arc<Broadcast>> {
    let deliveries = broadcast.deliveries.iter().cloned();
    let part = |delivery| {
        Arc::new(Broadcast {
            deliveries: vec![delivery],
            ..*broadcast
        })
    };
    deliveries.map(part).collect()
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
