//! What was received is never lost by a step of ours.

use mysql_async::prelude::Queryable;

use super::*;
use quorate::model::{facts::ServerFacts, gtid::GtidSet};

on_both! {
    the_sets_are_read_after_the_stop,
    a_witness_is_restarted_and_loses_nothing,
    no_receiver_is_restarted_beside_a_stopped_applier,
    received_transactions_survive_revocation_with_a_stopped_applier,
    a_detach_refuses_while_relay_log_is_not_applied,
    a_stopped_pair_of_threads_is_not_started_over_unapplied_relay_log,
    a_drain_ends_unknown_in_time_and_refused_by_an_error,
    pointing_elsewhere_applies_what_was_received_first,
    pointing_elsewhere_keeps_what_a_slow_applier_has_before_it,
    pointing_stops_no_receiver_beside_an_applier_that_stops_again,
    a_position_judged_while_the_applier_worked_fetches_nothing_again,
}

/// A replica that has received `rows` rows more than it has applied, and its dead source's facts.
async fn with_unapplied(install: &Install, rows: u32) -> (Server, Server, ServerFacts) {
    let (mut primary, replica) = pair(install).await;
    primary.sql("INSERT INTO app.t (v) VALUES (1)").await;
    replica.until("the first row", "SELECT COUNT(*) FROM app.t", |n| n == Some("1")).await;
    replica.sql(stop_applier(install.flavor)).await;
    for _ in 0..rows {
        primary.sql("INSERT INTO app.t (v) VALUES (2)").await;
    }
    let facts = primary.facts().await;
    let began = Instant::now();
    while !replica.facts().await.in_hand().contains(&facts.executed) {
        assert!(began.elapsed() < PATIENCE, "the rows are not received");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    primary.kill();
    (primary, replica, facts)
}

fn stop_applier(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql => "STOP REPLICA SQL_THREAD",
        Flavor::MariaDb => "STOP SLAVE SQL_THREAD",
    }
}

fn stop_receiver(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql => "STOP REPLICA IO_THREAD",
        Flavor::MariaDb => "STOP SLAVE IO_THREAD",
    }
}

fn drain(until: &GtidSet) -> Action {
    Action::Drain { channel: channel(), until: until.clone() }
}

async fn the_sets_are_read_after_the_stop(install: Install) {
    let (primary, replica) = pair(&install).await;
    let executor = executor(1);
    let target = replica.target().await;
    executor.prepare(&target);
    let opts = primary.app_opts();
    let writer = tokio::spawn(async move {
        let mut conn = mysql_async::Conn::new(opts).await.expect("a writer");
        for n in 0..5000 {
            if conn.query_drop(format!("INSERT INTO app.t (v) VALUES ({n})")).await.is_err() {
                break;
            }
        }
    });
    replica.until("rows flow", "SELECT COUNT(*) FROM app.t", |n| n.is_some_and(|n| n != "0")).await;
    for _ in 0..5 {
        let stop = Action::StopReceiver { channel: channel() };
        let told = done(run(&executor, &target, stop).await).facts.expect("facts");
        let later = replica.facts().await;
        assert_eq!(told.channels[0].receiver, Receiver::Stopped);
        assert_eq!(told.channels[0].received, later.channels[0].received, "received after the stop was told");
        for _ in 0..2 {
            done(run(&executor, &target, Action::StartReceiver { channel: channel() }).await);
        }
        replica.until("the receiver runs", "SELECT 1", |_| true).await;
    }
    writer.abort();
}

async fn received_transactions_survive_revocation_with_a_stopped_applier(install: Install) {
    let (_primary, replica, facts) = with_unapplied(&install, 3).await;
    let executor = executor(1);
    let target = replica.target().await;
    let report = done(run(&executor, &target, Action::StopReceiver { channel: channel() }).await);
    eprintln!("{}", report.note);
    assert!(report.facts.expect("facts").in_hand().contains(&facts.executed), "received sets shrank");
    let report = done(run(&executor, &target, drain(&facts.executed)).await);
    assert!(report.facts.expect("facts").executed.contains(&facts.executed));
    assert_eq!(replica.value("SELECT COUNT(*) FROM app.t").await.as_deref(), Some("4"));
}

async fn a_detach_refuses_while_relay_log_is_not_applied(install: Install) {
    let (_primary, replica, facts) = with_unapplied(&install, 2).await;
    let executor = executor(1);
    let target = replica.target().await;
    let applied = replica.facts().await.executed;
    for until in [&facts.executed, &applied] {
        let end = run(&executor, &target, Action::Detach { channel: channel(), until: until.clone() }).await;
        eprintln!("{end}");
        assert!(matches!(end, StepEnd::Refused { .. }), "{end}");
    }
    assert!(replica.facts().await.in_hand().contains(&facts.executed), "a refused detach lost something");
}

async fn a_stopped_pair_of_threads_is_not_started_over_unapplied_relay_log(install: Install) {
    let (_primary, replica, facts) = with_unapplied(&install, 2).await;
    replica.sql(stop_receiver(install.flavor)).await;
    let executor = executor(1);
    let target = replica.target().await;
    assert!(replica.facts().await.in_hand().contains(&facts.executed));
    let start = run(&executor, &target, Action::StartReceiver { channel: channel() }).await;
    let drained = run(&executor, &target, drain(&facts.executed)).await;
    eprintln!("{start}\n{drained}");
    match install.flavor {
        // It applies what it has.
        Flavor::MySql => assert!(start.is_done() && drained.is_done(), "{start} {drained}"),
        Flavor::MariaDb => {
            assert!(matches!(start, StepEnd::Refused { .. }) && matches!(drained, StepEnd::Refused { .. }));
        }
    }
    assert!(replica.facts().await.in_hand().contains(&facts.executed), "a step lost what was received");
}

async fn a_drain_ends_unknown_in_time_and_refused_by_an_error(install: Install) {
    let (primary, replica) = pair(&install).await;
    let executor = executor(1);
    let target = replica.target().await;
    // A row lock on the replica holds the applier up.
    let mut holder = replica.root().await;
    primary.sql("INSERT INTO app.t (id, v) VALUES (100, 1)").await;
    replica.until("the row", "SELECT COUNT(*) FROM app.t", |n| n == Some("1")).await;
    holder.query_drop("BEGIN").await.expect("begin");
    holder.query_drop("SELECT * FROM app.t WHERE id=100 LOCK IN SHARE MODE").await.expect("lock");
    primary.sql("UPDATE app.t SET v=2 WHERE id=100").await;
    let goal = primary.facts().await.executed;
    let step = Step { target: target.clone(), action: drain(&goal) };
    let end = run_within(&executor, &step, Duration::from_millis(600)).await;
    eprintln!("{end}");
    assert!(matches!(end, StepEnd::Unknown { .. }), "{end}");
    holder.query_drop("ROLLBACK").await.expect("rollback");
    done(run(&executor, &target, drain(&goal)).await);
    // A row that is in the way stops the applier with an error.
    let switch = match install.flavor {
        Flavor::MySql => "super_read_only",
        Flavor::MariaDb => "read_only",
    };
    let log = "SET SESSION sql_log_bin=0; INSERT INTO app.t (id, v) VALUES (200, 9)";
    replica.sql(&format!("SET GLOBAL {switch}=OFF; {log}; SET GLOBAL {switch}=ON")).await;
    primary.sql("INSERT INTO app.t (id, v) VALUES (200, 1)").await;
    let goal = primary.facts().await.executed;
    let end = run(&executor, &target, drain(&goal)).await;
    eprintln!("{end}");
    assert!(matches!(end, StepEnd::Refused { .. }), "{end}");
}

async fn pointing_elsewhere_applies_what_was_received_first(install: Install) {
    let (_primary, replica, facts) = with_unapplied(&install, 3).await;
    // The new source has the first row only: what the replica received is nowhere else.
    let other = Server::start(&install, 3, &[]).await;
    let executor = executor(1);
    let target = replica.target().await;
    let point = |wait| Action::Point {
        channel: channel(),
        options: other.as_source(),
        semi_sync_replica: None,
        wait,
    };
    let end = run(&executor, &target, point(false)).await;
    eprintln!("{end}");
    let after = replica.facts().await;
    assert!(
        after.in_hand().contains(&facts.executed),
        "pointing lost what was received: {}",
        after.in_hand()
    );
    replica.until("it is applied", "SELECT COUNT(*) FROM app.t", |n| n == Some("4")).await;
}

async fn pointing_elsewhere_keeps_what_a_slow_applier_has_before_it(install: Install) {
    let (mut primary, replica) = pair(&install).await;
    let other = Server::start(&install, 3, &[]).await;
    let mut holder = replica.root().await;
    primary.sql("INSERT INTO app.t (id, v) VALUES (100, 1)").await;
    replica.until("the row", "SELECT COUNT(*) FROM app.t", |n| n == Some("1")).await;
    holder.query_drop("BEGIN").await.expect("begin");
    holder.query_drop("SELECT * FROM app.t WHERE id=100 LOCK IN SHARE MODE").await.expect("lock");
    primary.sql("UPDATE app.t SET v=2 WHERE id=100").await;
    primary.sql("INSERT INTO app.t (id, v) VALUES (101, 1)").await;
    let goal = primary.facts().await.executed;
    let began = Instant::now();
    while !replica.facts().await.in_hand().contains(&goal) {
        assert!(began.elapsed() < PATIENCE, "the rows are not received");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    primary.kill();
    let executor = executor(1);
    let target = replica.target().await;
    let action = Action::Point {
        channel: channel(),
        options: other.as_source(),
        semi_sync_replica: None,
        wait: false,
    };
    let step = Step { target: target.clone(), action };
    let end = run_within(&executor, &step, Duration::from_secs(2)).await;
    eprintln!("{end}");
    match install.flavor {
        // The running applier keeps the relay log while the receiver is moved.
        Flavor::MySql => assert!(end.is_done(), "{end}"),
        // Both threads would have to stop: not before all is applied.
        Flavor::MariaDb => assert!(matches!(end, StepEnd::Unknown { .. }), "{end}"),
    }
    assert!(replica.facts().await.in_hand().contains(&goal), "received transactions were lost");
    holder.query_drop("ROLLBACK").await.expect("rollback");
    replica.until("all is applied", "SELECT SUM(v) FROM app.t", |n| n == Some("3")).await;
    done(run_within(&executor, &step, PATIENCE).await);
    assert_eq!(replica.facts().await.channels[0].source, other.address());
}

async fn a_witness_is_restarted_and_loses_nothing(install: Install) {
    let (primary, replica) = pair(&install).await;
    let executor = executor(1);
    let target = replica.target().await;
    primary.sql("INSERT INTO app.t (v) VALUES (1)").await;
    replica.until("the row", "SELECT COUNT(*) FROM app.t", |n| n == Some("1")).await;
    let held = replica.facts().await.in_hand();
    // Frozen, with the kernel still accepting for it: the receiver does not get in.
    primary.freeze();
    let report = done(run(&executor, &target, Action::RestartReceiver { channel: channel() }).await);
    let facts = report.facts.expect("facts");
    assert_eq!(facts.channels[0].receiver, Receiver::Connecting);
    assert!(facts.in_hand().contains(&held), "nothing received is lost");
    primary.thaw();
    primary.sql("INSERT INTO app.t (v) VALUES (2)").await;
    replica.until("it receives again", "SELECT COUNT(*) FROM app.t", |n| n == Some("2")).await;
    // Alive: it is back within a moment.
    done(run(&executor, &target, Action::RestartReceiver { channel: channel() }).await);
    primary.sql("INSERT INTO app.t (v) VALUES (3)").await;
    replica.until("it receives again", "SELECT COUNT(*) FROM app.t", |n| n == Some("3")).await;
}

async fn no_receiver_is_restarted_beside_a_stopped_applier(install: Install) {
    let (_primary, replica, of_primary) = with_unapplied(&install, 3).await;
    let executor = executor(1);
    let target = replica.target().await;
    let end = run(&executor, &target, Action::RestartReceiver { channel: channel() }).await;
    assert!(matches!(&end, StepEnd::Refused { why } if why.contains("applier")), "{end}");
    assert!(replica.facts().await.in_hand().contains(&of_primary.executed), "the relay log is whole");
}

async fn pointing_stops_no_receiver_beside_an_applier_that_stops_again(install: Install) {
    let (primary, replica) = pair(&install).await;
    let switch = match install.flavor {
        Flavor::MySql => "super_read_only",
        Flavor::MariaDb => "read_only",
    };
    let row = "SET SESSION sql_log_bin=0; INSERT INTO app.t (id, v) VALUES (200, 9)";
    replica.sql(&format!("SET GLOBAL {switch}=OFF; {row}; SET GLOBAL {switch}=ON")).await;
    primary.sql("INSERT INTO app.t (id, v) VALUES (200, 1)").await;
    let goal = primary.facts().await.executed;
    let began = Instant::now();
    loop {
        let facts = replica.facts().await;
        if facts.in_hand().contains(&goal) && !facts.channels[0].applier_running {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the applier has not stopped");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let executor = executor(1);
    let target = replica.target().await;
    let point = Action::Point {
        channel: channel(),
        options: primary.as_source(),
        semi_sync_replica: None,
        wait: true,
    };
    let end = run(&executor, &target, point).await;
    let whole = |facts: &ServerFacts| {
        facts.channels[0].receiver != Receiver::Stopped && facts.in_hand().contains(&goal)
    };
    match install.flavor {
        Flavor::MariaDb => {
            let after = replica.facts().await;
            assert!(end.to_string().contains("the applier stopped"), "{end}");
            assert!(whole(&after), "{end}: {}", after.in_hand());
        }
        // Its worker fails a moment after the thread was started: it may be pointed by then, and is sent again what it had not
        // applied.
        Flavor::MySql => {
            let began = Instant::now();
            while !whole(&replica.facts().await) {
                assert!(began.elapsed() < PATIENCE, "{end}: {}", replica.facts().await.in_hand());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn a_position_judged_while_the_applier_worked_fetches_nothing_again(install: Install) {
    let (primary, replica) = pair(&install).await;
    primary.sql("INSERT INTO app.t (v) VALUES (1)").await;
    replica.until("the first row", "SELECT COUNT(*) FROM app.t", |n| n == Some("1")).await;
    let judged = replica.facts().await.executed;
    primary.sql("INSERT INTO app.t (v) VALUES (2), (3)").await;
    primary.sql("INSERT INTO app.t (v) VALUES (4)").await;
    replica.until("the next rows", "SELECT COUNT(*) FROM app.t", |n| n == Some("4")).await;
    let executor = executor(1);
    let target = replica.target().await;
    let mut options = primary.as_source();
    // Another period than it has: or nothing would need doing.
    options.heartbeat_ms = 700;
    if install.flavor == Flavor::MariaDb {
        options.gtid_slave_pos = Some(judged.position().to_string());
    }
    let point = Action::Point { channel: channel(), options, semi_sync_replica: None, wait: true };
    done(run(&executor, &target, point).await);
    primary.sql("INSERT INTO app.t (v) VALUES (5)").await;
    let goal = primary.facts().await.executed;
    let began = Instant::now();
    loop {
        let facts = replica.facts().await;
        let channel = &facts.channels[0];
        assert_eq!(channel.applier_error, None, "it was sent again what it has");
        if facts.executed.contains(&goal) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it does not follow: {channel:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(replica.value("SELECT COUNT(*) FROM app.t").await.as_deref(), Some("5"));
}
