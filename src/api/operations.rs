//! Service `Operations`: what people set beside the policy.

use tonic::Status;

use super::{
    convert::{
        alias_of,
        cluster::{block, pause, switch},
    },
    desk::{Desk, Mutation, found},
    forward::service,
    status::{bad_field, check_words},
};
use crate::{
    core::replicated::Change,
    model::policy::PromotionRule,
    proto::v1::{self as pb, operations_client::OperationsClient, operations_server},
};

/// The service.
pub struct Operations {
    /// Where its calls arrive.
    pub desk: Desk,
}

service!(Operations: operations_server::Operations, OperationsClient<crate::api::backend::LeaderChannel> {
    set_recoveries(SetRecoveriesRequest) -> Changed;
    set_downtime(SetDowntimeRequest) -> Changed;
    set_maintenance(SetMaintenanceRequest) -> Changed;
    set_promotion_rule(SetPromotionRuleRequest) -> Changed;
    get_settings(GetSettingsRequest) -> Settings;
});

async fn set_recoveries(desk: Desk, input: pb::SetRecoveriesRequest) -> Result<pb::Changed, Status> {
    let pb::SetRecoveriesRequest { cluster, enabled, why, request_id, validate_only, by } = input;
    let mutation = Mutation { request_id: &request_id, validate_only, by: &by };
    if !enabled || !why.is_empty() {
        check_words("why", &why, "say why recoveries are disabled")?;
    }
    let effect = desk.mutate(mutation, |state| {
        let cluster = match cluster.is_empty() {
            true => None,
            false => Some(found(state.find_cluster(&cluster))?.id.clone()),
        };
        Ok(Change::SetRecoveries { cluster, enabled, why })
    });
    Ok(effect.await?.changed())
}

async fn set_downtime(desk: Desk, input: pb::SetDowntimeRequest) -> Result<pb::Changed, Status> {
    let pb::SetDowntimeRequest { server, for_ms, why, request_id, validate_only, by } = input;
    check_pause(for_ms, &why)?;
    let mutation = Mutation { request_id: &request_id, validate_only, by: &by };
    let effect = desk.mutate(mutation, |state| {
        let server = found(state.find_server(&server))?.1.server.clone();
        Ok(Change::SetDowntime { server, for_ms: (for_ms > 0).then_some(for_ms), why })
    });
    Ok(effect.await?.changed())
}

async fn set_maintenance(desk: Desk, input: pb::SetMaintenanceRequest) -> Result<pb::Changed, Status> {
    let pb::SetMaintenanceRequest { cluster, for_ms, why, request_id, validate_only, by } = input;
    check_pause(for_ms, &why)?;
    let mutation = Mutation { request_id: &request_id, validate_only, by: &by };
    let effect = desk.mutate(mutation, |state| {
        let cluster = found(state.find_cluster(&cluster))?.id.clone();
        Ok(Change::SetMaintenance { cluster, for_ms: (for_ms > 0).then_some(for_ms), why })
    });
    Ok(effect.await?.changed())
}

fn check_pause(for_ms: u64, why: &str) -> Result<(), Status> {
    match for_ms > 0 || !why.is_empty() {
        true => check_words("why", why, "say why"),
        false => Ok(()),
    }
}

async fn set_promotion_rule(desk: Desk, input: pb::SetPromotionRuleRequest) -> Result<pb::Changed, Status> {
    let pb::SetPromotionRuleRequest { server, rule, for_ms, request_id, validate_only, by } = input;
    let rule = PromotionRule::from_name(&rule).ok_or_else(|| {
        bad_field("rule", format!("`{rule}` is none of must, prefer, neutral, prefer_not, must_not"))
    })?;
    let mutation = Mutation { request_id: &request_id, validate_only, by: &by };
    let effect = desk.mutate(mutation, |state| {
        let server = found(state.find_server(&server))?.1.server.clone();
        Ok(Change::SetPromotionRule { server, rule, for_ms: (for_ms > 0).then_some(for_ms) })
    });
    Ok(effect.await?.changed())
}

async fn get_settings(desk: Desk, _input: pb::GetSettingsRequest) -> Result<pb::Settings, Status> {
    Ok(desk.look(|state| {
        let now = state.log_time_ms;
        let address = |server: &crate::model::server::ServerId| {
            let member = state.cluster_of(server).and_then(|c| c.members.get(server));
            member.map(|m| m.address.to_string()).unwrap_or_default()
        };
        let off = state.clusters.values().filter(|c| !c.recoveries.enabled);
        pb::Settings {
            recoveries: Some(switch(&state.recoveries_switch)),
            clusters: off
                .map(|c| pb::ClusterSwitch {
                    cluster: c.id.0.clone(),
                    alias: c.alias.clone().unwrap_or_default(),
                    recoveries: Some(switch(&c.recoveries)),
                })
                .collect(),
            downtimes: state
                .downtimes
                .iter()
                .map(|(server, p)| pb::ServerPause {
                    server: server.0.clone(),
                    address: address(server),
                    pause: Some(pause(p, now)),
                })
                .collect(),
            maintenance: state
                .maintenance
                .iter()
                .map(|(id, p)| pb::ClusterPause {
                    cluster: id.0.clone(),
                    alias: alias_of(state, id),
                    pause: Some(pause(p, now)),
                })
                .collect(),
            rules: state
                .rules
                .iter()
                .map(|(server, r)| pb::ServerRule {
                    server: server.0.clone(),
                    address: address(server),
                    rule: r.rule.name().to_owned(),
                    by: r.by.clone(),
                    left_ms: r.until_ms.map(|until| until.saturating_sub(now)),
                })
                .collect(),
            blocks: state.blocks.values().map(|b| block(state, b)).collect(),
        }
    }))
}
