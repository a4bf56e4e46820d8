//! Plans.

use super::{
    Addresses,
    recovery::{considered, kind},
};
use crate::{
    api::{backend::PlanView, status::as_message},
    core::{
        plan::step::{Action, Step},
        replicated::{Cluster, Kind},
    },
    proto::v1 as pb,
};

/// A plan for people.
pub fn plan(cluster: &Cluster, of: Kind, view: &PlanView, log_index: u64) -> pb::Plan {
    let addresses = Addresses::of(Some(cluster));
    let lost = view.lost.as_ref().filter(|lost| !lost.is_empty());
    pb::Plan {
        cluster: cluster.id.0.clone(),
        alias: cluster.alias.clone().unwrap_or_default(),
        kind: kind(of).into(),
        old_primary: addresses.name(&view.old_primary),
        new_primary: view.candidate.as_ref().map(|c| addresses.name(c)).unwrap_or_default(),
        considered: view.considered.iter().map(considered).collect(),
        lost: lost.map(ToString::to_string).unwrap_or_default(),
        steps: steps(&view.stages),
        blocked_by: view.refused_by.iter().map(as_message).collect(),
        warnings: view.warnings.clone(),
        generation: cluster.generation,
        primary_epoch: cluster.epoch,
        log_index,
    }
}

fn steps(stages: &[(String, Vec<Step>)]) -> Vec<pb::PlannedStep> {
    let numbered = stages.iter().zip(1..);
    numbered
        .flat_map(|((name, steps), stage)| {
            steps.iter().map(move |step| pb::PlannedStep {
                stage,
                stage_name: name.clone(),
                step: step.action.name().to_owned(),
                server: step.target.address.to_string(),
                text: action_text(&step.action),
            })
        })
        .collect()
}

/// What a step does, with its parameters, for people.
fn action_text(action: &Action) -> String {
    let channel_text = |channel: &str| match channel {
        "" => String::new(),
        name => format!(" of channel `{name}`"),
    };
    match action {
        Action::StopReceiver { channel } => format!("stop the receiver{}", channel_text(channel)),
        Action::StartReceiver { channel } => format!("start the receiver{}", channel_text(channel)),
        Action::RestartReceiver { channel } => {
            format!("restart the receiver as a witness{}", channel_text(channel))
        }
        Action::ReadFacts => "read its sets and settings".into(),
        Action::Fence => "make it refuse client writes".into(),
        Action::Unfence { .. } => "accept client writes again".into(),
        Action::Drain { until, .. } if until.is_empty() => "apply all it received".into(),
        Action::Drain { until, .. } => format!("apply all it received, at least {until}"),
        Action::Detach { until, .. } if until.is_empty() => "forget its source".into(),
        Action::Detach { until, .. } => format!("forget its source once {until} is applied"),
        Action::Point { options, .. } => format!("replicate from {}", options.source),
        Action::EnableSemiSyncSource { acks } => format!("semi-sync source on, {acks} acknowledgements"),
        Action::DisableSemiSyncSource => "semi-sync source off".into(),
        Action::MakeWritable { .. } => "read_only off".into(),
        Action::MakeReadOnly { lock_wait_s } => {
            format!("read_only on, waiting at most {lock_wait_s} s for running statements")
        }
        Action::VerifyWrite { .. } => "prove that writes work".into(),
        Action::ListBlockers { older_than_ms } => {
            format!("look for statements and transactions older than {older_than_ms} ms")
        }
        Action::KillWriters => {
            "end client sessions that hold transactions open, run statements or hold tables".into()
        }
        Action::KillPredecessors => "end the sessions of other nodes' executors".into(),
    }
}
