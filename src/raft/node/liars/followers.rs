//! Followers and voters whose answers are lies.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::raft::{AppendEntriesResponse, VoteRequest, VoteResponse};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::id;
use crate::proto::raft::v1::raft_server::{self, RaftServer};
use crate::proto::raft::v1::{
    Frame, IdentifyRequest, IdentifyResponse, ReadIndexRequest, ReadIndexResponse, SnapshotPart,
};
use crate::raft::believe;
use crate::raft::node::Raft;
use crate::raft::node::stage::{DEADLINE, eventually};
use crate::raft::options::Options;
use crate::raft::types::{NodeInfo, Types, Vote};

/// A follower that answers a leader's calls with the next of these, and then with the first again.
struct Liar {
    answers: Vec<Vec<u8>>,
    asked: std::sync::atomic::AtomicUsize,
}

#[tonic::async_trait]
impl raft_server::Raft for Liar {
    async fn append(&self, _: Request<Frame>) -> Result<Response<Frame>, Status> {
        let asked = self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(Response::new(Frame { body: self.answers[asked % self.answers.len()].clone() }))
    }
    async fn vote(&self, _: Request<Frame>) -> Result<Response<Frame>, Status> {
        Err(Status::unimplemented("never asked"))
    }
    async fn pre_vote(&self, _: Request<Frame>) -> Result<Response<Frame>, Status> {
        Err(Status::unimplemented("never asked"))
    }
    async fn snapshot(&self, _: Request<Streaming<SnapshotPart>>) -> Result<Response<Frame>, Status> {
        Ok(Response::new(Frame { body: self.answers[0].clone() }))
    }
    async fn transfer_leader(&self, _: Request<Frame>) -> Result<Response<Frame>, Status> {
        Err(Status::unimplemented("never asked"))
    }
    async fn read_index(&self, _: Request<ReadIndexRequest>) -> Result<Response<ReadIndexResponse>, Status> {
        Ok(Response::new(ReadIndexResponse { index: u64::MAX }))
    }
    async fn identify(&self, _: Request<IdentifyRequest>) -> Result<Response<IdentifyResponse>, Status> {
        Ok(Response::new(IdentifyResponse {
            node_id: 2,
            group: "test".to_owned(),
            incarnation: "a\nb".to_owned(),
            ..IdentifyResponse::default()
        }))
    }
}

/// A leader whose learner lies goes on to lead, and says what it hears.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_follower_is_not_believed_has_a_name() {
    type Answer = AppendEntriesResponse<Types>;
    let said = |answer: &Answer| rmp_serde::to_vec_named(answer).expect("encode");
    for (name, answers, wanted) in [
        ("nonsense", vec![vec![0xc1; 9]], "its answer is not believed"),
        ("nothing", vec![Vec::new()], "its answer is not believed"),
        (
            "the last term",
            vec![said(&Answer::HigherVote(Vote::new(u64::MAX, 2)))],
            "term 18446744073709551615",
        ),
        ("an older term", vec![said(&Answer::HigherVote(Vote::new(0, 2)))], "in place of"),
        ("that it was elected", vec![said(&Answer::HigherVote(Vote::new_committed(9, 1)))], "in place of"),
        (
            "that it has everything",
            vec![said(&Answer::PartialSuccess(Some(id(1, 1 << 40))))],
            "which it was not sent",
        ),
        ("that nothing fits", vec![said(&Answer::Conflict)], "a conflict with the beginning of the log"),
    ] {
        let folder = tempfile::tempdir().expect("tempdir");
        let mut options = Options::new(1, "test", folder.path());
        options.free_bytes_min = 0;
        options.node_addr = "127.0.0.1:1".to_owned();
        let one = Raft::open(options).await.expect("open");
        one.init(BTreeMap::from([(1, one.own_info())])).await.expect("init");
        eventually("node 1 leads", || one.leadership().borrow().is_leader.then_some(())).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let node_addr = listener.local_addr().expect("address").to_string();
        let liar = Arc::new(Liar { answers, asked: Default::default() });
        let serving = tonic::transport::Server::builder().add_service(RaftServer::from_arc(liar.clone()));
        let serving = tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
        let unfit = one.identify(2, &node_addr).await.expect_err("no node has such an incarnation");
        assert!(unfit.to_string().contains("its incarnation"), "{unfit}");

        // Its own membership is committed: only then may it be changed.
        tokio::time::timeout(DEADLINE, one.read_barrier()).await.expect("in time").expect("it leads");
        let info = NodeInfo { node_addr, incarnation: "two".to_owned(), ..NodeInfo::default() };
        one.add_learner(2, info).await.expect("added");
        let trouble = || one.status().peers.get(&2)?.trouble.clone();
        eventually(&format!("{name}: it says {wanted}"), || trouble().filter(|why| why.contains(wanted)))
            .await;
        let asked = liar.asked.load(std::sync::atomic::Ordering::SeqCst);
        eventually("it is asked again", || {
            (liar.asked.load(std::sync::atomic::Ordering::SeqCst) > asked + 2).then_some(())
        })
        .await;
        assert!(one.leadership().borrow().is_leader, "{name}");
        tokio::time::timeout(DEADLINE, one.read_barrier()).await.expect("in time").expect("it still leads");
        one.shutdown().await;
        serving.abort();
    }
}

/// The answers that only a voter gives.
#[test]
fn what_a_voter_is_not_believed_has_a_name() {
    let asked = VoteRequest::<Types>::new(Vote::new(5, 1), Some(id(4, 7)));
    let answer = |vote: Vote, last| believe::vote_answer(&asked, &VoteResponse::new(vote, last, false));
    assert_eq!(answer(Vote::new_committed(6, 2), Some(id(6, 9))), Ok(()));
    assert!(answer(Vote::new(u64::MAX, 2), None).unwrap_err().contains("term"));
    assert!(answer(Vote::new(5, 1), Some(id(5, u64::MAX))).unwrap_err().contains("log index"));
    let sent = Vote::new_committed(5, 1);
    let installed = |vote| believe::snapshot_answer(&sent, &openraft::raft::SnapshotResponse::new(vote));
    assert_eq!(installed(sent), Ok(()));
    assert_eq!(installed(Vote::new_committed(6, 2)), Ok(()));
    assert!(installed(Vote::new(4, 2)).unwrap_err().contains("in place of"));
    assert!(installed(Vote::new_committed(9, 1)).unwrap_err().contains("in place of"));
}
