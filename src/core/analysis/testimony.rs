//! What one replica says about the primary: only the channel from the primary, and only the receiver, speak about
//! it. A stopped or broken applier is no sign of a dead source.

use super::{
    ReplicaSign,
    derive::{Reach, fresh_for_ms},
    observation::{AttemptEnd, Observation},
    problem::View,
};
use crate::{
    core::replicated::cluster::Member,
    model::facts::{Channel, Receiver, ServerFacts},
};

/// A direct replica of the primary, as this node sees it.
#[derive(Debug)]
pub struct Replica<'a> {
    /// Its member entry.
    pub member: &'a Member,
    /// What its receiver says.
    pub sign: ReplicaSign,
    /// Its receiver is connected, by its own account.
    pub receives: bool,
    /// Its applier runs.
    pub applies: bool,
    /// It has applied all that it received from the primary.
    pub applied: bool,
    /// Its facts, where they are fresh.
    pub facts: Option<&'a ServerFacts>,
    /// Seconds behind, as it says.
    pub lag_s: Option<u64>,
    /// Configured delay, seconds.
    pub delay_s: u64,
    /// Its heartbeat period is unknown, off, or too long to prove anything soon.
    pub long_heartbeat: bool,
    /// It was probed after the primary's last sign of life.
    pub probed_since: bool,
    /// Milliseconds since it last answered this node.
    pub unheard_ms: Option<u64>,
}

/// Heartbeats up to this period prove a silent source within seconds.
pub const SHORT_HEARTBEAT_MS: u64 = 1_000;
/// A receiver with a short heartbeat has lost its source after this many periods without anything, one of them between
/// two probes that enclose it ...
const LOST_PERIODS: u64 = 2;
/// ... and this much for delays on the way.
const LOST_MARGIN_MS: u64 = 250;
/// A source that shuts down may drop its replicas this long before it gives its last answer. A receiver that broke
/// earlier broke for a reason of its own, and says nothing about now.
const LOST_BEFORE_MS: u64 = 10_000;
/// A living source lets a receiver in within this time, a wide network and a TLS handshake included.
const CONNECT_WITHIN_MS: u64 = 1_000;
/// The last answer to this node, and the last event to a replica, may lie this far apart, besides one probe
/// interval, though the source died between them.
const HEARD_MARGIN_MS: u64 = 100;

/// The testimony of `member`, given how the primary appears to this node and when it last gave a sign of life.
pub(super) fn of<'a>(
    view: &View<'a>,
    primary: &Member,
    reach: &Reach,
    life: Option<u64>,
    member: &'a Member,
) -> Replica<'a> {
    let observation = view.observations.get(&member.server);
    let unheard_ms = observation
        .and_then(|o| o.answered_ms.or(o.watched_since_ms))
        .map(|at| view.now_ms.saturating_sub(at));
    let mut replica = Replica {
        member,
        sign: ReplicaSign::Unreachable,
        receives: false,
        applies: false,
        applied: false,
        facts: None,
        lag_s: None,
        delay_s: 0,
        long_heartbeat: true,
        probed_since: false,
        unheard_ms,
    };
    let Some((o, facts, at)) = observation.and_then(|o| fresh(view, o)) else { return replica };
    replica.facts = Some(facts);
    replica.probed_since = life.is_none_or(|l| at > l);
    let Some(channel) = facts.channel_from(&primary.identity, &primary.address, &member.channel) else {
        // It follows somebody else now, or nobody: it has nothing to say about this primary.
        replica.sign = ReplicaSign::Stopped;
        return replica;
    };
    replica.receives = channel.receiver == Receiver::Running;
    replica.applies = channel.applier_running;
    replica.applied = channel.by_gtid && facts.executed.contains(&channel.received);
    replica.lag_s = channel.lag_s;
    replica.delay_s = channel.delay_s;
    replica.long_heartbeat = short_heartbeat(channel).is_none();
    replica.sign = match channel.receiver {
        Receiver::Running if *reach == Reach::Answering => ReplicaSign::Connected,
        Receiver::Running => connected(view, o, channel, at, life),
        Receiver::Connecting if is_first_try(o, channel, at, reach) => ReplicaSign::Unproven,
        Receiver::Connecting | Receiver::Stopped => broken(o, channel, life),
    };
    replica
}

/// The facts of a replica, with the time they are of, where they are fresh and nothing later contradicts them.
fn fresh<'a>(view: &View<'_>, o: &'a Observation) -> Option<(&'a Observation, &'a ServerFacts, u64)> {
    let at = o.answered_ms?;
    let failed = o.last_attempt.as_ref().is_some_and(|(t, end)| *t > at && *end != AttemptEnd::Answered);
    let age = view.now_ms.saturating_sub(at);
    let old = age > fresh_for_ms(view.policy.replica_probe_interval_ms);
    (!failed && !old).then_some((o, o.facts.as_deref()?, at))
}

/// The heartbeat period where it is known, on, and short.
fn short_heartbeat(channel: &Channel) -> Option<u64> {
    channel.heartbeat_period_ms.filter(|period| (1..=SHORT_HEARTBEAT_MS).contains(period))
}

/// The sign of a receiver that claims to be connected while the primary does not answer this node. Judged at the
/// time of its facts: what happened since then is not known.
fn connected(view: &View<'_>, o: &Observation, c: &Channel, at: u64, life: Option<u64>) -> ReplicaSign {
    let dated = c.heartbeat_age_ms.map(|age| at.saturating_sub(age));
    // Under load no heartbeats are sent, so the later of both counts.
    let quiet = o.source_heard_ms.max(dated).map(|heard| at.saturating_sub(heard));
    let noticed = o.source_noticed_ms.or(o.source_heard_ms).max(dated).or(o.watched_since_ms);
    let still = noticed.map(|noticed| at.saturating_sub(noticed));
    if let (Some(period), Some(still)) = (short_heartbeat(c), still) {
        // Nothing moved for the whole of `still`, which is more than one period, and probably not for two.
        let one = still > period + LOST_MARGIN_MS;
        let two = quiet.unwrap_or(still) > LOST_PERIODS * period + LOST_MARGIN_MS;
        if one && two {
            return ReplicaSign::Lost;
        }
    }
    let (Some(heard), Some(quiet)) = (o.source_heard_ms.max(dated), quiet) else {
        return ReplicaSign::Unproven;
    };
    let limit = short_heartbeat(c).map(|period| LOST_PERIODS * period + LOST_MARGIN_MS);
    let margin = view.policy.primary_probe_interval_ms + HEARD_MARGIN_MS;
    let after = life.is_none_or(|life| heard > life.saturating_add(margin));
    // With a long heartbeat an old proof fades: the source may have died since.
    let recent = quiet <= limit.unwrap_or_else(|| fresh_for_ms(view.policy.replica_probe_interval_ms));
    if after && recent { ReplicaSign::Connected } else { ReplicaSign::Unproven }
}

/// Whether the receiver may be logging in to a living source this very moment: it was restarted, as a witness or by
/// somebody, and has no error yet. Where the source refuses this node, that is proof enough beside it.
fn is_first_try(o: &Observation, channel: &Channel, at: u64, reach: &Reach) -> bool {
    let tried_ms = o.source_lost_ms.map(|since| at.saturating_sub(since)).unwrap_or(0);
    let gone = matches!(reach, Reach::Gone { .. });
    !gone && channel.receiver_error.is_none() && tried_ms < CONNECT_WITHIN_MS
}

/// The sign of a receiver that is not connected.
fn broken(o: &Observation, channel: &Channel, life: Option<u64>) -> ReplicaSign {
    let lost = match (&channel.receiver_error, channel.receiver) {
        (Some((number, _)), _) => is_connection_error(*number),
        // Trying to connect, and the first try has not ended: it was connected, or was just started.
        (None, Receiver::Connecting) => true,
        (None, _) => false,
    };
    let long_ago = match (o.source_lost_ms, life) {
        (Some(lost), Some(life)) => lost.saturating_add(LOST_BEFORE_MS) < life,
        _ => false,
    };
    if lost && !long_ago { ReplicaSign::Lost } else { ReplicaSign::Stopped }
}

/// Error numbers that say that the source is not there: cannot connect, unknown host, gone away, lost connection,
/// handshake cut, shutting down, network trouble. Not among them: refused logins (1045, 1130) and *too many
/// connections* (1040), which a living source sends, and errors of the stream itself (1236, 13114).
pub fn is_connection_error(number: u32) -> bool {
    matches!(number, 2002 | 2003 | 2005 | 2006 | 2012 | 2013 | 2055 | 1053 | 1158..=1161)
}
