//! Which Redis to dial: the one that is configured, the master that sentinels name, or the master
//! of a cluster that owns a slot.
//!
//! Held by links. A dial blocks, so each has a thread of its own, begun by `link`.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::{RedisAddress, RedisServer, RedisTls, Topology};
use crate::redis::cluster::{self, Address, View};
use crate::redis::dial::{DialError, Stream, ask, connect, connect_unix, enter, is_ok};
use crate::redis::resp::Said;

/// Nodes that are asked on the way to the owner of a slot: who owns it may change meanwhile.
const HOPS_MAX: usize = 4;

/// Where a link goes.
pub(super) struct Target {
    server: RedisServer,
    /// Of a cluster: the slot whose owner is dialled.
    slot: u16,
    /// Of a cluster: where nodes were when one was asked last. The owner is the last of them, for
    /// whoever looks for another has most likely lost it.
    known: Mutex<Vec<Address>>,
}

/// A connection that is let in and never blocks.
pub(super) struct Dialled {
    pub(super) stream: Stream,
    /// What the cluster calls this node, if it is one's.
    pub(super) node: Option<String>,
}

impl Target {
    /// A server; of a cluster the master that owns the slot of this key.
    pub(super) fn new(server: RedisServer, key: &str) -> Self {
        Self {
            server,
            slot: cluster::slot_of(key.as_bytes()),
            known: Mutex::default(),
        }
    }

    /// May another node become the one to dial while this one lives on?
    pub(super) fn may_move(&self) -> bool {
        self.server.topology == Topology::Cluster
    }

    /// Opens a connection to the server that takes what is published.
    pub(super) fn dial(&self) -> Result<Dialled, DialError> {
        let (stream, node) = match (&self.server.topology, &self.server.address) {
            (Topology::Sentinel { sentinels, service }, _) => {
                (self.dial_master(sentinels, service)?, None)
            }
            (Topology::Cluster, RedisAddress::Tcp { host, port }) => {
                let (stream, id) = self.dial_owner((host.clone(), *port))?;
                (stream, Some(id))
            }
            (_, RedisAddress::Tcp { host, port }) => {
                let stream = connect(host, *port, self.server.tls.as_ref())?;
                (self.select(stream)?, None)
            }
            (_, RedisAddress::Unix(path)) => (self.select(connect_unix(path)?)?, None),
        };
        stream.set_nonblocking()?;
        Ok(Dialled { stream, node })
    }

    fn select(&self, mut stream: Stream) -> Result<Stream, DialError> {
        enter(&mut stream, &self.server)?;
        if self.server.database != 0 {
            let database = self.server.database.to_string();
            let command = [&b"SELECT"[..], database.as_bytes()];
            ask(&mut stream, "SELECT", &command, is_ok)?;
        }
        Ok(stream)
    }

    fn dial_master(&self, sentinels: &[(String, u16)], service: &str) -> Result<Stream, DialError> {
        let tls = self.server.tls.as_ref();
        let (host, port) = master(sentinels, service, tls)?;
        let mut stream = connect(&host, port, tls)?;
        enter(&mut stream, &self.server)?;
        // A sentinel may not have noticed yet that another is master now.
        let role = ask(&mut stream, "ROLE", &[b"ROLE"], strings)?;
        if role.first().is_none_or(|role| role != "master") {
            return Err(DialError::NoMaster("the sentinels name another".to_owned()));
        }
        Ok(stream)
    }

    /// Asks one node after the other until one leads to the owner of the slot. Gives its id too.
    fn dial_owner(&self, configured: Address) -> Result<(Stream, String), DialError> {
        let mut nodes = self.known().clone();
        if !nodes.contains(&configured) {
            nodes.push(configured);
        }
        let mut last = DialError::NoAddress;
        for node in nodes {
            match self.follow(node) {
                Ok(owner) => return Ok(owner),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Goes where a node says that the owner is, until one says so of itself.
    fn follow(&self, node: Address) -> Result<(Stream, String), DialError> {
        let mut at = node;
        for _ in 0..HOPS_MAX {
            let mut stream = connect(&at.0, at.1, self.server.tls.as_ref())?;
            enter(&mut stream, &self.server)?;
            let view = ask(&mut stream, "CLUSTER NODES", cluster::NODES, |said| {
                view(said, self.slot)
            })?;
            self.learn(&at, &view);
            match view.owner {
                None => break,
                Some(owner) => match owner.address {
                    None => return Ok((stream, owner.id)),
                    Some(address) => at = address,
                },
            }
        }
        let slot = self.slot;
        Err(DialError::NoMaster(format!("slot {slot} has none now")))
    }

    fn learn(&self, asked: &Address, view: &View) {
        let mut nodes = view.others.clone();
        let owner = view.owner.as_ref().map(|owner| owner.address.as_ref());
        if owner != Some(None) {
            nodes.push(asked.clone());
        }
        nodes.extend(owner.map(|address| address.unwrap_or(asked).clone()));
        *self.known() = nodes;
    }

    fn known(&self) -> MutexGuard<'_, Vec<Address>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As the configuration says it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}

/// Asks one sentinel after the other where the master is.
fn master(
    sentinels: &[(String, u16)],
    service: &str,
    tls: Option<&RedisTls>,
) -> Result<(String, u16), DialError> {
    let mut last = DialError::NoMaster("no sentinel is named".to_owned());
    for (host, port) in sentinels {
        match connect(host, *port, tls).and_then(|sentinel| master_of(sentinel, service)) {
            Ok(master) => return Ok(master),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn master_of(mut sentinel: Stream, service: &str) -> Result<(String, u16), DialError> {
    let command = [
        &b"SENTINEL"[..],
        b"GET-MASTER-ADDR-BY-NAME",
        service.as_bytes(),
    ];
    let answer = ask(&mut sentinel, "SENTINEL", &command, strings)?;
    let unknown = || DialError::NoMaster(format!("no sentinel knows `{service}`"));
    let [host, port] = <[String; 2]>::try_from(answer).map_err(|_| unknown())?;
    Ok((host, port.parse().map_err(|_| unknown())?))
}

/// The strings of an array; none if it is null.
fn strings(said: Said<'_>) -> Option<Vec<String>> {
    match said {
        Said::Array { strings, count } => {
            let strings = strings.iter().take(count);
            let text = |string: &&[u8]| String::from_utf8_lossy(string).into_owned();
            Some(strings.map(text).collect())
        }
        Said::Bulk(None) => Some(Vec::new()),
        _ => None,
    }
}

fn view(said: Said<'_>, slot: u16) -> Option<View> {
    let Said::Bulk(Some(answer)) = said else {
        return None;
    };
    Some(cluster::read(str::from_utf8(answer).ok()?, slot))
}
