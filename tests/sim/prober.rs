//! A prober of one node on one server: the rules of `src/probe/prober.rs` and its very clockwork, over simulated
//! connections.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use quorate::{
    probe::{Outcome, Pace, ProbeEvent, ProbeSettings, ProbeTarget},
    server::ports::Probe,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    fleet::{Account, Answer, Dialled, Reply, ServerNo, Statement},
    lines::LineNo,
    net::End,
    world::{Sim, World},
};

/// A probe without an answer for this long is told as *silent*.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// Bound of dialling and login of a fresh attempt, and then of its answer, milliseconds.
const FRESH_MS: u64 = 1_000;
/// How long a late answer is awaited on the held connection, milliseconds.
const LINGER_MS: u64 = 60_000;

enum Held {
    None,
    Idle(LineNo),
    Busy { seq: u64, began: Instant, told_silent: bool, line: LineNo },
}

struct Fresh {
    seq: u64,
    urgent: bool,
    began: Instant,
    line: LineNo,
}

struct Urgent {
    until: Instant,
    seq: u64,
    last: Option<ProbeEvent>,
    silent: ProbeEvent,
    answer: oneshot::Sender<ProbeEvent>,
}

struct Prober {
    node: u64,
    boot: u64,
    server: Option<ServerNo>,
    target: ProbeTarget,
    pace: Pace,
    events: mpsc::Sender<ProbeEvent>,
    held: Held,
    fresh: Vec<Fresh>,
    seq: u64,
    urgents: Vec<Urgent>,
    wake_at: u64,
}

/// What a node last saw of a server, true milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastSeen {
    /// Its last answer.
    pub answered: Option<u64>,
    /// The last refusal, or word that it goes down.
    pub gone: Option<u64>,
    /// The last long silences that an answer ended, the newest first: when, and how long each was. What is committed late may rest
    /// on an earlier one.
    pub gaps: [Option<(u64, u64)>; 4],
    /// The end of the last urgent attempt in which it gave no sign of life.
    pub silent_round: Option<u64>,
}

/// All probers, and what they saw.
#[derive(Default)]
pub struct Probers {
    probers: BTreeMap<u64, Prober>,
    next: u64,
    /// By node and server.
    pub seen: BTreeMap<(u64, usize), LastSeen>,
}

/// The owner's end.
pub struct SimProbe {
    sim: Sim,
    id: u64,
}

impl Drop for SimProbe {
    fn drop(&mut self) {
        let id = self.id;
        self.sim.leave(move |world| world.end_prober(id));
    }
}

impl Probe for SimProbe {
    fn urgent(&self, bound: Duration) -> oneshot::Receiver<ProbeEvent> {
        let (answer, asked) = oneshot::channel();
        self.sim.with(|world| world.probe_urgently(self.id, bound, answer));
        asked
    }

    fn reprobe(&self) {
        self.sim.with(|world| {
            world.hurry(self.id, |pace, now| pace.hurry(now));
        });
    }

    fn inventory_now(&self) {
        self.sim.with(|world| world.hurry(self.id, |pace, now| pace.hurry_inventory(now)));
    }

    fn set(&self, settings: ProbeSettings) {
        self.sim.with(|world| world.hurry(self.id, |pace, now| pace.set(settings, now)));
    }

    fn discard(&self) {
        self.sim.with(|world| world.discard_probes(self.id));
    }
}

impl World {
    /// Starts one.
    pub fn start_prober(
        &mut self,
        (node, boot): (u64, u64),
        target: ProbeTarget,
        settings: ProbeSettings,
        events: mpsc::Sender<ProbeEvent>,
    ) -> SimProbe {
        let mut spread = DefaultHasher::new();
        (&target.address, node).hash(&mut spread);
        let server = self.server_at(&target.address);
        let prober = Prober {
            node,
            boot,
            server,
            target,
            pace: Pace::new(settings, spread.finish(), self.instant),
            events,
            held: Held::None,
            fresh: Vec::new(),
            seq: 0,
            urgents: Vec::new(),
            wake_at: u64::MAX,
        };
        self.probers.next += 1;
        let id = self.probers.next;
        self.probers.probers.insert(id, prober);
        self.wake_prober(id);
        SimProbe { sim: self.handle.clone(), id }
    }

    fn end_prober(&mut self, id: u64) {
        let Some(prober) = self.probers.probers.remove(&id) else { return };
        match prober.held {
            Held::Idle(line) | Held::Busy { line, .. } => self.hang_up(line),
            Held::None => {}
        }
        for fresh in prober.fresh {
            self.hang_up(fresh.line);
        }
    }

    /// Lets time do its work with it, and sees to it that this happens again when it should.
    fn wake_prober(&mut self, id: u64) {
        let now = self.instant;
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        let silent = prober.silence(now);
        let mut told = Vec::from_iter(silent);
        for event in &told {
            // A late answer ends no round.
            prober.settle(event);
        }
        if prober.expire(now) {
            self.silent_round(id);
        }
        if !told.is_empty() {
            self.linger(id);
        }
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        let retry = prober.pace.take_retry(now) && prober.fresh.is_empty();
        let urgent = !prober.urgents.is_empty();
        if retry {
            self.start_fresh(id, urgent);
        }
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        if prober.pace.is_due(now) {
            self.probe(id, now);
        }
        self.tell(id, &mut told);
        self.sleep_prober(id);
    }

    fn sleep_prober(&mut self, id: u64) {
        let now = self.instant;
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        let late = match &prober.held {
            Held::Busy { began, told_silent: false, .. } => Some(*began + SILENT_AFTER),
            _ => None,
        };
        let ends = prober.urgents.iter().map(|urgent| urgent.until);
        let next = late.into_iter().chain(ends).fold(prober.pace.next(), Instant::min);
        let wait = next.saturating_duration_since(now).as_micros().div_ceil(1_000) as u64;
        let at = self.now + wait;
        if prober.wake_at <= at && prober.wake_at > self.now {
            return;
        }
        prober.wake_at = at;
        let (node, boot) = (prober.node, prober.boot);
        self.at(at, move |world| {
            world.as_process(node, boot, move |world| {
                let prober = world.probers.probers.get_mut(&id);
                // A later request may have brought another wake-up forward.
                if let Some(prober) = prober.filter(|prober| prober.wake_at <= world.now.max(at)) {
                    prober.wake_at = u64::MAX;
                    world.wake_prober(id);
                }
            });
        });
    }

    fn hurry(&mut self, id: u64, how: impl FnOnce(&mut Pace, Instant)) {
        let now = self.instant;
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        how(&mut prober.pace, now);
        self.wake_prober(id);
    }

    fn discard_probes(&mut self, id: u64) {
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        let mut cut: Vec<LineNo> = prober.fresh.drain(..).map(|fresh| fresh.line).collect();
        if let Held::Busy { line, .. } = prober.held {
            cut.push(line);
            prober.held = Held::None;
        }
        for line in cut {
            self.hang_up(line);
        }
        self.hurry(id, |pace, now| pace.hurry(now));
    }

    fn probe_urgently(&mut self, id: u64, bound: Duration, answer: oneshot::Sender<ProbeEvent>) {
        let now = self.instant;
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        if !prober.fresh.iter().any(|fresh| fresh.urgent) {
            self.start_fresh(id, true);
        }
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        let seq = prober.fresh.iter().filter(|f| f.urgent).map(|f| f.seq).max().unwrap_or(prober.seq);
        self.start_held(id, now);
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        let why = format!("no answer within {} ms", bound.as_millis());
        let silent = prober.event(seq, now, now + bound, true, Outcome::Silent(why));
        prober.urgents.push(Urgent { until: now + bound, seq, last: None, silent, answer });
        self.sleep_prober(id);
    }

    /// A probe is due: over the held connection where it is free, else over a new one.
    fn probe(&mut self, id: u64, now: Instant) {
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        match &prober.held {
            Held::Idle(_) => self.start_held(id, now),
            Held::Busy { told_silent: false, .. } => {}
            Held::Busy { .. } | Held::None if prober.fresh.is_empty() => self.start_fresh(id, false),
            _ => {}
        }
        if let Some(prober) = self.probers.probers.get_mut(&id) {
            prober.pace.began(now);
        }
    }

    fn start_held(&mut self, id: u64, now: Instant) {
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        let Held::Idle(line) = prober.held else { return };
        let inventory = prober.pace.is_inventory_due(now);
        prober.seq += 1;
        let seq = prober.seq;
        prober.held = Held::Busy { seq, began: now, told_silent: false, line };
        self.ask(line, vec![Statement::ReadFacts(inventory)], move |world, answer| {
            world.held_answered(id, seq, inventory, answer);
        });
    }

    /// What is late is waited for until then. (Asked for once it is late: few are.)
    fn linger(&mut self, id: u64) {
        let Some(prober) = self.probers.probers.get(&id) else { return };
        let Held::Busy { seq, began, line, .. } = prober.held else { return };
        let (node, boot) = (prober.node, prober.boot);
        let until = (self.now + LINGER_MS).saturating_sub((self.instant - began).as_millis() as u64);
        self.at(until, move |world| {
            world.as_process(node, boot, move |world| {
                let prober = world.probers.probers.get(&id);
                let still =
                    prober.is_some_and(|p| matches!(p.held, Held::Busy { seq: held, .. } if held == seq));
                if still {
                    world.hang_up(line);
                    world.held_answered(id, seq, false, Err("no answer within 60 s".into()));
                }
            });
        });
    }

    fn held_answered(&mut self, id: u64, seq: u64, inventory: bool, answer: Result<Answer, String>) {
        let now = self.instant;
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        let Held::Busy { seq: held, began, line, .. } = prober.held else { return };
        if held != seq {
            return;
        }
        let outcome = read(answer);
        let answered = matches!(outcome, Outcome::Answered { .. });
        if answered && inventory {
            prober.pace.inventoried(now);
        }
        prober.pace.not_reset();
        let lost = matches!(outcome, Outcome::Closed(_) | Outcome::Silent(_));
        prober.held = if lost { Held::None } else { Held::Idle(line) };
        let mut told = vec![prober.event(seq, began, now, false, outcome)];
        if lost && prober.fresh.is_empty() {
            self.start_fresh(id, false);
            if let Some(prober) = self.probers.probers.get_mut(&id) {
                prober.pace.began(now);
            }
        }
        self.tell(id, &mut told);
        self.sleep_prober(id);
    }

    fn start_fresh(&mut self, id: u64, urgent: bool) {
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        prober.seq += 1;
        let (seq, node, boot) = (prober.seq, prober.node, prober.boot);
        let began = self.instant;
        let Some(server) = prober.server else { return };
        let line =
            self.dial(End::Node(node), Some((node, boot)), server, Account::Probe, move |world, end| {
                world.fresh_dialled(id, seq, end);
            });
        if let Some(prober) = self.probers.probers.get_mut(&id) {
            prober.fresh.push(Fresh { seq, urgent, began, line });
        }
        self.process_after(node, boot, FRESH_MS, move |world| {
            let prober = world.probers.probers.get(&id);
            if !prober.is_some_and(|prober| prober.fresh.iter().any(|fresh| fresh.seq == seq)) {
                return;
            }
            let awaited = if world.session_of(line).is_some() { "no answer" } else { "no greeting" };
            let why = Outcome::Silent(format!("{awaited} within {FRESH_MS} ms"));
            world.fresh_ended(id, seq, why, false);
        });
    }

    fn fresh_dialled(&mut self, id: u64, seq: u64, end: Dialled) {
        let outcome = match end {
            Dialled::Greeted(_) => {
                let Some(prober) = self.probers.probers.get(&id) else { return };
                let Some(fresh) = prober.fresh.iter().find(|fresh| fresh.seq == seq) else { return };
                let line = fresh.line;
                self.on_closed(line, move |world, why| world.line_closed(id, line, why));
                return self.ask(line, vec![Statement::ReadFacts(false)], move |world, answer| {
                    let outcome = read(answer);
                    let keeps = !matches!(outcome, Outcome::Closed(_));
                    world.fresh_ended(id, seq, outcome, keeps);
                });
            }
            Dialled::Refused => Outcome::Refused,
            Dialled::Silent => return,
            Dialled::TooManyConnections => Outcome::TooManyConnections("too many connections".into()),
            Dialled::ShuttingDown => Outcome::ShuttingDown("the server is shutting down".into()),
            Dialled::OfflineMode => Outcome::OfflineMode("the server is in offline mode".into()),
        };
        self.fresh_ended(id, seq, outcome, false);
    }

    fn fresh_ended(&mut self, id: u64, seq: u64, outcome: Outcome, keeps: bool) {
        let now = self.instant;
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        let Some(at) = prober.fresh.iter().position(|fresh| fresh.seq == seq) else { return };
        let fresh = prober.fresh.remove(at);
        let answered = matches!(outcome, Outcome::Answered { .. });
        match &outcome {
            Outcome::Closed(_) => prober.pace.reset(!prober.urgents.is_empty(), now),
            _ => prober.pace.not_reset(),
        }
        let mut told = vec![prober.event(seq, fresh.began, now, true, outcome)];
        let mut surplus = None;
        if keeps {
            match prober.held {
                Held::Idle(_) | Held::Busy { told_silent: false, .. } => surplus = Some(fresh.line),
                Held::Busy { line, .. } => {
                    surplus = Some(line);
                    prober.held = Held::Idle(fresh.line);
                }
                Held::None => prober.held = Held::Idle(fresh.line),
            }
        } else {
            surplus = Some(fresh.line);
        }
        if !answered && prober.fresh.is_empty() && !matches!(prober.held, Held::Idle(_)) {
            prober.pace.failed(now);
        }
        if let Some(line) = surplus {
            self.hang_up(line);
        }
        self.tell(id, &mut told);
        self.sleep_prober(id);
    }

    /// The server's side of a connection ended. A fresh attempt hears of it by its answer.
    fn line_closed(&mut self, id: u64, line: LineNo, why: String) {
        let now = self.instant;
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        if !matches!(prober.held, Held::Idle(held) if held == line) {
            return;
        }
        prober.held = Held::None;
        prober.seq += 1;
        let mut told = vec![prober.event(prober.seq, now, now, false, Outcome::Closed(why))];
        self.start_fresh(id, false);
        if let Some(prober) = self.probers.probers.get_mut(&id) {
            prober.pace.began(now);
        }
        self.tell(id, &mut told);
        self.sleep_prober(id);
    }

    fn tell(&mut self, id: u64, told: &mut Vec<ProbeEvent>) {
        let now = self.now;
        let Some(prober) = self.probers.probers.get_mut(&id) else { return };
        let mut silent_round = false;
        for event in told.drain(..) {
            silent_round |= prober.settle(&event);
            if let Some(server) = prober.server {
                self.probers.seen.entry((prober.node, server.0)).or_default().note(now, &event.outcome);
            }
            // An observer that is so far behind is paused or gone.
            let _ = prober.events.try_send(event);
        }
        if silent_round {
            self.silent_round(id);
        }
    }

    fn silent_round(&mut self, id: u64) {
        let now = self.now;
        let prober = self.probers.probers.get(&id);
        if let Some((node, server)) = prober.and_then(|prober| prober.server.map(|no| (prober.node, no.0))) {
            self.probers.seen.entry((node, server)).or_default().silent_round = Some(now);
        }
    }
}

/// A silence of this length is remembered, milliseconds.
const GAP_MS: u64 = 900;

impl LastSeen {
    fn note(&mut self, now: u64, outcome: &Outcome) {
        match outcome {
            Outcome::Answered { .. } => {
                let gap = now - self.answered.unwrap_or(0);
                if gap >= GAP_MS {
                    self.gaps.rotate_right(1);
                    self.gaps[0] = Some((now, gap));
                }
                self.answered = Some(now);
            }
            Outcome::Refused | Outcome::ShuttingDown(_) | Outcome::Closed(_) => self.gone = Some(now),
            _ => {}
        }
    }
}

impl Prober {
    fn event(&self, seq: u64, began: Instant, ended: Instant, fresh: bool, outcome: Outcome) -> ProbeEvent {
        let ProbeTarget { server, address } = self.target.clone();
        ProbeEvent { server, address, seq, began, ended, fresh, outcome }
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

    /// Whether an urgent attempt ended by this, without a sign of life.
    fn settle(&mut self, event: &ProbeEvent) -> bool {
        let mut silent = false;
        for mut urgent in std::mem::take(&mut self.urgents) {
            let spoke = event.outcome.spoke();
            let nothing =
                matches!(event.outcome, Outcome::Silent(_) | Outcome::Closed(_) | Outcome::Unreachable(_));
            if !nothing && (spoke || event.seq >= urgent.seq) {
                let _ = urgent.answer.send(event.clone());
                silent |= !spoke;
                continue;
            }
            if event.seq >= urgent.seq {
                urgent.last = Some(event.clone());
            }
            self.urgents.push(urgent);
        }
        silent
    }

    /// Whether the time of an urgent attempt is over.
    fn expire(&mut self, now: Instant) -> bool {
        let before = self.urgents.len();
        for urgent in std::mem::take(&mut self.urgents) {
            if urgent.until <= now {
                let _ = urgent.answer.send(urgent.last.unwrap_or(urgent.silent));
            } else {
                self.urgents.push(urgent);
            }
        }
        self.urgents.len() < before
    }
}

fn read(answer: Result<Answer, String>) -> Outcome {
    match answer {
        Err(why) => Outcome::Closed(why),
        Ok(Answer { error: Some(error), .. }) => Outcome::Failed(error.message),
        Ok(answer) => match answer.replies.into_iter().next() {
            Some(Reply::Facts(facts)) => {
                Outcome::Answered { facts: Box::new(Arc::unwrap_or_clone(facts)), lacking: Vec::new() }
            }
            other => Outcome::Failed(format!("{other:?} instead of facts")),
        },
    }
}
