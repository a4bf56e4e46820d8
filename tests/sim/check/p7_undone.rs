//! P7: a recovery that stops before its point of no return undoes what it stopped: in the end no replica's receiver stands
//! because of it, but where it says that this could not be undone.

use quorate::{
    core::replicated::{Cluster, Ending, MemberState, Recovery},
    model::server::ServerId,
};

use super::Check;
use crate::{
    fleet::{ServerNo, channel::Receiver},
    trace::Event,
    world::World,
};

/// See above.
#[derive(Default)]
pub struct Undone {
    /// Somebody stops a receiver by hand in this run.
    by_hand: bool,
}

impl Check for Undone {
    fn id(&self) -> &'static str {
        "P7 what was stopped is started again"
    }

    fn see(&mut self, _: u64, event: &Event, _: &World) -> Result<(), String> {
        self.by_hand |= matches!(event, Event::Fault { what, .. } if what.starts_with("StopReceiver"));
        Ok(())
    }

    fn end(&mut self, world: &World) -> Result<(), String> {
        let state = &world.group.state;
        let Some(cluster) = state.clusters.values().next().filter(|_| !self.by_hand) else { return Ok(()) };
        // Since the last one that brought a new primary, which re-pointed everybody.
        let ended = state.recoveries.values().rev();
        let since: Vec<&Recovery> =
            ended.take_while(|recovery| recovery.ending != Some(Ending::Succeeded)).collect();
        if since.iter().any(|recovery| recovery.ending == Some(Ending::Failed)) {
            // Past its point of no return nothing is undone: a person is told.
            return Ok(());
        }
        let said = |address: &str| since.iter().any(|recovery| recovery.reason.contains(address));
        // Its stop ended unknown and landed later, and that recovery says that it is left to a person.
        let left = |server: &ServerId| {
            state.recoveries.values().any(|r| r.left_behind.iter().any(|(id, _)| id == server))
        };
        let revoked = since.iter().flat_map(|recovery| &recovery.revoked);
        for target in revoked.map(|revoked| &revoked.target) {
            let Some(no) = world.server_at(&target.address) else { continue };
            let said = said(&target.address.to_string()) || left(&target.server);
            let ours = follows(cluster, &target.server) && !said;
            if ours && stands(world, no) {
                return Err(format!("the receiver of server {} stands since it was revoked", no.0));
            }
        }
        Ok(())
    }
}

/// Whether the record says that it replicates from the primary, and is in service.
fn follows(cluster: &Cluster, server: &ServerId) -> bool {
    let member = cluster.members.get(server).filter(|member| member.state == MemberState::Normal);
    cluster.primary.is_some() && member.is_some_and(|member| member.source == cluster.primary)
}

/// Its receiver was stopped: one that broke by itself has an error.
fn stands(world: &World, no: ServerNo) -> bool {
    let channels = &world.fleet.server(no).channels;
    channels.iter().any(|c| c.receiver == Receiver::Stopped && c.receiver_error.is_none())
}
