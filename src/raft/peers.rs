//! Connections to the other nodes: kept, opened on first use, and opened anew when they break.
//!
//! Heartbeats, snapshots and everything else each have their own, so that none waits behind another. The name in an
//! address is resolved at each dial.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::error::PeerError;
use super::gate::{Me, Stamp};
use super::ports::{Line, Net};
use super::types::{LogId, NodeInfo};

/// A connection to one peer whose calls carry who makes them and whom they are for.
pub type PeerChannel = InterceptedService<Line, Stamp>;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Log entries, votes, read indexes.
    Log,
    /// Heartbeats.
    Heartbeat,
    /// Snapshots.
    Snapshot,
    /// The caller's own services.
    Other,
}

/// What is known about a peer from calls to it.
#[derive(Debug, Clone, Default)]
pub struct Contact {
    /// When it last answered.
    pub answered: Option<Instant>,
    /// What the last call ended with, when that was no answer.
    pub trouble: Option<String>,
}

/// All connections of this node.
pub struct Peers {
    me: Arc<Me>,
    net: Arc<dyn Net>,
    lines: Mutex<HashMap<(u64, Lane), (String, Line)>>,
    contacts: Mutex<HashMap<u64, Contact>>,
    /// Newest entry that a peer acknowledged to this leader, with the leader's term.
    acknowledged: Mutex<HashMap<u64, (u64, LogId)>>,
    /// What the newest membership says: openraft's clients keep what was true when they were made.
    book: Mutex<HashMap<u64, NodeInfo>>,
}

impl Peers {
    /// None yet.
    pub fn new(me: Arc<Me>, net: Arc<dyn Net>) -> Arc<Self> {
        Arc::new(Peers {
            me,
            net,
            lines: Mutex::default(),
            contacts: Mutex::default(),
            book: Mutex::default(),
            acknowledged: Mutex::default(),
        })
    }

    /// Who this node is.
    pub fn me(&self) -> &Arc<Me> {
        &self.me
    }

    /// Takes note of the newest membership.
    pub fn learn(&self, nodes: HashMap<u64, NodeInfo>) {
        *self.book.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// What is known of `node_id` by now, when `node` was true at some time: its address may have changed, its
    /// incarnation never does.
    pub fn current(&self, node_id: u64, node: &NodeInfo) -> NodeInfo {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = book.get(&node_id).filter(|newer| newer.incarnation == node.incarnation);
        newer.unwrap_or(node).clone()
    }

    /// The connection to that node; dials nothing by itself.
    pub fn channel(&self, node_id: u64, node: &NodeInfo, lane: Lane) -> Result<PeerChannel, PeerError> {
        let (line, stamp) = self.line(node_id, node, lane)?;
        Ok(InterceptedService::new(line, stamp))
    }

    /// The parts of [`Peers::channel`], for callers that put something of their own between them. Over TCP only.
    pub fn parts(&self, node_id: u64, node: &NodeInfo, lane: Lane) -> Result<(Channel, Stamp), PeerError> {
        match self.line(node_id, node, lane)? {
            (Line::Tcp(channel), stamp) => Ok((channel, stamp)),
            (Line::Other(_), _) => Err(bad(node_id, node, "it is not reached over TCP".to_owned())),
        }
    }

    fn line(&self, node_id: u64, node: &NodeInfo, lane: Lane) -> Result<(Line, Stamp), PeerError> {
        let bad = |what: String| bad(node_id, node, what);
        let stamp = Stamp::new(self.me.clone(), node_id, &node.incarnation)
            .ok_or_else(|| bad("its incarnation is no plain text".to_owned()))?;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((address, line)) = lines.get(&(node_id, lane))
            && *address == node.node_addr
        {
            return Ok((line.clone(), stamp));
        }
        let line = self.dial_lazily(node_id, &node.node_addr).map_err(bad)?;
        lines.insert((node_id, lane), (node.node_addr.clone(), line.clone()));
        Ok((line, stamp))
    }

    /// A connection to whoever listens at `address` and can show that it is `node_id`.
    pub fn dial_lazily(&self, node_id: u64, address: &str) -> Result<Line, String> {
        self.net.dial_lazily(node_id, address)
    }

    /// What calls to that node have shown.
    pub fn contact(&self, node_id: u64) -> Contact {
        let contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        contacts.get(&node_id).cloned().unwrap_or_default()
    }

    /// Takes note that `node_id` has everything up to `upto` of the log of the leader of `term`, this node.
    pub(super) fn acknowledged(&self, node_id: u64, term: u64, upto: LogId) {
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = acknowledged.entry(node_id).or_insert((term, upto));
        if newest.0 != term || newest.1 < upto {
            *newest = (term, upto);
        }
    }

    /// Whether `node_id` acknowledged `entry` of the log of the leader of `term`, this node.
    pub(super) fn has_acknowledged(&self, node_id: u64, term: u64, entry: &LogId) -> bool {
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        acknowledged.get(&node_id).is_some_and(|(of, upto)| *of == term && upto >= entry)
    }

    pub(super) fn answered(&self, node_id: u64) {
        let mut contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        let contact = contacts.entry(node_id).or_default();
        contact.answered = Some(Instant::now());
        if contact.trouble.take().is_some() {
            tracing::info!(node = node_id, "peer answers again");
        }
    }

    pub(super) fn failed(&self, node_id: u64, what: String) {
        let mut contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        let contact = contacts.entry(node_id).or_default();
        // Once for each kind of trouble, not for each of many calls a second.
        if contact.trouble.as_ref() != Some(&what) {
            tracing::warn!(node = node_id, "peer: {what}");
        }
        contact.trouble = Some(what);
    }
}

fn bad(node: u64, info: &NodeInfo, what: String) -> PeerError {
    PeerError::Address { node, address: info.node_addr.clone(), what }
}
