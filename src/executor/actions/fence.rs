//! Making a server refuse client writes, however it is blocked, and the way back.

use std::time::Duration;

use super::{
    semi_sync::{check_acks, enabling, guard_against_waiting, source_names, with_source},
    sessions::{self, Client},
};
use crate::{
    core::plan::{
        marks,
        step::{StepEnd, StepReport},
    },
    executor::batch::{GUARD_RAISES, Run, Stopped, done},
    mistake::{Mistake, planted},
    model::{facts::ServerFacts, gtid::GtidSet, server::Flavor},
};

/// `lock_wait_timeout` of a first, polite attempt, seconds: the shortest there is.
const LOCK_WAIT_S: u64 = 1;
/// Lock wait timeout exceeded.
const LOCK_WAIT_OVER: u16 = 1205;
/// Pause between two looks at sessions that are being killed.
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// Statements that switch client writes off.
fn read_only_on(flavor: Flavor, lock_wait_s: u64) -> Vec<String> {
    let switch = match flavor {
        Flavor::MySql => "SET GLOBAL super_read_only=ON",
        Flavor::MariaDb => "SET GLOBAL read_only=ON",
    };
    vec![format!("SET SESSION lock_wait_timeout={}", lock_wait_s.max(1)), switch.to_owned()]
}

fn is_fenced(facts: &ServerFacts) -> bool {
    facts.read_only && facts.super_read_only != Some(false)
}

fn fenced(facts: ServerFacts, killed: u32) -> StepEnd {
    StepEnd::Done(StepReport { facts: Some(Box::new(facts)), killed, ..StepReport::default() })
}

/// Switches client writes off, politely: gives up after `lock_wait_s` and kills nobody.
pub(super) async fn make_read_only(run: &mut Run<'_>, lock_wait_s: u64) -> Result<StepEnd, StepEnd> {
    match run.change(&read_only_on(run.flavor(), lock_wait_s)).await {
        Ok(after) if is_fenced(&after) => Ok(done(after)),
        Ok(_) => Err(run.unknown("switched on, but the server says that it is not".to_owned())),
        Err(Stopped::At(1, error)) if error.code() == Some(LOCK_WAIT_OVER) => {
            let facts = run.facts().await?;
            match is_fenced(&facts) || facts.read_only {
                true => Err(run.unknown(format!("it is read-only only in part: {error}"))),
                // The session variable is no change of the server.
                false => Err(StepEnd::Refused {
                    why: format!("running statements or commits did not end within {lock_wait_s} s: {error}"),
                }),
            }
        }
        Err(stopped) => Err(run.ended(stopped)),
    }
}

/// Switches client writes on, where it has executed all of `must_hold`. It is read for that only where its session is younger
/// than the last reading that showed it: a machine that lost its power meanwhile may have lost a part (no `sync_binlog=1`).
pub(super) async fn make_writable(run: &mut Run<'_>, must_hold: &GtidSet) -> Result<StepEnd, StepEnd> {
    if !run.has_seen_executed(must_hold) && !planted(Mistake::ShortenedCandidatePromoted) {
        let lost = must_hold.subtract(&run.facts().await?.executed);
        if !lost.is_empty() {
            return Err(
                run.refuse(format!("it lacks {lost}, which it must hold: it lost that since it was drained"))
            );
        }
    }
    // On MySQL this switches super_read_only off too (MySQL 8.4 manual, 7.1.8).
    let after = run.change_all(&["SET GLOBAL read_only=OFF".to_owned()]).await?;
    match after.writable() {
        true => Ok(done(after)),
        false => Err(run.unknown("read_only is off, but offline_mode keeps clients out".to_owned())),
    }
}

/// Fences the server. The polite attempt is one round trip: sent to a frozen server it lands when that thaws, unless
/// commits wait there.
pub(super) async fn fence(run: &mut Run<'_>) -> Result<StepEnd, StepEnd> {
    let mut statements = read_only_on(run.flavor(), LOCK_WAIT_S);
    if let Some(names) = run.profile()?.semi_source {
        statements.insert(0, guard_against_waiting(run, names));
    }
    let waiting = match run.change(&statements).await {
        Ok(after) if is_fenced(&after) => return end_clients(run, after, 0).await,
        Ok(_) => return Err(run.unknown("switched on, but the server says that it is not".to_owned())),
        Err(Stopped::At(0, error)) if error.code() == Some(GUARD_RAISES) => {
            run.note("commits were waiting for an acknowledgement");
            true
        }
        Err(Stopped::At(_, error)) if error.code() == Some(LOCK_WAIT_OVER) => {
            run.note(format!("read-only was blocked: {error}"));
            false
        }
        Err(stopped) => return Err(run.ended(stopped)),
    };
    match run.flavor() {
        Flavor::MySql => cut_off_mysql(run).await,
        // After a polite attempt the blocker may be an idle session with a table lock: nothing in the process list
        // tells, and there may be no time for a third attempt.
        Flavor::MariaDb => cut_off_mariadb(run, !waiting).await,
    }
}

/// MariaDB's `read_only` binds no account with READ ONLY ADMIN, and which accounts have it may not be read with the
/// documented grants: every client session is ended, so that whoever writes on must log in anew. MySQL's
/// `super_read_only` binds everybody.
async fn end_clients(run: &mut Run<'_>, facts: ServerFacts, mut killed: u32) -> Result<StepEnd, StepEnd> {
    if run.flavor() == Flavor::MariaDb {
        let clients = sessions::clients(run).await?;
        killed += sessions::kill(run, &sessions::ids(&clients, |client| !client.is_killed())).await?.done;
    }
    Ok(fenced(facts, killed))
}

/// MySQL: clients are cut by `offline_mode` without an OK, and only when none is left to hear one is semi-sync
/// switched off, which ends the waits (measured on 9.7: KILL alone leaves them waiting, with their lock).
async fn cut_off_mysql(run: &mut Run<'_>) -> Result<StepEnd, StepEnd> {
    run.change_all(&["SET GLOBAL offline_mode=ON".to_owned()]).await?;
    run.note("offline_mode is on until the server is rejoined or unfenced");
    let killed = see_clients_killed(run).await?;
    let mut statements = Vec::new();
    if let Some(names) = run.profile()?.semi_source {
        statements.push(format!("SET GLOBAL {}_enabled=OFF", names.source()));
    }
    statements.extend(read_only_on(Flavor::MySql, LOCK_WAIT_S));
    loop {
        match run.change(&statements).await {
            Ok(after) if is_fenced(&after) => return Ok(fenced(after, killed)),
            Ok(_) => return Err(run.unknown("switched on, but the server says that it is not".to_owned())),
            Err(Stopped::At(_, error)) if error.code() == Some(LOCK_WAIT_OVER) && !run.left().is_zero() => {}
            Err(stopped) => return Err(run.ended(stopped)),
        }
    }
}

/// MariaDB: KILL CONNECTION releases a waiting commit without an acknowledgement (KILL QUERY would send one).
async fn cut_off_mariadb(run: &mut Run<'_>, mut everybody: bool) -> Result<StepEnd, StepEnd> {
    let mut killed = 0;
    loop {
        let clients = sessions::clients(run).await?;
        let chosen = |client: &Client| !client.is_killed() && (everybody || client.is_writer());
        killed += sessions::kill(run, &sessions::ids(&clients, chosen)).await?.done;
        match run.change(&read_only_on(Flavor::MariaDb, LOCK_WAIT_S)).await {
            Ok(after) if is_fenced(&after) => return end_clients(run, after, killed).await,
            Ok(_) => return Err(run.unknown("switched on, but the server says that it is not".to_owned())),
            Err(Stopped::At(_, error)) if error.code() == Some(LOCK_WAIT_OVER) && !run.left().is_zero() => {
                everybody = true;
            }
            Err(stopped) => return Err(run.ended(stopped)),
        }
    }
}

/// Sees that every client session is gone or being killed; kills those that `offline_mode` spares. A session that
/// may not be killed is let pass while it is idle: it hears no OK, and its account is one that no fence binds.
async fn see_clients_killed(run: &mut Run<'_>) -> Result<u32, StepEnd> {
    let mut killed = 0;
    let mut not_ours: Vec<u64> = Vec::new();
    loop {
        let clients = sessions::clients(run).await?;
        let spared = |client: &Client| not_ours.contains(&client.id()) && client.is_idle();
        let alive = sessions::ids(&clients, |client| !client.is_killed() && !spared(client));
        if alive.is_empty() {
            if !not_ours.is_empty() {
                run.note(format!("{}, and were idle: connections {not_ours:?}", sessions::NOT_KILLED));
            }
            return Ok(killed);
        }
        let round = sessions::kill(run, &alive).await?;
        killed += round.done;
        not_ours.extend(round.not_ours);
        not_ours.dedup();
        if run.left() <= LOOK_AFTER {
            return Err(run.unknown(format!("{} client sessions are not seen killed", alive.len())));
        }
        tokio::time::sleep(LOOK_AFTER).await;
    }
}

/// Undoes a fence.
pub(super) async fn unfence(
    run: &mut Run<'_>,
    acks: Option<u32>,
    must_hold: &GtidSet,
) -> Result<StepEnd, StepEnd> {
    if let Some(why) = marks::unfit_to_open(&run.facts().await?, must_hold) {
        return Err(StepEnd::Refused { why });
    }
    let mut statements = Vec::new();
    if let Some(acks) = acks {
        check_acks(run, acks)?;
        let profile = with_source(run).await?;
        let names = source_names(run, &profile)?;
        // Before the first write can be acknowledged.
        statements.extend(enabling(&profile, names, acks));
    }
    statements.push("SET GLOBAL read_only=OFF".to_owned());
    if run.flavor() == Flavor::MySql {
        statements.push("SET GLOBAL offline_mode=OFF".to_owned());
    }
    let after = run.change_all(&statements).await?;
    match after.writable() {
        true => Ok(done(after)),
        false => Err(run.unknown("unfenced, but the server says that clients cannot write".to_owned())),
    }
}
