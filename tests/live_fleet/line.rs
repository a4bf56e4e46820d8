//! A script is a list of lines; each is a sentence. The simulated and the real servers play the same one.

use std::fmt;

use quorate::model::{facts::Receiver, server::Flavor};

use crate::fleet::{Account, Statement, Thread};

/// A story: what it is called, for which flavours it is told, and how it goes.
pub struct Script {
    /// What is true when it passes, as a sentence.
    pub name: &'static str,
    /// For which flavours it is told.
    pub flavors: &'static [Flavor],
    /// How many servers it needs; they are counted from 1.
    pub servers: usize,
    /// How it goes.
    pub lines: fn(Flavor) -> Vec<Line>,
}

/// One line.
#[derive(Debug, Clone)]
pub enum Line {
    /// A client logs in; what comes of it is seen.
    Login(&'static str, usize, Account),
    /// A client sends statements, one batch, and is not waited for.
    Sends(&'static str, Vec<Statement>),
    /// What a client was answered.
    Hears(&'static str),
    /// A client has not been answered.
    HearsNothing(&'static str),
    /// A client goes away without a word.
    HangsUp(&'static str),
    /// An operator runs statements; what comes of them is seen.
    Does(usize, Vec<Statement>),
    /// CHANGE of the default channel to that server, with auto-position named or not (MySQL).
    Changes(usize, usize, bool),
    /// KILL of a client's connection, or of its query.
    Kills(usize, &'static str, bool),
    /// Something befalls a server.
    Fault(usize, Fault),
    /// Nothing goes on before this is so.
    Until(usize, Fact),
    /// A server's facts are seen.
    See(usize),
    /// The rows that a server's readers find are seen.
    Rows(usize),
    /// A step is carried out by the executor of node 1, within so many milliseconds; its end and its facts are seen.
    Step(usize, Deed, u64),
    /// The same, and only its end is seen: what the facts say depends on the moment.
    StepEnds(usize, Deed, u64),
    /// The same by the executor of node 2.
    OtherStep(usize, Deed, u64),
    /// The executor of node 1 dies with its session open, and a new one takes its place.
    NewExecutor,
}

/// What befalls a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// It is started again and answers.
    Boot,
    /// SIGSTOP.
    Freeze,
    /// SIGCONT.
    Thaw,
    /// It becomes a replica of that one.
    Follow(usize),
    /// An operator writes this row past `read_only`.
    Errant(u64),
    /// A row that no binlog sees.
    Unlogged(u64),
    /// A row lock holds the applier up.
    HoldApplier(u64),
    /// And lets it go.
    LetApplierGo,
    /// All its connections are taken.
    Saturate,
    /// So much time passes there, milliseconds.
    Rest(u64),
}

/// What can be waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// It has applied all that the other has executed.
    HasApplied(usize),
    /// It has received or applied all that the other has executed.
    HasReceived(usize),
    /// Its receiver is in that state.
    Receiver(Receiver),
    /// Its receiver has an error.
    ReceiverFailed,
    /// Its receiver has that error.
    ReceiverError(u32),
    /// Its applier stands.
    ApplierStopped,
    /// Commits wait for an acknowledgement there.
    CommitsWait,
    /// So many client statements run there.
    Busy(usize),
    /// So many ackers are connected.
    Ackers(u32),
    /// It is read-only.
    ReadOnly,
    /// It has had a heartbeat since the receiver started.
    Heartbeat,
    /// Semi-sync is in effect at the source, or not.
    SemiSync(bool),
}

/// An action of the executor, with servers in place of addresses and sets.
#[derive(Debug, Clone)]
pub enum Deed {
    StopReceiver,
    StartReceiver,
    RestartReceiver,
    ReadFacts,
    Fence,
    Unfence(Option<u32>),
    /// Until what that server had executed when it was last seen.
    Drain(Option<usize>),
    Detach(Option<usize>),
    /// At that server; semi-sync replica side; whether to wait; MariaDB: position taken from what that one executed.
    Point(usize, Option<bool>, bool, bool),
    EnableSemiSync(u32),
    DisableSemiSync,
    MakeWritable,
    MakeReadOnly(u64),
    VerifyWrite(u64),
    ListBlockers(u64),
    KillWriters,
    KillPredecessors,
    /// `ReadFacts` for a server that this one is not.
    ReadFactsOf(usize),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login(who, at, account) => write!(f, "{who} logs in to server {at} as {}", account.user()),
            Self::Sends(who, what) => write!(f, "{who} sends {what:?}"),
            Self::Hears(who) => write!(f, "{who} hears"),
            Self::HearsNothing(who) => write!(f, "{who} has heard nothing"),
            Self::HangsUp(who) => write!(f, "{who} hangs up"),
            Self::Does(at, what) => write!(f, "on server {at} an operator says {what:?}"),
            Self::Changes(at, to, _) => write!(f, "server {at} is told to follow server {to}"),
            Self::Kills(at, who, true) => write!(f, "server {at} is told KILL CONNECTION of {who}"),
            Self::Kills(at, who, false) => write!(f, "server {at} is told KILL QUERY of {who}"),
            Self::Fault(at, fault) => write!(f, "to server {at} happens {fault:?}"),
            Self::Until(at, fact) => write!(f, "server {at} comes to {fact:?}"),
            Self::See(at) => write!(f, "server {at} says"),
            Self::Rows(at) => write!(f, "server {at} has rows"),
            Self::Step(at, deed, _) => write!(f, "the executor does {deed:?} on server {at}"),
            Self::StepEnds(at, deed, _) => write!(f, "the executor ends {deed:?} on server {at}"),
            Self::OtherStep(at, deed, _) => write!(f, "another node's executor does {deed:?} on server {at}"),
            Self::NewExecutor => f.write_str("a new executor takes the place of the first"),
        }
    }
}

/// A client's rows, to be sent.
pub fn insert(row: u64) -> Vec<Statement> {
    vec![Statement::Insert(row)]
}

/// Stops threads of the default channel.
pub fn stop(thread: Thread) -> Vec<Statement> {
    vec![Statement::Stop(String::new(), thread)]
}

/// Starts them.
pub fn start(thread: Thread) -> Vec<Statement> {
    vec![Statement::Start(String::new(), thread)]
}
