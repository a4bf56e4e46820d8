//! What the API knows of a request before it answers it: whether it must go to the leader, whether it may be tried
//! again, who asks.

use tonic::{Request, Status, metadata::MetadataMap};

use super::status::bad_field;
use crate::proto::v1 as pb;

/// Set on a call that a follower passes on; such a call is never passed on again.
pub const FORWARDED: &str = "quorate-forwarded";

/// Longest `request_id` and `by`.
const NAME_MAX: usize = 64;

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The leader, after a majority confirmed it.
    Leader,
    /// The leader if there is one, else whoever was asked.
    Preferred,
    /// Whoever was asked.
    Here,
}

/// A request message.
pub trait Input: Clone + Send + Sync + 'static {
    /// Who answers it.
    fn route(&self) -> Route;
    /// Whether a second delivery does no harm.
    fn repeatable(&self) -> bool;
    /// Fills what the client left out and the entry node knows; checks the lengths.
    fn complete(&mut self, _caller: &str) -> Result<(), Status> {
        Ok(())
    }
}

macro_rules! reads {
    ($($request:ident),* $(,)?) => { $(
        impl Input for pb::$request {
            fn route(&self) -> Route {
                if self.stale { Route::Here } else { Route::Leader }
            }
            fn repeatable(&self) -> bool {
                true
            }
        }
    )* };
}

macro_rules! mutations {
    ($($request:ident),* $(,)?) => { $(
        impl Input for pb::$request {
            fn route(&self) -> Route {
                Route::Leader
            }
            fn repeatable(&self) -> bool {
                true
            }
            fn complete(&mut self, caller: &str) -> Result<(), Status> {
                complete_by(&mut self.by, caller)?;
                complete_request_id(&mut self.request_id)
            }
        }
    )* };
}

macro_rules! group_changes {
    ($($request:ident),* $(,)?) => { $(
        impl Input for pb::$request {
            fn route(&self) -> Route {
                Route::Leader
            }
            fn repeatable(&self) -> bool {
                false
            }
            fn complete(&mut self, caller: &str) -> Result<(), Status> {
                complete_by(&mut self.by, caller)
            }
        }
    )* };
}

reads!(
    ListClustersRequest,
    GetClusterRequest,
    ListProblemsRequest,
    ListRecoveriesRequest,
    GetRecoveryRequest,
    GetPlanRequest,
    ExplainRequest,
    GetSettingsRequest,
    GetPolicyRequest,
    ListEventsRequest,
);

mutations!(
    DiscoverRequest,
    ForgetServerRequest,
    ForgetClusterRequest,
    SetAliasRequest,
    ConfirmMemberRequest,
    AcknowledgeRequest,
    FailoverRequest,
    SwitchoverRequest,
    SetRecoveriesRequest,
    SetDowntimeRequest,
    SetMaintenanceRequest,
    SetPromotionRuleRequest,
    SetPolicyRequest,
);

group_changes!(
    AddNodeRequest,
    MakeVoterRequest,
    RemoveNodeRequest,
    ReplaceNodeRequest,
    TransferLeaderRequest,
);

impl Input for pb::StatusRequest {
    fn route(&self) -> Route {
        if self.stale { Route::Here } else { Route::Preferred }
    }
    fn repeatable(&self) -> bool {
        true
    }
}

/// Any node waits over its own copy of the log: a change of the leader does not end the wait.
impl Input for pb::WaitRecoveryRequest {
    fn route(&self) -> Route {
        Route::Here
    }
    fn repeatable(&self) -> bool {
        true
    }
}

/// The first membership is made by the node that is asked; there is no leader yet.
impl Input for pb::InitRequest {
    fn route(&self) -> Route {
        Route::Here
    }
    fn repeatable(&self) -> bool {
        false
    }
}

fn complete_by(by: &mut String, caller: &str) -> Result<(), Status> {
    if by.is_empty() {
        *by = caller.to_owned();
    }
    check_name("by", by)
}

fn complete_request_id(id: &mut String) -> Result<(), Status> {
    if id.is_empty() {
        *id = uuid::Uuid::new_v4().to_string();
    }
    check_name("request_id", id)
}

fn check_name(field: &str, text: &str) -> Result<(), Status> {
    let plain = text.len() <= NAME_MAX && !text.chars().any(char::is_control);
    match plain {
        true => Ok(()),
        false => {
            Err(bad_field(field, format!("at most {NAME_MAX} characters, none of them a control character")))
        }
    }
}

/// Where a request came from, besides its message.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The client's address in words, for `by`.
    pub name: String,
    /// Passed on by another node.
    pub forwarded: bool,
    /// The client's own bound, if it named one.
    pub timeout: Option<std::time::Duration>,
}

impl Caller {
    /// Reads it from a request.
    pub fn of<T>(request: &Request<T>) -> Self {
        let name = match request.remote_addr() {
            Some(address) => format!("client at {address}"),
            None => "a local client".to_owned(),
        };
        let metadata = request.metadata();
        Self { name, forwarded: metadata.contains_key(FORWARDED), timeout: grpc_timeout(metadata) }
    }
}

/// The value of `grpc-timeout`: up to eight digits and a unit.
fn grpc_timeout(metadata: &MetadataMap) -> Option<std::time::Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let nanos_each: u64 = match unit {
        'H' => 3_600_000_000_000,
        'M' => 60_000_000_000,
        'S' => 1_000_000_000,
        'm' => 1_000_000,
        'u' => 1_000,
        'n' => 1,
        _ => return None,
    };
    Some(std::time::Duration::from_nanos(number.saturating_mul(nanos_each)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_bound_is_read() {
        let read = |text: &str| {
            let mut map = MetadataMap::new();
            map.insert("grpc-timeout", text.parse().unwrap());
            grpc_timeout(&map).map(|d| d.as_millis())
        };
        assert_eq!(read("5S"), Some(5_000));
        assert_eq!(read("250m"), Some(250));
        assert_eq!(read("99999999H"), Some(u64::MAX as u128 / 1_000_000));
        assert_eq!(read("5"), None);
        assert_eq!(read("xS"), None);
    }

    #[test]
    fn an_empty_request_id_is_filled_and_a_long_one_is_refused() {
        let mut request = pb::SetAliasRequest::default();
        request.complete("client at 10.0.0.1:5").unwrap();
        assert_eq!(request.request_id.len(), 36);
        assert_eq!(request.by, "client at 10.0.0.1:5");
        request.request_id = "x".repeat(65);
        let status = request.complete("").unwrap_err();
        assert!(status.message().contains("`request_id`"), "{status}");
    }
}
