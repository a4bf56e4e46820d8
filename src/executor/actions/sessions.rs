//! Sessions on the server: who stands in the way, who is to be killed, and that they are seen gone.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    core::plan::step::{Blocker, StepEnd, StepReport},
    executor::batch::{Run, Stopped},
    mistake::{Mistake, planted},
    model::{facts::ServerFacts, server::Flavor},
    session::{Row, literal},
};

/// Pause between two looks at sessions that are being killed.
pub(in crate::executor) const LOOK_AFTER: Duration = Duration::from_millis(5);
/// InnoDB renews its list of transactions when nobody has read it for 100 ms.
const LIST_RENEWED_AFTER: Duration = Duration::from_millis(110);
/// Unknown thread id: it has gone by itself.
pub(in crate::executor) const NO_SUCH_THREAD: u16 = 1094;
/// Not the owner of that thread: its account has SYSTEM_USER (MySQL 8.4 manual, 8.2.11), ours has not.
const NOT_OWNER: u16 = 1095;
/// Node numbers whose sessions are looked for besides those that are known.
const NODES_TRIED: u64 = 32;
/// Kills in one round trip.
const KILLS_MAX: usize = 200;
/// What a session that may not be killed means.
pub(super) const NOT_KILLED: &str = "sessions of accounts with SYSTEM_USER may not be killed by this account";
/// A statement shown to an operator is cut to this many characters.
const STATEMENT_MAX: usize = 200;
/// Longest user or host that is shown.
const NAME_MAX: usize = 255;

/// A client session: neither the server's own threads, nor replication, nor a session of Quorate's account.
pub(super) struct Client {
    id: u64,
    user: String,
    host: String,
    command: String,
    statement: String,
    /// How long its statement has run, or it has been idle.
    in_state: Age,
    /// Its open transaction, where it has one: id and age.
    transaction: Option<(String, Age)>,
}

/// An age as precise as the server tells it, milliseconds.
#[derive(Debug, Clone, Copy)]
struct Age {
    at_least: u64,
    at_most: u64,
}

impl Age {
    fn between(at_least: i64, at_most: i64) -> Self {
        let positive = |ms: i64| u64::try_from(ms).unwrap_or(0);
        Self { at_least: positive(at_least), at_most: positive(at_most) }
    }
}

impl Client {
    /// The server is killing it; its client has been cut off.
    pub(super) fn is_killed(&self) -> bool {
        self.command.eq_ignore_ascii_case("Killed")
    }

    /// Connection id.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// It waits for its client.
    pub(super) fn is_idle(&self) -> bool {
        self.command.eq_ignore_ascii_case("Sleep")
    }

    /// It runs a statement or holds a transaction open.
    pub(super) fn is_writer(&self) -> bool {
        !self.is_killed() && (self.transaction.is_some() || !self.is_idle())
    }
}

/// Lists client sessions. InnoDB renews its list of transactions only when nobody has read it for 100 ms: transactions
/// may be missing from a list taken sooner after another.
pub(super) async fn clients(run: &mut Run<'_>) -> Result<Vec<Client>, StepEnd> {
    let table = run.profile()?.process_list();
    let own = literal(&run.options.account.user);
    let in_state = match run.flavor() {
        Flavor::MySql => "p.TIME*1000",
        Flavor::MariaDb => "CAST(p.TIME_MS AS SIGNED)",
    };
    // InnoDB tells the start of a transaction in the machine's time zone, whatever the session's.
    let sql = format!(
        "SELECT p.ID AS id, p.USER AS user, p.HOST AS host, p.COMMAND AS command, {in_state} AS in_state_ms, \
         LEFT(p.INFO,{STATEMENT_MAX}) AS statement, t.trx_id AS transaction_id, TIMESTAMPDIFF(MICROSECOND, \
         t.trx_started, CONVERT_TZ(UTC_TIMESTAMP(6),'+00:00','SYSTEM')) DIV 1000 AS in_transaction_ms \
         FROM {table} p LEFT JOIN information_schema.INNODB_TRX t ON t.trx_mysql_thread_id=p.ID \
         WHERE p.ID<>CONNECTION_ID() AND p.USER NOT IN ('system user','event_scheduler','unauthenticated user',{own}) \
         AND p.COMMAND NOT IN ('Daemon','Binlog Dump','Binlog Dump GTID','Connect','Slave_IO','Slave_SQL','Slave_worker')"
    );
    let sets = run.ask(&sql).await?;
    let flavor = run.flavor();
    Ok(sets
        .first()
        .map(|set| set.rows().filter_map(|row| client(flavor, &row)).collect())
        .unwrap_or_default())
}

fn client(flavor: Flavor, row: &Row<'_>) -> Option<Client> {
    let text = |name: &str| row.words(name, STATEMENT_MAX.max(NAME_MAX));
    let in_state: i64 = row.number("in_state_ms").unwrap_or(0);
    let in_state = match flavor {
        // A difference of two whole seconds.
        Flavor::MySql => Age::between(in_state.saturating_sub(1000), in_state.saturating_add(1000)),
        Flavor::MariaDb => Age::between(in_state, in_state),
    };
    // Began at a whole second, rounded down.
    let in_transaction =
        row.number::<i64>("in_transaction_ms").map(|ms| Age::between(ms.saturating_sub(1000), ms));
    Some(Client {
        id: row.number("id")?,
        user: text("user"),
        host: text("host"),
        command: text("command"),
        statement: text("statement"),
        in_state,
        transaction: row.get("transaction_id").map(str::to_owned).zip(in_transaction),
    })
}

/// What a round of kills came to.
#[derive(Debug, Default)]
pub(super) struct Killed {
    /// Connections that were there to be killed.
    pub(super) done: u32,
    /// Connections of accounts above ours, which the server does not let us kill.
    pub(super) not_ours: Vec<u64>,
}

/// Kills connections, in as few round trips as the server's answers allow: an error ends a multi-statement.
pub(super) async fn kill(run: &mut Run<'_>, ids: &[u64]) -> Result<Killed, StepEnd> {
    let mut killed = Killed::default();
    let mut from = 0;
    while from < ids.len() {
        let until = ids.len().min(from + KILLS_MAX);
        let batch: Vec<String> = ids[from..until].iter().map(|id| kill_connection(*id)).collect();
        let done = match run.change(&batch).await {
            Ok(_) => batch.len(),
            Err(Stopped::At(done, error)) if error.code() == Some(NO_SUCH_THREAD) => {
                from += 1;
                done
            }
            Err(Stopped::At(done, error)) if error.code() == Some(NOT_OWNER) => {
                killed.not_ours.push(ids[from + done]);
                from += 1;
                done
            }
            Err(stopped) => return Err(run.ended(stopped)),
        };
        from += done;
        killed.done += u32::try_from(done).unwrap_or(u32::MAX);
    }
    Ok(killed)
}

pub(in crate::executor) fn kill_connection(id: u64) -> String {
    format!("KILL CONNECTION {id}")
}

/// The connection ids of those clients that `chosen` picks.
pub(super) fn ids<'a>(clients: &'a [Client], chosen: impl Fn(&Client) -> bool + 'a) -> Vec<u64> {
    clients.iter().filter(|client| chosen(client)).map(|client| client.id).collect()
}

/// Kills client sessions that hold transactions open, run statements or hold tables, as far as the server shows them.
/// Two looks: at the first, InnoDB's list may be an old one.
pub(super) async fn kill_writers(run: &mut Run<'_>) -> Result<StepEnd, StepEnd> {
    let mut killed = kill_writers_seen(run).await?;
    if run.left() > LIST_RENEWED_AFTER {
        tokio::time::sleep(LIST_RENEWED_AFTER).await;
        let more = kill_writers_seen(run).await?;
        killed.done += more.done;
        killed.not_ours = more.not_ours;
    }
    if !killed.not_ours.is_empty() {
        return Err(run.unknown(format!("{NOT_KILLED}: connections {:?}", killed.not_ours)));
    }
    Ok(StepEnd::Done(StepReport { killed: killed.done, ..StepReport::default() }))
}

async fn kill_writers_seen(run: &mut Run<'_>) -> Result<Killed, StepEnd> {
    let clients = clients(run).await?;
    let mut writers: BTreeSet<u64> = ids(&clients, Client::is_writer).into_iter().collect();
    writers.extend(table_locks(run).await?.iter().map(|holder| holder.id));
    kill(run, &writers.into_iter().collect::<Vec<_>>()).await
}

impl Client {
    /// What it is that runs, and since when.
    fn occupation(&self) -> Option<(&'static str, Age)> {
        match &self.transaction {
            _ if self.is_killed() => None,
            Some((_, age)) => Some(("transaction", *age)),
            None if self.is_idle() => None,
            None => Some(("statement", self.in_state)),
        }
    }

    /// Whether `later` is still at the same thing.
    fn goes_on_as(&self, later: &Client) -> bool {
        self.id == later.id
            && match (&self.transaction, &later.transaction) {
                (Some((one, _)), Some((other, _))) => one == other,
                (None, None) => !later.is_idle() && self.statement == later.statement,
                _ => false,
            }
    }

    fn blocker(self, kind: &str, for_ms: u64) -> Blocker {
        let Client { id, user, host, statement, .. } = self;
        Blocker { id, user, host, for_ms, statement, kind: kind.to_owned() }
    }
}

/// Lists client sessions whose statement or transaction is older than `older_than_ms`, and explicit table locks.
/// Servers tell ages by the second, a second too much or too little: who may be older is looked at again after that
/// time, and is if it is still at the same thing.
pub(super) async fn list_blockers(run: &mut Run<'_>, older_than_ms: u64) -> Result<StepEnd, StepEnd> {
    let mut blockers = Vec::new();
    let mut doubtful = Vec::new();
    for client in clients(run).await? {
        match client.occupation() {
            Some((kind, age)) if age.at_least >= older_than_ms => {
                blockers.push(client.blocker(kind, age.at_least))
            }
            Some((_, age)) if age.at_most >= older_than_ms => doubtful.push(client),
            _ => {}
        }
    }
    if !doubtful.is_empty() {
        tokio::time::sleep(Duration::from_millis(older_than_ms).min(run.left())).await;
        for later in clients(run).await? {
            let same = doubtful.iter().any(|earlier| earlier.goes_on_as(&later));
            if let Some((kind, age)) = later.occupation().filter(|_| same) {
                blockers.push(later.blocker(kind, age.at_least.max(older_than_ms)));
            }
        }
    }
    blockers.extend(table_locks(run).await?);
    Ok(StepEnd::Done(StepReport { blockers, ..StepReport::default() }))
}

/// Sessions that hold tables by LOCK TABLES, where the server shows metadata locks.
async fn table_locks(run: &mut Run<'_>) -> Result<Vec<Blocker>, StepEnd> {
    let profile = run.profile()?;
    if profile.flavor == Flavor::MariaDb || !profile.performance_schema {
        run.note("table locks could not be listed: the server shows no metadata locks");
        return Ok(Vec::new());
    }
    let own = literal(&run.options.account.user);
    let sql = format!(
        "SELECT t.PROCESSLIST_ID AS id, t.PROCESSLIST_USER AS user, t.PROCESSLIST_HOST AS host, \
         t.PROCESSLIST_TIME*1000 AS for_ms, CONCAT(MIN(m.OBJECT_SCHEMA),'.',MIN(m.OBJECT_NAME)) AS object \
         FROM performance_schema.metadata_locks m JOIN performance_schema.threads t ON t.THREAD_ID=m.OWNER_THREAD_ID \
         WHERE m.OBJECT_TYPE='TABLE' AND m.LOCK_STATUS='GRANTED' AND t.PROCESSLIST_USER<>{own} \
         AND m.LOCK_TYPE IN ('SHARED_READ_ONLY','SHARED_NO_WRITE','SHARED_NO_READ_WRITE','EXCLUSIVE') \
         GROUP BY 1,2,3,4"
    );
    let sets = run.ask(&sql).await?;
    let rows = sets.first().map(|set| set.rows().collect::<Vec<_>>()).unwrap_or_default();
    Ok(rows
        .iter()
        .filter_map(|row| {
            Some(Blocker {
                id: row.number("id")?,
                user: row.words("user", NAME_MAX),
                host: row.words("host", NAME_MAX),
                for_ms: row.number("for_ms").unwrap_or(0),
                statement: format!("holds a lock on {}", row.words("object", STATEMENT_MAX)),
                kind: "table lock".to_owned(),
            })
        })
        .collect())
}

/// Kills executor sessions of the group's other nodes and sees them gone.
pub(super) async fn kill_predecessors(run: &mut Run<'_>) -> Result<StepEnd, StepEnd> {
    let others = Others::of(run);
    let (facts, seen) = others.look(run).await?;
    let (_, killed) = others.end(run, facts, seen).await?;
    Ok(StepEnd::Done(StepReport { killed, ..StepReport::default() }))
}

/// Ends the executor sessions of other nodes, where that was not done in this term: what they had sent would undo what is
/// done now, when it lands. The facts behind that.
pub(super) async fn alone(run: &mut Run<'_>) -> Result<ServerFacts, StepEnd> {
    let others = Others::unless_gone(run);
    let (facts, seen) = others.look(run).await?;
    let (facts, killed) = others.end(run, facts, seen).await?;
    if killed > 0 {
        run.note(format!("ended {killed} executor sessions of other nodes"));
    }
    Ok(facts)
}

/// The executor sessions of the group's other nodes on this server, by their marks.
pub(super) struct Others {
    /// None where they are known to be gone.
    question: Option<String>,
}

impl Others {
    /// A node that was removed, or of which this one has not heard yet, may have left a session too: numbers are small.
    pub(super) fn of(run: &Run<'_>) -> Self {
        let (marks, own) = (run.options.marks(), run.options.node);
        let nodes: BTreeSet<u64> = run.options.nodes.iter().copied().chain(1..=NODES_TRIED).collect();
        let select = |node: u64| format!("SELECT IS_USED_LOCK({}) AS id", literal(&marks.of(node)));
        let selects: Vec<String> = nodes.into_iter().filter(|node| *node != own).map(select).collect();
        Self { question: Some(selects.join(" UNION ALL ")) }
    }

    /// None of them is looked for where they were seen gone in this term.
    pub(super) fn unless_gone(run: &Run<'_>) -> Self {
        let gone = run.is_alone() || planted(Mistake::OthersLeftAtStop);
        if gone { Self { question: None } } else { Self::of(run) }
    }

    /// Does `statements`, and then sees which of them are there.
    pub(super) async fn after(
        &self,
        run: &mut Run<'_>,
        statements: &[String],
    ) -> Result<(ServerFacts, Vec<u64>), Stopped> {
        let Some(question) = &self.question else { return Ok((run.change(statements).await?, Vec::new())) };
        let (facts, holders) = run.change_and_ask(statements, question).await?;
        Ok((facts, holders.rows().filter_map(|row| row.number("id")).collect()))
    }

    /// Sees which of them are there.
    pub(super) async fn look(&self, run: &mut Run<'_>) -> Result<(ServerFacts, Vec<u64>), StepEnd> {
        let seen = self.after(run, &[]).await;
        seen.map_err(|stopped| run.ended(stopped))
    }

    /// Kills those that were seen with `facts`, and sees them gone: what they had sent has landed by then, or never will. A
    /// node may open its next session at once, and sends nothing over that which was allowed before. The facts behind the
    /// last look, and how many were killed.
    pub(super) async fn end(
        &self,
        run: &mut Run<'_>,
        facts: ServerFacts,
        seen: Vec<u64>,
    ) -> Result<(ServerFacts, u32), StepEnd> {
        let killed = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        let (mut facts, mut left) = (facts, seen);
        while !left.is_empty() {
            let (after, now) = self.kill(run, &left).await?;
            facts = after;
            left.retain(|id| now.contains(id));
            if !left.is_empty() && run.left() <= LOOK_AFTER {
                return Err(
                    run.unknown(format!("{} executor sessions of other nodes are not seen gone", left.len()))
                );
            }
            if !left.is_empty() {
                tokio::time::sleep(LOOK_AFTER).await;
            }
        }
        run.set_alone();
        Ok((facts, killed))
    }

    /// In one round trip, unless one of them went by itself meanwhile.
    async fn kill(&self, run: &mut Run<'_>, ids: &[u64]) -> Result<(ServerFacts, Vec<u64>), StepEnd> {
        let kills: Vec<String> = ids.iter().map(|id| kill_connection(*id)).collect();
        match self.after(run, &kills).await {
            Ok(seen) => Ok(seen),
            Err(Stopped::At(..)) => {
                kill(run, ids).await?;
                self.look(run).await
            }
            Err(stopped) => Err(run.ended(stopped)),
        }
    }
}
