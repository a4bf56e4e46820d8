//! One look at a server, run as a task of its own so that nothing the prober does can cancel it half-way.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::AbortHandle, time::Instant};

use crate::{
    model::address::Address,
    session::{Account, FactsReader, Purpose, ReadError, Reading, Session, SessionOptions},
};

/// Bound of dialling and login of a fresh attempt, and then of its answer.
pub(super) const FRESH_WITHIN: Duration = Duration::from_secs(1);

/// How long a late answer is awaited on the held connection before that is given up: a frozen server that thaws
/// answers what it was asked before, at once.
pub(super) const LINGER: Duration = Duration::from_secs(60);

/// What an attempt goes over.
pub(super) enum Over {
    /// The held connection, lent to the attempt.
    Held(Session),
    /// A new one.
    Fresh,
}

/// A finished attempt; `session` is whole and idle, where there still is one.
pub(super) struct Finished {
    pub(super) seq: u64,
    pub(super) fresh: bool,
    pub(super) inventory: bool,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) result: Result<Reading, ReadError>,
    pub(super) session: Option<Session>,
    pub(super) reader: FactsReader,
}

/// What an attempt needs to know.
pub(super) struct Attempt {
    pub(super) seq: u64,
    pub(super) address: Address,
    pub(super) account: Arc<Account>,
    pub(super) node: u64,
    pub(super) reader: FactsReader,
    pub(super) inventory: bool,
    /// Pause before an unanswered connection request is sent again.
    pub(super) dial_again: Duration,
}

impl Attempt {
    /// Starts it. The result goes to `done`; aborting the task cuts its connection and sends nothing.
    pub(super) fn start(self, over: Over, done: mpsc::UnboundedSender<Finished>) -> AbortHandle {
        let began = Instant::now();
        tokio::spawn(async move {
            let Self { seq, address, account, node, mut reader, inventory, dial_again } = self;
            let (fresh, opened, within) = match over {
                Over::Held(session) => (false, Ok(session), LINGER),
                Over::Fresh => {
                    let options = SessionOptions {
                        login_within: FRESH_WITHIN,
                        dial_again,
                        ..SessionOptions::new(Purpose::Probe, node)
                    };
                    (true, Session::open(&address, &account, &options).await, FRESH_WITHIN)
                }
            };
            let (result, session) = match opened {
                Ok(mut session) => (
                    reader.read(&mut session, inventory, within).await,
                    Some(session).filter(Session::is_open),
                ),
                Err(error) => (Err(error.into()), None),
            };
            let ended = Instant::now();
            // The prober may be gone; then the session ends with this message.
            let _ = done.send(Finished { seq, fresh, inventory, began, ended, result, session, reader });
        })
        .abort_handle()
    }
}
