//! One step of a plan -> SQL on one server. Takes no decision, keeps no record; every end is *done* (seen on the same
//! session), *refused* (nothing was changed) or *unknown* (it may still land).
//!
//! A step runs over a session that was opened ahead of need: new logins hang exactly when one is needed (a commit
//! that waits for an acknowledgement can hold the lock a login takes). The session is marked by a user-level lock, so
//! that other nodes, and this one after a restart, find it and end it.

mod actions;
mod admin;
mod batch;
mod mark;
mod permit;
mod pulse;
mod slot;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use self::{batch::Run, mark::Marks, slot::Slot};
pub use self::{permit::Permit, pulse::Pulse};
use crate::{
    core::plan::step::{Step, StepEnd, Target},
    model::server::ServerId,
    session::Account,
};

/// What this node's executor needs to know.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// Name of the group.
    pub group: String,
    /// This node's number.
    pub node: u64,
    /// How it logs in to servers.
    pub account: Account,
    /// What replicas are given when they are pointed at a source; its `tls` is how they connect. Paths in it are the
    /// *servers'* own.
    pub replication: Account,
    /// Numbers of all nodes of the group, this one included, that may have sessions on servers.
    pub nodes: Vec<u64>,
}

/// Carries out steps. Steps on one server run one after another, those on different servers side by side.
#[derive(Debug)]
pub struct Executor {
    options: Mutex<Arc<ExecutorOptions>>,
    pulse: Arc<Pulse>,
    slots: Mutex<BTreeMap<ServerId, Arc<Slot>>>,
}

/// A mutex of this module is never held across an await or a panic.
const NOT_POISONED: &str = "no code panics while it holds this lock";

impl Executor {
    /// An executor without sessions.
    pub fn new(options: ExecutorOptions) -> Self {
        Self { options: Mutex::new(Arc::new(options)), pulse: Arc::default(), slots: Mutex::default() }
    }

    /// For whoever notices this process' pauses: permits from before one are void.
    pub fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }

    /// Opens a session to the server in the background and keeps it: pinged, and opened again after its end. Told
    /// another address, it moves there.
    pub fn prepare(&self, target: &Target) {
        let slot = self.slot(target);
        slot.keep(self.options());
    }

    /// Ends the session to a server and keeps none.
    pub fn forget(&self, server: &ServerId) {
        if let Some(slot) = self.slots.lock().expect(NOT_POISONED).remove(server) {
            slot.end();
        }
    }

    /// Cuts every session, also one with a statement in flight (its step ends *unknown*), after a pause of this node:
    /// what was sent before it has no permit any more. Sessions are opened again in the background.
    pub fn drop_all(&self) {
        for slot in self.slots.lock().expect(NOT_POISONED).values() {
            slot.cut();
        }
    }

    /// Cuts the sessions on which a step runs (it ends *unknown*), when this node begins to lead: what an earlier term
    /// began has no permit in this one. Idle sessions carry nothing, and are needed soon.
    pub fn drop_busy(&self) {
        for slot in self.slots.lock().expect(NOT_POISONED).values().filter(|slot| slot.is_lent()) {
            slot.cut();
        }
    }

    /// Tells which nodes there are, for finding their sessions.
    pub fn set_nodes(&self, nodes: Vec<u64>) {
        let mut options = self.options.lock().expect(NOT_POISONED);
        *options = Arc::new(ExecutorOptions { nodes, ..ExecutorOptions::clone(&options) });
    }

    /// Opens the session to a server, where there is none; since when it is there, or a sentence. What is confirmed
    /// afterwards covers it ([`Permit::confirmed`]).
    pub async fn open(&self, target: &Target, deadline: Duration) -> Result<Instant, String> {
        let until = Instant::now() + deadline;
        self.slot(target).ready(&self.options(), &target.identity, until).await
    }

    /// Carries out one step over the session that is open, ending at `deadline` at the latest. Before every statement the
    /// permit is looked at, and whether this process slept since it was confirmed; the session must be older than that.
    pub async fn run(&self, permit: &Permit, step: &Step, deadline: Duration) -> StepEnd {
        let until = Instant::now() + deadline;
        let slot = self.slot(&step.target);
        let options = self.options();
        let lent = match slot.lend(permit, &self.pulse, until).await {
            Ok(lent) => lent,
            Err(end) => return end,
        };
        let mut run = Run::new(lent, options, permit, &self.pulse, step, until);
        let end = actions::run(&mut run, &step.action).await;
        run.finish(end)
    }

    fn options(&self) -> Arc<ExecutorOptions> {
        self.options.lock().expect(NOT_POISONED).clone()
    }

    fn slot(&self, target: &Target) -> Arc<Slot> {
        let mut slots = self.slots.lock().expect(NOT_POISONED);
        let slot =
            slots.entry(target.server.clone()).or_insert_with(|| Arc::new(Slot::new(target.address.clone())));
        if slot.address() != &target.address {
            slot.end();
            *slot = Arc::new(Slot::new(target.address.clone()));
        }
        slot.clone()
    }
}

impl ExecutorOptions {
    fn marks(&self) -> Marks {
        Marks::new(&self.group)
    }
}
