//! Members that talk nonsense, or lie: what becomes of it is an error with a name, and the node goes on. The other side is
//! played by hand.

mod followers;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};

use openraft::async_runtime::WatchReceiver;
use openraft::entry::RaftEntry;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use openraft::{EntryPayload, Membership};
use proptest::prelude::*;
use serde::Serialize;
use tonic::{Code, Response, Status};

use super::stage::{DEADLINE, Stage, eventually, unknown_entry};
use crate::proto::raft::v1::raft_server::Raft as _;
use crate::raft::types::{Entry, LogId, NodeInfo, Proposal, Types, Vote};
use crate::spoil::{cases, spoils};

type Append = AppendEntriesRequest<Types>;

fn id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

fn blank(term: u64, index: u64) -> Entry {
    Entry::new(id(term, index), EntryPayload::Blank)
}

/// From node 2 as leader of term 1, after the first entry.
fn append(entries: Vec<Entry>) -> Append {
    Append {
        vote: Vote::new_committed(1, 2),
        prev_log_id: Some(id(1, 0)),
        entries,
        leader_commit: Some(id(1, 0)),
    }
}

/// A membership that the library would never make: it is read from bytes.
fn membership(configs: &[&[u64]], nodes: &[u64]) -> Membership<u64, NodeInfo> {
    #[derive(Serialize)]
    struct Raw {
        configs: Vec<BTreeSet<u64>>,
        nodes: BTreeMap<u64, NodeInfo>,
    }
    let raw = Raw {
        configs: configs.iter().map(|config| config.iter().copied().collect()).collect(),
        nodes: nodes.iter().map(|id| (*id, NodeInfo::default())).collect(),
    };
    rmp_serde::from_slice(&rmp_serde::to_vec_named(&raw).expect("encode")).expect("the library reads it")
}

fn members(configs: &[&[u64]], nodes: &[u64]) -> Entry {
    Entry::new(id(1, 1), EntryPayload::Membership(membership(configs, nodes)))
}

/// Node 1 as a member beside node 2, which leads it in term 1.
async fn member() -> Stage {
    let stage = Stage::set(|_| {}).await;
    let first = stage.first_entry(vec![BTreeSet::from([1, 2])]);
    stage.append(Vote::new_committed(1, 2), None, first, Some(id(1, 0))).await.expect("a member");
    eventually("the first entry is applied", || stage.raft.status().applied).await;
    stage
}

async fn goes_on(stage: &Stage) {
    let last =
        stage.raft.inner.shared.raft.metrics().borrow_watched().last_applied.expect("something is applied");
    let next = blank(99, last.index() + 1);
    let rpc = Append { vote: Vote::new_committed(99, 2), prev_log_id: Some(last), ..append(vec![next]) };
    stage.service.append(stage.request(&rpc)).await.expect("it goes on");
    assert_eq!(stage.raft.status().stopped, None);
}

fn refused<T>(name: &str, answer: Result<Response<T>, Status>, wanted: &str) {
    let status = answer.err().unwrap_or_else(|| panic!("{name}: it was believed"));
    assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status}");
    assert!(
        status.message().contains(wanted) && status.message().len() < 500,
        "{name}: {}",
        status.message()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_is_not_believed_has_a_name() {
    let stage = member().await;
    let vote = |vote| Append { vote, ..append(vec![]) };
    let same_version =
        Entry::new(id(1, 1), EntryPayload::Normal(Proposal::raw(env!("CARGO_PKG_VERSION"), b"nonsense")));
    let huge = Entry::new(id(1, 1), EntryPayload::Normal(Proposal::raw("0", &vec![0; 2 << 20])));
    let lies = [
        ("not elected", vote(Vote::new(1, 2)), "a leader that was not elected"),
        ("node 1 is to lead", vote(Vote::new_committed(9, 1)), "node 2 speaks for node 1"),
        ("in another's name", vote(Vote::new_committed(9, 3)), "node 2 speaks for node 3"),
        (
            "the last term",
            vote(Vote::new_committed(u64::MAX, 2)),
            "term 18446744073709551615, while it is 1 here",
        ),
        (
            "the last index",
            Append { prev_log_id: Some(id(1, u64::MAX)), ..append(vec![]) },
            "log index 18446744073709551615",
        ),
        (
            "all is committed",
            Append { leader_commit: Some(id(1, u64::MAX)), ..append(vec![]) },
            "a committed entry at log index",
        ),
        (
            "committed later",
            Append { leader_commit: Some(id(7, 0)), ..append(vec![]) },
            "a committed entry of term 7, in term 1",
        ),
        ("a gap", append(vec![blank(1, 2)]), "the entry 2 of term 1 does not follow 0 of term 1"),
        ("out of order", append(vec![blank(1, 2), blank(1, 1)]), "does not follow"),
        ("twice", append(vec![blank(1, 1), blank(1, 1)]), "the entry 1 of term 1 does not follow 1"),
        ("back in time", append(vec![blank(1, 1), blank(0, 2)]), "the entry 2 of term 0 does not follow"),
        ("of a later term", append(vec![blank(2, 1)]), "an entry of term 2, in term 1"),
        (
            "no beginning",
            Append { prev_log_id: None, ..append(vec![blank(1, 5)]) },
            "does not follow the beginning",
        ),
        (
            "another past",
            Append { vote: Vote::new_committed(2, 2), prev_log_id: None, ..append(vec![blank(2, 0)]) },
            "another log entry 0",
        ),
        ("no voters", append(vec![members(&[], &[1, 2])]), "names no voters"),
        ("an empty half", append(vec![members(&[&[1, 2], &[]], &[1, 2])]), "voters that make no group"),
        (
            "voters without address",
            append(vec![members(&[&[1, 2, 3]], &[1, 2])]),
            "voters that make no group",
        ),
        ("a command that is none", append(vec![same_version]), "log entry 1 a command proposed by quorate"),
        ("a huge command", append(vec![huge]), "log entry 1 is too large"),
    ];
    for (name, rpc, wanted) in lies {
        refused(name, stage.service.append(stage.request(&rpc)).await, wanted);
        assert!(stage.raft.status().refused.is_some_and(|why| why.contains(wanted)), "{name} is told");
    }
    assert!(!stage.raft.leadership().borrow().is_leader);
    assert_eq!(stage.raft.status().last_log, Some(0));
    goes_on(&stage).await;
    stage.raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_candidate_is_not_believed_has_a_name() {
    let stage = member().await;
    let lies = [
        (
            "elected already",
            VoteRequest::new(Vote::new_committed(9, 2), Some(id(1, 0))),
            "a candidate that leads already",
        ),
        ("for node 1", VoteRequest::new(Vote::new(9, 1), Some(id(1, 0))), "node 2 speaks for node 1"),
        ("for node 3", VoteRequest::new(Vote::new(9, 3), Some(id(1, 0))), "node 2 speaks for node 3"),
        (
            "the last term",
            VoteRequest::new(Vote::new(u64::MAX, 2), Some(id(1, 0))),
            "term 18446744073709551615",
        ),
        (
            "a log without end",
            VoteRequest::new(Vote::new(9, 2), Some(id(9, u64::MAX))),
            "at log index 18446744073709551615",
        ),
        ("a log of tomorrow", VoteRequest::new(Vote::new(9, 2), Some(id(10, 5))), "of term 10, in term 9"),
    ];
    for (name, mut rpc, wanted) in lies {
        rpc.leadership_transfer = true;
        refused(name, stage.service.vote(stage.request::<VoteRequest<Types>>(&rpc)).await, wanted);
        refused(name, stage.service.pre_vote(stage.request(&rpc)).await, wanted);
    }
    let handed = |vote| TransferLeaderRequest::<Types>::new(vote, 1, Some(id(1, 0)));
    for (name, rpc, wanted) in [
        ("by nobody", handed(Vote::new(1, 2)), "a leader that was not elected"),
        ("by another", handed(Vote::new_committed(1, 3)), "node 2 speaks for node 3"),
        ("in the last term", handed(Vote::new_committed(u64::MAX, 2)), "term 18446744073709551615"),
    ] {
        refused(name, stage.service.transfer_leader(stage.request(&rpc)).await, wanted);
    }
    assert_eq!(stage.raft.leadership().borrow().term, 1, "no vote was given");
    goes_on(&stage).await;
    stage.raft.shutdown().await;
}

/// Frames of every kind, spoilt: an answer or an error, and the node goes on. What is still a message of its leader may
/// change its log; nothing stops it.
#[test]
fn spoilt_frames_stop_nobody() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stage = runtime.block_on(member());
    let info = NodeInfo { incarnation: "two".to_owned(), ..NodeInfo::default() };
    let nodes = BTreeMap::from([(1, stage.raft.own_info()), (2, info)]);
    let change = Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap();
    let entries =
        vec![unknown_entry(id(1, 1)), Entry::new(id(1, 2), EntryPayload::Membership(change)), blank(1, 3)];
    let rpc = Append { leader_commit: None, ..append(entries) };
    let frames = [
        rmp_serde::to_vec_named(&rpc).unwrap(),
        rmp_serde::to_vec_named(&append(vec![])).unwrap(),
        rmp_serde::to_vec_named(&VoteRequest::<Types>::new(Vote::new(1, 2), Some(id(1, 0)))).unwrap(),
        rmp_serde::to_vec_named(&TransferLeaderRequest::<Types>::new(
            Vote::new_committed(1, 2),
            3,
            Some(id(1, 0)),
        ))
        .unwrap(),
    ];
    proptest!(cases(200), |(which in 0..4_usize, at in 0..4_usize, spoils in spoils())| {
        let mut body = frames[which].clone();
        spoils.iter().for_each(|spoil| spoil.apply(&mut body));
        let request = stage.frame(body);
        let answer = runtime.block_on(async {
            let service = stage.service.clone();
            let call = async move {
                match at {
                    0 => service.append(request).await,
                    1 => service.vote(request).await,
                    2 => service.pre_vote(request).await,
                    _ => service.transfer_leader(request).await,
                }
            };
            tokio::time::timeout(DEADLINE, call).await.expect("it is answered")
        });
        if let Err(status) = answer {
            prop_assert!(matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition), "{}", status);
        }
        prop_assert_eq!(stage.raft.status().stopped, None);
    });
    runtime.block_on(async {
        // Node 2 leads again, in a later term than any it may have got; what it says is committed then.
        let term = stage.raft.leadership().borrow().term + 1;
        let first = id(1, 0);
        let rpc = Append {
            vote: Vote::new_committed(term, 2),
            prev_log_id: Some(first),
            entries: vec![blank(term, 1)],
            leader_commit: Some(id(term, 1)),
        };
        stage.service.append(stage.request(&rpc)).await.expect("it goes on");
        eventually("it is applied", || stage.raft.status().applied.filter(|index| *index == 1)).await;
        stage.raft.shutdown().await;
    });
}
