//! A primary that is slow, full, held up or just back is no dead one: nothing may happen (P12).

use super::{sent, undisturbed::write_on};
use crate::{
    process::Proc,
    rig_error::rig_failure,
    sql::{Db, QUORATE, SqlError},
    stage::Stage,
    wait,
};
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long nothing must happen.
const WATCHED: Duration = Duration::from_secs(8);
/// A starved process sleeps so long ...
const ASLEEP: Duration = Duration::from_millis(150);
/// ... and then runs so long.
const AWAKE: Duration = Duration::from_millis(20);
/// More connections than any server of the rig takes.
const CONNECTIONS: usize = 400;

/// M3: stopped for less than a primary may be silent, then alive again.
pub async fn short_freeze(stage: &mut Stage<'_>) -> Result<()> {
    let during = if stage.record.variant == "0.5 s" { 500 } else { 1_000 };
    let primary = stage.primary();
    stage.mark_fault();
    primary.signal(Signal::STOP)?;
    let stopped = tokio::time::Instant::now();
    primary.process().context("no process")?.wait_stopped().await?;
    tokio::time::sleep_until(stopped + Duration::from_millis(during)).await;
    primary.signal(Signal::CONT)?;
    stage.fault_is_in_place();
    stage.await_nothing(Duration::from_secs(4)).await?;
    sent::accuse(stage)
}

/// M5: it dies and is back before its death was confirmed.
pub async fn restarts_in_time(stage: &mut Stage<'_>) -> Result<()> {
    stage.group.json(&["policy", "set", "hard_confirm_for_ms=20000", "soft_confirm_for_ms=20000"]).await?;
    let primary = stage.primary();
    stage.mark_fault();
    primary.kill().await?;
    stage.fault_is_in_place();
    primary.launch(stage.run_dir)?;
    primary.wait_answer().await?;
    stage.await_nothing(WATCHED).await?;
    write_on(stage).await?;
    sent::accuse(stage)
}

/// M6: no connection is left on the primary, and the nodes may have lost theirs.
pub async fn no_connections_left(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.primary();
    let mut admin = primary.root(Duration::from_secs(5));
    admin.exec("SELECT 1").await?;
    stage.mark_fault();
    let mut held = Vec::new();
    occupy(stage, &mut held).await?;
    if stage.record.variant == "the nodes' sessions ended" {
        let user = QUORATE.user;
        let of_nodes = format!("SELECT id FROM information_schema.processlist WHERE user='{user}'");
        for id in admin.column(&of_nodes).await? {
            // It may have ended by itself.
            let _ = admin.exec(&format!("KILL CONNECTION {id}")).await;
        }
        occupy(stage, &mut held).await?;
    }
    stage.fault_is_in_place();
    stage.await_nothing(WATCHED).await?;
    drop(held);
    write_on(stage).await?;
    sent::accuse(stage)
}

/// Takes connections until there are none.
async fn occupy(stage: &Stage<'_>, held: &mut Vec<Db>) -> Result<()> {
    for _ in 0..CONNECTIONS {
        let mut db = stage.primary().app(Duration::from_secs(5));
        match db.exec("SELECT 1").await {
            Ok(()) => held.push(db),
            Err(SqlError::Server { code: 1040, .. }) => return Ok(()),
            Err(error) => return Err(rig_failure(format!("taking a connection: {error}"))),
        }
    }
    Err(rig_failure("the primary takes connections without end"))
}

/// M7: a global read lock: nobody commits.
pub async fn global_lock(stage: &mut Stage<'_>) -> Result<()> {
    let mut admin = stage.primary().root(Duration::from_secs(30));
    stage.mark_fault();
    admin.exec("FLUSH TABLES WITH READ LOCK").await?;
    wait::until("the clients to be held up", Duration::from_secs(10), async || {
        stage.client().is_searching().then_some(())
    })
    .await
    .map_err(|error| rig_failure(format!("{error:#}")))?;
    stage.fault_is_in_place();
    stage.await_nothing(WATCHED).await?;
    admin.exec("UNLOCK TABLES").await?;
    write_on(stage).await?;
    sent::accuse(stage)
}

/// M8: the primary gets an eighth of its time.
pub async fn starved_primary(stage: &mut Stage<'_>) -> Result<()> {
    let process = stage.primary().process().context("no process")?;
    stage.mark_fault();
    let starved = Starved::begin(process);
    stage.await_nothing(WATCHED).await?;
    starved.end(stage).await?;
    write_on(stage).await?;
    sent::accuse(stage)
}

/// M8: the leader does; then the primary dies, and is replaced.
pub async fn starved_leader(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.group.node(stage.group.leader().await?);
    let starved = Starved::begin(leader.process().context("no process")?);
    stage.mark_fault();
    stage.await_nothing(Duration::from_secs(4)).await?;
    write_on(stage).await?;
    sent::accuse(stage)?;
    let since = stage.mark_fault();
    stage.primary().kill().await?;
    stage.await_recovery(&[1], since).await?;
    starved.end(stage).await?;
    stage.group.wait_ready().await
}

/// A process that is stopped most of the time, as a machine without processor time would have it.
struct Starved {
    process: Arc<Proc>,
    stop: Arc<AtomicBool>,
    naps: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Starved {
    fn begin(process: Arc<Proc>) -> Starved {
        let (stop, naps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn(nap(process.clone(), stop.clone(), naps.clone()));
        Starved { process, stop, naps, task }
    }

    /// It runs freely again; the fault was none unless it was seen asleep.
    async fn end(self, stage: &mut Stage<'_>) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.task.await;
        self.process.signal(Signal::CONT)?;
        let naps = self.naps.load(Ordering::Relaxed);
        stage.say(format!("seen asleep {naps} times"));
        if naps > 0 {
            stage.fault_is_in_place();
        }
        Ok(())
    }
}

async fn nap(process: Arc<Proc>, stop: Arc<AtomicBool>, naps: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) && process.signal(Signal::STOP).is_ok() {
        tokio::time::sleep(ASLEEP).await;
        naps.fetch_add(usize::from(process.state() == Some('T')), Ordering::Relaxed);
        if process.signal(Signal::CONT).is_err() {
            return;
        }
        tokio::time::sleep(AWAKE).await;
    }
}
