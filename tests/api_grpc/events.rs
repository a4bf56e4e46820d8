//! The stream of events: in order, whole, resumable, bounded.

use std::time::Duration;

use quorate::{
    api::Limits,
    core::replicated::{Change, EventKind},
    proto::v1::{self as pb, events_client::EventsClient},
};
use tokio::time::timeout;
use tonic::Streaming;

use crate::{
    fake::{Fake, connect},
    number, reason,
    world::Log,
};

/// A generous bound for what should come at once.
const SOON: Duration = Duration::from_secs(30);

async fn next(stream: &mut Streaming<pb::EventBatch>) -> pb::EventBatch {
    timeout(SOON, stream.message()).await.expect("a batch in time").unwrap().expect("no end")
}

/// The next batch that is no bookmark.
async fn next_events(stream: &mut Streaming<pb::EventBatch>) -> pb::EventBatch {
    loop {
        let batch = next(stream).await;
        if !batch.events.is_empty() {
            return batch;
        }
    }
}

fn note(text: &str) -> Change {
    Change::Note { kind: EventKind::Alert, cluster: None, server: None, text: text.into() }
}

fn keys(events: &[pb::Event]) -> Vec<(u64, u32)> {
    events.iter().map(|e| (e.index, e.part)).collect()
}

#[tokio::test]
async fn a_watcher_gets_what_is_kept_then_what_is_new() {
    let fake = Fake::leading(Log::after_failover());
    let mut events = EventsClient::new(connect(fake.serve().await).await);
    let mut stream = events.watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner();
    let kept = next_events(&mut stream).await;
    let kinds: Vec<&str> = kept.events.iter().map(|e| e.kind.as_str()).collect();
    let wanted = [
        "discovered",
        "verdict",
        "verdict",
        "verdict",
        "recovery_started",
        "decided",
        "intent",
        "published",
        "recovery_ended",
        "blocked",
    ];
    assert_eq!(kinds, wanted);
    assert_eq!(kept.next_index, fake.log().index + 1);
    let index = fake.apply(note("hello"));
    let new = next_events(&mut stream).await;
    assert_eq!((new.events[0].index, new.events[0].text.as_str()), (index, "hello"));
}

/// Broken at every possible place and resumed: together the same events, each once.
#[tokio::test]
async fn a_watcher_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    let fake = Fake::leading(Log::after_failover());
    let channel = connect(fake.serve().await).await;
    let mut events = EventsClient::new(channel);
    let all = events.list_events(pb::ListEventsRequest::default()).await.unwrap().into_inner();
    let mut from = 0;
    let mut seen = Vec::new();
    while seen.len() < all.events.len() {
        let request = pb::ListEventsRequest { from_index: from, limit: 1, ..Default::default() };
        let batch = events.list_events(request).await.unwrap().into_inner();
        assert!(batch.next_index > from, "it goes on");
        seen.extend(keys(&batch.events));
        from = batch.next_index;
        let request = pb::WatchEventsRequest { from_index: from, ..Default::default() };
        let mut stream = events.watch_events(request).await.unwrap().into_inner();
        let rest = next(&mut stream).await;
        let mut together = seen.clone();
        together.extend(keys(&rest.events));
        assert_eq!(together, keys(&all.events), "resumed at {from}");
    }
}

#[tokio::test]
async fn only_new_events_begin_after_now() {
    let fake = Fake::leading(Log::after_failover());
    let mut events = EventsClient::new(connect(fake.serve().await).await);
    let request = pb::WatchEventsRequest { only_new: true, ..Default::default() };
    let mut stream = events.watch_events(request).await.unwrap().into_inner();
    assert!(next(&mut stream).await.events.is_empty(), "a bookmark says where it stands");
    fake.apply(note("new"));
    assert_eq!(next_events(&mut stream).await.events[0].text, "new");
    let wrong = pb::WatchEventsRequest { only_new: true, from_index: 5, ..Default::default() };
    assert_eq!(number(&events.watch_events(wrong).await.unwrap_err(), "field"), "from_index");
}

#[tokio::test]
async fn filters_leave_the_cursor_right() {
    let fake = Fake::leading(Log::after_failover());
    let mut events = EventsClient::new(connect(fake.serve().await).await);
    let filter = |cluster: &str, kinds: &[&str]| {
        Some(pb::EventFilter { cluster: cluster.into(), kinds: kinds.iter().map(|k| (*k).into()).collect() })
    };
    let request =
        pb::ListEventsRequest { filter: filter("orders", &["published", "blocked"]), ..Default::default() };
    let batch = events.list_events(request).await.unwrap().into_inner();
    assert_eq!(batch.events.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["published", "blocked"]);
    assert_eq!(batch.next_index, fake.log().index + 1);
    let request = pb::WatchEventsRequest { filter: filter("nosuch", &[]), ..Default::default() };
    assert_eq!(reason(&events.watch_events(request).await.unwrap_err()), "NOT_FOUND");
    let request = pb::ListEventsRequest { newest: true, limit: 2, ..Default::default() };
    let newest = events.list_events(request).await.unwrap().into_inner();
    assert_eq!(
        newest.events.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(),
        ["recovery_ended", "blocked"]
    );
}

#[tokio::test]
async fn a_cursor_older_than_what_is_kept_is_said() {
    let mut log = Log::with_orders();
    log.state.policy.audit_keep = 100;
    for n in 0..200 {
        log.apply(note(&format!("note {n}")));
    }
    let fake = Fake::leading(log);
    let mut events = EventsClient::new(connect(fake.serve().await).await);
    let request = pb::WatchEventsRequest { from_index: 12, ..Default::default() };
    let mut stream = events.watch_events(request).await.unwrap().into_inner();
    let error = stream.message().await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (tonic::Code::OutOfRange, "EVENTS_COMPACTED"));
    let oldest: u64 = number(&error, "oldest_index").parse().unwrap();
    let request = pb::ListEventsRequest { from_index: oldest, ..Default::default() };
    let kept = events.list_events(request).await.unwrap().into_inner().events;
    assert_eq!((kept.len(), kept[0].index), (100, oldest));
    let all = events.list_events(pb::ListEventsRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.events.len(), 100, "0 asks for whatever is kept");
}

#[tokio::test]
async fn a_watcher_that_goes_away_is_forgotten() {
    let fake = Fake::leading(Log::with_orders());
    let address = fake.serve_limited(Limits { connections: 8, streams: 8 }).await;
    let mut events = EventsClient::new(connect(address).await);
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(events.watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner());
    }
    next(&mut open[0]).await;
    drop(open);
    // Each of eight new ones finds the place of an old one.
    let mut again = Vec::new();
    let forgotten = async {
        while again.len() < 8 {
            match events.watch_events(pb::WatchEventsRequest::default()).await {
                Ok(stream) => again.push(stream),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(SOON, forgotten).await.expect("they are forgotten");
}
