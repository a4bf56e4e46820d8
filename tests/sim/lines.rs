//! Connections to servers, from nodes and from clients: packets in order, sent again until they arrive. A statement that
//! meets a cut lands when the cut is healed, whether or not its sender still lives.

use std::collections::{BTreeMap, VecDeque};

use super::{
    fleet::{Account, Answer, Dialled, Happened, ServerNo, SessionNo, Statement, Ticket},
    net::End,
    world::World,
};

/// Pause before a packet is sent again, at first and at most, milliseconds.
const AGAIN_MS: u64 = 200;
const AGAIN_MAX_MS: u64 = 1_600;
/// After this a packet that does not arrive is given up, milliseconds.
const GIVEN_UP_MS: u64 = 60_000;
/// Pause between two looks of a connection that waits for a frozen server's greeting, milliseconds.
const GREETING_MS: u64 = 40;

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineNo(u64);

/// What is done with an answer: once, with the answer or why there is none.
type OnAnswer = Box<dyn FnOnce(&mut World, Result<Answer, String>) + Send>;
/// What is done with the end of dialling.
type OnDialled = Box<dyn FnOnce(&mut World, Dialled) + Send>;
/// What is done when the server's side ends.
type OnClosed = Box<dyn FnOnce(&mut World, String) + Send>;
type Packet = Box<dyn FnOnce(&mut World) + Send>;

struct Line {
    from: End,
    owner: Option<(u64, u64)>,
    server: ServerNo,
    account: Account,
    session: Option<SessionNo>,
    /// The client's side is open.
    open: bool,
    dialled: Option<OnDialled>,
    closed: Option<OnClosed>,
    waiting: BTreeMap<Ticket, OnAnswer>,
    /// Packets to the server that wait for one before them.
    out: VecDeque<Packet>,
    /// One is on its way and not yet known to have arrived.
    stuck: bool,
    /// When the last packet arrives there, and here.
    there_at: u64,
    here_at: u64,
}

/// All connections.
#[derive(Default)]
pub struct Lines {
    lines: BTreeMap<LineNo, Line>,
    by_session: BTreeMap<SessionNo, LineNo>,
    next: u64,
}

impl World {
    /// Dials a server; `dialled` hears how that ended, or nothing while no word comes. `owner`: node and process.
    pub fn dial(
        &mut self,
        from: End,
        owner: Option<(u64, u64)>,
        server: ServerNo,
        account: Account,
        dialled: impl FnOnce(&mut World, Dialled) + Send + 'static,
    ) -> LineNo {
        self.lines.next += 1;
        let no = LineNo(self.lines.next);
        let line = Line {
            from,
            owner,
            server,
            account,
            session: None,
            open: true,
            dialled: Some(Box::new(dialled)),
            closed: None,
            waiting: BTreeMap::new(),
            out: VecDeque::new(),
            stuck: false,
            there_at: 0,
            here_at: 0,
        };
        self.lines.lines.insert(no, line);
        self.carry_in(no, move |world| world.knock(no));
        no
    }

    /// The connection request is there.
    fn knock(&mut self, no: LineNo) {
        let Some(line) = self.lines.lines.get(&no).filter(|line| line.open) else { return };
        let (server, account, from) = (line.server, line.account, line.from);
        match self.connect_server(server, account, from) {
            // It waits in the backlog: a server that thaws greets it.
            Dialled::Silent => self.after(GREETING_MS, move |world| world.knock(no)),
            end => {
                if let Dialled::Greeted(session) = end {
                    self.lines.lines.get_mut(&no).expect("looked at above").session = Some(session);
                    self.lines.by_session.insert(session, no);
                }
                self.carry_out(no, move |world| {
                    let line = world.lines.lines.get_mut(&no);
                    if let Some(dialled) = line.filter(|line| line.open).and_then(|line| line.dialled.take())
                    {
                        dialled(world, end);
                    }
                });
            }
        }
    }

    /// What is done when the server's side ends; nothing any more when the client's does first.
    pub fn on_closed(&mut self, no: LineNo, closed: impl FnOnce(&mut World, String) + Send + 'static) {
        if let Some(line) = self.lines.lines.get_mut(&no) {
            line.closed = Some(Box::new(closed));
        }
    }

    /// Sends statements in one round trip; `answered` hears the answer, or why there is none once that is known.
    pub fn ask(
        &mut self,
        no: LineNo,
        statements: Vec<Statement>,
        answered: impl FnOnce(&mut World, Result<Answer, String>) + Send + 'static,
    ) {
        if !self.is_open(no) {
            return answered(self, Err("the connection has ended".into()));
        }
        let answered: OnAnswer = Box::new(answered);
        self.carry_in(no, move |world| {
            let Some(line) = world.lines.lines.get(&no) else { return };
            let Some(session) = line.session else { return };
            let ticket = world.send_to_session(session, statements);
            let line = world.lines.lines.get_mut(&no).expect("looked at above");
            line.waiting.insert(ticket, answered);
        });
    }

    /// Whether the client's side is open, as far as it knows.
    pub fn is_open(&self, no: LineNo) -> bool {
        self.lines.lines.get(&no).is_some_and(|line| line.open)
    }

    /// Connection id on the server and all: the session, once there is one.
    pub fn session_of(&self, no: LineNo) -> Option<SessionNo> {
        self.lines.lines.get(&no).and_then(|line| line.session)
    }

    /// The client closes its side; what it sent before still goes to the server.
    pub fn hang_up(&mut self, no: LineNo) {
        let Some(line) = self.lines.lines.get_mut(&no).filter(|line| line.open) else { return };
        line.open = false;
        line.dialled = None;
        line.closed = None;
        line.owner = None;
        for answer in line.waiting.values_mut() {
            *answer = Box::new(|_, _| {});
        }
        self.carry_in(no, move |world| {
            let Some(line) = world.lines.lines.remove(&no) else { return };
            if let Some(session) = line.session {
                world.lines.by_session.remove(&session);
                world.end_session(session);
            }
        });
    }

    /// Every connection of a process that is gone: its kernel closes them.
    pub fn sessions_of_dead(&mut self, node: u64, boot: u64) {
        let of_it = |(no, line): (&LineNo, &Line)| (line.owner == Some((node, boot))).then_some(*no);
        let lines: Vec<LineNo> = self.lines.lines.iter().filter_map(of_it).collect();
        for line in lines {
            self.hang_up(line);
        }
    }

    /// What a server sent.
    pub fn server_said(&mut self, happened: Happened) {
        match happened {
            Happened::Answered { session, ticket, answer } => {
                let Some(no) = self.lines.by_session.get(&session).copied() else { return };
                let line = self.lines.lines.get_mut(&no).expect("both maps agree");
                let Some(answered) = line.waiting.remove(&ticket) else { return };
                self.carry_out(no, move |world| answered(world, Ok(answer)));
            }
            Happened::Closed { session, why } => {
                let Some(no) = self.lines.by_session.remove(&session) else { return };
                self.carry_out(no, move |world| {
                    let Some(line) = world.lines.lines.remove(&no) else { return };
                    if let Some(closed) = line.closed {
                        closed(world, why.clone());
                    }
                    for answered in line.waiting.into_values() {
                        answered(world, Err(why.clone()));
                    }
                });
            }
        }
    }

    /// A packet to the server, behind those before it.
    fn carry_in(&mut self, no: LineNo, packet: impl FnOnce(&mut World) + Send + 'static) {
        let Some(line) = self.lines.lines.get_mut(&no) else { return };
        line.out.push_back(Box::new(packet));
        if !line.stuck {
            self.push_out(no, AGAIN_MS, self.now);
        }
    }

    /// Sends what waits, as far as the way is open.
    fn push_out(&mut self, no: LineNo, again_ms: u64, since: u64) {
        let Some(line) = self.lines.lines.get(&no) else { return };
        let (from, to) = (line.from, End::Server(line.server.0));
        while let Some(line) = self.lines.lines.get_mut(&no) {
            if line.out.is_empty() {
                line.stuck = false;
                return;
            }
            let Some(delay) = self.net.delay(from, to, &mut self.rng) else { break };
            let line = self.lines.lines.get_mut(&no).expect("looked at above");
            let packet = line.out.pop_front().expect("not empty");
            line.there_at = line.there_at.max(self.now + delay);
            let at = line.there_at;
            self.at(at, packet);
        }
        if self.now >= since + GIVEN_UP_MS {
            return self.give_up(no);
        }
        self.lines.lines.get_mut(&no).expect("it is there").stuck = true;
        let next = (again_ms * 2).min(AGAIN_MAX_MS);
        self.after(again_ms, move |world| world.push_out(no, next, since));
    }

    fn give_up(&mut self, no: LineNo) {
        let Some(line) = self.lines.lines.remove(&no) else { return };
        if let Some(session) = line.session {
            self.lines.by_session.remove(&session);
            self.end_session(session);
        }
        if let Some(closed) = line.closed {
            closed(self, "the connection timed out".into());
        }
        for answered in line.waiting.into_values() {
            answered(self, Err("the connection timed out".into()));
        }
    }

    /// A packet to the client, to be taken by its process.
    fn carry_out(&mut self, no: LineNo, packet: impl FnOnce(&mut World) + Send + 'static) {
        self.try_to_client(no, Box::new(packet), AGAIN_MS, self.now);
    }

    fn try_to_client(&mut self, no: LineNo, packet: Packet, again_ms: u64, since: u64) {
        let Some(line) = self.lines.lines.get(&no) else { return };
        let (from, to, owner) = (End::Server(line.server.0), line.from, line.owner);
        let Some(delay) = self.net.delay(from, to, &mut self.rng) else {
            if self.now < since + GIVEN_UP_MS {
                let next = (again_ms * 2).min(AGAIN_MAX_MS);
                self.after(again_ms, move |world| world.try_to_client(no, packet, next, since));
            }
            return;
        };
        let line = self.lines.lines.get_mut(&no).expect("looked at above");
        line.here_at = line.here_at.max(self.now + delay);
        let at = line.here_at;
        self.at(at, move |world| match owner {
            Some((node, boot)) => world.as_process(node, boot, packet),
            None => packet(world),
        });
    }
}
