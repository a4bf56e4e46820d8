//! Errors: a canonical code, a stable reason, the numbers, and a sentence that says what to do.

use std::time::{Duration, Instant};

use quorate::{
    api::backend::{Failure, GroupTrouble, ServerTrouble},
    core::replicated::Refusal,
    model::address::Address,
    proto::v1::{
        self as pb, acknowledge_request::Scope, nodes_client::NodesClient,
        operations_client::OperationsClient, policy_client::PolicyClient, recovery_client::RecoveryClient,
        topology_client::TopologyClient,
    },
};
use tonic::Code;

use crate::{
    fake::{Fake, blocked, connect},
    number, reason,
    world::Log,
};

#[tokio::test]
async fn a_name_that_nobody_knows_is_answered_with_near_ones() {
    let fake = Fake::leading(Log::with_orders());
    let mut topology = TopologyClient::new(connect(fake.serve().await).await);
    let request = pb::GetClusterRequest { cluster: "ordesr".into(), ..Default::default() };
    let error = topology.get_cluster(request).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::NotFound, "NOT_FOUND"));
    assert_eq!(error.message(), "no cluster `ordesr`; did you mean orders?");
    assert_eq!(number(&error, "near"), "orders");
    let request = pb::ForgetServerRequest { server: "db22:3306".into(), ..Default::default() };
    let error = topology.forget_server(request).await.unwrap_err();
    assert!(error.message().contains("did you mean db2:3306"), "{}", error.message());
}

#[tokio::test]
async fn wrong_input_names_its_field() {
    let fake = Fake::leading(Log::with_orders());
    let channel = connect(fake.serve().await).await;
    let mut topology = TopologyClient::new(channel.clone());
    let mut recovery = RecoveryClient::new(channel.clone());
    let mut operations = OperationsClient::new(channel.clone());
    let mut policy = PolicyClient::new(channel.clone());
    let mut nodes = NodesClient::new(channel);
    let setting = |key: &str, value: &str| pb::SetPolicyRequest {
        settings: vec![pb::Setting { key: key.into(), value: value.into(), ..Default::default() }],
        ..Default::default()
    };
    let node = |id, address: &str| pb::NodeAddress { id, address: address.into() };
    let orders = || "orders".to_owned();
    let cases = [
        (
            topology
                .discover(pb::DiscoverRequest { address: "a b".into(), ..Default::default() })
                .await
                .map(|_| ()),
            "address",
            "character",
        ),
        (
            recovery
                .acknowledge(pb::AcknowledgeRequest { scope: Some(Scope::All(true)), ..Default::default() })
                .await
                .map(|_| ()),
            "comment",
            "say what was found",
        ),
        (
            recovery
                .acknowledge(pb::AcknowledgeRequest { comment: "x".into(), ..Default::default() })
                .await
                .map(|_| ()),
            "scope",
            "name a recovery",
        ),
        (
            recovery
                .list_recoveries(pb::ListRecoveriesRequest { limit: 5_000, ..Default::default() })
                .await
                .map(|_| ()),
            "limit",
            "at most 1000",
        ),
        (
            recovery
                .switchover(pb::SwitchoverRequest {
                    cluster: orders(),
                    to: "db1:3306".into(),
                    ..Default::default()
                })
                .await
                .map(|_| ()),
            "to",
            "db1:3306 is the primary already",
        ),
        (
            recovery
                .failover(pb::FailoverRequest { cluster: orders(), waive: vec![9], ..Default::default() })
                .await
                .map(|_| ()),
            "waive",
            "unknown rule",
        ),
        (
            operations
                .set_promotion_rule(pb::SetPromotionRuleRequest {
                    server: "db2:3306".into(),
                    rule: "maybe".into(),
                    ..Default::default()
                })
                .await
                .map(|_| ()),
            "rule",
            "none of must, prefer",
        ),
        (
            operations
                .set_downtime(pb::SetDowntimeRequest {
                    server: "db2:3306".into(),
                    for_ms: 5,
                    ..Default::default()
                })
                .await
                .map(|_| ()),
            "why",
            "say why",
        ),
        (
            operations
                .set_recoveries(pb::SetRecoveriesRequest {
                    by: "x".repeat(65),
                    enabled: true,
                    ..Default::default()
                })
                .await
                .map(|_| ()),
            "by",
            "at most 64",
        ),
        (
            policy.set_policy(setting("silense_ms", "1")).await.map(|_| ()),
            "silense_ms",
            "did you mean silence_ms?",
        ),
        (
            policy.set_policy(setting("silence_ms", "\"1.2s\"")).await.map(|_| ()),
            "silence_ms",
            "milliseconds as a whole number",
        ),
        (policy.set_policy(setting("silence_ms", "-5")).await.map(|_| ()), "silence_ms", "milliseconds"),
        (
            policy.set_policy(setting("silence_ms", "1")).await.map(|_| ()),
            "settings",
            "`silence_ms` is 1; it must be at least 500",
        ),
        (
            policy.set_policy(setting("drain_policy", "\"hope\"")).await.map(|_| ()),
            "drain_policy",
            "`next_candidate`",
        ),
        (nodes.init(pb::InitRequest { nodes: vec![] }).await.map(|_| ()), "nodes", "name 1 to 7"),
        (
            nodes.init(pb::InitRequest { nodes: vec![node(1, "a:1"), node(1, "b:1")] }).await.map(|_| ()),
            "nodes",
            "node 1 is named twice",
        ),
        (
            nodes.init(pb::InitRequest { nodes: vec![node(1, "a")] }).await.map(|_| ()),
            "node.address",
            "no port",
        ),
        (nodes.remove(pb::RemoveNodeRequest::default()).await.map(|_| ()), "id", "numbered from 1"),
    ];
    for (answer, field, says) in cases {
        let error = answer.expect_err(says);
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert_eq!(number(&error, "field"), field, "{error}");
        assert!(error.message().contains(says), "{}\nlacks\n{says}", error.message());
    }
    assert!(fake.submitted.lock().unwrap().is_empty(), "wrong input is not proposed");
}

#[tokio::test]
async fn a_refusal_has_its_reason_numbers_and_time_to_try_again() {
    let fake = Fake::leading(Log::with_orders());
    let mut recovery = RecoveryClient::new(connect(fake.serve().await).await);
    let request = pb::FailoverRequest { cluster: "orders".into(), ..Default::default() };
    fake.fail_next(blocked());
    let error = recovery.failover(request.clone()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "CLUSTER_BLOCKED"));
    assert_eq!((number(&error, "recovery").as_str(), number(&error, "left_s").as_str()), ("14", "1790"));
    assert!(error.message().contains("quorate ack 14"), "{}", error.message());
    let loss = Refusal::PossibleDataLoss { why: "db2 lacks 7 transactions".into() };
    fake.fail_next(loss.into());
    let error = recovery.failover(request).await.unwrap_err();
    assert_eq!(reason(&error), "POSSIBLE_DATA_LOSS");
}

#[tokio::test]
async fn a_long_refusal_still_arrives() {
    let fake = Fake::leading(Log::with_orders());
    let mut recovery = RecoveryClient::new(connect(fake.serve().await).await);
    let why = "x".repeat(100_000);
    fake.fail_next(Refusal::PossibleDataLoss { why }.into());
    let request = pb::FailoverRequest { cluster: "orders".into(), ..Default::default() };
    let error = recovery.failover(request).await.unwrap_err();
    assert_eq!(reason(&error), "POSSIBLE_DATA_LOSS", "{}", error.message().len());
}

#[tokio::test]
async fn failures_of_servers_and_of_the_group_are_told_apart() {
    let fake = Fake::leading(Log::with_orders());
    let channel = connect(fake.serve().await).await;
    let mut topology = TopologyClient::new(channel.clone());
    for (trouble, is) in [
        (ServerTrouble::Unreachable, "SERVER_UNREACHABLE"),
        (ServerTrouble::LoginFailed, "LOGIN_FAILED"),
        (ServerTrouble::NotAServer, "NOT_A_SERVER"),
        (ServerTrouble::DuplicateId, "DUPLICATE_SERVER_ID"),
        (ServerTrouble::Loop, "REPLICATION_LOOP"),
    ] {
        fake.fail_next(Failure::Server {
            trouble,
            address: Address::new("db9", 3306),
            why: "because".into(),
        });
        let request = pb::DiscoverRequest { address: "db9".into(), ..Default::default() };
        let error = topology.discover(request).await.unwrap_err();
        assert_eq!((reason(&error).as_str(), error.message()), (is, "db9:3306: because"));
        assert_eq!(number(&error, "server"), "db9:3306");
    }
    let mut nodes = NodesClient::new(channel);
    let why = "node 1 already belongs to an initialised group; nothing was changed".to_owned();
    fake.fail_next(Failure::Group { trouble: GroupTrouble::AlreadyInitialised, why });
    let one = pb::NodeAddress { id: 1, address: "a:1".into() };
    let error = nodes.init(pb::InitRequest { nodes: vec![one] }).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::AlreadyExists, "ALREADY_INITIALISED"));
    let error = nodes.remove(pb::RemoveNodeRequest { id: 9, by: String::new() }).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "there is no node 9"));
}

#[tokio::test]
async fn without_a_leader_a_call_is_refused_in_time_and_a_stale_read_is_answered() {
    let fake = Fake::leading(Log::with_orders());
    fake.leader.send_replace(None);
    let channel = connect(fake.serve().await).await;
    let mut topology = TopologyClient::new(channel.clone());
    let asked = Instant::now();
    let error = topology.list_clusters(pb::ListClustersRequest::default()).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(30));
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "NO_LEADER"));
    let list = topology.list_clusters(pb::ListClustersRequest { stale: true }).await.unwrap().into_inner();
    assert_eq!(list.clusters.len(), 1);
    let status = NodesClient::new(channel).status(pb::StatusRequest::default()).await.unwrap().into_inner();
    assert_eq!((status.leader, status.answered_by), (0, 1), "the group's status needs no leader");
}

#[tokio::test]
async fn no_quorum_and_an_unknown_fate_are_said_as_such() {
    let fake = Fake::leading(Log::with_orders());
    let mut operations = OperationsClient::new(connect(fake.serve().await).await);
    let request = pb::SetRecoveriesRequest { enabled: true, ..Default::default() };
    fake.fail_next(Failure::NoQuorum);
    let error = operations.set_recoveries(request.clone()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "NO_QUORUM"));
    fake.fail_next(Failure::Unknown("no answer in 2 s".into()));
    let error = operations.set_recoveries(request).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::DeadlineExceeded, "FATE_UNKNOWN"));
    assert!(error.message().contains("same request_id"));
}
