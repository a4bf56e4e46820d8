//! A simulated fleet of MySQL and MariaDB servers: everything about them that Quorate can see, cause or lose data by.
//!
//! Pure and synchronous. Time is given from outside, in milliseconds; the network is asked through [`Net`]; there is no
//! randomness here at all. Nothing happens but in [`Fleet::advance`]: statements and faults are noted when they are
//! given and take effect there, at the time they were given.
//!
//! What it does is held against both real servers by `tests/live_fleet`; what it does not do stands in `docs/chaos.md`.
#![allow(dead_code, unused_imports)] // each of the targets that include this uses its own part

pub mod channel;
mod execute;
mod facts;
mod faults;
pub mod log;
pub mod net;
mod pipe;
pub mod recipe;
mod replica;
mod semi_sync;
pub mod server;
pub mod session;
pub mod spec;
pub mod statement;
mod stream;
mod switches;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use quorate::model::{address::Address, facts::ServerFacts};

pub use self::{
    faults::Kill,
    net::{Net, OpenNet, ServerNo},
    server::{Process, SimServer},
    spec::{Account, Config, SemiSyncSource, ServerSpec},
    statement::{
        Answer, ChangeSource, Dialled, Happened, Reply, SessionNo, SqlError, Statement, Thread, Ticket,
    },
};

/// Bits of a session's number that hold the connection id.
const CONNECTION_BITS: u32 = 40;

/// All servers and the streams between them.
#[derive(Debug, Default)]
pub struct Fleet {
    servers: Vec<SimServer>,
    streams: Vec<stream::Stream>,
    now_ms: u64,
    /// When what is to be looked at; what is stale in it does no harm. A set: each look asks for the next ones again, and
    /// repeated entries would multiply.
    agenda: BTreeSet<(u64, Item)>,
    /// What is to be looked at now.
    due: VecDeque<Item>,
    is_due: BTreeSet<Item>,
    reflow: bool,
    last_stream: u64,
    last_ticket: u64,
    done: Vec<Happened>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Server(ServerNo),
    Stream(u64),
    /// A process whose streams are to be ended.
    Ended(ServerNo),
}

impl Fleet {
    /// Servers that have just started, with nothing on them.
    pub fn new(specs: impl IntoIterator<Item = ServerSpec>) -> Self {
        Self { servers: specs.into_iter().map(SimServer::new).collect(), ..Self::default() }
    }

    /// The servers, in order.
    pub fn servers(&self) -> &[SimServer] {
        &self.servers
    }

    /// One of them.
    pub fn server(&self, no: ServerNo) -> &SimServer {
        &self.servers[no.0]
    }

    /// What whoever may read everything reads of one server.
    pub fn read(&mut self, no: ServerNo, now_ms: u64) -> Arc<ServerFacts> {
        self.servers[no.0].read_facts(true, now_ms)
    }

    /// Who listens there.
    pub fn server_at(&self, address: &Address) -> Option<ServerNo> {
        self.servers.iter().position(|server| server.spec.address == *address).map(ServerNo)
    }

    /// Makes a server a replica from the beginning: pointed, both threads started, read-only.
    pub fn follow(&mut self, replica: ServerNo, source: ServerNo, heartbeat_ms: u64, connect_retry_s: u64) {
        let source = self.servers[source.0].spec.address.clone();
        let change = ChangeSource { source, heartbeat_ms, connect_retry_s, sets_auto_position: true };
        let now = self.now_ms;
        let server = &mut self.servers[replica.0];
        server.change_source("", &change);
        server.start_replica("", Thread::Both, now);
        server.switches.read_only = true;
        server.switches.super_read_only = server.spec.flavor == quorate::model::server::Flavor::MySql;
        server.facts_stale = true;
        self.due(Item::Server(replica));
    }

    /// When something happens next, if nobody does anything.
    pub fn next_ms(&self) -> Option<u64> {
        if self.reflow || !self.due.is_empty() {
            return Some(self.now_ms);
        }
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Lets everything happen that is due until `now_ms`.
    pub fn advance(&mut self, now_ms: u64, net: &mut dyn Net) {
        loop {
            if self.reflow {
                self.find_flows(net);
            } else if let Some(item) = self.due.pop_front() {
                self.is_due.remove(&item);
                self.look_at(item, net);
            } else {
                match self.agenda.first().copied() {
                    Some((at, item)) if at <= now_ms => {
                        self.now_ms = self.now_ms.max(at);
                        self.agenda.pop_first();
                        self.due(item);
                    }
                    _ => break,
                }
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// What servers have said to clients since the last call.
    pub fn take_done(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.done)
    }

    /// Whether anything waits in [`Self::take_done`].
    pub fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// The network changed: what [`Net::path`] answers may differ from now on.
    pub fn paths_changed(&mut self, now_ms: u64) {
        self.pass(now_ms);
        self.reflow = true;
    }

    /// Dials a server and logs in, all in one moment.
    pub fn connect(&mut self, server: ServerNo, host: &str, account: Account, now_ms: u64) -> Dialled {
        self.pass(now_ms);
        let target = &mut self.servers[server.0];
        let no = SessionNo(((server.0 as u64) << CONNECTION_BITS) | (target.next_id + 1));
        target.dial(no, account, host, now_ms)
    }

    /// Sends statements, to be run one after another until one fails. They arrive now: a server that is frozen runs them
    /// when it thaws. A session that is over answers nothing.
    pub fn send(&mut self, session: SessionNo, statements: Vec<Statement>, now_ms: u64) -> Ticket {
        self.pass(now_ms);
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let (server, id) = place(session);
        if let Some(session) =
            self.servers[server.0].sessions.get_mut(&id).filter(|session| session.takes_statements())
        {
            session.inbox.push_back((ticket, statements));
            self.due(Item::Server(server));
        }
        ticket
    }

    /// Whether what is sent over the session may still be run: a session that was killed, or is gone, runs nothing more.
    pub fn hears(&self, session: SessionNo) -> bool {
        let (server, id) = place(session);
        self.servers[server.0].sessions.get(&id).is_some_and(session::Session::takes_statements)
    }

    /// The client's end is gone, and the server's kernel knows. What it was sent before is still run.
    pub fn hang_up(&mut self, session: SessionNo, now_ms: u64) {
        self.pass(now_ms);
        let (server, id) = place(session);
        if let Some(session) = self.servers[server.0].sessions.get_mut(&id) {
            session.hung_up = true;
            self.due(Item::Server(server));
        }
    }

    /// Whether the session is still on its server.
    pub fn is_there(&self, session: SessionNo) -> bool {
        let (server, id) = place(session);
        self.servers[server.0].sessions.contains_key(&id)
    }

    /// The connection id behind a session.
    pub fn connection_id(session: SessionNo) -> u64 {
        place(session).1
    }

    /// The server a session is on.
    pub fn server_of(session: SessionNo) -> ServerNo {
        place(session).0
    }

    fn look_at(&mut self, item: Item, net: &mut dyn Net) {
        match item {
            Item::Stream(id) => self.look_at_stream(id, net),
            Item::Ended(server) => self.end_streams_of(server, net),
            Item::Server(no) => self.look_at_server(no, net),
        }
    }

    fn look_at_server(&mut self, no: ServerNo, net: &mut dyn Net) {
        let now = self.now_ms;
        let server = &mut self.servers[no.0];
        match server.process {
            Process::Starting(at) if at <= now && !server.dark => {
                server.start(now);
                self.reflow = true;
            }
            Process::Starting(at) => return self.wake(at, Item::Server(no)),
            Process::Leaving(at) if at <= now => return self.end_process(no),
            Process::Leaving(at) => self.wake(at, Item::Server(no)),
            _ => {}
        }
        let server = &mut self.servers[no.0];
        server.run_appliers(now);
        server.run_sessions(now);
        self.carry_out(no, net);
        self.dial_sources(no, net);
        self.dump_binlog(no, net);
    }

    fn carry_out(&mut self, no: ServerNo, net: &mut dyn Net) {
        for effect in std::mem::take(&mut self.servers[no.0].effects) {
            match effect {
                server::Effect::Tell(happened) => self.done.push(happened),
                server::Effect::Wake(at) => self.wake(at, Item::Server(no)),
                server::Effect::CloseReceiver(stream) => self.close_receiver(stream, net),
                server::Effect::CloseDump(stream) => self.close_dump(stream, net),
            }
        }
    }

    /// Time passes without anything happening in between: the owner has let it happen before.
    fn pass(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn due(&mut self, item: Item) {
        if self.is_due.insert(item) {
            self.due.push_back(item);
        }
    }

    fn wake(&mut self, at_ms: u64, item: Item) {
        match at_ms <= self.now_ms {
            true => self.due(item),
            false => drop(self.agenda.insert((at_ms, item))),
        }
    }
}

fn place(session: SessionNo) -> (ServerNo, u64) {
    (ServerNo((session.0 >> CONNECTION_BITS) as usize), session.0 & ((1 << CONNECTION_BITS) - 1))
}
