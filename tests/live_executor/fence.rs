//! Fences: simple, blocked by commits that wait for an acknowledgement, by a table lock, by a long statement.

use mysql_async::prelude::Queryable;

use super::*;

on_both! {
    a_commit_that_waits_for_an_ack_is_cut_off_without_one,
    a_candidate_that_lost_what_it_must_hold_takes_no_writes,
    a_fence_kills_what_blocks_it,
    a_polite_switch_gives_up_and_leaves_the_server_writable,
    an_old_primary_that_lost_its_own_is_opened_by_hand_only,
    semi_sync_is_switched_on_and_not_off_under_waiting_commits,
}

/// A client whose commit waits: its answer, when one comes.
fn waiting_client(server: &Server) -> tokio::task::JoinHandle<Result<(), mysql_async::Error>> {
    let opened = server.app_opts();
    tokio::spawn(async move {
        let mut conn = mysql_async::Conn::new(opened).await?;
        conn.query_drop("INSERT INTO app.t (v) VALUES (77)").await
    })
}

fn wait_sessions(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql => {
            "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
             WHERE VARIABLE_NAME='Rpl_semi_sync_source_wait_sessions'"
        }
        Flavor::MariaDb => {
            "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
             WHERE VARIABLE_NAME='Rpl_semi_sync_master_wait_sessions'"
        }
    }
}

async fn a_commit_that_waits_for_an_ack_is_cut_off_without_one(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    executor.prepare(&target);
    let report = done(run(&executor, &target, Action::EnableSemiSyncSource { acks: 1 }).await);
    let semi_sync = report.facts.expect("facts").semi_sync;
    assert_eq!(semi_sync.source_status, Some(true));
    assert_eq!(semi_sync.source_wait_no_replica, Some(true));
    assert!(semi_sync.source_timeout_ms >= Some(4_294_967_295), "{semi_sync:?}");

    let clients = [waiting_client(&server), waiting_client(&server)];
    let admin = server.root().await;
    server.until("a commit waits", wait_sessions(install.flavor), |n| n.is_some_and(|n| n != "0")).await;
    // MySQL counts the first of a group only: the others queue behind it.
    let busy = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='app' AND COMMAND='Query'";
    server.until("both commits wait", busy, |n| n == Some("2")).await;
    for again in [false, true] {
        let report = done(run(&executor, &target, Action::Fence).await);
        eprintln!("{again} {} killed {}", report.note, report.killed);
        assert!(!report.facts.expect("facts").writable(), "{again}");
    }
    drop(admin);
    for client in clients {
        let answer = client.await.expect("the client's task");
        assert!(answer.is_err(), "a write that no replica has was acknowledged");
    }
    // And back.
    for _ in 0..2 {
        let report = done(run(&executor, &target, unfence(install.flavor, Some(1))).await);
        let facts = report.facts.expect("facts");
        assert!(facts.writable() && facts.semi_sync.source_status == Some(true), "{facts:?}");
    }
}

async fn a_fence_kills_what_blocks_it(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    let mut holder = server.app().await;
    holder.query_drop("LOCK TABLES app.t WRITE").await.expect("lock");
    let report = done(run(&executor, &target, Action::Fence).await);
    eprintln!("{} killed {}", report.note, report.killed);
    assert!(!report.facts.expect("facts").writable());
    assert!(
        holder.query_drop("INSERT INTO app.t (v) VALUES (1)").await.is_err(),
        "the holder was not cut off"
    );
}

async fn a_polite_switch_gives_up_and_leaves_the_server_writable(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    let mut holder = server.app().await;
    holder.query_drop("LOCK TABLES app.t WRITE").await.expect("lock");
    let end = run(&executor, &target, Action::MakeReadOnly { lock_wait_s: 1 }).await;
    eprintln!("{end}");
    assert!(matches!(end, StepEnd::Refused { .. }), "{end}");
    assert!(server.facts().await.writable());
    holder.query_drop("INSERT INTO app.t (v) VALUES (1)").await.expect("the holder was left alone");
    holder.query_drop("UNLOCK TABLES").await.expect("unlock");
    for _ in 0..2 {
        let report = done(run(&executor, &target, Action::MakeReadOnly { lock_wait_s: 1 }).await);
        assert!(!report.facts.expect("facts").writable());
    }
}

/// More than this server ever wrote.
fn more(target: &Target) -> GtidSet {
    let text = match &target.identity.server_uuid {
        Some(uuid) => format!("{uuid}:1-1000000"),
        None => format!("0-{}-1000000", target.identity.server_id),
    };
    GtidSet::parse(target.identity.flavor, &text).expect("a set")
}

async fn a_candidate_that_lost_what_it_must_hold_takes_no_writes(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    done(run(&executor, &target, Action::Fence).await);
    for _ in 0..2 {
        let end = run(&executor, &target, Action::MakeWritable { must_hold: more(&target) }).await;
        assert!(matches!(&end, StepEnd::Refused { why } if why.contains("it lacks")), "{end}");
        assert!(!server.facts().await.writable());
    }
    let must_hold = server.facts().await.executed;
    assert!(
        done(run(&executor, &target, Action::MakeWritable { must_hold }).await)
            .facts
            .expect("facts")
            .writable()
    );
}

async fn an_old_primary_that_lost_its_own_is_opened_by_hand_only(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    server.sql("INSERT INTO app.t (v) VALUES (1)").await;
    done(run(&executor, &target, Action::Fence).await);
    let must_hold = more(&target);
    let unfence = || Action::Unfence { semi_sync_acks: None, must_hold: must_hold.clone() };
    let end = run(&executor, &target, unfence()).await;
    assert!(matches!(&end, StepEnd::Refused { why } if why.contains("it lacks")), "{end}");
    assert!(!server.facts().await.writable());
    server.root().await.query_drop("SET GLOBAL read_only=OFF").await.expect("a person opens it");
    assert!(done(run(&executor, &target, unfence()).await).facts.expect("facts").writable());
}

async fn semi_sync_is_switched_on_and_not_off_under_waiting_commits(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    for _ in 0..2 {
        done(run(&executor, &target, Action::EnableSemiSyncSource { acks: 1 }).await);
    }
    if install.flavor == Flavor::MariaDb {
        let end = run(&executor, &target, Action::EnableSemiSyncSource { acks: 2 }).await;
        assert!(matches!(end, StepEnd::Refused { .. }), "{end}");
    }
    let client = waiting_client(&server);
    server.until("a commit waits", wait_sessions(install.flavor), |n| n == Some("1")).await;
    let end = run(&executor, &target, Action::DisableSemiSyncSource).await;
    assert!(matches!(end, StepEnd::Refused { .. }), "{end}");
    let replica = Server::start(&install, 2, &[]).await;
    let to = replica.target().await;
    let point = Action::Point {
        channel: channel(),
        options: server.as_source(),
        semi_sync_replica: Some(true),
        wait: true,
    };
    let report = done(run(&executor, &to, point).await);
    assert_eq!(report.facts.expect("facts").semi_sync.replica_enabled, Some(true));
    client.await.expect("the client's task").expect("acknowledged by the new replica");
    for _ in 0..2 {
        let report = done(run(&executor, &target, Action::DisableSemiSyncSource).await);
        assert_eq!(report.facts.expect("facts").semi_sync.source_enabled, Some(false));
    }
}
