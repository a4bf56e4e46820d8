//! Executor sessions of one process: one held ahead of need to each server, lent to one step at a time, by the rules of
//! `src/executor/slot.rs`; and the servers' port as a whole.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use quorate::{
    core::plan::step::{Step, StepEnd, Target},
    executor::Permit,
    model::{
        address::Address,
        facts::ServerFacts,
        server::{Identity, ServerId},
    },
    probe::{ProbeEvent, ProbeSettings, ProbeTarget},
    server::ports::{Host, Probe, Servers},
    session::{ReadError, SessionError},
};
use tokio::{
    sync::{Mutex as Lock, MutexGuard, mpsc, watch},
    time::Instant,
};

use super::{
    clock::Clock,
    fleet::{
        Account, Answer, Reply, ServerNo, Statement,
        recipe::{self, Gone, Node, Slot, Wire},
    },
    session::{Cut, Lost, SimSession},
    trace::{Event, Permitted},
    world::{POISON, Sim},
};

/// Name of the group in marks.
const GROUP: &str = "sim";
/// Idle sessions are pinged this often.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Bound of a ping, and of the first statements on a new session.
const PING_WITHIN: Duration = Duration::from_secs(1);
/// Pause while there is no session, or one without the mark; doubles with each login that fails.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);
const LOOK_AGAIN_AFTER_MAX: Duration = Duration::from_secs(8);
/// Bound of a single reading.
const READ: Duration = Duration::from_secs(3);

struct Opened {
    session: SimSession,
    slot: Slot,
    since: Instant,
}

#[derive(Default)]
struct Inner {
    opened: Option<Opened>,
    failed: u32,
}

/// The one session to one server.
struct Place {
    server: ServerNo,
    address: Address,
    inner: Lock<Inner>,
    line: Mutex<Option<Cut>>,
    /// Dropped: the keeper ends.
    kept: Mutex<Option<watch::Sender<()>>>,
}

/// [`Servers`] of one process.
#[derive(Clone)]
pub struct SimServers {
    sim: Sim,
    node: u64,
    boot: u64,
    host: Arc<dyn Host>,
    nodes: Arc<Mutex<Vec<u64>>>,
    places: Arc<Mutex<BTreeMap<ServerId, Arc<Place>>>>,
}

impl SimServers {
    /// Without sessions.
    pub fn new(sim: Sim, node: u64, boot: u64, host: Arc<dyn Host>, nodes: Vec<u64>) -> Self {
        let nodes = Arc::new(Mutex::new(nodes));
        Self { sim, node, boot, host, nodes, places: Arc::default() }
    }

    fn place(&self, target: &Target) -> Option<Arc<Place>> {
        let server = self.sim.with(|world| world.server_at(&target.address))?;
        let mut places = self.places.lock().expect(POISON);
        let fresh = || {
            Arc::new(Place {
                server,
                address: target.address.clone(),
                inner: Lock::default(),
                line: Mutex::default(),
                kept: Mutex::default(),
            })
        };
        let place = places.entry(target.server.clone()).or_insert_with(fresh);
        if place.address != target.address {
            place.end();
            *place = fresh();
        }
        Some(place.clone())
    }

    fn recipe_node(&self) -> Node {
        Node { group: GROUP.into(), number: self.node, nodes: self.nodes.lock().expect(POISON).clone() }
    }

    /// Keeps a session open, as long as it is wanted.
    async fn keep(self, place: Arc<Place>, mut kept: watch::Receiver<()>) {
        loop {
            let (ended, pause) = self.look_after(&place).await;
            tokio::select! {
                biased;
                _ = kept.changed() => return,
                () = ended => {}
                () = self.sim.clock().sleep(pause) => {}
            }
        }
    }

    async fn look_after(&self, place: &Place) -> (BoxFuture<'static, ()>, Duration) {
        let mut inner = place.inner.lock().await;
        if let Some(opened) = inner.opened.as_mut().filter(|opened| opened.session.is_open()) {
            let asked = match opened.slot.predecessor {
                None => opened.session.run(vec![Statement::Ping], PING_WITHIN).await,
                Some(_) => opened.session.run(vec![take_mark(self.node)], PING_WITHIN).await,
            };
            match asked {
                Ok(answer) => {
                    if let Some(Reply::Mark(holder)) = answer.replies.first() {
                        let taken = opened.slot.predecessor.is_some() && holder.is_none();
                        opened.since = if taken { Instant::now() } else { opened.since };
                        opened.slot.predecessor = *holder;
                    }
                }
                Err(_) => inner.opened = None,
            }
        }
        if !inner.is_open() {
            inner.opened = None;
            match self.open(&mut inner, place).await {
                Ok(()) => inner.failed = 0,
                Err(_) => inner.failed = inner.failed.saturating_add(1),
            }
        }
        let marked = inner.opened.as_ref().is_some_and(|opened| opened.slot.predecessor.is_none());
        let again = (LOOK_AGAIN_AFTER * 2u32.pow(inner.failed.min(8))).min(LOOK_AGAIN_AFTER_MAX);
        let pause = if marked { PING_EVERY } else { again };
        let ended = match &inner.opened {
            Some(opened) => opened.session.line().ended().boxed(),
            None => std::future::pending().boxed(),
        };
        (ended, pause)
    }

    async fn open(&self, inner: &mut Inner, place: &Place) -> Result<(), Lost> {
        let who = (self.node, self.boot);
        let mut session =
            SimSession::open(&self.sim, who, place.server, Account::Executor, PING_WITHIN).await?;
        *place.line.lock().expect(POISON) = Some(session.line());
        let first = vec![Statement::LockWaitTimeout(1), take_mark(self.node), Statement::AskProfile];
        let answer = session.run(first, PING_WITHIN).await?;
        match &answer.replies[..] {
            [_, Reply::Mark(holder), Reply::Profile(profile)] => {
                let slot = Slot {
                    profile: profile.clone(),
                    predecessor: *holder,
                    is_open: true,
                    alone_in: None,
                    executed: None,
                };
                inner.opened = Some(Opened { session, slot, since: Instant::now() });
                Ok(())
            }
            _ => Err(Lost::Closed(format!("{answer:?} at login"))),
        }
    }

    async fn ready(self, place: Arc<Place>, identity: Identity, until: Instant) -> Result<Instant, String> {
        let mut inner = place.wait(self.sim.clock(), until).await?;
        if !inner.is_open() {
            self.open_by(&mut inner, &place, until).await?;
        }
        let opened = inner.opened.as_mut().ok_or("the session is gone")?;
        let mut wire = OwnWire { clock: self.sim.clock(), session: &mut opened.session, until };
        let node = self.recipe_node();
        match recipe::end_predecessor(&mut wire, &node, &identity, &mut opened.slot).await {
            Ok(true) => opened.since = Instant::now(),
            Ok(false) => {}
            Err(Gone(why)) => return Err(why),
        }
        Ok(opened.since)
    }

    async fn open_by(&self, inner: &mut Inner, place: &Place, until: Instant) -> Result<(), String> {
        inner.opened = None;
        match self.sim.clock().by(until, self.open(inner, place)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(format!("no session to {}: {error}", place.address)),
            None => Err(format!("no session to {} in time", place.address)),
        }
    }

    async fn lend<'a>(
        &self,
        place: &'a Place,
        permit: &Permit,
        until: Instant,
    ) -> Result<MutexGuard<'a, Inner>, StepEnd> {
        let refused = |why: String| StepEnd::Refused { why };
        let inner = place.wait(self.sim.clock(), until).await.map_err(refused)?;
        if !self.permitted(permit) {
            return Err(refused("the permit holds no more".to_owned()));
        }
        match inner.opened.as_ref().filter(|opened| opened.session.is_open()) {
            Some(opened) if opened.since <= permit.confirmed => Ok(inner),
            Some(_) => Err(refused(format!("the session to {} is younger than its permit", place.address))),
            None => Err(refused(format!("there is no session to {}", place.address))),
        }
    }

    /// As `Pulse` tells it: a permit from before a pause is void.
    fn permitted(&self, permit: &Permit) -> bool {
        let woke = self.sim.with(|world| world.process(self.node).and_then(|process| process.woke));
        permit.holds(Instant::now()) && woke.is_none_or(|woke| woke <= permit.confirmed)
    }

    /// The same, without the product's opinion: that is what is tried.
    fn in_time(&self, permit: &Permit) -> bool {
        let woke = self.sim.with(|world| world.process(self.node).and_then(|process| process.woke));
        Instant::now() < permit.expires && woke.is_none_or(|woke| woke <= permit.confirmed)
    }

    async fn run_step(self, permit: Permit, step: Step, deadline: Duration) -> StepEnd {
        let until = Instant::now() + deadline;
        let Some(place) = self.place(&step.target) else {
            return StepEnd::Refused { why: format!("no way to {}", step.target.address) };
        };
        let told =
            Permitted { recovery: permit.recovery.clone(), log_index: permit.log_index, term: permit.term };
        self.note(|node| Event::StepBegan { node, step: step.clone(), permit: told.clone() });
        let end = match self.lend(&place, &permit, until).await {
            Ok(mut inner) => {
                let opened = inner.opened.as_mut().expect("lent with a session");
                let mut wire = StepWire {
                    servers: &self,
                    session: &mut opened.session,
                    server: place.server,
                    permit: &permit,
                    told: told.clone(),
                    step: &step,
                    until,
                };
                let end = recipe::run(&mut wire, &self.recipe_node(), &mut opened.slot, &step).await;
                if !opened.session.is_open() {
                    inner.opened = None;
                }
                end
            }
            Err(end) => end,
        };
        self.note(|node| Event::StepEnded { node, step: step.clone(), permit: told, end: end.clone() });
        end
    }

    fn note(&self, event: impl FnOnce(u64) -> Event) {
        let node = self.node;
        self.sim.with(|world| world.note(event(node)));
    }
}

fn take_mark(node: u64) -> Statement {
    Statement::TakeMark(recipe::mark(GROUP, node))
}

impl Inner {
    fn is_open(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| opened.session.is_open())
    }
}

impl Place {
    async fn wait(&self, clock: &Clock, until: Instant) -> Result<MutexGuard<'_, Inner>, String> {
        let waited = clock.by(until, self.inner.lock()).await;
        waited.ok_or_else(|| format!("another step is still running on {}", self.address))
    }

    fn cut(&self) {
        if let Some(line) = self.line.lock().expect(POISON).take() {
            line.cut();
        }
    }

    fn end(&self) {
        *self.kept.lock().expect(POISON) = None;
        self.cut();
    }
}

/// A step's session, with the permit and the time around it.
struct StepWire<'a> {
    servers: &'a SimServers,
    session: &'a mut SimSession,
    server: ServerNo,
    permit: &'a Permit,
    told: Permitted,
    step: &'a Step,
    until: Instant,
}

impl Wire for StepWire<'_> {
    async fn send(&mut self, statements: Vec<Statement>) -> Result<Answer, Gone> {
        let (line, in_time) = (self.session.line_no(), self.servers.in_time(self.permit));
        self.servers.sim.with(|world| {
            let session = world.session_of(line);
            world.note(Event::Sent {
                node: self.servers.node,
                server: self.server,
                session,
                permit: self.told.clone(),
                in_time,
                target: self.step.target.server.clone(),
                action: self.step.action.name(),
                statements: statements.clone(),
            });
        });
        let left = self.until.saturating_duration_since(Instant::now());
        self.session.run(statements, left).await.map_err(|lost| Gone(lost.to_string()))
    }

    async fn sleep(&mut self, ms: u64) {
        self.servers.sim.clock().sleep(Duration::from_millis(ms)).await;
    }

    fn left_ms(&self) -> u64 {
        self.until.saturating_duration_since(Instant::now()).as_millis() as u64
    }

    fn permitted(&self) -> bool {
        self.servers.permitted(self.permit)
    }

    fn term(&self) -> u64 {
        self.permit.term
    }
}

/// A session, between steps: what needs no permit.
struct OwnWire<'a> {
    clock: &'a Clock,
    session: &'a mut SimSession,
    until: Instant,
}

impl Wire for OwnWire<'_> {
    async fn send(&mut self, statements: Vec<Statement>) -> Result<Answer, Gone> {
        let left = self.until.saturating_duration_since(Instant::now());
        self.session.run(statements, left).await.map_err(|lost| Gone(lost.to_string()))
    }

    async fn sleep(&mut self, ms: u64) {
        self.clock.sleep(Duration::from_millis(ms)).await;
    }

    fn left_ms(&self) -> u64 {
        self.until.saturating_duration_since(Instant::now()).as_millis() as u64
    }

    fn permitted(&self) -> bool {
        true
    }

    fn term(&self) -> u64 {
        0
    }
}

impl Servers for SimServers {
    fn watch(
        &self,
        target: ProbeTarget,
        settings: ProbeSettings,
        events: mpsc::Sender<ProbeEvent>,
    ) -> Box<dyn Probe> {
        let who = (self.node, self.boot);
        Box::new(self.sim.with(|world| world.start_prober(who, target, settings, events)))
    }

    fn read(&self, address: &Address) -> BoxFuture<'_, Result<ServerFacts, ReadError>> {
        let server = self.sim.with(|world| world.server_at(address));
        async move {
            let failed = |error: Lost| match error {
                Lost::Refused => SessionError::Refused,
                Lost::Silent(_) => SessionError::Silent { awaited: "answer", after: READ },
                other => SessionError::Closed(other.to_string()),
            };
            let Some(server) = server else {
                return Err(SessionError::Unreachable("no such host".into()).into());
            };
            let who = (self.node, self.boot);
            let session = SimSession::open(&self.sim, who, server, Account::Probe, READ).await;
            let mut session = session.map_err(failed)?;
            let answer = session.run(vec![Statement::ReadFacts(true)], READ).await.map_err(failed)?;
            match answer.replies.into_iter().next() {
                Some(Reply::Facts(facts)) => Ok((*facts).clone()),
                other => Err(SessionError::Protocol(format!("{other:?}")).into()),
            }
        }
        .boxed()
    }

    fn prepare(&self, target: &Target) {
        let Some(place) = self.place(target) else { return };
        let mut kept = place.kept.lock().expect(POISON);
        if kept.is_none() {
            let (tx, rx) = watch::channel(());
            *kept = Some(tx);
            let work = self.clone().keep(place.clone(), rx);
            tokio::spawn(self.host.task(Box::pin(work)));
        }
    }

    fn forget(&self, server: &ServerId) {
        if let Some(place) = self.places.lock().expect(POISON).remove(server) {
            place.end();
        }
    }

    fn drop_all(&self) {
        for place in self.places.lock().expect(POISON).values() {
            place.cut();
        }
    }

    fn drop_busy(&self) {
        for place in self.places.lock().expect(POISON).values() {
            if place.inner.try_lock().is_err() {
                place.cut();
            }
        }
    }

    fn set_nodes(&self, nodes: Vec<u64>) {
        *self.nodes.lock().expect(POISON) = nodes;
    }

    fn open(&self, target: &Target, deadline: Duration) -> BoxFuture<'static, Result<Instant, String>> {
        let until = Instant::now() + deadline;
        self.note(|node| Event::Opening { node, server: target.server.clone() });
        match self.place(target) {
            Some(place) => self.clone().ready(place, target.identity.clone(), until).boxed(),
            None => std::future::ready(Err(format!("no way to {}", target.address))).boxed(),
        }
    }

    fn run(&self, permit: Permit, step: Step, deadline: Duration) -> BoxFuture<'static, StepEnd> {
        self.clone().run_step(permit, step, deadline).boxed()
    }
}
