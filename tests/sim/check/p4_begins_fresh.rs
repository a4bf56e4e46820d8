//! P4: an automatic recovery whose first side effect is not in the log is executed only by the process that proposed it,
//! soon after it did; a late commit or another leader gathers fresh verdicts first.

use std::collections::BTreeMap;

use quorate::core::replicated::{Change, Kind};

use super::{Check, account::done};
use crate::{trace::Event, world::World};

/// What a fast or slow clock, and the way from the log to the first step, may add to `start_within`, milliseconds.
const MARGIN_MS: u64 = 150;

struct Begun {
    proposer: u64,
    proposed: u64,
    /// A takeover brought verdicts, or a side effect is in the log.
    proven: bool,
}

/// See above.
#[derive(Default)]
pub struct BeginsFresh {
    begun: BTreeMap<u64, Begun>,
    /// When each node's process went on after a pause: what it had begun by then it may still send.
    resumed: BTreeMap<u64, u64>,
}

impl Check for BeginsFresh {
    fn id(&self) -> &'static str {
        "P4 a late start asks again"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::NodeResumed(node) => drop(self.resumed.insert(*node, at)),
            Event::StepBegan { node, step, permit, .. } if step.action.name() == "stop_receiver" => {
                let id = permit.recovery.parse().unwrap_or(0);
                let Some(begun) = self.begun.get(&id).filter(|begun| !begun.proven) else { return Ok(()) };
                if begun.proposer != *node {
                    return Err(format!(
                        "node {node} begins recovery {id}, which node {} proposed",
                        begun.proposer
                    ));
                }
                let held = self.resumed.get(node).is_some_and(|resumed| *resumed + MARGIN_MS > at);
                let late = at.saturating_sub(begun.proposed);
                if late > world.group.state.policy.start_within_ms + MARGIN_MS && !held {
                    return Err(format!("node {node} begins recovery {id} {late} ms after it was proposed"));
                }
            }
            _ => {}
        }
        let Some((index, command, id)) = done(event) else { return Ok(()) };
        match &command.change {
            // One that takes the slot of another waits for that one's last step.
            Change::StartRecovery(start) if id == index && start.kind == Kind::Failover => {
                let proposed = world.proposed.get(&(command.node, command.term, command.at_ms));
                let supersedes =
                    world.group.state.recoveries.get(&id).is_some_and(|r| r.supersedes.is_some());
                let proposed = proposed.copied().unwrap_or(at);
                let begun = Begun { proposer: command.node, proposed, proven: supersedes };
                self.begun.insert(id, begun);
            }
            Change::TakeOver { recovery, evidence } if !evidence.is_empty() => self.proven(*recovery),
            Change::RecordSteps { recovery, .. } | Change::DecidePromotion { recovery, .. } => {
                self.proven(*recovery);
            }
            _ => {}
        }
        Ok(())
    }
}

impl BeginsFresh {
    fn proven(&mut self, recovery: u64) {
        if let Some(begun) = self.begun.get_mut(&recovery) {
            begun.proven = true;
        }
    }
}
