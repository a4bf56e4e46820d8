//! Core values as protobuf messages.

pub mod cluster;
pub mod explain;
pub mod plan;
pub mod recovery;

use std::collections::BTreeMap;

use crate::{
    core::{
        analysis::Severity,
        replicated::{Cluster, State},
    },
    model::server::ServerId,
};

/// Stable name of a severity.
pub fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

/// Addresses of servers for people; a server that is no member any more is named by its id.
pub struct Addresses(BTreeMap<ServerId, String>);

impl Addresses {
    /// Of one cluster's members.
    pub fn of(cluster: Option<&Cluster>) -> Self {
        let members = cluster.into_iter().flat_map(|c| c.members.values());
        Self(members.map(|m| (m.server.clone(), m.address.to_string())).collect())
    }

    /// The address, else the id.
    pub fn name(&self, server: &ServerId) -> String {
        self.0.get(server).cloned().unwrap_or_else(|| server.0.clone())
    }
}

/// Alias of a cluster by its id; empty when it has none or is gone.
pub fn alias_of(state: &State, cluster: &crate::model::server::ClusterId) -> String {
    state.clusters.get(cluster).and_then(|c| c.alias.clone()).unwrap_or_default()
}
