//! Incarnations (P9) and changes of the membership.

use std::fs;

use quorate::raft::{ChangeError, InitError, ProposeError};

use crate::support::{Group, command, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_has_no_vote_under_its_old_id_and_comes_back_under_a_new_one() {
    let mut group = Group::running(3, |_| {}).await;
    let before = group.commit(10).await;
    let leader = group.leader().await;
    let (wiped, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let old_incarnation = group.raft(wiped).incarnation().to_owned();
    group.stop(wiped).await;
    fs::remove_dir_all(group.options(wiped).data_dir).expect("wipe");
    group.start(wiped).await;
    assert_ne!(group.raft(wiped).incarnation(), old_incarnation);

    // Its peers see why, and it sees why.
    eventually("the leader is refused by the wiped node", || async {
        let leader = group.leader().await;
        let trouble = group.raft(leader).status().peers.get(&wiped)?.trouble.clone()?;
        trouble.contains("wiped").then_some(())
    })
    .await;
    eventually("the wiped node says whom it refused", || async {
        group.raft(wiped).status().refused.filter(|refused| refused.contains("wiped"))
    })
    .await;
    assert_eq!(*group.raft(wiped).applied().borrow(), 0, "it was given entries");

    // With one of the two others gone there is no majority: the wiped node must not make one.
    group.stop(other).await;
    eventually("no majority without the other", || async {
        match group.raft(leader).propose(command(11)).await {
            Ok(committed) => panic!("the wiped node helped to commit {committed:?}"),
            Err(error) => (error == ProposeError::NoQuorum).then_some(()),
        }
    })
    .await;
    assert!(group.raft(wiped).leadership().borrow().leader.is_none());
    assert!(matches!(
        group.raft(wiped).init(group.members()).await,
        Err(InitError::AlreadyInitialised { .. })
    ));
    group.start(other).await;
    let went_on = group.commit(12).await;
    assert!(went_on.index > before.index);

    // The same id with the new directory is refused; a new id is not.
    let leader = group.leader().await;
    let info = group.raft(wiped).own_info();
    let refused = group.raft(leader).add_learner(wiped, info).await;
    assert!(matches!(refused, Err(ChangeError::Refused { .. })), "{refused:?}");
    group.stop(wiped).await;
    group.start(4).await;
    let info = group.raft(4).own_info();
    eventually("the wiped node is replaced", || async {
        let leader = group.leader().await;
        group.raft(leader).replace(wiped, 4, info.clone()).await.ok()
    })
    .await;
    let members = group.raft(group.leader().await).membership();
    assert!(members.voters.contains(&4) && !members.nodes.contains_key(&wiped), "{members:?}");
    assert!(!members.changing);

    // The new one counts: with one of the old ones gone there is a majority.
    group.stop(other).await;
    let committed = group.commit(20).await;
    group.applied(4, committed.index).await;
    assert_eq!(group.raft(4).read(|state| state.log_time_ms), 20);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_never_used_twice() {
    let mut group = Group::running(3, |_| {}).await;
    group.commit(10).await;
    let leader = group.leader().await;
    let gone = leader % 3 + 1;
    eventually("the node is removed", || async { group.raft(leader).remove(gone).await.ok() }).await;
    group.stop(gone).await;
    fs::remove_dir_all(group.options(gone).data_dir).expect("wipe");
    group.start(gone).await;
    let leader = group.leader().await;
    let refused = group.raft(leader).add_learner(gone, group.raft(gone).own_info()).await;
    let ChangeError::Refused { what } = refused.expect_err("used before") else { panic!("not refused") };
    assert!(what.contains("never reused"), "{what}");
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_follows_then_votes_then_goes() {
    let mut group = Group::running(1, |_| {}).await;
    group.commit(10).await;
    for id in 2..=3 {
        group.start(id).await;
        let info = group.raft(id).own_info();
        group.raft(1).add_learner(id, info).await.expect("added");
        let committed = group.commit(10 + id).await;
        group.applied(id, committed.index).await;
        eventually("it has caught up", || async { group.raft(1).make_voter(id).await.ok() }).await;
    }
    let members = group.raft(1).membership();
    assert_eq!(members.voters.len(), 3);
    assert!(matches!(group.raft(1).make_voter(2).await, Err(ChangeError::Refused { .. })));
    assert!(matches!(group.raft(1).make_voter(7).await, Err(ChangeError::Refused { .. })));

    // The leader removes itself: somebody else leads, and the group goes on.
    let leader = group.leader().await;
    eventually("the leader is removed", || async {
        match group.raft(leader).remove(leader).await {
            Ok(()) | Err(ChangeError::NotLeader { .. }) => Some(()),
            Err(_) => None,
        }
    })
    .await;
    let gone = group.nodes.remove(&leader).expect("running");
    let committed = group.commit(30).await;
    assert!(!group.raft(group.leader().await).membership().nodes.contains_key(&leader));
    for id in group.nodes.keys() {
        group.applied(*id, committed.index).await;
    }
    gone.stop().await;
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_moved_is_found_at_its_new_address() {
    let mut group = Group::running(3, |_| {}).await;
    group.commit(10).await;
    let moved = group.leader().await % 3 + 1;
    group.stop(moved).await;
    group.forget_address(moved);
    group.start(moved).await;
    let info = group.raft(moved).own_info();
    assert_ne!(group.raft(group.leader().await).membership().nodes[&moved], info);
    eventually("its address is changed", || async {
        let leader = group.leader().await;
        group.raft(leader).set_addresses(moved, info.clone()).await.ok()
    })
    .await;
    let committed = group.commit(20).await;
    group.applied(moved, committed.index).await;

    let mut other = info;
    other.incarnation = "another".to_owned();
    let leader = group.leader().await;
    assert!(matches!(group.raft(leader).set_addresses(moved, other).await, Err(ChangeError::Refused { .. })));
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_made_only_of_nodes_that_answer_as_named() {
    let mut group = Group::open(3, |_| {}).await;
    let mut wrong = group.members();
    wrong.get_mut(&2).expect("two").incarnation = "another".to_owned();
    assert!(matches!(group.raft(1).init(wrong).await, Err(InitError::OtherNode { node: 2, .. })));
    let mut swapped = group.members();
    let (two, three) = (swapped[&2].node_addr.clone(), swapped[&3].node_addr.clone());
    swapped.get_mut(&2).expect("two").node_addr = three;
    swapped.get_mut(&3).expect("three").node_addr = two;
    assert!(matches!(group.raft(1).init(swapped).await, Err(InitError::OtherNode { .. })));
    let mut without = group.members();
    without.remove(&1);
    assert!(matches!(group.raft(1).init(without).await, Err(InitError::NotThisNode { node: 1, .. })));
    let members = group.members();
    group.stop(3).await;
    assert!(matches!(group.raft(1).init(members.clone()).await, Err(InitError::Unreachable { node: 3, .. })));
    group.start(3).await;
    group.raft(1).init(members).await.expect("nothing had been done before");
    group.commit(1).await;
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_put_back_from_an_older_copy_does_not_take_the_leader_down() {
    let mut group = Group::running(3, |_| {}).await;
    let early = group.commit(10).await;
    let victim = group.leader().await % 3 + 1;
    group.applied(victim, early.index).await;
    group.stop(victim).await;
    let data_dir = group.options(victim).data_dir;
    let copy = group.folder.path().join("copy");
    copy_tree(&data_dir, &copy);
    group.start(victim).await;
    let late = group.commit(20).await;
    group.applied(victim, late.index).await;
    let leader = group.leader().await;
    eventually("the leader knows what it has", || async {
        (group.raft(leader).status().peers.get(&victim)?.matched? >= late.index).then_some(())
    })
    .await;

    group.stop(victim).await;
    fs::remove_dir_all(&data_dir).expect("remove");
    copy_tree(&copy, &data_dir);
    group.start(victim).await;
    // Either the leader notices that acknowledged entries are gone, or an unplanned election came first and the next
    // leader, which was never told of them, sends them again. Nobody stops.
    eventually("the loss is noticed or mended", || async {
        let leader = group.leader().await;
        let peer = group.raft(leader).status().peers.remove(&victim)?;
        let noticed = peer.trouble.is_some_and(|trouble| trouble.contains("older copy"));
        (noticed || *group.raft(victim).applied().borrow() >= late.index).then_some(())
    })
    .await;
    group.commit(30).await;
    for id in 1..=3 {
        assert_eq!(group.raft(id).status().stopped, None, "node {id}");
    }
    group.stop_all().await;
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("mkdir");
    for entry in fs::read_dir(from).expect("list").map(|entry| entry.expect("entry").path()) {
        let target = to.join(entry.file_name().expect("name"));
        if entry.is_dir() {
            copy_tree(&entry, &target)
        } else {
            fs::copy(&entry, &target).map(drop).expect("copy")
        }
    }
}
