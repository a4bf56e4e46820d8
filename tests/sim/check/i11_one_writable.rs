//! I11: under semi-sync in force, what the old primary writes after its replicas were revoked and another was decided on
//! is acknowledged to nobody.

use quorate::core::replicated::{Kind, Phase, Recovery, recovery::Waiver};

use super::{Check, i16_relay_log::in_hand};
use crate::{
    fleet::{
        ServerNo,
        log::{Entry, Payload},
    },
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
        let Some(published) = world.published_at(recovery.id) else { return Ok(()) };
        let written = entry_of(world, *server, *row).filter(|entry| entry.txn.at_ms > published);
        match written {
            Some(entry) if !followed_again(world, recovery, *server, entry) => Err(format!(
                "server {} acknowledges row {row}, written {} ms after server {} was published",
                server.0,
                entry.txn.at_ms - published,
                primary.0
            )),
            _ => Ok(()),
        }
    }
}

/// Its acknowledgement came of replicas that the record names as left behind, and that were started anew since: such a server
/// starts its receiver by itself, on its old source (docs/safety.md).
fn followed_again(world: &World, recovery: &Recovery, old: ServerNo, row: &Entry) -> bool {
    let Some(cluster) = world.group.state.clusters.get(&recovery.cluster) else { return false };
    let left: Vec<ServerNo> = recovery
        .left_behind
        .iter()
        .filter_map(|(server, _)| world.server_at(&cluster.members.get(server)?.address))
        .filter(|no| world.restarted.contains(no) && world.fleet.server(*no).semi.replica_enabled)
        .collect();
    let others = (0..world.fleet.servers().len()).map(ServerNo).filter(|no| *no != old);
    let received = others.filter(|no| in_hand(world, *no).contains(&row.txn.gtid));
    let (of_left, others): (Vec<_>, Vec<_>) = received.partition(|no| left.contains(no));
    let waits_for = world.fleet.server(old).semi.source.wait_for.max(1) as usize;
    !of_left.is_empty() && others.len() < waits_for
}

fn entry_of(world: &World, server: ServerNo, row: u64) -> Option<&Entry> {
    let entries = world.fleet.server(server).log.entries().iter().rev();
    let holds = |payload: &Payload| matches!(payload, Payload::Rows(rows) if rows.contains(&row));
    entries.take(64).find(|entry| holds(&entry.txn.payload))
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
