//! What would happen, from what is seen now: the same decision as in earnest, over observed facts, and its steps in
//! words. It changes nothing and promises nothing: in earnest the sets are read after revocation.

use super::{
    choose::{self, Sets},
    step::{Action, SourceOptions, Step},
};
use crate::{
    core::{
        analysis::Class,
        replicated::{
            Cluster, Decision, Kind, Phase, Recovery, Refusal, State,
            recovery::{Revoked, Waiver},
        },
    },
    model::server::ServerId,
};

/// What is wished for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What kind.
    pub kind: Kind,
    /// Wished candidate.
    pub to: Option<ServerId>,
    /// Rules waived by name.
    pub waived: Vec<Waiver>,
    /// Whether writers may be killed.
    pub kill_writers: bool,
    /// Whose receivers would be stopped.
    pub revoked: Vec<Revoked>,
    /// Semi-sync in force.
    pub semi_sync: Option<(u32, Vec<ServerId>)>,
}

/// The decision as it would be taken on `sets`.
pub fn decide(state: &State, cluster: &Cluster, wish: &Wish, sets: &Sets) -> Result<Decision, Refusal> {
    let primary = cluster.primary_member().ok_or_else(|| Refusal::Unknown {
        what: "primary of cluster".into(),
        name: cluster.name().into(),
        near: vec![],
    })?;
    let recovery = Recovery {
        id: 0,
        cluster: cluster.id.clone(),
        kind: wish.kind,
        class: Class::Primary,
        code: None,
        epoch: cluster.epoch,
        old_primary: primary.target(),
        requested_by: None,
        waived: wish.waived.clone(),
        to: wish.to.clone(),
        kill_writers: wish.kill_writers,
        evidence: vec![],
        revoked: wish.revoked.clone(),
        semi_sync: wish.semi_sync.clone(),
        owner: (0, 0),
        side_effects: false,
        phase: Phase::Started,
        decision: None,
        steps: vec![],
        started_ms: state.log_time_ms,
        started_wall_ms: 0,
        ending: None,
        reason: String::new(),
        ended_ms: None,
        ended_wall_ms: None,
        left_behind: vec![],
        acknowledged: None,
        undo: None,
        supersedes: None,
        passed_over: vec![],
        voters: vec![],
    };
    choose::decide(state, &recovery, sets)
}

/// The stages that would follow, in order; the steps of one stage run side by side.
pub fn stages(
    state: &State,
    cluster: &Cluster,
    wish: &Wish,
    decision: &Decision,
) -> Vec<(String, Vec<Step>)> {
    let Some(old) = cluster.primary_member().map(|m| m.target()) else { return Vec::new() };
    let step = |target: &crate::core::plan::step::Target, action| Step { target: target.clone(), action };
    let candidate = &decision.candidate;
    let policy = &state.policy;
    let mut stages = Vec::new();
    if wish.kind == Kind::Switchover {
        let lock_wait_s = policy.switchover_pause_ms.div_ceil(1_000).max(1);
        stages.push(("fence".into(), vec![step(&old, Action::MakeReadOnly { lock_wait_s })]));
    } else {
        let mut steps = vec![step(&old, Action::Fence)];
        steps.extend(
            wish.revoked.iter().map(|r| step(&r.target, Action::StopReceiver { channel: r.channel.clone() })),
        );
        stages.push(("revoke and fence".into(), steps));
    }
    let (channel, until) = (decision.channel.clone(), decision.must_hold.clone());
    stages.push((
        "drain".into(),
        vec![step(candidate, Action::Drain { channel: channel.clone(), until: until.clone() })],
    ));
    let point = |wait: bool, acker: Option<bool>, channel: &str| Action::Point {
        channel: channel.to_owned(),
        options: SourceOptions {
            source: candidate.address.clone(),
            heartbeat_ms: policy.heartbeat_ms,
            connect_retry_s: policy.connect_retry_s,
            gtid_slave_pos: None,
        },
        semi_sync_replica: acker,
        wait,
    };
    if let Some(acks) = decision.semi_sync_acks {
        let mut steps = vec![step(candidate, Action::EnableSemiSyncSource { acks })];
        steps.extend(decision.ackers.iter().map(|a| step(&a.target, point(true, Some(true), &a.channel))));
        stages.push(("ackers".into(), steps));
    }
    stages.push(("detach".into(), vec![step(candidate, Action::Detach { channel, until })]));
    let must_hold = decision.must_hold.clone();
    stages.push(("writable".into(), vec![step(candidate, Action::MakeWritable { must_hold })]));
    if policy.verify_by_write {
        let verify = Action::VerifyWrite { recovery: "new".into(), epoch: cluster.epoch + 1 };
        stages.push(("verify".into(), vec![step(candidate, verify)]));
    }
    let acker = decision.semi_sync_acks.map(|_| true);
    let repoint: Vec<Step> =
        decision.siblings.iter().map(|s| step(&s.target, point(true, acker, &s.channel))).collect();
    if !repoint.is_empty() {
        stages.push(("re-point".into(), repoint));
    }
    stages
}
