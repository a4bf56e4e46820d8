//! From verdicts to a proposed start.

use std::time::Duration;

use super::{Asked, Leader, Message, Proposed, StartError};
use crate::{
    core::{
        agreement::{self, Agreed},
        analysis::{Finding, Repair, Verdict, rows},
        replicated::{
            Change, Cluster, Durability, Kind, MemberState, Outcome, Refusal, State,
            command::StartRecovery,
            recovery::{Revoked, Testimony},
        },
    },
    model::server::ClusterId,
    raft::{Committed, ProposeError},
    server::{group::SELF, observer::ObserverHandle, pause, tools::Tools},
};

/// Pause between two urgent rounds on the same cluster, milliseconds.
const ROUND_PAUSE_MS: u64 = 150;

impl Leader {
    /// A verdict of unknown age counts for nothing: it only makes the leader ask.
    pub(super) fn hear_verdict(&mut self, verdict: Verdict, judged_ms: Option<u64>) {
        if !self.leadership.is_leader {
            return;
        }
        let cluster = verdict.cluster.clone();
        self.log_verdict(&verdict);
        if verdict.finding == Finding::Healthy {
            self.primary_answers(&cluster, &format!("node {}", verdict.node));
        }
        let failing = verdict.failure().is_some_and(|(_, code, _)| rows::repair(code) != Repair::Nothing);
        let unproven = verdict.failure().is_some_and(|(_, _, evidence)| evidence.needs_witness);
        self.gathered.take(verdict, judged_ms);
        self.judge(&cluster);
        self.consider_end(&cluster);
        self.consider_witness(&cluster);
        if (failing || unproven) && !self.gathered.starting.contains(&cluster) {
            self.call_round(&cluster);
        }
    }

    /// Verdict changes go through the log, off the critical path: for people, and for the newest sequence of each node.
    fn log_verdict(&mut self, verdict: &Verdict) {
        let key = (verdict.cluster.clone(), verdict.node);
        let label = verdict.label();
        let known = self.tools.read(|state| {
            state.verdicts.get(&verdict.cluster).and_then(|of| of.get(&verdict.node)).map(Verdict::label)
        });
        let now = self.tools.now_ms();
        let pending =
            self.logged.get(&key).is_some_and(|(l, at)| *l == label && now.saturating_sub(*at) < 5_000);
        let news = known.as_ref() != Some(&label) && !pending;
        if news || self.log_is_behind(verdict) {
            self.remembered.goes_to_log(verdict.node, verdict.sequence);
            self.logged.insert(key, (label, now));
            self.commit_aside(Change::ReportVerdict { verdict: verdict.clone() });
        }
    }

    /// Whether the log would let a restarted node begin with counts that were heard before.
    fn log_is_behind(&mut self, verdict: &Verdict) -> bool {
        let (tools, node) = (&self.tools, verdict.node);
        let newest = |state: &State| {
            state.verdicts.values().filter_map(|of| of.get(&node)).map(|v| v.sequence).max().unwrap_or(0)
        };
        self.remembered.is_behind(node, verdict.sequence, || tools.read(newest))
    }

    /// Whether the verdicts at hand allow a start, and if so proposes it.
    pub(super) fn judge(&mut self, id: &ClusterId) {
        if self.gathered.starting.contains(id) {
            return;
        }
        let proposed = Proposed::now(&self.tools);
        let testimonies = self.gathered.testimonies(id, proposed.boottime_ms);
        let Some((cluster, agreed, gate)) = self.agreed(id, &testimonies) else {
            self.refusals.forget(id);
            return;
        };
        let held = |state: &State| state.slot_refusal(&cluster, Kind::Failover).is_some();
        if rows::repair(agreed.code) == Repair::Nothing || self.tools.read(held) {
            return;
        }
        if let Some(refusal) = gate {
            self.tell_refusal(id, &refusal);
            return;
        }
        let start = start_of(&cluster, &agreed, Kind::Failover, testimonies);
        self.propose_start((start, proposed), SELF.into(), None, None);
    }

    fn agreed(
        &self,
        id: &ClusterId,
        testimonies: &[Testimony],
    ) -> Option<(Cluster, Agreed, Option<Refusal>)> {
        self.tools.read(|state| {
            let cluster = state.clusters.get(id)?;
            let question = state.question(id, cluster.epoch, cluster.primary.as_ref()?);
            let agreed = agreement::agree(&question, testimonies).ok()?;
            let gate = state.automatic_pause(cluster).or_else(|| state.automatic_rate(cluster, agreed.class));
            Some((cluster.clone(), agreed, gate))
        })
    }

    pub(super) fn propose_start(
        &mut self,
        (start, proposed): (StartRecovery, Proposed),
        by: String,
        request_id: Option<String>,
        reply: Option<Asked>,
    ) {
        let cluster = start.cluster.clone();
        self.gathered.starting.insert(cluster.clone());
        let (group, term, inbox) = (self.tools.group.clone(), self.leadership.term, self.inbox.clone());
        let node = self.tools.node_id();
        self.work.spawn(self.tools.task(async move {
            pause::point(node, "start", "before").await;
            let result = group.propose(term, Change::StartRecovery(Box::new(start)), &by, request_id).await;
            let _ = inbox.send(Message::Started { cluster, proposed, result, reply }).await;
        }));
    }

    pub(super) fn started(
        &mut self,
        id: &ClusterId,
        proposed: Proposed,
        result: Result<Committed, ProposeError>,
        reply: Option<Asked>,
    ) {
        self.gathered.starting.remove(id);
        let answer = match result {
            Ok(Committed { outcome: Outcome::Done { id: recovery, .. }, term, .. }) => {
                self.refusals.forget(id);
                self.begin(recovery, term, proposed);
                Ok(recovery)
            }
            Ok(Committed { outcome: Outcome::Refused(refusal), .. }) => {
                if reply.is_none() {
                    self.tell_refusal(id, &refusal);
                }
                Err(StartError::Refused(refusal))
            }
            Ok(_) => {
                let what = "the start had no outcome".into();
                Err(StartError::NotCommitted(ProposeError::Unknown { what }))
            }
            Err(error) => {
                tracing::warn!(cluster = %id, %error, "a start was not committed");
                Err(StartError::NotCommitted(error))
            }
        };
        if let Some(reply) = reply {
            let _ = reply.send(answer);
        }
    }

    /// Asks every node for an urgent probe of this primary, this one included.
    pub(super) fn call_round(&mut self, id: &ClusterId) {
        let (now, called_ms) = (self.tools.now_ms(), self.tools.boottime_ms());
        if self.gathered.rounds.get(id).is_some_and(|since| now.saturating_sub(*since) < ROUND_PAUSE_MS) {
            return;
        }
        let bound_ms = self.tools.read(|state| state.policy.urgent_round_ms);
        let busy_until = now + bound_ms;
        self.gathered.rounds.insert(id.clone(), busy_until);
        for node in self.tools.ports.log.membership().voters {
            let (tools, observer, inbox, cluster) =
                (self.tools.clone(), self.observer.clone(), self.inbox.clone(), id.clone());
            self.work.spawn(self.tools.task(async move {
                let verdict = ask(&tools, &observer, node, &cluster, bound_ms).await;
                let _ = inbox.send(Message::RoundEnded { cluster, called_ms, verdict }).await;
            }));
        }
    }

    pub(super) fn round_ended(&mut self, id: &ClusterId, called_ms: u64, verdict: Option<Verdict>) {
        if !self.leadership.is_leader {
            return;
        }
        if let Some(verdict) = verdict {
            self.log_verdict(&verdict);
            self.gathered.take(verdict, Some(called_ms));
        }
        self.judge(id);
        self.consider_witness(id);
        self.judge_resumed();
    }
}

async fn ask(
    tools: &Tools,
    observer: &ObserverHandle,
    node: u64,
    cluster: &ClusterId,
    bound_ms: u64,
) -> Option<Verdict> {
    if node == tools.node_id() {
        return observer.urgent(cluster.clone(), bound_ms).await;
    }
    let limit = Duration::from_millis(bound_ms + 500);
    let answer = tools.within(limit, tools.ports.peers.urgent(node, cluster.clone(), bound_ms)).await?;
    let verdict = answer.map_err(|why| tracing::debug!(node, why, "no urgent verdict")).ok()?;
    // A node speaks for itself, of what it was asked; a majority is made of voters, not of voices.
    if verdict.node != node || &verdict.cluster != cluster {
        let (spoke_for, of) = (verdict.node, &verdict.cluster);
        tracing::warn!(node, spoke_for, %of, asked = %cluster, "an urgent verdict is not believed");
        return None;
    }
    Some(verdict)
}

/// The start that an agreed problem asks for: who is revoked, and what protects the cluster.
pub fn start_of(cluster: &Cluster, agreed: &Agreed, kind: Kind, evidence: Vec<Testimony>) -> StartRecovery {
    StartRecovery {
        kind,
        cluster: cluster.id.clone(),
        class: agreed.class,
        code: Some(agreed.code),
        epoch: cluster.epoch,
        generation: cluster.generation,
        subject: cluster.primary.clone().expect("agreement is about a primary"),
        evidence,
        revoked: revoked(cluster),
        semi_sync: semi_sync(cluster),
        waived: Vec::new(),
        to: None,
        kill_writers: false,
    }
}

/// Direct replicas in service that have one source only: a multi-source server is never touched.
pub fn revoked(cluster: &Cluster) -> Vec<Revoked> {
    let Some(primary) = &cluster.primary else { return Vec::new() };
    cluster
        .replicas_of(primary)
        .filter(|m| {
            m.channels <= 1 && !matches!(m.state, MemberState::Quarantined { .. } | MemberState::Replaced)
        })
        .map(|m| Revoked { target: m.target(), channel: m.channel.clone() })
        .collect()
}

/// Semi-sync in force.
pub fn semi_sync(cluster: &Cluster) -> Option<(u32, Vec<crate::model::server::ServerId>)> {
    match &cluster.durability {
        Durability::SemiSync { acks, ackers } => Some((*acks, ackers.clone())),
        _ => None,
    }
}
