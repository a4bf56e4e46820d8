//! Service `Policy`: the replicated settings, key by key.

use serde_json::{Map, Value};
use tonic::{Code, Status};

use super::{
    desk::{Desk, Mutation},
    forward::service,
    status::{bad_field, status},
};
use crate::{
    core::replicated::Change,
    model::policy::Policy as Settings,
    proto::v1::{self as pb, policy_client::PolicyClient, policy_server},
};

/// Most settings of one call; there are fewer keys.
const SETTINGS_MAX: usize = 100;

/// The service.
pub struct Policy {
    /// Where its calls arrive.
    pub desk: Desk,
}

service!(Policy: policy_server::Policy, PolicyClient<crate::api::backend::LeaderChannel> {
    get_policy(GetPolicyRequest) -> PolicyDocument;
    set_policy(SetPolicyRequest) -> PolicyDocument;
});

async fn get_policy(desk: Desk, _input: pb::GetPolicyRequest) -> Result<pb::PolicyDocument, Status> {
    Ok(desk.look(|state| document(state.policy_version, &state.policy, 0)))
}

async fn set_policy(desk: Desk, input: pb::SetPolicyRequest) -> Result<pb::PolicyDocument, Status> {
    let pb::SetPolicyRequest { version, settings, request_id, validate_only, by } = input;
    if settings.is_empty() || settings.len() > SETTINGS_MAX {
        return Err(bad_field("settings", format!("name 1 to {SETTINGS_MAX} keys")));
    }
    let mutation = Mutation { request_id: &request_id, validate_only, by: &by };
    let mut wanted = None;
    let effect = desk.mutate(mutation, |state| {
        let policy = merged(&state.policy, &settings)?;
        wanted = Some(policy.clone());
        let version = if version == 0 { state.policy_version } else { version };
        Ok(Change::SetPolicy { version, policy: Box::new(policy) })
    });
    let effect = effect.await?;
    Ok(match wanted.filter(|_| validate_only) {
        Some(policy) => document(desk.look(|state| state.policy_version), &policy, 0),
        None => desk.look(|state| document(state.policy_version, &state.policy, effect.index)),
    })
}

/// The policy with some keys replaced; errors name the key.
fn merged(policy: &Settings, settings: &[pb::Setting]) -> Result<Settings, Status> {
    let mut all = as_map(policy);
    for setting in settings {
        let key = setting.key.as_str();
        if !all.contains_key(key) {
            return Err(unknown_key(key, all.keys()));
        }
        let value = serde_json::from_str(&setting.value)
            .map_err(|error| bad_field(key, format!("`{}` is no JSON value: {error}", setting.value)))?;
        let one = Map::from_iter([(key.to_owned(), value)]);
        // Alone over the defaults: an error of its type names this key and no other.
        serde_json::from_value::<Settings>(Value::Object(one.clone()))
            .map_err(|error| bad_field(key, format!("{error}{}", unit_of(key))))?;
        all.extend(one);
    }
    let policy: Settings =
        serde_json::from_value(Value::Object(all)).map_err(|error| bad_field("settings", error))?;
    match policy.check() {
        Ok(()) => Ok(policy),
        // The text names its key.
        Err(why) => Err(status(
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            why,
            vec![("field", "settings".into())],
            None,
        )),
    }
}

fn unit_of(key: &str) -> &'static str {
    match key.rsplit('_').next() {
        Some("ms") => "; it takes milliseconds as a whole number",
        Some("s") => "; it takes seconds as a whole number",
        _ => "",
    }
}

fn unknown_key<'a>(key: &str, keys: impl Iterator<Item = &'a String>) -> Status {
    let near = crate::model::near::near(key, keys.cloned());
    let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
    bad_field(key, format!("no policy key has this name{hint}"))
}

fn as_map(policy: &Settings) -> Map<String, Value> {
    match serde_json::to_value(policy) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn document(version: u64, policy: &Settings, log_index: u64) -> pb::PolicyDocument {
    let defaults = as_map(&Settings::default());
    let settings = as_map(policy)
        .into_iter()
        .map(|(key, value)| pb::Setting {
            default_value: defaults.get(&key).map(Value::to_string).unwrap_or_default(),
            value: value.to_string(),
            key,
        })
        .collect();
    pb::PolicyDocument { version, settings, log_index }
}
