//! Plain values that every other part speaks in: addresses, identities, GTID sets, facts, policy.
//! No I/O, no clock, no decisions.

pub mod address;
pub mod facts;
pub mod gtid;
pub mod near;
pub mod policy;
pub mod server;
pub mod words;
