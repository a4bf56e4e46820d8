//! Is the simulated fleet like the servers? Scripts of statements and faults are played on it and on both real
//! flavours, and what was seen is compared line by line. Without real servers only the simulated half is played.
//!
//! `QUORATE_SCRIPT=part of a name` plays those scripts alone.

#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod alone;
#[path = "../sim/fleet/mod.rs"]
mod fleet;
mod line;
#[path = "../live/mod.rs"]
mod live;
mod on_live;
mod on_sim;
mod scripts;
mod seen;
mod sql;

use std::collections::BTreeMap;

use line::{Deed, Fact, Script};
use live::Install;
use quorate::{
    core::plan::step::{Action, SourceOptions},
    model::{facts::ServerFacts, gtid::GtidSet, server::Flavor},
};

/// Whether a fact that is read off facts is so; `other` is what the other server has executed.
fn is_so(facts: &ServerFacts, fact: &Fact, other: Option<&GtidSet>) -> bool {
    let channel = facts.channels.first();
    match fact {
        Fact::HasApplied(_) => other.is_some_and(|other| facts.executed.contains(other)),
        Fact::HasReceived(_) => other.is_some_and(|other| facts.in_hand().contains(other)),
        Fact::Receiver(state) => channel.is_some_and(|channel| channel.receiver == *state),
        Fact::ReceiverFailed => channel.is_some_and(|channel| channel.receiver_error.is_some()),
        Fact::ReceiverError(code) => {
            channel.is_some_and(|c| c.receiver_error.as_ref().is_some_and(|(seen, _)| seen == code))
        }
        Fact::ApplierStopped => channel.is_some_and(|channel| !channel.applier_running),
        Fact::Ackers(n) => facts.semi_sync.source_clients == Some(*n),
        Fact::ReadOnly => facts.read_only,
        Fact::Heartbeat => channel.is_some_and(|channel| channel.heartbeats > Some(0)),
        Fact::SemiSync(on) => facts.semi_sync.source_status == Some(*on),
        Fact::CommitsWait | Fact::Busy(_) => unreachable!("not read off facts"),
    }
}

/// The action behind a deed.
fn action(
    flavor: Flavor,
    deed: &Deed,
    source: impl Fn(usize) -> SourceOptions,
    executed: &BTreeMap<usize, GtidSet>,
) -> Action {
    let channel = String::new();
    let of = |server: &Option<usize>| {
        let known = server.and_then(|server| executed.get(&server).cloned());
        known.unwrap_or_else(|| GtidSet::empty(flavor))
    };
    match deed {
        Deed::StopReceiver => Action::StopReceiver { channel },
        Deed::StartReceiver => Action::StartReceiver { channel },
        Deed::RestartReceiver => Action::RestartReceiver { channel },
        Deed::ReadFacts | Deed::ReadFactsOf(_) => Action::ReadFacts,
        Deed::Fence => Action::Fence,
        Deed::Unfence(acks) => Action::Unfence { semi_sync_acks: *acks, must_hold: of(&None) },
        Deed::Drain(server) => Action::Drain { channel, until: of(server) },
        Deed::Detach(server) => Action::Detach { channel, until: of(server) },
        Deed::Point(to, semi_sync_replica, wait, position) => {
            let mut options = source(*to);
            if *position && flavor == Flavor::MariaDb {
                options.gtid_slave_pos = Some(of(&Some(*to)).position().to_string());
            }
            Action::Point { channel, options, semi_sync_replica: *semi_sync_replica, wait: *wait }
        }
        Deed::EnableSemiSync(acks) => Action::EnableSemiSyncSource { acks: *acks },
        Deed::DisableSemiSync => Action::DisableSemiSyncSource,
        Deed::MakeWritable => Action::MakeWritable { must_hold: of(&None) },
        Deed::MakeReadOnly(lock_wait_s) => Action::MakeReadOnly { lock_wait_s: *lock_wait_s },
        Deed::VerifyWrite(epoch) => Action::VerifyWrite { recovery: "r1".into(), epoch: *epoch },
        Deed::ListBlockers(older_than_ms) => Action::ListBlockers { older_than_ms: *older_than_ms },
        Deed::KillWriters => Action::KillWriters,
        Deed::KillPredecessors => Action::KillPredecessors,
    }
}

/// The first lines in which two plays differ.
fn difference(simulated: &[String], real: &[String]) -> Option<String> {
    let rows = simulated.len().max(real.len());
    let line = |play: &[String], at: usize| play.get(at).cloned().unwrap_or_else(|| "(nothing)".to_owned());
    let differ = |at: &usize| simulated.get(*at) != real.get(*at);
    let told = |at: usize| format!("  simulated: {}\n  real:      {}", line(simulated, at), line(real, at));
    let all: Vec<String> = (0..rows).filter(differ).map(told).take(3).collect();
    (!all.is_empty()).then(|| all.join("\n"))
}

/// Plays all scripts of one flavour; in words, those that differ.
async fn compare(flavor: Flavor) -> Option<String> {
    let wished = std::env::var("QUORATE_SCRIPT").unwrap_or_default();
    let chosen: Vec<Script> = scripts::all()
        .into_iter()
        .filter(|script| script.flavors.contains(&flavor) && script.name.contains(&wished))
        .collect();
    let simulated: Vec<Vec<String>> = chosen.iter().map(|script| on_sim::play(script, flavor)).collect();
    let install = Install::find(flavor)?;
    let mut stage = on_live::Stage::start(&install).await;
    let mut wrong = Vec::new();
    for (script, simulated) in chosen.iter().zip(&simulated) {
        let began = std::time::Instant::now();
        let real = stage.play(script).await;
        eprintln!("{flavor}: {} ({} ms)", script.name, began.elapsed().as_millis());
        if let Some(difference) = difference(simulated, &real) {
            wrong.push(format!("{}:\n{difference}", script.name));
        }
    }
    let all = chosen.len();
    (!wrong.is_empty())
        .then(|| format!("{flavor}: {} of {all} scripts differ:\n{}", wrong.len(), wrong.join("\n")))
}

/// Both flavours side by side: most of the time is waiting.
#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_servers_are_like_the_real_ones() {
    let (mysql, mariadb) = tokio::join!(compare(Flavor::MySql), compare(Flavor::MariaDb));
    let wrong: Vec<String> = mysql.into_iter().chain(mariadb).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
