//! The replicated state: what the group has agreed on, and the commands that change it. `State::apply` is a pure,
//! total function; every node that applied the same entries holds the same state.

pub mod apply;
pub mod audit;
pub mod cluster;
pub mod command;
pub mod orders;
pub mod query;
pub mod recovery;
pub mod refusal;
pub mod state;

pub use self::{
    audit::{AuditEntry, EventKind},
    cluster::{Cluster, Durability, Member, MemberState, Witness},
    command::{Change, Command, Outcome, Switch},
    orders::{OrderStage, StandingOrder},
    recovery::{Decision, Ending, Kind, Phase, Recovery, StepRecord},
    refusal::Refusal,
    state::State,
};
