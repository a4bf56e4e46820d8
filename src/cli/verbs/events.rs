//! `events`: the list, and the stream that comes back by itself.

use std::time::Duration;

use tokio::time::sleep;
use tonic::{Request, transport::Channel};

use super::{ANSWER_BYTES_MAX, ask};
use crate::{
    cli::{
        Printer,
        args::EventArgs,
        connect::{Session, none_reachable},
        error::{CliError, is_transport, transport_text},
        json, show,
    },
    proto::v1::{self as pb, events_client::EventsClient},
};

/// Pause before the next node is asked for the stream.
const COME_BACK: Duration = Duration::from_millis(250);
/// Without a batch or a bookmark for so long the node is left for another.
const SILENCE_MAX: Duration = Duration::from_secs(30);

fn events(channel: Channel) -> EventsClient<Channel> {
    EventsClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Lists, then follows if asked.
pub async fn run(session: &mut Session, out: &Printer, args: EventArgs) -> Result<(), CliError> {
    let filter = pb::EventFilter { cluster: args.cluster.unwrap_or_default(), kinds: args.kinds };
    let mut next = args.from.unwrap_or_default();
    // A stream without a lower bound begins with the newest few; with one it begins there.
    if !args.follow || args.from.is_none() {
        let request = pb::ListEventsRequest {
            from_index: next,
            limit: args.limit,
            newest: args.from.is_none(),
            filter: Some(filter.clone()),
            stale: session.stale || args.follow,
        };
        let batch = match args.limit {
            0 => pb::EventBatch { events: vec![], next_index: 0 },
            _ => ask!(session, events, list_events, request)?,
        };
        print(out, &batch)?;
        next = batch.next_index;
    }
    match args.follow {
        true => follow(session, out, filter, next).await,
        false => Ok(()),
    }
}

fn print(out: &Printer, batch: &pb::EventBatch) -> Result<(), CliError> {
    for event in &batch.events {
        out.print_line(|| json::event(event), |paint| show::lists::event(event, paint))?;
    }
    Ok(())
}

/// Follows until interrupted. A node that goes away is left for the next one, with the cursor: nothing is missed and
/// nothing comes twice.
async fn follow(
    session: &mut Session,
    out: &Printer,
    filter: pb::EventFilter,
    mut next: u64,
) -> Result<(), CliError> {
    let mut failed: Vec<String> = Vec::new();
    loop {
        match stream(session, out, &filter, &mut next).await? {
            Ended::AfterAnswers => failed.clear(),
            Ended::AtOnce(why) => failed.push(why),
        }
        if failed.len() >= session.ways() && next == 0 {
            return Err(none_reachable(&failed));
        }
        session.turn();
        sleep(COME_BACK).await;
        failed.truncate(session.ways());
    }
}

/// How a stream ended that another node may continue.
enum Ended {
    AfterAnswers,
    AtOnce(String),
}

async fn stream(
    session: &Session,
    out: &Printer,
    filter: &pb::EventFilter,
    next: &mut u64,
) -> Result<Ended, CliError> {
    let (name, channel) = session.channel();
    let request =
        pb::WatchEventsRequest { from_index: *next, only_new: *next == 0, filter: Some(filter.clone()) };
    let failed = |status: &tonic::Status| match session.stream_error(status) {
        Some(error) => Err(error),
        None => Ok(Ended::AtOnce(format!("{name}: {}", transport_text(status)))),
    };
    let mut batches = match events(channel).watch_events(Request::new(request)).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return failed(&status),
    };
    let mut heard = false;
    loop {
        match tokio::time::timeout(SILENCE_MAX, batches.message()).await {
            Ok(Ok(Some(batch))) => {
                heard = true;
                print(out, &batch)?;
                *next = batch.next_index;
            }
            Ok(Err(status)) if !heard || !is_transport(&status) => return failed(&status),
            Ok(Ok(None) | Err(_)) | Err(_) => return Ok(Ended::AfterAnswers),
        }
    }
}
