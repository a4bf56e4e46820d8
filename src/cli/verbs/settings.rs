//! What people set: switches, pauses, rules, names, policy.

use tonic::transport::Channel;

use super::{ask, topology};
use crate::{
    cli::{
        Printer,
        args::{OnOff, PauseArgs, PolicyVerb, Rule, Verb},
        connect::Session,
        duration::span,
        error::{CliError, EXIT_FAILED},
        json, show,
    },
    model::near::near,
    proto::v1::{self as pb, operations_client::OperationsClient, policy_client::PolicyClient},
};

fn operations(channel: Channel) -> OperationsClient<Channel> {
    OperationsClient::new(channel)
}

fn policy(channel: Channel) -> PolicyClient<Channel> {
    PolicyClient::new(channel)
}

/// Runs one of these verbs.
pub async fn run(session: &mut Session, out: &Printer, verb: Verb) -> Result<(), CliError> {
    let (request_id, by) = (session.request_id.clone(), session.by.clone());
    let changed = match verb {
        Verb::Settings => return settings(session, out).await,
        Verb::Policy(verb) => return policy_verb(session, out, verb).await,
        Verb::Forget { cluster: Some(cluster), .. } if cluster.contains(':') => {
            return Err(CliError::usage(format!(
                "{cluster} is the address of a server: `quorate forget --server {cluster}` forgets that server; to forget \
             a whole cluster, name it by its alias or id"
            )));
        }
        Verb::Forget { cluster: Some(cluster), dry_run, .. } => {
            let request = pb::ForgetClusterRequest { cluster, request_id, validate_only: dry_run, by };
            ask!(session, topology, forget_cluster, request)
        }
        Verb::Forget { server, dry_run, .. } => {
            let server = server.unwrap_or_default();
            let request = pb::ForgetServerRequest { server, request_id, validate_only: dry_run, by };
            ask!(session, topology, forget_server, request)
        }
        Verb::Alias { cluster, alias, .. } => {
            let alias = alias.unwrap_or_default();
            let request = pb::SetAliasRequest { cluster, alias, request_id, validate_only: false, by };
            ask!(session, topology, set_alias, request)
        }
        Verb::Confirm { server } => {
            let request = pb::ConfirmMemberRequest { server, request_id, validate_only: false, by };
            ask!(session, topology, confirm_member, request)
        }
        Verb::RecoveriesEnabled { switch, cluster, why } => {
            let (enabled, cluster) = (switch == OnOff::On, cluster.unwrap_or_default());
            if !enabled && why.is_empty() {
                return Err(CliError::usage("say why recoveries are disabled: --why '...'"));
            }
            let request =
                pb::SetRecoveriesRequest { cluster, enabled, why, request_id, validate_only: false, by };
            ask!(session, operations, set_recoveries, request)
        }
        Verb::Downtime { server, pause } => {
            let (for_ms, why) = pause_of(pause);
            let request =
                pb::SetDowntimeRequest { server, for_ms, why, request_id, validate_only: false, by };
            ask!(session, operations, set_downtime, request)
        }
        Verb::Maintenance { cluster, pause } => {
            let (for_ms, why) = pause_of(pause);
            let request =
                pb::SetMaintenanceRequest { cluster, for_ms, why, request_id, validate_only: false, by };
            ask!(session, operations, set_maintenance, request)
        }
        Verb::PromotionRule { server, rule, for_ } => {
            let (rule, for_ms) = (rule_name(rule).to_owned(), for_.map(|span| span.ms()).unwrap_or_default());
            let request =
                pb::SetPromotionRuleRequest { server, rule, for_ms, request_id, validate_only: false, by };
            ask!(session, operations, set_promotion_rule, request)
        }
        _ => return Err(CliError::usage("not a setting")),
    };
    let changed = changed?;
    out.print(|| json::changed(&changed), |_| show::changed(&changed))
}

fn pause_of(pause: PauseArgs) -> (u64, String) {
    (pause.for_.map(|span| span.ms()).unwrap_or_default(), pause.why.unwrap_or_default())
}

fn rule_name(rule: Rule) -> &'static str {
    match rule {
        Rule::Must => "must",
        Rule::Prefer => "prefer",
        Rule::Neutral => "neutral",
        Rule::PreferNot => "prefer_not",
        Rule::MustNot => "must_not",
    }
}

async fn settings(session: &mut Session, out: &Printer) -> Result<(), CliError> {
    let all = ask!(session, operations, get_settings, pb::GetSettingsRequest { stale: session.stale })?;
    out.print(|| json::settings(&all), |_| show::lists::settings(&all))
}

async fn policy_verb(session: &mut Session, out: &Printer, verb: PolicyVerb) -> Result<(), CliError> {
    let document = match &verb {
        PolicyVerb::Get { keys, changed } => {
            let mut document =
                ask!(session, policy, get_policy, pb::GetPolicyRequest { stale: session.stale })?;
            let unknown = keys.iter().find(|key| !document.settings.iter().any(|s| &s.key == *key));
            if let Some(key) = unknown {
                return Err(unknown_key(key, &document));
            }
            document.settings.retain(|setting| {
                (keys.is_empty() || keys.contains(&setting.key))
                    && (!changed || setting.value != setting.default_value)
            });
            document
        }
        PolicyVerb::Set { settings, if_version, dry_run } => {
            let settings = settings.iter().map(|text| setting(text)).collect::<Result<_, _>>()?;
            let request = pb::SetPolicyRequest {
                version: *if_version,
                settings,
                request_id: session.request_id.clone(),
                validate_only: *dry_run,
                by: session.by.clone(),
            };
            ask!(session, policy, set_policy, request)?
        }
    };
    out.print(|| json::policy(&document), |paint| show::lists::policy(&document, &verb, paint))
}

/// As the node says it of a key that is to be set.
fn unknown_key(key: &str, document: &pb::PolicyDocument) -> CliError {
    let near = near(key, document.settings.iter().map(|setting| setting.key.clone()));
    let hint = match near.is_empty() {
        true => "`quorate policy get` lists them".to_owned(),
        false => format!("did you mean {}?", near.join(", ")),
    };
    CliError::new(EXIT_FAILED, "INVALID_ARGUMENT", format!("`{key}`: no policy key has this name; {hint}"))
}

/// `KEY=VALUE`: JSON as it is, a time in the unit that the key names, else a plain word.
fn setting(text: &str) -> Result<pb::Setting, CliError> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(CliError::usage(format!("`{text}`: write KEY=VALUE")));
    };
    let is_json = serde_json::from_str::<serde_json::Value>(value).is_ok();
    let value = match key.rsplit('_').next() {
        _ if is_json => value.to_owned(),
        Some("ms") => timed(key, value, 1)?,
        Some("s") => timed(key, value, 1_000)?,
        _ => serde_json::Value::from(value).to_string(),
    };
    Ok(pb::Setting { key: key.to_owned(), value, default_value: String::new() })
}

fn timed(key: &str, value: &str, unit_ms: u64) -> Result<String, CliError> {
    let ms = span(value).map_err(|why| CliError::usage(format!("policy key `{key}`: {why}")))?.ms();
    match ms % unit_ms {
        0 => Ok((ms / unit_ms).to_string()),
        _ => Err(CliError::usage(format!("policy key `{key}` takes whole seconds, not `{value}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_answered_with_near_ones() {
        let setting = |key: &str| pb::Setting { key: key.into(), ..pb::Setting::default() };
        let document = pb::PolicyDocument {
            settings: vec![setting("silence_ms"), setting("rejoin")],
            ..Default::default()
        };
        let told = |key: &str| unknown_key(key, &document).human();
        assert_eq!(
            told("silense_ms"),
            "refused: `silense_ms`: no policy key has this name; did you mean silence_ms?"
        );
        assert!(told("zzz").ends_with("`quorate policy get` lists them"));
    }

    #[test]
    fn a_value_takes_the_unit_of_its_key() {
        for (text, value) in [
            ("silence_ms=1500", "1500"),
            ("silence_ms=2s", "2000"),
            ("lag_s=1m", "60"),
            ("drain_policy=refuse", "\"refuse\""),
            ("rejoin=false", "false"),
            ("datacenters={\"db1\":\"dc1\"}", "{\"db1\":\"dc1\"}"),
        ] {
            assert_eq!(setting(text).unwrap().value, value, "{text}");
        }
        for (text, why) in [
            ("silence_ms", "KEY=VALUE"),
            ("silence_ms=2parsec", "`silence_ms`: `parsec` is no unit"),
            ("lag_s=500ms", "whole seconds"),
        ] {
            assert!(setting(text).unwrap_err().text.contains(why), "{text}");
        }
    }
}
