//! Mutations: once, with who asked; validated without effect; waited for.

use std::time::Duration;

use quorate::{
    core::replicated::{Change, Ending},
    proto::v1::{
        self as pb, acknowledge_request::Scope, nodes_client::NodesClient,
        operations_client::OperationsClient, policy_client::PolicyClient, recovery_client::RecoveryClient,
        topology_client::TopologyClient,
    },
};

use crate::{
    fake::{Fake, connect},
    reason,
    world::Log,
};

#[tokio::test]
async fn the_same_request_id_takes_effect_once_and_gets_the_first_answer() {
    let fake = Fake::leading(Log::with_orders());
    let mut topology = TopologyClient::new(connect(fake.serve().await).await);
    let request = pb::ForgetServerRequest {
        server: "db3:3306".into(),
        request_id: "r1".into(),
        by: "anna".into(),
        ..Default::default()
    };
    let first = topology.forget_server(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.effects, ["forgot db3:3306"]);
    // The name is gone by now: the answer comes from the request id, not from looking again.
    let again = topology.forget_server(request).await.unwrap().into_inner();
    assert_eq!(again, first);
    let submitted = fake.submitted.lock().unwrap().clone();
    assert_eq!(submitted, [("forget_server".to_owned(), "anna".to_owned(), Some("r1".to_owned()))]);
}

#[tokio::test]
async fn a_refused_request_id_stays_refused() {
    let fake = Fake::leading(Log::with_orders());
    let mut topology = TopologyClient::new(connect(fake.serve().await).await);
    let request =
        pb::ForgetServerRequest { server: "db1:3306".into(), request_id: "r1".into(), ..Default::default() };
    for _ in 0..2 {
        let error = topology.forget_server(request.clone()).await.unwrap_err();
        assert!(error.message().contains("the primary cannot be forgotten"), "{error}");
    }
    assert_eq!(fake.submitted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn who_asks_is_the_clients_address_when_it_does_not_say() {
    let fake = Fake::leading(Log::with_orders());
    let mut operations = OperationsClient::new(connect(fake.serve().await).await);
    operations
        .set_recoveries(pb::SetRecoveriesRequest { enabled: true, ..Default::default() })
        .await
        .unwrap();
    let (_, by, request_id) = fake.submitted.lock().unwrap()[0].clone();
    assert!(by.starts_with("client at 127.0.0.1:"), "{by}");
    assert_eq!(request_id.unwrap().len(), 36, "a request id was made");
}

#[tokio::test]
async fn validating_tells_the_effects_and_changes_nothing() {
    let fake = Fake::leading(Log::with_orders());
    let channel = connect(fake.serve().await).await;
    let before = fake.log().state.hash();
    let alias = pb::SetAliasRequest {
        cluster: "orders".into(),
        alias: "sales".into(),
        validate_only: true,
        ..Default::default()
    };
    let mut topology = TopologyClient::new(channel.clone());
    let would = topology.set_alias(alias.clone()).await.unwrap().into_inner();
    assert_eq!((would.log_index, would.effects), (0, vec!["cluster c1 is called sales".to_owned()]));
    let error = topology.set_alias(pb::SetAliasRequest { alias: "a b".into(), ..alias }).await.unwrap_err();
    assert!(error.message().contains("`a b` is no alias"), "{error}");
    let setting = pb::Setting { key: "lag_s".into(), value: "7".into(), ..Default::default() };
    let request = pb::SetPolicyRequest { settings: vec![setting], validate_only: true, ..Default::default() };
    let policy = PolicyClient::new(channel.clone()).set_policy(request).await.unwrap().into_inner();
    assert!(policy.settings.iter().any(|s| s.key == "lag_s" && s.value == "7" && s.default_value == "10"));
    let request = pb::DiscoverRequest { address: "db1".into(), validate_only: true, ..Default::default() };
    let found = topology.discover(request).await.unwrap().into_inner();
    assert_eq!((found.log_index, found.members.len()), (0, 2));
    let request =
        pb::SwitchoverRequest { cluster: "orders".into(), validate_only: true, ..Default::default() };
    let answer = RecoveryClient::new(channel).switchover(request).await.unwrap().into_inner();
    assert!(answer.recovery.is_none());
    assert_eq!(answer.plan.unwrap().new_primary, "db2:3306");
    assert_eq!(fake.log().state.hash(), before);
    assert!(fake.submitted.lock().unwrap().is_empty());
}

/// What the real thing would be refused for stands in the dry run, too.
#[tokio::test]
async fn validating_a_forced_failover_says_that_no_majority_saw_a_failure() {
    let fake = Fake::leading(Log::with_orders());
    let mut recovery = RecoveryClient::new(connect(fake.serve().await).await);
    let mut blocked_by = async |waive| {
        let request = pb::FailoverRequest {
            cluster: "orders".into(),
            validate_only: true,
            waive,
            ..Default::default()
        };
        let plan = recovery.failover(request).await.unwrap().into_inner().plan.unwrap();
        plan.blocked_by.into_iter().map(|refusal| refusal.reason).collect::<Vec<_>>()
    };
    let unwaived = blocked_by(vec![]).await;
    assert!(unwaived.contains(&"NO_MAJORITY_VERDICT".to_owned()), "{unwaived:?}");
    let waived = blocked_by(vec![pb::Waiver::Verdict as i32]).await;
    assert!(!waived.contains(&"NO_MAJORITY_VERDICT".to_owned()), "{waived:?}");
}

#[tokio::test]
async fn the_policy_is_set_key_by_key_and_only_from_the_version_named() {
    let fake = Fake::leading(Log::with_orders());
    let mut policy = PolicyClient::new(connect(fake.serve().await).await);
    let set = |value: &str, version| pb::SetPolicyRequest {
        version,
        settings: vec![pb::Setting { key: "lag_s".into(), value: value.into(), ..Default::default() }],
        ..Default::default()
    };
    let document = policy.set_policy(set("7", 1)).await.unwrap().into_inner();
    assert_eq!(document.version, 2);
    assert_eq!(fake.log().state.policy.lag_s, 7);
    assert_eq!(fake.log().state.policy.silence_ms, 1_200, "the other keys stay");
    let error = policy.set_policy(set("8", 1)).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (tonic::Code::Aborted, "OUTDATED"));
}

#[tokio::test]
async fn a_switchover_is_started_once_and_waited_for() {
    let fake = Fake::leading(Log::with_orders());
    let mut recovery = RecoveryClient::new(connect(fake.serve().await).await);
    let request =
        pb::SwitchoverRequest { cluster: "orders".into(), request_id: "s1".into(), ..Default::default() };
    let started = recovery.switchover(request.clone()).await.unwrap().into_inner().recovery.unwrap();
    assert_eq!(started.state(), pb::RecoveryState::Running);
    let again = recovery.switchover(request).await.unwrap().into_inner().recovery.unwrap();
    assert_eq!(again.id, started.id, "a repetition finds the first one");
    assert_eq!(fake.submitted.lock().unwrap().len(), 1);
    let wait = |timeout_ms| pb::WaitRecoveryRequest { recovery: started.id, timeout_ms };
    let running = recovery.wait_recovery(wait(1)).await.unwrap().into_inner();
    assert_eq!(running.state(), pb::RecoveryState::Running);
    let ending = fake.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ending.apply(Change::FinishRecovery {
            recovery: started.id,
            ending: Ending::Cancelled,
            reason: "a statement ran for 9 s".into(),
            left_behind: vec![],
            repointed: vec![],
            candidate_open: false,
        });
    });
    let ended = recovery.wait_recovery(wait(30_000)).await.unwrap().into_inner();
    assert_eq!(
        (ended.state(), ended.reason.as_str()),
        (pb::RecoveryState::Cancelled, "a statement ran for 9 s")
    );
}

#[tokio::test]
async fn acknowledging_lifts_the_block() {
    let fake = Fake::leading(Log::after_failover());
    let channel = connect(fake.serve().await).await;
    let mut recovery = RecoveryClient::new(channel.clone());
    let list = recovery.list_recoveries(pb::ListRecoveriesRequest::default()).await.unwrap().into_inner();
    let id = list.recoveries[0].id;
    let mut topology = TopologyClient::new(channel);
    let whole = |answer: tonic::Response<pb::Cluster>| answer.into_inner();
    let request = pb::GetClusterRequest { cluster: "db4:3306".into(), ..Default::default() };
    let before = whole(topology.get_cluster(request.clone()).await.unwrap());
    assert_eq!(before.blocks.len(), 1);
    assert_eq!(before.paused[0].reason, "CLUSTER_BLOCKED");
    let scope = Some(Scope::Cluster("orders".into()));
    let ack = pb::AcknowledgeRequest {
        scope,
        comment: "disk replaced".into(),
        by: "anna".into(),
        ..Default::default()
    };
    let done = recovery.acknowledge(ack).await.unwrap().into_inner();
    assert_eq!(done.acknowledged, [id]);
    assert!(whole(topology.get_cluster(request).await.unwrap()).blocks.is_empty());
    let record = recovery
        .get_recovery(pb::GetRecoveryRequest { recovery: id, stale: false })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(record.acknowledged.unwrap().by, "anna");
}

#[tokio::test]
async fn pauses_switches_and_rules_are_set_and_listed() {
    let fake = Fake::leading(Log::with_orders());
    let mut operations = OperationsClient::new(connect(fake.serve().await).await);
    let by = || "anna".to_owned();
    operations
        .set_downtime(pb::SetDowntimeRequest {
            server: "db1:3306".into(),
            for_ms: 60_000,
            why: "kernel".into(),
            by: by(),
            ..Default::default()
        })
        .await
        .unwrap();
    operations
        .set_maintenance(pb::SetMaintenanceRequest {
            cluster: "orders".into(),
            for_ms: 60_000,
            why: "move".into(),
            by: by(),
            ..Default::default()
        })
        .await
        .unwrap();
    operations
        .set_promotion_rule(pb::SetPromotionRuleRequest {
            server: "db4:3306".into(),
            rule: "must_not".into(),
            by: by(),
            ..Default::default()
        })
        .await
        .unwrap();
    operations
        .set_recoveries(pb::SetRecoveriesRequest {
            cluster: "orders".into(),
            enabled: false,
            why: "audit".into(),
            by: by(),
            ..Default::default()
        })
        .await
        .unwrap();
    let settings = operations.get_settings(pb::GetSettingsRequest::default()).await.unwrap().into_inner();
    assert_eq!(settings.downtimes[0].address, "db1:3306");
    assert_eq!(settings.maintenance[0].pause.as_ref().unwrap().why, "move");
    assert_eq!(
        (settings.rules[0].address.as_str(), settings.rules[0].rule.as_str()),
        ("db4:3306", "must_not")
    );
    assert_eq!(settings.clusters[0].recoveries.as_ref().unwrap().why, "audit");
    let end = pb::SetDowntimeRequest { server: "db1:3306".into(), for_ms: 0, by: by(), ..Default::default() };
    operations.set_downtime(end).await.unwrap();
    let settings = operations.get_settings(pb::GetSettingsRequest::default()).await.unwrap().into_inner();
    assert!(settings.downtimes.is_empty());
}

#[tokio::test]
async fn a_backup_comes_in_parts() {
    let fake = Fake::leading(Log::with_orders());
    let mut nodes = NodesClient::new(connect(fake.serve().await).await);
    let mut parts = nodes.backup(pb::BackupRequest {}).await.unwrap().into_inner();
    let mut all = Vec::new();
    let mut index = 0;
    while let Some(part) = parts.message().await.unwrap() {
        all.extend(part.data);
        index = index.max(part.log_index);
    }
    assert_eq!((all.as_slice(), index), (b"one two".as_slice(), 42));
}
