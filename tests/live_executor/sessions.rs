//! Sessions: blockers listed, writers killed, executors of other nodes found and ended.

use mysql_async::prelude::Queryable;

use super::*;

on_both! {
    executor_sessions_of_other_nodes_are_ended,
    a_receiver_that_was_started_is_not_stopped_by_another_node,
    a_receiver_that_was_stopped_is_not_started_by_another_node,
    a_session_left_behind_by_this_node_is_ended_first,
    a_session_that_took_its_mark_behind_the_permit_is_not_covered_by_it,
    blockers_are_listed_and_writers_killed,
}

/// The applications and an operator hold every connection; the administrative port still lets the executor in.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_entered_by_its_administrative_port() {
    scenario(Flavor::MySql, async |install| {
        let port = format!("--admin-port={}", live::ports::free_port());
        let more = ["--admin-address=127.0.0.1", &port, "--max-connections=12"];
        let server = Server::start(&install, 1, &more).await;
        let user = account().user;
        server.sql(&format!("GRANT SERVICE_CONNECTION_ADMIN ON *.* TO '{user}'@'%'")).await;
        let target = server.target().await;
        let executor = executor(1);
        executor.prepare(&target);
        // Found in the background: the session moves there.
        let marked = "SELECT IS_USED_LOCK('quorate/exec/live/1')";
        let mut root = server.root().await;
        server.until("the mark is held", marked, |holder| holder.is_some()).await;
        // Connections of before may still be ending: until not even the extra one for administrators is left.
        let mut held = Vec::new();
        while server.try_connect(&user, account().password.expose()).await.is_ok() {
            held.extend(mysql_async::Conn::new(server.app_opts()).await.ok());
            held.extend(server.try_root().await.ok());
        }
        let holder: Option<u64> = root.query_first(marked).await.expect("the mark");
        let holder = holder.expect("the executor's session");
        root.query_drop(format!("KILL {holder}")).await.expect("kill");
        let since = Instant::now();
        loop {
            let now: Option<Option<u64>> = root.query_first(marked).await.expect("the mark");
            if now.flatten().is_some_and(|now| now != holder) {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "no other session of the executor came");
        }
        done(run(&executor, &target, Action::ReadFacts).await);
    })
    .await;
}

async fn executor_sessions_of_other_nodes_are_ended(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let target = server.target().await;
    let others = [executor(2), executor(3)];
    for other in &others {
        done(run(other, &target, Action::ReadFacts).await);
    }
    let executor = executor(1);
    let before = Instant::now();
    let report = done(run(&executor, &target, Action::KillPredecessors).await);
    assert_eq!(report.killed, 2);
    for node in [2, 3] {
        let used = server.value(&format!("SELECT IS_USED_LOCK('quorate/exec/live/{node}')")).await;
        assert_eq!(used, None, "node {node}");
    }
    let report = done(run(&executor, &target, Action::KillPredecessors).await);
    assert_eq!(report.killed, 0);
    // The predecessor finds its session gone before it sends anything, and opens another only for a step.
    done(run(&others[0], &target, Action::ReadFacts).await);
    assert!(since(&others[0], &target).await >= before);
}

/// Another node, which led before, is at it when this one stops the receiver: whatever that had sent, it stays stopped.
async fn a_receiver_that_was_stopped_is_not_started_by_another_node(install: Install) {
    let (_primary, replica) = pair(&install).await;
    let target = replica.target().await;
    let stop = Action::StopReceiver { channel: channel() };
    for _ in 0..5 {
        let (executor, other) = (executor(1), executor(2));
        executor.prepare(&target);
        let start = Step { target: target.clone(), action: Action::StartReceiver { channel: channel() } };
        done(run(&other, &target, start.action.clone()).await);
        // What it may was confirmed now, and is not confirmed again: it leads no more.
        let permit = permit();
        let at_it = tokio::spawn(async move {
            while let StepEnd::Done(_) = other.run(&permit, &start, PATIENCE).await {}
        });
        let report = done(run(&executor, &target, stop.clone()).await);
        assert!(report.note.contains("ended 1 executor sessions of other nodes"), "{}", report.note);
        at_it.await.expect("it is told that its session is gone");
        assert_eq!(replica.facts().await.channels[0].receiver, Receiver::Stopped, "{}", report.note);
        // Once a term.
        done(run(&super::executor(2), &target, Action::ReadFacts).await);
        let report = done(run(&executor, &target, stop.clone()).await);
        assert!(!report.note.contains("sessions of other nodes"), "{}", report.note);
    }
}

/// A stop of another node, which leads no more, may still be under way when its replica is started, or pointed, again.
async fn a_receiver_that_was_started_is_not_stopped_by_another_node(install: Install) {
    let (primary, replica) = pair(&install).await;
    let target = replica.target().await;
    let options = primary.as_source();
    let again = [
        Action::StartReceiver { channel: channel() },
        Action::Point { channel: channel(), options, semi_sync_replica: None, wait: true },
    ];
    for action in again {
        let (executor, other) = (executor(1), executor(2));
        executor.prepare(&target);
        let stop = Step { target: target.clone(), action: Action::StopReceiver { channel: channel() } };
        done(run(&other, &target, stop.action.clone()).await);
        let permit = permit();
        let at_it =
            tokio::spawn(
                async move { while let StepEnd::Done(_) = other.run(&permit, &stop, PATIENCE).await {} },
            );
        let report = done(run(&executor, &target, action).await);
        assert!(report.note.contains("ended 1 executor sessions of other nodes"), "{}", report.note);
        at_it.await.expect("it is told that its session is gone");
        assert_ne!(replica.facts().await.channels[0].receiver, Receiver::Stopped, "{}", report.note);
    }
}

async fn a_session_left_behind_by_this_node_is_ended_first(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let target = server.target().await;
    let earlier = executor(1);
    done(run(&earlier, &target, Action::ReadFacts).await);
    let marked = "SELECT IS_USED_LOCK('quorate/exec/live/1')";
    let first = server.value(marked).await.expect("the earlier session");
    let later = executor(1);
    done(run(&later, &target, make_writable(install.flavor)).await);
    let second = server.value(marked).await.expect("the later session");
    assert_ne!(first, second);
    let there = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID={first}");
    server.until("the earlier one is gone", &there, |n| n == Some("0")).await;
}

/// Found by the simulation (seed 3003285): a successor sees a node's sessions gone by their mark; one that was open already and
/// took the mark behind that went on with a step that an earlier term allowed.
async fn a_session_that_took_its_mark_behind_the_permit_is_not_covered_by_it(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let target = server.target().await;
    let earlier = executor(1);
    done(run(&earlier, &target, Action::ReadFacts).await);
    let marked = "SELECT IS_USED_LOCK('quorate/exec/live/1')";
    let first = server.value(marked).await.expect("the earlier session");
    let later = executor(1);
    later.prepare(&target);
    let own = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='quorate' AND COMMAND='Sleep'";
    server.until("it is open", own, |n| n == Some("2")).await;
    let permit = permit();
    earlier.forget(&target.server);
    server.until("it has the mark", marked, |now| now.is_some_and(|now| now != first)).await;
    let step = Step { target: target.clone(), action: make_writable(install.flavor) };
    let end = later.run(&permit, &step, PATIENCE).await;
    assert!(matches!(&end, StepEnd::Refused { why } if why.contains("younger than its permit")), "{end}");
    done(run(&later, &target, make_writable(install.flavor)).await);
}

async fn blockers_are_listed_and_writers_killed(install: Install) {
    let server = Server::start(&install, 1, &["--performance-schema=ON"]).await;
    let executor = executor(1);
    let target = server.target().await;
    let mut idle = server.app().await;
    let mut open = server.app().await;
    open.query_drop("BEGIN").await.expect("begin");
    open.query_drop("INSERT INTO app.t (v) VALUES (1)").await.expect("insert");
    let opts = server.app_opts();
    let busy = tokio::spawn(async move {
        let mut conn = mysql_async::Conn::new(opts).await?;
        conn.query_drop("SELECT SLEEP(300), 'a secret of the application'").await
    });
    let mut locker = server.app().await;
    locker.query_drop("LOCK TABLES app.other READ").await.expect("lock");
    let busy_now = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='app' AND COMMAND='Query'";
    server.until("the statement runs", busy_now, |n| n == Some("1")).await;
    let list = Action::ListBlockers { older_than_ms: 900 };
    let began = Instant::now();
    let report = loop {
        let report = done(run(&executor, &target, list.clone()).await);
        let kinds: Vec<&str> = report.blockers.iter().map(|blocker| blocker.kind.as_str()).collect();
        if kinds.contains(&"statement") && kinds.contains(&"transaction") {
            break report;
        }
        assert!(began.elapsed() < PATIENCE, "{report:?}");
        // InnoDB renews its list of transactions only when nobody has read it for 100 ms.
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(report.blockers.iter().all(|blocker| blocker.user == "app" && blocker.for_ms >= 900));
    let report = done(run(&executor, &target, Action::KillWriters).await);
    assert!(report.killed >= 2, "{report:?}");
    assert!(busy.await.expect("the task").is_err());
    assert!(open.query_drop("COMMIT").await.is_err());
    idle.query_drop("SELECT 1").await.expect("an idle client is left alone");
    // An answer is with its client before the server shows the session at rest.
    let awake = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='app' AND COMMAND<>'Sleep'";
    server.until("the clients rest", awake, |n| n == Some("0")).await;
    let report = done(run(&executor, &target, list).await);
    assert_eq!(report.blockers, []);
    let report = done(run(&executor, &target, Action::KillWriters).await);
    assert_eq!(report.killed, 0);
    let held = locker.query_drop("SELECT 1 FROM app.other").await;
    assert_eq!(held.is_err(), install.flavor == Flavor::MySql, "MariaDB does not show who holds tables");
}
