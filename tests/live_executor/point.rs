//! Pointing: named channels, fenced servers that come back, sources that do not let one in.

use super::*;
use quorate::{
    model::gtid::GtidSet,
    session::{Account, Secret},
};

on_both! {
    a_named_channel_is_used_under_its_name,
    a_fenced_server_is_pointed_and_seen_again,
    a_source_that_lets_nobody_in_is_unknown_and_mended_by_the_next_try,
    what_a_server_wrote_itself_and_lost_is_never_sent_to_it,
}

async fn a_named_channel_is_used_under_its_name(install: Install) {
    let source = Server::start(&install, 1, &[]).await;
    let replica = Server::start(&install, 2, &[]).await;
    let executor = executor(1);
    let target = replica.target().await;
    let name = "east".to_owned();
    let point = || Action::Point {
        channel: name.clone(),
        options: source.as_source(),
        semi_sync_replica: None,
        wait: true,
    };
    for _ in 0..2 {
        let facts = done(run(&executor, &target, point()).await).facts.expect("facts");
        assert_eq!(facts.channels.len(), 1);
        assert_eq!(facts.channels[0].name, name);
        assert_eq!(facts.channels[0].heartbeat_period_ms, Some(500));
        assert!(facts.channels[0].by_gtid);
    }
    source.sql("INSERT INTO app.t (v) VALUES (1)").await;
    let until = source.facts().await.executed;
    done(run(&executor, &target, Action::Drain { channel: name.clone(), until: until.clone() }).await);
    let report = done(run(&executor, &target, Action::StopReceiver { channel: String::new() }).await);
    eprintln!("{}", report.note);
    assert_eq!(
        report.facts.expect("facts").channels[0].receiver,
        Receiver::Running,
        "another channel was stopped"
    );
    done(run(&executor, &target, Action::StopReceiver { channel: name.clone() }).await);
    done(run(&executor, &target, Action::StartReceiver { channel: name.clone() }).await);
    let report = done(run(&executor, &target, Action::Detach { channel: name.clone(), until }).await);
    assert!(report.facts.expect("facts").channels.is_empty());
}

async fn a_fenced_server_is_pointed_and_seen_again(install: Install) {
    use mysql_async::prelude::Queryable;
    let (primary, replica) = pair(&install).await;
    let executor = executor(1);
    let old = primary.target().await;
    let new = replica.target().await;
    let mut holder = primary.app().await;
    holder.query_drop("LOCK TABLES app.t WRITE").await.expect("lock");
    done(run(&executor, &old, Action::Fence).await);
    let until = primary.facts().await.executed;
    done(run(&executor, &new, Action::Detach { channel: channel(), until: until.clone() }).await);
    done(run(&executor, &new, make_writable(install.flavor)).await);
    let mut options = replica.as_source();
    if install.flavor == Flavor::MariaDb {
        options.gtid_slave_pos = Some(until.to_string());
    }
    let point = Action::Point { channel: channel(), options, semi_sync_replica: Some(true), wait: true };
    let report = done(run(&executor, &old, point).await);
    eprintln!("{}", report.note);
    let facts = report.facts.expect("facts");
    assert!(facts.offline_mode != Some(true) && facts.read_only, "{facts:?}");
    assert_eq!(facts.channels[0].receiver, Receiver::Running);
    let mut client = primary.app().await;
    assert!(
        client.query_drop("INSERT INTO app.t (v) VALUES (1)").await.is_err(),
        "clients write to a replica"
    );
}

async fn a_source_that_lets_nobody_in_is_unknown_and_mended_by_the_next_try(install: Install) {
    let source = Server::start(&install, 1, &[]).await;
    let replica = Server::start(&install, 2, &[]).await;
    let odd = r#"canary'; \ " -- ü"#;
    source.sql(r#"CREATE USER odd@'%' IDENTIFIED BY 'canary\'; \\ " -- ü'"#).await;
    source.sql("GRANT REPLICATION SLAVE ON *.* TO odd@'%'").await;
    let options = |password: &str| ExecutorOptions {
        group: "live".into(),
        node: 1,
        account: account(),
        replication: Account { user: "odd".into(), password: Secret::new(password), ..replication() },
        nodes: vec![1],
    };
    let target = replica.target().await;
    let action = Action::Point {
        channel: channel(),
        options: source.as_source(),
        semi_sync_replica: None,
        wait: true,
    };
    let step = Step { target: target.clone(), action };
    let wrong = Executor::new(options("canary-wrong"));
    let end = run_within(&wrong, &step, Duration::from_secs(3)).await;
    eprintln!("{end}");
    assert!(matches!(end, StepEnd::Unknown { .. }), "{end}");
    assert!(!end.to_string().contains("canary"), "{end}");
    let right = Executor::new(options(odd));
    let report = done(run_within(&right, &step, PATIENCE).await);
    assert_eq!(report.facts.expect("facts").channels[0].receiver, Receiver::Running);
}

/// What the quarantine of a returned primary, and `ReplicaLostItsOwn`, rest on.
async fn what_a_server_wrote_itself_and_lost_is_never_sent_to_it(install: Install) {
    let (old, new) = pair(&install).await;
    for v in 1..=3 {
        old.sql(&format!("INSERT INTO app.t (v) VALUES ({v})")).await;
    }
    new.until("its rows", "SELECT COUNT(*) FROM app.t", |n| n == Some("3")).await;
    let written = old.facts().await.executed;
    let executor = executor(1);
    let promoted = new.target().await;
    let detach = Action::Detach { channel: channel(), until: written.clone() };
    done(run(&executor, &promoted, detach).await);
    done(run(&executor, &promoted, make_writable(install.flavor)).await);
    let returned = old.target().await;
    // As after a power failure: neither binlog nor table knows of the last one.
    let (kept, lose) = match install.flavor {
        Flavor::MySql => {
            let kept = format!("{}:1-2", returned.identity.server_uuid.as_deref().expect("MySQL has one"));
            let lose = format!("RESET BINARY LOGS AND GTIDS; SET GLOBAL gtid_purged='{kept}'");
            (kept, lose)
        }
        Flavor::MariaDb => {
            ("0-1-2".to_owned(), "RESET MASTER; SET GLOBAL gtid_binlog_state='0-1-2'".to_owned())
        }
    };
    let kept = GtidSet::parse(install.flavor, &kept).expect("a set");
    old.sql(&format!("{lose}; SET SESSION sql_log_bin=0; DELETE FROM app.t WHERE v=3")).await;
    assert_eq!(old.facts().await.executed, kept);
    new.sql("INSERT INTO app.t (v) VALUES (4)").await;
    let mut options = new.as_source();
    options.gtid_slave_pos = Some(kept.position().to_string());
    let point = Action::Point { channel: channel(), options, semi_sync_replica: None, wait: true };
    done(run(&executor, &returned, point).await);
    old.until("the new primary's row", "SELECT COUNT(*) FROM app.t WHERE v=4", |n| n == Some("1")).await;
    let facts = old.facts().await;
    let source = new.facts().await.executed;
    assert_eq!(facts.channels[0].receiver, Receiver::Running);
    assert!(facts.channels[0].applier_running && facts.channels[0].applier_error.is_none());
    assert!(facts.executed.contains(&source.written_by(&promoted.identity)), "it has caught up");
    assert_eq!(
        facts.executed.lost_of_its_own(&returned.identity, &source),
        written.subtract(&kept),
        "it was sent what it wrote itself"
    );
    assert_eq!(old.value("SELECT COUNT(*) FROM app.t").await.as_deref(), Some("3"));
    assert_eq!(new.value("SELECT COUNT(*) FROM app.t").await.as_deref(), Some("4"));
}
