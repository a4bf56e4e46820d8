//! One simulated server: its process, its switches and what hangs on it. It knows no other server: what goes over the
//! network is left as an [`Effect`] for the fleet.

use std::{collections::BTreeMap, sync::Arc};

use quorate::model::{
    facts::ServerFacts,
    gtid::GtidSet,
    server::{Flavor, Identity},
};

use super::{
    channel::{Channel, Receiver},
    log::Log,
    semi_sync::SemiSync,
    session::Session,
    spec::{Account, ServerSpec},
    statement::{Dialled, Happened, SessionNo, Statement, Ticket, code},
};

/// What a server wants of the fleet.
#[derive(Debug)]
pub enum Effect {
    /// Tell a client.
    Tell(Happened),
    /// Look at this server again then.
    Wake(u64),
    /// The receiver gave this stream up.
    CloseReceiver(u64),
    /// The dump thread of this stream was killed.
    CloseDump(u64),
}

/// The server's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// There is none.
    Down,
    /// It starts, and answers from then on.
    Starting(u64),
    /// It serves.
    Up,
    /// It is being shut down: no clients any more, replicas until then.
    Leaving(u64),
}

/// The switches that keep clients from writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// `read_only`.
    pub read_only: bool,
    /// `super_read_only` (MySQL).
    pub super_read_only: bool,
    /// `offline_mode` (MySQL).
    pub offline: bool,
}

/// A dump thread: the source's end of a stream.
#[derive(Debug, Clone)]
pub struct Dump {
    /// The stream.
    pub stream: u64,
    /// Connection id.
    pub id: u64,
    /// Since when.
    pub began_ms: u64,
    /// The replica's host.
    pub host: String,
    /// The replica, as it registered.
    pub replica: Identity,
    /// Where the replica says it is.
    pub reports: quorate::model::address::Address,
    /// A semi-sync replica.
    pub semi_sync: bool,
    /// Entries sent so far: all before this one.
    pub sent: usize,
    /// Entries the replica has acknowledged: all before this one.
    pub acked: usize,
    /// What the replica had when it connected, and until which entry that is looked at.
    pub known: GtidSet,
    /// Entries from here on are not in `known`.
    pub known_until: usize,
}

/// A server.
#[derive(Debug)]
pub struct SimServer {
    /// As it was set up.
    pub spec: ServerSpec,
    /// Its process.
    pub process: Process,
    /// SIGSTOP.
    pub frozen: bool,
    /// Its machine is off: nothing answers, not even a refusal.
    pub dark: bool,
    /// Its disk takes no writes and gives no error.
    pub stalled: bool,
    /// When the process started.
    pub started_ms: u64,
    /// Switches.
    pub switches: Switches,
    /// Semi-sync.
    pub semi: SemiSync,
    /// What it holds.
    pub log: Log,
    /// Channels it receives from.
    pub channels: Vec<Channel>,
    /// Sessions by connection id.
    pub sessions: BTreeMap<u64, Session>,
    /// Dump threads.
    pub dumps: Vec<Dump>,
    /// Connections that somebody else holds open (the fault of a saturated server).
    pub others: u32,
    /// A row lock holds its appliers up.
    pub applier_held: bool,
    /// What sessions of the executor changed here, where somebody wants to know.
    pub spied: Option<Vec<Statement>>,
    /// The power failed since the process ended: unsynced relay log is gone.
    pub(super) power_failed: bool,
    /// When it failed last.
    pub power_failed_ms: Option<u64>,
    pub(super) next_id: u64,
    pub(super) effects: Vec<Effect>,
    pub(super) facts: Option<Arc<ServerFacts>>,
    pub(super) facts_stale: bool,
}

impl SimServer {
    /// A server that has just started with nothing on it.
    pub fn new(spec: ServerSpec) -> Self {
        let mut server = Self {
            process: Process::Up,
            frozen: false,
            dark: false,
            stalled: false,
            started_ms: 0,
            switches: Switches::default(),
            semi: SemiSync::default(),
            log: Log::new(&spec),
            channels: Vec::new(),
            sessions: BTreeMap::new(),
            dumps: Vec::new(),
            others: 0,
            applier_held: false,
            spied: None,
            power_failed: false,
            power_failed_ms: None,
            next_id: 10,
            effects: Vec::new(),
            facts: None,
            facts_stale: true,
            spec,
        };
        server.configure();
        server
    }

    /// Dialect.
    pub fn flavor(&self) -> Flavor {
        self.spec.flavor
    }

    /// Whether its process does anything now.
    pub fn runs(&self) -> bool {
        matches!(self.process, Process::Up | Process::Leaving(_)) && !self.frozen && !self.dark
    }

    /// Switches as its configuration file has them.
    fn configure(&mut self) {
        let config = &self.spec.config;
        self.switches = Switches {
            read_only: config.read_only || config.super_read_only,
            super_read_only: config.super_read_only,
            offline: false,
        };
        self.semi = SemiSync::configured(config);
    }

    /// A connection id nobody has had.
    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Connections that count against `max_connections`.
    pub fn connected(&self) -> u32 {
        self.others + (self.sessions.len() + self.dumps.len()) as u32
    }

    /// Somebody dials it: the account is looked at, and the number of connections.
    pub fn dial(&mut self, no: SessionNo, account: Account, host: &str, now_ms: u64) -> Dialled {
        if let Some(no) = self.turns_away(account) {
            return no;
        }
        let id = self.id();
        self.sessions.insert(id, Session::new(id, no, account, host, now_ms));
        self.facts_stale = true;
        Dialled::Greeted(no)
    }

    /// Why nobody of that account gets in now.
    pub fn turns_away(&self, account: Account) -> Option<Dialled> {
        match self.process {
            _ if self.dark => return Some(Dialled::Silent),
            Process::Down | Process::Starting(_) => return Some(Dialled::Refused),
            _ if self.frozen => return Some(Dialled::Silent),
            Process::Leaving(_) => return Some(Dialled::ShuttingDown),
            Process::Up => {}
        }
        if self.login_hangs() {
            return Some(Dialled::Silent);
        }
        let room = self.spec.max_connections + u32::from(account.is_privileged());
        if self.connected() >= room {
            return Some(Dialled::TooManyConnections);
        }
        (self.switches.offline && !account.is_privileged()).then_some(Dialled::OfflineMode)
    }

    /// The process ends, now and without a word from itself; its sockets close unless the machine went dark.
    pub fn die(&mut self) {
        if self.process == Process::Down {
            return;
        }
        self.process = Process::Down;
        self.frozen = false;
        let heard = !self.dark;
        for session in
            std::mem::take(&mut self.sessions).into_values().filter(|session| !session.killed && heard)
        {
            self.tell_closed(session.no, "the server's process ended");
        }
        self.dumps.clear();
        for channel in &mut self.channels {
            channel.receiver = Receiver::Stopped;
            channel.applier_running = false;
            channel.apply_at = None;
            channel.flow = Default::default();
        }
        self.facts_stale = true;
    }

    /// The process starts: crash recovery, configuration, replication threads.
    pub fn start(&mut self, now_ms: u64) {
        self.process = Process::Up;
        self.started_ms = now_ms;
        let power_failed = std::mem::take(&mut self.power_failed);
        self.log.recover();
        self.configure();
        let (flavor, config) = (self.spec.flavor, self.spec.config.clone());
        let applied = self.log.slave_pos().clone();
        for channel in &mut self.channels {
            channel.receiver_error = None;
            channel.applier_error = None;
            match flavor {
                Flavor::MySql if config.relay_log_recovery || power_failed => {
                    channel.discard_relay(GtidSet::empty(flavor));
                }
                Flavor::MySql => {}
                Flavor::MariaDb => channel.discard_relay(applied.clone()),
            }
            if !config.skip_replica_start {
                channel.receiver = Receiver::Waiting(now_ms);
                channel.applier_running = true;
            }
        }
        self.effects.push(Effect::Wake(now_ms));
        self.facts_stale = true;
    }

    /// Every client is sent away.
    pub fn close_clients(&mut self, why: &str) {
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            if let Some(session) = self.sessions.remove(&id)
                && !session.killed
            {
                self.tell_closed(session.no, why);
            }
        }
        self.facts_stale = true;
    }

    pub(super) fn tell_closed(&mut self, session: SessionNo, why: &str) {
        self.effects.push(Effect::Tell(Happened::Closed { session, why: why.to_owned() }));
    }

    pub(super) fn tell(&mut self, session: SessionNo, ticket: Ticket, answer: super::statement::Answer) {
        self.effects.push(Effect::Tell(Happened::Answered { session, ticket, answer }));
    }

    /// The channel of that name.
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn channel_mut(&mut self, name: &str) -> Option<&mut Channel> {
        self.facts_stale = true;
        self.channels.iter_mut().find(|channel| channel.name.eq_ignore_ascii_case(name))
    }

    /// How it names the account that was turned away (a receiver's error).
    pub(super) fn turned_away_code(dialled: &Dialled) -> u32 {
        match dialled {
            Dialled::TooManyConnections => u32::from(code::TOO_MANY_CONNECTIONS),
            Dialled::ShuttingDown => u32::from(code::SHUTTING_DOWN),
            Dialled::OfflineMode => u32::from(code::OFFLINE),
            _ => code::CANNOT_CONNECT,
        }
    }
}
