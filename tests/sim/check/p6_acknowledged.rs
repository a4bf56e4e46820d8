//! P6, I12, I18: under semi-sync in force, no write that was acknowledged to a client is missing on the server that is
//! published as the primary, unless an operator accepted its loss by name. A switchover loses nothing that the old
//! primary holds, whatever the durability. And an old primary whose power failure took acknowledged writes is not opened
//! again by the recovery that saw them elsewhere. What it does to the numbers of what it lost when it goes on by itself is
//! its own doing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quorate::core::{
    plan::step::StepEnd,
    replicated::{Change, Kind, Recovery, recovery::Waiver},
};

use super::{Check, account::changed};
use crate::{
    fleet::{
        ServerNo, Statement,
        log::{Log, Payload, Txn},
    },
    trace::Event,
    world::World,
};

/// See above.
#[derive(Default)]
pub struct Acknowledged {
    /// Rows acknowledged by each server, in order.
    rows: BTreeMap<ServerNo, Vec<u64>>,
    /// What each of them was written in: its number, where its server loses it and gives that away before it acknowledges
    /// anew.
    written: BTreeMap<u64, Arc<Txn>>,
    /// Somebody made a time-out finite: what was acknowledged since is not protected, and nobody may know it yet.
    tampered: bool,
    /// A power failure may have taken a binlog's end: the same numbers then stand for other transactions elsewhere.
    renumbered: bool,
    /// Who has acknowledged something since the last power failure.
    went_on: BTreeSet<ServerNo>,
    /// Replicas that were read when their receivers were stopped, by recovery.
    read: BTreeSet<(u64, ServerNo)>,
    /// When candidates were last seen to hold what they must.
    proven: BTreeMap<ServerNo, u64>,
}

impl Check for Acknowledged {
    fn id(&self) -> &'static str {
        "P6 no acknowledged write is lost under semi-sync"
    }

    fn see(&mut self, now: u64, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::Acknowledged { server, row, .. } if !world.forgot_semi_sync(*server) => {
                self.acknowledged(*server, *row, world);
            }
            Event::Fault { what, .. } => {
                self.tampered |= what.starts_with("SemiSyncTimeout");
                if what.contains("Power") {
                    self.renumbered = true;
                    self.went_on.clear();
                }
            }
            Event::StepEnded { step, permit, end: StepEnd::Done(_), .. }
                if step.action.name() == "stop_receiver" =>
            {
                let server = world.server_at(&step.target.address);
                self.read.extend(permit.recovery.parse().ok().zip(server));
            }
            // What its machine loses behind that may be lost unseen.
            Event::StepBegan { step, .. }
                if ["make_writable", "verify_write"].contains(&step.action.name()) =>
            {
                self.proven.extend(world.server_at(&step.target.address).map(|server| (server, now)));
            }
            Event::Sent { server, permit, action: "unfence", statements, .. }
                if statements.iter().any(|statement| matches!(statement, Statement::ReadOnly(false))) =>
            {
                let recovery = permit.recovery.parse().ok();
                let recovery = recovery.and_then(|id| world.group.state.recoveries.get(&id));
                return recovery.map_or(Ok(()), |recovery| self.opened(*server, recovery, world));
            }
            _ => {}
        }
        let Some((Change::Publish { recovery }, _)) = changed(event) else { return Ok(()) };
        match world.group.state.recoveries.get(recovery) {
            Some(recovery) => self.published(recovery, world),
            None => Ok(()),
        }
    }
}

impl Acknowledged {
    /// A primary that lost its last rows and goes on by itself acknowledges anew under their numbers.
    fn acknowledged(&mut self, server: ServerNo, row: u64, world: &World) {
        let log = &world.fleet.server(server).log;
        if let Some(txn) = written_in(row, log) {
            self.written.insert(row, txn.clone());
        }
        let rows = self.rows.entry(server).or_default();
        if self.went_on.insert(server) && self.renumbered {
            rows.retain(|row| log.holds(*row));
        }
        rows.push(row);
    }

    fn is_protected(&self, recovery: &Recovery) -> bool {
        recovery.semi_sync.is_some() && !self.tampered && !recovery.waived.contains(&Waiver::Loss)
    }

    /// What it acknowledged and lost stands on a server that this recovery has read.
    fn opened(&self, old: ServerNo, recovery: &Recovery, world: &World) -> Result<(), String> {
        let log = &world.fleet.server(old).log;
        if !self.is_protected(recovery) || !world.fleet.server(old).switches.read_only {
            return Ok(());
        }
        let holders = self.read.iter().filter(|(id, _)| *id == recovery.id);
        let holders: Vec<&Log> = holders.map(|(_, no)| &world.fleet.server(*no).log).collect();
        // One that had been writable by itself has given the number away: nothing of what is missing shows.
        let shows = |row: u64, holder: &&Log| holder.holds(row) && !stands_for_another(row, holder, log);
        let lost = |row: &&u64| !log.holds(**row) && holders.iter().any(|holder| shows(**row, holder));
        let what = || format!("server {} is opened by recovery {}", old.0, recovery.id);
        self.without(old, lost, what)
    }

    /// Nothing that `old` acknowledged is lost by what was done.
    fn without(
        &self,
        old: ServerNo,
        lost: impl Fn(&&u64) -> bool,
        what: impl FnOnce() -> String,
    ) -> Result<(), String> {
        let lost: Vec<u64> = self.rows.get(&old).into_iter().flatten().filter(lost).copied().collect();
        let (number, first) = (lost.len(), &lost[..lost.len().min(5)]);
        match number {
            0 => Ok(()),
            _ => Err(format!("{} without {number} acknowledged rows of server {}: {first:?}", what(), old.0)),
        }
    }

    fn published(&self, recovery: &Recovery, world: &World) -> Result<(), String> {
        let Some(decision) = &recovery.decision else { return Ok(()) };
        let switchover = recovery.kind == Kind::Switchover;
        if !switchover && !self.is_protected(recovery) {
            return Ok(());
        }
        let (Some(old), Some(new)) =
            (world.server_at(&recovery.old_primary.address), world.server_at(&decision.candidate.address))
        else {
            return Ok(());
        };
        if [old, new].iter().any(|server| world.strangers.since(*server).is_some()) {
            // Another has come to that address since it was read (P11).
            return Ok(());
        }
        let failed = self.proven.get(&new).zip(world.fleet.server(new).power_failed_ms);
        if failed.is_some_and(|(proven, failed)| failed >= *proven) {
            // Behind the proof, on the way to the publication: docs/safety.md says so.
            return Ok(());
        }
        let (here, there) = (&world.fleet.server(old).log, &world.fleet.server(new).log);
        let stands_for_another =
            |row: u64| self.written.get(&row).is_some_and(|txn| there.executed_as_read().contains(&txn.gtid));
        let excused = |row| self.renumbered && stands_for_another(row);
        let asked = |row| !switchover || here.holds(row);
        let lost = |row: &&u64| !there.holds(**row) && asked(**row) && !excused(**row);
        self.without(old, lost, || format!("server {} is published", new.0))
    }
}

/// Whether the number under which a row was written here is that of another transaction there, which came first; or waits there
/// for its acknowledgement.
fn stands_for_another(row: u64, here: &Log, there: &Log) -> bool {
    written_in(row, here).is_some_and(|txn| {
        let given = there.entries().iter().rev().any(|entry| entry.txn.gtid == txn.gtid);
        given || there.executed_as_read().contains(&txn.gtid)
    })
}

/// The transaction by which a row came into this log.
fn written_in(row: u64, log: &Log) -> Option<&Arc<Txn>> {
    let is_it = |payload: &Payload| matches!(payload, Payload::Rows(rows) if rows.contains(&row));
    log.entries().iter().rev().map(|entry| &entry.txn).find(|txn| is_it(&txn.payload))
}
