//! How the executor carries out each action, in statements of the simulated fleet: the same order, guards and ends as
//! `src/executor`. The world gives a [`Wire`]: one session with the network and the time around it.

mod apply;
mod fence;
mod point;
mod receiver;
mod semi_sync;
mod sessions;

use std::{collections::BTreeSet, future::Future, sync::Arc};

use quorate::{
    core::plan::step::{Action, Step, StepEnd, StepReport},
    mistake::{Mistake, planted},
    model::{
        facts::{Channel, ServerFacts},
        gtid::GtidSet,
        server::{Flavor, Identity},
    },
};

use super::statement::{Answer, Profile, Reply, SqlError, Statement, code};

/// The session is gone, or no answer came before the step's deadline: what was sent may still land.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone(pub String);

/// One executor session for the time of one step.
pub trait Wire: Send {
    /// One round trip, awaited until the step's deadline at the latest. After an error the session is never used again.
    fn send(&mut self, statements: Vec<Statement>) -> impl Future<Output = Result<Answer, Gone>> + Send;
    /// Lets time pass.
    fn sleep(&mut self, ms: u64) -> impl Future<Output = ()> + Send;
    /// Milliseconds until the step's deadline.
    fn left_ms(&self) -> u64;
    /// Whether the permit still holds.
    fn permitted(&self) -> bool;
    /// The permit's term.
    fn term(&self) -> u64;
}

/// The node on whose behalf steps are run.
#[derive(Debug, Clone)]
pub struct Node {
    /// Name of the group.
    pub group: String,
    /// Its number.
    pub number: u64,
    /// Numbers of the group's nodes, as far as it has heard.
    pub nodes: Vec<u64>,
}

/// What is known of a session from its opening on; kept with it from step to step.
#[derive(Debug, Clone)]
pub struct Slot {
    /// What the server can be asked.
    pub profile: Profile,
    /// An earlier session of this node that still holds its mark.
    pub predecessor: Option<u64>,
    /// Whether the session can still be used; after a step that lost it, the next one opens another.
    pub is_open: bool,
    /// The term in which other nodes' sessions were seen gone.
    pub alone_in: Option<u64>,
    /// What the last reading over it said was executed: no less as long as the session lives.
    pub executed: Option<GtidSet>,
}

/// How many seconds a session's statements wait for locks, unless they say otherwise (`SessionOptions::lock_wait_s`).
const LOCK_WAIT_S: u64 = 1;

/// Makes a session that has just logged in ready: its settings, the node's mark, what the server is.
pub async fn open(wire: &mut impl Wire, node: &Node) -> Result<Slot, Gone> {
    let first = wire.send(vec![Statement::LockWaitTimeout(LOCK_WAIT_S), take_mark(node)]).await?;
    let predecessor = holder(first.replies.last());
    let second = wire.send(vec![Statement::AskProfile]).await?;
    match second.replies.into_iter().next() {
        Some(Reply::Profile(profile)) => {
            Ok(Slot { profile, predecessor, is_open: true, alone_in: None, executed: None })
        }
        _ => Err(Gone("it does not say what it is".to_owned())),
    }
}

/// What the keeper of an idle session sends each ten seconds, or sooner while the mark is somebody else's.
pub async fn ping(wire: &mut impl Wire, node: &Node, slot: &mut Slot) -> Result<(), Gone> {
    match slot.predecessor {
        None => drop(wire.send(vec![Statement::Ping]).await?),
        Some(_) => slot.predecessor = holder(wire.send(vec![take_mark(node)]).await?.replies.last()),
    }
    Ok(())
}

/// Carries out one step over a session that is open; `slot.is_open` tells afterwards whether it still is.
pub async fn run<W: Wire>(wire: &mut W, node: &Node, slot: &mut Slot, step: &Step) -> StepEnd {
    let mut run = Run { wire, node, slot, step, changed: false, notes: Vec::new() };
    let end = run.perform(&step.action).await.unwrap_or_else(|end| end);
    run.finish(end)
}

/// An earlier session of this node still holds the mark: it is killed and seen gone, and the mark taken, before this one is
/// used. Whether the mark was taken just now.
pub async fn end_predecessor(
    wire: &mut impl Wire,
    node: &Node,
    identity: &Identity,
    slot: &mut Slot,
) -> Result<bool, Gone> {
    let (before, mut killed) = (slot.predecessor, BTreeSet::new());
    if before.is_some() {
        let answer = wire.send(vec![Statement::CheckIdentity(identity.clone())]).await?;
        if let Some(error) = answer.error {
            return Err(Gone(format!("it is not {identity}: {error}")));
        }
    }
    while let Some(holder) = slot.predecessor {
        if wire.left_ms() <= sessions::LOOK_AFTER_MS {
            return Err(Gone(format!(
                "an earlier executor session of this node, connection {holder}, is still there"
            )));
        }
        match holder != 0 && killed.insert(holder) {
            true => drop(wire.send(vec![Statement::KillConnection(holder)]).await?),
            false => wire.sleep(sessions::LOOK_AFTER_MS).await,
        }
        slot.predecessor = self::holder(wire.send(vec![take_mark(node)]).await?.replies.last());
    }
    Ok(before.is_some())
}

/// The mark of a node's session (`src/executor/mark.rs`).
pub fn mark(group: &str, node: u64) -> String {
    format!("quorate/exec/{group}/{node}")
}

fn take_mark(node: &Node) -> Statement {
    Statement::TakeMark(mark(&node.group, node.number))
}

fn holder(reply: Option<&Reply>) -> Option<u64> {
    match reply {
        Some(Reply::Mark(holder)) => *holder,
        _ => Some(0),
    }
}

/// One step under way.
struct Run<'a, W> {
    wire: &'a mut W,
    node: &'a Node,
    slot: &'a mut Slot,
    step: &'a Step,
    /// Whether a statement of this step changed anything.
    changed: bool,
    notes: Vec<String>,
}

/// Why a batch ended early.
enum Stopped {
    /// The server refused the statement with that number (from 0); those before it are done.
    At(usize, SqlError),
    /// The step is over.
    End(StepEnd),
}

impl<W: Wire> Run<'_, W> {
    async fn perform(&mut self, action: &Action) -> Result<StepEnd, StepEnd> {
        match action {
            Action::StopReceiver { channel } => self.stop_receiver(channel).await,
            Action::StartReceiver { channel } => self.start_receiver(channel).await,
            Action::RestartReceiver { channel } => self.restart_receiver(channel).await,
            Action::ReadFacts => Ok(done(self.facts().await?)),
            Action::Fence => self.fence().await,
            Action::Unfence { semi_sync_acks, must_hold } => self.unfence(*semi_sync_acks, must_hold).await,
            Action::Drain { channel, until } => self.drain(channel, until).await,
            Action::Detach { channel, until } => self.detach(channel, until).await,
            Action::Point { channel, options, semi_sync_replica, wait } => {
                self.point(channel, options, *semi_sync_replica, *wait).await
            }
            Action::EnableSemiSyncSource { acks } => self.enable_semi_sync(*acks).await,
            Action::DisableSemiSyncSource => self.disable_semi_sync().await,
            Action::MakeWritable { must_hold } => self.make_writable(must_hold).await,
            Action::MakeReadOnly { lock_wait_s } => self.make_read_only(*lock_wait_s).await,
            Action::VerifyWrite { recovery, epoch } => self.verify_write(recovery, *epoch).await,
            Action::ListBlockers { older_than_ms } => self.list_blockers(*older_than_ms).await,
            Action::KillWriters => self.kill_writers().await,
            Action::KillPredecessors => self.kill_predecessors().await,
        }
    }

    fn flavor(&self) -> Flavor {
        self.step.target.identity.flavor
    }

    /// *Refused*, or *unknown* when something was changed already.
    fn refuse(&self, why: impl Into<String>) -> StepEnd {
        match self.changed {
            false => StepEnd::Refused { why: why.into() },
            true => StepEnd::Unknown { why: format!("after a part of it was done: {}", why.into()) },
        }
    }

    fn unknown(&self, why: impl Into<String>) -> StepEnd {
        StepEnd::Unknown { why: why.into() }
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Sends one round trip, if the permit and the time still allow it.
    async fn send(&mut self, statements: Vec<Statement>) -> Result<Answer, StepEnd> {
        if !self.wire.permitted() {
            return Err(self.refuse("the permit has expired"));
        }
        if self.wire.left_ms() == 0 {
            return Err(self.refuse("the deadline has passed"));
        }
        if !self.slot.is_open {
            return Err(self.unknown("the session is gone"));
        }
        match self.wire.send(statements).await {
            Ok(answer) => Ok(answer),
            Err(Gone(why)) => {
                self.slot.is_open = false;
                Err(self.unknown(why))
            }
        }
    }

    /// Runs a statement that changes nothing.
    async fn ask(&mut self, statement: Statement) -> Result<Reply, StepEnd> {
        let answer = self.send(vec![statement]).await?;
        match (answer.error, answer.replies.into_iter().next_back()) {
            (Some(error), _) => Err(self.refuse(error.to_string())),
            (None, Some(reply)) => Ok(reply),
            (None, None) => Err(self.unknown("an empty answer")),
        }
    }

    /// What stands before the statements of a step.
    fn lead(&self) -> Vec<Statement> {
        let mut lead = Vec::with_capacity(8);
        if self.flavor() == Flavor::MariaDb {
            // A statement whose sender gave up ends a second later.
            lead.push(Statement::MaxStatementTime(self.wire.left_ms() + 1_000));
        }
        // The executor's planted mistake is the recipe's, too.
        if !planted(Mistake::IdentityNotChecked) {
            lead.push(Statement::CheckIdentity(self.step.target.identity.clone()));
        }
        lead
    }

    /// Runs `statements` under the identity guard and reads the facts behind them, all in one round trip.
    async fn change(&mut self, statements: &[Statement]) -> Result<Arc<ServerFacts>, Stopped> {
        Ok(self.change_and_read(statements).await?.0)
    }

    async fn change_and_read(
        &mut self,
        statements: &[Statement],
    ) -> Result<(Arc<ServerFacts>, Vec<Reply>), Stopped> {
        let result = self.guarded(statements).await;
        let begun = match &result {
            Ok(_) => statements.len(),
            Err(Stopped::At(done, _)) => *done,
            Err(Stopped::End(_)) => 0,
        };
        self.changed |= statements[..begun].iter().any(is_change);
        result
    }

    /// The facts, and the replies before them.
    async fn guarded(&mut self, statements: &[Statement]) -> Result<(Arc<ServerFacts>, Vec<Reply>), Stopped> {
        let mut all = self.lead();
        let lead = all.len();
        all.extend_from_slice(statements);
        all.push(Statement::ReadFacts(false));
        let Answer { mut replies, error } = self.send(all).await.map_err(Stopped::End)?;
        match error {
            Some(error) if replies.len() < lead => Err(Stopped::End(self.mismatch(&error).await)),
            Some(error) => Err(Stopped::At(replies.len() - lead, error)),
            None => match replies.pop() {
                Some(Reply::Facts(facts)) => {
                    self.slot.executed = Some(facts.executed.clone());
                    Ok((facts, replies))
                }
                _ => Err(Stopped::End(self.unknown("no facts"))),
            },
        }
    }

    async fn mismatch(&mut self, error: &SqlError) -> StepEnd {
        if !matches!(error.code, code::GUARD | code::UNKNOWN_VARIABLE) {
            return self.refuse(error.to_string());
        }
        let seen = match self.send(vec![Statement::ReadFacts(false)]).await.map(|mut a| a.replies.pop()) {
            Ok(Some(Reply::Facts(facts))) => facts.identity.to_string(),
            _ => "somebody else".to_owned(),
        };
        let target = &self.step.target;
        self.refuse(format!("{} is {seen}, not {}", target.address, target.identity))
    }

    /// The same, for statements that change nothing.
    async fn look(&mut self, statements: &[Statement]) -> Result<Arc<ServerFacts>, StepEnd> {
        let result = self.guarded(statements).await;
        result.map(|(facts, _)| facts).map_err(|stopped| self.ended(stopped))
    }

    /// The same, for statements of which none may fail.
    async fn change_all(&mut self, statements: &[Statement]) -> Result<Arc<ServerFacts>, StepEnd> {
        let result = self.change(statements).await;
        result.map_err(|stopped| self.ended(stopped))
    }

    /// What a refused statement means for the step where nothing special is known about it.
    fn ended(&self, stopped: Stopped) -> StepEnd {
        match stopped {
            Stopped::End(end) => end,
            Stopped::At(_, error) => self.refuse(error.to_string()),
        }
    }

    async fn facts(&mut self) -> Result<Arc<ServerFacts>, StepEnd> {
        self.look(&[]).await
    }

    fn finish(self, end: StepEnd) -> StepEnd {
        match end {
            StepEnd::Done(report) => {
                let own = Some(report.note.clone()).filter(|note| !note.is_empty());
                let note = own.into_iter().chain(self.notes).collect::<Vec<_>>().join("; ");
                StepEnd::Done(StepReport { note, ..report })
            }
            other => other,
        }
    }
}

/// What a session sets for itself, or asks, changes no server.
fn is_change(statement: &Statement) -> bool {
    !matches!(
        statement,
        Statement::LockWaitTimeout(_)
            | Statement::MaxStatementTime(_)
            | Statement::GuardNoWaiting
            | Statement::WaitForGtids(..)
            | Statement::MarkHolders(..)
    )
}

/// Done, with the facts read at its end.
fn done(facts: Arc<ServerFacts>) -> StepEnd {
    StepEnd::Done(StepReport { facts: Some(Box::new(Arc::unwrap_or_clone(facts))), ..StepReport::default() })
}

/// The channel of that name.
fn channel<'a>(facts: &'a ServerFacts, name: &str) -> Option<&'a Channel> {
    facts.channels.iter().find(|channel| channel.name.eq_ignore_ascii_case(name))
}
