//! The second decision of a recovery: who is promoted, what it must hold, what is lost.
//!
//! Completeness of received transactions comes first (in a switchover, which waits for equality: not to lag); then whether the others can replicate from its version, promotion
//! rule, datacenter, how much is still to apply, and the address as the last tie-break. Every member gets a sentence that says why it was chosen or passed over.

#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    marks::{self, Marks},
    step::Target,
};
use crate::{
    core::replicated::{
        cluster::{Cluster, Member, MemberState},
        recovery::{Considered, Decision, Kind, Recovery, Revoked, Waiver},
        refusal::Refusal,
        state::State,
    },
    mistake::{Mistake, planted},
    model::{
        facts::{Channel, ServerFacts},
        gtid::GtidSet,
        policy::{PromotionRule, TooFewAckers},
        server::ServerId,
    },
};

/// What was read from the servers after revocation, and what was known of the old primary before.
#[derive(Debug, Clone, Default)]
pub struct Sets {
    /// Facts of each member whose receiver was seen stopped (failover) or whose facts were read (switchover).
    pub facts: BTreeMap<ServerId, ServerFacts>,
    /// The old primary's executed set as last seen: a lower bound of what it had (failover), or what it held when it
    /// was seen read-only (switchover).
    pub old_primary: Option<GtidSet>,
    /// What the voters remember of the servers: of one that lost what it held, or was started anew, nothing is known for
    /// certain (P6).
    pub marks: Marks,
}

impl Sets {
    /// Takes in what another voter remembers.
    pub fn raise(&mut self, others: Marks) {
        marks::raise(&mut self.marks, others);
    }
}

/// A replica that lags this much or more comes after those that do not when a switchover waits for equality, seconds.
const SWITCHOVER_LAG_S: u64 = 2;

struct Candidate<'a> {
    member: &'a Member,
    facts: &'a ServerFacts,
    channel: &'a Channel,
    /// What it says that it has in hand.
    in_hand: GtidSet,
    /// That, and what it therefore holds besides.
    held: GtidSet,
    rule: PromotionRule,
    /// A server that would follow it and is of an older series: servers replicate from their own and older series only
    /// (MySQL 8.4 manual, 19.5.2; MariaDB's replication compatibility table).
    older: Option<(String, String)>,
}

impl Candidate<'_> {
    /// Too far behind to be waited for gladly.
    fn lags(&self) -> bool {
        self.channel.lag_s.is_none_or(|lag| lag >= SWITCHOVER_LAG_S)
    }

    fn against_it(&self) -> Option<String> {
        let (address, version) = self.older.as_ref()?;
        Some(format!(
            "its version {} is newer than that of {address} ({version}), which may not be able to follow it",
            self.facts.version.text
        ))
    }
}

/// Chooses. Pure: the same sets give the same decision.
pub fn decide(state: &State, recovery: &Recovery, sets: &Sets) -> Result<Decision, Refusal> {
    let cluster = state.clusters.get(&recovery.cluster).ok_or_else(|| Refusal::Unknown {
        what: "cluster".into(),
        name: recovery.cluster.0.clone(),
        near: vec![],
    })?;
    let mut considered = Vec::new();
    let mut candidates = Vec::new();
    for member in cluster.members.values().filter(|m| m.server != recovery.old_primary.server) {
        match eligible(state, recovery, member, sets) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => considered.push(passed(member, why)),
        }
    }
    if !planted(Mistake::ErrantServerPromoted) {
        drop_errant(&mut candidates, sets, &mut considered);
    }
    let held = union(cluster, recovery, sets);
    check_semi_sync(cluster, recovery, sets, &held)?;
    let best = best(state, recovery, &mut candidates, &held, &mut considered)?;
    let known = known_transactions(&held, sets);
    let mut must_hold = best.in_hand.clone();
    // A switchover waits for equality with the fenced old primary, so that nothing is lost.
    if recovery.kind == Kind::Switchover && !planted(Mistake::SwitchoverWithoutEquality) {
        must_hold.merge(&known);
    }
    let lost = known.subtract(&must_hold).subtract(&best.held);
    check_loss(state, recovery, &lost)?;
    let others: Vec<&Member> = cluster
        .members
        .values()
        .filter(|m| m.server != best.member.server && is_sibling(recovery, m))
        .collect();
    let ackers: Vec<Revoked> =
        others.iter().filter(|m| is_acker(recovery, sets, m)).map(|m| revoked(m, recovery)).collect();
    let unprotected = too_few_ackers(state, recovery, best.member, ackers.len())?;
    let acks = recovery.semi_sync.as_ref().map(|(acks, _)| *acks).filter(|_| unprotected.is_none());
    let ackers = if acks.is_some() { ackers } else { Vec::new() };
    considered.sort_by(|a, b| (Reverse(a.chosen), &a.address).cmp(&(Reverse(b.chosen), &b.address)));
    Ok(Decision {
        candidate: best.member.target(),
        channel: best.channel.name.clone(),
        must_hold,
        lost,
        semi_sync_acks: acks,
        unprotected,
        ackers,
        siblings: others.into_iter().map(|m| revoked(m, recovery)).collect(),
        considered,
    })
}

/// Whether a semi-sync cluster would go on without, for want of ackers; refused where policy wants that. An operator who
/// accepts loss by name accepts this too: what is written from then on may be lost.
fn too_few_ackers(
    state: &State,
    recovery: &Recovery,
    candidate: &Member,
    left: usize,
) -> Result<Option<String>, Refusal> {
    let Some((acks, _)) = recovery.semi_sync.as_ref().filter(|(acks, _)| left < *acks as usize) else {
        return Ok(None);
    };
    let accepted = recovery.waived.contains(&Waiver::Loss);
    if state.policy.on_too_few_ackers == TooFewAckers::Refuse && !accepted {
        return Err(Refusal::TooFewAckers {
            candidate: candidate.address.to_string(),
            acks: *acks,
            left: left as u32,
        });
    }
    Ok(Some(format!(
        "semi-sync ends with this role change: a commit waited for {acks} acknowledgements and {left} ackers are left for \
         {}; what it writes may be lost until more follow it and its semi-sync source is switched on",
        candidate.address
    )))
}

fn passed(member: &Member, why: String) -> Considered {
    Considered { server: member.server.clone(), address: member.address.to_string(), chosen: false, why }
}

/// Hard conditions; each refusal is a sentence for the operator.
fn eligible<'a>(
    state: &State,
    recovery: &Recovery,
    member: &'a Member,
    sets: &'a Sets,
) -> Result<Candidate<'a>, String> {
    match &member.state {
        MemberState::Normal => {}
        _ if planted(Mistake::ChangedServerPromoted) => {}
        MemberState::Changed { what } => {
            return Err(format!("its identity changed ({what}); confirm it first"));
        }
        MemberState::Quarantined { errant, .. } => return Err(format!("quarantined: holds {errant}")),
        MemberState::Replaced => return Err("a replaced primary that has not returned".into()),
    }
    if let Some(passed) = recovery.passed_over.iter().find(|p| p.server == member.server) {
        return Err(format!("it was chosen and passed over: {}", passed.why));
    }
    let rule = state.rule_of(&member.server);
    if rule == PromotionRule::MustNot {
        return Err("its promotion rule is must_not".into());
    }
    let Some(facts) = sets.facts.get(&member.server) else {
        return Err(match recovery.kind {
            Kind::Switchover => "not reached".into(),
            _ => "it was not reached, or its receiver was not seen stopped: what it holds is unknown".into(),
        });
    };
    if facts.channels.len() > 1 || member.channels > 1 {
        return Err(format!(
            "it has {} sources; multi-source servers are never promoted",
            facts.channels.len()
        ));
    }
    let Some(channel) = facts.channels.first() else {
        return Err("it replicates from nobody".into());
    };
    if member.source.as_ref() != Some(&recovery.old_primary.server) {
        return Err("it is no direct replica of the old primary".into());
    }
    if !facts.gtid_on || !channel.by_gtid {
        return Err("it does not replicate by GTID".into());
    }
    if !facts.log_bin || !facts.log_replica_updates {
        return Err("it does not log what it applies (log_bin and log_replica_updates must be on)".into());
    }
    if channel.filtered {
        return Err("it has replication filters, so it does not hold everything".into());
    }
    if let Some((number, text)) = &channel.applier_error {
        return Err(format!("its applier is broken: error {number}, {text}"));
    }
    if channel.delay_s > 0 {
        return Err(format!("it is delayed by {} s on purpose", channel.delay_s));
    }
    let in_hand = match planted(Mistake::CandidateByExecutedSet) {
        true => facts.executed.clone(),
        false => facts.in_hand(),
    };
    let passed = passed_by(recovery, facts, sets);
    if let Some(shrunk) = marks::shrunk(sets.marks.get(&member.server), facts, &passed) {
        return Err(format!("it held {shrunk} before and does not now"));
    }
    let mut held = in_hand.clone();
    held.merge(&passed);
    let older = older_follower(state, recovery, member, facts, sets);
    Ok(Candidate { member, facts, channel, in_hand, held, rule, older })
}

/// MariaDB tells of what was received and not applied yet only where it ends: what the old primary had executed below that place
/// was received, whoever wrote it; but for what the server wrote itself, which no source sends it. The place must be in the
/// old primary's history: one that follows it from a history of its own received nothing of that.
fn passed_by(recovery: &Recovery, facts: &ServerFacts, sets: &Sets) -> GtidSet {
    let Target { identity, address, .. } = &recovery.old_primary;
    let nothing = GtidSet::empty(identity.flavor);
    let (Some(executed), [channel]) = (&sets.old_primary, &facts.channels[..]) else { return nothing };
    if !channel.is_from(identity, address) {
        return nothing;
    }
    // Where a server logs all that it applies, an applied place hides nothing: its own set names what it has.
    let names_all = facts.log_bin && facts.log_replica_updates && !channel.filtered;
    let place = match names_all {
        true => channel.received.position().subtract(&facts.executed),
        false => channel.received.position(),
    };
    let beyond = place.subtract(executed);
    let elsewhere = beyond.subtract(&beyond.written_by(identity));
    let passed = executed.passed_at(&place.subtract(&elsewhere));
    passed.subtract(&passed.written_by(&facts.identity))
}

/// The oldest of those that would follow `member`, where its series is older than that one's.
fn older_follower(
    state: &State,
    recovery: &Recovery,
    member: &Member,
    facts: &ServerFacts,
    sets: &Sets,
) -> Option<(String, String)> {
    let series = |facts: &ServerFacts| (facts.version.number.0, facts.version.number.1);
    let members = &state.clusters.get(&recovery.cluster)?.members;
    let followers = members.values().filter(|m| m.server != member.server && is_sibling(recovery, m));
    let versions = followers.filter_map(|m| Some((m, sets.facts.get(&m.server)?)));
    let (oldest, its_facts) = versions.min_by_key(|(m, facts)| (series(facts), m.address.clone()))?;
    (series(its_facts) < series(facts)).then(|| (oldest.address.to_string(), its_facts.version.text.clone()))
}

/// A candidate that holds transactions of its own which nobody else knows is passed over where another is left.
fn drop_errant(candidates: &mut Vec<Candidate<'_>>, sets: &Sets, considered: &mut Vec<Considered>) {
    let errant: Vec<(usize, GtidSet)> = candidates
        .iter()
        .enumerate()
        .map(|(i, c)| (i, errant_of(c, sets)))
        .filter(|(_, errant)| !errant.is_empty())
        .collect();
    for (i, errant) in errant.into_iter().rev() {
        let candidate = candidates.remove(i);
        considered.push(passed(candidate.member, format!("it holds errant transactions: {errant}")));
    }
}

/// What a server wrote itself and nobody else, the old primary included, is known to hold.
fn errant_of(candidate: &Candidate<'_>, sets: &Sets) -> GtidSet {
    let mut elsewhere = GtidSet::empty(candidate.in_hand.flavor());
    for (server, facts) in &sets.facts {
        if server != &candidate.member.server {
            elsewhere.merge(&facts.in_hand());
        }
    }
    if let Some(old) = &sets.old_primary {
        elsewhere.merge(old);
    }
    candidate.in_hand.written_by(&candidate.facts.identity).subtract(&elsewhere)
}

/// Everything that those who were reached hold. A quarantined or changed member's transactions are not the cluster's.
fn union(cluster: &Cluster, recovery: &Recovery, sets: &Sets) -> GtidSet {
    let mut held = GtidSet::empty(cluster.flavor);
    for (server, facts) in &sets.facts {
        let counts = cluster
            .members
            .get(server)
            .is_some_and(|m| m.state == MemberState::Normal && m.server != recovery.old_primary.server);
        if counts {
            let mut in_hand = facts.in_hand();
            // What it wrote itself and nobody else holds is errant, not lost.
            let own = in_hand.written_by(&facts.identity);
            let known_elsewhere = sets.old_primary.as_ref().is_some_and(|old| old.contains(&own));
            if !known_elsewhere {
                in_hand = in_hand.subtract(&own);
            }
            held.merge(&in_hand);
        }
    }
    held
}

fn known_transactions(held: &GtidSet, sets: &Sets) -> GtidSet {
    let mut known = held.clone();
    if let Some(old) = sets.old_primary.as_ref().filter(|_| !planted(Mistake::LossNotNamed)) {
        known.merge(old);
    }
    known
}

/// P6: a write was acknowledged by k ackers. If k or more of them were not reached, or may have lost what they held, or hold
/// what is not counted, one may be on none that was. `held`: what counts.
fn check_semi_sync(
    cluster: &Cluster,
    recovery: &Recovery,
    sets: &Sets,
    held: &GtidSet,
) -> Result<(), Refusal> {
    let Some((acks, ackers)) = &recovery.semi_sync else { return Ok(()) };
    if recovery.kind == Kind::Switchover || recovery.waived.contains(&Waiver::Loss) {
        return Ok(());
    }
    let doubt = |acker: &ServerId| {
        let Some(facts) = sets.facts.get(acker) else { return Some("not reached".into()) };
        marks::doubt(sets.marks.get(acker), facts, &passed_by(recovery, facts, sets))
            .or_else(|| not_counted(cluster.members.get(acker)?, facts, held))
    };
    let doubts: Vec<String> = ackers
        .iter()
        .filter_map(|acker| Some(format!("{}: {}", address(cluster, acker), doubt(acker)?)))
        .collect();
    let accepted = usize::from(planted(Mistake::OneAckerTooFewRevoked));
    match doubts.len() < *acks as usize + accepted {
        true => Ok(()),
        false => Err(Refusal::PossibleDataLoss {
            why: format!(
                "a commit waits for {acks} of {} ackers, and {} of them may lack what they acknowledged ({}): a write \
                 acknowledged by those alone would be missing",
                ackers.len(),
                doubts.len(),
                doubts.join("; ")
            ),
        }),
    }
}

/// What an acker holds and nobody who counts does, where it does not count itself: another server answered at its address, and
/// the record was not told yet that it stands there again.
fn not_counted(acker: &Member, facts: &ServerFacts, held: &GtidSet) -> Option<String> {
    let MemberState::Changed { .. } = acker.state else { return None };
    let in_hand = facts.in_hand();
    let received = in_hand.subtract(&in_hand.written_by(&facts.identity));
    let alone = received.subtract(held);
    (!alone.is_empty()).then(|| format!("it alone holds {alone}, and its identity changed; confirm it first"))
}

fn address(cluster: &Cluster, server: &ServerId) -> String {
    let member = cluster.members.get(server);
    member.map_or_else(|| server.to_string(), |member| member.address.to_string())
}

fn best<'a, 'b>(
    state: &State,
    recovery: &Recovery,
    candidates: &'b mut Vec<Candidate<'a>>,
    held: &GtidSet,
    considered: &mut Vec<Considered>,
) -> Result<&'b Candidate<'a>, Refusal> {
    let old_datacenter = state.datacenter_of(&recovery.old_primary.address);
    let allowed = |c: &Candidate<'_>| {
        state.policy.allow_other_datacenter
            || old_datacenter.is_none()
            || state.datacenter_of(&c.member.address) == old_datacenter
    };
    let mut kept = Vec::new();
    for candidate in candidates.drain(..) {
        if allowed(&candidate) {
            kept.push(candidate);
        } else {
            considered
                .push(passed(candidate.member, "policy forbids a primary in another datacenter".into()));
        }
    }
    *candidates = kept;
    let is_switchover = recovery.kind == Kind::Switchover;
    let missing = |c: &Candidate<'_>| c.held.lacks(held);
    candidates.sort_by_cached_key(|c| {
        (
            (is_switchover && recovery.to.as_ref() != Some(&c.member.server)),
            // A switchover waits for equality: what is on its way now says nothing, only that one lags.
            if is_switchover { u64::from(c.lags()) } else { missing(c) },
            recovery.to.as_ref() != Some(&c.member.server),
            c.older.is_some(),
            c.rule,
            state.datacenter_of(&c.member.address) != old_datacenter,
            missing(c).saturating_add(c.facts.executed.lacks(&c.in_hand)),
            c.member.address.clone(),
        )
    });
    check_wish(recovery, candidates, considered)?;
    let Some(first) = candidates.first() else {
        return Err(Refusal::NoSafeCandidate { considered: std::mem::take(considered) });
    };
    let missing = held.subtract(&first.held);
    let may_lack = is_switchover || recovery.waived.contains(&Waiver::Loss);
    if recovery.semi_sync.is_some() && !missing.is_empty() && !may_lack {
        return Err(Refusal::PossibleDataLoss {
            why: format!(
                "no candidate holds everything that the ackers received; {} lacks {missing}",
                first.member.address
            ),
        });
    }
    explain(recovery.kind, first, &candidates[1..], held, considered);
    Ok(first)
}

/// An operator's wish is granted or refused by name, never silently replaced.
fn check_wish(
    recovery: &Recovery,
    candidates: &[Candidate<'_>],
    considered: &mut Vec<Considered>,
) -> Result<(), Refusal> {
    let Some(wish) = &recovery.to else { return Ok(()) };
    if candidates.first().is_some_and(|c| &c.member.server == wish) {
        return Ok(());
    }
    if let Some(wished) = candidates.iter().find(|c| &c.member.server == wish) {
        considered.push(passed(
            wished.member,
            "it was asked for, but another server holds transactions that it lacks".into(),
        ));
    }
    Err(Refusal::NoSafeCandidate { considered: std::mem::take(considered) })
}

fn explain(
    kind: Kind,
    chosen: &Candidate<'_>,
    others: &[Candidate<'_>],
    held: &GtidSet,
    considered: &mut Vec<Considered>,
) {
    let lacks = held.subtract(&chosen.held);
    let holds = match (lacks.is_empty(), kind) {
        (true, _) => "holds everything that was received".to_owned(),
        (false, Kind::Switchover) => format!("is waited for until it holds everything, {lacks} now"),
        (false, _) => format!("holds most (lacks {lacks})"),
    };
    let to_apply = chosen.facts.executed.lacks(&chosen.in_hand);
    let against = chosen.against_it().map(|against| format!("; {against}")).unwrap_or_default();
    considered.push(Considered {
        server: chosen.member.server.clone(),
        address: chosen.member.address.to_string(),
        chosen: true,
        why: format!("{holds}, {to_apply} still to apply, rule {}{against}", chosen.rule),
    });
    for other in others {
        considered.push(passed(other.member, behind(kind, chosen, other, held)));
    }
}

/// Why one comes after the chosen one: the first rule by which they differ.
fn behind(kind: Kind, chosen: &Candidate<'_>, other: &Candidate<'_>, held: &GtidSet) -> String {
    let lacks = held.subtract(&other.held);
    if kind == Kind::Switchover {
        if other.lags() && !chosen.lags() {
            return match other.channel.lag_s {
                Some(lag) => format!("it lags by {lag} s"),
                None => "how far it lags is not known".into(),
            };
        }
    } else if !lacks.is_empty() && !held.subtract(&chosen.held).contains(&lacks) {
        return format!("it lacks {lacks}");
    }
    if let (None, Some(against)) = (&chosen.older, other.against_it()) {
        return against;
    }
    if other.rule != chosen.rule {
        return format!("its promotion rule is {}, the chosen one's {}", other.rule, chosen.rule);
    }
    "as good as the chosen one, which comes first by datacenter, lag or address".into()
}

fn check_loss(state: &State, recovery: &Recovery, lost: &GtidSet) -> Result<(), Refusal> {
    let accepted = state.policy.allow_known_loss || recovery.waived.contains(&Waiver::Loss);
    // A switchover loses nothing: the candidate waits for equality. Semi-sync: what was not received by the ackers was
    // not acknowledged; it is recorded, not refused.
    if lost.is_empty() || accepted || recovery.kind == Kind::Switchover || recovery.semi_sync.is_some() {
        return Ok(());
    }
    Err(Refusal::PossibleDataLoss { why: format!("{lost} would be lost and policy forbids known loss") })
}

/// Who is re-pointed: direct replicas of the old primary, in service, with one source.
fn is_sibling(recovery: &Recovery, member: &Member) -> bool {
    let follows = member.source.as_ref() == Some(&recovery.old_primary.server);
    let returns = recovery.kind == Kind::Switchover && member.server == recovery.old_primary.server;
    (follows || returns) && member.channels <= 1 && member.state == MemberState::Normal
}

fn is_acker(recovery: &Recovery, sets: &Sets, member: &Member) -> bool {
    let listed = recovery.semi_sync.as_ref().is_some_and(|(_, ackers)| ackers.contains(&member.server));
    listed && sets.facts.contains_key(&member.server) && member.server != recovery.old_primary.server
}

fn revoked(member: &Member, recovery: &Recovery) -> Revoked {
    let listed = recovery.revoked.iter().find(|r| r.target.server == member.server);
    let channel = listed.map(|r| r.channel.clone()).unwrap_or_else(|| member.channel.clone());
    Revoked { target: member.target(), channel }
}
