//! Plans: what would be done now, on what the servers hold now, and what would refuse it.

use std::time::Duration;

use tokio::time::Instant;

use super::NodeBackend;
use crate::{
    api::backend::{Failure, PlanView, ServerTrouble, Wish},
    core::{
        plan::{
            choose::Sets,
            preview,
            step::{Action, Blocker, Step, StepEnd},
        },
        replicated::{Cluster, Kind, Member, Refusal, State, recovery::Waiver},
    },
    executor::Permit,
    model::{facts::ServerFacts, gtid::GtidSet},
    server::{leader::start, marks, observer::Seen},
};

/// Bound of looking for long statements before a switchover.
const BLOCKERS: Duration = Duration::from_millis(1_100);
/// Bound of reading a member for a plan: twice this and the look for blockers stay below the two seconds of P7.
const READ_NOW: Duration = Duration::from_millis(400);
/// Facts older than this are not planned on, milliseconds.
const FRESH_MS: u64 = 5_000;

impl NodeBackend {
    /// The plan.
    pub(super) async fn plan_now(&self, wish: &Wish) -> Result<PlanView, Failure> {
        let cluster = self.cluster(&wish.cluster)?;
        let old_primary = cluster.primary.clone().ok_or_else(|| no_primary(&cluster))?;
        let shown = self.views.of(&wish.cluster).unwrap_or_default();
        let sets = self.sets(&cluster, &shown.seen).await;
        let preview_wish = self.wish(&cluster, wish);
        let (decision, mut refused_by, stages) = self.raft.read(|state| {
            let decision = preview::decide(state, &cluster, &preview_wish, &sets);
            let stages = decision
                .as_ref()
                .map(|d| preview::stages(state, &cluster, &preview_wish, d))
                .unwrap_or_default();
            (decision, self.gates(state, &cluster, wish), stages)
        });
        if wish.kind == Kind::Switchover
            && !wish.kill_writers
            && let Err(Failure::Refused(refusal)) = self.blockers(&cluster).await
        {
            refused_by.push(refusal);
        }
        let mut warnings = Vec::new();
        if let crate::core::replicated::Durability::Unprotected { why } = &cluster.durability {
            warnings.push(format!("unprotected: {why}"));
        }
        warnings.extend(decision.as_ref().ok().and_then(|d| d.unprotected.clone()));
        let (candidate, considered, lost) = match decision {
            Ok(d) => (Some(d.candidate.server.clone()), d.considered, Some(d.lost)),
            Err(refusal) => {
                let considered = match &refusal {
                    Refusal::NoSafeCandidate { considered } => considered.clone(),
                    _ => Vec::new(),
                };
                refused_by.push(refusal);
                (None, considered, None)
            }
        };
        Ok(PlanView { old_primary, candidate, considered, lost, stages, refused_by, warnings })
    }

    /// What is planned on: what the members hold now, the primary read first: between two probes a busy primary is
    /// hundreds of transactions ahead of what its replicas said last. Who does not answer in time counts by what was
    /// last seen of it.
    async fn sets(&self, cluster: &Cluster, seen: &Seen) -> Sets {
        let mut sets = self.seen_sets(cluster, seen);
        let read_primary = async { self.read_now(cluster.primary_member()?).await };
        let (primary, others) = tokio::join!(read_primary, marks::of_others(&self.tools, &cluster.id));
        others.into_iter().for_each(|of_node| sets.raise(of_node));
        let replicas = cluster.members.values().filter(|m| cluster.primary.as_ref() != Some(&m.server));
        let read = replicas.map(async |member| Some((member.server.clone(), self.read_now(member).await?)));
        for (server, mut facts) in futures::future::join_all(read).await.into_iter().flatten() {
            if let Some(primary) = &primary {
                as_of(primary, &mut facts);
            }
            sets.facts.insert(server, facts);
        }
        sets.old_primary = primary.map(|facts| facts.executed).or(sets.old_primary);
        sets
    }

    async fn read_now(&self, member: &Member) -> Option<ServerFacts> {
        let read = tokio::time::timeout(READ_NOW, self.tools.ports.servers.read(&member.address));
        read.await.ok()?.ok().filter(|facts| member.identity.matches(&facts.identity))
    }

    fn seen_sets(&self, cluster: &Cluster, seen: &Seen) -> Sets {
        let mut sets = seen.sets.clone();
        for (server, observation) in &seen.observations {
            let fresh = observation.answered_ms.is_some_and(|at| seen.now_ms.saturating_sub(at) <= FRESH_MS);
            if let (true, Some(facts)) = (fresh, &observation.facts)
                && cluster.primary.as_ref() != Some(server)
            {
                sets.facts.insert(server.clone(), ServerFacts::clone(facts));
            }
        }
        sets
    }

    fn wish(&self, cluster: &Cluster, wish: &Wish) -> preview::Wish {
        preview::Wish {
            kind: wish.kind,
            to: wish.to.clone(),
            waived: wish.waived.clone(),
            kill_writers: wish.kill_writers,
            revoked: start::revoked(cluster),
            semi_sync: start::semi_sync(cluster),
        }
    }

    /// What would refuse it now, besides the choice itself.
    fn gates(&self, state: &State, cluster: &Cluster, wish: &Wish) -> Vec<Refusal> {
        let mut refusals: Vec<Refusal> = state.slot_refusal(cluster, wish.kind).into_iter().collect();
        if wish.kind == Kind::Switchover {
            return refusals;
        }
        if !wish.waived.contains(&Waiver::Disabled) {
            refusals.extend(state.automatic_pause(cluster));
        }
        let class = crate::core::analysis::Class::Primary;
        refusals.extend(state.rate_refusal(cluster, wish.kind, class, &wish.waived));
        refusals
    }

    /// A switchover refuses, naming the session, when a long statement or table lock would stretch its pause.
    async fn blockers(&self, cluster: &Cluster) -> Result<(), Failure> {
        let Some(primary) = cluster.primary_member() else { return Ok(()) };
        let older_than_ms = self.raft.read(|state| state.policy.switchover_long_statement_ms);
        let step = Step { target: primary.target(), action: Action::ListBlockers { older_than_ms } };
        match self.read_only_step(step, BLOCKERS).await {
            StepEnd::Done(report) if report.blockers.is_empty() => Ok(()),
            StepEnd::Done(report) => {
                Err(Refusal::LongStatement { sessions: sessions(&report.blockers) }.into())
            }
            StepEnd::Refused { why } | StepEnd::Unknown { why } => Err(Failure::Server {
                trouble: ServerTrouble::Unreachable,
                address: primary.address.clone(),
                why: format!("its sessions cannot be listed: {why}"),
            }),
        }
    }

    /// A step that changes nothing, so that there is nothing to confirm before it.
    async fn read_only_step(&self, step: Step, within: Duration) -> StepEnd {
        let (servers, until) = (&self.tools.ports.servers, Instant::now() + within);
        if let Err(why) = servers.open(&step.target, within).await {
            return StepEnd::Refused { why };
        }
        let (index, term) = (*self.raft.applied().borrow(), self.raft.leadership().borrow().term);
        let permit = Permit::new("preflight", index, term, Instant::now(), within);
        servers.run(permit, step, until.saturating_duration_since(Instant::now())).await
    }
}

fn sessions(blockers: &[Blocker]) -> String {
    let each: Vec<String> = blockers
        .iter()
        .map(|b| {
            format!(
                "connection {} of {}@{}: {} for {} ms ({})",
                b.id, b.user, b.host, b.kind, b.for_ms, b.statement
            )
        })
        .collect();
    format!(
        "{} would stretch the pause: {}. Wait for them, kill them, or switch over with --kill-writers",
        if each.len() == 1 { "a session" } else { "sessions" },
        each.join("; ")
    )
}

fn no_primary(cluster: &Cluster) -> Failure {
    Failure::Refused(Refusal::Invalid(format!("cluster {} has no known primary", cluster.name())))
}

/// Leaves out what the primary wrote after it was read: replicas are read a moment later, one after the other, and would
/// seem to lack what only the last of them could have received.
fn as_of(primary: &ServerFacts, facts: &mut ServerFacts) {
    let until = primary.executed.written_by(&primary.identity);
    let cut = |set: &mut GtidSet| {
        let of_primary = set.written_by(&primary.identity);
        let mut kept = set.subtract(&of_primary);
        kept.merge(&of_primary.meet(&until));
        *set = kept;
    };
    cut(&mut facts.executed);
    facts.channels.iter_mut().for_each(|channel| cut(&mut channel.received));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::samples, model::server::Flavor};

    #[test]
    fn what_the_primary_wrote_after_it_was_read_is_left_out_and_nothing_else() {
        let (one, two) = (samples::id(1).0, samples::id(2).0);
        let held = |text: &str| samples::set(text);
        let primary =
            ServerFacts { executed: held(&format!("{one}:1-10")), ..samples::facts(Flavor::MySql, 1) };
        let mut facts = samples::facts(Flavor::MySql, 2);
        facts.executed = held(&format!("{one}:1-9:12,{two}:1-3"));
        facts.channels[0].received = held(&format!("{one}:1-14"));
        as_of(&primary, &mut facts);
        assert_eq!(facts.executed, held(&format!("{one}:1-9,{two}:1-3")));
        assert_eq!(facts.channels[0].received, held(&format!("{one}:1-10")));
    }
}
