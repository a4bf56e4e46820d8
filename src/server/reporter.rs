//! Carries this node's sightings on: verdicts to the leader wherever it is, answers of returned servers to the fencer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc};

use crate::{
    core::analysis::Verdict,
    server::{
        fencer::Fencer,
        leader::LeaderHandle,
        observer::Sighting,
        ports::{Judged, Stamp},
        tools::Tools,
    },
};

/// Bound of one report; what is true is said again soon.
const REPORT: Duration = Duration::from_millis(500);
/// Reports under way at once.
const REPORTS: usize = 32;

/// Starts the reporter.
pub fn report(tools: Tools, leader: LeaderHandle, fencer: Fencer, sightings: mpsc::Receiver<Sighting>) {
    let reporter = Reporter {
        tools: tools.clone(),
        leader,
        fencer,
        under_way: Arc::new(Semaphore::new(REPORTS)),
        heard: Heard::default(),
    };
    tools.start(reporter.run(sightings));
}

struct Reporter {
    tools: Tools,
    leader: LeaderHandle,
    fencer: Fencer,
    under_way: Arc<Semaphore>,
    heard: Heard,
}

/// The newest stamp of a leader, and when it was heard, milliseconds of this node's CLOCK_BOOTTIME.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Option<(Stamp, u64)>>>);

impl Heard {
    fn take(&self, stamp: Stamp, now_ms: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, now_ms));
    }

    fn date(&self, judged_ms: u64) -> Option<Judged> {
        let (stamp, heard_ms) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since_ms = i64::try_from(judged_ms).ok()? - i64::try_from(heard_ms).ok()?;
        Some(Judged { stamp, since_ms })
    }
}

impl Reporter {
    async fn run(self, mut sightings: mpsc::Receiver<Sighting>) {
        while let Some(sighting) = sightings.recv().await {
            match sighting {
                Sighting::Verdict { verdict, judged_ms } => self.verdict(verdict, judged_ms).await,
                Sighting::Answered { server, writable } => self.fencer.answered(&server, writable),
            }
        }
    }

    async fn verdict(&self, verdict: Verdict, judged_ms: u64) {
        let leadership = self.tools.leads();
        if leadership.is_leader {
            return self.leader.verdict(verdict, Some(judged_ms)).await;
        }
        let permit = self.under_way.clone().try_acquire_owned();
        let (Some(to), Ok(permit)) = (leadership.leader, permit) else { return };
        let (tools, heard) = (self.tools.clone(), self.heard.clone());
        self.tools.start(async move {
            let _permit = permit;
            // A second time where the leader could not date the first: it is new, or its stamp was never heard.
            for _ in 0..2 {
                let judged = heard.date(judged_ms);
                let report = tools.ports.peers.report(to, verdict.clone(), judged);
                let Some(Ok(Some(stamp))) = tools.within(REPORT, report).await else {
                    tracing::debug!(to, "a verdict did not reach the leader");
                    return;
                };
                heard.take(stamp, tools.boottime_ms());
                if judged.is_some_and(|judged| judged.stamp.term == stamp.term) {
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard() -> Heard {
        let heard = Heard::default();
        heard.take(Stamp { term: 3, at_ms: 9_000 }, 50);
        heard
    }

    #[test]
    fn a_report_that_lay_on_its_way_is_as_old_as_it_is() {
        let judged = heard().date(70).expect("a stamp was heard");
        assert_eq!(judged.at_ms(Stamp { term: 3, at_ms: 14_000 }), Some(9_020));
    }

    #[test]
    fn a_stamp_of_another_leadership_dates_nothing() {
        let judged = heard().date(70).expect("a stamp was heard");
        assert_eq!(judged.at_ms(Stamp { term: 4, at_ms: 14_000 }), None);
        assert_eq!(Heard::default().date(70), None);
    }

    #[test]
    fn a_verdict_from_before_the_stamp_is_older_than_it() {
        let judged = heard().date(30).expect("a stamp was heard");
        assert_eq!(judged.at_ms(Stamp { term: 3, at_ms: 9_005 }), Some(8_980));
    }

    #[test]
    fn a_fast_clock_dates_nothing_into_the_future() {
        let judged = heard().date(1_050).expect("a stamp was heard");
        assert_eq!(judged.at_ms(Stamp { term: 3, at_ms: 9_990 }), Some(9_990));
    }
}
