//! What a node does on its own besides openraft: it tells who leads, finishes a half-done change of voters, and gives
//! up leading before its disk is full.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Leadership, change, handover};
use crate::raft::error::ChangeError;
use crate::raft::machine::Machine;
use crate::raft::options::Options;
use crate::raft::peers::Peers;
use crate::raft::ports::Disk;
use crate::raft::runtime;
use crate::raft::types::Types;

/// Time between two looks at the free space.
const ROOM_INTERVAL: Duration = Duration::from_secs(5);

pub(super) type Openraft = openraft::Raft<Types, Machine>;

/// Starts the tasks; they end when the set is dropped or raft stops.
pub fn start(
    raft: &Openraft,
    peers: Arc<Peers>,
    options: &Options,
    disk: Arc<dyn Disk>,
    stopped: Arc<watch::Sender<Option<String>>>,
) -> (watch::Receiver<Leadership>, JoinSet<()>) {
    let (tx, rx) = watch::channel(Leadership::default());
    let mut tasks = JoinSet::new();
    let patience = options.profile.election_timeout_max() * 2;
    tasks.spawn(runtime::task(tell_who_leads(raft.clone(), peers, tx, stopped, options.data_dir.clone())));
    tasks.spawn(runtime::task(finish_changes(raft.clone(), patience)));
    tasks.spawn(runtime::task(watch_room(raft.clone(), disk, options.free_bytes_min / 2, patience)));
    (rx, tasks)
}

/// Keeps a watch of its own, so that no type of the library leaves this module; and tells the connections where the
/// members are now. A raft that has stopped leads nobody, whatever it last believed.
async fn tell_who_leads(
    raft: Openraft,
    peers: Arc<Peers>,
    tx: watch::Sender<Leadership>,
    stopped: Arc<watch::Sender<Option<String>>>,
    folder: PathBuf,
) {
    let mut metrics = raft.server_metrics();
    let me = *raft.node_id();
    let mut known = None;
    loop {
        let now = {
            let seen = metrics.borrow_watched();
            if known != *seen.membership_config.log_id() {
                known = *seen.membership_config.log_id();
                peers.learn(seen.membership_config.nodes().map(|(id, node)| (*id, node.clone())).collect());
            }
            let is_leader = seen.state.is_leader() && seen.current_leader == Some(me);
            Leadership { term: seen.vote.leader_id.term, leader: seen.current_leader, is_leader }
        };
        tx.send_if_modified(|last| std::mem::replace(last, now) != now);
        if metrics.changed().await.is_err() {
            break;
        }
    }
    // Its last words, not a question: who asks a raft that ends, and gives up waiting, lets the library panic at everybody
    // who asks later; and this must be told. One that panicked has left none.
    let last = raft.metrics().borrow_watched().running_state.clone();
    let fatal = last.err().unwrap_or(Fatal::Panicked);
    let why = why_it_stopped(&fatal.to_string(), &folder);
    tx.send_modify(|last| *last = Leadership { leader: None, is_leader: false, ..*last });
    stopped.send_if_modified(|told| told.is_none() && told.replace(why).is_none());
}

/// The library's words; where its storage failed, also which directory that is, and what to do.
fn why_it_stopped(fatal: &str, folder: &Path) -> String {
    if !fatal.contains("io::error::Error") {
        return fatal.to_owned();
    }
    let folder = folder.display();
    match fatal.contains("StorageFull") {
        true => format!(
            "data directory {folder}: the disk is full; free some space and start this node again. Nothing that was \
             acknowledged is lost, and the other nodes go on ({fatal})"
        ),
        false => format!("data directory {folder}: {fatal}"),
    }
}

/// A leader that died between the two entries of a change leaves two sets of voters, and both majorities are needed
/// until somebody writes the second entry. Whoever leads does so when the state has lasted `patience`: the change
/// itself needs no help meanwhile.
async fn finish_changes(raft: Openraft, patience: Duration) {
    let mut metrics = raft.server_metrics();
    loop {
        let half_done = |raft: &Openraft| {
            let metrics = raft.server_metrics();
            let seen = metrics.borrow_watched();
            let joint = seen.membership_config.membership().get_joint_config().len() > 1;
            (joint && seen.state.is_leader()).then(|| *seen.membership_config.log_id())
        };
        if let Some(before) = half_done(&raft) {
            tokio::time::sleep(patience).await;
            if half_done(&raft) == Some(before) {
                tracing::warn!("a change of voters was left half done; finishing it");
                match change::change(&raft, change::finish()).await {
                    Ok(_) | Err(ChangeError::Busy) => {}
                    Err(error) => tracing::warn!(%error, "the change of voters is still half done"),
                }
            }
            continue;
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// A node whose disk is nearly full stands for no election, and hands over if it leads: the entry that no longer fits
/// must not be the leader's own.
async fn watch_room(raft: Openraft, disk: Arc<dyn Disk>, low: u64, patience: Duration) {
    let mut electable = true;
    loop {
        if let Ok(free) = disk.free_bytes() {
            let now = may_lead(electable, free, low);
            if now != electable {
                tracing::warn!(free_bytes = free, electable = now, "free space at the data directory");
                raft.runtime_config().elect(now);
                electable = now;
            }
            if !electable && raft.is_leader() {
                hand_over(&raft, patience).await;
            }
        }
        tokio::time::sleep(ROOM_INTERVAL).await;
    }
}

/// With a margin, so that a node at the edge does not change its mind with every look.
fn may_lead(electable: bool, free: u64, low: u64) -> bool {
    if electable { free >= low } else { free >= low.saturating_mul(2) }
}

/// To the voter whose log is the most complete.
async fn hand_over(raft: &Openraft, patience: Duration) {
    let me = *raft.node_id();
    let best = {
        let metrics = raft.metrics();
        let seen = metrics.borrow_watched();
        let voters: Vec<u64> = seen.membership_config.voter_ids().collect();
        let peers = seen.replication.iter().flatten().filter(|(id, _)| **id != me && voters.contains(id));
        peers.max_by_key(|(_, matched)| matched.map(|log| log.index())).map(|(id, _)| *id)
    };
    let Some(best) = best else { return };
    match handover::hand_over(raft, best, patience).await {
        Ok(rest) => rest.await,
        Err(fatal) => tracing::warn!(%fatal, "the leader's office could not be handed over"),
    }
}

#[cfg(test)]
mod tests {
    use super::may_lead;

    #[test]
    fn a_node_gives_up_leading_when_low_and_returns_with_a_margin() {
        assert!(may_lead(true, 100, 100));
        assert!(!may_lead(true, 99, 100));
        assert!(!may_lead(false, 199, 100));
        assert!(may_lead(false, 200, 100));
        assert!(may_lead(true, 0, 0), "no minimum, no watch");
    }
}
