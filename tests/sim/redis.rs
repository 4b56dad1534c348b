//! The Redis thread and a Redis behind it, where only channels are heard that somebody is on. What
//! is subscribed to is up to the production machine; Redis does what it is told when it gets to it,
//! one thing after the other, and what it says arrives in that order.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use slapback::app::AppIndex;
use slapback::broadcast::{Broadcast, Delivery};
use slapback::proto::channel::ChannelKind;
use slapback::proto::frame;
use slapback::redis::interest::{Effect, Interest};
use slapback::redis::laravel::Prefixes;
use slapback::shard::ends::Ends;
use slapback::shard::home::home_of;
use slapback::shard::message::{Message, ShardIndex};

use crate::faults::Faults;

/// Both.
pub(crate) struct Redis {
    shards: u16,
    ends: Ends,
    interest: Interest,
    prefixes: Prefixes,
    effects: Vec<Effect>,
    /// What Redis was told and has not done.
    told: VecDeque<Told>,
    subscribed: BTreeSet<String>,
}

enum Told {
    Subscribe(String),
    Unsubscribe(String),
    Publish(String, Arc<Broadcast>),
}

impl Redis {
    /// One for apps of these numbers; the first has two prefixes.
    pub(crate) fn new(apps: u16, shards: u16, ends: Ends) -> Self {
        let own = |app| (prefix(AppIndex(app)), AppIndex(app));
        let other = ("other-".to_owned(), AppIndex(0));
        let sources = (0..apps).map(own).chain([other]);
        let mut interest = Interest::new(usize::MAX);
        interest.handle_up();
        Self {
            shards,
            ends,
            interest,
            prefixes: Prefixes::new(sources, Vec::new()),
            effects: Vec::new(),
            told: VecDeque::new(),
            subscribed: BTreeSet::new(),
        }
    }

    /// Somebody publishes an event; these are its text's bytes.
    pub(crate) fn publish(&mut self, app: AppIndex, channel: &str, text: &str) {
        let deliveries = vec![Delivery {
            channel: channel.into(),
            except: None,
            frame: frame::text_frame(|out| out.extend_from_slice(text.as_bytes())),
            is_kept: ChannelKind::of(channel).is_cache(),
        }];
        let broadcast = Arc::new(Broadcast {
            app,
            deliveries,
            is_one_event: false,
        });
        let name = format!("{}{channel}", prefix(app));
        self.told.push_back(Told::Publish(name, broadcast));
    }

    /// The thread takes what shards say, and Redis does some of what it was told. False if there
    /// was nothing.
    pub(crate) fn step(&mut self, now: Instant, most: usize, faults: &mut Faults) -> bool {
        let mut said = Vec::new();
        self.ends.take_while(|message| {
            said.push(message);
            true
        });
        let has_moved = !(said.is_empty() && self.told.is_empty()) || self.ends.has_spill();
        for message in said {
            let Message::Interest(told) = message else {
                panic!("the Redis thread is told {message:?}");
            };
            let (effects, channel) = (&mut self.effects, (told.app, told.channel.into()));
            if told.is_wanted {
                let (interest, prefixes) = (&mut self.interest, &self.prefixes);
                let by = (told.shard, told.number);
                interest.handle_wanted(now, prefixes, by, channel, effects);
            } else {
                self.interest
                    .handle_unwanted(now, told.shard, &channel, effects);
            }
        }
        self.carry_out(faults);
        for _ in 0..most {
            if !self.do_next(now, faults) {
                break;
            }
        }
        self.ends.wake();
        has_moved
    }

    /// Time has passed. Redis is never so late that it is not waited for.
    pub(crate) fn advance(&mut self, before: Instant, now: Instant, faults: &mut Faults) {
        self.step(before, usize::MAX, faults);
        self.interest.handle_tick(now, &mut self.effects);
        self.carry_out(faults);
        self.step(now, usize::MAX, faults);
    }

    /// Does Redis hear of a channel under all its names?
    pub(crate) fn hears(&self, app: AppIndex, channel: &str) -> bool {
        let mut names = self.prefixes.names(app, channel);
        names.all(|name| self.subscribed.contains(&name))
    }

    /// What is subscribed to.
    pub(crate) fn subscribed(&self) -> &BTreeSet<String> {
        &self.subscribed
    }

    fn do_next(&mut self, now: Instant, faults: &mut Faults) -> bool {
        match self.told.pop_front() {
            None => return false,
            Some(Told::Subscribe(name)) => {
                let (interest, effects) = (&mut self.interest, &mut self.effects);
                interest.handle_confirmed(now, &self.prefixes, name.as_bytes(), effects);
                assert!(self.subscribed.insert(name), "subscribed to twice");
                self.carry_out(faults);
            }
            Some(Told::Unsubscribe(name)) => {
                assert!(
                    self.subscribed.remove(&name),
                    "{name} was not subscribed to"
                );
            }
            Some(Told::Publish(name, broadcast)) => {
                if self.subscribed.contains(&name) {
                    self.deliver(broadcast);
                }
            }
        }
        true
    }

    fn deliver(&mut self, broadcast: Arc<Broadcast>) {
        let kind = ChannelKind::of(&broadcast.deliveries[0].channel);
        if kind.is_presence() || kind.is_cache() {
            let home = home_of(broadcast.app, self.shards);
            let publish = Message::Publish {
                broadcast,
                answer_to: None,
                question: None,
                stamp: None,
            };
            self.ends.push(home, publish);
            return;
        }
        for shard in (0..self.shards).map(ShardIndex) {
            self.ends
                .push(shard, Message::Deliver(Arc::clone(&broadcast)));
        }
    }

    fn carry_out(&mut self, faults: &mut Faults) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Heard((shard, number), (app, channel)) => {
                    faults.redis_waited_for += 1;
                    let heard = Message::Heard {
                        app,
                        channel: (*channel).into(),
                        number,
                    };
                    self.ends.push(shard, heard);
                }
                Effect::Dropped((app, channel)) => {
                    faults.redis_dropped += 1;
                    if ChannelKind::of(&channel).is_cache() {
                        let channel = Some((*channel).into());
                        let home = home_of(app, self.shards);
                        self.ends.push(home, Message::Gap { app, channel });
                    }
                }
            }
        }
        while let Some((command, names)) = self.interest.next_command(&self.prefixes) {
            let told = match command {
                "SUBSCRIBE" => Told::Subscribe,
                _ => Told::Unsubscribe,
            };
            self.told.extend(names.into_iter().map(told));
        }
    }
}

fn prefix(app: AppIndex) -> String {
    format!("app-{}-", app.0)
}
