//! One presence channel: who is here. Called by the channel's home; never sends.
//!
//! `K` names a session. Users are told apart by the string value of their id; the first session of
//! a user that is still here speaks for them (R-097).

use std::collections::BTreeMap;
use std::hash::Hash;

use ahash::AHashMap;

use crate::proto::json::{self, Malformed, Value, Workspace};

/// A session's `channel_data`, parsed once (R-093..R-113).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Raw JSON value of `user_id`, type kept; None if absent or null.
    pub user_id: Option<Box<str>>,
    /// The string value of `user_id`: equality of users (R-098).
    pub user_key: Option<Box<str>>,
    /// Raw JSON of `user_info`; None if absent.
    pub user_info: Option<Box<str>>,
    /// Complete `channel_data` as sent, `{}` if none: the data of `member_added`.
    pub data: Box<str>,
}

/// `channel_data` that is refused with E4200: a scalar, invalid JSON, or a `user_id` that is a
/// list or an object (R-105, R-108).
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidMember;

impl From<Malformed> for InvalidMember {
    fn from(_: Malformed) -> Self {
        Self
    }
}

impl Member {
    /// Reads `channel_data`; absent, `""` and `"0"` are no data, for PHP takes both for false (R-074).
    pub fn parse(channel_data: Option<&str>) -> Result<Self, InvalidMember> {
        let mut member = Self {
            user_id: None,
            user_key: None,
            user_info: None,
            data: "{}".into(),
        };
        let Some(source) = channel_data.filter(|data| !matches!(*data, "" | "0")) else {
            return Ok(member);
        };
        let mut workspace = Workspace::default();
        let (mut user_id, mut user_info) = (None, None);
        let outermost = json::visit(source, &mut workspace, |child| match child.key {
            Some("user_id") => user_id = Some(child.value),
            Some("user_info") => user_info = Some(child.value),
            _ => {}
        })?;
        let (Value::Object { .. } | Value::List { .. }) = outermost else {
            return Err(InvalidMember);
        };
        if let Some(value) = user_id.filter(|value| *value != Value::Null) {
            member.user_key = Some(value.coerced().ok_or(InvalidMember)?.into());
            member.user_id = Some(value.raw().into());
        }
        member.user_info = user_info.map(|value| value.raw().into());
        member.data = source.into();
        Ok(member)
    }
}

/// Is a raw `user_id` that of the user with this string value?
pub fn is_user(user_id: &str, user_key: &str) -> bool {
    let inside = user_id
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match inside {
        Some(plain) if !plain.contains('\\') => plain == user_key,
        _ => {
            let mut workspace = Workspace::default();
            let value = json::visit(user_id, &mut workspace, |_| {});
            let found = value.ok().and_then(Value::coerced);
            found.is_some_and(|found| found == user_key)
        }
    }
}

/// What a join means to the others.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// First session of its user, or one without id: announce.
    NewMember,
    /// The user is here already, or this session re-subscribed as the same user.
    KnownMember,
}

/// What a leave means to the others.
#[derive(Debug, PartialEq, Eq)]
pub enum Departure {
    /// Last session of a user: announce.
    MemberGone {
        /// Raw JSON, of the leaver's type (R-099).
        user_id: Box<str>,
    },
    /// The user is still here, or the session had no id.
    Silent,
    /// The session was not subscribed.
    Absent,
}

/// The members of one channel.
#[derive(Debug)]
pub struct Presence<K> {
    seats: AHashMap<K, Seat>,
    /// Sessions of each user, in order of subscription; never an empty list.
    users: AHashMap<Box<str>, Vec<K>>,
    /// The first session of each user, by order of subscription.
    speakers: BTreeMap<u64, K>,
    anonymous_count: usize,
    next_order: u64,
}

#[derive(Debug)]
struct Seat {
    order: u64,
    member: Member,
}

impl<K: Copy + Eq + Hash> Default for Presence<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Eq + Hash> Presence<K> {
    /// A channel with nobody in it.
    pub fn new() -> Self {
        Self {
            seats: AHashMap::new(),
            users: AHashMap::new(),
            speakers: BTreeMap::new(),
            anonymous_count: 0,
            next_order: 0,
        }
    }

    /// Seats a session. A repeated join of the same session replaces its member and keeps its
    /// place in the order; the former user is not announced as gone (R-110).
    pub fn join(&mut self, session: K, member: Member) -> Arrival {
        let former = self.seats.remove(&session);
        if let Some(seat) = &former {
            self.stand_up(session, seat);
        }
        let order = former.as_ref().map_or(self.next_order, |seat| seat.order);
        self.next_order = self.next_order.max(order.saturating_add(1));
        let was_theirs = former.is_some_and(|seat| seat.member.user_key == member.user_key);
        let is_new = if let Some(user) = &member.user_key {
            self.sit_down(session, order, user.clone()) && !was_theirs
        } else {
            self.anonymous_count += 1;
            true
        };
        self.seats.insert(session, Seat { order, member });
        if is_new {
            Arrival::NewMember
        } else {
            Arrival::KnownMember
        }
    }

    /// Takes a session out.
    pub fn leave(&mut self, session: K) -> Departure {
        let Some(seat) = self.seats.remove(&session) else {
            return Departure::Absent;
        };
        let is_last = self.stand_up(session, &seat);
        match seat.member.user_id {
            Some(user_id) if is_last => Departure::MemberGone { user_id },
            Some(_) | None => Departure::Silent,
        }
    }

    /// Nobody is here.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Appends `{"presence":{"count":…,"ids":[…],"hash":{…}}}`; the count 0 form if any member
    /// lacks an id (R-101..R-107). O(users).
    pub fn write_succeeded(&self, out: &mut String) {
        if self.anonymous_count > 0 || self.speakers.is_empty() {
            out.push_str(r#"{"presence":{"count":0,"ids":[],"hash":[]}}"#);
            return;
        }
        out.push_str(r#"{"presence":{"count":"#);
        out.push_str(itoa::Buffer::new().format(self.speakers.len()));
        out.push_str(r#","ids":["#);
        let mut separator = "";
        for id in self.user_ids() {
            out.push_str(separator);
            out.push_str(id);
            separator = ",";
        }
        out.push_str(r#"],"hash":{"#);
        let mut separator = "\"";
        let mut key = Vec::new();
        for member in self.spoken_for() {
            out.push_str(separator);
            key.clear();
            json::escape(&mut key, hash_key(member));
            out.push_str(&String::from_utf8_lossy(&key));
            out.push_str("\":");
            out.push_str(member.user_info.as_deref().unwrap_or("null"));
            separator = ",\"";
        }
        out.push_str("}}}");
    }

    /// Distinct users; members without id count as one.
    pub fn user_count(&self) -> usize {
        self.users.len() + usize::from(self.anonymous_count > 0)
    }

    /// Raw ids, unique, in order of subscription; members without id are left out.
    pub fn user_ids(&self) -> impl Iterator<Item = &str> {
        self.spoken_for()
            .filter_map(|member| member.user_id.as_deref())
    }

    fn spoken_for(&self) -> impl Iterator<Item = &Member> {
        let seats = self
            .speakers
            .values()
            .filter_map(|session| self.seats.get(session));
        seats.map(|seat| &seat.member)
    }

    /// Adds a session to its user; true if the user was not here.
    fn sit_down(&mut self, session: K, order: u64, user: Box<str>) -> bool {
        let sessions = self.users.entry(user).or_default();
        let order_of = |other: &K| self.seats.get(other).map_or(0, |seat| seat.order);
        let place = sessions.iter().rposition(|other| order_of(other) < order);
        let index = place.map_or(0, |place| place + 1);
        if index == 0 {
            if let Some(former) = sessions.first() {
                self.speakers.remove(&order_of(former));
            }
            self.speakers.insert(order, session);
        }
        sessions.insert(index, session);
        sessions.len() == 1
    }

    /// Takes a session from its user; true if it was the user's last.
    fn stand_up(&mut self, session: K, seat: &Seat) -> bool {
        let Some(user) = &seat.member.user_key else {
            self.anonymous_count = self.anonymous_count.saturating_sub(1);
            return false;
        };
        let Some(sessions) = self.users.get_mut(user) else {
            return false;
        };
        sessions.retain(|other| *other != session);
        self.speakers.remove(&seat.order);
        let Some(next) = sessions.first().copied() else {
            self.users.remove(user);
            return true;
        };
        if let Some(next_seat) = self.seats.get(&next) {
            self.speakers.insert(next_seat.order, next);
        }
        false
    }
}

/// The key PHP gives a user in an array: false is 0, a fraction is cut off.
fn hash_key(member: &Member) -> &str {
    let key = member.user_key.as_deref().unwrap_or("");
    match member.user_id.as_deref() {
        Some("false") => "0",
        Some(raw) if !raw.starts_with('"') => key.split_once('.').map_or(key, |(whole, _)| whole),
        _ => key,
    }
}

#[cfg(test)]
mod tests;
