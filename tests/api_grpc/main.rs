//! The API over a real listener, before a fake node.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so by panicking

mod errors;
mod events;
mod fake;
mod forwarding;
mod mutations;
mod reads;
mod tls;
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
