//! Service `Nodes`: the group itself.

use std::{pin::Pin, str::FromStr};

use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{
    backend::{GroupChange, GroupView, NodeRole, NodeView},
    desk::Desk,
    forward::service,
    status::bad_field,
};
use crate::{
    model::address::Address,
    proto::v1::{self as pb, nodes_client::NodesClient, nodes_server},
};

/// Most voters of a group.
const FIRST_NODES_MAX: usize = 7;

/// The service.
pub struct Nodes {
    /// Where its calls arrive.
    pub desk: Desk,
}

service!(Nodes: nodes_server::Nodes, NodesClient<crate::api::backend::LeaderChannel> {
    init(InitRequest) -> InitResponse;
    status(StatusRequest) -> GroupStatus;
    add(AddNodeRequest) -> NodesChanged;
    make_voter(MakeVoterRequest) -> NodesChanged;
    remove(RemoveNodeRequest) -> NodesChanged;
    replace(ReplaceNodeRequest) -> NodesChanged;
    transfer_leader(TransferLeaderRequest) -> NodesChanged;
}
    type BackupStream = Pin<Box<dyn Stream<Item = Result<pb::BackupPart, Status>> + Send>>;

    async fn backup(
        &self,
        _request: Request<pb::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let (log_index, parts) = self.desk.backend.backup().await?;
        let parts = parts.enumerate().map(move |(number, part)| {
            let log_index = if number == 0 { log_index } else { 0 };
            part.map(|data| pb::BackupPart { data, log_index }).map_err(Status::from)
        });
        Ok(Response::new(Box::pin(parts)))
    }
);

async fn init(desk: Desk, input: pb::InitRequest) -> Result<pb::InitResponse, Status> {
    if input.nodes.is_empty() || input.nodes.len() > FIRST_NODES_MAX {
        let why =
            format!("name 1 to {FIRST_NODES_MAX} nodes (three or five, usually), not {}", input.nodes.len());
        return Err(bad_field("nodes", why));
    }
    let mut nodes: Vec<(u64, Address)> = Vec::new();
    for node in &input.nodes {
        let (id, address) = checked(node)?;
        if nodes.iter().any(|(other, _)| *other == id) {
            return Err(bad_field("nodes", format!("node {id} is named twice")));
        }
        if nodes.iter().any(|(_, other)| *other == address) {
            return Err(bad_field("nodes", format!("address {address} is named twice")));
        }
        nodes.push((id, address));
    }
    let made = desk.backend.init_group(nodes).await?;
    // As they were taken: the membership that the first leader commits may not be applied here yet.
    Ok(pb::InitResponse { group: made.group, nodes: input.nodes })
}

async fn status(desk: Desk, _input: pb::StatusRequest) -> Result<pb::GroupStatus, Status> {
    let view = desk.backend.group().await;
    Ok(group_status(&desk, view))
}

async fn add(desk: Desk, input: pb::AddNodeRequest) -> Result<pb::NodesChanged, Status> {
    let (id, address) = checked(input.node.as_ref().ok_or_else(|| bad_field("node", "is missing"))?)?;
    change(desk, GroupChange::Add { id, address }, &input.by).await
}

async fn make_voter(desk: Desk, input: pb::MakeVoterRequest) -> Result<pb::NodesChanged, Status> {
    change(desk, GroupChange::MakeVoter { id: checked_id("id", input.id)? }, &input.by).await
}

async fn remove(desk: Desk, input: pb::RemoveNodeRequest) -> Result<pb::NodesChanged, Status> {
    change(desk, GroupChange::Remove { id: checked_id("id", input.id)? }, &input.by).await
}

async fn replace(desk: Desk, input: pb::ReplaceNodeRequest) -> Result<pb::NodesChanged, Status> {
    let (id, address) = checked(input.node.as_ref().ok_or_else(|| bad_field("node", "is missing"))?)?;
    let old = checked_id("old_id", input.old_id)?;
    if old == id {
        return Err(bad_field("node.id", format!("{id} was used; a node's number is never used again")));
    }
    change(desk, GroupChange::Replace { old, id, address }, &input.by).await
}

async fn transfer_leader(desk: Desk, input: pb::TransferLeaderRequest) -> Result<pb::NodesChanged, Status> {
    let to = Some(input.to).filter(|to| *to != 0);
    change(desk, GroupChange::TransferLeader { to }, &input.by).await
}

async fn change(desk: Desk, change: GroupChange, by: &str) -> Result<pb::NodesChanged, Status> {
    let text = desk.backend.change_group(change, by).await?;
    let view = desk.backend.group().await;
    Ok(pb::NodesChanged { text, status: Some(group_status(&desk, view)) })
}

fn checked_id(field: &str, id: u64) -> Result<u64, Status> {
    if id == 0 { Err(bad_field(field, "nodes are numbered from 1")) } else { Ok(id) }
}

fn checked(node: &pb::NodeAddress) -> Result<(u64, Address), Status> {
    let id = checked_id("node.id", node.id)?;
    let address = Address::from_str(&node.address).map_err(|error| bad_field("node.address", error))?;
    Ok((id, address))
}

fn group_status(desk: &Desk, view: GroupView) -> pb::GroupStatus {
    pb::GroupStatus {
        group: view.group,
        leader: view.leader.unwrap_or_default(),
        term: view.term,
        log_index: view.log_index,
        feature_level: desk.look(|state| state.feature_level),
        answered_by: view.node,
        nodes: view.nodes.into_iter().map(node).collect(),
        initialised: view.initialised,
    }
}

fn node(view: NodeView) -> pb::Node {
    let role = match view.role {
        NodeRole::Leader => pb::NodeRole::Leader,
        NodeRole::Follower => pb::NodeRole::Follower,
        NodeRole::Learner => pb::NodeRole::Learner,
        NodeRole::Unreachable => pb::NodeRole::Unreachable,
        NodeRole::Unknown => pb::NodeRole::Unknown,
    };
    let (version, feature_level, state) =
        view.program.map(|p| (p.version, p.feature_level, p.state)).unwrap_or_default();
    let (state_index, state_hash) = state.map(|s| (s.index, s.hash)).unwrap_or_default();
    pb::Node {
        id: view.id,
        address: view.address,
        client_address: view.client_address,
        role: role.into(),
        voter: view.voter,
        applied: view.applied,
        incarnation: view.incarnation,
        version,
        datacenter: view.datacenter,
        heard_ms: view.heard_ms,
        feature_level,
        state_hash,
        state_index,
    }
}
