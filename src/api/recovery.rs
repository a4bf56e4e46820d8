//! Service `Recovery`: records, role changes, plans, explanations.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::{
    backend::Wish,
    convert::{
        alias_of,
        cluster::{against, stage_name, standing_blocks},
        explain::{agreement, no_verdict},
        plan::plan,
        recovery::{record, waiver_from},
    },
    desk::{Desk, Mutation, found},
    forward::service,
    status::{as_message, bad_field, check_words, refused},
};
use crate::{
    core::replicated::{
        Change, Kind, OrderStage, Outcome, Refusal, State, command::AckScope, orders::quarantine_text,
        recovery::Waiver,
    },
    model::server::{ClusterId, ServerId},
    proto::v1::{self as pb, acknowledge_request::Scope, recovery_client::RecoveryClient, recovery_server},
};

/// Most recoveries in one answer.
const LIST_MAX: u32 = 1_000;
/// Most rules that one call waives: there are fewer.
const WAIVERS_MAX: usize = 16;
/// Longest wait of one call.
const WAIT_MAX_MS: u32 = 30_000;

/// The service.
pub struct Recovery {
    /// Where its calls arrive.
    pub desk: Desk,
}

service!(Recovery: recovery_server::Recovery, RecoveryClient<crate::api::backend::LeaderChannel> {
    list_recoveries(ListRecoveriesRequest) -> ListRecoveriesResponse;
    get_recovery(GetRecoveryRequest) -> RecoveryRecord;
    wait_recovery(WaitRecoveryRequest) -> RecoveryRecord;
    acknowledge(AcknowledgeRequest) -> AcknowledgeResponse;
    failover(FailoverRequest) -> OperationResponse;
    switchover(SwitchoverRequest) -> OperationResponse;
    get_plan(GetPlanRequest) -> Plan;
    explain(ExplainRequest) -> ExplainResponse;
});

async fn list_recoveries(
    desk: Desk,
    input: pb::ListRecoveriesRequest,
) -> Result<pb::ListRecoveriesResponse, Status> {
    if input.limit > LIST_MAX {
        return Err(bad_field("limit", format!("at most {LIST_MAX}")));
    }
    let limit = if input.limit == 0 { 100 } else { input.limit } as usize;
    let before = if input.before == 0 { u64::MAX } else { input.before };
    desk.look(|state| {
        let cluster = match input.cluster.is_empty() {
            true => None,
            false => Some(found(state.find_cluster(&input.cluster))?.id.clone()),
        };
        let wanted = state
            .recoveries
            .range(..before)
            .rev()
            .map(|(_, recovery)| recovery)
            .filter(|r| cluster.as_ref().is_none_or(|id| &r.cluster == id));
        let recoveries = wanted.take(limit).map(|r| record(state, r)).collect();
        Ok(pb::ListRecoveriesResponse { recoveries })
    })
}

async fn get_recovery(desk: Desk, input: pb::GetRecoveryRequest) -> Result<pb::RecoveryRecord, Status> {
    record_of(&desk, input.recovery)
}

fn record_of(desk: &Desk, id: u64) -> Result<pb::RecoveryRecord, Status> {
    desk.look(|state| match state.recoveries.get(&id) {
        Some(recovery) => Ok(record(state, recovery)),
        None => Err(refused(&unknown_recovery(state, id))),
    })
}

fn unknown_recovery(state: &State, id: u64) -> Refusal {
    let newest = state.recoveries.keys().rev().take(3).map(u64::to_string).collect();
    Refusal::Unknown { what: "recovery".into(), name: id.to_string(), near: newest }
}

/// Follows this node's copy of the log, so that a change of the leader does not end the wait.
async fn wait_recovery(desk: Desk, input: pb::WaitRecoveryRequest) -> Result<pb::RecoveryRecord, Status> {
    if input.timeout_ms > WAIT_MAX_MS {
        return Err(bad_field("timeout_ms", format!("at most {WAIT_MAX_MS}")));
    }
    let bound = if input.timeout_ms == 0 { 10_000 } else { input.timeout_ms };
    let until = Instant::now() + Duration::from_millis(bound.into());
    let mut applied = desk.backend.applied();
    loop {
        applied.mark_unchanged();
        let ended = desk.look(|state| state.recoveries.get(&input.recovery).is_some_and(|r| !r.running()));
        if ended || !matches!(timeout_at(until, applied.changed()).await, Ok(Ok(()))) {
            return record_of(&desk, input.recovery);
        }
    }
}

async fn acknowledge(desk: Desk, input: pb::AcknowledgeRequest) -> Result<pb::AcknowledgeResponse, Status> {
    let pb::AcknowledgeRequest { scope, comment, request_id, validate_only, by } = input;
    check_words("comment", &comment, "say what was found, for those who come after")?;
    let mutation = Mutation { request_id: &request_id, validate_only, by: &by };
    let effect = desk.mutate(mutation, |state| {
        let scope = match scope {
            Some(Scope::Recovery(id)) if state.recoveries.contains_key(&id) => AckScope::Recovery(id),
            Some(Scope::Recovery(id)) => return Err(refused(&unknown_recovery(state, id))),
            Some(Scope::Cluster(name)) => AckScope::Cluster(found(state.find_cluster(&name))?.id.clone()),
            Some(Scope::All(true)) => AckScope::All,
            Some(Scope::All(false)) => return Err(bad_field("all", "must be true where it is given")),
            None => return Err(bad_field("scope", "name a recovery, a cluster, or all")),
        };
        Ok(Change::Acknowledge { scope, comment })
    });
    let effect = effect.await?;
    Ok(pb::AcknowledgeResponse { acknowledged: effect.acknowledged, log_index: effect.index })
}

async fn failover(desk: Desk, input: pb::FailoverRequest) -> Result<pb::OperationResponse, Status> {
    let pb::FailoverRequest { cluster, to, waive, request_id, validate_only, by } = input;
    let mut waived = Vec::new();
    if waive.len() > WAIVERS_MAX {
        return Err(bad_field("waive", format!("at most {WAIVERS_MAX} rules")));
    }
    for number in waive {
        let waiver = waiver_from(number).ok_or_else(|| bad_field("waive", "an unknown rule"))?;
        waived.push(waiver);
    }
    let ask = Ask { kind: Kind::Forced, waived, kill_writers: false, cluster: &cluster, to: &to };
    operate(desk, ask, Mutation { request_id: &request_id, validate_only, by: &by }).await
}

async fn switchover(desk: Desk, input: pb::SwitchoverRequest) -> Result<pb::OperationResponse, Status> {
    let pb::SwitchoverRequest { cluster, to, kill_writers, request_id, validate_only, by } = input;
    let ask = Ask { kind: Kind::Switchover, waived: vec![], kill_writers, cluster: &cluster, to: &to };
    operate(desk, ask, Mutation { request_id: &request_id, validate_only, by: &by }).await
}

/// A role change as the client words it.
struct Ask<'a> {
    kind: Kind,
    waived: Vec<Waiver>,
    kill_writers: bool,
    cluster: &'a str,
    to: &'a str,
}

async fn operate(desk: Desk, ask: Ask<'_>, mutation: Mutation<'_>) -> Result<pb::OperationResponse, Status> {
    match desk.replayed(mutation.request_id) {
        Some(Outcome::Done { id, .. }) => return Ok(started(record_of(&desk, id)?)),
        Some(Outcome::Refused(refusal)) => return Err(refused(&refusal)),
        _ => {}
    }
    let wish = desk.look(|state| wish(state, ask))?;
    if mutation.validate_only {
        let mut plan = planned(&desk, &wish).await?;
        plan.blocked_by.extend(unproven(&desk, &wish).await?);
        return Ok(pb::OperationResponse { recovery: None, plan: Some(plan) });
    }
    let id = desk.backend.start(&wish, mutation.by, Some(mutation.request_id)).await?;
    Ok(started(record_of(&desk, id)?))
}

/// What the nodes' verdicts have against it: a forced failover needs those of a majority, unless that is waived.
async fn unproven(desk: &Desk, wish: &Wish) -> Result<Option<pb::Refusal>, Status> {
    if wish.kind != Kind::Forced || wish.waived.contains(&Waiver::Verdict) {
        return Ok(None);
    }
    let testimonies = desk.backend.testimonies(&wish.cluster).await;
    desk.look(|state| {
        let cluster = found(state.find_cluster(&wish.cluster.0))?;
        Ok(no_verdict(state, cluster, &testimonies).as_ref().map(as_message))
    })
}

fn started(recovery: pb::RecoveryRecord) -> pb::OperationResponse {
    pb::OperationResponse { recovery: Some(recovery), plan: None }
}

/// Names resolved: the wished candidate must be another member of that very cluster.
fn wish(state: &State, ask: Ask<'_>) -> Result<Wish, Status> {
    let cluster = found(state.find_cluster(ask.cluster))?;
    let mut to: Option<ServerId> = None;
    if !ask.to.is_empty() {
        let (of, member) = found(state.find_server(ask.to))?;
        if of.id != cluster.id {
            let why =
                format!("{} belongs to cluster {}, not to {}", member.address, of.name(), cluster.name());
            return Err(bad_field("to", why));
        }
        if cluster.primary.as_ref() == Some(&member.server) {
            return Err(bad_field("to", format!("{} is the primary already", member.address)));
        }
        to = Some(member.server.clone());
    }
    let (kind, waived, kill_writers) = (ask.kind, ask.waived, ask.kill_writers);
    Ok(Wish { kind, cluster: cluster.id.clone(), to, waived, kill_writers })
}

async fn planned(desk: &Desk, wish: &Wish) -> Result<pb::Plan, Status> {
    let view = desk.backend.plan(wish).await?;
    let index = *desk.backend.applied().borrow();
    desk.look(|state| {
        let cluster = found(state.find_cluster(&wish.cluster.0))?;
        Ok(plan(cluster, wish.kind, &view, index))
    })
}

fn if_it_died(cluster: &ClusterId) -> Wish {
    let cluster = cluster.clone();
    Wish { kind: Kind::Failover, cluster, to: None, waived: vec![], kill_writers: false }
}

async fn get_plan(desk: Desk, input: pb::GetPlanRequest) -> Result<pb::Plan, Status> {
    let id = desk.look(|state| found(state.find_cluster(&input.cluster)).map(|c| c.id.clone()))?;
    planned(&desk, &if_it_died(&id)).await
}

async fn explain(desk: Desk, input: pb::ExplainRequest) -> Result<pb::ExplainResponse, Status> {
    let id = desk.look(|state| found(state.find_cluster(&input.cluster)).map(|c| c.id.clone()))?;
    let testimonies = desk.backend.testimonies(&id).await;
    let (plan, plan_refusal) = match planned(&desk, &if_it_died(&id)).await {
        Ok(plan) => (Some(plan), None),
        Err(why) => (None, Some(refusal_of(&why))),
    };
    let log_index = *desk.backend.applied().borrow();
    desk.look(|state| {
        let cluster = found(state.find_cluster(&id.0))?;
        let (witnesses, agreement) = agreement(state, cluster, &testimonies);
        Ok(pb::ExplainResponse {
            cluster: id.0.clone(),
            alias: alias_of(state, &id),
            primary: cluster.primary_member().map(|m| m.address.to_string()).unwrap_or_default(),
            primary_epoch: cluster.epoch,
            witnesses,
            agreement: Some(agreement),
            blocks: standing_blocks(state, cluster),
            against: against(state, cluster),
            recovery: cluster.slot,
            orders: orders(state, &id),
            plan,
            plan_refusal,
            log_index,
        })
    })
}

fn refusal_of(why: &Status) -> pb::Refusal {
    let info = super::status::error_info(why).unwrap_or_default();
    pb::Refusal { reason: info.reason, text: why.message().to_owned(), metadata: info.metadata }
}

fn orders(state: &State, cluster: &ClusterId) -> Vec<pb::StandingOrder> {
    let of_cluster = state.orders.values().filter(|order| &order.cluster == cluster);
    of_cluster
        .map(|order| pb::StandingOrder {
            id: order.id,
            server: order.target.address.to_string(),
            stage: stage_name(&order.stage).to_owned(),
            recovery: order.recovery,
            text: match &order.stage {
                OrderStage::Waiting => "is fenced by whichever node hears it first".into(),
                OrderStage::Fenced => "was seen read-only; its transactions are being compared".into(),
                OrderStage::Rejoining => "is being pointed at the primary".into(),
                OrderStage::Quarantined { errant, why } => quarantine_text(errant, why),
                OrderStage::Rejoined => "replicates again".into(),
            },
        })
        .collect()
}
