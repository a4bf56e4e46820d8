//! Service `Topology`: clusters, members, problems.

use tonic::Status;

use super::{
    backend::{DiscoverWish, Discovered, ProblemView},
    convert::cluster::{members_found, problem, summary, whole},
    desk::{Desk, Mutation, found},
    forward::service,
    status::bad_field,
};
use crate::{
    core::replicated::{Change, Cluster, Outcome},
    model::{
        address::Address,
        server::{ClusterId, Flavor},
    },
    proto::v1::{self as pb, topology_client::TopologyClient, topology_server},
};

/// Port of a server whose address names none.
const SERVER_PORT: u16 = 3306;

/// The service.
pub struct Topology {
    /// Where its calls arrive.
    pub desk: Desk,
}

service!(Topology: topology_server::Topology, TopologyClient<crate::api::backend::LeaderChannel> {
    discover(DiscoverRequest) -> DiscoverResponse;
    forget_server(ForgetServerRequest) -> Changed;
    forget_cluster(ForgetClusterRequest) -> Changed;
    list_clusters(ListClustersRequest) -> ListClustersResponse;
    get_cluster(GetClusterRequest) -> Cluster;
    set_alias(SetAliasRequest) -> Changed;
    confirm_member(ConfirmMemberRequest) -> Changed;
    list_problems(ListProblemsRequest) -> ListProblemsResponse;
});

async fn discover(desk: Desk, input: pb::DiscoverRequest) -> Result<pb::DiscoverResponse, Status> {
    let address =
        Address::parse_with_port(&input.address, SERVER_PORT).map_err(|error| bad_field("address", error))?;
    if let Some(Outcome::Done { id, .. }) = desk.replayed(&input.request_id)
        && let Some(answer) = desk.look(|state| {
            let (cluster, _) = state.member_at(&address)?;
            Some(discovered_again(cluster, id))
        })
    {
        return Ok(answer);
    }
    let wish = DiscoverWish {
        address,
        alias: Some(input.alias).filter(|alias| !alias.is_empty()),
        dry_run: input.validate_only,
        by: input.by,
        request_id: Some(input.request_id),
    };
    let found = desk.backend.discover(wish).await?;
    let cluster = desk.look(|state| state.clusters.get(&found.cluster).cloned());
    let cluster = cluster.filter(|_| found.index > 0).unwrap_or_else(|| as_cluster(&found));
    Ok(pb::DiscoverResponse {
        cluster: found.cluster.0,
        alias: cluster.alias.clone().unwrap_or_default(),
        adopted: found.adopted,
        members: members_found(&cluster),
        warnings: found.warnings,
        log_index: found.index,
    })
}

fn discovered_again(cluster: &Cluster, index: u64) -> pb::DiscoverResponse {
    pb::DiscoverResponse {
        cluster: cluster.id.0.clone(),
        alias: cluster.alias.clone().unwrap_or_default(),
        adopted: true,
        members: members_found(cluster),
        warnings: Vec::new(),
        log_index: index,
    }
}

/// What was found, in the shape of a cluster, to be shown as one.
fn as_cluster(found: &Discovered) -> Cluster {
    Cluster {
        alias: found.alias.clone(),
        primary: found.primary.clone(),
        members: found.members.iter().map(|m| (m.server.clone(), m.clone())).collect(),
        ..Cluster::new(
            found.cluster.clone(),
            found.members.first().map_or(Flavor::MySql, |m| m.identity.flavor),
        )
    }
}

async fn forget_server(desk: Desk, input: pb::ForgetServerRequest) -> Result<pb::Changed, Status> {
    let pb::ForgetServerRequest { server, request_id, validate_only, by } = input;
    let mutation = Mutation { request_id: &request_id, validate_only, by: &by };
    let effect = desk.mutate(mutation, |state| {
        let (cluster, member) = found(state.find_server(&server))?;
        Ok(Change::ForgetServer { cluster: cluster.id.clone(), server: member.server.clone() })
    });
    Ok(effect.await?.changed())
}

async fn forget_cluster(desk: Desk, input: pb::ForgetClusterRequest) -> Result<pb::Changed, Status> {
    let pb::ForgetClusterRequest { cluster, request_id, validate_only, by } = input;
    let mutation = Mutation { request_id: &request_id, validate_only, by: &by };
    let effect = desk.mutate(mutation, |state| {
        Ok(Change::ForgetCluster { cluster: found(state.find_cluster(&cluster))?.id.clone() })
    });
    Ok(effect.await?.changed())
}

async fn set_alias(desk: Desk, input: pb::SetAliasRequest) -> Result<pb::Changed, Status> {
    let pb::SetAliasRequest { cluster, alias, request_id, validate_only, by } = input;
    let mutation = Mutation { request_id: &request_id, validate_only, by: &by };
    let effect = desk.mutate(mutation, |state| {
        let cluster = found(state.find_cluster(&cluster))?.id.clone();
        Ok(Change::SetAlias { cluster, alias: Some(alias).filter(|a| !a.is_empty()) })
    });
    Ok(effect.await?.changed())
}

async fn confirm_member(desk: Desk, input: pb::ConfirmMemberRequest) -> Result<pb::Changed, Status> {
    let pb::ConfirmMemberRequest { server, request_id, validate_only, by } = input;
    let mutation = Mutation { request_id: &request_id, validate_only, by: &by };
    let effect = desk.mutate(mutation, |state| {
        let (cluster, member) = found(state.find_server(&server))?;
        Ok(Change::ConfirmMember { cluster: cluster.id.clone(), server: member.server.clone() })
    });
    Ok(effect.await?.changed())
}

async fn list_clusters(
    desk: Desk,
    _input: pb::ListClustersRequest,
) -> Result<pb::ListClustersResponse, Status> {
    let ids: Vec<ClusterId> = desk.look(|state| state.clusters.keys().cloned().collect());
    let mut clusters = Vec::new();
    for id in ids {
        let problems = sorted_problems(&desk, &id);
        clusters.extend(desk.look(|state| state.clusters.get(&id).map(|c| summary(state, c, &problems))));
    }
    let name = |c: &pb::ClusterSummary| (c.alias.is_empty(), c.alias.clone(), c.cluster.clone());
    clusters.sort_by_key(name);
    Ok(pb::ListClustersResponse { clusters })
}

async fn get_cluster(desk: Desk, input: pb::GetClusterRequest) -> Result<pb::Cluster, Status> {
    let id = desk.look(|state| found(state.find_cluster(&input.cluster)).map(|c| c.id.clone()))?;
    let live = desk.backend.live(&id);
    let problems = sorted_problems(&desk, &id);
    let index = *desk.backend.applied().borrow();
    desk.look(|state| {
        let cluster = found(state.find_cluster(&id.0))?;
        Ok(whole(state, cluster, &live, &problems, index))
    })
}

async fn list_problems(
    desk: Desk,
    input: pb::ListProblemsRequest,
) -> Result<pb::ListProblemsResponse, Status> {
    let ids: Vec<ClusterId> = desk.look(|state| match input.cluster.is_empty() {
        true => Ok(state.clusters.keys().cloned().collect()),
        false => found(state.find_cluster(&input.cluster)).map(|c| vec![c.id.clone()]),
    })?;
    let mut problems = Vec::new();
    for id in ids {
        for view in sorted_problems(&desk, &id) {
            let shown = desk.look(|state| state.clusters.get(&id).map(|c| problem(c, &view)));
            problems.extend(shown.map(|shown| (view.severity, shown)));
        }
    }
    problems.sort_by_key(|(severity, _)| *severity);
    Ok(pb::ListProblemsResponse { problems: problems.into_iter().map(|(_, shown)| shown).collect() })
}

fn sorted_problems(desk: &Desk, id: &ClusterId) -> Vec<ProblemView> {
    let mut problems = desk.backend.problems(id);
    problems.sort_by_key(|p| (p.severity, p.class));
    problems
}
