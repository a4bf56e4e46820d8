//! What the other voters remember of a cluster's members (P6): this node's own memory may have begun a moment ago, or lack
//! what happened where it could not look.

use std::time::Duration;

use super::tools::Tools;
use crate::{core::plan::marks::Marks, model::server::ClusterId};

/// How long they are waited for: as a rule beside something that takes as long.
const WITHIN: Duration = Duration::from_millis(200);

/// Asks all other voters at once; who does not answer in time is left out.
pub fn of_others(tools: &Tools, cluster: &ClusterId) -> impl Future<Output = Vec<Marks>> + Send + use<> {
    let me = tools.node_id();
    let others = tools.ports.log.membership().voters.into_iter().filter(|node| *node != me);
    let asked: Vec<_> = others
        .map(|node| {
            let (ports, cluster) = (tools.ports.clone(), cluster.clone());
            async move {
                let answer = ports.within(WITHIN, ports.peers.marks(node, cluster)).await;
                let marks = answer.unwrap_or_else(|| Err("no answer in time".to_owned()));
                marks
                    .map_err(|why| tracing::info!(node, why, "what it remembers of the servers is not known"))
                    .ok()
            }
        })
        .collect();
    async move { futures::future::join_all(asked).await.into_iter().flatten().collect() }
}
