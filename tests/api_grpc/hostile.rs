//! Clients that send whatever they like: every call of the API with arbitrary fields and with spoilt bytes, requests that
//! are too long, too many, or never end. Each is answered by a canonical code and a reason; others are served.

use std::time::Duration;

use proptest::prelude::*;
use quorate::{
    api::{Limits, error_info},
    proto::v1::{
        self as pb, events_client::EventsClient, nodes_client::NodesClient,
        operations_client::OperationsClient, policy_client::PolicyClient, recovery_client::RecoveryClient,
        topology_client::TopologyClient,
    },
};
use tokio::time::timeout;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use crate::{
    fake::{Fake, connect},
    number, reason,
    spoil::{cases, spoils},
    wire::{Raw, call, calls, descriptors, draws, request},
    world::Log,
};

/// A generous bound for what should come at once.
const SOON: Duration = Duration::from_secs(60);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Canonical, and with a reason; what is not understood has none, and is said by the transport.
fn named(path: &str, status: &Status, understood: bool) -> Result<(), proptest::test_runner::TestCaseError> {
    let waits =
        path.ends_with("WaitRecovery") && matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded);
    let by_transport = !understood && status.code() == Code::Internal && status.message().contains("decode");
    prop_assert!(
        waits
            || by_transport
            || (error_info(status).is_some()
                && status.code() != Code::Internal
                && status.code() != Code::Unknown),
        "{path}: {status:?}"
    );
    Ok(())
}

#[test]
fn every_call_with_arbitrary_fields_has_an_answer_or_a_reason() {
    let (runtime, set) = (runtime(), descriptors());
    let all = calls(&set);
    assert!(all.len() >= 30, "{}", all.len());
    let fake = Fake::leading(Log::after_failover());
    let channel = runtime.block_on(async { connect(fake.serve().await).await });
    proptest!(cases(600), |(which in any::<usize>(), draws in draws(), spoils in prop::option::of(spoils()))| {
        let asked = &all[which % all.len()];
        let mut body = request(&set, &asked.input, &mut draws.clone(), 0);
        for spoil in spoils.iter().flatten() {
            spoil.apply(&mut body);
        }
        let end = runtime.block_on(async { timeout(SOON, call(channel.clone(), &asked.path, body)).await });
        if let Err(status) = end.expect("it is answered") {
            named(&asked.path, &status, spoils.is_none())?;
        }
    });
    // It serves on.
    let clusters = runtime.block_on(async {
        TopologyClient::new(channel).list_clusters(pb::ListClustersRequest::default()).await
    });
    clusters.unwrap();
}

fn refused<T: std::fmt::Debug>(
    name: &str,
    answer: Result<tonic::Response<T>, Status>,
    code: Code,
    why: &str,
) {
    let status = answer.expect_err(name);
    assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{name}: {status}");
}

/// Each of these could not be said, took seconds, or was kept for ever.
#[tokio::test]
async fn what_is_too_long_is_refused_by_name() {
    let fake = Fake::leading(Log::after_failover());
    let channel = connect(fake.serve().await).await;
    let (mut topology, mut policy) =
        (TopologyClient::new(channel.clone()), PolicyClient::new(channel.clone()));
    let (mut recovery, mut operations) =
        (RecoveryClient::new(channel.clone()), OperationsClient::new(channel.clone()));

    for name in ["😀".repeat(200_000), "x".repeat(900_000), "%\u{7f}".repeat(100_000)] {
        let request = pb::GetClusterRequest { cluster: name, ..Default::default() };
        refused("a long name", topology.get_cluster(request).await, Code::NotFound, "NOT_FOUND");
    }
    let setting =
        |key: &str, value: &str| pb::Setting { key: key.into(), value: value.into(), ..Default::default() };
    let settings = vec![setting("lag_s", "5"); 60_000];
    let set = policy.set_policy(pb::SetPolicyRequest { settings, ..Default::default() }).await;
    refused("many settings", set, Code::InvalidArgument, "INVALID_ARGUMENT");
    for key in ["primary_probe_interval_ms", "silence_ms", "drain_max_ms", "lag_s", "audit_keep"] {
        for value in ["18446744073709551615", "9223372036854775808", "9223372036854775807"] {
            for validate_only in [true, false] {
                let request = pb::SetPolicyRequest {
                    settings: vec![setting(key, value)],
                    validate_only,
                    ..Default::default()
                };
                let status = policy.set_policy(request).await.expect_err(key);
                assert_eq!(status.code(), Code::InvalidArgument, "{status}");
                assert!(status.message().contains(key), "{status}");
            }
        }
    }
    for comment in
        ["c".repeat(1_001), "c\u{1b}[2J".to_owned(), "two\nlines".to_owned(), "\u{202e}".to_owned()]
    {
        let scope = Some(pb::acknowledge_request::Scope::All(true));
        let request = pb::AcknowledgeRequest { scope, comment: comment.clone(), ..Default::default() };
        let status = recovery.acknowledge(request).await.unwrap_err();
        assert_eq!(number(&status, "field"), "comment");
        let request = pb::SetMaintenanceRequest {
            cluster: "orders".into(),
            for_ms: 5,
            why: comment.clone(),
            ..Default::default()
        };
        assert_eq!(number(&operations.set_maintenance(request).await.unwrap_err(), "field"), "why");
        let request = pb::SetRecoveriesRequest { enabled: true, why: comment, ..Default::default() };
        assert_eq!(number(&operations.set_recoveries(request).await.unwrap_err(), "field"), "why");
    }
    let waive = vec![1; 100_000];
    let status = recovery
        .failover(pb::FailoverRequest { cluster: "orders".into(), waive, ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(number(&status, "field"), "waive");
    let mut events = EventsClient::new(channel.clone());
    let kinds = vec!["k".repeat(900_000)];
    let filter = Some(pb::EventFilter { kinds, ..Default::default() });
    let status =
        events.watch_events(pb::WatchEventsRequest { filter, ..Default::default() }).await.unwrap_err();
    assert_eq!(number(&status, "field"), "filter.kinds");
    // Longer than any request: the transport says so.
    let status = topology
        .set_alias(pb::SetAliasRequest { alias: "a".repeat(2 << 20), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(fake.log().state.audit.iter().all(|entry| entry.text.len() < 3_000));
    topology.list_clusters(pb::ListClustersRequest::default()).await.unwrap();
}

/// A request that has begun and does not go on; where there is no place, another is begun.
async fn dawdle(channel: Channel) -> Status {
    loop {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let never = futures::stream::pending::<Vec<u8>>();
        let path = PathAndQuery::from_static("/quorate.v1.Topology/ListClusters");
        match grpc.streaming(Request::new(never), path, Raw).await {
            Err(status) if reason(&status) == "OVERLOADED" => tokio::task::yield_now().await,
            end => return end.map(drop).unwrap_err(),
        }
    }
}

#[tokio::test]
async fn requests_that_never_end_take_no_room_from_others() {
    let fake = Fake::leading(Log::with_orders());
    let address = fake.serve().await;
    let (slow, other) = (connect(address).await, connect(address).await);
    let dawdling: Vec<_> = (0..64).map(|_| tokio::spawn(dawdle(slow.clone()))).collect();
    let mut topology = TopologyClient::new(slow.clone());
    let full = async {
        loop {
            match topology.list_clusters(pb::ListClustersRequest::default()).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(status) => return status,
            }
        }
    };
    let status = timeout(SOON, full).await.expect("its connection is full");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::ResourceExhausted, "OVERLOADED"),
        "{status}"
    );
    TopologyClient::new(other)
        .list_clusters(pb::ListClustersRequest::default())
        .await
        .expect("others are served");
    for end in dawdling {
        let status = timeout(SOON, end).await.expect("it is ended").unwrap();
        assert_eq!(reason(&status), "REQUEST_TOO_SLOW", "{status}");
    }
    topology.list_clusters(pb::ListClustersRequest::default()).await.expect("there is room again");
}

#[tokio::test]
async fn streams_and_connections_have_a_most() {
    let fake = Fake::leading(Log::with_orders());
    let address = fake.serve_limited(Limits { connections: 8, streams: 10 }).await;
    let channel = connect(address).await;
    let mut events = EventsClient::new(channel.clone());
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(events.watch_events(pb::WatchEventsRequest::default()).await.unwrap());
    }
    let eleventh = events.watch_events(pb::WatchEventsRequest::default()).await.unwrap_err();
    assert_eq!((eleventh.code(), reason(&eleventh).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert_eq!(number(&eleventh, "most"), "10");
    NodesClient::new(channel.clone())
        .status(pb::StatusRequest::default())
        .await
        .expect("calls have room of their own");
    open.pop();
    let again = async {
        while events.watch_events(pb::WatchEventsRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, again).await.expect("there is room again");

    // Seven more connections find room, the ninth is closed, until one has gone.
    let asks = async |channel: Channel| NodesClient::new(channel).status(pb::StatusRequest::default()).await;
    let mut inside = Vec::new();
    for _ in 0..7 {
        let channel = connect(address).await;
        asks(channel.clone()).await.unwrap();
        inside.push(channel);
    }
    let turned_away = async || match tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
    {
        Ok(channel) => asks(channel).await.is_err(),
        Err(_) => true,
    };
    assert!(turned_away().await);
    drop(inside.pop());
    let room = async {
        while turned_away().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, room).await.expect("there is room again");
}

/// Nothing is kept for one who does not read: when it does, it learns that it is too late.
#[tokio::test]
async fn a_watcher_that_does_not_read_lags() {
    let mut log = Log::with_orders();
    log.state.policy.audit_keep = 100;
    let fake = Fake::leading(log);
    let mut events = EventsClient::new(connect(fake.serve().await).await);
    let mut asleep = events.watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner();
    let mut awake = events.watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner();
    let mut seen = 0;
    for n in 0..5_000 {
        let text = format!("note {n} {}", "x".repeat(900));
        let note = quorate::core::replicated::Change::Note {
            kind: quorate::core::replicated::EventKind::Alert,
            cluster: None,
            server: None,
            text,
        };
        let index = fake.apply(note);
        // The one that reads is never left behind, and each batch is read before the next is made.
        while seen < index {
            let batch = timeout(SOON, awake.message()).await.expect("in time").unwrap().expect("no end");
            seen = batch.next_index - 1;
        }
    }
    let late = async {
        loop {
            match asleep.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a word"),
                Err(status) => return status,
            }
        }
    };
    let status = timeout(SOON, late).await.expect("it is told");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "EVENTS_COMPACTED"));
}
