//! What is refused before a statement, and what is unknown after one.

use mysql_async::prelude::Queryable;

use super::*;

on_both! {
    another_server_under_that_address_is_refused,
    an_expired_permit_sends_nothing,
    a_permit_from_before_a_pause_sends_nothing,
    a_session_younger_than_the_permit_sends_nothing,
    a_frozen_server_ends_unknown_and_the_session_is_dropped,
    a_fence_sent_to_a_frozen_server_lands_when_it_thaws,
    a_session_cut_after_a_pause_is_opened_again,
    a_missing_grant_is_refused_in_the_servers_words,
    a_silent_source_does_not_hold_a_stop_beyond_its_deadline,
}

async fn another_server_under_that_address_is_refused(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let mut target = server.target().await;
    target.identity.server_id += 1;
    let end = run(&executor, &target, Action::Fence).await;
    eprintln!("{end}");
    assert!(matches!(end, StepEnd::Refused { .. }), "{end}");
    let mut target = server.target().await;
    target.identity.server_uuid = Some("00000000-0000-0000-0000-000000000001".into());
    let end = run(&executor, &target, Action::MakeReadOnly { lock_wait_s: 1 }).await;
    eprintln!("{end}");
    assert!(matches!(end, StepEnd::Refused { .. }), "{end}");
    assert!(server.facts().await.writable());
}

async fn an_expired_permit_sends_nothing(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    for _ in 0..2 {
        // Confirmed behind the session that is there the second time: nothing speaks against it but its time.
        let expired = Permit { expires: Instant::now(), ..permit() };
        let step = Step { target: target.clone(), action: Action::Fence };
        let end = executor.run(&expired, &step, PATIENCE).await;
        let why = end.to_string();
        assert!(matches!(end, StepEnd::Refused { .. }) && why.contains("expired"), "{end}");
        // The second time over a session that is there.
        done(run(&executor, &target, Action::ReadFacts).await);
    }
    assert!(server.facts().await.writable());
}

/// A leader that was stopped in the middle of a recovery goes on where it stood, with a permit that has time left, while
/// others may have taken over.
async fn a_permit_from_before_a_pause_sends_nothing(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    let pulse = executor.pulse();
    pulse.beat(false);
    let before = permit();
    let step = Step { target: target.clone(), action: Action::Fence };
    for open in [false, true] {
        // What is confirmed after the pause allows reading, and leaves a session open for the second time.
        pulse.beat(true);
        let end = executor.run(&before, &step, PATIENCE).await;
        let why = end.to_string();
        assert!(
            matches!(end, StepEnd::Refused { .. }) && why.contains("paused"),
            "session open: {open}, {end}"
        );
        done(run(&executor, &target, Action::ReadFacts).await);
    }
    assert!(server.facts().await.writable());
    // The loop that notices pauses has not come to its turn yet: the time since its last beat tells.
    pulse.beat(false);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let end = run_within(&executor, &step, PATIENCE).await;
    assert!(matches!(end, StepEnd::Refused { .. }), "{end}");
    assert!(server.facts().await.writable());
}

/// What a leader confirmed says nothing of a session that it opens later: its successor may have seen its sessions gone.
async fn a_session_younger_than_the_permit_sends_nothing(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let step = Step { target: server.target().await, action: Action::Fence };
    let before = permit();
    let end = executor.run(&before, &step, PATIENCE).await;
    assert!(matches!(&end, StepEnd::Refused { why } if why.contains("no session")), "{end}");
    executor.open(&step.target, PATIENCE).await.expect("a session");
    let end = executor.run(&before, &step, PATIENCE).await;
    assert!(matches!(&end, StepEnd::Refused { why } if why.contains("younger")), "{end}");
    assert!(server.facts().await.writable());
    done(executor.run(&permit(), &step, PATIENCE).await);
    assert!(!server.facts().await.writable());
}

async fn a_frozen_server_ends_unknown_and_the_session_is_dropped(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    done(run(&executor, &target, Action::ReadFacts).await);
    server.freeze();
    let step = Step { target: target.clone(), action: Action::MakeReadOnly { lock_wait_s: 1 } };
    let end = run_within(&executor, &step, Duration::from_millis(300)).await;
    assert!(matches!(end, StepEnd::Unknown { .. }), "{end}");
    // No session is left, and a new one cannot be had: nothing is sent.
    let end = run_within(&executor, &step, Duration::from_millis(300)).await;
    assert!(matches!(end, StepEnd::Refused { .. }), "{end}");
    let thawed = Instant::now();
    server.thaw();
    // What was sent before lands now or never; the next step ends the old session first and reads anew.
    let report = done(run(&executor, &target, make_writable(install.flavor)).await);
    eprintln!("{}", report.note);
    assert!(since(&executor, &target).await >= thawed);
    assert!(server.facts().await.writable());
}

async fn a_fence_sent_to_a_frozen_server_lands_when_it_thaws(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    done(run(&executor, &target, Action::ReadFacts).await);
    server.freeze();
    let step = Step { target: target.clone(), action: Action::Fence };
    let end = run_within(&executor, &step, Duration::from_millis(100)).await;
    let thawed = Instant::now();
    server.thaw();
    assert!(matches!(end, StepEnd::Unknown { .. }), "{end}");
    server.until("it has landed", "SELECT @@GLOBAL.read_only", |on| on == Some("1")).await;
    // What counts is the next fence, over a new session, after the old one is gone.
    let report = done(run(&executor, &target, Action::Fence).await);
    assert!(since(&executor, &target).await >= thawed);
    assert!(!report.facts.expect("facts").writable());
}

async fn a_session_cut_after_a_pause_is_opened_again(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let executor = executor(1);
    let target = server.target().await;
    executor.prepare(&target);
    let marked = "SELECT IS_USED_LOCK('quorate/exec/live/1')";
    server.until("a session is kept", marked, |id| id.is_some()).await;
    let first = server.value(marked).await;
    executor.drop_all();
    server.until("another is kept", marked, |id| id.is_some() && id != first.as_deref()).await;
    let second = server.value(marked).await.expect("a session");
    server.sql(&format!("KILL {second}")).await;
    server.until("a third", marked, |id| id.is_some_and(|id| id != second)).await;
    executor.forget(&target.server);
    server.until("none is kept", marked, |id| id.is_none()).await;
}

async fn a_missing_grant_is_refused_in_the_servers_words(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let revoke = match install.flavor {
        Flavor::MySql => "REVOKE SYSTEM_VARIABLES_ADMIN ON *.* FROM 'quorate'@'%'",
        Flavor::MariaDb => "REVOKE READ_ONLY ADMIN ON *.* FROM 'quorate'@'%'",
    };
    server.sql(revoke).await;
    let executor = executor(1);
    let target = server.target().await;
    let end = run(&executor, &target, Action::MakeReadOnly { lock_wait_s: 1 }).await;
    eprintln!("{end}");
    let StepEnd::Refused { why } = end else { panic!("{end}") };
    assert!(why.contains("READ") || why.contains("SYSTEM_VARIABLES_ADMIN"), "{why}");
    assert!(server.facts().await.writable());
}

async fn a_silent_source_does_not_hold_a_stop_beyond_its_deadline(install: Install) {
    let (primary, replica) = pair(&install).await;
    let executor = executor(1);
    let target = replica.target().await;
    done(run(&executor, &target, Action::ReadFacts).await);
    primary.freeze();
    let stop = Step { target: target.clone(), action: Action::StopReceiver { channel: channel() } };
    let end = run_within(&executor, &stop, PATIENCE).await;
    primary.thaw();
    assert!(end.is_done(), "{end}");
    // A receiver that tries to reach a host that accepts and never greets.
    let hole = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let port = hole.local_addr().expect("an address").port();
    let mut options = primary.as_source();
    options.source.port = port;
    let point = Action::Point { channel: channel(), options, semi_sync_replica: None, wait: false };
    done(run(&executor, &target, point).await);
    let _held = hole.accept().await.expect("the receiver connects");
    let end = run_within(&executor, &stop, Duration::from_millis(400)).await;
    eprintln!("{end}");
    assert!(matches!(end, StepEnd::Unknown { .. } | StepEnd::Done(_)), "{end}");
    let _ = replica.root().await.query_drop("SELECT 1").await;
}
