//! Questions to the fleet: who was told that it is on a channel is counted, who is gone is not.
//!
//! Between the two an answer may say what it likes while things happen. At rest it must be exact.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::client::Client;
use crate::model::{CHANNELS, PRESENCE};
use crate::net::{Net, Server};

/// What is asked. Channels and users are numbers.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    Connections,
    Channels,
    Channel(usize),
    Users(usize),
    Terminate(u64),
    /// The info of an event that is published to these channels.
    Event(Vec<usize>),
    /// The info of a batch with an event for each of these channels.
    Batch(Vec<usize>),
}

/// What to ask of each channel.
pub(crate) const INFO: &str = "user_count,subscription_count";

/// A question, and what was known when it was asked.
pub(crate) struct Asked {
    pub(crate) question: Question,
    app: usize,
    /// Nothing else happens until it is answered.
    is_at_rest: bool,
    /// Clients that had been told that they are there: the channel, if one, and its epoch.
    sure: Vec<(usize, Option<(usize, u32)>)>,
    /// Clients that were gone, as far as anybody can know.
    gone: BTreeSet<usize>,
}

/// An answer that can be judged only when everything is at rest.
pub(crate) struct Told {
    asked: Asked,
    /// Sockets, or what is on one channel.
    counts: Vec<(Option<usize>, Count)>,
}

#[derive(Debug)]
enum Count {
    Sockets(usize),
    /// How many users.
    Users(usize),
    /// Who they are.
    Ids(BTreeSet<u64>),
}

impl Question {
    /// Method and path behind the app's own, with the query.
    pub(crate) fn call(&self) -> (&'static str, String) {
        match self {
            Self::Connections => ("GET", "/connections".to_owned()),
            Self::Channels => ("GET", format!("/channels?info={INFO}")),
            Self::Channel(channel) => {
                let name = CHANNELS[*channel];
                ("GET", format!("/channels/{name}?info={INFO}"))
            }
            Self::Users(channel) => ("GET", format!("/channels/{}/users", CHANNELS[*channel])),
            Self::Terminate(user) => ("POST", format!("/users/{user}/terminate_connections")),
            Self::Event(_) | Self::Batch(_) => unreachable!("is asked in the body of a publish"),
        }
    }

    /// What the answer counts, in its order.
    fn counts(&self, body: &Value) -> Vec<(Option<usize>, Count)> {
        let of = |channel: usize, info: &Value| (Some(channel), count(channel, info));
        let named = |body: &Value, channel: usize| of(channel, &body[CHANNELS[channel]]);
        match self {
            Self::Connections => vec![(None, Count::Sockets(number(&body["connections"])))],
            Self::Channels => {
                let mut listed = body["channels"].as_object().unwrap().keys();
                let is_known = |name: &String| CHANNELS.contains(&name.as_str());
                assert!(listed.all(is_known), "{body}");
                let all = 0..CHANNELS.len();
                all.map(|channel| named(&body["channels"], channel))
                    .collect()
            }
            Self::Channel(channel) => {
                let count = count(*channel, body);
                let is_there = !matches!(count, Count::Sockets(0) | Count::Users(0));
                assert_eq!(body["occupied"], Value::Bool(is_there), "{body}");
                vec![(Some(*channel), count)]
            }
            Self::Users(channel) if PRESENCE.contains(channel) => {
                let users = body["users"].as_array();
                let ids = users
                    .into_iter()
                    .flatten()
                    .map(|user| number(&user["id"]) as u64);
                let count = ids.clone().count();
                let ids: BTreeSet<u64> = ids.collect();
                assert_eq!(ids.len(), count, "a user twice: {body}");
                vec![(Some(*channel), Count::Ids(ids))]
            }
            Self::Users(_) | Self::Terminate(_) => Vec::new(),
            Self::Event(channels) => {
                let counted = channels.iter();
                counted
                    .map(|&channel| named(&body["channels"], channel))
                    .collect()
            }
            Self::Batch(channels) => {
                let list = body["batch"].as_array().unwrap();
                assert_eq!(list.len(), channels.len(), "{body}");
                let counted = channels.iter().zip(list);
                counted.map(|(&channel, info)| of(channel, info)).collect()
            }
        }
    }
}

/// What an answer says of a channel. What is left out is none.
fn count(channel: usize, info: &Value) -> Count {
    let [users, sockets] = ["user_count", "subscription_count"].map(|name| &info[name]);
    if PRESENCE.contains(&channel) {
        assert!(sockets.is_null(), "{info}");
        Count::Users(number(users))
    } else {
        assert!(users.is_null(), "{info}");
        Count::Sockets(number(sockets))
    }
}

fn number(value: &Value) -> usize {
    let number = value.as_u64().unwrap_or_else(|| {
        assert!(value.is_null(), "no number: {value}");
        0
    });
    usize::try_from(number).unwrap()
}

impl Asked {
    pub(crate) fn new(question: Question, app: usize, clients: &[Client], net: &Net) -> Self {
        let own = clients.iter().filter(|client| client.app == app);
        let mut sure = Vec::new();
        let mut gone = BTreeSet::new();
        for client in own {
            if client.is_open() {
                sure.push((client.number, None));
            }
            for channel in (0..CHANNELS.len()).filter(|&channel| client.is_surely_on(channel)) {
                let epoch = client.channels[channel].epoch;
                sure.push((client.number, Some((channel, epoch))));
            }
            let has_ended = net.sockets[client.socket].server != Server::Open;
            if has_ended || client.is_dismissed() {
                gone.insert(client.number);
            }
        }
        Self {
            question,
            app,
            is_at_rest: false,
            sure,
            gone,
        }
    }

    /// The same where nothing else happens until it is answered.
    pub(crate) fn at_rest(self) -> Self {
        Self {
            is_at_rest: true,
            ..self
        }
    }

    /// The answer has come: nobody is counted who was gone.
    pub(crate) fn check(self, status: u16, body: &str, clients: &mut [Client]) -> Told {
        let body: Value = serde_json::from_str(body).unwrap();
        let may_be = match self.question {
            Question::Users(channel) if PRESENCE.contains(&channel) => [200, 404].contains(&status),
            Question::Users(_) => [400, 404].contains(&status),
            _ => status == 200,
        };
        assert!(may_be, "{:?} is answered {status} {body}", self.question);
        if let Question::Terminate(user) = self.question {
            assert_eq!(body.to_string(), "{}");
            self.dismiss(user, clients);
        }
        let counts = self.question.counts(&body);
        for (channel, count) in &counts {
            let own = clients.iter().filter(|client| client.app == self.app);
            let own = own.filter(|client| !self.gone.contains(&client.number));
            let possible = own.filter(|client| channel.is_none_or(|at| client.has_asked_for(at)));
            let (sockets, users) = those(possible);
            let may_be = match count {
                Count::Sockets(count) => *count <= sockets,
                Count::Users(count) => *count <= users.len(),
                Count::Ids(ids) => ids.is_subset(&users),
            };
            assert!(
                may_be,
                "{count:?} of {channel:?} where {users:?} may be: {body}"
            );
        }
        Told {
            asked: self,
            counts,
        }
    }

    /// Who certainly was on a presence channel as this user all the time is gone now.
    fn dismiss(&self, user: u64, clients: &mut [Client]) {
        for &(number, place) in &self.sure {
            let client = &mut clients[number];
            let was_there = place.is_some_and(|(channel, epoch)| {
                PRESENCE.contains(&channel) && client.channels[channel].epoch == epoch
            });
            client.must_end |= was_there && client.user == user;
        }
    }
}

impl Told {
    /// Everything is at rest: everybody is counted who was there all the time.
    pub(crate) fn check(&self, clients: &[Client]) {
        for (channel, count) in &self.counts {
            let sure = self.asked.sure.iter().filter(|(number, place)| {
                let client = &clients[*number];
                let stayed = match place {
                    Some((at, epoch)) => client.channels[*at].epoch == *epoch,
                    None => true,
                };
                place.map(|(at, _)| at) == *channel && stayed && client.is_open()
            });
            let (sockets, users) = those(sure.map(|(number, _)| &clients[*number]));
            let exactly = self.asked.is_at_rest;
            let is_right = match count {
                Count::Sockets(count) if exactly => *count == sockets,
                Count::Sockets(count) => *count >= sockets,
                Count::Users(count) if exactly => *count == users.len(),
                Count::Users(count) => *count >= users.len(),
                Count::Ids(ids) if exactly => *ids == users,
                Count::Ids(ids) => ids.is_superset(&users),
            };
            let question = &self.asked.question;
            assert!(
                is_right,
                "{question:?}: {count:?} of {channel:?} where {sockets} sockets of {users:?} are"
            );
        }
    }
}

fn those<'a>(clients: impl Iterator<Item = &'a Client>) -> (usize, BTreeSet<u64>) {
    let users: Vec<u64> = clients.map(|client| client.user).collect();
    (users.len(), users.into_iter().collect())
}
