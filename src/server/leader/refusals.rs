//! What was refused, told to people once: at once, again when the reason changes, and again until it is in the log.

use std::collections::BTreeMap;

use super::{Leader, Message};
use crate::{
    core::replicated::{Change, EventKind, Refusal},
    mistake::{Mistake, planted},
    model::server::ClusterId,
    raft::Committed,
    server::group::SELF,
};

/// The last refusal of each cluster.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<ClusterId, Told>);

#[derive(Debug)]
struct Told {
    reason: String,
    /// One for all attempts: of one whose fate is not known and the next, the log keeps one.
    request: String,
    note: Change,
    /// It is in the log, or on its way there.
    under_way: bool,
}

impl Refusals {
    /// What is to be committed now, if anything, and under which request id.
    fn news(
        &mut self,
        cluster: &ClusterId,
        refusal: &Refusal,
        unique: impl FnOnce() -> String,
    ) -> Option<(String, Change)> {
        let reason = refusal.reason();
        if self.0.get(cluster).is_none_or(|told| told.reason != reason) {
            let note = Change::Note {
                kind: EventKind::RecoveryRefused,
                cluster: Some(cluster.clone()),
                server: None,
                text: format!("{reason}: {refusal}"),
            };
            let told = Told { reason: reason.to_owned(), request: unique(), note, under_way: false };
            self.0.insert(cluster.clone(), told);
            tracing::warn!(%cluster, reason, %refusal, "a recovery is refused");
        }
        let told = self.0.get_mut(cluster)?;
        let news = !std::mem::replace(&mut told.under_way, true);
        news.then(|| (told.request.clone(), told.note.clone()))
    }

    /// It was not committed, or nobody knows: to be told again.
    fn failed(&mut self, cluster: &ClusterId, request: &str) {
        if let Some(told) = self.0.get_mut(cluster).filter(|told| told.request == request) {
            told.under_way = false;
        }
    }

    /// Nothing is wrong any more, or a recovery began: what is refused from now on is news.
    pub(super) fn forget(&mut self, cluster: &ClusterId) {
        if planted(Mistake::RefusalToldOnce) {
            return;
        }
        self.0.remove(cluster);
    }
}

impl Leader {
    /// Puts a refusal into the log, unless it is there.
    pub(super) fn tell_refusal(&mut self, cluster: &ClusterId, refusal: &Refusal) {
        let host = &self.tools.ports.host;
        let Some((request, note)) = self.refusals.news(cluster, refusal, || host.unique()) else { return };
        let (group, term) = (self.tools.group.clone(), self.leadership.term);
        let (inbox, cluster) = (self.inbox.clone(), cluster.clone());
        self.work.spawn(self.tools.task(async move {
            let told: Result<Committed, _> = group.propose(term, note, SELF, Some(request.clone())).await;
            if let Err(error) = told {
                tracing::info!(%cluster, %error, "a refusal is not in the log yet");
                let _ = inbox.send(Message::RefusalUntold { cluster, request }).await;
            }
        }));
    }

    pub(super) fn refusal_untold(&mut self, cluster: &ClusterId, request: &str) {
        self.refusals.failed(cluster, request);
    }
}
