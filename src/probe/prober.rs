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
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{sleep_until, timeout},
};

use super::{
    Command, Mode, Outcome, ProbeEvent, ProbeSettings, ProbeTarget,
    attempt::{Attempt, Finished, Over},
};
use crate::session::{Account, FactsReader, Session};

/// A probe without an answer for this long is told as *silent*.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// How long a stopping prober waits for the answer that is under way.
const GOODBYE_WITHIN: Duration = Duration::from_millis(200);
/// A dying server closes its connections before its listening socket: an attempt may be accepted and reset, and says
/// nothing. It is repeated after this pause, doubling up to the second, so many times, or while somebody waits
/// urgently.
const RESET_PAUSE: Duration = Duration::from_millis(2);
const RESET_PAUSE_MAX: Duration = Duration::from_millis(50);
const RESET_RETRIES: u32 = 10;
/// Suspected: pause between two attempts, at first and later.
const SUSPECTED_PAUSE: Duration = Duration::from_millis(50);
const SUSPECTED_PAUSE_LATER: Duration = Duration::from_secs(1);
/// Suspected: how long "at first" is.
const SUSPECTED_FOR: Duration = Duration::from_secs(600);

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

struct Urgent {
    since: Instant,
    until: Instant,
    /// Refusals count only from attempts begun for it.
    seq: u64,
    last: Option<ProbeEvent>,
    answer: oneshot::Sender<ProbeEvent>,
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
    settings: ProbeSettings,
    suspected_since: Option<Instant>,
    events: mpsc::Sender<ProbeEvent>,
    commands: mpsc::Receiver<Command>,
    done: mpsc::UnboundedSender<Finished>,
    finished: mpsc::UnboundedReceiver<Finished>,
    reader: FactsReader,
    held: Held,
    /// At most two: one by the interval, one urgent.
    fresh: Vec<Fresh>,
    seq: u64,
    due: Instant,
    /// When an attempt that was reset is repeated, and how often in a row it was.
    retry: Option<Instant>,
    resets: u32,
    inventory_due: Instant,
    urgents: Vec<Urgent>,
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
        let now = Instant::now();
        let suspected_since = (settings.mode == Mode::Suspected).then_some(now);
        let reader = FactsReader::new(&account.user);
        Self {
            target,
            account,
            node,
            settings,
            suspected_since,
            events,
            commands,
            done,
            finished,
            reader,
            held: Held::None,
            fresh: Vec::new(),
            seq: 0,
            due: now,
            retry: None,
            resets: 0,
            inventory_due: now,
            urgents: Vec::new(),
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
            () = sleep_until(wake.into()) => Woke::Time,
        }
    }

    fn next_wake(&self) -> Instant {
        let late = match &self.held {
            Held::Busy { began, told_silent: false, .. } => Some(*began + SILENT_AFTER),
            _ => None,
        };
        let urgent = self.urgents.iter().map(|urgent| urgent.until);
        urgent.chain(late).chain(self.retry).fold(self.due, Instant::min)
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
                self.due = now + self.settings.interval;
            }
            Woke::Finished(finished) => self.finish(finished, now, &mut told),
            Woke::Time => {}
        }
        for event in &told {
            self.settle(event);
        }
        if let Some(silent) = self.silence(now) {
            self.settle(&silent);
            told.push(silent);
        }
        self.expire(now);
        if self.retry.is_some_and(|at| now >= at) {
            self.retry = None;
            if self.fresh.is_empty() {
                self.start_fresh(!self.urgents.is_empty());
            }
        }
        if now >= self.due {
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
                self.urgents.push(Urgent { since: now, until: now + bound, seq, last: None, answer });
            }
            Command::Reprobe => self.due = now,
            Command::Inventory => {
                self.inventory_due = now;
                self.due = now;
            }
            Command::Settings(settings) => {
                self.suspected_since = match settings.mode {
                    Mode::Steady => None,
                    Mode::Suspected => Some(self.suspected_since.unwrap_or(now)),
                };
                self.settings = settings;
                self.due = self.due.min(now + self.pause(now));
            }
            Command::Discard => {
                for fresh in self.fresh.drain(..) {
                    fresh.task.abort();
                }
                if let Held::Busy { task, .. } = &self.held {
                    task.abort();
                    self.held = Held::None;
                }
                self.due = now;
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
        self.due = now + self.settings.interval + self.first_offset();
    }

    /// Spreads the probers of one node over the interval, once, after the first probe.
    fn first_offset(&self) -> Duration {
        if self.seq != 1 {
            return Duration::ZERO;
        }
        let mut hasher = DefaultHasher::new();
        (&self.target.address, self.node).hash(&mut hasher);
        let interval = u64::try_from(self.settings.interval.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(hasher.finish() % interval)
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
        }
    }

    fn start_held(&mut self, now: Instant) {
        match std::mem::replace(&mut self.held, Held::None) {
            Held::Idle(session) => {
                let inventory = now >= self.inventory_due;
                let attempt = self.attempt(inventory);
                let task = attempt.start(Over::Held(session), self.done.clone());
                self.held = Held::Busy { seq: self.seq, began: now, told_silent: false, task };
            }
            other => self.held = other,
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
                self.inventory_due = now + self.settings.inventory_interval;
            }
        }
        let outcome = match result {
            Ok(reading) => Outcome::Answered { facts: Box::new(reading.facts), lacking: reading.lacking },
            Err(error) => error.into(),
        };
        match &outcome {
            Outcome::Closed(_) if fresh && (self.resets < RESET_RETRIES || !self.urgents.is_empty()) => {
                self.retry = Some(now + (RESET_PAUSE * 2u32.pow(self.resets.min(10))).min(RESET_PAUSE_MAX));
                self.resets += 1;
            }
            Outcome::Closed(_) => {}
            _ => self.resets = 0,
        }
        let lost_held = !fresh && session.is_none();
        self.keep(session, fresh);
        told.push(self.event(seq, began, ended, fresh, outcome));
        if lost_held && self.fresh.is_empty() {
            self.start_fresh(false);
            self.due = now + self.settings.interval;
        } else if !answered && self.fresh.is_empty() && matches!(self.held, Held::None) {
            self.due = self.due.min(now + self.pause(now)).max(now + SUSPECTED_PAUSE);
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

    /// From the end of a failed attempt to the next.
    fn pause(&self, now: Instant) -> Duration {
        match self.suspected_since {
            None => self.settings.interval,
            Some(since) if now.duration_since(since) < SUSPECTED_FOR => SUSPECTED_PAUSE,
            Some(_) => SUSPECTED_PAUSE_LATER,
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
        self.due = now;
        let why = format!("no answer within {} ms", SILENT_AFTER.as_millis());
        Some(self.event(seq, began, now, false, Outcome::Silent(why)))
    }

    /// Gives an event to those who wait urgently.
    fn settle(&mut self, event: &ProbeEvent) {
        let mut waiting = Vec::with_capacity(self.urgents.len());
        for mut urgent in self.urgents.drain(..) {
            let counts = event.outcome.spoke() || event.seq >= urgent.seq;
            if event.outcome.settles() && counts {
                let _ = urgent.answer.send(event.clone());
                continue;
            }
            if event.seq >= urgent.seq {
                urgent.last = Some(event.clone());
            }
            waiting.push(urgent);
        }
        self.urgents = waiting;
    }

    /// Ends urgent waits whose time is over.
    fn expire(&mut self, now: Instant) {
        let (over, waiting) =
            std::mem::take(&mut self.urgents).into_iter().partition(|urgent: &Urgent| urgent.until <= now);
        self.urgents = waiting;
        for urgent in over {
            let why = format!("no answer within {} ms", now.duration_since(urgent.since).as_millis());
            let event = match urgent.last {
                Some(last) => last,
                None => self.event(urgent.seq, urgent.since, now, true, Outcome::Silent(why)),
            };
            let _ = urgent.answer.send(event);
        }
    }

    fn event(&self, seq: u64, began: Instant, ended: Instant, fresh: bool, outcome: Outcome) -> ProbeEvent {
        let ProbeTarget { server, address } = self.target.clone();
        ProbeEvent { server, address, seq, began, ended, fresh, outcome }
    }
}
