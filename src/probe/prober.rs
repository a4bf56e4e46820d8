//! The loop of one prober: wait, take what woke it, act. Waiting is the only thing it awaits, besides the reader of
//! its events.
//!
//! ```text
//!             due, command                  answer
//!   Idle ------------------------> Busy -----------------> Idle
//!    |                              |  no answer in 1 s: *silent* is told, the answer is still awaited (LINGER),
//!    | connection ended             |  and fresh attempts begin; the first that succeeds takes its place
//!    v                              v connection ended
//!   None <--------------------------+
//!    | at once, then at the interval: a fresh attempt; one that answers is held from then on
//! ```

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Command, Outcome, ProbeEvent, ProbeSettings, ProbeTarget,
    attempt::{Attempt, Finished, Over},
    pace::Pace,
    urgent::{Urgent, Urgents},
};
use crate::session::{Account, FactsReader, Session};

/// A probe without an answer for this long is told as *silent*.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// How long a stopping prober waits for the answer that is under way.
const GOODBYE_WITHIN: Duration = Duration::from_millis(200);
enum Held {
    None,
    Idle(Session),
    Busy { seq: u64, began: Instant, told_silent: bool, task: AbortHandle },
}

/// A fresh attempt under way.
struct Fresh {
    seq: u64,
    urgent: bool,
    task: AbortHandle,
}

enum Woke {
    Command(Command),
    Finished(Finished),
    Ended(String),
    Time,
    Over,
}

pub(super) struct Prober {
    target: ProbeTarget,
    account: Arc<Account>,
    node: u64,
    pace: Pace,
    events: mpsc::Sender<ProbeEvent>,
    commands: mpsc::Receiver<Command>,
    done: mpsc::UnboundedSender<Finished>,
    finished: mpsc::UnboundedReceiver<Finished>,
    reader: FactsReader,
    held: Held,
    /// At most two: one by the interval, one urgent.
    fresh: Vec<Fresh>,
    seq: u64,
    urgents: Urgents,
}

impl Prober {
    pub(super) fn new(
        target: ProbeTarget,
        account: Arc<Account>,
        node: u64,
        settings: ProbeSettings,
        events: mpsc::Sender<ProbeEvent>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let (done, finished) = mpsc::unbounded_channel();
        let mut spread = DefaultHasher::new();
        (&target.address, node).hash(&mut spread);
        let pace = Pace::new(settings, spread.finish(), Instant::now());
        let reader = FactsReader::new(&account.user);
        Self {
            target,
            account,
            node,
            pace,
            events,
            commands,
            done,
            finished,
            reader,
            held: Held::None,
            fresh: Vec::new(),
            seq: 0,
            urgents: Urgents::default(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let told = match self.wait().await {
                Woke::Over => break,
                woke => self.take(woke),
            };
            for event in told {
                if self.events.send(event).await.is_err() {
                    return self.stop().await;
                }
            }
        }
        self.stop().await;
    }

    /// Says goodbye where that is quick: the server counts a connection that just ends as aborted.
    async fn stop(mut self) {
        for fresh in &self.fresh {
            fresh.task.abort();
        }
        match self.held {
            Held::Idle(session) => session.close().await,
            Held::Busy { seq, task, .. } => {
                let answer = async {
                    while let Some(finished) = self.finished.recv().await {
                        if finished.seq == seq {
                            return finished.session;
                        }
                    }
                    None
                };
                if let Ok(Some(session)) = timeout(GOODBYE_WITHIN, answer).await {
                    session.close().await;
                }
                task.abort();
            }
            Held::None => {}
        }
    }

    async fn wait(&mut self) -> Woke {
        let wake = self.next_wake();
        let ended = match &self.held {
            Held::Idle(session) => Some(session.ended()),
            _ => None,
        };
        let ended = async {
            match ended {
                Some(ended) => ended.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = self.commands.recv() => command.map_or(Woke::Over, Woke::Command),
            why = ended => Woke::Ended(why),
            Some(finished) = self.finished.recv() => Woke::Finished(finished),
            () = sleep_until(wake) => Woke::Time,
        }
    }

    fn next_wake(&self) -> Instant {
        let late = match &self.held {
            Held::Busy { began, told_silent: false, .. } => Some(*began + SILENT_AFTER),
            _ => None,
        };
        late.into_iter().chain(self.urgents.next_end()).fold(self.pace.next(), Instant::min)
    }

    /// Everything that is not waiting. Returns what is to be told.
    fn take(&mut self, woke: Woke) -> Vec<ProbeEvent> {
        let now = Instant::now();
        let mut told = Vec::new();
        match woke {
            Woke::Over => {}
            Woke::Command(command) => self.obey(command, now),
            Woke::Ended(why) => {
                self.held = Held::None;
                self.seq += 1;
                told.push(self.event(self.seq, now, now, false, Outcome::Closed(why)));
                // Reconnects at once: the next answer or refusal is what a verdict is made of.
                self.start_fresh(false);
                self.pace.began(now);
            }
            Woke::Finished(finished) => self.finish(finished, now, &mut told),
            Woke::Time => {}
        }
        for event in &told {
            self.urgents.settle(event);
        }
        if let Some(silent) = self.silence(now) {
            self.urgents.settle(&silent);
            told.push(silent);
        }
        self.urgents.expire(now);
        if self.pace.take_retry(now) && self.fresh.is_empty() {
            self.start_fresh(!self.urgents.is_empty());
        }
        if self.pace.is_due(now) {
            self.probe(now);
        }
        told
    }

    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Urgent { bound, answer } => {
                if !self.fresh.iter().any(|fresh| fresh.urgent) {
                    self.start_fresh(true);
                }
                let seq = self.fresh.iter().filter(|f| f.urgent).map(|f| f.seq).max().unwrap_or(self.seq);
                self.start_held(now);
                let why = format!("no answer within {} ms", bound.as_millis());
                let silent = self.event(seq, now, now + bound, true, Outcome::Silent(why));
                self.urgents.add(Urgent { until: now + bound, seq, last: None, silent, answer });
            }
            Command::Reprobe => self.pace.hurry(now),
            Command::Inventory => self.pace.hurry_inventory(now),
            Command::Settings(settings) => {
                let dialled = self.pace.dial_again(now);
                self.pace.set(settings, now);
                if self.pace.dial_again(now) < dialled && !self.fresh.is_empty() {
                    self.abort_fresh();
                    self.start_fresh(!self.urgents.is_empty());
                }
            }
            Command::Discard => {
                self.abort_fresh();
                if let Held::Busy { task, .. } = &self.held {
                    task.abort();
                    self.held = Held::None;
                }
                self.pace.hurry(now);
            }
        }
    }

    /// A probe is due: over the held connection where it is free, else over a new one.
    fn probe(&mut self, now: Instant) {
        match &self.held {
            Held::Idle(_) => self.start_held(now),
            Held::Busy { told_silent: false, .. } => {}
            Held::Busy { .. } | Held::None => {
                if self.fresh.is_empty() {
                    self.start_fresh(false);
                }
            }
        }
        self.pace.began(now);
    }

    fn attempt(&mut self, inventory: bool) -> Attempt {
        self.seq += 1;
        Attempt {
            seq: self.seq,
            address: self.target.address.clone(),
            account: self.account.clone(),
            node: self.node,
            reader: self.reader.clone(),
            inventory,
            dial_again: self.pace.dial_again(Instant::now()),
        }
    }

    fn start_held(&mut self, now: Instant) {
        match std::mem::replace(&mut self.held, Held::None) {
            Held::Idle(session) => {
                let inventory = self.pace.is_inventory_due(now);
                let attempt = self.attempt(inventory);
                let task = attempt.start(Over::Held(session), self.done.clone());
                self.held = Held::Busy { seq: self.seq, began: now, told_silent: false, task };
            }
            other => self.held = other,
        }
    }

    fn abort_fresh(&mut self) {
        for fresh in self.fresh.drain(..) {
            fresh.task.abort();
        }
    }

    fn start_fresh(&mut self, urgent: bool) {
        let attempt = self.attempt(false);
        let task = attempt.start(Over::Fresh, self.done.clone());
        self.fresh.push(Fresh { seq: self.seq, urgent, task });
    }

    fn finish(&mut self, finished: Finished, now: Instant, told: &mut Vec<ProbeEvent>) {
        let Finished { seq, fresh, inventory, began, ended, result, session, reader } = finished;
        let known = match fresh {
            true => self.fresh.iter().any(|f| f.seq == seq),
            false => matches!(self.held, Held::Busy { seq: held, .. } if held == seq),
        };
        if !known {
            // Discarded while its result was on the way.
            return;
        }
        self.fresh.retain(|f| f.seq != seq);
        let answered = result.is_ok();
        if answered {
            self.reader = reader;
            if inventory {
                self.pace.inventoried(now);
            }
        }
        let outcome = match result {
            Ok(reading) => Outcome::Answered { facts: Box::new(reading.facts), lacking: reading.lacking },
            Err(error) => error.into(),
        };
        match &outcome {
            Outcome::Closed(_) if fresh => self.pace.reset(!self.urgents.is_empty(), now),
            _ => self.pace.not_reset(),
        }
        let lost_held = !fresh && session.is_none();
        self.keep(session, fresh);
        told.push(self.event(seq, began, ended, fresh, outcome));
        if lost_held && self.fresh.is_empty() {
            self.start_fresh(false);
            self.pace.began(now);
        } else if !answered && self.fresh.is_empty() && !matches!(self.held, Held::Idle(_)) {
            self.pace.failed(now);
        }
    }

    /// Keeps one connection: the held one while it is well, else the new one.
    fn keep(&mut self, session: Option<Session>, fresh: bool) {
        let Some(session) = session else {
            if !fresh {
                self.held = Held::None;
            }
            return;
        };
        match (&self.held, fresh) {
            (Held::Idle(_) | Held::Busy { told_silent: false, .. }, true) => {
                tokio::spawn(session.close());
            }
            (Held::Busy { task, .. }, true) => {
                task.abort();
                self.held = Held::Idle(session);
            }
            _ => self.held = Held::Idle(session),
        }
    }

    /// The held probe has just become late.
    fn silence(&mut self, now: Instant) -> Option<ProbeEvent> {
        let Held::Busy { seq, began, told_silent, .. } = &mut self.held else { return None };
        if *told_silent || now < *began + SILENT_AFTER {
            return None;
        }
        *told_silent = true;
        let (seq, began) = (*seq, *began);
        self.pace.hurry(now);
        let why = format!("no answer within {} ms", SILENT_AFTER.as_millis());
        Some(self.event(seq, began, now, false, Outcome::Silent(why)))
    }

    fn event(&self, seq: u64, began: Instant, ended: Instant, fresh: bool, outcome: Outcome) -> ProbeEvent {
        let ProbeTarget { server, address } = self.target.clone();
        ProbeEvent { server, address, seq, began, ended, fresh, outcome }
    }
}
