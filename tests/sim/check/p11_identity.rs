//! P11: a server is who it is bound to be, not who answers at its address. Nothing is changed on another, it is not promoted,
//! and it says nothing in the bound one's name.

use quorate::core::{analysis::ReplicaSign, replicated::Change};

use super::{Check, account::done, p1_permitted::changes};
use crate::{fleet::ServerNo, trace::Event, world::World};

/// What was read before it came is out of date after this, milliseconds: a replica is looked at each two seconds at most, its
/// facts count for three looks and a second, and a verdict that rests on them for two more.
const OUTDATED_MS: u64 = 10_000;

/// See above.
#[derive(Default)]
pub struct IdentityNotAddress {
    /// Told once for each stranger.
    told: Vec<(ServerNo, u64)>,
}

impl Check for IdentityNotAddress {
    fn id(&self) -> &'static str {
        "P11 identity, not address"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        self.untouched(world)?;
        let Some((_, command, id)) = done(event) else { return Ok(()) };
        match &command.change {
            Change::StartRecovery(start) => {
                // What a node said long ago is in the record and counts no more.
                let said = start.evidence.iter().filter_map(|testimony| {
                    let (_, _, evidence) = testimony.verdict.failure()?;
                    Some((at.saturating_sub(testimony.age_ms), evidence))
                });
                let signs =
                    said.flat_map(|(at, evidence)| evidence.replicas.iter().map(move |sign| (at, sign)));
                let heard = signs.filter(|(_, (_, sign))| *sign != ReplicaSign::Unreachable);
                for (at, (server, sign)) in heard {
                    let mut clusters = world.group.state.clusters.values();
                    let member = clusters.find_map(|cluster| cluster.members.get(server));
                    let no = member.and_then(|member| world.server_at(&member.address));
                    if let Some(no) = no.filter(|no| is_old(world, *no, at)) {
                        return Err(format!(
                            "a stranger at server {} is heard in recovery {id}: {sign:?}",
                            no.0
                        ));
                    }
                }
                Ok(())
            }
            Change::Publish { recovery } => {
                let record = world.group.state.recoveries.get(recovery);
                let Some(decision) = record.and_then(|record| record.decision.as_ref()) else {
                    return Ok(());
                };
                let Some(no) = world.server_at(&decision.candidate.address) else { return Ok(()) };
                // Committed late it rests on what was read before it was proposed.
                let key = (command.node, command.term, command.at_ms);
                let proposed = world.proposed.get(&key).copied().unwrap_or(at);
                match is_old(world, no, proposed) {
                    true => Err(format!("a stranger at server {} is published as primary", no.0)),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

impl IdentityNotAddress {
    fn untouched(&mut self, world: &World) -> Result<(), String> {
        for stranger in world.strangers.iter() {
            let server = world.fleet.server(stranger.server);
            let spied = server.spied.iter().flatten();
            let known = self.told.contains(&(stranger.server, stranger.since));
            if let Some(change) = spied.into_iter().find(|statement| changes(statement)).filter(|_| !known) {
                self.told.push((stranger.server, stranger.since));
                let bound = world.bound_at(stranger.server).map(ToString::to_string).unwrap_or_default();
                return Err(format!(
                    "{change:?} was carried out on {}, which stands at server {} in the place of {bound}",
                    server.spec.identity(),
                    stranger.server.0
                ));
            }
        }
        Ok(())
    }
}

/// Whether a stranger has stood there for so long that nothing of before counts any more.
fn is_old(world: &World, no: ServerNo, at: u64) -> bool {
    world.strangers.since(no).is_some_and(|since| since + OUTDATED_MS < at)
}
