//! The last resort where nothing proves whether a silent primary lives: one receiver is restarted, and testifies (ADR 0005).
//!
//! Called by the leader after its commit, and only by that; a successor restarts nothing, and only sees to it that the
//! receiver runs again.

use std::{collections::BTreeMap, time::Duration};

use super::{Leader, Message, Proposed, start};
use crate::{
    core::{
        agreement,
        plan::{
            choose::Sets,
            preview::Wish,
            step::{Action, Step, StepEnd},
            witness,
        },
        replicated::{
            Change, Cluster, Kind, Outcome, Refusal, State, Witness, command::CallWitness,
            recovery::Testimony,
        },
    },
    executor::Permit,
    model::server::ClusterId,
    server::{group::SELF, marks, observer::ObserverHandle, tools::Tools},
};

/// A stop may be slow (2.0 s on MySQL while it connects to a silent host): nobody waits for it but this step.
const RESTART: Duration = Duration::from_secs(10);
/// Bound of one step that sees to it that the receiver runs.
const STEP: Duration = Duration::from_secs(5);
/// Pause before a cluster's witness is looked after again, or a refused call is made again.
const PAUSE: Duration = Duration::from_secs(1);
/// How old facts may be on which a witness is chosen, milliseconds.
const FRESH_MS: u64 = 5_000;

impl Leader {
    /// Whether the verdicts at hand ask for a witness, and if so calls one.
    pub(super) fn consider_witness(&mut self, id: &ClusterId) {
        if self.witnesses.contains(id) || self.gathered.starting.contains(id) {
            return;
        }
        let proposed = Proposed::now(&self.tools);
        let evidence = self.gathered.testimonies(id, proposed.boottime_ms);
        if !evidence.iter().any(asks) {
            return;
        }
        let Some(log_now_ms) = self.tools.group.log_now_ms(self.leadership.term) else { return };
        let cluster = self.tools.read(|state| {
            let cluster = state.clusters.get(id)?;
            agreed(state, cluster, &evidence).then_some(())?;
            state.witness_allowed(cluster, log_now_ms).is_none().then(|| cluster.clone())
        });
        let Some(cluster) = cluster else { return };
        let call = Call {
            tools: self.tools.clone(),
            observer: self.observer.clone(),
            term: self.leadership.term,
            cluster,
            evidence,
            proposed,
        };
        self.attend(id.clone(), async move {
            if let Err(refusal) = call.call().await {
                tracing::info!(cluster = %call.cluster.id, reason = refusal.reason(), %refusal, "no witness");
                call.tools.sleep(PAUSE).await;
            }
        });
    }

    /// Calls whose receiver was not yet seen started again, this leader's or a predecessor's.
    pub(super) fn tend_witnesses(&mut self) {
        let open: Vec<(ClusterId, Witness)> = self.tools.read(|state| {
            let free =
                state.clusters.values().filter(|c| c.slot.is_none() && !self.witnesses.contains(&c.id));
            free.filter_map(|c| Some((c.id.clone(), c.witness.clone().filter(|w| !w.settled)?))).collect()
        });
        for (cluster, witness) in open {
            let worker = Settle { tools: self.tools.clone(), term: self.leadership.term, cluster, witness };
            self.attend(worker.cluster.clone(), async move {
                if let Err(why) = worker.start().await {
                    tracing::warn!(cluster = %worker.cluster, why, "a witness is not seen started again yet");
                    worker.tools.sleep(PAUSE).await;
                }
            });
        }
    }

    fn attend(&mut self, cluster: ClusterId, work: impl Future<Output = ()> + Send + 'static) {
        self.witnesses.insert(cluster.clone());
        let inbox = self.inbox.clone();
        self.work.spawn(self.tools.task(async move {
            work.await;
            let _ = inbox.send(Message::WitnessDone(cluster)).await;
        }));
    }
}

/// Whether a verdict says that only a witness can tell.
pub(super) fn asks(testimony: &Testimony) -> bool {
    testimony.verdict.failure().is_some_and(|(_, _, evidence)| evidence.needs_witness)
}

fn agreed(state: &State, cluster: &Cluster, evidence: &[Testimony]) -> bool {
    let Some(subject) = &cluster.primary else { return false };
    let question = state.question(&cluster.id, cluster.epoch, subject);
    agreement::agree_on_witness(&question, evidence).is_ok()
}

struct Call {
    tools: Tools,
    observer: ObserverHandle,
    term: u64,
    cluster: Cluster,
    evidence: Vec<Testimony>,
    /// When the ages of that were read.
    proposed: Proposed,
}

impl Call {
    async fn call(&self) -> Result<(), Refusal> {
        let sets = self.seen().await;
        let wish = Wish {
            kind: Kind::Failover,
            to: None,
            waived: Vec::new(),
            kill_writers: false,
            revoked: start::revoked(&self.cluster),
            semi_sync: start::semi_sync(&self.cluster),
        };
        let (replica, candidate) =
            self.tools.read(|state| witness::choose(state, &self.cluster, &wish, &sets))?;
        let Some(subject) = self.cluster.primary.clone() else { return Ok(()) };
        let change = Change::CallWitness(Box::new(CallWitness {
            cluster: self.cluster.id.clone(),
            epoch: self.cluster.epoch,
            generation: self.cluster.generation,
            subject,
            evidence: self.evidence.clone(),
            replica,
            candidate,
        }));
        match self.tools.group.propose(self.term, change, SELF, None).await {
            Ok(committed) => match committed.outcome {
                Outcome::Refused(refusal) => return Err(refusal),
                _ => self.restart().await,
            },
            Err(error) => tracing::info!(cluster = %self.cluster.id, %error, "a witness was not called"),
        }
        Ok(())
    }

    async fn seen(&self) -> Sets {
        let others = marks::of_others(&self.tools, &self.cluster.id);
        let (seen, others) = tokio::join!(self.observer.look(self.cluster.id.clone()), others);
        let mut seen = seen.unwrap_or_default();
        others.into_iter().for_each(|of_node| seen.sets.raise(of_node));
        let fresh = seen
            .observations
            .iter()
            .filter(|(_, o)| o.answered_ms.is_some_and(|at| seen.now_ms.saturating_sub(at) <= FRESH_MS))
            .filter(|(server, _)| self.cluster.primary.as_ref() != Some(*server))
            .filter_map(|(server, o)| Some((server.clone(), o.facts.as_deref()?.clone())));
        let facts: BTreeMap<_, _> = fresh.collect();
        Sets { facts, ..seen.sets }
    }

    /// Only right after the commit: later the world may have changed, and the receiver is left alone.
    async fn restart(&self) {
        let (witness, within_ms) = self.tools.read(|state| {
            let witness = state.clusters.get(&self.cluster.id).and_then(|c| c.witness.clone());
            (witness, state.policy.start_within_ms)
        });
        let Some(witness) = witness.filter(|w| w.owner == (self.tools.node_id(), self.term)) else { return };
        let settle = Settle {
            tools: self.tools.clone(),
            term: self.term,
            cluster: self.cluster.id.clone(),
            witness: witness.clone(),
        };
        let end = match self.proposed.elapsed_ms(&self.tools) <= within_ms {
            true => settle.step(Action::RestartReceiver { channel: witness.channel.clone() }, RESTART).await,
            false => Err("the call was committed too late".into()),
        };
        match end {
            Ok(StepEnd::Done(_)) => settle.settled("its receiver was restarted".into()).await,
            // Nothing was changed by it.
            Ok(StepEnd::Refused { why }) => settle.settled(format!("it was not restarted: {why}")).await,
            Ok(unknown) => tracing::warn!(cluster = %self.cluster.id, end = %unknown, "a witness"),
            Err(why) => tracing::warn!(cluster = %self.cluster.id, why, "a witness"),
        }
    }
}

/// Sees to it that a witness's receiver runs again.
struct Settle {
    tools: Tools,
    term: u64,
    cluster: ClusterId,
    witness: Witness,
}

impl Settle {
    /// A session that a predecessor left may still send something: gone first.
    async fn start(&self) -> Result<(), String> {
        let starts =
            [Action::KillPredecessors, Action::StartReceiver { channel: self.witness.channel.clone() }];
        for action in starts {
            let end = self.step(action, STEP).await?;
            if !end.is_done() {
                return Err(end.to_string());
            }
        }
        self.settled("its receiver was seen started".into()).await;
        Ok(())
    }

    /// Each step after a read barrier of this term, while the call stands and no recovery deals with the receivers.
    async fn step(&self, action: Action, deadline: Duration) -> Result<StepEnd, String> {
        let confirmed = self.tools.barrier_over_session(&self.witness.target, deadline).await?;
        let leadership = self.tools.leads();
        let stands = self.tools.read(|state| {
            let cluster = state.clusters.get(&self.cluster).filter(|c| c.slot.is_none());
            cluster.and_then(|c| c.witness.as_ref()).is_some_and(|w| w.id == self.witness.id)
        });
        if !stands || !leadership.is_leader || leadership.term != self.term {
            return Err("the call does not stand any more".into());
        }
        let call = self.witness.id;
        let permit = Permit::new(format!("witness {call}"), call, self.term, confirmed, deadline);
        let step = Step { target: self.witness.target.clone(), action };
        let end = self.tools.ports.servers.run(permit, step.clone(), deadline).await;
        tracing::info!(witness = self.witness.id, step = %step, end = %end, "step");
        Ok(end)
    }

    async fn settled(&self, said: String) {
        let change = Change::SettleWitness { cluster: self.cluster.clone(), witness: self.witness.id, said };
        if let Err(error) = self.tools.group.propose(self.term, change, SELF, None).await {
            tracing::info!(cluster = %self.cluster, %error, "the end of a witness was not committed");
        }
    }
}
