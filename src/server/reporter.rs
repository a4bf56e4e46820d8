//! Carries this node's sightings on: verdicts to the leader wherever it is, answers of returned servers to the fencer.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::{
    core::analysis::Verdict,
    server::{fencer::Fencer, leader::LeaderHandle, observer::Sighting, tools::Tools},
};

/// Bound of one report; what is true is said again soon.
const REPORT: Duration = Duration::from_millis(500);
/// Reports under way at once.
const REPORTS: usize = 32;

/// Starts the reporter.
pub fn report(tools: Tools, leader: LeaderHandle, fencer: Fencer, sightings: mpsc::Receiver<Sighting>) {
    let reporter =
        Reporter { tools: tools.clone(), leader, fencer, under_way: Arc::new(Semaphore::new(REPORTS)) };
    tools.start(reporter.run(sightings));
}

struct Reporter {
    tools: Tools,
    leader: LeaderHandle,
    fencer: Fencer,
    under_way: Arc<Semaphore>,
}

impl Reporter {
    async fn run(self, mut sightings: mpsc::Receiver<Sighting>) {
        while let Some(sighting) = sightings.recv().await {
            match sighting {
                Sighting::Verdict(verdict) => self.verdict(verdict).await,
                Sighting::Answered { server, writable } => self.fencer.answered(&server, writable),
            }
        }
    }

    async fn verdict(&self, verdict: Verdict) {
        let leadership = self.tools.leads();
        if leadership.is_leader {
            return self.leader.verdict(verdict, 0).await;
        }
        let permit = self.under_way.clone().try_acquire_owned();
        let (Some(to), Ok(permit)) = (leadership.leader, permit) else { return };
        let (tools, began_ms) = (self.tools.clone(), self.tools.now_ms());
        self.tools.start(async move {
            let _permit = permit;
            let age_ms = tools.now_ms().saturating_sub(began_ms);
            let sent = timeout(REPORT, tools.ports.peers.report(to, verdict, age_ms)).await;
            if !matches!(sent, Ok(Ok(()))) {
                tracing::debug!(to, "a verdict did not reach the leader");
            }
        });
    }
}
