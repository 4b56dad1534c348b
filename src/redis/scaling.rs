//! This node on the bus: two connections, one that publishes and one that hears, and between them
//! the machine that decides ([`Bus`]).
//!
//! Owned by the Redis thread. It turns bytes into what the machine is told, and what the machine
//! wants into bytes, rings and answers.

mod asking;
mod carrying;
mod hearing;
mod wording;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::PollFlags;
use tracing::info;

use self::asking::Asking;
use self::hearing::Hearing;
use self::wording::Wording;
use crate::app::Apps;
use crate::broadcast::Broadcast;
use crate::config;
use crate::metrics::{Counter, Metrics};
use crate::proto::api::Question;
use crate::proto::json::Workspace;
use crate::redis::bus::{Bus, Caller, Effect, Limits, Payload};
use crate::redis::envelope;
use crate::redis::gather;
use crate::redis::link::Link;
use crate::redis::outlet::Outlet;
use crate::redis::resp::Said;
use crate::redis::side;
use crate::redis::topology::Target;
use crate::ring::Wake;
use crate::serving::Serving;
use crate::shard;
use crate::shard::message::SessionKey;
use crate::shard::question::{Ask, Part};
use crate::status::RedisStatus;

/// Bytes of one message that is read: Redis cuts a subscriber that is owed more.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// With this Redis begins to say that a user may not do something.
const NO_RIGHT: &str = "NOPERM";
/// Why a connection is given up that is silent.
const LATE: &str = "Redis does not answer in time";

/// What Redis gives one node.
pub(super) struct Scaling {
    channel: String,
    publisher: Link,
    subscriber: Link,
    /// What the answers of the publishing connection are to.
    replies: VecDeque<Reply>,
    bus: Bus,
    asking: Asking,
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
    subscription: Subscription,
    /// Since when it is tried whether this node may publish.
    trial_since: Option<Instant>,
    timeout: Duration,
    /// The time over which all clients are told to come back.
    recall_over: Duration,
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

/// How far this node has come with hearing the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    /// Its connection has come up.
    Due,
    /// Redis has been asked.
    Asked,
    /// Redis has confirmed that this node hears no more questions.
    Ended,
}

/// What an answer of Redis is to.
enum Reply {
    Message,
    Question(gather::Key),
    Asked(Box<str>),
    /// The first words on a connection: the user may not have the right to say any.
    Trial,
    Other,
}

impl Scaling {
    /// Will dial at once.
    pub(super) fn new(
        scaling: config::Scaling,
        serving: Arc<Serving>,
        recall_over: Duration,
        metrics: Arc<Metrics>,
        status: Arc<RedisStatus>,
        wake: &Arc<dyn Wake>,
        now: Instant,
    ) -> Self {
        // Of a cluster every node takes the same master: two have no common order.
        let target = Arc::new(Target::new(scaling.server, &scaling.channel));
        let link = |purpose| {
            let (target, wake) = (Arc::clone(&target), Arc::clone(wake));
            Link::new(purpose, target, MESSAGE_BYTES_MAX, wake, now)
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
            asking: Asking::new(),
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
            subscription: Subscription::Asked,
            trial_since: None,
            timeout: scaling.timeout,
            recall_over,
        }
    }

    /// When [`Self::turn`] has something to do next.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let asking = self.asking.deadline();
        let links = [self.publisher.deadline(), self.subscriber.deadline()];
        links
            .into_iter()
            .chain([asking])
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
            self.wording.handle_apps(&self.apps, &apps);
            self.apps = apps;
        }
        if self.publisher.turn(now) {
            self.replies.clear();
            self.trial_since = Some(now);
            self.try_publishing();
        }
        let is_late = |since| now.saturating_duration_since(since) > self.timeout;
        if self.trial_since.is_some_and(is_late) {
            self.lose_publisher(now, LATE);
        }
        if self.subscriber.turn(now) {
            self.subscription = Subscription::Due;
        }
        // Questions are heard from then on, so whoever can is to be able to answer them.
        let may_answer = self.bus.publisher_works() || self.publisher.has_failed();
        if may_answer && self.subscription == Subscription::Due {
            self.subscription = Subscription::Asked;
            let own = [
                self.channel.clone(),
                format!("{}{}", self.channel, side::SUFFIX),
                format!("{}{}:{}", self.channel, side::SUFFIX, self.bus.node()),
            ];
            self.has_refused = false;
            let own = own.iter().map(String::as_str);
            self.subscriber.subscribe("SUBSCRIBE", own);
        }
        self.bus.handle_tick(now, unix_ms(), &mut self.effects);
        self.asking.handle_tick(now);
        self.carry_out(now, outlet);
    }

    /// A shard says something.
    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        message: shard::message::Message,
        outlet: &mut Outlet,
    ) {
        use shard::message::Message;
        match message {
            Message::Publish {
                broadcast,
                answer_to,
                question,
                ..
            } => self.publish(now, broadcast, answer_to, question),
            Message::Ask(ask) => self.ask(now, ask),
            // What the shards know of a question: it bears the number under which they were asked.
            Message::Answer(whole) => {
                let Part { ask, facts } = *whole;
                self.asking.handle_own(now, ask.session.slot.0, facts);
            }
            _ => {}
        }
        self.carry_out(now, outlet);
    }

    fn publish(
        &mut self,
        now: Instant,
        broadcast: Arc<Broadcast>,
        answer_to: Option<SessionKey>,
        question: Option<Arc<Question>>,
    ) {
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
        let payloads = broadcasts.into_iter().map(Payload::Event);
        let (payloads, effects) = (payloads.collect(), &mut self.effects);
        self.bus
            .handle_publish(now, unix_ms(), payloads, caller, effects);
    }

    /// A call asks something of all nodes, or wants it done by all.
    fn ask(&mut self, now: Instant, ask: Ask) {
        let Question::Terminate { user } = &*ask.question else {
            return self.gather(now, ask);
        };
        let payload = Payload::Terminate {
            app: ask.app,
            user: user.clone(),
        };
        let caller = Some(Caller {
            session: ask.session,
            asks: Some(ask),
        });
        let effects = &mut self.effects;
        self.bus
            .handle_publish(now, unix_ms(), vec![payload], caller, effects);
    }

    fn gather(&mut self, now: Instant, ask: Ask) {
        self.asking.handle_ask(now, ask, self.bus.is_live());
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
            self.take_replies(now)?;
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

    /// Is all published that is to be, or is nobody there to take it?
    pub(super) fn is_settled(&self) -> bool {
        !self.bus.publisher_works() || self.bus.is_live() && self.replies.is_empty()
    }

    /// The shards have ended: of what others ask nothing is here.
    pub(super) fn handle_end(&mut self, now: Instant) {
        self.asking.handle_end(now);
    }

    /// Hears questions no longer. Redis confirms it behind the last.
    pub(super) fn stop_hearing(&mut self) {
        self.subscriber
            .say(&[b"UNSUBSCRIBE", self.channel.as_bytes()]);
    }

    /// Will nobody wait for this node to answer a question?
    pub(super) fn hears_nothing(&self) -> bool {
        !self.bus.subscriber_works() || self.subscription == Subscription::Ended
    }

    /// Says goodbye to the others, behind all else that was said.
    pub(super) fn leave(&mut self) {
        let seq = self.bus.last_sent();
        self.say_aside(None, &side::Said::Goodbye(seq), Reply::Other);
    }

    /// Has Redis answered all that was said to it, or will it not?
    pub(super) fn has_left(&self) -> bool {
        !self.bus.publisher_works() || self.replies.is_empty()
    }

    /// Whether more events would be refused.
    pub(super) fn is_full(&self) -> bool {
        self.bus.is_full()
    }

    fn take_replies(&mut self, now: Instant) -> Result<(), String> {
        while let Some(said) = self.publisher.poll()? {
            let receivers = match said {
                Said::Integer(receivers) => receivers,
                Said::Error(why) => {
                    let why = String::from_utf8_lossy(why).into_owned();
                    if why.starts_with(NO_RIGHT) {
                        self.bus.handle_refusal();
                    }
                    return Err(why);
                }
                _ => continue,
            };
            match self.replies.pop_front() {
                Some(Reply::Message) => self.bus.handle_reply(receivers, &mut self.effects),
                Some(Reply::Question(key)) => self.asking.handle_heard(now, &key, receivers),
                Some(Reply::Asked(node)) => self.bus.handle_asked(&node, receivers),
                Some(Reply::Trial) => {
                    self.trial_since = None;
                    self.publisher.works();
                    self.bus.handle_publisher_up(now, &mut self.effects);
                }
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
            asking: &mut self.asking,
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
                Said::Subscribed(_) => {
                    let is_last = self.subscriber.confirm();
                    if is_last {
                        self.subscriber.works();
                        hearing.bus.handle_subscriber_up(now, hearing.effects);
                    }
                }
                Said::Unsubscribed => self.subscription = Subscription::Ended,
                Said::TooLong => hearing.refuse("longer than Redis lets a subscriber be owed"),
                Said::Error(why) => return Err(String::from_utf8_lossy(why).into_owned()),
                _ => {}
            }
        }
        Ok(())
    }

    fn lose_publisher(&mut self, now: Instant, why: &str) {
        self.publisher.lose(now, why);
        self.trial_since = None;
        if self.bus.publisher_works() {
            self.metrics.add(Counter::RedisLost, 1);
            self.bus.handle_publisher_down(&mut self.effects);
            self.asking.handle_loss(now);
        }
    }

    fn lose_subscriber(&mut self, now: Instant, why: &str) {
        self.subscriber.lose(now, why);
        if self.bus.subscriber_works() {
            self.metrics.add(Counter::RedisLost, 1);
            self.bus.handle_subscriber_down(&mut self.effects);
            self.asking.handle_loss(now);
        }
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
