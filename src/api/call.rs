//! What the API knows of a request before it answers it: whether it must go to the leader, whether it may be tried
//! again, who asks.

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Status, metadata::MetadataMap};
use webpki::EndEntityCert;

use super::status::bad_field;
use crate::proto::v1 as pb;

/// Longest `request_id` and `by`.
const NAME_MAX: usize = 64;
/// Longest `by` once the name of a certificate was added.
const CERTIFIED_MAX: usize = 160;

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
    fn complete(&mut self, _caller: &Caller) -> Result<(), Status> {
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
            fn complete(&mut self, caller: &Caller) -> Result<(), Status> {
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
            fn complete(&mut self, caller: &Caller) -> Result<(), Status> {
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

/// Who asks, as the audit trail will say it: what the client says is kept, and what its certificate says is added.
fn complete_by(by: &mut String, caller: &Caller) -> Result<(), Status> {
    if caller.port == Port::Nodes {
        // Completed by the node it came through, which the gate has let in.
        return check_length("by", by, CERTIFIED_MAX);
    }
    check_length("by", by, NAME_MAX)?;
    match &caller.certified {
        Some(name) if by.is_empty() => name.clone_into(by),
        Some(name) if by != name => *by = format!("{by} (certificate of {name})"),
        Some(_) => {}
        None if by.is_empty() => caller.name.clone_into(by),
        None => {}
    }
    Ok(())
}

fn complete_request_id(id: &mut String) -> Result<(), Status> {
    if id.is_empty() {
        *id = uuid::Uuid::new_v4().to_string();
    }
    check_length("request_id", id, NAME_MAX)
}

fn check_length(field: &str, text: &str, most: usize) -> Result<(), Status> {
    let plain = text.len() <= most && !text.chars().any(char::is_control);
    match plain {
        true => Ok(()),
        false => {
            Err(bad_field(field, format!("at most {most} characters, none of them a control character")))
        }
    }
}

/// The port a request came in by. What a caller may say of itself depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Anybody; with mutual TLS, whoever has a certificate of the clients' authority.
    Clients,
    /// Members of the group, which pass their clients' calls on; the gate has checked each.
    Nodes,
}

/// Where a request came from, besides its message.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Through which port.
    pub port: Port,
    /// The client's address in words, for `by`.
    pub name: String,
    /// The name in the client's certificate, where it has one.
    pub certified: Option<String>,
    /// The client's own bound, if it named one.
    pub timeout: Option<std::time::Duration>,
}

impl Caller {
    /// Reads it from a request.
    pub fn of<T>(request: &Request<T>, port: Port) -> Self {
        let name = match request.remote_addr() {
            Some(address) => format!("client at {address}"),
            None => "a local client".to_owned(),
        };
        let certified = match port {
            Port::Clients => request.peer_certs().and_then(|chain| chain.first().map(name_in)),
            Port::Nodes => None,
        };
        Self { port, name, certified, timeout: grpc_timeout(request.metadata()) }
    }

    /// Whether another node passed it on: it is answered here or not at all. Nobody else's word is taken for that.
    pub fn forwarded(&self) -> bool {
        self.port == Port::Nodes
    }
}

/// The first name of a certificate, or its fingerprint where it bears none that can be read. Its chain was checked by
/// the handshake.
fn name_in(certificate: &CertificateDer<'static>) -> String {
    let named = EndEntityCert::try_from(certificate)
        .ok()
        .and_then(|certificate| certificate.valid_dns_names().next().map(str::to_owned));
    let mut name = named.unwrap_or_else(|| {
        let hash = Sha256::digest(certificate);
        let start: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("sha256 {start}")
    });
    name.truncate(name.floor_char_boundary(NAME_MAX));
    name
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
        request.complete(&caller(None, Port::Clients)).unwrap();
        assert_eq!(request.request_id.len(), 36);
        assert_eq!(request.by, "client at 10.0.0.1:5");
        request.request_id = "x".repeat(65);
        let status = request.complete(&caller(None, Port::Clients)).unwrap_err();
        assert!(status.message().contains("`request_id`"), "{status}");
    }

    fn caller(certified: Option<&str>, port: Port) -> Caller {
        Caller {
            port,
            name: "client at 10.0.0.1:5".into(),
            certified: certified.map(str::to_owned),
            timeout: None,
        }
    }

    #[test]
    fn a_certificate_has_the_last_word_on_who_asks() {
        let by = |said: &str, certified, port| {
            let mut by = said.to_owned();
            complete_by(&mut by, &caller(certified, port)).map(|()| by).map_err(|s| s.message().to_owned())
        };
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(by("", Some("anna"), Port::Clients), ok("anna"));
        assert_eq!(by("anna", Some("anna"), Port::Clients), ok("anna"));
        assert_eq!(by("bert@db1", Some("anna"), Port::Clients), ok("bert@db1 (certificate of anna)"));
        assert_eq!(by("bert@db1", None, Port::Clients), ok("bert@db1"));
        // What another node completed stays as it is, longer than a client may say it.
        let completed = format!("{} (certificate of {})", "b".repeat(64), "a".repeat(64));
        assert_eq!(by(&completed, None, Port::Nodes), ok(&completed));
        assert!(by(&completed, Some("anna"), Port::Clients).is_err());
    }
}
