//! Quorate: a failover cluster for MySQL and MariaDB replication.
#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod config;
pub mod core;
pub mod executor;
pub mod mistake;
pub mod model;
pub mod probe;
pub mod raft;
pub mod server;
pub mod session;
#[cfg(test)]
#[path = "../tests/fuzz/spoil.rs"]
#[allow(dead_code)] // the rest is for the target `fuzz`
mod spoil;

/// What is generated from `proto/`, one module a package (`proto::raft::v1`, ...).
#[allow(missing_docs, clippy::all)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/quorate.rs"));
    pub use quorate::*;

    /// Encoded `FileDescriptorSet` of every package, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/quorate.descriptors"));
}
