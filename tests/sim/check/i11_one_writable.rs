//! I11: under semi-sync in force, what the old primary writes after its replicas were revoked and another was decided on
//! is acknowledged to nobody.

use quorate::core::replicated::{Kind, Phase, Recovery, recovery::Waiver};

use super::Check;
use crate::{
    fleet::{ServerNo, log::Payload},
    trace::Event,
    world::World,
};

/// See above.
#[derive(Default)]
pub struct OneWritable {
    /// Somebody made a time-out finite: who waits for an acknowledgement in vain acknowledges alone then.
    tampered: bool,
}

impl Check for OneWritable {
    fn id(&self) -> &'static str {
        "I11 one server acknowledges"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        if let Event::Fault { what, .. } = event {
            self.tampered |= what.starts_with("SemiSyncTimeout");
        }
        let Event::Acknowledged { server, row, .. } = event else { return Ok(()) };
        let (Some(primary), Some(state)) = (world.primary(), Some(&world.group.state)) else { return Ok(()) };
        // Writable again, and about to be published; or without semi-sync.
        if primary == *server || is_promoted(world, *server) || world.forgot_semi_sync(*server) {
            return Ok(());
        }
        if self.tampered {
            return Ok(());
        }
        let last = state.recoveries.values().rev().find(|recovery| {
            recovery.phase == Phase::Published || (recovery.decision.is_some() && recovery.ending.is_some())
        });
        let Some(recovery) = last.filter(|r| r.kind != Kind::Switchover && r.semi_sync.is_some()) else {
            return Ok(());
        };
        let of_it = world.server_at(&recovery.old_primary.address) == Some(*server);
        if !of_it || recovery.waived.contains(&Waiver::Loss) || recovery.undo.is_some() {
            return Ok(());
        }
        if followed_again(world, recovery, *server) {
            return Ok(());
        }
        let Some(published) = world.published_at(recovery.id) else { return Ok(()) };
        match written_at(world, *server, *row) {
            Some(at) if at > published => Err(format!(
                "server {} acknowledges row {row}, written {} ms after server {} was published",
                server.0,
                at - published,
                primary.0
            )),
            _ => Ok(()),
        }
    }
}

/// Its acknowledgements come of replicas that the record names as left behind, and that were started anew since: such a server
/// starts its receiver by itself, on its old source (docs/safety.md).
fn followed_again(world: &World, recovery: &Recovery, old: ServerNo) -> bool {
    let Some(cluster) = world.group.state.clusters.get(&recovery.cluster) else { return false };
    let left: Vec<ServerNo> = recovery
        .left_behind
        .iter()
        .filter_map(|(server, _)| world.server_at(&cluster.members.get(server)?.address))
        .filter(|no| world.restarted.contains(no))
        .collect();
    let source = world.fleet.server(old);
    let ackers = source.dumps.iter().filter(|dump| dump.semi_sync);
    let (of_left, others): (Vec<_>, Vec<_>) =
        ackers.partition(|dump| world.server_at(&dump.reports).is_some_and(|no| left.contains(&no)));
    !of_left.is_empty() && others.len() < source.semi.source.wait_for.max(1) as usize
}

fn written_at(world: &World, server: ServerNo, row: u64) -> Option<u64> {
    let entries = world.fleet.server(server).log.entries().iter().rev();
    let holds = |payload: &Payload| matches!(payload, Payload::Rows(rows) if rows.contains(&row));
    entries.take(64).find(|entry| holds(&entry.txn.payload)).map(|entry| entry.txn.at_ms)
}

/// Whether a server is being promoted, past the point of no return; one that was started anew, and is writable by its
/// configuration file, may take writes before that: since the decision the old primary acknowledges nothing, because it is
/// read-only (a switchover) or has no ackers any more.
fn is_promoted(world: &World, server: ServerNo) -> bool {
    world.group.state.recoveries.values().any(|recovery| {
        let candidate = recovery.decision.as_ref().map(|decision| &decision.candidate.address);
        let early = world.restarted.contains(&server);
        recovery.running()
            && (recovery.phase == Phase::Intent || early)
            && candidate.and_then(|address| world.server_at(address)) == Some(server)
    })
}
