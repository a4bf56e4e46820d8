//! The small named facts that the table of problems speaks in: how the primary appears to this node, what each
//! replica says about it, and counts of both. Derives; decides nothing.

use super::{
    Evidence, PrimarySign, ReplicaSign,
    observation::{AttemptEnd, Observation},
    problem::View,
    testimony::{self, Replica},
};
use crate::{
    core::replicated::cluster::{Member, MemberState},
    mistake::{Mistake, planted},
    model::{facts::ServerFacts, gtid::GtidSet, policy::Policy, server::ServerId},
};

/// How the primary appears to this node now. A server that answers again, restarted or not, ends every other state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It answers.
    Answering,
    /// Silent for more than two probe intervals, and not yet long enough for a verdict.
    Pausing,
    /// No answer of any kind for as long as a verdict needs.
    Silent {
        /// The attempt did not get as far as the server (no route, name, TLS): may be this node's own trouble.
        trouble: Option<String>,
    },
    /// It greets and then does not answer, for as long as a verdict needs.
    Stalled,
    /// Connection refused or server shutting down, after its last answer.
    Gone {
        /// What was seen, in words.
        how: String,
    },
    /// It has no connection left to give.
    Saturated,
    /// It refuses our login, or a grant is missing.
    LoginFailed {
        /// The server's words.
        why: String,
    },
    /// Another server answers at its address.
    WrongIdentity {
        /// Who.
        seen: String,
    },
    /// This node has no fresh result.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// Everything that the rows look at.
#[derive(Debug)]
pub struct Derived<'a> {
    /// The primary's member entry.
    pub primary: &'a Member,
    /// How it appears.
    pub reach: Reach,
    /// Milliseconds since its last sign of life; `None` when this node never had one.
    pub silent_ms: Option<u64>,
    /// The longest silence that ended a moment ago.
    pub recent_pause_ms: u64,
    /// Its facts, where it answers.
    pub facts: Option<&'a ServerFacts>,
    /// Its direct replicas in service. Those in downtime, quarantined or replaced are left out.
    pub replicas: Vec<Replica<'a>>,
    /// Whether any direct replica, in service or not, hears the primary: a sign of life counts whoever gives it.
    pub heard_by_any: bool,
    /// Members without a fresh result, *unreachable* being one: nothing is concluded from absence.
    pub unseen: Vec<&'a ServerId>,
    /// Whether this node's urgent round ended without any answer after the last sign of life.
    pub urgent_round_done: bool,
    /// Whether a recovery or switchover of this cluster runs: what it changes is no problem.
    pub recovery_runs: bool,
    /// Policy.
    pub policy: &'a Policy,
}

/// A result older than this many probe intervals and a second is none.
const FRESH_INTERVALS: u64 = 3;
/// Attempts are bounded far below this; one that hangs longer is this node's own trouble.
const STUCK_MS: u64 = 10_000;

impl<'a> Derived<'a> {
    /// Derives; `None` where the cluster has no known primary.
    pub fn of(view: &View<'a>) -> Option<Self> {
        let primary = view.cluster.primary_member()?;
        let Appearance { seen, life, silent_ms, urgent_round_done, reach } = Appearance::of(view, primary);
        let all: Vec<Replica<'a>> = view
            .cluster
            .replicas_of(&primary.server)
            .map(|member| testimony::of(view, primary, &reach, life, member))
            .collect();
        let heard_by_any = all.iter().any(|r| r.sign == ReplicaSign::Connected);
        let unseen =
            view.cluster.members.keys().filter(|id| !has_result(view, id, &primary.server)).collect();
        Some(Self {
            primary,
            silent_ms,
            recent_pause_ms: seen.and_then(|o| o.recent_pause_ms).unwrap_or(0),
            facts: seen.filter(|_| reach == Reach::Answering).and_then(|o| o.facts.as_deref()),
            replicas: all.into_iter().filter(|r| in_service(view, r)).collect(),
            reach,
            heard_by_any,
            unseen,
            urgent_round_done,
            recovery_runs: view.recoveries_running,
            policy: view.policy,
        })
    }

    /// Number of replicas that give a sign.
    pub fn count(&self, sign: ReplicaSign) -> usize {
        self.replicas.iter().filter(|r| r.sign == sign).count()
    }

    /// Number of replicas that this node reaches.
    pub fn reached(&self) -> usize {
        self.replicas.len() - self.count(ReplicaSign::Unreachable)
    }

    /// Number of replicas with both threads running.
    pub fn replicating(&self) -> usize {
        self.replicas.iter().filter(|r| r.receives && r.applies).count()
    }

    /// Replicas that follow the primary, have applied what they received, and lack some of what they wrote themselves.
    pub fn lost_their_own(&self) -> Vec<(&Replica<'a>, GtidSet)> {
        let Some(primary) = self.facts else { return Vec::new() };
        let following = self.replicas.iter().filter(|replica| replica.receives && replica.applies);
        following
            .filter_map(|replica| {
                let facts = replica.facts.filter(|_| replica.applied)?;
                let lost = facts.executed.lost_of_its_own(&facts.identity, &primary.executed);
                (!lost.is_empty()).then_some((replica, lost))
            })
            .collect()
    }

    /// This node gets no answer from the primary, as far as a verdict goes.
    pub fn unreached(&self) -> bool {
        matches!(self.reach, Reach::Silent { .. } | Reach::Gone { .. } | Reach::Stalled)
    }

    /// Silent for as long as a verdict from soft evidence needs.
    pub fn silent_long(&self) -> bool {
        let needed = self.policy.silence_ms.saturating_add(self.policy.soft_confirm_for_ms);
        self.silent_ms.is_some_and(|silent| silent >= needed)
    }

    /// Hard evidence (design §4): refused or shutting down, and every reachable replica lost it, at least one.
    pub fn hard(&self) -> bool {
        let lost = self.count(ReplicaSign::Lost);
        let confirmed = self.policy.hard_confirm_for_ms == 0
            || self.silent_ms.is_some_and(|silent| silent >= self.policy.hard_confirm_for_ms);
        matches!(self.reach, Reach::Gone { .. })
            && lost > 0
            && lost == self.reached()
            && !self.heard_by_any
            && confirmed
    }

    /// Whether only the restart of a receiver could tell (design §3): the primary is silent, no replica lost it, and
    /// those that claim to be connected have a heartbeat too long to prove it.
    pub fn needs_witness(&self) -> bool {
        let mut unproven = self.replicas.iter().filter(|r| r.sign == ReplicaSign::Unproven).peekable();
        self.unreached()
            && self.silent_long()
            && self.count(ReplicaSign::Lost) == 0
            && !self.heard_by_any
            && unproven.peek().is_some()
            && unproven.all(|r| r.long_heartbeat && r.probed_since)
    }

    /// The evidence as it goes into the log.
    pub fn evidence(&self, text: String) -> Evidence {
        let for_ms = self.silent_ms.unwrap_or(0);
        let primary = match &self.reach {
            Reach::Gone { how } => PrimarySign::Gone { how: how.clone() },
            _ => PrimarySign::Silent { for_ms },
        };
        Evidence {
            primary,
            replicas: self.replicas.iter().map(|r| (r.member.server.clone(), r.sign)).collect(),
            hard: self.hard(),
            urgent_round_done: self.urgent_round_done && self.unreached(),
            needs_witness: self.needs_witness(),
            text,
        }
    }
}

/// Whether the primary answers this node. Mostly it does, and then its replicas need not be heard.
pub(super) fn answers(view: &View<'_>) -> bool {
    let primary = view.cluster.primary_member();
    primary.is_some_and(|primary| Appearance::of(view, primary).reach == Reach::Answering)
}

/// The primary as it appears to this node, by what was seen of itself alone.
struct Appearance<'a> {
    seen: Option<&'a Observation>,
    life: Option<u64>,
    silent_ms: Option<u64>,
    urgent_round_done: bool,
    reach: Reach,
}

impl<'a> Appearance<'a> {
    fn of(view: &View<'a>, primary: &Member) -> Self {
        let seen = view.observations.get(&primary.server);
        let life = seen.and_then(last_life);
        let silent_ms =
            seen.and_then(|o| life.or(o.watched_since_ms)).map(|since| view.now_ms.saturating_sub(since));
        let urgent_round_done = view.urgent_round_done_ms.is_some_and(|done| life.is_none_or(|l| done > l));
        let reach = match seen {
            Some(o) => reach(o, view, silent_ms, urgent_round_done),
            None => Reach::Unknown { why: "this node has not probed the primary yet".into() },
        };
        Self { seen, life, silent_ms, urgent_round_done, reach }
    }
}

/// When the server last gave a sign of life to this node. An error that the server itself sends is one.
pub(super) fn last_life(observation: &Observation) -> Option<u64> {
    let by_attempt =
        observation.last_attempt.as_ref().filter(|(_, end)| sign_of_life(end)).map(|(at, _)| *at);
    observation.answered_ms.max(by_attempt)
}

fn sign_of_life(end: &AttemptEnd) -> bool {
    matches!(
        end,
        AttemptEnd::Answered
            | AttemptEnd::TooManyConnections
            | AttemptEnd::LoginFailed { .. }
            | AttemptEnd::WrongIdentity { .. }
    )
}

fn reach(o: &Observation, view: &View<'_>, silent_ms: Option<u64>, urgent_round_done: bool) -> Reach {
    if let Some(why) = stale(o, view.now_ms, view.policy.primary_probe_interval_ms) {
        return Reach::Unknown { why };
    }
    // An attempt that ended before the last answer says nothing any more.
    let after = |at: u64| o.answered_ms.is_none_or(|answered| at >= answered);
    let end = o.last_attempt.as_ref().filter(|(at, _)| after(*at)).map(|(_, end)| end);
    let silent_long = silent_ms.is_some_and(|ms| ms >= view.policy.silence_ms) && asked(o, view, end);
    match end {
        Some(AttemptEnd::Refused) => Reach::Gone { how: "connection refused".into() },
        Some(AttemptEnd::ShuttingDown) => Reach::Gone { how: "server shutting down".into() },
        Some(AttemptEnd::Silent { .. }) if planted(Mistake::TimeoutIsDeath) => {
            Reach::Gone { how: "no answer in time".into() }
        }
        Some(AttemptEnd::TooManyConnections) if planted(Mistake::SaturatedIsDead) => {
            Reach::Gone { how: "no connection left".into() }
        }
        Some(AttemptEnd::Failed { why }) if silent_long => Reach::Silent { trouble: Some(why.clone()) },
        // A held connection that falls silent was greeted long ago: only a fresh attempt can tell a server that
        // stalls from one that is silent, and the urgent round is one.
        Some(AttemptEnd::Silent { greeted: true }) if silent_long && !urgent_round_done => Reach::Stalled,
        _ if silent_long => Reach::Silent { trouble: None },
        Some(AttemptEnd::TooManyConnections) => Reach::Saturated,
        Some(AttemptEnd::LoginFailed { why }) => Reach::LoginFailed { why: why.clone() },
        Some(AttemptEnd::WrongIdentity { seen }) => Reach::WrongIdentity { seen: seen.clone() },
        _ if last_life(o).is_none() => {
            Reach::Unknown { why: "the primary has not answered this node yet".into() }
        }
        _ if silent_ms.is_some_and(|ms| ms < 2 * view.policy.primary_probe_interval_ms) => Reach::Answering,
        _ => Reach::Pausing,
    }
}

/// Whether the silence is the server's: it was asked, and left an attempt unanswered. A node that did not ask heard
/// nothing either.
fn asked(o: &Observation, view: &View<'_>, end: Option<&AttemptEnd>) -> bool {
    let unanswered = end.is_some_and(|end| !sign_of_life(end));
    let waited = o.waiting_since_ms.map(|since| view.now_ms.saturating_sub(since));
    unanswered || waited.is_some_and(|ms| ms >= view.policy.silence_ms / 2)
}

/// Why the node's results on a server are no results any more.
fn stale(o: &Observation, now_ms: u64, interval_ms: u64) -> Option<String> {
    if let Some(since) = o.waiting_since_ms {
        let waited = now_ms.saturating_sub(since);
        return (waited > STUCK_MS).then(|| format!("its attempt in flight hangs for {waited} ms"));
    }
    let Some(last) = o.answered_ms.max(o.last_attempt.as_ref().map(|(at, _)| *at)) else {
        return Some("this node has no result of it yet".into());
    };
    let age = now_ms.saturating_sub(last);
    (age > fresh_for_ms(interval_ms)).then(|| format!("its last result is {age} ms old"))
}

pub(super) fn fresh_for_ms(interval_ms: u64) -> u64 {
    FRESH_INTERVALS * interval_ms + 1_000
}

fn has_result(view: &View<'_>, server: &ServerId, primary: &ServerId) -> bool {
    let interval = match server == primary {
        true => view.policy.primary_probe_interval_ms,
        false => view.policy.replica_probe_interval_ms,
    };
    let Some(o) = view.observations.get(server) else { return false };
    let ever = o.answered_ms.is_some() || o.last_attempt.is_some();
    ever && stale(o, view.now_ms, interval).is_none()
}

/// Whether a replica counts: not in downtime, not set aside, and not vanished for longer than policy waits.
fn in_service(view: &View<'_>, replica: &Replica<'_>) -> bool {
    let aside = matches!(replica.member.state, MemberState::Quarantined { .. } | MemberState::Replaced);
    let limit = view.policy.member_lost_after_ms;
    let vanished = limit > 0
        && replica.sign == ReplicaSign::Unreachable
        && replica.unheard_ms.is_some_and(|ms| ms > limit);
    !aside && !vanished && !view.downtimes.contains_key(&replica.member.server)
}
