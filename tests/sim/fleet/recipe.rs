//! How the executor carries out each action, in statements of the simulated fleet: the same order, guards and ends as
//! `src/executor`. The world gives a [`Wire`]: one session with the network and the time around it.

use std::future::Future;

use super::statement::{Answer, Profile, Statement};

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
}
