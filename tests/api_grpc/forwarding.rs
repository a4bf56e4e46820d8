//! Any node answers: it passes the call on to the leader, once.

use std::{sync::Arc, time::Duration};

use quorate::{
    api::backend::Failure,
    proto::v1::{
        self as pb, nodes_client::NodesClient, operations_client::OperationsClient,
        recovery_client::RecoveryClient, topology_client::TopologyClient,
    },
};

use crate::{
    fake::{Fake, connect},
    reason,
    world::Log,
};

/// A leader (node 1) and a follower (node 2) over one log.
async fn pair() -> (Arc<Fake>, Arc<Fake>, std::net::SocketAddr) {
    let leader = Fake::leading(Log::with_orders());
    let follower = Fake::new(2, None, leader.log.clone());
    follower.leads_via(1, leader.serve_nodes().await);
    let address = follower.serve().await;
    (leader, follower, address)
}

fn enable() -> pb::SetRecoveriesRequest {
    pb::SetRecoveriesRequest { enabled: true, ..Default::default() }
}

#[tokio::test]
async fn a_follower_passes_a_change_on_with_its_id_and_its_author() {
    let (leader, follower, address) = pair().await;
    let mut operations = OperationsClient::new(connect(address).await);
    operations.set_recoveries(enable()).await.unwrap();
    assert!(follower.submitted.lock().unwrap().is_empty());
    let (name, by, request_id) = leader.submitted.lock().unwrap()[0].clone();
    assert_eq!(name, "set_recoveries");
    assert!(by.starts_with("client at 127.0.0.1:"), "the client, not the follower: {by}");
    assert!(request_id.is_some());
}

#[tokio::test]
async fn errors_of_the_leader_arrive_unchanged() {
    let (_leader, _follower, address) = pair().await;
    let mut topology = TopologyClient::new(connect(address).await);
    let request = pb::GetClusterRequest { cluster: "nosuch".into(), ..Default::default() };
    assert_eq!(reason(&topology.get_cluster(request).await.unwrap_err()), "NOT_FOUND");
}

/// The node was removed and does not know it: the leader's gate turns it away, in words that no client knows.
#[tokio::test]
async fn a_node_that_is_let_in_no_more_says_so_with_a_reason() {
    let leader = Fake::leading(Log::with_orders());
    let follower = Fake::new(2, None, leader.log.clone());
    follower.leads_via(1, leader.serve_nodes_to_nobody().await);
    let mut topology = TopologyClient::new(connect(follower.serve().await).await);
    let error = topology.list_clusters(pb::ListClustersRequest::default()).await.unwrap_err();
    assert_eq!(reason(&error), "NOT_A_MEMBER", "{error}");
    assert!(error.message().contains("node 2 was removed from the group; ask another node"), "{error}");
}

#[tokio::test]
async fn only_the_leader_knows_how_old_a_verdict_is_and_a_follower_asks_it() {
    let (_leader, _follower, address) = pair().await;
    let mut recovery = RecoveryClient::new(connect(address).await);
    let mut explain = async |stale| {
        let request = pb::ExplainRequest { cluster: "orders".into(), stale };
        let answer = recovery.explain(request).await.unwrap().into_inner();
        answer.witnesses.into_iter().map(|w| (w.age_ms, w.not_counted)).collect::<Vec<_>>()
    };
    assert_eq!(explain(false).await[0], (Some(40), String::new()));
    assert_eq!(explain(true).await[0], (None, "only the leader knows how old it is".into()));
}

#[tokio::test]
async fn a_stale_read_is_answered_where_it_is_asked() {
    let (leader, follower, address) = pair().await;
    leader.leader.send_replace(None);
    follower.leader.send_replace(None);
    *follower.way.lock().unwrap() = None;
    let mut topology = TopologyClient::new(connect(address).await);
    let request = pb::GetClusterRequest { cluster: "orders".into(), stale: true };
    assert_eq!(topology.get_cluster(request).await.unwrap().into_inner().cluster, "c1");
}

#[tokio::test]
async fn a_call_that_was_passed_on_is_not_passed_on_again() {
    let (leader, follower, address) = pair().await;
    // Each believes in the other.
    let nodes = follower.serve_nodes().await;
    leader.leads_via(2, nodes);
    let mut operations = OperationsClient::new(connect(address).await);
    let error = operations.set_recoveries(enable()).await.unwrap_err();
    assert_eq!(reason(&error), "NO_LEADER", "{error}");
    let mut operations = OperationsClient::new(connect(nodes).await);
    let error = operations.set_recoveries(enable()).await.unwrap_err();
    assert_eq!(reason(&error), "NOT_LEADER");
    assert!(leader.submitted.lock().unwrap().is_empty() && follower.submitted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_election_is_waited_for() {
    let (leader, follower, address) = pair().await;
    follower.leader.send_replace(None);
    let way = follower.way.lock().unwrap().take();
    let later = follower.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        *later.way.lock().unwrap() = way;
        later.leader.send_replace(Some(1));
    });
    let mut operations = OperationsClient::new(connect(address).await);
    operations.set_recoveries(enable()).await.unwrap();
    assert_eq!(leader.submitted.lock().unwrap().len(), 1);
}

/// The leader steps down between its barrier and its proposal: nothing was proposed, so it is tried again.
#[tokio::test]
async fn a_leader_that_lost_its_office_is_asked_again() {
    let (leader, _follower, address) = pair().await;
    leader.fail_next(Failure::NotLeader { leader: None });
    let mut operations = OperationsClient::new(connect(address).await);
    operations.set_recoveries(enable()).await.unwrap();
    assert_eq!(*leader.calls.lock().unwrap(), 2);
}

/// The leader is frozen: it takes the call and never answers. Once there is another, that one is asked.
#[tokio::test]
async fn a_leader_that_fell_silent_is_left_for_the_next() {
    let frozen = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let next = Fake::new(3, Some(3), Fake::leading(Log::with_orders()).log.clone());
    let next_at = next.serve().await;
    let follower = Fake::new(2, None, next.log.clone());
    follower.leads_via(1, frozen.local_addr().unwrap());
    let later = follower.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        later.leads_via(3, next_at);
    });
    let mut operations = OperationsClient::new(connect(follower.serve().await).await);
    operations.set_recoveries(enable()).await.unwrap();
    assert_eq!(next.submitted.lock().unwrap().len(), 1);
}

/// What is not deduplicated is not repeated over a broken connection.
#[tokio::test]
async fn a_change_of_the_group_is_not_delivered_twice() {
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = dead.local_addr().unwrap();
    let accepts = tokio::spawn(async move {
        let mut count = 0u32;
        while let Ok(Ok((socket, _))) =
            tokio::time::timeout(Duration::from_millis(1_500), dead.accept()).await
        {
            drop(socket);
            count += 1;
        }
        count
    });
    let follower = Fake::new(2, None, Fake::leading(Log::with_orders()).log.clone());
    follower.leads_via(1, nowhere);
    let mut nodes = NodesClient::new(connect(follower.serve().await).await);
    let error = nodes.remove(pb::RemoveNodeRequest { id: 3, by: String::new() }).await.unwrap_err();
    assert_eq!(reason(&error), "FATE_UNKNOWN", "{error}");
    let change = accepts.await.unwrap();
    let mut operations = OperationsClient::new(connect(follower.serve().await).await);
    assert_eq!(reason(&operations.set_recoveries(enable()).await.unwrap_err()), "NO_LEADER");
    assert!(change <= 2, "one try, {change} connections");
}
