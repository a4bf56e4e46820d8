//! Commands of a size that only very large topologies bring.

use quorate::{
    core::replicated::{Change, Command, Durability, Member, MemberState, Outcome},
    model::{
        address::Address,
        server::{ClusterId, Flavor, Identity, ServerId},
    },
    raft::{COMMAND_BYTES_MAX, Committed, ProposeError},
};

use crate::support::{Group, command, eventually};

/// A member as a discovery finds it, below server 0.
fn member(number: u32) -> Member {
    let id = |number: u32| format!("{number:08x}-0000-11f1-a746-02fc00000001");
    Member {
        server: ServerId(id(number)),
        identity: Identity {
            flavor: Flavor::MySql,
            server_uuid: Some(id(number)),
            server_id: number + 1,
            server_uid: None,
        },
        address: Address::new(format!("db{number}.some-datacenter.example.com"), 3306),
        version: "9.7.4-2-debian-something".into(),
        source: (number > 0).then(|| ServerId(id(0))),
        channel: String::new(),
        channels: u32::from(number > 0),
        datacenter: Some("some-datacenter".into()),
        state: MemberState::Normal,
    }
}

fn adoption(count: u32) -> Command {
    let change = Change::AdoptCluster {
        cluster: ClusterId("c-large".into()),
        alias: Some("large".into()),
        flavor: Flavor::MySql,
        primary: Some(member(0).server),
        members: (0..count).map(member).collect(),
        durability: Durability::Async,
    };
    Command { change, ..command(10) }
}

async fn commit(group: &Group, command: Command) -> Committed {
    eventually("it is committed", || async {
        let leader = group.leader().await;
        match group.raft(leader).propose(command.clone()).await {
            Ok(committed) => Some(committed),
            Err(error @ (ProposeError::TooLarge { .. } | ProposeError::Encode { .. })) => panic!("{error}"),
            Err(_) => None,
        }
    })
    .await
}

fn members(group: &Group, node: u64) -> usize {
    group.raft(node).read(|state| state.clusters.values().map(|cluster| cluster.members.len()).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_servers_are_adopted_in_one_command_and_outlive_restarts() {
    let mut group = Group::running(3, |_| {}).await;
    let lagging = (1..=3).find(|id| *id != 1).expect("three");
    group.stop(lagging).await;
    let adopted = commit(&group, adoption(1_000)).await;
    assert!(matches!(adopted.outcome, Outcome::Done { .. }), "{:?}", adopted.outcome);
    // By replication to one that was away, then from each one's own log.
    group.start(lagging).await;
    group.applied(lagging, adopted.index).await;
    assert_eq!(members(&group, lagging), 1_000);
    group.stop_all().await;
    for id in 1..=3 {
        group.start(id).await;
    }
    let last = commit(&group, command(20)).await;
    for id in 1..=3 {
        group.applied(id, last.index).await;
        assert_eq!(members(&group, id), 1_000, "node {id}");
    }
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_command_is_purged_behind_a_snapshot() {
    let tune = |options: &mut quorate::raft::Options| {
        options.snapshot_every = 20;
        options.keep_behind_snapshot = 1;
    };
    let mut group = Group::running(1, tune).await;
    commit(&group, adoption(1_000)).await;
    let mut at_ms = 20;
    eventually("the command is purged", || {
        at_ms += 1;
        let at_ms = at_ms;
        let group = &group;
        async move {
            let last = group.commit(at_ms).await;
            group.raft(1).status().purged.filter(|purged| *purged > 5 && last.index > *purged)
        }
    })
    .await;
    group.stop_all().await;
    group.start(1).await;
    group.commit(100_000).await;
    assert_eq!(members(&group, 1), 1_000);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_larger_still_is_refused_with_its_size() {
    let mut group = Group::running(1, |_| {}).await;
    let leader = group.leader().await;
    let refused = group.raft(leader).propose(adoption(4_000)).await.expect_err("too large");
    let ProposeError::TooLarge { bytes, limit } = refused else { panic!("{refused}") };
    assert!(bytes > limit && limit == COMMAND_BYTES_MAX);
    assert_eq!(members(&group, 1), 0, "nothing half done");
    group.stop_all().await;
}
