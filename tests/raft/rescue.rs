//! Backup, restore, and a group rebuilt from one survivor.

use std::fs;

use quorate::raft::{RescueError, rebuild_unsafe, restore_into};

use crate::support::{Group, command, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_becomes_a_new_group_of_one() {
    let mut group = Group::running(3, |_| {}).await;
    let committed = group.commit(10).await;
    let leader = group.leader().await;
    let backup = group.raft(leader).backup().expect("backup");
    group.commit(20).await;
    group.stop_all().await;

    let used = restore_into(&group.options(1), &backup, |_| {}).await;
    assert!(matches!(used, Err(RescueError::InUse { node_id: 1, .. })), "{used:?}");
    let mut broken = backup.to_vec();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    let refused = restore_into(&group.options(7), &broken, |_| {}).await;
    assert!(matches!(refused, Err(RescueError::Backup { .. })), "{refused:?}");

    let rebuilt =
        restore_into(&group.options(7), &backup, |state| state.log_time_ms += 1).await.expect("restored");
    assert_eq!(rebuilt.index, committed.index);
    assert_eq!(rebuilt.generation, 2);
    group.start(7).await;
    assert_eq!(group.raft(7).read(|state| state.log_time_ms), 11, "the state of the backup, edited");
    let next = group.commit(30).await;
    assert!(next.index > committed.index && next.term > committed.term);
    assert_eq!(group.raft(7).generation(), 2);

    // It grows again, and joiners adopt its generation.
    group.start(8).await;
    let info = group.raft(8).own_info();
    group.raft(7).add_learner(8, info).await.expect("added");
    group.applied(8, next.index).await;
    assert_eq!(group.raft(8).generation(), 2);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_becomes_a_new_group_that_the_old_one_cannot_touch() {
    let mut group = Group::running(3, |_| {}).await;
    let committed = group.commit(10).await;
    let survivor = group.leader().await;
    let old_incarnation = group.raft(survivor).incarnation().to_owned();
    group.stop_all().await;

    let options = group.options(survivor);
    let rebuilt = rebuild_unsafe(&options, |state| state.log_time_ms += 5).await.expect("rebuilt");
    assert_ne!(rebuilt.incarnation, old_incarnation);
    assert!(rebuilt.index >= committed.index);
    assert!(rebuilt.kept.as_ref().is_some_and(|kept| kept.join("db").is_file()), "{rebuilt:?}");
    group.start(survivor).await;
    assert_eq!(group.raft(survivor).read(|state| state.log_time_ms), 15, "everything, edited");
    assert_eq!(group.leader().await, survivor);
    let voters = group.raft(survivor).read(|state| state.voters.clone());
    assert_eq!(voters.into_iter().collect::<Vec<_>>(), [(survivor, rebuilt.incarnation)], "who may judge");
    let alone = group.commit(20).await;

    // The lost ones turn out alive: they are not believed, and they do not count.
    let others: Vec<u64> = (1..=3).filter(|id| *id != survivor).collect();
    for id in &others {
        group.start(*id).await;
    }
    eventually("the old nodes call in vain", || async { group.raft(survivor).status().refused }).await;
    let next = group.raft(survivor).propose(command(30)).await.expect("still alone, still able");
    assert!(next.index > alone.index && next.term == alone.term);
    for id in &others {
        assert!(
            group.raft(*id).read(|state| state.log_time_ms) < 20,
            "node {id} took an entry of the new group"
        );
        let reused = group.raft(survivor).add_learner(*id, group.raft(*id).own_info()).await;
        assert!(reused.is_err(), "an old node under its old id");
    }
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_nothing_to_rebuild_from_in_a_new_directory() {
    let mut group = Group::open(1, |_| {}).await;
    group.stop_all().await;
    let refused = rebuild_unsafe(&group.options(1), |_| {}).await;
    assert!(matches!(refused, Err(RescueError::Empty { .. })), "{refused:?}");
    let before = fs::read_to_string(group.options(1).data_dir.join("identity.json")).expect("identity");
    group.start(1).await;
    assert!(before.contains(group.raft(1).incarnation()), "nothing was changed");
    group.stop_all().await;
}
