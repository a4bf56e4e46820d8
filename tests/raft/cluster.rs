//! Three nodes over loopback: elections, commits, restarts, partitions, snapshots.

use quorate::raft::{InitError, ProposeError};

use crate::support::{Group, command, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_elect_commit_and_go_on_after_a_restart() {
    let mut group = Group::running(3, |_| {}).await;
    let first = group.commit(10).await;
    let second = group.commit(20).await;
    assert!(second.index > first.index);
    assert_eq!(second.term, group.raft(group.leader().await).leadership().borrow().term);
    for id in 1..=3 {
        group.applied(id, second.index).await;
        assert_eq!(group.raft(id).read(|state| state.log_time_ms), 20, "node {id}");
    }

    let incarnations: Vec<String> = (1..=3).map(|id| group.raft(id).incarnation().to_owned()).collect();
    group.stop_all().await;
    for id in 1..=3 {
        group.start(id).await;
        assert_eq!(group.raft(id).incarnation(), incarnations[id as usize - 1]);
    }
    let third = group.commit(30).await;
    assert!(third.index > second.index);
    assert!(third.term > second.term, "a restarted leader must win an election again");
    for id in 1..=3 {
        group.applied(id, third.index).await;
        assert_eq!(group.raft(id).read(|state| state.log_time_ms), 30, "node {id}");
    }
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_init_is_refused_wherever_it_is_tried() {
    let mut group = Group::running(3, |_| {}).await;
    let committed = group.commit(10).await;
    for id in 1..=3 {
        group.applied(id, committed.index).await;
        let refused = group.raft(id).init(group.members()).await;
        assert!(matches!(refused, Err(InitError::AlreadyInitialised { .. })), "node {id}: {refused:?}");
    }
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_reads_what_was_acknowledged_before() {
    let mut group = Group::running(3, |_| {}).await;
    for at_ms in 1..=50 {
        let committed = group.commit(at_ms).await;
        for id in 1..=3 {
            let reached =
                eventually("a read barrier", || async { group.raft(id).read_barrier().await.ok() }).await;
            assert!(reached >= committed.index, "node {id}");
            assert!(group.raft(id).read(|state| state.log_time_ms) >= at_ms, "node {id} reads the past");
        }
    }
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_refuses_while_the_others_go_on() {
    let mut group = Group::running(3, |_| {}).await;
    group.commit(10).await;
    let old = group.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != old).collect();
    group.links.isolate(old, others.clone());

    // Its lease ends: then it refuses before it appends anything, and cannot confirm a read either.
    eventually("the old leader refuses", || async {
        let refused = group.raft(old).propose(command(11)).await.expect_err("no majority");
        (refused == ProposeError::NoQuorum).then_some(())
    })
    .await;
    assert!(group.raft(old).read_barrier().await.is_err());

    let isolated = group.nodes.remove(&old).expect("old leader");
    let committed = group.commit(20).await;
    group.links.heal();
    group.nodes.insert(old, isolated);
    group.applied(old, committed.index).await;
    assert_eq!(group.raft(old).read(|state| state.log_time_ms), 20);
    group.stop_all().await;
}
