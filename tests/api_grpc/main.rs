//! The API over a real listener, before a fake node.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so by panicking

mod errors;
mod events;
mod fake;
mod forwarding;
mod hostile;
mod mutations;
mod reads;
#[path = "../fuzz/spoil.rs"]
#[allow(dead_code)] // each of its users uses a part of it
mod spoil;
mod tls;
mod wire;
mod world;

use quorate::api::error_info;
use tonic::Status;

/// Reason and metadata of an error.
fn reason(status: &Status) -> String {
    error_info(status).map(|info| info.reason).unwrap_or_default()
}

/// One number of an error.
fn number(status: &Status, key: &str) -> String {
    error_info(status).and_then(|info| info.metadata.get(key).cloned()).unwrap_or_default()
}
