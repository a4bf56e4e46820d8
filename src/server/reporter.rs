//! Carries this node's sightings on: verdicts to the leader wherever it is, answers of returned servers to the fencer.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::{
    core::analysis::Verdict,
    proto::node::v1::{Report, ReportRequest, peer_client::PeerClient},
    raft::Raft,
    server::{clock, fencer::Fencer, group::encode, leader::LeaderHandle, observer::Sighting},
};

/// Bound of one report; what is true is said again soon.
const REPORT: Duration = Duration::from_millis(500);
/// Reports under way at once.
const REPORTS: usize = 32;

/// Starts the reporter.
pub fn report(raft: Raft, leader: LeaderHandle, fencer: Fencer, mut sightings: mpsc::Receiver<Sighting>) {
    let under_way = std::sync::Arc::new(tokio::sync::Semaphore::new(REPORTS));
    tokio::spawn(async move {
        while let Some(sighting) = sightings.recv().await {
            let verdict = match sighting {
                Sighting::Verdict(verdict) => verdict,
                Sighting::Answered { server, writable } => {
                    fencer.answered(&server, writable);
                    continue;
                }
            };
            let leadership = *raft.leadership().borrow();
            if leadership.is_leader {
                leader.verdict(verdict, 0).await;
                continue;
            }
            let (Some(to), Ok(permit)) = (leadership.leader, under_way.clone().try_acquire_owned()) else {
                continue;
            };
            let raft = raft.clone();
            tokio::spawn(async move {
                let _permit = permit;
                send(&raft, to, verdict).await;
            });
        }
    });
}

async fn send(raft: &Raft, to: u64, verdict: Verdict) {
    let began = clock::now_ms();
    let Ok(channel) = raft.peer_channel(to) else { return };
    let report = Report { verdict_bytes: encode(&verdict), age_ms: clock::now_ms().saturating_sub(began) };
    let request = ReportRequest { reports: vec![report], applied: *raft.applied().borrow() };
    let sent = tokio::time::timeout(REPORT, PeerClient::new(channel).report(request)).await;
    if !matches!(sent, Ok(Ok(_))) {
        tracing::debug!(to, "a verdict did not reach the leader");
    }
}
