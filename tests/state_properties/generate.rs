//! Random commands that make sense often enough to reach deep states: each is drawn from numbers and then fitted to
//! the state it meets.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate::{
    core::{
        analysis::{Class, Code, Evidence, Finding, PrimarySign, Verdict},
        replicated::{
            Change, Cluster, Command, Decision, Durability, Ending, EventKind, Kind, Member, MemberState,
            OrderStage, Outcome, Phase, Recovery, State,
            command::{AckScope, CallWitness, StartRecovery},
            recovery::{Revoked, Testimony, Waiver},
        },
    },
    model::{
        gtid::GtidSet,
        policy::{Policy, PromotionRule},
        server::{ClusterId, Flavor, ServerId},
    },
};

use crate::world::{incarnation, member, server, step, stranger};

/// Plain numbers that become an entry once the state is known; what they mean depends on the command.
#[derive(Debug, Clone)]
pub struct Draw {
    kind: u8,
    pick: u8,
    sort: u8,
    extra: u8,
    step_ms: u32,
    request: u8,
}

impl Arbitrary for Draw {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        any::<(u8, u8, u8, u8, u32, u8)>()
            .prop_map(|(kind, pick, sort, extra, step_ms, request)| Self {
                kind,
                pick,
                sort,
                extra,
                step_ms,
                request,
            })
            .boxed()
    }
}

/// What a log holds.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A command.
    Command(Command),
    /// A membership entry: who votes.
    Voters(BTreeMap<u64, String>),
}

impl Entry {
    /// Applies it.
    pub fn apply(&self, state: &mut State, index: u64) -> Outcome {
        match self {
            Self::Command(command) => state.apply(index, command),
            Self::Voters(voters) => {
                state.set_voters(voters.clone());
                Outcome::None
            }
        }
    }
}

/// Some transactions, more with a larger number.
fn held(flavor: Flavor, most: u8) -> GtidSet {
    let text = match (flavor, most) {
        (_, 0) => String::new(),
        (Flavor::MySql, n) => format!("00000000-0000-0000-0000-000000000001:1-{n}"),
        (Flavor::MariaDb, n) => format!("0-1-{n}"),
    };
    GtidSet::parse(flavor, &text).expect("a set")
}

/// The entries that a run of draws becomes, each fitted to the state that those before it made.
pub fn log(draws: &[Draw]) -> Vec<Entry> {
    let mut state = State::default();
    let mut log = Vec::new();
    for (at, draw) in draws.iter().enumerate() {
        let index = at as u64 + 1;
        let entry = draw.entry(&state, index);
        entry.apply(&mut state, index);
        log.push(entry);
    }
    log
}

impl Draw {
    /// The entry for this state.
    pub fn entry(&self, state: &State, index: u64) -> Entry {
        if state.voters.is_empty() || self.kind == 255 {
            let nodes = 3 + 2 * u64::from(self.sort.is_multiple_of(8));
            return Entry::Voters((1..=nodes).map(|n| (n, incarnation(n, self.extra == 7))).collect());
        }
        let change = self.change(state);
        let (node, term) = self.proposer(state, &change);
        // Now and then a proposer's clock lies behind, and now and then a day has gone by.
        let at_ms = match self.step_ms % 20 {
            0 => state.log_time_ms.saturating_sub(u64::from(self.step_ms >> 8)),
            1 => state.log_time_ms.saturating_add(86_400_000),
            2..=4 => state.log_time_ms.saturating_add((self.step_ms % 400_000).into()),
            _ => state.log_time_ms.saturating_add((self.step_ms % 2_000).into()),
        };
        let request_id = match self.request {
            0..=39 => Some(format!("r{}", self.request)),
            40..=79 => Some(format!("i{index}")),
            _ => None,
        };
        let by = if self.pick.is_multiple_of(2) { "quorate" } else { "anna" };
        Entry::Command(Command {
            at_ms,
            wall_ms: at_ms.wrapping_add(1_700_000_000_000),
            node,
            term,
            by: by.into(),
            request_id,
            change,
        })
    }

    /// Mostly the owner of the running recovery, so that it gets on.
    fn proposer(&self, state: &State, change: &Change) -> (u64, u64) {
        let of = |id: &u64| state.recoveries.get(id).map(|r| r.owner);
        let owner = match change {
            Change::DecidePromotion { recovery, .. }
            | Change::NextCandidate { recovery, .. }
            | Change::BeginUndo { recovery, .. }
            | Change::RecordIntent { recovery }
            | Change::Publish { recovery }
            | Change::FinishRecovery { recovery, .. } => of(recovery),
            _ => None,
        };
        let stranger = (u64::from(self.extra % 4) + 1, u64::from(self.extra % 5) + 1);
        match owner {
            Some(owner) if !self.extra.is_multiple_of(16) => owner,
            _ => stranger,
        }
    }

    fn change(&self, state: &State) -> Change {
        let Some(cluster) = self.cluster(state) else { return self.adopt() };
        match self.kind {
            0..=9 => self.adopt(),
            10..=29 => {
                Change::ReportVerdict { verdict: self.verdict(state, cluster, u64::from(self.sort % 4) + 1) }
            }
            30..=54 => Change::StartRecovery(Box::new(self.start(state, cluster, Kind::Failover))),
            55..=60 => Change::StartRecovery(Box::new(self.start(state, cluster, Kind::Forced))),
            61..=66 => Change::StartRecovery(Box::new(self.start(state, cluster, Kind::Switchover))),
            67..=134 => self.drive(state, cluster),
            135..=139 => self.witness(state, cluster),
            140..=144 => Change::TakeOver {
                recovery: self.recovery(state, cluster),
                evidence: self.start(state, cluster, Kind::Failover).evidence,
            },
            145..=164 => self.order(state),
            165..=174 => self.acknowledge(state, cluster),
            175..=214 => self.operate(state, cluster),
            215..=234 => self.members(state, cluster),
            235..=244 => self.nonsense(state, cluster),
            _ => Change::Tick,
        }
    }

    fn cluster<'a>(&self, state: &'a State) -> Option<&'a Cluster> {
        let count = state.clusters.len();
        (count > 0).then(|| state.clusters.values().nth(usize::from(self.pick) % count)).flatten()
    }

    fn adopt(&self) -> Change {
        let number = self.pick % 4;
        let servers = 1 + self.sort % 4;
        let members: Vec<Member> = (0..servers).map(|n| member(number, n, (n > 0).then_some(0))).collect();
        let flavor = if number.is_multiple_of(2) { Flavor::MySql } else { Flavor::MariaDb };
        let alias = match self.extra % 4 {
            0 => None,
            1 => Some("orders".to_owned()),
            2 if self.extra < 64 => Some("no good".to_owned()),
            2 => Some(format!("c{}", self.extra % 4)),
            _ => Some(format!("alias{number}")),
        };
        let primary = (!self.sort.is_multiple_of(5)).then(|| members[0].server.clone());
        let durability = self.durability(&member(number, 1, None).server);
        Change::AdoptCluster {
            cluster: ClusterId(format!("c{number}")),
            alias,
            flavor,
            primary,
            members,
            durability,
        }
    }

    fn verdict(&self, state: &State, cluster: &Cluster, node: u64) -> Verdict {
        let newest = state.verdicts.get(&cluster.id).and_then(|all| all.get(&node)).map_or(0, |v| v.sequence);
        let hard = self.extra.is_multiple_of(2);
        let evidence = Evidence {
            primary: if hard {
                PrimarySign::Gone { how: "refused".into() }
            } else {
                PrimarySign::Silent { for_ms: 1_300 }
            },
            replicas: vec![],
            hard,
            urgent_round_done: !self.extra.is_multiple_of(3),
            needs_witness: self.sort % 32 == 3,
            text: "silent".into(),
        };
        let finding = match self.sort % 32 {
            0 | 1 => Finding::Healthy,
            2 => Finding::Blind { why: "own pause".into() },
            3 => Finding::Failure { class: Class::None, code: Code::UnreachablePrimary, evidence },
            _ => Finding::Failure { class: Class::Primary, code: Code::DeadPrimary, evidence },
        };
        Verdict {
            node,
            incarnation: incarnation(node, false),
            sequence: newest + u64::from(self.extra % 3),
            cluster: cluster.id.clone(),
            epoch: cluster.epoch,
            subject: cluster.primary.clone().unwrap_or_else(|| server(9, 9)),
            finding,
        }
    }

    /// A start that is mostly allowed as far as its evidence goes.
    fn start(&self, state: &State, cluster: &Cluster, kind: Kind) -> StartRecovery {
        let witnesses = if self.sort.is_multiple_of(6) { 1 } else { 3 };
        let doubter = Draw { sort: self.request % 4, ..self.clone() };
        let evidence = (1..=witnesses).map(|node| {
            let drawn = Draw { sort: self.sort | 4, ..self.clone() };
            let says = if node == 3 && self.request.is_multiple_of(7) { &doubter } else { &drawn };
            Testimony { verdict: says.verdict(state, cluster, node), age_ms: u64::from(self.extra) * 9 }
        });
        let waivers = [Waiver::Verdict, Waiver::Disabled, Waiver::Block, Waiver::Loss];
        let waived = waivers.into_iter().take(usize::from(self.extra % 5));
        StartRecovery {
            kind,
            cluster: cluster.id.clone(),
            class: if self.request == 255 { Class::Settings } else { Class::Primary },
            code: (kind != Kind::Switchover).then_some(Code::DeadPrimary),
            epoch: cluster.epoch + u64::from(self.request == 254),
            generation: cluster.generation + u64::from(self.request == 253),
            subject: cluster.primary.clone().unwrap_or_else(|| server(9, 9)),
            evidence: evidence.collect(),
            revoked: vec![],
            semi_sync: self.extra.is_multiple_of(4).then(|| (1, vec![])),
            waived: if kind == Kind::Forced || self.request >= 248 { waived.collect() } else { vec![] },
            to: None,
            kill_writers: false,
        }
    }

    /// The call of a witness on the word of nodes that ask for one, or the end of one.
    fn witness(&self, state: &State, cluster: &Cluster) -> Change {
        if let Some(open) = cluster.witness.as_ref().filter(|w| !w.settled && self.extra.is_multiple_of(2)) {
            let said = "started".into();
            return Change::SettleWitness { cluster: cluster.id.clone(), witness: open.id, said };
        }
        let asks = Draw { sort: 3, extra: 1, ..self.clone() };
        let nodes = if self.sort.is_multiple_of(6) { 1 } else { 3 };
        let evidence = (1..=nodes).map(|node| Testimony {
            verdict: asks.verdict(state, cluster, node),
            age_ms: u64::from(self.extra) * 9,
        });
        let of = |at: u8| {
            let member = cluster.members.keys().nth(usize::from(at) % cluster.members.len().max(1));
            member.cloned().unwrap_or_else(|| server(9, 9))
        };
        Change::CallWitness(Box::new(CallWitness {
            cluster: cluster.id.clone(),
            epoch: cluster.epoch,
            generation: cluster.generation + u64::from(self.request == 253),
            subject: cluster.primary.clone().unwrap_or_else(|| server(9, 9)),
            evidence: evidence.collect(),
            replica: of(self.extra),
            candidate: of(self.request),
        }))
    }

    fn recovery(&self, state: &State, cluster: &Cluster) -> u64 {
        cluster.slot.or_else(|| state.recoveries.keys().next_back().copied()).unwrap_or(u64::from(self.extra))
    }

    /// The next thing that a running recovery does.
    fn drive(&self, state: &State, cluster: &Cluster) -> Change {
        let id = self.recovery(state, cluster);
        let Some(running) = state.recoveries.get(&id) else { return Change::Tick };
        match (running.phase, self.sort % 12) {
            (_, 0) => Change::TakeOver { recovery: id, evidence: vec![] },
            (_, 1) => self.finish(cluster, id),
            (_, 3) if self.extra.is_multiple_of(2) => Change::BeginUndo {
                recovery: id,
                why: "so".into(),
                fence_unknown: self.extra.is_multiple_of(4),
            },
            (_, 2) => Change::RecordSteps { recovery: id, steps: vec![step()] },
            (Phase::Started, _) => {
                Change::DecidePromotion { recovery: id, decision: Box::new(self.decision(cluster, running)) }
            }
            (Phase::Decided, 4..=8) => Change::NextCandidate {
                recovery: id,
                why: "slow".into(),
                decision: Box::new(self.decision(cluster, running)),
            },
            (Phase::Decided, _) => Change::RecordIntent { recovery: id },
            (Phase::Intent, _) => Change::Publish { recovery: id },
            _ => self.finish(cluster, id),
        }
    }

    fn decision(&self, cluster: &Cluster, running: &Recovery) -> Decision {
        let others: Vec<&Member> =
            cluster.members.values().filter(|m| m.server != running.old_primary.server).collect();
        let candidate = match others.get(usize::from(self.extra) % others.len().max(1)) {
            Some(member) if self.request != 200 => member.target(),
            _ => stranger(),
        };
        Decision {
            candidate,
            channel: String::new(),
            must_hold: held(cluster.flavor, self.request % 3),
            lost: held(cluster.flavor, self.request % 2),
            semi_sync_acks: None,
            unprotected: None,
            ackers: vec![],
            siblings: others.iter().map(|m| Revoked { target: m.target(), channel: String::new() }).collect(),
            considered: vec![],
        }
    }

    fn finish(&self, cluster: &Cluster, recovery: u64) -> Change {
        let ending = match self.extra % 8 {
            0 => Ending::Failed,
            1 => Ending::Cancelled,
            _ => Ending::Succeeded,
        };
        let mut repointed: Vec<ServerId> = cluster.members.keys().cloned().collect();
        if self.extra.is_multiple_of(2) {
            repointed.clear();
        }
        Change::FinishRecovery {
            recovery,
            ending,
            reason: "so".into(),
            left_behind: vec![],
            repointed,
            candidate_open: self.extra.is_multiple_of(3),
        }
    }

    fn order(&self, state: &State) -> Change {
        let ids: Vec<u64> = state.orders.keys().copied().collect();
        let order = ids.get(usize::from(self.pick) % ids.len().max(1)).copied().unwrap_or(9);
        let stage = match self.sort % 6 {
            0 => OrderStage::Waiting,
            1 | 2 => OrderStage::Fenced,
            3 => OrderStage::Rejoining,
            4 => OrderStage::Rejoined,
            _ => OrderStage::Quarantined { errant: "x:1".into(), why: "unacknowledged".into() },
        };
        Change::AdvanceOrder { order, stage }
    }

    fn acknowledge(&self, state: &State, cluster: &Cluster) -> Change {
        let scope = match self.sort % 4 {
            0 => AckScope::All,
            1 => AckScope::Cluster(cluster.id.clone()),
            _ => AckScope::Recovery(self.recovery(state, cluster)),
        };
        Change::Acknowledge { scope, comment: if self.extra == 0 { " ".into() } else { "seen".into() } }
    }

    /// What operators set.
    fn operate(&self, state: &State, cluster: &Cluster) -> Change {
        let someone = cluster.members.keys().nth(usize::from(self.extra) % cluster.members.len().max(1));
        let someone = someone.cloned().unwrap_or_else(|| server(9, 9));
        let for_ms = (!self.extra.is_multiple_of(3)).then(|| u64::from(self.step_ms % 50_000));
        let (why, enabled) = ("works".to_owned(), !self.extra.is_multiple_of(4));
        match self.sort % 10 {
            0 => Change::SetRecoveries { cluster: None, enabled, why },
            1 => Change::SetRecoveries { cluster: Some(cluster.id.clone()), enabled, why },
            2 => Change::SetDowntime { server: someone, for_ms, why },
            3 => Change::SetMaintenance { cluster: cluster.id.clone(), for_ms, why },
            4 => Change::SetPromotionRule { server: someone, rule: PromotionRule::Prefer, for_ms },
            5 => self.policy(state),
            6 => Change::SetAlias {
                cluster: cluster.id.clone(),
                alias: enabled.then(|| format!("alias{}", self.extra % 5)),
            },
            7 => Change::SetDurability { cluster: cluster.id.clone(), durability: self.durability(&someone) },
            8 => Change::ConfirmMember { cluster: cluster.id.clone(), server: someone },
            _ => Change::Note { kind: EventKind::Alert, cluster: None, server: None, text: "look".into() },
        }
    }

    fn policy(&self, state: &State) -> Change {
        let policy = Policy {
            audit_keep: 100 + u64::from(self.extra),
            recoveries_keep: 10,
            block_for_ms: if self.extra.is_multiple_of(5) { 0 } else { u64::from(self.extra) * 10_000 },
            breaker_recoveries: 1 + u32::from(self.extra % 3),
            silence_ms: if self.extra == 3 { 1 } else { 1_200 },
            ..Policy::default()
        };
        Change::SetPolicy {
            version: state.policy_version + u64::from(self.request == 9),
            policy: Box::new(policy),
        }
    }

    fn durability(&self, acker: &ServerId) -> Durability {
        match self.extra % 3 {
            0 => Durability::Async,
            1 => Durability::SemiSync { acks: 1, ackers: vec![acker.clone()] },
            _ => Durability::Unprotected { why: "time-out 10 s".into() },
        }
    }

    /// What discoveries and forgetting change.
    fn members(&self, state: &State, cluster: &Cluster) -> Change {
        let number = cluster.id.0.bytes().last().unwrap_or(b'0') - b'0';
        let foreign = if self.extra == 1 { (number + 1) % 4 } else { number };
        let mut changed = member(foreign, self.extra % 6, (!self.extra.is_multiple_of(6)).then_some(0));
        if self.request.is_multiple_of(5) {
            changed.state = MemberState::Changed { what: "server_id 1 was 2".into() };
        }
        let someone = server(number, self.extra % 5);
        match self.sort % 10 {
            0..=4 => Change::UpdateMembers {
                cluster: cluster.id.clone(),
                generation: cluster.generation + u64::from(self.extra == 2),
                members: vec![changed],
                why: "a new replica".into(),
            },
            6 => Change::FollowPrimary {
                cluster: cluster.id.clone(),
                generation: cluster.generation,
                primary: someone,
                why: "by hand".into(),
            },
            5 => Change::SetPrimary {
                cluster: cluster.id.clone(),
                generation: cluster.generation,
                durability: self.durability(&someone),
                primary: someone,
            },
            7 | 8 => Change::ForgetServer { cluster: cluster.id.clone(), server: someone },
            _ if state.clusters.len() > 2 => Change::ForgetCluster { cluster: cluster.id.clone() },
            _ => Change::Tick,
        }
    }

    /// Commands about what is not there, or comes at the wrong time.
    fn nonsense(&self, state: &State, cluster: &Cluster) -> Change {
        let id = u64::from(self.extra);
        let any =
            state.recoveries.keys().nth(usize::from(self.extra) % state.recoveries.len().max(1)).copied();
        let recovery = any.unwrap_or(id);
        match self.sort % 8 {
            0 => Change::Publish { recovery },
            1 => Change::RecordIntent { recovery },
            2 => self.finish(cluster, recovery),
            3 => Change::RecordSteps { recovery, steps: vec![step(); 90] },
            4 => Change::ForgetCluster { cluster: ClusterId("c9".into()) },
            5 => Change::AdvanceOrder { order: id, stage: OrderStage::Rejoined },
            6 => Change::RaiseFeatureLevel { level: u32::from(self.extra % 4) },
            _ => Change::SetDowntime { server: server(9, 9), for_ms: Some(u64::MAX), why: String::new() },
        }
    }
}
