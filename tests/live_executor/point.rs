//! Pointing: named channels, fenced servers that come back, sources that do not let one in.

use super::*;
use quorate::session::{Account, Secret};

on_both! {
    a_named_channel_is_used_under_its_name,
    a_fenced_server_is_pointed_and_seen_again,
    a_source_that_lets_nobody_in_is_unknown_and_mended_by_the_next_try,
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
    done(run(&executor, &new, Action::MakeWritable).await);
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
