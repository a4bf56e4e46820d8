//! The one session this node's executor holds to a server, opened ahead of need and lent to one step at a time.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex as SyncMutex},
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard},
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::{
    ExecutorOptions, NOT_POISONED, Permit, Pulse,
    actions::{LOOK_AFTER, NO_SUCH_THREAD, kill_connection},
    admin, mark,
};
use crate::{
    core::plan::step::StepEnd,
    mistake::{Mistake, planted},
    model::{address::Address, gtid::GtidSet, server::Identity},
    session::{
        DIAL_AGAIN_SOON, FactsReader, LineEnd, Purpose, Session, SessionError, SessionOptions,
        identity_condition,
    },
};

/// Idle sessions are pinged this often, so that a dead one is found before it is needed.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Bound of a ping, and of the first statements on a new session.
const PING_WITHIN: Duration = Duration::from_secs(1);
/// Pause while there is no session, or one without the mark; doubles up to the second with each login that fails: a
/// frozen host accepts connections that nobody there will ever use.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);
const LOOK_AGAIN_AFTER_MAX: Duration = Duration::from_secs(8);

/// A session that is open.
pub(super) struct Opened {
    pub(super) session: Session,
    /// Since when it is open and holds the mark; while another holds that, since when it is open.
    since: Instant,
    /// Connection id of an earlier session of this node that still holds the mark (0: it ended just then).
    predecessor: Option<u64>,
    /// The term in which other nodes' sessions were seen gone from the server. No earlier leader can confirm anything in it, so
    /// whatever they open since carries nothing of before.
    pub(super) alone_in: Option<u64>,
    /// What the last reading over it said was executed: no less as long as the session lives.
    pub(super) executed: Option<GtidSet>,
}

pub(super) struct Inner {
    pub(super) opened: Option<Opened>,
    /// Logins in a row that failed in the background.
    failed: u32,
    pub(super) reader: FactsReader,
    /// The server's administrative port, once it was found.
    admin: Option<Address>,
}

pub(super) struct Slot {
    address: Address,
    inner: Mutex<Inner>,
    /// To cut the session while a step holds `inner`.
    line: SyncMutex<Option<LineEnd>>,
    keeper: SyncMutex<Option<AbortHandle>>,
}

/// The slot of one server, lent to one step.
pub(super) struct Lent<'a> {
    pub(super) inner: MutexGuard<'a, Inner>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({})", self.address)
    }
}

impl Slot {
    pub(super) fn new(address: Address) -> Self {
        let inner =
            Mutex::new(Inner { opened: None, failed: 0, reader: FactsReader::default(), admin: None });
        Self { address, inner, line: SyncMutex::default(), keeper: SyncMutex::default() }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Starts the task that keeps a session open, unless it runs.
    pub(super) fn keep(self: &Arc<Self>, options: Arc<ExecutorOptions>) {
        let mut keeper = self.keeper.lock().expect(NOT_POISONED);
        if keeper.as_ref().is_none_or(AbortHandle::is_finished) {
            let slot = Arc::downgrade(self);
            *keeper = Some(
                tokio::spawn(async move {
                    while let Some(slot) = slot.upgrade() {
                        let (ended, pause) = slot.look_after(&options).await;
                        drop(slot);
                        tokio::select! {
                            _ = ended => {}
                            () = tokio::time::sleep(pause) => {}
                        }
                    }
                })
                .abort_handle(),
            );
        }
    }

    /// Ends the session and the task that keeps it.
    pub(super) fn end(&self) {
        if let Some(keeper) = self.keeper.lock().expect(NOT_POISONED).take() {
            keeper.abort();
        }
        self.cut();
    }

    /// Whether a step, or the keeper, is using the session now.
    pub(super) fn is_lent(&self) -> bool {
        self.inner.try_lock().is_err()
    }

    /// Cuts the session, whoever uses it.
    pub(super) fn cut(&self) {
        if let Some(line) = self.line.lock().expect(NOT_POISONED).take() {
            line.cut();
        }
    }

    /// Opens or pings; returns what ends the pause until the next look.
    async fn look_after(
        &self,
        options: &ExecutorOptions,
    ) -> (impl Future<Output = ()> + Send + use<>, Duration) {
        let mut inner = self.inner.lock().await;
        if let Some(opened) = inner.opened.as_mut().filter(|opened| opened.session.is_open()) {
            let result = match opened.predecessor {
                None => opened.session.run("SELECT 1", PING_WITHIN).await.map(|_| None),
                Some(_) => {
                    let sql = options.marks().take(options.node);
                    opened.session.run(&sql, PING_WITHIN).await.map(|sets| mark::holder(&sets))
                }
            };
            match result {
                Ok(holder) => opened.hear_of(holder),
                Err(_) => inner.opened = None,
            }
        }
        if !inner.is_open() {
            inner.opened = None;
            match self.open(&mut inner, options, true).await {
                Ok(()) => inner.failed = 0,
                Err(error) => {
                    inner.failed = inner.failed.saturating_add(1);
                    tracing::debug!(server = %self.address, %error, "no executor session");
                }
            }
        }
        let ended = inner.opened.as_ref().map(|opened| opened.session.ended());
        let marked = inner.opened.as_ref().is_some_and(|opened| opened.predecessor.is_none());
        let again = (LOOK_AGAIN_AFTER * 2u32.pow(inner.failed.min(8))).min(LOOK_AGAIN_AFTER_MAX);
        let pause = if marked { PING_EVERY } else { again };
        let ended = async move {
            match ended {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        (ended, pause)
    }

    /// `ahead`: nobody waits for it, so there is time to look for a better way in.
    async fn open(
        &self,
        inner: &mut Inner,
        options: &ExecutorOptions,
        ahead: bool,
    ) -> Result<(), SessionError> {
        let session_options = SessionOptions {
            dial_again: DIAL_AGAIN_SOON,
            ..SessionOptions::new(Purpose::Executor, options.node)
        };
        let account = &options.account;
        let mut session = match Session::open(&self.address, account, &session_options).await {
            Ok(session) => session,
            Err(full @ SessionError::TooManyConnections { .. }) => match &inner.admin {
                Some(admin) => Session::open(admin, account, &session_options).await?,
                None => return Err(full),
            },
            Err(error) => return Err(error),
        };
        if ahead
            && let Some((at, better)) =
                admin::find(&mut session, &self.address, account, &session_options).await
        {
            inner.admin = Some(at);
            std::mem::replace(&mut session, better).close().await;
        }
        *self.line.lock().expect(NOT_POISONED) = Some(session.line());
        let sets = session.run(&options.marks().take(options.node), PING_WITHIN).await?;
        let predecessor = mark::holder(&sets);
        if inner.reader.profile().is_none() {
            inner.reader = FactsReader::new(&options.account.user);
        }
        inner.reader.prepare(&mut session, PING_WITHIN).await?;
        inner.opened =
            Some(Opened { session, since: Instant::now(), predecessor, alone_in: None, executed: None });
        Ok(())
    }

    /// Sees to it that there is a session with this node's mark by `until`; since when, or a sentence.
    pub(super) async fn ready(
        &self,
        options: &ExecutorOptions,
        identity: &Identity,
        until: Instant,
    ) -> Result<Instant, String> {
        let mut inner = self.wait(until).await?;
        if !inner.is_open() {
            self.open_by(&mut inner, options, until).await?;
        }
        let opened = inner.opened.as_mut().ok_or("the session is gone")?;
        opened.end_predecessor(options, identity, until).await?;
        Ok(opened.since)
    }

    async fn wait(&self, until: Instant) -> Result<MutexGuard<'_, Inner>, String> {
        let waited = timeout_at(until, self.inner.lock()).await;
        waited.map_err(|_| format!("another step is still running on {}", self.address))
    }

    async fn open_by(
        &self,
        inner: &mut Inner,
        options: &ExecutorOptions,
        until: Instant,
    ) -> Result<(), String> {
        inner.opened = None;
        match timeout_at(until, self.open(inner, options, false)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("no session to {}: {error}", self.address)),
            Err(_) => Err(format!("no session to {} in time", self.address)),
        }
    }

    /// Lends the session to a step, if its permit covers it. None is opened here: no confirmation of the past would cover it.
    /// It is opened first ([`Slot::ready`]), and confirmed then.
    pub(super) async fn lend(
        &self,
        permit: &Permit,
        pulse: &Pulse,
        until: Instant,
    ) -> Result<Lent<'_>, StepEnd> {
        let refused = |why: String| StepEnd::Refused { why };
        let inner = self.wait(until).await.map_err(refused)?;
        if let Some(void) = void(permit, pulse) {
            return Err(refused(void.to_owned()));
        }
        match inner.opened.as_ref().filter(|opened| opened.session.is_open()) {
            Some(opened) if opened.since <= permit.confirmed => Ok(Lent { inner }),
            Some(_) if planted(Mistake::YoungerSessionLent) => Ok(Lent { inner }),
            Some(_) => Err(refused(format!("the session to {} is younger than its permit", self.address))),
            None => Err(refused(format!("there is no session to {}", self.address))),
        }
    }
}

impl Opened {
    /// Who holds the mark. Whoever looks for this node's sessions finds the one that holds it: another leader may have seen
    /// them gone before this one took it.
    fn hear_of(&mut self, holder: Option<u64>) {
        if self.predecessor.is_some() && holder.is_none() {
            self.since = Instant::now();
        }
        self.predecessor = holder;
    }

    /// An earlier session of this node still holds the mark: it may have a statement in flight. It is killed and seen gone,
    /// and the mark taken, before this one is used. No permit is needed to end what is this node's own; but where another server
    /// answers at this address, the mark may be that of the session to its own.
    async fn end_predecessor(
        &mut self,
        options: &ExecutorOptions,
        identity: &Identity,
        until: Instant,
    ) -> Result<(), String> {
        let left = || until.saturating_duration_since(Instant::now());
        if self.predecessor.is_some() {
            // A session does not change its server.
            let guard = format!("SELECT ~0 + IF({},0,1)", identity_condition(identity));
            let is_it = self.session.run(&guard, left()).await;
            is_it.map_err(|error| format!("it is not {identity}, or does not say so: {error}"))?;
        }
        let mut killed = BTreeSet::new();
        while let Some(holder) = self.predecessor {
            if left() <= LOOK_AFTER {
                return Err(format!(
                    "an earlier executor session of this node, connection {holder}, is still there"
                ));
            }
            match holder != 0 && killed.insert(holder) {
                true => self.kill(holder, left()).await.map_err(|error| error.to_string())?,
                false => tokio::time::sleep(LOOK_AFTER).await,
            }
            let sql = options.marks().take(options.node);
            let sets = self.session.run(&sql, left()).await.map_err(|error| error.to_string())?;
            self.hear_of(mark::holder(&sets));
        }
        if !killed.is_empty() {
            tracing::info!(?killed, "ended earlier executor sessions of this node");
        }
        Ok(())
    }

    async fn kill(&mut self, connection: u64, within: Duration) -> Result<(), SessionError> {
        match self.session.run(&kill_connection(connection), within).await {
            Err(error) if error.code() != Some(NO_SUCH_THREAD) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Inner {
    fn is_open(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| opened.session.is_open())
    }
}

/// Why a permit allows nothing any more.
pub(super) fn void(permit: &Permit, pulse: &Pulse) -> Option<&'static str> {
    match permit.holds(Instant::now()) {
        false => Some("the permit has expired"),
        true if !pulse.ran_since(permit.confirmed) => Some("this node paused after it was given the permit"),
        true => None,
    }
}
