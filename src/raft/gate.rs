//! Who calls whom: the metadata of every call between nodes, and the check of it (P9).
//!
//! A call names the group, its generation, and both ends by id *and* incarnation. The receiver refuses what does not
//! fit its own directory and the membership it knows. So a node whose directory was wiped is neither believed nor
//! asked under its old id: its peers name, and expect, the incarnation that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::async_runtime::WatchReceiver;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::machine::Applied;
use super::tls;
use super::types::Types;
use crate::mistake::{Mistake, planted};

/// Name of the refusal in a status' metadata, for the caller's own log.
const REASON: &str = "quorate-reason";

/// Who this node is, on the wire.
pub struct Me {
    /// Id in the group.
    pub node_id: u64,
    /// The group.
    pub group: String,
    /// Name of the data directory.
    pub incarnation: String,
    /// Which rebuild of the group it belongs to; 0 before it belongs to any.
    pub generation: AtomicU64,
    /// Whether peers must show certificates.
    pub tls: bool,
}

/// A peer that has passed the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its id, certified when the node port uses TLS.
    pub node_id: u64,
    /// Its incarnation, the one that the membership names.
    pub incarnation: String,
}

/// Attaches to a call who makes it and whom it is for.
#[derive(Clone)]
pub struct Stamp {
    me: Arc<Me>,
    fixed: Arc<[(&'static str, AsciiMetadataValue)]>,
}

impl Stamp {
    /// For calls from this node to `node_id` of that incarnation. `None` when the incarnation is no plain text.
    pub fn new(me: Arc<Me>, node_id: u64, incarnation: &str) -> Option<Self> {
        let text = |text: &str| AsciiMetadataValue::try_from(text).ok();
        let fixed = [
            ("quorate-group", text(&me.group)?),
            ("quorate-from", me.node_id.into()),
            ("quorate-from-incarnation", text(&me.incarnation)?),
            ("quorate-to", node_id.into()),
            ("quorate-to-incarnation", text(incarnation)?),
        ];
        Some(Stamp { me, fixed: fixed.into() })
    }
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        for (key, value) in self.fixed.iter() {
            metadata.insert(*key, value.clone());
        }
        metadata.insert("quorate-generation", self.me.generation.load(Ordering::Relaxed).into());
        Ok(request)
    }
}

/// What a call says about itself.
struct Claim<'a> {
    generation: u64,
    from: u64,
    from_incarnation: &'a str,
}

/// The checking end.
#[derive(Clone)]
pub struct Gate {
    me: Arc<Me>,
    applied: Arc<Applied>,
    raft: openraft::Raft<Types, super::machine::Machine>,
}

/// What kind of call is checked: they differ in what an unknown caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// From whoever leads: a lagging node may not know it yet.
    Leading,
    /// A candidate's: one that was removed has no say any more.
    Voting,
    /// Anything else: for members only.
    Member,
}

impl Gate {
    /// Of an open node.
    pub fn new(
        me: Arc<Me>,
        applied: Arc<Applied>,
        raft: openraft::Raft<Types, super::machine::Machine>,
    ) -> Self {
        Gate { me, applied, raft }
    }

    /// The caller, or the refusal that says what does not fit. The second value is the generation it belongs to.
    pub fn admit<T>(&self, call: Call, request: &Request<T>) -> Result<(Peer, u64), Status> {
        let claim = self.claim(request.metadata())?;
        self.certified(request, claim.from)?;
        let generation = self.me.generation.load(Ordering::Relaxed);
        if generation != 0 && claim.generation != generation {
            return Err(refuse(
                "GENERATION",
                format!(
                    "node {} is of generation {generation} of group {}, the call of {}",
                    self.me.node_id, self.me.group, claim.generation
                ),
            ));
        }
        self.known(call, &claim)?;
        let peer = Peer { node_id: claim.from, incarnation: claim.from_incarnation.to_owned() };
        Ok((peer, claim.generation))
    }

    fn claim<'a>(&self, metadata: &'a MetadataMap) -> Result<Claim<'a>, Status> {
        let me = &self.me;
        let group = text(metadata, "quorate-group")?;
        if group != me.group {
            return Err(refuse(
                "GROUP",
                format!("this is a node of group {}, the call is for {group}", me.group),
            ));
        }
        let to = number(metadata, "quorate-to")?;
        if to != me.node_id {
            return Err(refuse("NODE", format!("this is node {}, the call is for node {to}", me.node_id)));
        }
        let to_incarnation = text(metadata, "quorate-to-incarnation")?;
        if to_incarnation != me.incarnation {
            return Err(refuse(
                "INCARNATION",
                format!(
                    "node {to} has incarnation {}, its peers know it as {to_incarnation}: its data directory was \
                     wiped or replaced; replace it under a new id (quorate nodes replace)",
                    me.incarnation
                ),
            ));
        }
        Ok(Claim {
            generation: number(metadata, "quorate-generation")?,
            from: number(metadata, "quorate-from")?,
            from_incarnation: text(metadata, "quorate-from-incarnation")?,
        })
    }

    fn certified<T>(&self, request: &Request<T>, from: u64) -> Result<(), Status> {
        if !self.me.tls {
            return Ok(());
        }
        let certificates = request.peer_certs();
        let leaf = certificates.as_ref().and_then(|chain| chain.first());
        if leaf.is_some_and(|leaf| tls::certifies(leaf, from, &self.me.group)) {
            return Ok(());
        }
        let needed = tls::name_of(from, &self.me.group);
        Err(Status::permission_denied(format!("the certificate shown is not that of {needed}")))
    }

    fn known(&self, call: Call, claim: &Claim<'_>) -> Result<(), Status> {
        let effective = self.raft.server_metrics().borrow_watched().membership_config.clone();
        let member = effective.get_node(&claim.from).map(|node| node.incarnation.clone());
        let ever = self.applied.member_ever(claim.from);
        let Some(expected) = member.clone().or_else(|| ever.clone()) else {
            // Nobody this node has heard of. It may be behind, or new itself.
            return match call {
                Call::Leading | Call::Voting => Ok(()),
                Call::Member => Err(refuse("NOT_A_MEMBER", format!("node {} is not a member", claim.from))),
            };
        };
        if expected != claim.from_incarnation && !planted(Mistake::IncarnationNotChecked) {
            return Err(refuse(
                "INCARNATION",
                format!(
                    "node {} is known as incarnation {expected}, the call comes from {}: its data directory was \
                     wiped or replaced; replace it under a new id (quorate nodes replace)",
                    claim.from, claim.from_incarnation
                ),
            ));
        }
        let removed = member.is_none() && self.applied.membership().get_node(&claim.from).is_none();
        if removed && call != Call::Leading {
            return Err(refuse("REMOVED", format!("node {} was removed from the group", claim.from)));
        }
        Ok(())
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let (peer, _) = self.admit(Call::Member, &request)?;
        request.extensions_mut().insert(peer);
        Ok(request)
    }
}

/// Whether a status is a refusal by the gate, which repeating does not mend.
pub fn is_refusal(status: &Status) -> bool {
    status.metadata().get(REASON).is_some() || status.code() == tonic::Code::PermissionDenied
}

fn refuse(reason: &'static str, what: String) -> Status {
    let mut status = Status::failed_precondition(what);
    status.metadata_mut().insert(REASON, AsciiMetadataValue::from_static(reason));
    status
}

fn text<'a>(metadata: &'a MetadataMap, key: &'static str) -> Result<&'a str, Status> {
    let value = metadata.get(key).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| {
        Status::invalid_argument(format!(
            "this is a node's port for other nodes, and {key} is missing: clients call its client port"
        ))
    })
}

fn number(metadata: &MetadataMap, key: &'static str) -> Result<u64, Status> {
    let value = text(metadata, key)?.parse().ok();
    value.ok_or_else(|| Status::invalid_argument(format!("{key} is not a number")))
}
