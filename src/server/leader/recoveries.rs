//! Driving what was started, and taking over what a predecessor left.

use std::time::Duration;

use tokio::time::Instant;

use super::{Leader, Message, Proposed};
use crate::{
    core::{
        agreement::{self, Question},
        recovery::Event,
        replicated::{Change, Kind, Outcome, Phase, Recovery, recovery::Testimony},
    },
    mistake::{Mistake, planted},
    model::server::ClusterId,
    raft::{Committed, ProposeError},
    server::{driver, group::SELF},
};

/// How long a successor gathers fresh verdicts before it cancels what may not have begun, milliseconds.
const GATHER_MS: u64 = 2_500;
/// A take-over that rests on verdicts and is committed later than this after its proposal gathers fresh ones again, milliseconds:
/// more than `start_within`, or a log that is always that slow would never let it begin.
const TAKEN_OVER_WITHIN_MS: u64 = 5_000;
/// Pause after a take-over that was not committed.
const AGAIN: Duration = Duration::from_millis(100);

/// Whether a recovery goes on with fresh verdicts only: none of its side effects is on record. One that was given up is only
/// undone, which asks for none.
fn is_unproven(recovery: &Recovery) -> bool {
    recovery.phase == Phase::Started
        && !recovery.side_effects
        && !recovery.undoing()
        && recovery.kind == Kind::Failover
}

impl Leader {
    /// A start of ours is committed. Later than `start_within` after its proposal, the world may have changed: fresh
    /// verdicts are gathered first (P4).
    pub(super) fn begin(&mut self, id: u64, term: u64, proposed: Proposed) {
        if term != self.leadership.term || self.driven.contains_key(&id) {
            return;
        }
        let (recovery, start_within_ms) =
            self.tools.read(|state| (state.recoveries.get(&id).cloned(), state.policy.start_within_ms));
        // A request that was sent again is answered with what it started before. That may be another term's, which is taken
        // over like any other (P4).
        let ours = |recovery: &Recovery| {
            recovery.driven_by(self.tools.node_id(), term) || planted(Mistake::ForeignRecoveryBegun)
        };
        let Some(recovery) = recovery.filter(ours) else { return };
        let late = proposed.elapsed_ms(&self.tools) > start_within_ms;
        match late && recovery.kind == Kind::Failover && !planted(Mistake::LateStartExecuted) {
            true => self.resume_later(&recovery),
            false => self.drive(recovery, proposed.at, false, None),
        }
    }

    fn drive(&mut self, recovery: Recovery, proposed: Instant, resumed: bool, cancel: Option<String>) {
        let (tools, observer, term) = (self.tools.clone(), self.observer.clone(), self.leadership.term);
        let id = recovery.id;
        let (forward, mut inbox) = tokio::sync::mpsc::channel(16);
        if let Some(why) = cancel {
            let _ = forward.try_send(Event::Cancel { why });
        }
        // Nothing of a superseded one may come between the new one's steps: this one begins once that is gone.
        let before = self.take_ended();
        let task = self.tools.start(async move {
            for driven in before {
                drop(driven.events);
                let _ = driven.task.await;
            }
            let seen = observer.look(recovery.cluster.clone()).await;
            let known = seen.map(|s| s.sets).unwrap_or_default();
            let mut driven = driver::drive(tools, recovery, (term, proposed), known, resumed);
            let _abort = AbortOnDrop(driven.task.abort_handle());
            loop {
                tokio::select! {
                    biased;
                    _ = &mut driven.task => return,
                    event = inbox.recv() => match event {
                        Some(event) => { let _ = driven.events.send(event).await; }
                        None => {
                            driven.task.abort();
                            let _ = (&mut driven.task).await;
                            return;
                        }
                    }
                }
            }
        });
        self.driven.insert(id, driver::Driven { events: forward, task });
    }

    /// Drivers of recoveries that run no more: superseded, or about to notice their end.
    fn take_ended(&mut self) -> Vec<driver::Driven> {
        let ended: Vec<u64> = self.tools.read(|state| {
            let runs = |id: &u64| state.recoveries.get(id).is_some_and(Recovery::running);
            self.driven.keys().copied().filter(|id| !runs(id)).collect()
        });
        ended.into_iter().filter_map(|id| self.driven.remove(&id)).collect()
    }

    /// Every running recovery of the state is driven here while this node leads.
    pub(super) fn tend_recoveries(&mut self) {
        self.driven.retain(|_, driven| !driven.task.is_finished());
        let running: Vec<Recovery> = self.tools.read(|state| {
            state
                .clusters
                .values()
                .filter_map(|c| c.slot)
                .filter_map(|id| state.recoveries.get(&id))
                .cloned()
                .collect()
        });
        for recovery in running {
            self.consider_end(&recovery.cluster);
            let ours = self.driven.contains_key(&recovery.id)
                || self.gathering.contains_key(&recovery.id)
                || self.takeovers.contains_key(&recovery.id);
            let starting = self.gathered.starting.contains(&recovery.cluster);
            if !ours && !starting {
                self.resume(recovery);
            }
        }
        if !self.gathering.is_empty() {
            self.judge_resumed();
        }
    }

    fn resume(&mut self, recovery: Recovery) {
        tracing::warn!(recovery = recovery.id, phase = ?recovery.phase, "taking a recovery over");
        if is_unproven(&recovery) {
            return self.resume_later(&recovery);
        }
        let cancel = (recovery.kind == Kind::Switchover && recovery.phase < Phase::Intent).then(|| {
            "the node that executed the switchover stopped before its point of no return".to_owned()
        });
        self.take_over(recovery, Vec::new(), cancel);
    }

    fn resume_later(&mut self, recovery: &Recovery) {
        self.call_round(&recovery.cluster);
        self.gathering.insert(recovery.id, self.tools.now_ms() + GATHER_MS);
    }

    /// Fresh verdicts came in, or their time is over: goes on with each recovery that waited for them, or cancels it.
    pub(super) fn judge_resumed(&mut self) {
        let now = self.tools.now_ms();
        for (id, deadline) in self.gathering.clone() {
            let recovery = self.tools.read(|state| state.recoveries.get(&id).cloned());
            let Some(recovery) = recovery.filter(Recovery::running) else {
                self.gathering.remove(&id);
                continue;
            };
            let testimonies = self.gathered.testimonies(&recovery.cluster, self.tools.boottime_ms());
            if self.still_agreed(&recovery, &testimonies) {
                self.gathering.remove(&id);
                self.take_over(recovery, testimonies, None);
            } else if now >= deadline {
                self.gathering.remove(&id);
                let why = "no majority holds a fresh verdict any more, and nothing was promoted".to_owned();
                self.take_over(recovery, Vec::new(), Some(why));
            } else {
                self.call_round(&recovery.cluster);
            }
        }
    }

    fn still_agreed(&self, recovery: &Recovery, testimonies: &[Testimony]) -> bool {
        self.with_question(recovery, |question| {
            agreement::agree(question, testimonies).is_ok_and(|agreed| agreed.class == recovery.class)
        })
    }

    /// What verdicts on a recovery that runs are judged about.
    fn with_question<T>(&self, recovery: &Recovery, judge: impl FnOnce(&Question<'_>) -> T) -> T {
        self.tools.read(|state| {
            let about = state.question(&recovery.cluster, recovery.epoch, &recovery.old_primary.server);
            judge(&Question { newest: None, ..about })
        })
    }

    fn take_over(&mut self, recovery: Recovery, evidence: Vec<Testimony>, cancel: Option<String>) {
        let id = recovery.id;
        let (tools, term) = (self.tools.clone(), self.leadership.term);
        let inbox = self.inbox.clone();
        self.takeovers.insert(id, cancel);
        let proposed = Proposed::now(&tools);
        self.work.spawn(self.tools.task(async move {
            let take_over = Change::TakeOver { recovery: id, evidence };
            let result = tools.group.propose(term, take_over, SELF, None).await;
            if let Err(error) = &result {
                tracing::warn!(recovery = id, %error, "it was not taken over");
                // A leader that lost its majority is refused at once, and would try again at once.
                tools.sleep(AGAIN).await;
            }
            let _ = inbox.send(Message::TakenOver { id, proposed, result }).await;
        }));
    }

    /// One that rests on verdicts, and is committed late or behind a suspension of this machine, gathers fresh ones again.
    pub(super) fn taken_over(
        &mut self,
        id: u64,
        proposed: Proposed,
        result: Result<Committed, ProposeError>,
    ) {
        let cancel = self.takeovers.remove(&id).flatten();
        let done = matches!(&result, Ok(c) if matches!(c.outcome, Outcome::Done { .. }));
        let recovery = self.tools.read(|state| state.recoveries.get(&id).cloned());
        if let (true, Some(recovery)) = (done, recovery.filter(Recovery::running)) {
            let late = self.tools.was_suspended_since(proposed.suspended_ms)
                || proposed.elapsed_ms(&self.tools) > TAKEN_OVER_WITHIN_MS;
            match late && cancel.is_none() && is_unproven(&recovery) {
                true => self.resume_later(&recovery),
                false => self.drive(recovery, proposed.at, true, cancel),
            }
        }
    }

    /// A node has an answer from a primary on which a fence is being undone.
    pub(super) fn primary_answers(&mut self, cluster: &ClusterId, how: &str) {
        if let Some(recovery) = self.holder(cluster).filter(Recovery::undoing) {
            self.tell_of_an_answer(&recovery, how);
        }
    }

    /// A failover whose primary a majority has called healthy again for as long as silence takes to be one is given up, where
    /// nothing was promoted yet. At once would be too soon: a node whose attempts end without any word says so for a moment
    /// after the last answer.
    pub(super) fn consider_end(&mut self, cluster: &ClusterId) {
        let undoable = |recovery: &Recovery| !recovery.undoing() && recovery.phase < Phase::Intent;
        let Some(recovery) = self.holder(cluster).filter(undoable) else { return };
        let for_ms = self.tools.read(|state| state.policy.silence_ms);
        let testimonies = self.gathered.lasting(cluster, self.tools.boottime_ms(), for_ms);
        let is_over = self.with_question(&recovery, |question| agreement::is_over(question, &testimonies));
        if is_over {
            self.tell_of_an_answer(&recovery, "a majority of the voters call it healthy");
        }
    }

    /// The recovery that holds a cluster's slot.
    fn holder(&self, cluster: &ClusterId) -> Option<Recovery> {
        self.tools.read(|state| {
            let slot = state.clusters.get(cluster).and_then(|c| c.slot)?;
            state.recoveries.get(&slot).cloned()
        })
    }

    fn tell_of_an_answer(&self, recovery: &Recovery, how: &str) {
        if let Some(driven) = self.driven.get(&recovery.id) {
            let _ = driven.events.try_send(Event::PrimaryAnswers { how: how.to_owned() });
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
