//! L3, P7: a refusal is heard of within two seconds. An operator is told; and where a majority's verdicts ask for a
//! failover and nothing is begun, the log says why.
//!
//! Asked while all is calm only: no way is harmed, every voter runs, nobody else came to lead. What a cut or a paused
//! node keeps from everybody is not a refusal.

use quorate::core::{
    analysis::{Class, Finding, PrimarySign, Verdict},
    replicated::{Change, Cluster, EventKind},
};

use super::Check;
use crate::{fleet::Process, raft::Load, trace::Event, world::World};

/// Within this long, milliseconds.
const WITHIN_MS: u64 = 2_000;

/// See above.
#[derive(Default)]
pub struct Refusals {
    /// Who leads, and since when all is calm, true time.
    calm: Option<(u64, u64)>,
    /// The primary's process is gone, or about to go: since when a failover is asked for, and nothing hinders an answer.
    asked_since: Option<u64>,
    /// Whether anything was said or done about this failure: it is over when the primary was there again, a node calls it
    /// healthy, and no majority says otherwise. One that wakes with what it knew before ends nothing.
    said: bool,
    /// The primary was there again since something was said.
    lived: bool,
}

impl Check for Refusals {
    fn id(&self) -> &'static str {
        "L3 refusals are told in time"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        self.look_around(at, event, world);
        self.lived = !says(event) && (self.lived || !is_dead(world));
        let over = self.lived && is_healthy(event) && !is_majority(world, says_dead);
        self.said = says(event) || (self.said && !over);
        if let Event::OperatorTold { request, after_ms, refused: true, what, .. } = event
            && *after_ms > WITHIN_MS
            && self.calm.is_some_and(|(_, since)| at - since >= *after_ms)
        {
            return Err(format!("{request} is refused after {after_ms} ms: {what}"));
        }
        if !is_dead(world) || self.said || self.calm.is_none() || !is_asked_for(world) {
            self.asked_since = None;
            return Ok(());
        }
        let late = at - *self.asked_since.get_or_insert(at);
        if late <= WITHIN_MS {
            return Ok(());
        }
        self.said = true;
        Err(format!("a majority has asked for a failover for {late} ms, and nothing says why there is none"))
    }
}

impl Refusals {
    fn look_around(&mut self, at: u64, event: &Event, world: &World) {
        // A cut may have come and gone since the event before.
        if matches!(event, Event::Fault { .. } | Event::FaultOver { .. }) {
            (self.calm, self.asked_since) = (None, None);
        }
        let runs = world.group.state.voters.keys().all(|node| world.runs(*node));
        let leader = world.leader().filter(|_| runs && world.net.is_calm());
        self.calm = match (leader, self.calm) {
            (Some(leader), Some((same, since))) if leader == same => Some((same, since)),
            (leader, _) => leader.map(|leader| (leader, at)),
        };
    }
}

fn is_healthy(event: &Event) -> bool {
    let Event::Committed { entry, .. } = event else { return false };
    let Load::Command(command) = &entry.load else { return false };
    matches!(&command.change, Change::ReportVerdict { verdict } if verdict.finding == Finding::Healthy)
}

/// A start, whatever came of it, or the reason why there is none.
fn says(event: &Event) -> bool {
    let Event::Committed { entry, .. } = event else { return false };
    let Load::Command(command) = &entry.load else { return false };
    matches!(command.change, Change::StartRecovery(_) | Change::Note { kind: EventKind::RecoveryRefused, .. })
}

/// From its shutdown on: nodes see that, and a reason may be told before the process is gone.
fn is_dead(world: &World) -> bool {
    let gone = |no| matches!(world.fleet.server(no).process, Process::Down | Process::Leaving(_));
    world.primary().is_some_and(gone)
}

/// The log holds a majority's verdicts that need no more, nobody doubts them, and no recovery runs.
fn is_asked_for(world: &World) -> bool {
    let idle = world.group.state.clusters.values().any(|cluster| cluster.slot.is_none());
    let doubted = voices(world).iter().any(|verdict| doubts(verdict)) && !is_majority(world, is_hard);
    idle && is_majority(world, asks) && !doubted
}

/// Asks, and hard evidence is nobody's to doubt.
fn is_hard(verdict: &Verdict, cluster: &Cluster) -> bool {
    asks(verdict, cluster) && verdict.failure().is_some_and(|(_, _, evidence)| evidence.hard)
}

/// It has an answer; or is refused, and has heard of a replica that still receives: that holds a majority up whose evidence is
/// soft, until the replica's next heartbeat is overdue, and is no refusal.
fn doubts(verdict: &Verdict) -> bool {
    match &verdict.finding {
        Finding::Healthy => true,
        Finding::Failure { class: Class::None, evidence, .. } => {
            !(evidence.urgent_round_done && matches!(evidence.primary, PrimarySign::Silent { .. }))
        }
        _ => false,
    }
}

/// Whether the log holds such verdicts of a majority.
fn is_majority(world: &World, such: fn(&Verdict, &Cluster) -> bool) -> bool {
    let state = &world.group.state;
    let Some(cluster) = state.clusters.values().next() else { return false };
    let number = voices(world).iter().filter(|verdict| such(verdict, cluster)).count();
    number > state.voters.len() / 2
}

/// The voters' verdicts on the cluster.
fn voices(world: &World) -> Vec<&Verdict> {
    let state = &world.group.state;
    let verdicts = state.clusters.keys().next().and_then(|cluster| state.verdicts.get(cluster));
    let of = |(node, incarnation): (&u64, &String)| {
        verdicts?.get(node).filter(|verdict| &verdict.incarnation == incarnation)
    };
    state.voters.iter().filter_map(of).collect()
}

/// The primary failed, as far as that node knows.
fn says_dead(verdict: &Verdict, cluster: &Cluster) -> bool {
    let about = verdict.epoch == cluster.epoch && Some(&verdict.subject) == cluster.primary.as_ref();
    about && verdict.failure().is_some_and(|(class, ..)| class == Class::Primary)
}

/// And the verdict needs no more.
fn asks(verdict: &Verdict, cluster: &Cluster) -> bool {
    let enough =
        verdict.failure().is_some_and(|(_, _, evidence)| evidence.hard || evidence.urgent_round_done);
    says_dead(verdict, cluster) && enough
}
