//! Quorate: a failover cluster for MySQL and MariaDB replication.
#![forbid(unsafe_code)]

pub mod core;
pub mod executor;
pub mod model;
pub mod probe;
pub mod session;
