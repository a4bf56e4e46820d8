//! Plays a script on the simulated servers, in virtual time.

use std::{
    collections::BTreeMap,
    pin::pin,
    task::{Context, Poll, Waker},
};

use quorate::{
    core::plan::step::{Action, SourceOptions, Step, StepEnd, Target},
    model::{
        facts::ServerFacts,
        gtid::GtidSet,
        server::{Flavor, ServerId},
    },
};

use crate::{
    fleet::{
        Account, Answer, ChangeSource, Dialled, Fleet, Happened, Kill, OpenNet, ServerNo, ServerSpec,
        SessionNo, Statement, Ticket,
        recipe::{self, Gone, Node, Slot, Wire},
    },
    line::{Deed, Fact, Fault, Line, Script},
    seen::Names,
};

/// The longest that anything is waited for, virtual milliseconds.
const PATIENCE_MS: u64 = 120_000;

struct Client {
    session: SessionNo,
    ticket: Option<Ticket>,
    heard: Option<String>,
}

pub struct OnSim {
    flavor: Flavor,
    fleet: Fleet,
    now_ms: u64,
    clients: BTreeMap<&'static str, Client>,
    executors: BTreeMap<(usize, u64), (SessionNo, Slot)>,
    executed: BTreeMap<usize, GtidSet>,
    names: Names,
    seen: Vec<String>,
}

/// What is seen when the script is played here.
pub fn play(script: &Script, flavor: Flavor) -> Vec<String> {
    let specs: Vec<ServerSpec> = (1..=script.servers as u32)
        .map(|number| ServerSpec {
            net_timeout_ms: 2_000,
            performance_schema: false,
            config: Default::default(),
            ..ServerSpec::ordinary(flavor, number)
        })
        .collect();
    let names = Names {
        uuids: specs.iter().enumerate().filter_map(|(at, spec)| Some((spec.uuid.clone()?, at + 1))).collect(),
        addresses: specs.iter().enumerate().map(|(at, spec)| (spec.address.clone(), at + 1)).collect(),
    };
    let mut stage = OnSim {
        flavor,
        fleet: Fleet::new(specs),
        now_ms: 0,
        clients: BTreeMap::new(),
        executors: BTreeMap::new(),
        executed: BTreeMap::new(),
        names,
        seen: Vec::new(),
    };
    for line in (script.lines)(flavor) {
        stage.line(&line);
        stage.settle();
    }
    stage.seen
}

fn no(server: usize) -> ServerNo {
    ServerNo(server - 1)
}

impl OnSim {
    /// Everything that is due happens; clients hear what they are told.
    fn settle(&mut self) {
        self.fleet.advance(self.now_ms, &mut OpenNet);
        for happened in self.fleet.take_done() {
            match happened {
                Happened::Answered { session, ticket, answer } => {
                    let client = self.clients.values_mut().find(|client| client.session == session);
                    if let Some(client) = client.filter(|client| client.ticket == Some(ticket)) {
                        client.heard = Some(in_words(&answer));
                    }
                }
                Happened::Closed { session, .. } => {
                    let client = self.clients.values_mut().find(|client| client.session == session);
                    if let Some(client) = client.filter(|client| client.heard.is_none()) {
                        client.heard = Some("closed".to_owned());
                    }
                }
            }
        }
    }

    /// Lets time pass until `done`; whether it came to that.
    fn pass_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now_ms + PATIENCE_MS;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            let step = self.fleet.next_ms().unwrap_or(u64::MAX).max(self.now_ms + 1).min(self.now_ms + 100);
            if step > end {
                return false;
            }
            self.now_ms = step;
        }
    }

    fn saw(&mut self, line: &Line, what: impl std::fmt::Display) {
        self.seen.push(format!("{line}: {what}"));
    }

    fn line(&mut self, line: &Line) {
        match line {
            Line::Login(who, at, account) => {
                let outcome = self.fleet.connect(no(*at), who, *account, self.now_ms);
                if let Dialled::Greeted(session) = outcome {
                    self.clients.insert(who, Client { session, ticket: None, heard: None });
                }
                self.saw(line, dialled(&outcome));
            }
            Line::Sends(who, what) => {
                let client = self.clients.get_mut(who).expect("a client of the script");
                client.ticket = Some(self.fleet.send(client.session, what.clone(), self.now_ms));
                client.heard = None;
            }
            Line::Hears(who) => {
                let asked = self.clients[who].ticket.is_some();
                self.pass_until(|stage| !asked || stage.clients[who].heard.is_some());
                let client = self.clients.get_mut(who).expect("a client of the script");
                client.ticket = None;
                // Who asked nothing is told nothing, unless it was cut off.
                let quiet = if asked { "nothing" } else { "ok" };
                let heard = client.heard.take().unwrap_or_else(|| quiet.to_owned());
                self.saw(line, heard);
            }
            Line::HearsNothing(who) => {
                self.settle();
                let heard = self.clients[who].heard.clone();
                self.saw(line, format!("{heard:?}"));
            }
            Line::HangsUp(who) => {
                let session = self.clients[who].session;
                self.fleet.hang_up(session, self.now_ms);
            }
            Line::Does(at, what) => {
                let words = self.operator(*at, what.clone());
                self.saw(line, words);
            }
            Line::Changes(at, to, sets_auto_position) => {
                let source = self.fleet.server(no(*to)).spec.address.clone();
                let sets_auto_position = *sets_auto_position;
                let change =
                    ChangeSource { source, heartbeat_ms: 500, connect_retry_s: 1, sets_auto_position };
                let words = self.operator(*at, vec![Statement::ChangeSource(String::new(), change)]);
                self.saw(line, words);
            }
            Line::Kills(at, who, connection) => {
                let id = Fleet::connection_id(self.clients[who].session);
                let kill = match connection {
                    true => Statement::KillConnection(id),
                    false => Statement::KillQuery(id),
                };
                let words = self.operator(*at, vec![kill]);
                self.saw(line, words);
            }
            Line::Fault(at, fault) => self.fault(*at, fault),
            Line::Until(at, fact) => {
                let came = self.pass_until(|stage| stage.is_so(*at, fact));
                self.saw(line, if came { "yes" } else { "never" });
            }
            Line::See(at) => {
                let facts = self.facts(*at);
                let words = self.names.facts(&facts);
                self.saw(line, words);
            }
            Line::Rows(at) => {
                let rows = format!("{:?}", self.fleet.server(no(*at)).log.rows());
                self.saw(line, rows);
            }
            Line::Step(at, deed, ms) => self.step(line, *at, deed, 1, *ms),
            Line::StepEnds(at, deed, ms) => self.step(line, *at, deed, 1, *ms),
            Line::OtherStep(at, deed, ms) => self.step(line, *at, deed, 2, *ms),
            Line::NewExecutor => self.executors.retain(|(_, node), _| *node != 1),
        }
    }

    /// An operator's session of its own.
    fn operator(&mut self, at: usize, what: Vec<Statement>) -> String {
        let Dialled::Greeted(session) = self.fleet.connect(no(at), "op", Account::Admin, self.now_ms) else {
            return "not let in".to_owned();
        };
        let ticket = Some(self.fleet.send(session, what, self.now_ms));
        self.clients.insert("operator", Client { session, ticket, heard: None });
        self.pass_until(|stage| stage.clients["operator"].heard.is_some());
        self.fleet.hang_up(session, self.now_ms);
        self.clients
            .remove("operator")
            .and_then(|client| client.heard)
            .unwrap_or_else(|| "nothing".to_owned())
    }

    fn fault(&mut self, at: usize, fault: &Fault) {
        let (no, now) = (no(at), self.now_ms);
        match fault {
            Fault::Kill => self.fleet.kill(no, Kill::Process, now),
            Fault::Boot => {
                self.fleet.restart(no, now);
                self.pass_until(|stage| stage.fleet.server(no).runs());
            }
            Fault::Freeze => self.fleet.freeze(no, now),
            Fault::Thaw => self.fleet.thaw(no, now),
            Fault::Follow(source) => self.fleet.follow(no, ServerNo(source - 1), 500, 1),
            Fault::Errant(row) => self.fleet.write_errant(no, *row, now),
            Fault::Unlogged(row) => self.fleet.write_unlogged(no, *row, now),
            Fault::HoldApplier(_) => self.fleet.hold_applier(no, true, now),
            Fault::LetApplierGo => self.fleet.hold_applier(no, false, now),
            Fault::Saturate => self.fleet.saturate(no, now),
            Fault::Rest(ms) => {
                let end = now + ms;
                self.pass_until(|stage| stage.now_ms >= end);
            }
        }
    }

    fn facts(&mut self, at: usize) -> ServerFacts {
        let session = self.fleet.connect(no(at), "looker", Account::Probe, self.now_ms);
        let Dialled::Greeted(session) = session else { panic!("no facts of server {at}: {session:?}") };
        self.fleet.send(session, vec![Statement::ReadFacts(true)], self.now_ms);
        self.fleet.advance(self.now_ms, &mut OpenNet);
        let done = self.fleet.take_done();
        self.fleet.hang_up(session, self.now_ms);
        let facts = done.into_iter().find_map(|happened| match happened {
            Happened::Answered { session: of, answer, .. } if of == session => match answer.replies.last() {
                Some(crate::fleet::Reply::Facts(facts)) => Some(ServerFacts::clone(facts)),
                _ => None,
            },
            _ => None,
        });
        let facts = facts.expect("facts");
        self.executed.insert(at, facts.executed.clone());
        facts
    }

    fn is_so(&mut self, at: usize, fact: &Fact) -> bool {
        self.settle();
        let waiting = self.fleet.server(no(at)).waiting_commits();
        let busy = self.fleet.server(no(at)).sessions.values();
        match fact {
            Fact::CommitsWait => return waiting > 0,
            Fact::Busy(n) => return busy.filter(|session| session.running.is_some()).count() == *n,
            _ => {}
        }
        let other = match fact {
            Fact::HasApplied(other) | Fact::HasReceived(other) if self.fleet.server(no(*other)).runs() => {
                Some(self.facts(*other).executed)
            }
            Fact::HasApplied(other) | Fact::HasReceived(other) => self.executed.get(other).cloned(),
            _ => None,
        };
        let facts = self.facts(at);
        crate::is_so(&facts, fact, other.as_ref())
    }

    fn step(&mut self, line: &Line, at: usize, deed: &Deed, node: u64, within_ms: u64) {
        let of = match deed {
            Deed::ReadFactsOf(other) => *other,
            _ => at,
        };
        let spec = &self.fleet.server(no(at)).spec;
        let target = Target {
            server: ServerId(format!("s{at}")),
            identity: self.fleet.server(no(of)).spec.identity(),
            address: spec.address.clone(),
        };
        let action = self.action(deed);
        let end = self.run_step(at, node, &Step { target, action }, within_ms);
        let words = match line {
            Line::StepEnds(..) => crate::seen::kind(&end).to_owned(),
            _ => self.names.end(&end),
        };
        self.saw(line, words);
    }

    fn action(&self, deed: &Deed) -> Action {
        let source = |to: usize| SourceOptions {
            source: self.fleet.server(no(to)).spec.address.clone(),
            heartbeat_ms: 500,
            connect_retry_s: 1,
            gtid_slave_pos: None,
        };
        crate::action(self.flavor, deed, source, &self.executed)
    }

    fn run_step(&mut self, at: usize, node: u64, step: &Step, within_ms: u64) -> StepEnd {
        let asker = Node { group: "live".into(), number: node, nodes: vec![1] };
        let deadline_ms = self.now_ms + within_ms;
        let open = self
            .executors
            .remove(&(at, node))
            .filter(|(session, slot)| slot.is_open && self.fleet.is_there(*session));
        let (session, mut slot) = match open {
            Some(open) => open,
            None => {
                let Dialled::Greeted(session) =
                    self.fleet.connect(no(at), "node", Account::Executor, self.now_ms)
                else {
                    return StepEnd::Refused { why: "no session".to_owned() };
                };
                let mut wire = Direct { stage: self, session, deadline_ms };
                match at_once(recipe::open(&mut wire, &asker)) {
                    Ok(slot) => (session, slot),
                    Err(Gone(why)) => return StepEnd::Refused { why },
                }
            }
        };
        let mut wire = Direct { stage: self, session, deadline_ms };
        if let Err(Gone(why)) =
            at_once(recipe::end_predecessor(&mut wire, &asker, &step.target.identity, &mut slot))
        {
            return StepEnd::Refused { why };
        }
        let mut wire = Direct { stage: self, session, deadline_ms };
        let end = at_once(recipe::run(&mut wire, &asker, &mut slot, step));
        self.executors.insert((at, node), (session, slot));
        end
    }
}

fn in_words(answer: &Answer) -> String {
    answer.error.as_ref().map_or_else(|| "ok".to_owned(), |error| format!("error {}", error.code))
}

fn dialled(outcome: &Dialled) -> &'static str {
    match outcome {
        Dialled::Greeted(_) => "let in",
        Dialled::Refused => "refused",
        Dialled::Silent => "silent",
        Dialled::TooManyConnections => "too many connections",
        Dialled::ShuttingDown => "shutting down",
        Dialled::OfflineMode => "offline",
    }
}

/// A wire without a network: an answer is there as soon as the server gives it.
struct Direct<'a> {
    stage: &'a mut OnSim,
    session: SessionNo,
    deadline_ms: u64,
}

impl Wire for Direct<'_> {
    async fn send(&mut self, statements: Vec<Statement>) -> Result<Answer, Gone> {
        let stage = &mut *self.stage;
        let ticket = stage.fleet.send(self.session, statements, stage.now_ms);
        loop {
            stage.fleet.advance(stage.now_ms, &mut OpenNet);
            let mut mine = None;
            for happened in stage.fleet.take_done() {
                match happened {
                    Happened::Answered { ticket: to, answer, .. } if to == ticket => mine = Some(Ok(answer)),
                    Happened::Closed { session, why } if session == self.session => {
                        mine = Some(Err(Gone(why)))
                    }
                    Happened::Answered { session, answer, .. } => stage.hear(session, in_words(&answer)),
                    Happened::Closed { session, .. } => stage.hear(session, "closed".to_owned()),
                }
            }
            match (mine, stage.fleet.next_ms()) {
                (Some(end), _) => return end,
                (None, Some(at)) if at <= self.deadline_ms => stage.now_ms = at.max(stage.now_ms),
                _ => {
                    stage.now_ms = self.deadline_ms;
                    stage.fleet.hang_up(self.session, self.deadline_ms);
                    return Err(Gone("no answer in time".to_owned()));
                }
            }
        }
    }

    async fn sleep(&mut self, ms: u64) {
        self.stage.now_ms += ms;
    }

    fn left_ms(&self) -> u64 {
        self.deadline_ms.saturating_sub(self.stage.now_ms)
    }

    fn permitted(&self) -> bool {
        true
    }

    fn term(&self) -> u64 {
        1
    }
}

impl OnSim {
    fn hear(&mut self, session: SessionNo, what: String) {
        let client = self.clients.values_mut().find(|client| client.session == session);
        if let Some(client) = client.filter(|client| client.heard.is_none()) {
            client.heard = Some(what);
        }
    }
}

/// Runs a future that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(end) => end,
        Poll::Pending => unreachable!("a direct wire waits for nothing"),
    }
}
