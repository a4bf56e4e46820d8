//! Each action of the executor on real servers of both flavours: facts and orders, never durations.

#![allow(clippy::unwrap_used)] // a test that cannot go on says so

#[path = "../live/mod.rs"]
mod live;

use std::time::Duration;

use live::{Install, PATIENCE, Server, account, one_at_a_time, replication};
use quorate::{
    core::plan::step::{Action, Step, StepEnd, StepReport, Target},
    executor::{Executor, ExecutorOptions, Permit},
    model::{facts::Receiver, gtid::GtidSet, server::Flavor},
};
use tokio::time::Instant;

/// Makes a test of each scenario for each flavour.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { crate::scenario(crate::Flavor::MySql, super::$name).await })*
        }
        mod mariadb {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { crate::scenario(crate::Flavor::MariaDb, super::$name).await })*
        }
    };
}

mod bounds;
mod fence;
mod point;
mod relay_log;
mod sessions;

async fn scenario<F: Future<Output = ()>>(flavor: Flavor, run: impl FnOnce(Install) -> F) {
    let Some(install) = Install::find(flavor) else { return };
    let _turn = one_at_a_time().await;
    run(install).await;
}

fn executor(node: u64) -> Executor {
    Executor::new(ExecutorOptions {
        group: "live".into(),
        node,
        account: account(),
        replication: replication(),
        // Of the others it has not heard yet.
        nodes: vec![1],
    })
}

fn permit() -> Permit {
    Permit::new("r1", 7, 1, Instant::now(), 4 * PATIENCE)
}

/// As a leader does: a session first, and then the permit.
async fn run_within(executor: &Executor, step: &Step, deadline: Duration) -> StepEnd {
    match executor.open(&step.target, deadline).await {
        Ok(_) => executor.run(&permit(), step, deadline).await,
        Err(why) => StepEnd::Refused { why },
    }
}

/// Since when there is a session.
async fn since(executor: &Executor, target: &Target) -> Instant {
    executor.open(target, PATIENCE).await.expect("a session")
}

async fn run(executor: &Executor, target: &Target, action: Action) -> StepEnd {
    let step = Step { target: target.clone(), action };
    let end = run_within(executor, &step, PATIENCE).await;
    assert!(!format!("{end:?} {end}").contains("canary"), "a secret in the end of a step");
    end
}

#[track_caller]
fn done(end: StepEnd) -> StepReport {
    match end {
        StepEnd::Done(report) => report,
        other => panic!("{other}"),
    }
}

async fn pair(install: &Install) -> (Server, Server) {
    let primary = Server::start(install, 1, &[]).await;
    let replica = Server::start(install, 2, &[]).await;
    replica.follow(&primary).await;
    (primary, replica)
}

/// Of a server that lost nothing.
fn make_writable(flavor: Flavor) -> Action {
    Action::MakeWritable { must_hold: GtidSet::empty(flavor) }
}

/// Of a server that lost nothing.
fn unfence(flavor: Flavor, semi_sync_acks: Option<u32>) -> Action {
    Action::Unfence { semi_sync_acks, must_hold: GtidSet::empty(flavor) }
}

fn channel() -> String {
    String::new()
}

on_both! {
    a_replica_is_revoked_drained_detached_and_made_writable,
}

async fn a_replica_is_revoked_drained_detached_and_made_writable(install: Install) {
    let (mut primary, replica) = pair(&install).await;
    let executor = executor(1);
    let target = replica.target().await;
    executor.prepare(&target);
    primary.sql("INSERT INTO app.t (v) VALUES (1),(2),(3)").await;
    let goal = primary.facts().await.executed;
    replica.until("the rows arrive", "SELECT COUNT(*) FROM app.t", |n| n == Some("3")).await;
    primary.kill();

    for again in [false, true] {
        let report = done(run(&executor, &target, Action::StopReceiver { channel: channel() }).await);
        let facts = report.facts.expect("facts");
        assert_eq!(facts.channels[0].receiver, Receiver::Stopped, "{again}");
        assert!(facts.in_hand().contains(&goal));
    }
    for _ in 0..2 {
        let report =
            done(run(&executor, &target, Action::Drain { channel: channel(), until: goal.clone() }).await);
        assert!(report.facts.expect("facts").executed.contains(&goal));
    }
    for _ in 0..2 {
        let report =
            done(run(&executor, &target, Action::Detach { channel: channel(), until: goal.clone() }).await);
        assert!(report.facts.expect("facts").channels.is_empty());
    }
    for _ in 0..2 {
        let report = done(run(&executor, &target, make_writable(install.flavor)).await);
        assert!(report.facts.expect("facts").writable());
    }
    for epoch in [2, 2] {
        done(run(&executor, &target, Action::VerifyWrite { recovery: "r1".into(), epoch }).await);
    }
    // The old one comes back and is pointed at the new one.
    primary.boot().await;
    let old = primary.target().await;
    for _ in 0..2 {
        let mut options = replica.as_source();
        if install.flavor == Flavor::MariaDb {
            options.gtid_slave_pos = Some(goal.to_string());
        }
        let point = Action::Point { channel: channel(), options, semi_sync_replica: Some(true), wait: true };
        let report = done(run(&executor, &old, point).await);
        let facts = report.facts.expect("facts");
        assert!(facts.read_only && facts.channels[0].receiver == Receiver::Running);
    }
    primary
        .until("the proof arrives", "SELECT COUNT(*) FROM quorate.verified_write", |n| n == Some("1"))
        .await;
    for _ in 0..2 {
        let report = done(run(&executor, &target, Action::Fence).await);
        assert!(!report.facts.expect("facts").writable());
    }
    for _ in 0..2 {
        let report = done(run(&executor, &target, unfence(install.flavor, None)).await);
        assert!(report.facts.expect("facts").writable());
    }
    let _ = Duration::ZERO;
}
