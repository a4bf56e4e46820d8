//! P6, I12, I18: under semi-sync in force, no write that was acknowledged to a client is missing on the server that is
//! published as the primary, unless an operator accepted its loss by name. A switchover loses nothing that the old
//! primary holds, whatever the durability.

use std::collections::BTreeMap;

use quorate::core::replicated::{Change, Kind, recovery::Waiver};

use super::{Check, account::changed};
use crate::{fleet::ServerNo, trace::Event, world::World};

/// See above.
#[derive(Default)]
pub struct Acknowledged {
    /// Rows acknowledged by each server, in order.
    rows: BTreeMap<ServerNo, Vec<u64>>,
    /// Somebody made a time-out finite: what was acknowledged since is not protected, and nobody may know it yet.
    tampered: bool,
    /// A power failure may have taken a binlog's end: the same numbers then stand for other transactions elsewhere.
    renumbered: bool,
}

impl Check for Acknowledged {
    fn id(&self) -> &'static str {
        "P6 no acknowledged write is lost under semi-sync"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::Acknowledged { server, row, .. } if !world.forgot_semi_sync(*server) => {
                self.rows.entry(*server).or_default().push(*row);
            }
            Event::Fault { what, .. } => {
                self.tampered |= what.starts_with("SemiSyncTimeout");
                self.renumbered |= what.contains("Power");
            }
            _ => {}
        }
        let Some((Change::Publish { recovery }, _)) = changed(event) else { return Ok(()) };
        let Some(recovery) = world.group.state.recoveries.get(recovery) else { return Ok(()) };
        let Some(decision) = &recovery.decision else { return Ok(()) };
        let switchover = recovery.kind == Kind::Switchover && !self.renumbered;
        let protected =
            recovery.semi_sync.is_some() && !self.tampered && !recovery.waived.contains(&Waiver::Loss);
        if !switchover && !protected {
            return Ok(());
        }
        let (Some(old), Some(new)) =
            (world.server_at(&recovery.old_primary.address), world.server_at(&decision.candidate.address))
        else {
            return Ok(());
        };
        let (here, there) = (&world.fleet.server(old).log, &world.fleet.server(new).log);
        let lost = |row: &&u64| !there.holds(**row) && (protected || here.holds(**row));
        let lost: Vec<u64> = self.rows.get(&old).into_iter().flatten().filter(lost).copied().collect();
        match lost.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "server {} is published without {} acknowledged rows of server {}: {:?}",
                new.0,
                lost.len(),
                old.0,
                &lost[..lost.len().min(5)]
            )),
        }
    }
}
