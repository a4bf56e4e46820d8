//! The first membership of a new group, and asking a node who it is.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use openraft::errors::{InitializeError, RaftError};
use tonic::Request;

use super::Raft;
use crate::proto::raft::v1::raft_client::RaftClient;
use crate::proto::raft::v1::{IdentifyRequest, IdentifyResponse};
use crate::raft::error::InitError;
use crate::raft::network;
use crate::raft::types::NodeInfo;

/// Generation of a group that was never rebuilt.
const FIRST_GENERATION: u64 = 1;

/// Who listens at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// Its id.
    pub node_id: u64,
    /// What a membership would say about it: the addresses are those it announces itself.
    pub info: NodeInfo,
    /// Whether it belongs to an initialised group already.
    pub initialised: bool,
    /// Version of its program.
    pub version: String,
}

/// Longest name, address or version that a node may tell of itself: it goes into the membership of the group.
const WORD_MAX: usize = 255;

/// What cannot be true of a node.
fn unfit(said: &IdentifyResponse) -> Option<&'static str> {
    let fits = |text: &str| text.len() <= WORD_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    let name = |text: &str| text.len() <= WORD_MAX && !text.chars().any(char::is_control);
    let words = [
        ("its incarnation", fits(&said.incarnation) && !said.incarnation.is_empty()),
        ("its node address", fits(&said.node_address)),
        ("its client address", fits(&said.client_address)),
        ("its datacenter", name(&said.datacenter)),
        ("its version", fits(&said.version)),
    ];
    words.into_iter().find(|(_, fit)| !fit).map(|(what, _)| what)
}

impl Raft {
    /// Asks whoever listens at `address` (`HOST:PORT` of a node port) who it is. With TLS it must be `node_id`.
    pub async fn identify(&self, node_id: u64, address: &str) -> Result<Identified, InitError> {
        let unreachable =
            |what: String| InitError::Unreachable { node: node_id, address: address.to_owned(), what };
        let line = self.inner.peers.dial_lazily(node_id, address).map_err(unreachable)?;
        let mut request = Request::new(IdentifyRequest { group: self.group().to_owned() });
        request.set_timeout(self.inner.options.profile.answer_timeout());
        let answer = RaftClient::new(line).identify(request).await;
        let said = answer.map_err(|status| unreachable(network::say(&status)))?.into_inner();
        if said.node_id != node_id || said.group != self.group() {
            let found = format!("node {} of group {}", said.node_id, said.group);
            return Err(InitError::OtherNode { node: node_id, address: address.to_owned(), found });
        }
        if let Some(what) = unfit(&said) {
            return Err(unreachable(format!("it says of itself what no node says: {what}")));
        }
        let info = NodeInfo {
            node_addr: said.node_address,
            client_addr: said.client_address,
            incarnation: said.incarnation,
            datacenter: Some(said.datacenter).filter(|name| !name.is_empty()),
        };
        Ok(Identified { node_id, info, initialised: said.initialised, version: said.version })
    }

    /// What a membership should say about this node.
    pub fn own_info(&self) -> NodeInfo {
        let options = &self.inner.options;
        NodeInfo {
            node_addr: options.node_addr.clone(),
            client_addr: options.client_addr.clone(),
            incarnation: self.incarnation().to_owned(),
            datacenter: options.datacenter.clone(),
        }
    }

    /// Makes a new group of `members`, all voters, this node among them. Each of the others must answer, be who the
    /// list says, and belong to no group. Refused for the second time: there is a group already.
    pub async fn init(&self, members: BTreeMap<u64, NodeInfo>) -> Result<(), InitError> {
        let failed = |what: String| InitError::Failed { what };
        let node = self.node_id();
        if self.openraft().is_initialized().await.map_err(|fatal| failed(fatal.to_string()))? {
            return Err(InitError::AlreadyInitialised { node });
        }
        if members.get(&node).is_none_or(|info| info.incarnation != self.incarnation()) {
            return Err(InitError::NotThisNode { node, incarnation: self.incarnation().to_owned() });
        }
        for (id, info) in members.iter().filter(|(id, _)| **id != node) {
            let found = self.identify(*id, &info.node_addr).await?;
            if found.initialised {
                return Err(InitError::AlreadyInitialised { node: *id });
            }
            if found.info.incarnation != info.incarnation {
                let found = format!("incarnation {} of it, not {}", found.info.incarnation, info.incarnation);
                return Err(InitError::OtherNode { node: *id, address: info.node_addr.clone(), found });
            }
        }
        self.set_generation(FIRST_GENERATION).await?;
        self.openraft().initialize(members).await.map_err(|error| match error {
            RaftError::APIError(InitializeError::NotAllowed(_)) => InitError::AlreadyInitialised { node },
            other => failed(other.to_string()),
        })
    }

    async fn set_generation(&self, generation: u64) -> Result<(), InitError> {
        let store = self.inner.shared.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let store =
            store.ok_or_else(|| InitError::Failed { what: "this node is shutting down".to_owned() })?;
        let saved = store.save_generation(generation).await;
        saved.map_err(|error| InitError::Failed { what: error.to_string() })?;
        self.inner.me.generation.store(generation, Ordering::Relaxed);
        Ok(())
    }
}
