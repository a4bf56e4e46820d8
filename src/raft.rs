//! How the nodes of a group agree: the only face of openraft and of sled.
//!
//! Everything else proposes a [`Command`] and reads the [`State`]; which library carries them, how they lie on the
//! disk and how they travel between nodes is known in here only. This module decides nothing about databases.
//!
//! Reading order: [`Options`] and [`Raft`] (below), `types` (what the log carries), `store` (what is durable when),
//! `machine` (what has been applied), `gate` (who may call whom), `network` and `service` (the two ends of a call),
//! `ports` (what all of it stands on).

mod believe;
mod error;
mod gate;
mod machine;
mod network;
mod node;
mod options;
mod peers;
pub mod ports;
mod rescue;
mod runtime;
mod service;
mod store;
mod tcp;
mod tls;
mod types;

pub use self::error::{ChangeError, InitError, OpenError, PeerError, ProposeError, ReadError};
pub use self::gate::{Gate, Peer, Stamp};
pub use self::machine::Image;
pub use self::node::{Committed, Identified, Leadership, Membership, PeerStatus, Raft, Status};
pub use self::options::{NodeTls, Options, Profile};
pub use self::peers::PeerChannel;
pub use self::rescue::{Rebuilt, RescueError, rebuild_unsafe, restore_into};
pub use self::service::GrpcService;
pub use self::store::sync::{DurableSync, SyncStats};
pub use self::types::{COMMAND_BYTES_MAX, NodeInfo};

#[cfg(doc)]
use crate::core::replicated::{Command, State};
