//! I7: once a disable, a downtime or a maintenance is committed, no automatic recovery starts at a later index until it
//! is over.

use quorate::core::replicated::{Change, Kind};

use super::{Check, account::done};
use crate::{trace::Event, world::World};

/// What stands against automatic recoveries of the one cluster of a run.
#[derive(Default)]
pub struct Switches {
    globally: bool,
    cluster: bool,
    downtimes: std::collections::BTreeMap<quorate::model::server::ServerId, u64>,
    maintenance_until: u64,
    log_ms: u64,
}

impl Check for Switches {
    fn id(&self) -> &'static str {
        "I7 a committed disable holds"
    }

    fn see(&mut self, _: u64, event: &Event, _: &World) -> Result<(), String> {
        let Some((index, command, id)) = done(event) else { return Ok(()) };
        self.log_ms = self.log_ms.max(command.at_ms);
        let now = self.log_ms;
        // A repeated request takes no effect again.
        if id != index && command.request_id.is_some() {
            return Ok(());
        }
        match &command.change {
            Change::SetRecoveries { cluster: None, enabled, .. } => self.globally = !enabled,
            Change::SetRecoveries { cluster: Some(_), enabled, .. } => self.cluster = !enabled,
            Change::SetDowntime { server, for_ms: Some(for_ms), .. } => {
                self.downtimes.insert(server.clone(), now + for_ms);
            }
            Change::SetDowntime { server, for_ms: None, .. } => {
                self.downtimes.remove(server);
            }
            Change::SetMaintenance { for_ms, .. } => {
                self.maintenance_until = for_ms.map_or(0, |for_ms| now + for_ms);
            }
            Change::StartRecovery(start) if start.kind == Kind::Failover => {
                let standing = [
                    (self.globally, "recoveries are disabled globally"),
                    (self.cluster, "recoveries of the cluster are disabled"),
                    (
                        self.downtimes.get(&start.subject).is_some_and(|until| now < *until),
                        "its primary is in downtime",
                    ),
                    (now < self.maintenance_until, "the cluster is in maintenance"),
                ];
                if let Some((_, why)) = standing.iter().find(|(stands, _)| *stands) {
                    return Err(format!("recovery {id} starts by itself although {why}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
