//! What each action is in SQL. One function an action; the order of its statements is the recipe.

mod apply;
mod fence;
mod point;
mod receiver;
mod semi_sync;
mod sessions;
mod verify;

pub(super) use self::sessions::{LOOK_AFTER, NO_SUCH_THREAD, kill_connection};
use super::batch::{Run, done};
use crate::core::plan::step::{Action, StepEnd};

/// Carries out one action.
pub(super) async fn run(run: &mut Run<'_>, action: &Action) -> StepEnd {
    perform(run, action).await.unwrap_or_else(|end| end)
}

async fn perform(run: &mut Run<'_>, action: &Action) -> Result<StepEnd, StepEnd> {
    match action {
        Action::StopReceiver { channel } => receiver::stop(run, channel).await,
        Action::StartReceiver { channel } => receiver::start(run, channel).await,
        Action::RestartReceiver { channel } => receiver::restart(run, channel).await,
        Action::ReadFacts => Ok(done(run.facts().await?)),
        Action::Fence => fence::fence(run).await,
        Action::Unfence { semi_sync_acks, must_hold } => {
            fence::unfence(run, *semi_sync_acks, must_hold).await
        }
        Action::Drain { channel, until } => apply::drain(run, channel, until).await,
        Action::Detach { channel, until } => apply::detach(run, channel, until).await,
        Action::Point { channel, options, semi_sync_replica, wait } => {
            point::point(run, channel, options, *semi_sync_replica, *wait).await
        }
        Action::EnableSemiSyncSource { acks } => semi_sync::enable(run, *acks).await,
        Action::DisableSemiSyncSource => semi_sync::disable(run).await,
        Action::MakeWritable { must_hold } => fence::make_writable(run, must_hold).await,
        Action::MakeReadOnly { lock_wait_s } => fence::make_read_only(run, *lock_wait_s).await,
        Action::VerifyWrite { recovery, epoch } => verify::write(run, recovery, *epoch).await,
        Action::ListBlockers { older_than_ms } => sessions::list_blockers(run, *older_than_ms).await,
        Action::KillWriters => sessions::kill_writers(run).await,
        Action::KillPredecessors => sessions::kill_predecessors(run).await,
    }
}
