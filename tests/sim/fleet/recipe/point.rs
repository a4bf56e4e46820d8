//! `src/executor/actions/point.rs`.

use std::sync::Arc;

use quorate::{
    core::plan::{
        applied::{is_applied, start_would_lose},
        step::{SourceOptions, StepEnd},
    },
    model::{
        facts::{Channel, Receiver, ServerFacts},
        gtid::GtidSet,
        server::Flavor,
    },
};

use super::super::statement::{ChangeSource, Statement, Thread};
use super::{Run, Wire, channel, done};

/// First pause between two looks at a receiver that is connecting, milliseconds; doubles up to the second.
const LOOK_AFTER_MS: u64 = 5;
const LOOK_AFTER_MAX_MS: u64 = 100;

impl<W: Wire> Run<'_, W> {
    pub(super) async fn point(
        &mut self,
        name: &str,
        options: &SourceOptions,
        semi_sync: Option<bool>,
        wait: bool,
    ) -> Result<StepEnd, StepEnd> {
        if semi_sync == Some(true) && !self.has_semi_sync().await? {
            return Err(self.refuse("the semi-sync replica plug-in is not loaded"));
        }
        let mut facts = self.alone().await?;
        if channel(&facts, name).is_some_and(|channel| is_pointed(&facts, channel, options, semi_sync)) {
            self.note("it follows that source already");
            return Ok(done(facts));
        }
        facts = self.read_only_first(facts).await?;
        facts = self.settle_relay_log(name, facts).await?;
        let statements = self.pointing(name, &facts, options, semi_sync);
        facts = self.change_all(&statements).await?;
        if wait {
            facts = self.wait_connected(name, facts).await?;
        }
        if facts.offline_mode == Some(true) && facts.super_read_only == Some(true) {
            facts = self.change_all(&[Statement::OfflineMode(false)]).await?;
            self.note("switched offline_mode off");
        }
        Ok(done(facts))
    }

    fn pointing(
        &self,
        name: &str,
        facts: &ServerFacts,
        options: &SourceOptions,
        semi_sync: Option<bool>,
    ) -> Vec<Statement> {
        let before = channel(facts, name);
        let mysql = self.flavor() == Flavor::MySql;
        let keep_applier = mysql && before.is_some_and(|c| c.by_gtid && c.applier_running);
        let mut statements = Vec::new();
        if before.is_some() {
            let thread = if keep_applier { Thread::Receiver } else { Thread::Both };
            statements.push(Statement::Stop(name.to_owned(), thread));
        }
        statements.extend(semi_sync.filter(|_| self.slot.profile.semi_sync).map(Statement::SemiSyncReplica));
        let position = options.gtid_slave_pos.as_ref().filter(|_| !mysql);
        statements.extend(position.map(|_| Statement::GtidSlavePos(facts.executed.position().to_string())));
        let change = ChangeSource {
            source: options.source.clone(),
            heartbeat_ms: options.heartbeat_ms,
            connect_retry_s: options.connect_retry_s,
            sets_auto_position: mysql && !keep_applier,
        };
        statements.push(Statement::ChangeSource(name.to_owned(), change));
        statements.push(Statement::Start(name.to_owned(), Thread::Both));
        statements
    }

    async fn read_only_first(&mut self, facts: Arc<ServerFacts>) -> Result<Arc<ServerFacts>, StepEnd> {
        let statement = match self.flavor() {
            Flavor::MySql if facts.super_read_only != Some(true) => Statement::SuperReadOnly(true),
            Flavor::MariaDb if !facts.read_only => Statement::ReadOnly(true),
            _ => return Ok(facts),
        };
        self.change_all(&[statement]).await
    }

    async fn settle_relay_log(
        &mut self,
        name: &str,
        facts: Arc<ServerFacts>,
    ) -> Result<Arc<ServerFacts>, StepEnd> {
        let mysql = self.flavor() == Flavor::MySql;
        let Some(found) = channel(&facts, name) else { return Ok(facts) };
        let keeps = mysql && found.by_gtid && found.applier_running;
        if keeps || (found.receiver == Receiver::Stopped && is_applied(&facts, found)) {
            return Ok(facts);
        }
        if start_would_lose(self.flavor(), &facts, found) {
            return Err(self
                .refuse("both threads are stopped while relay log is not applied: MariaDB would delete it"));
        }
        let mut statements = Vec::new();
        let stopped = !found.applier_running && !is_applied(&facts, found);
        let facts = match mysql {
            false if stopped => {
                let received = found.received.clone();
                self.start_applier(name, &received).await?
            }
            true if stopped => {
                statements.push(Statement::Start(name.to_owned(), Thread::Applier));
                facts
            }
            _ => facts,
        };
        let receives = channel(&facts, name).is_some_and(|found| found.receiver != Receiver::Stopped);
        if receives {
            statements.push(Statement::Stop(name.to_owned(), Thread::Receiver));
        }
        let facts = match statements.is_empty() {
            true => facts,
            false => self.change_all(&statements).await?,
        };
        let Some(found) = channel(&facts, name) else { return Ok(facts) };
        if is_applied(&facts, found) || (mysql && found.applier_running && found.by_gtid) {
            return Ok(facts);
        }
        match self.drain(name, &GtidSet::empty(self.flavor())).await {
            Ok(StepEnd::Done(report)) => {
                report.facts.map(|facts| Arc::new(*facts)).ok_or_else(|| self.unknown("no facts"))
            }
            Ok(other) | Err(other) => {
                if receives && mysql {
                    let _ = self.change_all(&[Statement::Start(name.to_owned(), Thread::Receiver)]).await;
                }
                Err(other)
            }
        }
    }

    async fn wait_connected(
        &mut self,
        name: &str,
        mut facts: Arc<ServerFacts>,
    ) -> Result<Arc<ServerFacts>, StepEnd> {
        let mut pause = LOOK_AFTER_MS;
        loop {
            let Some(found) = channel(&facts, name) else { return Err(self.unknown("the channel is gone")) };
            let error = found.receiver_error.as_ref().map(|(code, text)| format!("{text} ({code})"));
            match found.receiver {
                Receiver::Running => return Ok(facts),
                Receiver::Stopped if error.is_some() => {
                    let why = error.unwrap_or_default();
                    return Err(self.unknown(format!("pointed, but the receiver stopped: {why}")));
                }
                _ if self.wire.left_ms() <= pause => {
                    let why = error.unwrap_or_else(|| "it is connecting".to_owned());
                    return Err(self.unknown(format!("pointed, but the receiver is not connected: {why}")));
                }
                _ => self.wire.sleep(pause).await,
            }
            pause = (pause * 2).min(LOOK_AFTER_MAX_MS);
            facts = self.facts().await?;
        }
    }
}

/// Whether nothing needs doing.
fn is_pointed(
    facts: &ServerFacts,
    channel: &Channel,
    options: &SourceOptions,
    semi_sync: Option<bool>,
) -> bool {
    let read_only = facts.read_only && facts.super_read_only != Some(false);
    channel.source == options.source
        && channel.by_gtid
        && channel.receiver == Receiver::Running
        && channel.applier_running
        && channel.heartbeat_period_ms.is_none_or(|period| period == options.heartbeat_ms)
        && read_only
        && facts.offline_mode != Some(true)
        && semi_sync.is_none_or(|on| facts.semi_sync.replica_enabled == Some(on))
        && semi_sync.is_none_or(|on| facts.semi_sync.replica_status.is_none_or(|status| status == on))
}
