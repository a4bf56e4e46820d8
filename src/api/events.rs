//! Service `Events`: the audit trail as a stream that resumes from a log index.
//!
//! A watcher reads from the applied state, not from a queue of its own: nothing is kept for one that reads slowly. It lags,
//! and is told so where what it has not seen is not kept any more.

use std::{pin::Pin, time::Duration};

use futures::Stream;
use tokio::{sync::watch, time::timeout};
use tonic::{Code, Request, Response, Status};

use super::{
    convert::alias_of,
    desk::{Desk, found},
    forward::service,
    status::{bad_field, status},
};
use crate::{
    core::replicated::{AuditEntry, State},
    model::server::ClusterId,
    proto::v1::{self as pb, events_client::EventsClient, events_server},
};

/// Events of one batch, unless one index has more.
const BATCH_EVENTS: usize = 64;
/// A bookmark is sent after this long without an event.
const BOOKMARK_EVERY: Duration = Duration::from_secs(10);
/// Most events of one list.
const LIST_MAX: u32 = 10_000;
/// Most kinds of one filter, and the longest name of one.
const KINDS_MAX: usize = 64;
const KIND_MAX: usize = 64;

/// The service.
pub struct Events {
    /// Where its calls arrive.
    pub desk: Desk,
}

service!(Events: events_server::Events, EventsClient<crate::api::backend::LeaderChannel> {
    list_events(ListEventsRequest) -> EventBatch;
}
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<pb::EventBatch, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<pb::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let input = request.into_inner();
        if input.only_new && input.from_index != 0 {
            return Err(bad_field("from_index", "must be 0 together with only_new"));
        }
        let filter = self.desk.look(|state| Filter::read(state, input.filter.as_ref()))?;
        let from = match input.only_new {
            true => self.desk.backend.applied().borrow().saturating_add(1),
            false => input.from_index,
        };
        let (desk, applied) = (self.desk.clone(), self.desk.applied.clone());
        let watcher = Watcher { desk, filter, from, applied, caught_up: false, silent: false, over: false };
        let batches = futures::stream::unfold(watcher, |mut watcher| async move {
            let next = watcher.next().await?;
            Some((next, watcher))
        });
        Ok(Response::new(Box::pin(batches)))
    }
);

async fn list_events(desk: Desk, input: pb::ListEventsRequest) -> Result<pb::EventBatch, Status> {
    if input.limit > LIST_MAX {
        return Err(bad_field("limit", format!("at most {LIST_MAX}")));
    }
    let limit = if input.limit == 0 { 1_000 } else { input.limit } as usize;
    desk.look(|state| {
        let filter = Filter::read(state, input.filter.as_ref())?;
        let applied = *desk.backend.applied().borrow();
        if !input.newest {
            return batch(state, &filter, input.from_index, applied, limit);
        }
        let newest = state.audit.iter().rev().take_while(|e| e.index >= input.from_index);
        let mut events: Vec<pb::Event> =
            newest.filter(|e| filter.wants(e)).take(limit).map(|e| event(state, e)).collect();
        events.reverse();
        Ok(pb::EventBatch { events, next_index: applied.saturating_add(1) })
    })
}

/// What a watcher wants to see.
struct Filter {
    cluster: Option<ClusterId>,
    kinds: Vec<String>,
}

impl Filter {
    fn read(state: &State, filter: Option<&pb::EventFilter>) -> Result<Self, Status> {
        let Some(filter) = filter else { return Ok(Self { cluster: None, kinds: vec![] }) };
        if filter.kinds.len() > KINDS_MAX || filter.kinds.iter().any(|kind| kind.len() > KIND_MAX) {
            return Err(bad_field("filter.kinds", format!("at most {KINDS_MAX}, of {KIND_MAX} characters")));
        }
        let cluster = match filter.cluster.is_empty() {
            true => None,
            false => Some(found(state.find_cluster(&filter.cluster))?.id.clone()),
        };
        Ok(Self { cluster, kinds: filter.kinds.clone() })
    }

    fn wants(&self, entry: &AuditEntry) -> bool {
        let cluster = self.cluster.is_none() || entry.cluster == self.cluster;
        cluster && (self.kinds.is_empty() || self.kinds.contains(&entry.kind.name()))
    }
}

/// Events from an index on, in whole indexes. `applied` was read before the state, so that nothing up to it is missing.
fn batch(
    state: &State,
    filter: &Filter,
    from: u64,
    applied: u64,
    limit: usize,
) -> Result<pb::EventBatch, Status> {
    check_kept(state, from)?;
    let start = state.audit.partition_point(|entry| entry.index < from);
    let mut events = Vec::new();
    let mut next_index = applied.saturating_add(1).max(from);
    for entry in state.audit.range(start..) {
        if events.len() >= limit && events.last().is_some_and(|last: &pb::Event| last.index < entry.index) {
            next_index = entry.index;
            break;
        }
        next_index = next_index.max(entry.index.saturating_add(1));
        if filter.wants(entry) {
            events.push(event(state, entry));
        }
    }
    Ok(pb::EventBatch { events, next_index })
}

/// A cursor older than the oldest event kept may have missed something; 0 asks for no more than what is kept.
fn check_kept(state: &State, from: u64) -> Result<(), Status> {
    let Some(oldest) = state.audit.front() else { return Ok(()) };
    let trimmed = state.audit.len() as u64 >= state.policy.audit_keep;
    if from == 0 || from >= oldest.index || !trimmed {
        return Ok(());
    }
    let text = format!(
        "events from index {from} on are not kept any more, the oldest is of index {}; read the state anew and watch from there",
        oldest.index
    );
    Err(status(
        Code::OutOfRange,
        "EVENTS_COMPACTED",
        text,
        vec![("oldest_index", oldest.index.to_string())],
        None,
    ))
}

fn event(state: &State, entry: &AuditEntry) -> pb::Event {
    pb::Event {
        index: entry.index,
        part: entry.part,
        time_unix_ms: entry.wall_ms,
        log_ms: entry.at_ms,
        kind: entry.kind.name(),
        cluster: entry.cluster.as_ref().map(|c| c.0.clone()).unwrap_or_default(),
        alias: entry.cluster.as_ref().map(|c| alias_of(state, c)).unwrap_or_default(),
        server: entry.server.clone().unwrap_or_default(),
        recovery: entry.recovery.unwrap_or_default(),
        by: entry.by.clone(),
        text: entry.text.clone(),
    }
}

/// One who watches. It is asked for the next batch when its client takes one, and reads from the applied state then.
struct Watcher {
    desk: Desk,
    filter: Filter,
    /// The first index that it has not seen.
    from: u64,
    applied: watch::Receiver<u64>,
    /// Everything that is applied was looked through.
    caught_up: bool,
    /// A batch without events is not worth sending.
    silent: bool,
    over: bool,
}

impl Watcher {
    /// The next batch; nothing more after an error.
    async fn next(&mut self) -> Option<Result<pb::EventBatch, Status>> {
        while !self.over {
            if self.caught_up && !self.wait().await {
                break;
            }
            let index = *self.applied.borrow_and_update();
            let next = self.desk.look(|state| batch(state, &self.filter, self.from, index, BATCH_EVENTS));
            match next {
                Ok(batch) => {
                    self.from = batch.next_index;
                    self.caught_up = self.from > index;
                    if !batch.events.is_empty() || !std::mem::replace(&mut self.silent, true) {
                        return Some(Ok(batch));
                    }
                }
                Err(status) => {
                    self.over = true;
                    return Some(Err(status));
                }
            }
        }
        None
    }

    /// For news, or for the time of a bookmark. Whether there is anything to come.
    async fn wait(&mut self) -> bool {
        match timeout(BOOKMARK_EVERY, self.applied.changed()).await {
            Ok(changed) => {
                self.silent = true;
                changed.is_ok()
            }
            Err(_) => {
                self.silent = false;
                true
            }
        }
    }
}
