//! What looks at a healthy, a frozen, a full and a dying server bring.

use mysql_async::prelude::Queryable;
use quorate::model::facts::Receiver;

use super::*;

on_both! {
    facts_of_a_pair_are_read,
    a_frozen_server_is_silent_and_its_late_answer_is_told,
    an_urgent_look_at_a_frozen_server_ends_at_its_bound,
    an_urgent_look_at_a_living_server_goes_over_a_new_connection,
    a_suspected_server_is_met_soon_after_it_thaws,
    a_full_server_lives,
    a_shutdown_is_told,
    one_session_is_held_and_none_is_left_behind,
}

async fn facts_of_a_pair_are_read(install: Install) {
    let primary = Server::start(&install, 1, &[]).await;
    let replica = Server::start(&install, 2, &[]).await;
    replica.follow(&primary).await;
    primary.sql("INSERT INTO app.t (v) VALUES (1)").await;
    let mut watch = Watch::of(&replica, ProbeSettings { interval: Duration::from_millis(50), ..slow() });
    let heard = watch
        .until("a heartbeat", |event| facts(event).is_some_and(|f| f.channels[0].heartbeats > Some(0)))
        .await;
    let f = facts(&heard).expect("facts");
    let channel = &f.channels[0];
    assert_eq!((f.identity.flavor, f.identity.server_id), (install.flavor, 2));
    assert_eq!(f.reports_as, Some(replica.address()));
    assert!(f.read_only && f.gtid_on && f.log_bin && f.log_replica_updates && !f.writable());
    assert!(f.started_at_s.is_some() && f.connections.is_some_and(|(used, max)| used > 0 && max == 100));
    assert_eq!((channel.receiver, channel.applier_running, channel.by_gtid), (Receiver::Running, true, true));
    assert_eq!((&channel.source, channel.source_server_id), (&primary.address(), Some(1)));
    assert_eq!(channel.heartbeat_period_ms, Some(500));
    assert_eq!(channel.heartbeat_age_ms.is_some(), install.flavor == Flavor::MySql);
    assert!(channel.heartbeat_age_ms.is_none_or(|age| age < 40_000), "{:?}", channel.heartbeat_age_ms);
    assert!(f.executed.contains(&primary.facts().await.executed));

    let reading = primary.reading().await;
    assert_eq!(reading.lacking, vec![]);
    let replicas = reading.facts.replicas.clone().expect("an inventory");
    assert_eq!((replicas.len(), replicas[0].server_id), (1, 2));
    assert_eq!(replicas[0].address, Some(replica.address()));
    let dumps = reading.facts.dump_clients.clone().expect("an inventory");
    assert_eq!((dumps.len(), dumps[0].user.as_str()), (1, "repl"));
    assert!(reading.facts.durability.is_some());
    assert!(reading.facts.channels.is_empty() && reading.facts.writable());
}

async fn a_frozen_server_is_silent_and_its_late_answer_is_told(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let mut watch = Watch::of(&server, ProbeSettings { interval: Duration::from_millis(250), ..slow() });
    watch.until("an answer over the held connection", |event| is_answer(event) && !event.fresh).await;
    server.freeze();
    let silent = watch.until("silence", |event| matches!(event.outcome, Outcome::Silent(_))).await;
    assert!(!silent.fresh, "{silent:?}");
    // A fresh attempt is accepted by the kernel and never greeted.
    let fresh = watch.until("a fresh silence", |event| event.fresh).await;
    assert!(matches!(fresh.outcome, Outcome::Silent(_)), "{fresh:?}");
    server.thaw();
    let late = watch.until("an answer", is_answer).await;
    assert!(late.ended > fresh.ended);
}

async fn an_urgent_look_at_a_frozen_server_ends_at_its_bound(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let mut watch = Watch::of(&server, slow());
    watch.until("an answer", is_answer).await;
    server.freeze();
    let bound = Duration::from_millis(300);
    let began = Instant::now();
    let seen = watch.handle.urgent(bound).await.expect("an end");
    assert!(matches!(seen.outcome, Outcome::Silent(_)), "{seen:?}");
    assert!(began.elapsed() >= bound, "it ended before its bound");
    // Asked again before the thaw, answered after it.
    let asked = watch.handle.urgent(PATIENCE);
    server.thaw();
    assert!(is_answer(&asked.await.expect("an end")));
}

async fn an_urgent_look_at_a_living_server_goes_over_a_new_connection(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let mut watch = Watch::of(&server, slow());
    watch.until("an answer", is_answer).await;
    let seen = watch.handle.urgent(PATIENCE).await.expect("an end");
    assert!(is_answer(&seen));
    watch.until("the fresh one", |event| event.fresh && is_answer(event)).await;
    watch.handle.inventory_now();
    watch.until("an inventory", |event| facts(event).is_some_and(|f| f.replicas.is_some())).await;
}

async fn a_suspected_server_is_met_soon_after_it_thaws(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    server.freeze();
    let mut watch = Watch::of(&server, ProbeSettings { mode: Mode::Suspected, ..slow() });
    for _ in 0..2 {
        let event = watch.next().await;
        assert!(matches!(event.outcome, Outcome::Silent(_)) && event.fresh, "{event:?}");
    }
    server.thaw();
    let met = watch.until("an answer", is_answer).await;
    assert!(met.fresh);
    // Frozen, the kernel accepted at most one attempt at a time: none is left.
    let own = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='quorate'";
    server.until("one session", own, |n| n == Some("1")).await;
}

async fn a_full_server_lives(install: Install) {
    let server = Server::start(&install, 1, &["--max-connections=10"]).await;
    let mut held = Vec::new();
    while let Ok(conn) = mysql_async::Conn::new(server.app_opts()).await {
        held.push(conn);
    }
    // One connection more is kept for accounts with CONNECTION_ADMIN, ours among them.
    let began = Instant::now();
    while held.len() < 11 {
        held.extend(server.try_root().await.ok());
        assert!(began.elapsed() < PATIENCE, "the last connection is not to be had");
    }
    let mut watch = Watch::of(&server, slow());
    let event = watch.next().await;
    eprintln!("{:?}", event.outcome);
    assert!(matches!(event.outcome, Outcome::TooManyConnections(_)), "{event:?}");
    assert!(event.outcome.spoke());
}

async fn a_shutdown_is_told(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let mut watch = Watch::of(&server, slow());
    watch.until("an answer", is_answer).await;
    let mut admin = server.root().await;
    let _ = admin.query_drop("SHUTDOWN").await;
    let ended = watch.until("an end", |event| !is_answer(event)).await;
    eprintln!("{:?}", ended.outcome);
    assert!(matches!(ended.outcome, Outcome::Closed(_) | Outcome::ShuttingDown(_)), "{ended:?}");
    watch.handle.set(ProbeSettings { interval: Duration::from_millis(50), ..slow() });
    watch.until("a refusal", |event| event.outcome == Outcome::Refused).await;
}

async fn one_session_is_held_and_none_is_left_behind(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let mut watch = Watch::of(&server, ProbeSettings { interval: Duration::from_millis(20), ..slow() });
    for _ in 0..20 {
        watch.until("an answer", is_answer).await;
    }
    let own = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='quorate'";
    assert_eq!(server.value(own).await.as_deref(), Some("1"));
    drop(watch);
    server.until("no session", own, |n| n == Some("0")).await;
}
