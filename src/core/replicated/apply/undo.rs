//! Giving up: a recovery that is only undone any more, and the start that may supersede it.

use super::{Context, Done, recoveries::wrong};
use crate::core::replicated::{
    audit::EventKind,
    recovery::{Ending, Phase, Recovery, Undo},
    refusal::Refusal,
    state::State,
};

impl State {
    /// From here on nothing is promoted by it (P4), no fence is delegated under it, and a start of the primary class may
    /// supersede it. Told again, by a successor, it changes nothing but what is known of the fence.
    pub(super) fn begin_undo(
        &mut self,
        context: &mut Context<'_>,
        id: u64,
        why: &str,
        fence_unknown: bool,
    ) -> Result<Done, Refusal> {
        let now = self.log_time_ms;
        let recovery = self.owned_mut(context, id)?;
        if recovery.phase >= Phase::Intent {
            return Err(wrong(recovery, "before its point of no return"));
        }
        if let Some(undo) = &mut recovery.undo {
            undo.fence_unknown |= fence_unknown;
            return Ok(Done { id: Some(id), ..Done::default() });
        }
        recovery.undo = Some(Undo { why: why.to_owned(), fence_unknown, since_ms: now });
        let given_up = recovery.clone();
        self.settle_attempts(&given_up);
        let fence = if fence_unknown { "; whether its old primary is fenced is unknown" } else { "" };
        let text = format!("given up and being undone{fence}: {why}");
        let server = given_up.old_primary.address.to_string();
        self.audit(context, EventKind::Undoing, Some(&given_up.cluster), Some(server), Some(id), text);
        Ok(Done { id: Some(id), ..Done::default() })
    }

    /// Ends the holder of the slot in the command that starts recovery `by`, which takes what is left of its undoing over.
    pub(super) fn supersede(&mut self, context: &mut Context<'_>, holder: u64, by: u64) {
        let (now, wall) = (self.log_time_ms, context.command.wall_ms);
        let Some(recovery) = self.recoveries.get_mut(&holder).filter(|r| r.undoing()) else { return };
        let reason = reason(recovery, by);
        recovery.phase = Phase::Ended;
        recovery.ending = Some(Ending::Cancelled);
        recovery.reason = reason.clone();
        recovery.ended_ms = Some(now);
        recovery.ended_wall_ms = Some(wall);
        let cluster = recovery.cluster.clone();
        if let Some(cluster) = self.clusters.get_mut(&cluster) {
            cluster.slot = None;
        }
        let text = format!("recovery {holder} cancelled: {reason}");
        self.audit(context, EventKind::RecoveryEnded, Some(&cluster), None, Some(holder), text);
    }
}

fn reason(recovery: &Recovery, by: u64) -> String {
    let why = recovery.undo.as_ref().map(|undo| undo.why.clone()).unwrap_or_default();
    match recovery.fence_unknown() {
        true => format!(
            "{why}; superseded by recovery {by} while a fence of {} might still have landed",
            recovery.old_primary.address
        ),
        false => format!("{why}; superseded by recovery {by} while it was being undone"),
    }
}
