//! Operators: what people ask of Quorate while things go wrong. Each request has an id; some are sent twice.

use std::{sync::Arc, time::Duration};

use quorate::{
    core::replicated::{
        Change, Kind, Outcome,
        command::{AckScope, StartRecovery},
        recovery::Waiver,
    },
    server::{
        actors::Actors,
        leader::{Message, StartError, start},
    },
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    host::Tasks,
    trace::Event,
    world::{Sim, World},
};

/// How long an operator waits for an answer.
const ANSWER: Duration = Duration::from_secs(12);

/// A wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A planned change of the primary, to whom Quorate chooses.
    Switchover,
    /// A failover without a majority's verdict.
    Force,
    /// All recoveries are acknowledged.
    Acknowledge,
    /// Automatic recoveries off, or on again.
    Recoveries(bool),
    /// The primary is in downtime for so long, milliseconds.
    Downtime(u64),
    /// The cluster is in maintenance for so long, milliseconds.
    Maintenance(u64),
}

impl World {
    /// An operator asks, through whichever node runs; twice where `again`.
    pub fn operate(&mut self, operation: Operation, again: bool) {
        let running: Vec<u64> = self.nodes.keys().copied().filter(|id| self.runs(*id)).collect();
        if running.is_empty() {
            return;
        }
        self.operations += 1;
        let request = format!("request-{}", self.operations);
        for _ in 0..=u32::from(again) {
            let node = *self.rng.pick(&running);
            // A role change is asked of the leader: the API forwards it there.
            let node = match operation {
                Operation::Switchover | Operation::Force => self.leader().unwrap_or(node),
                _ => node,
            };
            let Some(process) = self.process(node) else { continue };
            let (tasks, Some(actors)) = (process.tasks.clone(), process.actors.clone()) else { continue };
            let sim = self.handle.clone();
            let request = request.clone();
            self.handle.start(ask(sim, tasks, actors, operation, request));
        }
    }
}

/// What the state said to it.
enum Answer {
    /// Where in the log it took effect, and what it brought about.
    Done(Option<u64>, String),
    /// Why it did not.
    Refused(String),
}

async fn ask(sim: Sim, tasks: Arc<Tasks>, actors: Actors, operation: Operation, request: String) {
    let Some(asked) = sim.try_with(|world| world.now) else { return };
    let work = async {
        match operation {
            Operation::Switchover => role_change(&sim, &actors, Kind::Switchover, &request).await,
            Operation::Force => role_change(&sim, &actors, Kind::Forced, &request).await,
            _ => change(&sim, &actors, operation, &request).await,
        }
    };
    let answer = tasks.serve(work).await.unwrap_or_else(|| Err("the connection was lost".into()));
    let refused = matches!(answer, Ok(Answer::Refused(_)));
    let (index, what) = match answer {
        Ok(Answer::Done(index, what)) => (index, what),
        Ok(Answer::Refused(what)) => (None, format!("refused: {what}")),
        Err(what) => (None, what),
    };
    sim.try_with(|world| {
        let (what, after_ms) = (format!("{operation:?}: {what}"), world.now - asked);
        world.note(Event::OperatorTold { request, index, refused, after_ms, what });
    });
}

async fn change(sim: &Sim, actors: &Actors, operation: Operation, request: &str) -> Result<Answer, String> {
    let wish = sim.try_with(|world| world.change_of(operation)).flatten().ok_or("there is no cluster yet")?;
    let submitted = actors.tools.group.submit(wish, "operator", Some(request.to_owned()));
    let until = Instant::now() + ANSWER;
    let submitted = sim.clock().by(until, submitted).await.ok_or("no answer")?;
    match submitted.map_err(|error| error.to_string())? {
        (_, Outcome::Refused(refusal)) => Ok(Answer::Refused(refusal.to_string())),
        // A repeated request is answered with the first one's outcome.
        (_, Outcome::Done { id, .. }) => Ok(Answer::Done(Some(id), "done".into())),
        (_, Outcome::None) => Ok(Answer::Done(None, "nothing".into())),
    }
}

async fn role_change(sim: &Sim, actors: &Actors, kind: Kind, request: &str) -> Result<Answer, String> {
    let evidence = match sim.try_with(World::cluster_id).flatten() {
        Some(cluster) if kind == Kind::Forced => actors.leader.evidence(&cluster).await,
        _ => Vec::new(),
    };
    let start = actors.tools.read(|state| {
        let cluster = state.clusters.values().next()?;
        let waived = match kind {
            Kind::Forced => vec![Waiver::Verdict, Waiver::Block, Waiver::Loss],
            _ => Vec::new(),
        };
        Some(StartRecovery {
            kind,
            cluster: cluster.id.clone(),
            class: quorate::core::analysis::Class::Primary,
            code: None,
            epoch: cluster.epoch,
            generation: cluster.generation,
            subject: cluster.primary.clone()?,
            evidence,
            revoked: start::revoked(cluster),
            semi_sync: start::semi_sync(cluster),
            waived,
            to: None,
            kill_writers: true,
        })
    });
    let start = Box::new(start.ok_or("there is no cluster yet")?);
    let (reply, answer) = oneshot::channel();
    let message = Message::Operator { start, by: "operator".into(), request_id: Some(request.into()), reply };
    actors.leader.tell(message).await;
    match sim.clock().by(Instant::now() + ANSWER, answer).await {
        Some(Ok(Ok(id))) => Ok(Answer::Done(Some(id), format!("recovery {id}"))),
        Some(Ok(Err(StartError::Refused(refusal)))) => Ok(Answer::Refused(refusal.to_string())),
        Some(Ok(Err(error @ StartError::NotCommitted(_)))) => Err(error.to_string()),
        _ => Err("no answer: the node leads no more".into()),
    }
}

impl World {
    /// The run's cluster, once it is adopted.
    pub fn cluster_id(&mut self) -> Option<quorate::model::server::ClusterId> {
        self.group.state.clusters.keys().next().cloned()
    }

    fn change_of(&mut self, operation: Operation) -> Option<Change> {
        let cluster = self.group.state.clusters.values().next()?;
        let why = "because".to_owned();
        Some(match operation {
            Operation::Acknowledge => Change::Acknowledge { scope: AckScope::All, comment: why },
            Operation::Recoveries(enabled) => {
                Change::SetRecoveries { cluster: Some(cluster.id.clone()), enabled, why }
            }
            Operation::Downtime(for_ms) => Change::SetDowntime {
                server: cluster.primary.clone()?,
                for_ms: Some(for_ms).filter(|ms| *ms > 0),
                why,
            },
            Operation::Maintenance(for_ms) => Change::SetMaintenance {
                cluster: cluster.id.clone(),
                for_ms: Some(for_ms).filter(|ms| *ms > 0),
                why,
            },
            Operation::Switchover | Operation::Force => return None,
        })
    }
}
