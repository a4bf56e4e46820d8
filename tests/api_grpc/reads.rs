//! What is read: clusters with live facts, records, plans, explanations, health, reflection.

use quorate::{
    api::backend::Failure,
    core::replicated::Refusal,
    proto::v1::{self as pb, recovery_client::RecoveryClient, topology_client::TopologyClient},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    fake::{Fake, connect},
    world::{ERRANT, Log},
};

#[tokio::test]
async fn a_cluster_is_told_depth_first_with_roles_and_live_facts() {
    let fake = Fake::leading(Log::with_orders());
    let mut topology = TopologyClient::new(connect(fake.serve().await).await);
    let request = pb::GetClusterRequest { cluster: "orders".into(), ..Default::default() };
    let cluster = topology.get_cluster(request).await.unwrap().into_inner();
    let told: Vec<_> = cluster
        .members
        .iter()
        .map(|m| (m.depth, m.address.as_str(), m.role(), m.status.as_str(), m.source.as_str()))
        .collect();
    use pb::Role::{Intermediate, Primary, Replica};
    let wanted = [
        (0, "db1:3306", Primary, "ok", ""),
        (1, "db2:3306", Intermediate, "ok", "db1:3306"),
        (2, "db3:3306", Replica, "nonreplicating", "db2:3306"),
        (1, "db4:3306", Replica, "lag", "db1:3306"),
    ];
    assert_eq!(told, wanted);
    let ahead: Vec<_> =
        cluster.members.iter().map(|m| m.live.as_ref().unwrap().gtid_ahead.as_str()).collect();
    assert_eq!(ahead, ["", "", "", ERRANT], "what the primary wrote since it was read is not errant");
    let live = cluster.members[2].live.as_ref().unwrap();
    assert_eq!((live.lag_s, live.receiver_error.as_str()), (None, "2003: cannot connect"));
    assert_eq!(live.offline_mode, None, "what was not read is absent");
    assert_eq!(cluster.problems[0].code, "DeadPrimary");
    let list = topology.list_clusters(pb::ListClustersRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.clusters[0].primary, "db1:3306");
    assert!(list.clusters[0].recoveries_enabled && !list.clusters[0].blocked);
}

#[tokio::test]
async fn a_server_on_which_a_fence_may_still_land_is_shown_so() {
    let fake = Fake::leading(Log::given_up());
    let node = fake.serve().await;
    let mut topology = TopologyClient::new(connect(node).await);
    let request = pb::GetClusterRequest { cluster: "orders".into(), ..Default::default() };
    let cluster = topology.get_cluster(request).await.unwrap().into_inner();
    let unknown: Vec<_> =
        cluster.members.iter().filter(|m| m.fence_unknown).map(|m| m.address.as_str()).collect();
    assert_eq!(unknown, ["db1:3306"]);
    let mut recovery = RecoveryClient::new(connect(node).await);
    let request = pb::GetRecoveryRequest { recovery: cluster.recovery.unwrap(), ..Default::default() };
    let record = recovery.get_recovery(request).await.unwrap().into_inner();
    assert_eq!(record.state(), pb::RecoveryState::Running);
    assert!(record.fence_unknown && record.given_up.contains("must_not"), "{record:?}");
}

#[tokio::test]
async fn a_record_tells_who_saw_what_who_was_chosen_and_what_was_lost() {
    let fake = Fake::leading(Log::after_failover());
    let mut recovery = RecoveryClient::new(connect(fake.serve().await).await);
    let list = recovery.list_recoveries(pb::ListRecoveriesRequest::default()).await.unwrap().into_inner();
    let record = &list.recoveries[0];
    assert_eq!((record.kind(), record.state()), (pb::Kind::Failover, pb::RecoveryState::Succeeded));
    assert_eq!((record.old_primary.as_str(), record.new_primary.as_str()), ("db1:3306", "db2:3306"));
    assert_eq!(record.evidence.len(), 3);
    assert!(record.evidence.iter().all(|w| w.voter && w.hard && w.finding == "DeadPrimary"));
    assert_eq!(record.evidence[1].age_ms, Some(20));
    assert!(record.lost.ends_with(":101-102"), "{}", record.lost);
    assert_eq!((record.steps.len(), record.left_behind[0].address.as_str()), (3, "db1:3306"));
    let before = pb::ListRecoveriesRequest { before: record.id, ..Default::default() };
    assert!(recovery.list_recoveries(before).await.unwrap().into_inner().recoveries.is_empty());
}

#[tokio::test]
async fn an_explanation_says_who_agrees_and_why_others_do_not_count() {
    let fake = Fake::leading(Log::with_orders());
    let mut recovery = RecoveryClient::new(connect(fake.serve().await).await);
    let request = pb::ExplainRequest { cluster: "orders".into(), stale: false };
    let answer = recovery.explain(request.clone()).await.unwrap().into_inner();
    let ages: Vec<_> = answer.witnesses.iter().map(|w| w.age_ms).collect();
    assert_eq!(ages, [Some(40), Some(9_000), None]);
    let told: Vec<_> =
        answer.witnesses.iter().map(|w| (w.node, w.finding.as_str(), w.not_counted.as_str())).collect();
    assert_eq!(
        told,
        [(1, "DeadPrimary", ""), (2, "DeadPrimary", "its verdict is 9000 ms old"), (3, "", "no verdict")]
    );
    let agreement = answer.agreement.unwrap();
    assert_eq!((agreement.agreed, agreement.have, agreement.need, agreement.voters), (false, 1, 2, 3));
    assert_eq!(answer.plan.unwrap().steps.len(), 3);
    *fake.plan.lock().unwrap() = Err(Failure::Refused(Refusal::NoSafeCandidate { considered: vec![] }));
    let answer = recovery.explain(request).await.unwrap().into_inner();
    assert!(answer.plan.is_none());
    assert_eq!(answer.plan_refusal.unwrap().reason, "NO_SAFE_CANDIDATE");
}

#[tokio::test]
async fn health_follows_the_leader() {
    let fake = Fake::leading(Log::with_orders());
    let mut health = HealthClient::new(connect(fake.serve().await).await);
    let mut watched = health
        .watch(HealthCheckRequest { service: "quorate.v1.Recovery".into() })
        .await
        .unwrap()
        .into_inner();
    let mut wait_for = async |wanted: ServingStatus| {
        while watched.message().await.unwrap().unwrap().status() != wanted {}
    };
    wait_for(ServingStatus::Serving).await;
    fake.leader.send_replace(None);
    wait_for(ServingStatus::NotServing).await;
    fake.leader.send_replace(Some(2));
    wait_for(ServingStatus::Serving).await;
    let all = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.status(), ServingStatus::Serving);
}

#[tokio::test]
async fn reflection_tells_the_public_services() {
    let fake = Fake::leading(Log::new());
    let mut reflection = ServerReflectionClient::new(connect(fake.serve().await).await);
    let ask = |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let requests = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("quorate.v1.Topology".into())),
    ];
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = first else { panic!("{first:?}") };
    let mut names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
    names.sort();
    let wanted = [
        "grpc.health.v1.Health",
        "quorate.v1.Events",
        "quorate.v1.Nodes",
        "quorate.v1.Operations",
        "quorate.v1.Policy",
        "quorate.v1.Recovery",
        "quorate.v1.Topology",
    ];
    assert_eq!(names, wanted);
    let second = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(second, MessageResponse::FileDescriptorResponse(_)), "{second:?}");
}
