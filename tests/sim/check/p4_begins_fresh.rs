//! P4: an automatic recovery whose first side effect is not in the log is executed only by the process that proposed it,
//! soon after it did; a late commit or another leader gathers fresh verdicts first.

use std::collections::BTreeMap;

use quorate::core::replicated::{Change, Kind};

use super::{Check, account::done};
use crate::{trace::Event, world::World};

/// What a fast or slow clock may add to `start_within`, milliseconds; and between commit and step the node asks once more
/// whether it leads, for as long as that takes.
const MARGIN_MS: u64 = 150;

struct Begun {
    proposer: u64,
    /// How long it took to be committed, true milliseconds.
    late: u64,
    /// A takeover brought verdicts, or a side effect is in the log.
    proven: bool,
}

/// See above.
#[derive(Default)]
pub struct BeginsFresh {
    begun: BTreeMap<u64, Begun>,
}

impl Check for BeginsFresh {
    fn id(&self) -> &'static str {
        "P4 a late start asks again"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        if let Event::StepBegan { node, step, permit, .. } = event
            && step.action.name() == "stop_receiver"
        {
            return self.began(*node, permit.recovery.parse().unwrap_or(0), world);
        }
        let Some((index, command, id)) = done(event) else { return Ok(()) };
        match &command.change {
            // One that takes the slot of another waits for that one's last step.
            Change::StartRecovery(start) if id == index && start.kind == Kind::Failover => {
                let proposed = world.proposed.get(&(command.node, command.term, command.at_ms));
                let supersedes =
                    world.group.state.recoveries.get(&id).is_some_and(|r| r.supersedes.is_some());
                let proposed = proposed.copied().unwrap_or(at);
                let begun = Begun { proposer: command.node, late: at - proposed, proven: supersedes };
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
    fn began(&self, node: u64, id: u64, world: &World) -> Result<(), String> {
        let Some(begun) = self.begun.get(&id).filter(|begun| !begun.proven) else { return Ok(()) };
        if begun.proposer != node {
            return Err(format!("node {node} begins recovery {id}, which node {} proposed", begun.proposer));
        }
        match begun.late > world.group.state.policy.start_within_ms + MARGIN_MS {
            true => Err(format!(
                "node {node} begins recovery {id}, committed {} ms after it was proposed",
                begun.late
            )),
            false => Ok(()),
        }
    }

    fn proven(&mut self, recovery: u64) {
        if let Some(begun) = self.begun.get_mut(&recovery) {
            begun.proven = true;
        }
    }
}
