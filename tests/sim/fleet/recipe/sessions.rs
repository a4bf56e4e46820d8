//! `src/executor/actions/sessions.rs`.

use std::{collections::BTreeSet, sync::Arc};

use quorate::{
    core::plan::step::{Blocker, StepEnd, StepReport},
    model::{facts::ServerFacts, server::Flavor},
};

use super::super::statement::{Client, Reply, Statement, code};
use super::{
    Run, Stopped, Wire,
    fence::{ids, is_writer},
    holder, mark, take_mark,
};

/// Pause between two looks at sessions that are being killed, milliseconds.
pub(super) const LOOK_AFTER_MS: u64 = 5;
/// InnoDB renews its list of transactions when nobody has read it for 100 ms.
const LIST_RENEWED_AFTER_MS: u64 = 110;
/// Node numbers whose sessions are looked for besides those that are known.
const NODES_TRIED: u64 = 32;
/// Kills in one round trip.
const KILLS_MAX: usize = 200;

/// What a round of kills came to.
#[derive(Debug, Default)]
pub(super) struct Killed {
    /// Connections that were there to be killed.
    pub(super) done: u32,
    /// Connections of accounts above ours.
    pub(super) not_ours: Vec<u64>,
}

/// What a client is at, and for how long at least and at most, as far as the server tells ages.
fn occupation(flavor: Flavor, client: &Client) -> Option<(&'static str, u64, u64)> {
    let for_ms = client.in_state_ms;
    match &client.transaction {
        _ if client.killed => None,
        Some((_, age)) => Some(("transaction", age.saturating_sub(1_000), *age)),
        None if client.idle => None,
        None if flavor == Flavor::MySql => Some(("statement", for_ms.saturating_sub(1_000), for_ms + 1_000)),
        None => Some(("statement", for_ms, for_ms)),
    }
}

/// Whether `later` is still at the same thing.
fn goes_on_as(earlier: &Client, later: &Client) -> bool {
    earlier.id == later.id
        && match (&earlier.transaction, &later.transaction) {
            (Some((one, _)), Some((other, _))) => one == other,
            (None, None) => !later.idle && earlier.statement == later.statement,
            _ => false,
        }
}

fn blocker(client: Client, kind: &str, for_ms: u64) -> Blocker {
    let Client { id, user, host, statement, .. } = client;
    Blocker { id, user, host, for_ms, statement, kind: kind.to_owned() }
}

impl<W: Wire> Run<'_, W> {
    pub(super) async fn clients(&mut self) -> Result<Vec<Client>, StepEnd> {
        match self.ask(Statement::ListClients).await? {
            Reply::Clients(clients) => Ok(clients),
            _ => Ok(Vec::new()),
        }
    }

    pub(super) async fn kill(&mut self, ids: &[u64]) -> Result<Killed, StepEnd> {
        let mut killed = Killed::default();
        let mut from = 0;
        while from < ids.len() {
            let until = ids.len().min(from + KILLS_MAX);
            let batch: Vec<Statement> =
                ids[from..until].iter().map(|id| Statement::KillConnection(*id)).collect();
            let done = match self.change(&batch).await {
                Ok(_) => batch.len(),
                Err(Stopped::At(done, error)) if error.code == code::NO_SUCH_THREAD => {
                    from += 1;
                    done
                }
                Err(Stopped::At(done, error)) if error.code == code::NOT_OWNER => {
                    killed.not_ours.push(ids[from + done]);
                    from += 1;
                    done
                }
                Err(stopped) => return Err(self.ended(stopped)),
            };
            from += done;
            killed.done += done as u32;
        }
        Ok(killed)
    }

    pub(super) async fn kill_writers(&mut self) -> Result<StepEnd, StepEnd> {
        let mut killed = self.kill_writers_seen().await?;
        if self.wire.left_ms() > LIST_RENEWED_AFTER_MS {
            self.wire.sleep(LIST_RENEWED_AFTER_MS).await;
            let more = self.kill_writers_seen().await?;
            killed = Killed { done: killed.done + more.done, ..more };
        }
        if !killed.not_ours.is_empty() {
            return Err(self.unknown(format!("may not be killed: connections {:?}", killed.not_ours)));
        }
        Ok(StepEnd::Done(StepReport { killed: killed.done, ..StepReport::default() }))
    }

    async fn kill_writers_seen(&mut self) -> Result<Killed, StepEnd> {
        let clients = self.clients().await?;
        let mut writers: BTreeSet<u64> = ids(&clients, is_writer).into_iter().collect();
        if let Reply::Clients(lockers) = self.ask(Statement::ListTableLocks).await? {
            writers.extend(lockers.iter().map(|client| client.id));
        }
        self.kill(&writers.into_iter().collect::<Vec<_>>()).await
    }

    pub(super) async fn list_blockers(&mut self, older_than_ms: u64) -> Result<StepEnd, StepEnd> {
        let flavor = self.flavor();
        let mut blockers = Vec::new();
        let mut doubtful = Vec::new();
        for client in self.clients().await? {
            match occupation(flavor, &client) {
                Some((kind, least, _)) if least >= older_than_ms => {
                    blockers.push(blocker(client, kind, least));
                }
                Some((_, _, most)) if most >= older_than_ms => doubtful.push(client),
                _ => {}
            }
        }
        if !doubtful.is_empty() {
            let pause = older_than_ms.min(self.wire.left_ms());
            self.wire.sleep(pause).await;
            for later in self.clients().await? {
                let same = doubtful.iter().any(|earlier| goes_on_as(earlier, &later));
                if let Some((kind, least, _)) = occupation(flavor, &later).filter(|_| same) {
                    blockers.push(blocker(later, kind, least.max(older_than_ms)));
                }
            }
        }
        if let Reply::Clients(lockers) = self.ask(Statement::ListTableLocks).await? {
            blockers.extend(lockers.into_iter().map(|client| {
                let for_ms = client.in_state_ms;
                blocker(client, "table lock", for_ms)
            }));
        }
        Ok(StepEnd::Done(StepReport { blockers, ..StepReport::default() }))
    }

    pub(super) async fn kill_predecessors(&mut self) -> Result<StepEnd, StepEnd> {
        let (facts, seen) = self.look_for_others().await?;
        let (_, killed) = self.end_others(facts, seen).await?;
        Ok(StepEnd::Done(StepReport { killed, ..StepReport::default() }))
    }

    fn is_alone(&self) -> bool {
        self.slot.alone_in == Some(self.wire.term())
    }

    fn others(&self) -> Statement {
        let nodes: BTreeSet<u64> = self.node.nodes.iter().copied().chain(1..=NODES_TRIED).collect();
        let others = nodes.into_iter().filter(|node| *node != self.node.number);
        Statement::MarkHolders(others.map(|node| mark(&self.node.group, node)).collect())
    }

    /// Does `statements`, and then sees which executor sessions of other nodes are there, unless they were seen gone.
    pub(super) async fn before_any(
        &mut self,
        statements: &[Statement],
    ) -> Result<(Arc<ServerFacts>, Vec<u64>), Stopped> {
        match self.is_alone() {
            true => Ok((self.change(statements).await?, Vec::new())),
            false => self.before_others(statements).await,
        }
    }

    /// Does `statements`, and then sees which executor sessions of other nodes are there.
    async fn before_others(
        &mut self,
        statements: &[Statement],
    ) -> Result<(Arc<ServerFacts>, Vec<u64>), Stopped> {
        let all: Vec<Statement> = statements.iter().cloned().chain([self.others()]).collect();
        let (facts, mut replies) = self.change_and_read(&all).await?;
        match replies.pop() {
            Some(Reply::Holders(holders)) => Ok((facts, holders)),
            _ => Err(Stopped::End(self.unknown("a question was not answered"))),
        }
    }

    pub(super) async fn look_for_any(&mut self) -> Result<(Arc<ServerFacts>, Vec<u64>), StepEnd> {
        let seen = self.before_any(&[]).await;
        seen.map_err(|stopped| self.ended(stopped))
    }

    /// Ends the executor sessions of other nodes, where that was not done in this term.
    pub(super) async fn alone(&mut self) -> Result<Arc<ServerFacts>, StepEnd> {
        let (facts, seen) = self.look_for_any().await?;
        let (facts, killed) = self.end_others(facts, seen).await?;
        if killed > 0 {
            self.note(format!("ended {killed} executor sessions of other nodes"));
        }
        Ok(facts)
    }

    async fn look_for_others(&mut self) -> Result<(Arc<ServerFacts>, Vec<u64>), StepEnd> {
        let seen = self.before_others(&[]).await;
        seen.map_err(|stopped| self.ended(stopped))
    }

    /// Kills those that were seen with `facts`, and sees them gone.
    pub(super) async fn end_others(
        &mut self,
        facts: Arc<ServerFacts>,
        seen: Vec<u64>,
    ) -> Result<(Arc<ServerFacts>, u32), StepEnd> {
        let killed = seen.len() as u32;
        let (mut facts, mut left) = (facts, seen);
        while !left.is_empty() {
            let (after, now) = self.kill_others(&left).await?;
            facts = after;
            left.retain(|id| now.contains(id));
            if !left.is_empty() && self.wire.left_ms() <= LOOK_AFTER_MS {
                let why = format!("{} executor sessions of other nodes are not seen gone", left.len());
                return Err(self.unknown(why));
            }
            if !left.is_empty() {
                self.wire.sleep(LOOK_AFTER_MS).await;
            }
        }
        self.slot.alone_in = Some(self.wire.term());
        Ok((facts, killed))
    }

    async fn kill_others(&mut self, ids: &[u64]) -> Result<(Arc<ServerFacts>, Vec<u64>), StepEnd> {
        let kills: Vec<Statement> = ids.iter().map(|id| Statement::KillConnection(*id)).collect();
        match self.before_others(&kills).await {
            Ok(seen) => Ok(seen),
            Err(Stopped::At(..)) => {
                self.kill(ids).await?;
                self.look_for_others().await
            }
            Err(stopped) => Err(self.ended(stopped)),
        }
    }
}
