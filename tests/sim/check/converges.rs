//! L1, L2, I15, I17, P4: once all faults are over, the group has one leader and one state, no recovery runs, and the
//! cluster has a primary that takes writes; who was re-pointed follows it; nobody else takes writes.

use quorate::{
    core::replicated::{Durability, Ending, Member, MemberState, Recovery},
    model::server::ServerId,
};

use super::Check;
use crate::{
    fleet::{
        ServerNo,
        channel::{Channel, Receiver},
        server::Dump,
    },
    trace::Event,
    world::World,
};

/// The last of a run, in which clients must have been served, milliseconds.
const SERVED_MS: u64 = 10_000;

/// See above.
pub struct Converges;

impl Check for Converges {
    fn id(&self) -> &'static str {
        "L1/L2 it converges"
    }

    fn see(&mut self, _: u64, _: &Event, _: &World) -> Result<(), String> {
        Ok(())
    }

    fn end(&mut self, world: &World) -> Result<(), String> {
        one_group(world)?;
        let state = &world.group.state;
        let running = state.recoveries.values().find(|recovery| recovery.running());
        if let Some(recovery) = running.filter(|recovery| !is_undone_lately(world, recovery)) {
            return Err(format!(
                "recovery {} ({:?}) still runs in phase {:?}{}",
                recovery.id,
                recovery.kind,
                recovery.phase,
                if recovery.undoing() { ", being undone" } else { "" }
            ));
        }
        if left_to_a_person(world) {
            return Ok(());
        }
        let Some(primary) = world.primary() else { return Err("the cluster has no primary".into()) };
        let server = world.fleet.server(primary);
        if !server.runs() || server.switches.read_only {
            return Err(format!("the primary, server {}, takes no writes", primary.0));
        }
        others_are_read_only(world, primary)?;
        if lost_its_tail(world, primary) {
            return Ok(());
        }
        // An acknowledgement that met a flapping link each time is sent again after up to two minutes.
        let idle = world.clients.last(primary).is_none_or(|at| at + SERVED_MS < world.now);
        let since = world.now.saturating_sub(SERVED_MS);
        let waits = server.semi.source_enabled && world.fleet.was_word_held_up(primary, since);
        if idle && !waits && !unnoticed(world, primary) && !has_too_few_ackers(world, primary) {
            return Err(format!("the primary, server {}, has acknowledged nothing lately", primary.0));
        }
        repointed_follow(world, primary)
    }
}

/// How long a recovery may take to undo what it did, milliseconds: its replicas have 15 s.
const UNDO_MS: u64 = 16_000;

/// Its replicas have their time.
fn is_undone_lately(world: &World, recovery: &Recovery) -> bool {
    let now_ms = world.group.state.log_time_ms;
    recovery.undo.as_ref().is_some_and(|undo| now_ms < undo.since_ms + UNDO_MS)
}

/// A recovery that failed past its point of no return says that the old primary may be fenced and the candidate not
/// writable; nothing repairs that by itself (docs/safety.md).
fn left_to_a_person(world: &World) -> bool {
    let ends = world.group.state.recoveries.values().rev().filter_map(|recovery| recovery.ending);
    ends.take_while(|ending| *ending != Ending::Succeeded).any(|ending| ending == Ending::Failed)
}

/// A primary whose power failed under `sync_binlog=0` holds less than its replicas, which follow it no more: the servers say
/// so, Quorate shows it, and a person chooses.
fn lost_its_tail(world: &World, primary: ServerNo) -> bool {
    let server = world.fleet.server(primary);
    let own = server.log.executed_as_read();
    // Once it has written on, the same numbers stand for other transactions: the replicas refuse to follow, or (MariaDB) take
    // what comes behind those, and never acknowledge them.
    let more = |other: &crate::fleet::SimServer| {
        let theirs = other.log.executed_as_read().written_by(&server.spec.identity());
        let refused = |error: &Option<(u32, String)>| error.as_ref().is_some_and(|(code, _)| *code == 1236);
        !own.contains(&theirs)
            || other.channels.iter().any(|channel| refused(&channel.receiver_error))
            || (server.power_failed_ms.is_some() && other.log.differs_from(&server.log))
    };
    server.spec.sync_binlog == 0 && world.fleet.servers().iter().any(more)
}

/// It waits for more acknowledgements than there are replicas left to give them (the others are set aside, or were left
/// behind): the record calls it unprotected, and a person builds replicas or lowers the number. Not where one that is in
/// service follows another server, unless it was set up so.
fn has_too_few_ackers(world: &World, primary: ServerNo) -> bool {
    let (state, server) = (&world.group.state, world.fleet.server(primary));
    let Some(cluster) = state.clusters.values().next() else { return false };
    let unprotected = matches!(cluster.durability, Durability::Unprotected { .. });
    let completed =
        || state.recoveries.values().filter(|recovery| recovery.ending == Some(Ending::Succeeded));
    let left = |id: &ServerId| completed().any(|r| r.left_behind.iter().any(|(server, _)| server == id));
    let in_service = |member: &&Member| member.state == MemberState::Normal && !left(&member.server);
    let follows = |member: &Member| {
        let Some(no) = world.fleet.server_at(&member.address) else { return false };
        let channels = &world.fleet.server(no).channels;
        let chained = world.chained.contains(&no) && !channels.is_empty();
        chained || channels.iter().any(|channel| channel.options.source == server.spec.address)
    };
    let is_primary = |member: &Member| cluster.primary.as_ref() == Some(&member.server);
    let mut others = cluster.members.values().filter(in_service);
    server.semi.source_enabled && unprotected && others.all(|member| is_primary(member) || follows(member))
}

/// A replica holds a connection to the primary of which that one, started anew, knows nothing, as after a loss of power.
/// It notices when it has heard nothing for `replica_net_timeout`, a minute, and commits wait for its acknowledgement; or it
/// has just noticed, and dials; or waits for its next attempt, for a minute too; or is served since less than the time in which
/// clients must have been.
fn unnoticed(world: &World, primary: ServerNo) -> bool {
    let source = world.fleet.server(primary);
    let to_primary = |channel: &&Channel| channel.options.source == source.spec.address;
    let mut channels = world.fleet.servers().iter().flat_map(|server| &server.channels).filter(to_primary);
    let older = |dump: &&Dump| dump.semi_sync && dump.began_ms + SERVED_MS <= world.now;
    let has_served = source.dumps.iter().filter(older).count() >= source.semi.source.wait_for.max(1) as usize;
    let unserved = |channel: &Channel| match channel.receiver {
        Receiver::Running(stream) => match source.dumps.iter().find(|dump| dump.stream == stream) {
            Some(dump) => dump.began_ms + SERVED_MS > world.now && !has_served,
            None => true,
        },
        Receiver::Dialling(..) | Receiver::Waiting(_) => true,
        _ => false,
    };
    let started_lately = source.started_ms + source.spec.net_timeout_ms + SERVED_MS > world.now;
    source.semi.source_enabled && started_lately && channels.any(unserved)
}

/// The same, but that nothing excuses: the primary takes writes, and everybody else follows. `served_ms`: so lately.
pub fn without_excuse(world: &World, served_ms: u64) -> Result<(), String> {
    Converges.end(world)?;
    let primary = world.primary().ok_or("the cluster has no primary")?;
    let served = world.clients.last(primary).is_some_and(|at| at + served_ms >= world.now);
    let servers = world.fleet.servers().iter().enumerate();
    let follows = |channel: &Channel| channel.receiver.stream().is_some() && channel.applier_running;
    let mut others = servers.filter(|(at, _)| ServerNo(*at) != primary).map(|(_, server)| server);
    let all = others.all(|server| server.runs() && server.channels.iter().all(follows));
    match served && all && !world.fleet.server(primary).switches.read_only {
        true => others_are_read_only(world, primary),
        false => Err("somebody does not serve, or does not follow".into()),
    }
}

fn one_group(world: &World) -> Result<(), String> {
    let leader = world.leader().ok_or("nobody leads")?;
    let last = world.applied(leader);
    let behind = |id: &&u64| world.applied(**id) + 5 < last;
    match world.group.state.voters.keys().find(behind) {
        Some(node) => Err(format!("node {node} is behind the leader, node {leader}")),
        None => Ok(()),
    }
}

fn others_are_read_only(world: &World, primary: ServerNo) -> Result<(), String> {
    for at in 0..world.fleet.servers().len() {
        let server = world.fleet.server(ServerNo(at));
        if ServerNo(at) != primary && server.runs() && !server.switches.read_only {
            return Err(format!("server {at} takes writes beside the primary, server {}", primary.0));
        }
    }
    Ok(())
}

/// Those that the last completed recovery says it re-pointed.
fn repointed_follow(world: &World, primary: ServerNo) -> Result<(), String> {
    let state = &world.group.state;
    let Some(cluster) = state.clusters.values().next() else { return Ok(()) };
    let done = state.recoveries.values().rev().find(|r| r.ending == Some(Ending::Succeeded));
    let Some(decision) = done.and_then(|recovery| recovery.decision.as_ref()) else { return Ok(()) };
    let left: Vec<_> = done.iter().flat_map(|r| &r.left_behind).map(|(server, _)| server).collect();
    let address = &world.fleet.server(primary).spec.address;
    for follower in decision.siblings.iter().chain(&decision.ackers) {
        let id = &follower.target.server;
        let Some(member) = cluster.members.get(id).filter(|m| m.state == MemberState::Normal) else {
            continue;
        };
        let Some(no) = world.server_at(&member.address) else { continue };
        // A person waits until it has applied what it received, where the record names it.
        let named =
            state.recoveries.values().any(|r| r.reason.contains(&format!("point on {} ", member.address)));
        if named && world.fleet.server(no).channels.iter().any(|channel| !channel.relay.is_empty()) {
            continue;
        }
        if left.contains(&id) || no == primary || world.errant.contains_key(&no) {
            continue;
        }
        let follows =
            world.fleet.server(no).channels.iter().any(|channel| &channel.options.source == address);
        if !follows {
            return Err(format!("server {} does not follow the primary, server {}", no.0, primary.0));
        }
    }
    Ok(())
}
