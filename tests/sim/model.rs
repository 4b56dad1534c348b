//! What must come true: which events there are, who is due each, and what comes before what.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Instant;

use crate::cache::Cache;
use crate::client::Client;
use crate::faults::Faults;

/// Names of the channels that every app has.
pub(crate) const CHANNELS: [&str; 9] = [
    "news",
    "feed",
    "private-a",
    "private-b",
    "presence-x",
    "presence-y",
    "presence-cache-z",
    "cached",
    "private-cache-c",
];

/// The channels with members.
pub(crate) const PRESENCE: Range<usize> = 4..7;

/// The channels that keep their last event.
pub(crate) const CACHE: Range<usize> = 6..9;

/// The channels on which a subscription is answered by the home.
pub(crate) const JOINED: Range<usize> = 4..9;

/// Everything that was said to all, by number: events, and seats taken on presence channels.
pub(crate) struct Model {
    pub(crate) now: Instant,
    pub(crate) cache: Cache,
    /// Apps and users that somebody wanted terminated.
    pub(crate) terminated: BTreeSet<(usize, u64)>,
    nodes: Vec<Node>,
    /// By app: answered events that no later answered event is known to follow.
    frontier: Vec<Vec<usize>>,
}

struct Node {
    /// What comes after it in the order of its app.
    next: Vec<usize>,
    event: Option<Event>,
}

/// One publish or whisper.
pub(crate) struct Event {
    pub(crate) app: usize,
    /// What the subscribers of each channel get, in order.
    pub(crate) texts: Vec<(usize, String)>,
    /// The client that must not get it.
    pub(crate) except: Option<usize>,
    /// It was published in Redis: on channels without a home it has no place among the others.
    pub(crate) is_of_redis: bool,
    /// Cache channels keep it.
    pub(crate) is_kept: bool,
    /// The client that whispered it, and its user.
    pub(crate) whisperer: Option<(usize, u64)>,
    pub(crate) dues: Vec<Due>,
    before: Vec<usize>,
    pub(crate) begun: Instant,
    /// When the home had certainly taken it.
    pub(crate) taken_by: Option<Instant>,
    pub(crate) is_answered: bool,
    is_refused: bool,
}

/// A client that was subscribed before the event began: it is due, unless it has left since.
pub(crate) struct Due {
    client: usize,
    channel: usize,
    epoch: u32,
}

impl Model {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            now,
            cache: Cache::default(),
            terminated: BTreeSet::new(),
            nodes: Vec::new(),
            frontier: Vec::new(),
        }
    }

    /// Draws the number of something that is about to be said.
    pub(crate) fn next(&self) -> usize {
        self.nodes.len()
    }

    /// A seat on a presence channel is asked for.
    pub(crate) fn seat(&mut self) -> usize {
        self.nodes.push(Node {
            next: Vec::new(),
            event: None,
        });
        self.nodes.len() - 1
    }

    /// An event is on its way. Who saw an answer before comes before it.
    pub(crate) fn begin(
        &mut self,
        app: usize,
        texts: Vec<(usize, String)>,
        except: Option<usize>,
        whisperer: Option<(usize, u64)>,
        clients: &[Client],
    ) -> &mut Event {
        let number = self.seat();
        let before = self.follow_answered(app, number);
        let mut dues = Vec::new();
        for client in clients.iter().filter(|client| client.app == app) {
            for &(channel, _) in &texts {
                if Some(client.number) != except && client.is_surely_on(channel) {
                    dues.push(Due {
                        client: client.number,
                        channel,
                        epoch: client.channels[channel].epoch,
                    });
                }
            }
        }
        self.nodes[number].event.insert(Event {
            app,
            texts,
            except,
            is_of_redis: false,
            is_kept: false,
            whisperer,
            dues,
            before,
            begun: self.now,
            taken_by: None,
            is_answered: false,
            is_refused: false,
        })
    }

    /// What is about to be said comes behind everything that was answered. Gives that.
    pub(crate) fn follow_answered(&mut self, app: usize, number: usize) -> Vec<usize> {
        self.frontier
            .resize_with(self.frontier.len().max(app + 1), Vec::new);
        let before = self.frontier[app].clone();
        for &earlier in &before {
            self.nodes[earlier].next.push(number);
        }
        before
    }

    /// The events of a channel that are to be kept and of which `is` holds.
    pub(crate) fn kept(
        &self,
        app: usize,
        channel: usize,
        is: impl Fn(&Event) -> bool,
    ) -> Vec<usize> {
        let is_wanted = |event: &Event| {
            let names = &mut event.texts.iter().map(|(name, _)| name);
            event.is_kept && event.app == app && names.any(|&name| name == channel) && is(event)
        };
        let numbers = 0..self.nodes.len();
        let wanted = |&number: &usize| self.nodes[number].event.as_ref().is_some_and(is_wanted);
        numbers.filter(wanted).collect()
    }

    pub(crate) fn event(&mut self, number: usize) -> &mut Event {
        let event = self.nodes.get_mut(number);
        event
            .and_then(|node| node.event.as_mut())
            .unwrap_or_else(|| panic!("nobody published event {number}"))
    }

    /// Its publisher saw 200.
    pub(crate) fn answer(&mut self, number: usize) {
        let now = self.now;
        let event = self.event(number);
        event.is_answered = true;
        event.taken_by.get_or_insert(now);
        let (app, before) = (event.app, event.before.clone());
        let frontier = &mut self.frontier[app];
        frontier.retain(|earlier| !before.contains(earlier));
        frontier.push(number);
    }

    /// Its publisher saw 503.
    pub(crate) fn refuse(&mut self, number: usize) {
        self.event(number).is_refused = true;
    }

    /// Somebody saw, or said, one behind the other.
    pub(crate) fn follow(&mut self, earlier: usize, later: usize) {
        let next = &mut self.nodes[earlier].next;
        if earlier != later && next.last() != Some(&later) {
            next.push(later);
        }
    }

    /// Everything is at rest: every event that was taken has reached all who were due it.
    pub(crate) fn check_dues(&mut self, clients: &[Client], faults: &mut Faults) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let Some(event) = &mut node.event else {
                continue;
            };
            assert!(
                !(event.is_refused && event.taken_by.is_some()),
                "event {number} was refused and delivered"
            );
            let is_whispered = event.whisperer.is_some_and(|(whisperer, _)| {
                let client = &clients[whisperer];
                client.is_open() && client.refusals == 0
            });
            let is_taken = event.taken_by.is_some() || is_whispered || event.is_of_redis;
            for due in event.dues.drain(..).filter(|_| is_taken) {
                let client = &clients[due.client];
                if !client.is_open() || client.channels[due.channel].epoch != due.epoch {
                    continue;
                }
                faults.delivered_due += 1;
                faults.redis_delivered_due += u64::from(event.is_of_redis);
                assert!(
                    client.has_received(number, due.channel),
                    "client {} never got event {number} on {}",
                    due.client,
                    CHANNELS[due.channel]
                );
            }
        }
    }

    /// There is one order of each app that agrees with everything that anybody saw.
    pub(crate) fn check_order(&self) {
        let mut earlier_count = vec![0; self.nodes.len()];
        for node in &self.nodes {
            node.next.iter().for_each(|&next| earlier_count[next] += 1);
        }
        let mut free: Vec<usize> = (0..self.nodes.len())
            .filter(|&number| earlier_count[number] == 0)
            .collect();
        let mut sorted = 0;
        while let Some(number) = free.pop() {
            sorted += 1;
            for &next in &self.nodes[number].next {
                earlier_count[next] -= 1;
                if earlier_count[next] == 0 {
                    free.push(next);
                }
            }
        }
        let circle: Vec<usize> = (0..self.nodes.len())
            .filter(|&number| earlier_count[number] > 0)
            .collect();
        assert_eq!(
            sorted,
            self.nodes.len(),
            "these came in different orders: {circle:?}"
        );
    }
}
