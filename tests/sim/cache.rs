//! Cache channels: what a subscriber is shown is the last event that the home took before it took
//! the subscription. Never an older one, and never one that is not to be kept.
//!
//! Nobody but the home knows what that was, so the check goes by what others know: an event that
//! certainly came before the subscription came no later than the one that was shown. This is put
//! into the order that [`Model::check_order`] finds impossible if it is not so.

use std::collections::BTreeMap;
use std::time::Instant;

use slapback::shard::cache::KEPT_FOR;

use crate::client::Client;
use crate::faults::Faults;
use crate::model::{CHANNELS, Model};

/// The subscriptions to cache channels.
#[derive(Default)]
pub(crate) struct Cache {
    /// By seat: those that are not answered yet.
    asked: BTreeMap<usize, Asked>,
    /// Those answered since everything was last at rest.
    answered: Vec<Answered>,
    /// There is so little room that events are dropped.
    pub(crate) may_drop: bool,
}

struct Asked {
    at: Instant,
    /// Events that were answered with 200 before.
    known: Vec<usize>,
    epoch: u32,
}

/// One subscription and the event that was shown to it.
struct Answered {
    client: usize,
    channel: usize,
    epoch: u32,
    shown: Option<usize>,
    at: Instant,
}

/// A client is about to subscribe.
pub(crate) fn ask(model: &mut Model, seat: usize, client: &Client, channel: usize) {
    model.follow_answered(client.app, seat);
    let asked = Asked {
        at: model.now,
        known: model.kept(client.app, channel, |event| event.is_answered),
        epoch: client.channels[channel].epoch,
    };
    model.cache.asked.insert(seat, asked);
}

/// A client was shown an event, or told that there is none.
pub(crate) fn show(
    model: &mut Model,
    seat: usize,
    client: &Client,
    channel: usize,
    shown: Option<usize>,
) {
    let Asked { at, known, epoch } = model.cache.asked.remove(&seat).expect("it asked");
    if let Some(number) = shown {
        let event = model.event(number);
        assert!(event.is_kept, "event {number} is shown and not to be kept");
        let taken_by = event.taken_by.expect("it was seen");
        let age = at.saturating_duration_since(taken_by);
        assert!(age < KEPT_FOR, "event {number} is shown, {age:?} old");
        model.follow(number, seat);
    }
    let seen = model.kept(client.app, channel, |_| true).into_iter();
    let seen = seen.filter(|&event| client.has_seen(event, channel));
    let earlier: Vec<usize> = known.into_iter().chain(seen).collect();
    let answered = Answered {
        client: client.number,
        channel,
        epoch,
        shown,
        at: model.now,
    };
    for event in earlier {
        precede(model, event, &answered);
    }
    model.cache.answered.push(answered);
}

/// Everything is at rest: who stayed on the channel has received every event that came behind its
/// subscription, so all others came before it.
pub(crate) fn check_shown(model: &mut Model, clients: &[Client], faults: &mut Faults) {
    for answered in std::mem::take(&mut model.cache.answered) {
        let (client, channel) = (&clients[answered.client], answered.channel);
        faults.cache_shown += u64::from(answered.shown.is_some());
        faults.cache_missed += u64::from(answered.shown.is_none());
        if !client.is_open() || client.channels[channel].epoch != answered.epoch {
            continue;
        }
        let taken = model.kept(client.app, channel, |event| {
            event.taken_by.is_some() && event.except != Some(client.number)
        });
        let taken = taken.into_iter();
        let mut is_outlived = false;
        for event in taken.filter(|&event| !client.has_received(event, channel)) {
            precede(model, event, &answered);
            is_outlived |= answered.shown.is_none();
        }
        faults.cache_expired += u64::from(is_outlived && !model.cache.may_drop);
    }
}

/// The home took this event before it took that subscription.
fn precede(model: &mut Model, event: usize, answered: &Answered) {
    let Some(shown) = answered.shown else {
        let age = answered.at.duration_since(model.event(event).begun);
        assert!(
            model.cache.may_drop || age >= KEPT_FOR,
            "client {} was not shown event {event} on {}",
            answered.client,
            CHANNELS[answered.channel]
        );
        return;
    };
    model.follow(event, shown);
}
