//! Failures as gRPC statuses: a canonical code, one sentence, and `google.rpc.ErrorInfo` with a stable reason and the
//! numbers, in `grpc-status-details-bin`.

use std::collections::HashMap;

use prost::Message;
use tonic::{Code, Status};

use super::backend::{Failure, GroupTrouble, ServerTrouble};
use crate::{core::replicated::Refusal, model::words::is_plain, proto::v1 as pb};

/// Domain of every reason.
pub const DOMAIN: &str = "quorate";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
pub struct ErrorInfo {
    /// Stable upper-case name.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// `quorate`.
    #[prost(string, tag = "2")]
    pub domain: String,
    /// The numbers.
    #[prost(map = "string, string", tag = "3")]
    pub metadata: HashMap<String, String>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

/// Longest text of a status, and most of all its numbers together, in bytes. They travel in headers, where a byte of the
/// text may take three and its copy among the details, and each number, four thirds; clients take some 16 KB.
const TEXT_MAX: usize = 2_000;
const NUMBERS_MAX: usize = 3_000;
/// Longest number: a list of names, sometimes.
const NUMBER_MAX: usize = 1_000;

/// Cuts a text at a character.
fn cut(text: String, most: usize) -> String {
    match text.len() > most {
        true => format!("{} ...", &text[..text.floor_char_boundary(most)]),
        false => text,
    }
}

/// Cuts numbers, the later ones to what room is left.
fn cut_numbers(metadata: Vec<(&str, String)>) -> HashMap<String, String> {
    let mut room = NUMBERS_MAX;
    let each = metadata.into_iter().map(|(key, value)| {
        let value = cut(value, NUMBER_MAX.min(room));
        room = room.saturating_sub(key.len() + value.len());
        (key.to_owned(), value)
    });
    each.collect()
}

/// Builds a status. `retry_ms`: when it makes sense to try again.
pub fn status(
    code: Code,
    reason: &str,
    text: impl Into<String>,
    metadata: Vec<(&str, String)>,
    retry_ms: Option<u64>,
) -> Status {
    let text = cut(text.into(), TEXT_MAX);
    let info =
        ErrorInfo { reason: reason.to_owned(), domain: DOMAIN.to_owned(), metadata: cut_numbers(metadata) };
    let mut details = vec![any("google.rpc.ErrorInfo", &info)];
    if let Some(ms) = retry_ms {
        let delay = prost_types::Duration {
            seconds: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
            nanos: (ms % 1_000) as i32 * 1_000_000,
        };
        details.push(any("google.rpc.RetryInfo", &RetryInfo { retry_delay: Some(delay) }));
    }
    let whole = RpcStatus { code: code as i32, message: text.clone(), details };
    Status::with_details(code, text, whole.encode_to_vec().into())
}

fn any(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

/// The `ErrorInfo` of a status, if it has one.
pub fn error_info(status: &Status) -> Option<ErrorInfo> {
    let whole = RpcStatus::decode(status.details()).ok()?;
    let info = whole.details.iter().find(|d| d.type_url.ends_with("/google.rpc.ErrorInfo"))?;
    ErrorInfo::decode(info.value.as_slice()).ok()
}

/// A field of a request that makes no sense.
pub fn bad_field(field: &str, why: impl std::fmt::Display) -> Status {
    let text = format!("`{field}`: {why}");
    status(Code::InvalidArgument, "INVALID_ARGUMENT", text, vec![("field", field.to_owned())], None)
}

/// Longest reason or comment: it is kept with what it explains, on every node.
const WORDS_MAX: usize = 1_000;

/// Words that somebody says about what they do; `empty` is what is asked of them.
pub fn check_words(field: &str, words: &str, empty: &str) -> Result<(), Status> {
    if words.trim().is_empty() {
        return Err(bad_field(field, empty));
    }
    match words.chars().nth(WORDS_MAX).is_some() || !words.chars().all(is_plain) {
        true => {
            Err(bad_field(field, format!("at most {WORDS_MAX} characters, none of them a control character")))
        }
        false => Ok(()),
    }
}

/// Nobody leads, as far as this node knows.
pub fn no_leader() -> Status {
    let text = "the group has no leader now: no majority of the nodes can be reached, or an election is under way; \
                nothing was done. `quorate nodes status` shows who is missing";
    status(Code::Unavailable, "NO_LEADER", text, vec![], Some(500))
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        let text = failure.to_string();
        match failure {
            Failure::Refused(refusal) => refused(&refusal),
            Failure::NotLeader { leader } => {
                let metadata = leader.map(|id| ("leader", id.to_string())).into_iter().collect();
                status(Code::Unavailable, "NOT_LEADER", text, metadata, Some(200))
            }
            Failure::NoQuorum => status(
                Code::Unavailable,
                "NO_QUORUM",
                "no majority of the nodes answers, so nothing was done; start or connect the missing ones \
                 (`quorate nodes status`)",
                vec![],
                Some(1_000),
            ),
            Failure::Unknown(why) => status(
                Code::DeadlineExceeded,
                "FATE_UNKNOWN",
                format!(
                    "it was proposed and may take effect now, later or never ({why}); ask again with the same request_id"
                ),
                vec![],
                Some(1_000),
            ),
            Failure::Server { trouble, address, .. } => {
                let (code, reason) = server_trouble(trouble);
                status(code, reason, text, vec![("server", address.to_string())], None)
            }
            Failure::Group { trouble, .. } => {
                let (code, reason) = group_trouble(trouble);
                status(code, reason, text, vec![], None)
            }
            Failure::NotYet(_) => status(Code::Unimplemented, "NOT_IMPLEMENTED", text, vec![], None),
            Failure::Internal(_) => status(Code::Internal, "INTERNAL", text, vec![], None),
        }
    }
}

fn server_trouble(trouble: ServerTrouble) -> (Code, &'static str) {
    match trouble {
        ServerTrouble::Unreachable => (Code::FailedPrecondition, "SERVER_UNREACHABLE"),
        ServerTrouble::LoginFailed => (Code::FailedPrecondition, "LOGIN_FAILED"),
        ServerTrouble::NotAServer => (Code::FailedPrecondition, "NOT_A_SERVER"),
        ServerTrouble::DuplicateId => (Code::FailedPrecondition, "DUPLICATE_SERVER_ID"),
        ServerTrouble::Loop => (Code::FailedPrecondition, "REPLICATION_LOOP"),
    }
}

fn group_trouble(trouble: GroupTrouble) -> (Code, &'static str) {
    match trouble {
        GroupTrouble::AlreadyInitialised => (Code::AlreadyExists, "ALREADY_INITIALISED"),
        GroupTrouble::NotInitialised => (Code::FailedPrecondition, "NOT_INITIALISED"),
        GroupTrouble::NotAMember => (Code::FailedPrecondition, "NOT_A_MEMBER"),
        GroupTrouble::Unreachable => (Code::FailedPrecondition, "NODE_UNREACHABLE"),
        GroupTrouble::OtherNode => (Code::FailedPrecondition, "OTHER_NODE"),
        GroupTrouble::UnknownNode => (Code::NotFound, "NOT_FOUND"),
        GroupTrouble::Refused => (Code::FailedPrecondition, "MEMBERSHIP_REFUSED"),
        GroupTrouble::Busy => (Code::Aborted, "MEMBERSHIP_BUSY"),
    }
}

/// A refusal as a status.
pub fn refused(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::Unknown { .. } => Code::NotFound,
        Refusal::Exists { .. } => Code::AlreadyExists,
        Refusal::Invalid(_) => Code::InvalidArgument,
        Refusal::Outdated { .. } => Code::Aborted,
        _ => Code::FailedPrecondition,
    };
    let retry_ms = match refusal {
        Refusal::ClusterBlocked { left_s, .. }
        | Refusal::Downtime { left_s, .. }
        | Refusal::Maintenance { left_s, .. } => Some(left_s.saturating_mul(1_000)),
        Refusal::BackOff { left_ms, .. } => Some(*left_ms),
        _ => None,
    };
    status(code, refusal.reason(), refusal.to_string(), numbers(refusal), retry_ms)
}

/// A refusal as a value in an answer.
pub fn as_message(refusal: &Refusal) -> pb::Refusal {
    pb::Refusal {
        reason: refusal.reason().to_owned(),
        text: refusal.to_string(),
        metadata: numbers(refusal).into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
    }
}

/// The numbers of a refusal by name.
fn numbers(refusal: &Refusal) -> Vec<(&'static str, String)> {
    match refusal {
        Refusal::NoMajority { have, need, voters, missing } => {
            let missing: Vec<String> = missing.iter().map(|(node, why)| format!("{node}: {why}")).collect();
            vec![
                ("have", have.to_string()),
                ("need", need.to_string()),
                ("voters", voters.to_string()),
                ("missing", missing.join("; ")),
            ]
        }
        Refusal::StillAnswers { node, what } => vec![("node", node.to_string()), ("seen", what.clone())],
        Refusal::SlotHeld { what, id } => vec![("held_by", what.clone()), ("recovery", id.to_string())],
        Refusal::ClusterBlocked { recovery, left_s } => {
            vec![("recovery", recovery.to_string()), ("left_s", left_s.to_string())]
        }
        Refusal::BackOff { attempts, left_ms } => {
            vec![("attempts", attempts.to_string()), ("left_ms", left_ms.to_string())]
        }
        Refusal::Breaker { count, limit, window_s } => vec![
            ("count", count.to_string()),
            ("limit", limit.to_string()),
            ("window_s", window_s.to_string()),
        ],
        Refusal::RecoveriesDisabled { scope, by, why } => {
            vec![("scope", scope.clone()), ("by", by.clone()), ("why", why.clone())]
        }
        Refusal::Downtime { server, by, why, left_s } => vec![
            ("server", server.0.clone()),
            ("by", by.clone()),
            ("why", why.clone()),
            ("left_s", left_s.to_string()),
        ],
        Refusal::Maintenance { by, why, left_s } => {
            vec![("by", by.clone()), ("why", why.clone()), ("left_s", left_s.to_string())]
        }
        Refusal::Outdated { what, then, now } => {
            vec![("what", what.clone()), ("then", then.to_string()), ("now", now.to_string())]
        }
        Refusal::Unknown { what, name, near } => {
            vec![("what", what.clone()), ("name", name.clone()), ("near", near.join(","))]
        }
        Refusal::Exists { what, name, cluster } => {
            let cluster = cluster.as_ref().map(|c| c.0.clone()).unwrap_or_default();
            vec![("what", what.clone()), ("name", name.clone()), ("cluster", cluster)]
        }
        Refusal::WrongPhase { recovery, is, needs } => {
            vec![("recovery", recovery.to_string()), ("is", is.clone()), ("needs", needs.clone())]
        }
        Refusal::NoSafeCandidate { considered } => {
            vec![("considered", considered.len().to_string())]
        }
        Refusal::TooFewAckers { candidate, acks, left } => {
            vec![("candidate", candidate.clone()), ("acks", acks.to_string()), ("left", left.to_string())]
        }
        Refusal::PossibleDataLoss { why } | Refusal::NoWitness { why } => vec![("why", why.clone())],
        Refusal::LongStatement { .. } | Refusal::Invalid(_) => vec![],
        Refusal::FeatureLevel { needs, has } => {
            vec![("needs", needs.to_string()), ("has", has.to_string())]
        }
    }
}
