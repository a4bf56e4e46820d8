//! P4, I8: every recovery that started ends exactly once, and its end is in the audit trail exactly once. That none is
//! left running is `converges`.

use std::collections::BTreeMap;

use quorate::core::replicated::{Change, EventKind, Phase};

use super::{Check, account::done};
use crate::{trace::Event, world::World};

/// See above.
#[derive(Default)]
pub struct EndsOnce {
    ended: BTreeMap<u64, bool>,
}

impl Check for EndsOnce {
    fn id(&self) -> &'static str {
        "P4 a recovery ends once"
    }

    fn see(&mut self, _: u64, event: &Event, world: &World) -> Result<(), String> {
        let Some((index, command, id)) = done(event) else { return Ok(()) };
        match &command.change {
            Change::StartRecovery(_) if id == index => {
                if let Some(superseded) = world.group.state.recoveries.get(&id).and_then(|r| r.supersedes) {
                    self.end_of(superseded)?;
                }
                self.ended.insert(id, false);
            }
            Change::FinishRecovery { recovery, .. } => self.end_of(*recovery)?,
            Change::BeginUndo { recovery, .. }
            | Change::RecordIntent { recovery }
            | Change::Publish { recovery }
            | Change::DecidePromotion { recovery, .. }
                if self.ended.get(recovery) != Some(&false) =>
            {
                return Err(format!("{} of recovery {recovery}, which runs no more", command.change.name()));
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, world: &World) -> Result<(), String> {
        for (id, ended) in &self.ended {
            let told = world.group.state.audit.iter();
            let told = told.filter(|e| e.kind == EventKind::RecoveryEnded && e.recovery == Some(*id)).count();
            if told != usize::from(*ended) {
                return Err(format!("the audit trail tells the end of recovery {id} {told} times"));
            }
            let record = world.group.state.recoveries.get(id);
            if record.is_some_and(|record| (record.phase == Phase::Ended) != *ended) {
                return Err(format!("the record of recovery {id} does not say whether it ended"));
            }
        }
        Ok(())
    }
}

impl EndsOnce {
    fn end_of(&mut self, id: u64) -> Result<(), String> {
        match self.ended.insert(id, true) {
            Some(false) => Ok(()),
            Some(true) => Err(format!("recovery {id} ends a second time")),
            None => Err(format!("recovery {id} ends and never started")),
        }
    }
}
