//! The primary dies while something is the matter with its replicas: who is promoted, and who must not be.

use crate::{flavor::Flavor, record::Outcome, rig_error::rig_failure, server::Server, stage::Stage, wait};
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENT: Duration = Duration::from_secs(30);
/// How long appliers are held up before and after the death.
const BEHIND: Duration = Duration::from_secs(4);

/// The primary dies now.
async fn die(stage: &mut Stage<'_>) -> Result<Instant> {
    let since = stage.mark_fault();
    stage.primary().kill().await?;
    stage.fault_is_in_place();
    Ok(since)
}

/// It is no candidate, though people prefer it; the group knows.
async fn prefer(stage: &Stage<'_>, server: &Server) -> Result<()> {
    stage.group.json(&["promotion-rule", &server.address(), "prefer"]).await.map(drop)
}

fn must_not_lead(stage: &mut Stage<'_>, number: usize, why: &str) {
    if stage.record.outcome == Outcome::Recovered && stage.primary == number {
        stage.record.violations.push(format!("server {number} was promoted although {why}"));
    }
}

/// D1: every replica has received all and applied nothing for a while. Nobody takes writes before it has caught up.
pub async fn all_behind(stage: &mut Stage<'_>) -> Result<()> {
    let replicas = stage.topology.others(1);
    let mut locks = Vec::new();
    for replica in &replicas {
        locks.push(hold_applier(replica).await?);
    }
    tokio::time::sleep(BEHIND).await;
    let since = die(stage).await?;
    stage.await_nothing(BEHIND).await?;
    for mut lock in locks {
        lock.exec("UNLOCK TABLES").await?;
    }
    stage.await_recovery(&[1], since).await
}

/// D2: the preferred candidate's applier was stopped by a person.
pub async fn applier_stopped(stage: &mut Stage<'_>) -> Result<()> {
    let replica = stage.topology.server(2);
    prefer(stage, &replica).await?;
    replica.admin(&[stage.topology.flavor.stop_applier()]).await?;
    wait_status(&replica, "an applier that stands", |status| status.applier == "No").await?;
    let since = die(stage).await?;
    stage.await_recovery(&[1, 2], since).await
}

/// D3: some have applied all they received and received less; one has received all and applied less. It must lead.
pub async fn received_ahead(stage: &mut Stage<'_>) -> Result<()> {
    let complete = stage.topology.server(3);
    let mut lock = hold_applier(&complete).await?;
    for replica in stage.topology.others(1).iter().filter(|replica| replica.number != 3) {
        replica.admin(&[stage.topology.flavor.stop_receiver()]).await?;
        wait_status(replica, "a receiver that stands", |status| status.receiver == "No").await?;
    }
    let seen = stage.client().count();
    wait::until("writes that one replica receives", PATIENT, async || {
        (stage.client().count() > seen + 100).then_some(())
    })
    .await?;
    let since = die(stage).await?;
    stage.await_nothing(Duration::from_secs(2)).await?;
    lock.exec("UNLOCK TABLES").await?;
    stage.await_recovery(&[1], since).await?;
    let leads = stage.primary;
    if stage.record.outcome == Outcome::Recovered && leads != 3 {
        stage.record.violations.push(format!("server {leads} was promoted, server 3 had received more"));
    }
    Ok(())
}

/// D4: the preferred candidate holds a transaction that nobody else has.
pub async fn errant_candidate(stage: &mut Stage<'_>) -> Result<()> {
    let replica = stage.topology.server(2);
    prefer(stage, &replica).await?;
    replica.admin(stage.topology.flavor.write_errant()).await?;
    let there = "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'errant'";
    wait_value(&replica, there, "1").await?;
    let since = die(stage).await?;
    stage.await_recovery(&[1, 2], since).await?;
    must_not_lead(stage, 2, "it held an errant transaction");
    Ok(())
}

/// D5: semi-sync gave up waiting a moment before: what it then acknowledged is on nobody else.
pub async fn degraded_semi_sync(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    let flavor = stage.topology.flavor;
    primary.admin(&[flavor.semi_sync_gives_up_fast()]).await?;
    for replica in stage.topology.others(1) {
        replica.admin(&[flavor.stop_receiver()]).await?;
    }
    let what = "the primary to go on without semi-sync";
    let mut db = primary.root(PATIENT);
    wait::every(Duration::from_millis(50), what, PATIENT, async || {
        let rows = db.named(flavor.semi_sync_status()).await.ok()?;
        (rows.first()?.get("Value")?.as_deref()? == "OFF").then_some(())
    })
    .await
    .map_err(|error| rig_failure(format!("{error:#}")))?;
    let (seen, now) = (stage.client().count(), Instant::now());
    wait::until("writes that nobody else has", PATIENT, async || {
        (stage.client().count() > seen + 20).then_some(())
    })
    .await?;
    stage.say(format!("unprotected for {} ms", now.elapsed().as_millis()));
    // From here on the asynchronous rules hold.
    stage.semi_sync = false;
    let since = die(stage).await?;
    stage.await_recovery(&[1], since).await
}

/// D12: an acker is killed and started again. A machine that lost power in between would have lost what it received and had
/// not synced: until it was seen caught up nobody is promoted on its word, unless a person waives that.
pub async fn acker_restarts(stage: &mut Stage<'_>) -> Result<()> {
    let (primary, acker) = (stage.primary(), stage.topology.server(3));
    let address = primary.address();
    if stage.record.variant == "and is caught up" {
        restart(stage, &acker).await?;
        stage.group.wait_ackers_known(&address).await?;
        let since = die(stage).await?;
        return stage.await_recovery(&[1], since).await;
    }
    let since = die(stage).await?;
    // Its log is whole: only a loss of power would have taken what it had not synced. The group cannot tell these apart.
    restart(stage, &acker).await?;
    let refused = wait::every(
        Duration::from_millis(100),
        "the group to say why it promotes nobody",
        PATIENT,
        async || {
            let recoveries = stage.group.recoveries().await.ok()?;
            let told = recoveries.into_iter().find(|r| r.reason.contains("since it was started"))?;
            (told.state == "cancelled").then_some(told.reason)
        },
    )
    .await;
    match refused {
        Ok(why) => stage.say(why),
        Err(error) => stage.record.violations.push(format!("{error:#}")),
    }
    if let Some(change) = stage.watch().first_writable_elsewhere(primary.number, since) {
        stage
            .record
            .violations
            .push(format!("server {} was promoted on an unknown acker's word", change.server));
    }
    // What is still being undone, or waits, is refused; a person tries again.
    let by_force = ["failover", address.as_str(), "--waive", "loss"];
    wait::every(Duration::from_millis(500), "the failover by force", PATIENT, async || {
        (stage.group.verb(&by_force).await.ok()?.0 == 0).then_some(())
    })
    .await?;
    stage.await_recovery(&[1], since).await
}

/// A replica is killed, and started again by its supervisor.
async fn restart(stage: &Stage<'_>, server: &Server) -> Result<()> {
    server.kill().await?;
    server.launch_read_only(stage.run_dir)?;
    server.wait_answer().await
}

/// D6: a source in the middle dies with the primary.
pub async fn intermediate_too(stage: &mut Stage<'_>) -> Result<()> {
    let middle = stage.topology.server(2);
    let since = stage.mark_fault();
    let primary = stage.primary();
    primary.signal(Signal::KILL)?;
    middle.kill().await?;
    primary.kill().await.ok();
    stage.fault_is_in_place();
    // Its replicas are no candidates: whether they are re-pointed is theirs.
    let below: Vec<usize> = stage.topology.servers.iter().skip(4).map(|server| server.number).collect();
    let gone: Vec<usize> = [1, 2].into_iter().chain(below).collect();
    stage.await_recovery(&gone, since).await
}

/// D7: most replicas are dead when the primary dies.
pub async fn most_replicas_dead(stage: &mut Stage<'_>) -> Result<()> {
    for number in [2, 3] {
        stage.topology.server(number).kill().await?;
    }
    // Known to be dead, and nothing of it is new, when the primary follows.
    stage.await_nothing(Duration::from_secs(3)).await?;
    let since = die(stage).await?;
    stage.await_recovery(&[1, 2, 3], since).await
}

/// D9: A dies and B takes over; A is back and B dies; A takes over again. Clients rest where a write would make the one that
/// is back hold what the other lacks.
pub async fn there_and_back(stage: &mut Stage<'_>) -> Result<()> {
    let first = stage.topology.server(1);
    stage.client().rest(true);
    stage.topology.wait_equal(&first, &stage.topology.others(1), PATIENT).await?;
    let since = die(stage).await?;
    stage.client().rest(false);
    stage.await_recovery(&[1], since).await?;
    if stage.record.outcome != Outcome::Recovered {
        return Ok(());
    }
    let second = stage.primary();
    stage.client().rest(true);
    first.launch(stage.run_dir)?;
    first.wait_answer().await?;
    stage.topology.wait_follows(&first, &second, PATIENT).await?;
    stage.topology.wait_equal(&second, std::slice::from_ref(&first), PATIENT).await?;
    stage.group.wait_settled(&second.address(), stage.topology.servers.len()).await?;
    stage.group.json(&["ack", "--cluster", &first.address(), "--comment", "seen by the rig"]).await?;
    let since = Instant::now();
    second.kill().await?;
    stage.client().rest(false);
    stage.await_recovery(&[second.number], since).await
}

/// D10: the preferred candidate stands still in the moment of the death: its receiver cannot be stopped. Somebody else
/// leads; it follows when it goes on, or the record names it as left behind.
pub async fn stop_hangs(stage: &mut Stage<'_>) -> Result<()> {
    let stuck = stage.topology.server(2);
    prefer(stage, &stuck).await?;
    let primary = stage.primary();
    let since = stage.mark_fault();
    stuck.signal(Signal::STOP)?;
    primary.kill().await?;
    stuck.process().context("no process")?.wait_stopped().await?;
    stage.fault_is_in_place();
    stage.await_recovery(&[1, 2], since).await?;
    stuck.signal(Signal::CONT)?;
    if stage.record.outcome == Outcome::Recovered {
        followed_or_named(stage, &stuck).await?;
    }
    Ok(())
}

/// D10: the preferred candidate cannot apply what it received, and policy takes the next one then.
pub async fn drain_hangs(stage: &mut Stage<'_>) -> Result<()> {
    stage.group.json(&["policy", "set", "drain_policy=next_candidate", "drain_deadline_ms=2000"]).await?;
    let stuck = stage.topology.server(2);
    prefer(stage, &stuck).await?;
    let mut lock = hold_applier(&stuck).await?;
    let seen = stage.client().count();
    wait::until("writes that it receives", PATIENT, async || {
        (stage.client().count() > seen + 100).then_some(())
    })
    .await?;
    let since = die(stage).await?;
    stage.await_recovery(&[1, 2], since).await?;
    must_not_lead(stage, 2, "it could not apply what it received");
    lock.exec("UNLOCK TABLES").await?;
    Ok(())
}

/// D13: the preferred candidate filters what it replicates.
pub async fn filtered_candidate(stage: &mut Stage<'_>) -> Result<()> {
    let replica = stage.topology.server(2);
    prefer(stage, &replica).await?;
    replica.admin(stage.topology.flavor.filter_a_table()).await?;
    wait_status(&replica, "a replica that runs with its filter", |status| status.is_running()).await?;
    let since = die(stage).await?;
    stage.await_recovery(&[1], since).await?;
    must_not_lead(stage, 2, "it has replication filters");
    Ok(())
}

/// N16: behind a replica's address stands another server, empty and read-only.
pub async fn another_server(stage: &mut Stage<'_>) -> Result<()> {
    let replica = stage.topology.server(2);
    prefer(stage, &replica).await?;
    replica.kill().await?;
    replica.replace(stage.run_dir).await?;
    let since = die(stage).await?;
    stage.await_recovery(&[1, 2], since).await?;
    must_not_lead(stage, 2, "it is another server");
    if replica.is_read_only().await != Some(true) {
        stage.record.violations.push("the other server takes writes".into());
    }
    if replica.replica_status().await.is_some() {
        stage.record.violations.push("the other server was made a replica".into());
    }
    Ok(())
}

/// A server that could not be pointed at the new primary in time is one that a person must be told of.
async fn followed_or_named(stage: &mut Stage<'_>, server: &Server) -> Result<()> {
    let recoveries = stage.group.recoveries().await?;
    if recoveries.iter().any(|recovery| recovery.left_behind.contains(&server.address())) {
        stage.record.reason = format!("{server} was left behind, and is named");
        return Ok(());
    }
    stage.topology.wait_follows(server, &stage.primary(), PATIENT).await
}

/// Its applier waits behind a table lock until the connection is told otherwise.
async fn hold_applier(replica: &Arc<Server>) -> Result<crate::sql::Db> {
    let mut db = replica.root(PATIENT);
    db.exec("LOCK TABLES app.writes READ").await.with_context(|| replica.to_string())?;
    Ok(db)
}

async fn wait_status(
    replica: &Server,
    what: &str,
    fact: impl Fn(&crate::sql::dialect::ReplicaStatus) -> bool,
) -> Result<()> {
    wait::every(Duration::from_millis(50), what, PATIENT, async || {
        replica.replica_status().await.filter(|status| fact(status)).map(drop)
    })
    .await
    .map_err(|error| rig_failure(format!("{error:#}")))
}

async fn wait_value(replica: &Server, sql: &str, wanted: &str) -> Result<()> {
    let mut db = replica.root(PATIENT);
    wait::until(sql, PATIENT, async || {
        let value = db.value(sql).await.ok()??;
        (value == wanted).then_some(())
    })
    .await
    .map_err(|error| rig_failure(format!("{error:#}")))
}

impl Flavor {
    fn stop_applier(self) -> &'static str {
        match self {
            Flavor::Mysql => "STOP REPLICA SQL_THREAD",
            Flavor::Mariadb => "STOP SLAVE SQL_THREAD",
        }
    }

    /// What no source ever sent. MariaDB: in a domain of its own, else the next event of the source would be out of
    /// order there.
    fn write_errant(self) -> &'static [&'static str] {
        match self {
            Flavor::Mysql => {
                &["SET GLOBAL super_read_only=OFF", "CREATE DATABASE errant", "SET GLOBAL super_read_only=ON"]
            }
            Flavor::Mariadb => &["SET SESSION gtid_domain_id=9", "CREATE DATABASE errant"],
        }
    }

    fn semi_sync_gives_up_fast(self) -> &'static str {
        match self {
            Flavor::Mysql => "SET GLOBAL rpl_semi_sync_source_timeout=50",
            Flavor::Mariadb => "SET GLOBAL rpl_semi_sync_master_timeout=50",
        }
    }

    fn semi_sync_status(self) -> &'static str {
        match self {
            Flavor::Mysql => "SHOW STATUS LIKE 'Rpl_semi_sync_source_status'",
            Flavor::Mariadb => "SHOW STATUS LIKE 'Rpl_semi_sync_master_status'",
        }
    }

    fn filter_a_table(self) -> &'static [&'static str] {
        match self {
            Flavor::Mysql => &[
                "STOP REPLICA SQL_THREAD",
                "CHANGE REPLICATION FILTER REPLICATE_IGNORE_TABLE=(app.elsewhere)",
                "START REPLICA SQL_THREAD",
            ],
            Flavor::Mariadb => {
                &["STOP SLAVE", "SET GLOBAL replicate_ignore_table='app.elsewhere'", "START SLAVE"]
            }
        }
    }
}
