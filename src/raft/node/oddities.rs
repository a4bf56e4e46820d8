//! What a node does in states that are rare: an entry it does not understand, a change of voters left half done, a
//! snapshot that does not get through.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;

use super::Raft;
use super::stage::{DEADLINE, Stage, eventually, two, unknown_entry};
use crate::raft::GrpcService;
use crate::raft::error::OpenError;
use crate::raft::gate::Me;
use crate::raft::options::Options;
use crate::raft::types::{LogId, Vote};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stops_before_a_command_it_does_not_understand() {
    let stage = Stage::set(|_| {}).await;
    let (first, strange) = (LogId::new_term_index(1, 0), LogId::new_term_index(1, 1));
    let leader = Vote::new_committed(1, 2);
    let members = stage.first_entry(vec![BTreeSet::from([1, 2])]);
    stage.append(leader, None, members, Some(first)).await.expect("a member");

    // It stores what it does not understand: the group may need its copy.
    stage.append(leader, Some(first), unknown_entry(strange), Some(first)).await.expect("stored");
    assert_eq!(*stage.raft.applied().borrow(), 0);
    // Committed now; the answer may be lost with the node.
    let _ =
        stage.append(leader, Some(strange), unknown_entry(LogId::new_term_index(1, 2)), Some(strange)).await;
    let why = tokio::time::timeout(DEADLINE, stage.raft.stopped()).await.expect("it stops");
    assert_eq!(stage.raft.status().stopped.as_ref(), Some(&why));
    assert_eq!(stage.raft.leadership().borrow().leader, None, "one that has stopped follows nobody");
    assert!(why.contains("77.7.7"), "names the version it needs: {why}");
    assert_eq!(*stage.raft.applied().borrow(), 0, "nothing was skipped");

    stage.raft.shutdown().await;
    let Err(error) = Raft::open(stage.options.clone()).await else { panic!("opened") };
    assert!(matches!(error, OpenError::Start { .. }) && error.to_string().contains("77.7.7"), "{error}");
}

/// Who gives up waiting for the end leaves the library's handle so that it panics at whoever asks later.
#[tokio::test]
async fn the_end_is_told_though_somebody_gave_up_waiting_for_it() {
    let stage = Stage::set(|_| {}).await;
    // The one thread is ours: the core hears of it when this is given up already.
    assert!(stage.raft.openraft().shutdown().now_or_never().is_none());
    let why = tokio::time::timeout(DEADLINE, stage.raft.stopped()).await.expect("it is told");
    assert_eq!(why, "raft stopped");
    assert!(!stage.raft.leadership().borrow().is_leader);
    stage.raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_is_given_only_to_whom_the_membership_names_so() {
    let mut stage = Stage::set(|_| {}).await;
    let own = stage.raft.incarnation().to_owned();
    let first = LogId::new_term_index(1, 0);
    let members = stage.first_entry(vec![BTreeSet::from([1, 2])]);
    stage.append(Vote::new_committed(1, 2), None, members, Some(first)).await.expect("a member");
    // From the answer on the membership counts; who leads is told a moment later.
    assert!(stage.raft.membership().voters.contains(&2));
    eventually("node 2 leads", || (stage.raft.leadership().borrow().term == 1).then_some(())).await;

    let strangers = [
        ("another group", Me { group: "prod".to_owned(), ..two() }, 1, own.as_str()),
        ("another generation", Me { generation: 2.into(), ..two() }, 1, &own),
        ("no generation", Me { generation: 0.into(), ..two() }, 1, &own),
        ("a wiped caller", Me { incarnation: "wiped".to_owned(), ..two() }, 1, &own),
        ("for another node", two(), 3, &own),
        ("for the one that was wiped here", two(), 1, "gone"),
    ];
    for (name, caller, callee, incarnation) in strangers {
        stage.claim(caller, callee, incarnation);
        let refused = stage.vote(Vote::new(9, 2), LogId::new_term_index(9, 9)).await;
        assert_eq!(refused.expect_err(name).code(), tonic::Code::FailedPrecondition, "{name}");
        let entry = unknown_entry(LogId::new_term_index(9, 1));
        let refused = stage.append(Vote::new_committed(9, 2), Some(first), entry, None).await;
        assert_eq!(refused.expect_err(name).code(), tonic::Code::FailedPrecondition, "{name}");
    }
    assert_eq!(stage.raft.leadership().borrow().term, 1);
    assert_eq!(stage.raft.status().last_log, Some(0));

    // The same vote from the one it belongs to: the refusals were for what they said.
    stage.claim(two(), 1, &own);
    stage.vote(Vote::new(9, 2), LogId::new_term_index(9, 9)).await.expect("answered");
    eventually("the vote is given", || (stage.raft.leadership().borrow().term == 9).then_some(())).await;
    stage.raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_voters_left_half_done_is_finished_by_the_next_leader() {
    let stage = Stage::set(|_| {}).await;
    // From {1} to {1}: the smallest change that has two halves, and one that node 1 can finish alone.
    let half = stage.first_entry(vec![BTreeSet::from([1]), BTreeSet::from([1])]);
    stage.append(Vote::new_committed(1, 2), None, half, None).await.expect("appended");
    eventually("node 1 leads", || stage.raft.leadership().borrow().is_leader.then_some(())).await;
    // The half, the new leader's blank entry, and the other half.
    eventually("the change is finished", || {
        let done = !stage.raft.membership().changing && stage.raft.status().last_log >= Some(2);
        done.then_some(())
    })
    .await;
    stage.raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_snapshot_holds_up_no_heartbeat_and_a_large_one_arrives() {
    let folder = tempfile::tempdir().expect("tempdir");
    let one = serve(Options::new(1, "test", folder.path().join("1")), None).await;
    one.init(BTreeMap::from([(1, one.own_info())])).await.expect("init");
    eventually("node 1 leads", || one.leadership().borrow().is_leader.then_some(())).await;

    // Some 20 MB that only a snapshot carries: the log that made them is gone.
    one.inner.applied.stuff(200_000);
    let last = eventually("something is applied", || one.status().applied).await;
    one.openraft().trigger().snapshot().await.expect("snapshot");
    eventually("a snapshot is made", || one.status().snapshot.filter(|index| *index >= last)).await;
    one.openraft().trigger().purge_log(last).await.expect("purge");
    eventually("the log is gone", || one.status().purged.filter(|index| *index >= last)).await;

    let hold = Arc::new(Hold::default());
    let second = serve(Options::new(2, "test", folder.path().join("2")), Some(hold.clone())).await;
    one.add_learner(2, second.own_info()).await.expect("added");
    // The stalled call never reads what it is sent: its connection fills up, and must be its own.
    eventually("the snapshot is under way", || hold.stalled.load(Ordering::SeqCst).then_some(())).await;
    for _ in 0..20 {
        eventually("heartbeats are answered meanwhile", || {
            let age = one.status().peers.get(&2)?.answered?;
            (age < Duration::from_millis(100)).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(second.status().snapshot, None, "it was not stalled");
    hold.released.store(true, Ordering::SeqCst);
    hold.go.notify_waiters();
    eventually("the snapshot arrives", || second.status().snapshot.filter(|index| *index >= last)).await;
    assert_eq!(second.inner.applied.member_ever(200_000), one.inner.applied.member_ever(200_000));
    one.shutdown().await;
    second.shutdown().await;
}

/// Opens a node and serves it; snapshots sent to it stall while they are held.
async fn serve(mut options: Options, hold: Option<Arc<Hold>>) -> Raft {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    options.node_addr = listener.local_addr().expect("address").to_string();
    options.free_bytes_min = 0;
    let raft = Raft::open(options).await.expect("open");
    let service = Stalling { inner: raft.grpc_service(), hold };
    let router = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
    raft
}

/// Holds calls until it is told to let them go.
#[derive(Default)]
struct Hold {
    stalled: AtomicBool,
    released: AtomicBool,
    go: Notify,
}

#[derive(Clone)]
struct Stalling {
    inner: GrpcService,
    hold: Option<Arc<Hold>>,
}

impl NamedService for Stalling {
    const NAME: &'static str = GrpcService::NAME;
}

impl Service<http::Request<Body>> for Stalling {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let hold = self.hold.clone().filter(|_| request.uri().path().ends_with("/Snapshot"));
        let mut inner = self.inner.clone();
        Box::pin(async move {
            if let Some(hold) = hold {
                hold.stalled.store(true, Ordering::SeqCst);
                let go = hold.go.notified();
                if !hold.released.load(Ordering::SeqCst) {
                    go.await;
                }
            }
            inner.call(request).await
        })
    }
}
