//! P10, I6: log time is elapsed time. It never goes back, and never runs ahead of true time by more than the clocks do:
//! a block lasts longer than it says, never shorter, whatever a wall clock jumps.

use super::Check;
use crate::{raft::Load, trace::Event, world::World};

/// Clocks that are 5 % fast, and what a message takes.
const SLACK_PERCENT: u64 = 6;
const SLACK_MS: u64 = 200;

/// See above.
#[derive(Default)]
pub struct LogTime {
    log_ms: u64,
    last: Option<(u64, u64)>,
}

impl Check for LogTime {
    fn id(&self) -> &'static str {
        "P10 log time is elapsed time"
    }

    fn see(&mut self, at: u64, event: &Event, world: &World) -> Result<(), String> {
        let Event::Committed { entry, .. } = event else { return Ok(()) };
        let Load::Command(_) = &entry.load else { return Ok(()) };
        let log_ms = world.group.state.log_time_ms;
        if log_ms < self.log_ms {
            return Err(format!("log time goes back from {} to {log_ms}", self.log_ms));
        }
        self.log_ms = log_ms;
        let (first_at, first_log) = *self.last.get_or_insert((at, log_ms));
        let allowed = (at - first_at) * (100 + SLACK_PERCENT) / 100 + SLACK_MS;
        if log_ms - first_log > allowed {
            let gone = log_ms - first_log;
            return Err(format!("{gone} ms of log time in {} ms of true time", at - first_at));
        }
        Ok(())
    }
}
