//! Watching one server: when to look, over what, and what each look brought. Judges nothing; who sums the events up
//! counts silence from the last answer, by the times they carry.
//!
//! One task and one held connection a server, no shared pool: a dead server starves nobody. A probe is one round trip
//! on the held connection. The end of that connection is reported the moment it comes, even between two probes.

mod attempt;
mod event;
mod pace;
mod prober;
mod urgent;

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

pub use self::event::{Mode, Outcome, ProbeEvent, ProbeSettings, ProbeTarget};
pub use self::pace::Pace;
use crate::{
    model::address::Address,
    session::{Account, FactsReader, Purpose, ReadError, Reading, Session, SessionOptions},
};

/// What a prober can be told.
#[derive(Debug)]
enum Command {
    Urgent { bound: Duration, answer: oneshot::Sender<ProbeEvent> },
    Reprobe,
    Inventory,
    Settings(ProbeSettings),
    Discard,
}

/// The owner's end of a prober. Dropping it ends the prober and its connection.
#[derive(Debug)]
pub struct ProbeHandle {
    commands: mpsc::Sender<Command>,
}

/// Commands waiting for a prober; it takes each within a turn of its loop.
const COMMANDS_MAX: usize = 64;

impl ProbeHandle {
    /// Asks for a fresh attempt at once: over a *new* connection, and over the held one besides. Resolves with the
    /// first answer or refusal, or at `bound` with what was seen until then (*silent*, if nothing). Each event is
    /// sent to the prober's channel too.
    pub fn urgent(&self, bound: Duration) -> oneshot::Receiver<ProbeEvent> {
        let (answer, receiver) = oneshot::channel();
        self.tell(Command::Urgent { bound, answer });
        receiver
    }

    /// Probes now instead of when it is due.
    pub fn reprobe(&self) {
        self.tell(Command::Reprobe);
    }

    /// Reads a full inventory with the next probe, now.
    pub fn inventory_now(&self) {
        self.tell(Command::Inventory);
    }

    /// Changes intervals and mode.
    pub fn set(&self, settings: ProbeSettings) {
        self.tell(Command::Settings(settings));
    }

    /// Throws away attempts that are under way (this node was paused: their times mean nothing) and begins anew.
    pub fn discard(&self) {
        self.tell(Command::Discard);
    }

    /// A full queue means that the prober has more than enough to do at once: the command is dropped.
    fn tell(&self, command: Command) {
        let _ = self.commands.try_send(command);
    }
}

/// Starts watching a server. Events go to `events`; the prober waits when it is full and ends when it is closed.
pub fn spawn(
    target: ProbeTarget,
    account: Arc<Account>,
    node: u64,
    settings: ProbeSettings,
    events: mpsc::Sender<ProbeEvent>,
) -> ProbeHandle {
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    tokio::spawn(prober::Prober::new(target, account, node, settings, events, receiver).run());
    ProbeHandle { commands }
}

/// Reads one server's facts over a connection of its own, for discovery.
pub async fn read_once(
    address: &Address,
    account: &Account,
    node: u64,
    inventory: bool,
    within: Duration,
) -> Result<Reading, ReadError> {
    let began = tokio::time::Instant::now();
    let options = SessionOptions { login_within: within, ..SessionOptions::new(Purpose::Probe, node) };
    let mut session = Session::open(address, account, &options).await?;
    let mut reader = FactsReader::new(&account.user);
    let left = within.saturating_sub(began.elapsed());
    let reading = reader.read(&mut session, inventory, left).await;
    session.close().await;
    reading
}
