//! Pointing a server at a source.

use std::time::Duration;

use super::{
    apply,
    receiver::{Words, channel},
    sessions,
};
use crate::{
    core::plan::{
        applied::{is_applied, start_would_lose},
        step::{SourceOptions, StepEnd},
    },
    executor::{
        ExecutorOptions,
        batch::{Run, done},
    },
    model::{
        facts::{Channel, Receiver, ServerFacts},
        gtid::GtidSet,
        server::Flavor,
    },
    session::{Profile, Tls, literal},
};

/// First pause between two looks at a receiver that is connecting; doubles up to the second.
const LOOK_AFTER: Duration = Duration::from_millis(5);
const LOOK_AFTER_MAX: Duration = Duration::from_millis(100);
/// A receiver tries to reconnect this often before it gives up for good (a day at one second).
const RETRY_COUNT: u64 = 86_400;

/// Points `name` at `options.source` by GTID and starts both threads.
pub(super) async fn point(
    run: &mut Run<'_>,
    name: &str,
    options: &SourceOptions,
    semi_sync: Option<bool>,
    wait: bool,
) -> Result<StepEnd, StepEnd> {
    let mut profile = run.profile()?;
    if semi_sync == Some(true) && profile.semi_replica.is_none() {
        profile = run.renewed_profile().await?;
    }
    if semi_sync == Some(true) && profile.semi_replica.is_none() {
        return Err(run.refuse("the semi-sync replica plug-in is not loaded"));
    }
    let words = run.words()?;
    // A stop that another node had sent, or another source, would land behind what is done here.
    let mut facts = sessions::alone(run).await?;
    let already =
        channel(&facts, name).is_some_and(|channel| is_pointed(&facts, channel, options, semi_sync));
    if already {
        run.note("it follows that source already");
        return Ok(done(facts));
    }
    facts = make_read_only(run, facts).await?;
    facts = settle_relay_log(run, &words, name, facts).await?;

    let before = channel(&facts, name);
    // A running applier keeps its relay log over CHANGE (MySQL 8.4 manual, 15.4.2.2); SOURCE_AUTO_POSITION may be
    // given only while it is stopped, and need not be where it is on.
    let keep_applier =
        run.flavor() == Flavor::MySql && before.is_some_and(|c| c.by_gtid && c.applier_running);
    let mut statements = Vec::new();
    if before.is_some() {
        statements.push(words.verb("STOP", if keep_applier { "IO_THREAD" } else { "" }, name));
    }
    statements.extend(semi_sync_replica(&profile, semi_sync));
    statements.extend(gtid_slave_pos(run.flavor(), options, &facts));
    statements.push(change(run, &profile, name, options, keep_applier));
    statements.push(words.verb("START", "", name));
    facts = run.change_all(&statements).await?;
    if wait {
        facts = wait_connected(run, name, facts).await?;
    }
    if facts.offline_mode == Some(true) && facts.super_read_only == Some(true) {
        // A fence left it on; as a read-only replica the server may be seen again.
        facts = run.change_all(&["SET GLOBAL offline_mode=OFF".to_owned()]).await?;
        run.note("switched offline_mode off");
    }
    Ok(done(facts))
}

/// Whether nothing needs doing. A running receiver proves that the credentials fit.
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

/// Read-only first: a client must not write to a replica for a moment.
async fn make_read_only(run: &mut Run<'_>, facts: ServerFacts) -> Result<ServerFacts, StepEnd> {
    let statement = match run.flavor() {
        Flavor::MySql if facts.super_read_only != Some(true) => "SET GLOBAL super_read_only=ON",
        Flavor::MariaDb if !facts.read_only => "SET GLOBAL read_only=ON",
        _ => return Ok(facts),
    };
    run.change_all(&[statement.to_owned()]).await
}

/// CHANGE deletes the relay log when both threads are stopped: what was received is applied first, or kept.
async fn settle_relay_log(
    run: &mut Run<'_>,
    words: &Words,
    name: &str,
    facts: ServerFacts,
) -> Result<ServerFacts, StepEnd> {
    let Some(found) = channel(&facts, name) else { return Ok(facts) };
    let keeps = run.flavor() == Flavor::MySql && found.by_gtid && found.applier_running;
    if keeps || (found.receiver == Receiver::Stopped && is_applied(&facts, found)) {
        return Ok(facts);
    }
    if start_would_lose(run.flavor(), &facts, found) {
        return Err(
            run.refuse("both threads are stopped while relay log is not applied: MariaDB would delete it")
        );
    }
    let mut statements = Vec::new();
    let stopped = !found.applier_running && !is_applied(&facts, found);
    let facts = match run.flavor() {
        // Never both: an applier that stops again leaves the receiver as it was.
        Flavor::MariaDb if stopped => {
            let received = found.received.clone();
            apply::start_applier(run, name, &received).await?
        }
        Flavor::MySql if stopped => {
            statements.push(words.verb("START", "SQL_THREAD", name));
            facts
        }
        _ => facts,
    };
    let receives = channel(&facts, name).is_some_and(|found| found.receiver != Receiver::Stopped);
    if receives {
        statements.push(words.verb("STOP", "IO_THREAD", name));
    }
    let facts = match statements.is_empty() {
        true => facts,
        false => run.change_all(&statements).await?,
    };
    let Some(found) = channel(&facts, name) else { return Ok(facts) };
    if is_applied(&facts, found) || (run.flavor() == Flavor::MySql && found.applier_running && found.by_gtid)
    {
        return Ok(facts);
    }
    match apply::drain(run, name, &GtidSet::empty(run.flavor())).await {
        Ok(StepEnd::Done(report)) => {
            report.facts.map(|facts| *facts).ok_or_else(|| run.unknown("no facts".to_owned()))
        }
        Ok(other) | Err(other) => {
            if receives && run.flavor() == Flavor::MySql {
                // It is not pointed: it receives as it did. MariaDB would delete what the stopped applier has left.
                let _ = run.change_all(&[words.verb("START", "IO_THREAD", name)]).await;
            }
            Err(other)
        }
    }
}

fn semi_sync_replica(profile: &Profile, semi_sync: Option<bool>) -> Option<String> {
    let (names, on) = profile.semi_replica.zip(semi_sync)?;
    // Takes effect when the receiver connects anew (MySQL 8.4 manual, 19.4.10.2).
    Some(format!("SET GLOBAL {}_enabled={}", names.replica(), if on { "ON" } else { "OFF" }))
}

/// A former primary has an empty or stale position, and would fetch everything again. It goes on from what it holds, by `facts`: it
/// is read-only, its receiver stands, and all that it received is applied. What it was read to hold when it was judged may be
/// less: its applier may have worked since.
fn gtid_slave_pos(flavor: Flavor, options: &SourceOptions, facts: &ServerFacts) -> Option<String> {
    options.gtid_slave_pos.as_ref().filter(|_| flavor == Flavor::MariaDb)?;
    let position = facts.executed.position().to_string();
    Some(format!("SET GLOBAL gtid_slave_pos={}", literal(&position)))
}

/// The whole of the channel's options. The password is in this text and nowhere else: it is sent, never kept or shown.
fn change(
    run: &Run<'_>,
    profile: &Profile,
    name: &str,
    options: &SourceOptions,
    keep_applier: bool,
) -> String {
    let executor: &ExecutorOptions = &run.options;
    let account = &executor.replication;
    let new = profile.flavor == Flavor::MySql && profile.version.at_least((8, 0, 23));
    let noun = if new { "SOURCE" } else { "MASTER" };
    let seconds = options.heartbeat_ms as f64 / 1000.0;
    let mut parts = vec![
        format!("{noun}_HOST={}", literal(&options.source.host)),
        format!("{noun}_PORT={}", options.source.port),
        format!("{noun}_USER={}", literal(&account.user)),
        format!("{noun}_HEARTBEAT_PERIOD={seconds:.3}"),
        format!("{noun}_CONNECT_RETRY={}", options.connect_retry_s),
    ];
    match profile.flavor {
        Flavor::MySql => {
            parts.push(format!("{noun}_RETRY_COUNT={RETRY_COUNT}"));
            if !keep_applier {
                parts.push(format!("{noun}_AUTO_POSITION=1"));
            }
        }
        // MariaDB's receiver retries `--master-retry-count` times; no option of CHANGE MASTER before 12.
        Flavor::MariaDb => parts.push("MASTER_USE_GTID=slave_pos".to_owned()),
    }
    parts.extend(tls(profile.flavor, noun, &account.tls, profile.version.at_least((8, 0, 23))));
    // Last, so that no error message that repeats the beginning reaches it.
    parts.push(format!("{noun}_PASSWORD={}", literal(account.password.expose())));
    let list = parts.join(", ");
    match (profile.flavor, new) {
        (Flavor::MySql, true) => format!("CHANGE REPLICATION SOURCE TO {list} FOR CHANNEL {}", literal(name)),
        (Flavor::MySql, false) => format!("CHANGE MASTER TO {list} FOR CHANNEL {}", literal(name)),
        (Flavor::MariaDb, _) => format!("CHANGE MASTER {} TO {list}", literal(name)),
    }
}

fn tls(flavor: Flavor, noun: &str, tls: &Tls, new: bool) -> Vec<String> {
    let path =
        |what: &str, path: &std::path::Path| format!("{noun}_{what}={}", literal(&path.to_string_lossy()));
    match tls {
        // caching_sha2_password over plain TCP needs the source's RSA key. TLS is left on where the source offers it.
        Tls::Off if flavor == Flavor::MySql && new => vec!["GET_SOURCE_PUBLIC_KEY=1".to_owned()],
        Tls::Off if flavor == Flavor::MySql => vec!["GET_MASTER_PUBLIC_KEY=1".to_owned()],
        Tls::Off => Vec::new(),
        Tls::Required { ca, identity, check_name, .. } => {
            let mut parts = vec![format!("{noun}_SSL=1")];
            if let Some(ca) = ca {
                parts.push(path("SSL_CA", ca));
                parts.push(format!("{noun}_SSL_VERIFY_SERVER_CERT={}", u8::from(*check_name)));
            }
            if let Some((cert, key)) = identity {
                parts.push(path("SSL_CERT", cert));
                parts.push(path("SSL_KEY", key));
            }
            parts
        }
    }
}

/// Waits until the receiver is connected. One that stopped for good, or does not connect in time, is *unknown*: the
/// server is pointed and goes on trying.
async fn wait_connected(
    run: &mut Run<'_>,
    name: &str,
    mut facts: ServerFacts,
) -> Result<ServerFacts, StepEnd> {
    let mut pause = LOOK_AFTER;
    loop {
        let Some(found) = channel(&facts, name) else {
            return Err(run.unknown("the channel is gone".to_owned()));
        };
        let error = found.receiver_error.as_ref().map(|(code, text)| format!("{text} ({code})"));
        match found.receiver {
            Receiver::Running => return Ok(facts),
            Receiver::Stopped if error.is_some() => {
                return Err(
                    run.unknown(format!("pointed, but the receiver stopped: {}", error.unwrap_or_default()))
                );
            }
            _ if run.left() <= pause => {
                let why = error.unwrap_or_else(|| "it is connecting".to_owned());
                return Err(run.unknown(format!("pointed, but the receiver is not connected: {why}")));
            }
            _ => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LOOK_AFTER_MAX);
        facts = run.facts().await?;
    }
}
