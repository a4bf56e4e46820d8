//! How a command fails: a sentence for people, an object for machines, an exit code for scripts.

use std::{collections::BTreeMap, error::Error as _};

use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

/// Refused, or failed.
pub const EXIT_FAILED: u8 = 1;
/// Wrong usage.
pub const EXIT_USAGE: u8 = 2;
/// No node reachable.
pub const EXIT_UNREACHABLE: u8 = 3;
/// The group has no leader.
pub const EXIT_NO_LEADER: u8 = 4;

/// A command that did not do what was asked.
#[derive(Debug)]
pub struct CliError {
    /// Exit code.
    pub exit: u8,
    /// Stable reason.
    pub reason: String,
    /// What, where, what to do.
    pub text: String,
    /// The numbers.
    pub metadata: BTreeMap<String, String>,
}

impl CliError {
    /// Wrong usage that clap cannot see.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(EXIT_USAGE, "USAGE", text)
    }

    /// Something on this side went wrong.
    pub fn local(text: impl Into<String>) -> Self {
        Self::new(EXIT_FAILED, "FAILED", text)
    }

    /// With a reason.
    pub fn new(exit: u8, reason: &str, text: impl Into<String>) -> Self {
        Self { exit, reason: reason.into(), text: text.into(), metadata: BTreeMap::new() }
    }

    /// A node's answer.
    pub fn from_status(status: &Status) -> Self {
        let Some(info) = error_info(status) else {
            return Self::local(format!("{}: {}", status.code(), status.message()));
        };
        let exit = match info.reason.as_str() {
            "NO_LEADER" | "NOT_LEADER" | "NO_QUORUM" | "NOT_INITIALISED" | "NOT_A_MEMBER" => EXIT_NO_LEADER,
            _ => EXIT_FAILED,
        };
        let metadata = info.metadata.into_iter().collect();
        Self { exit, reason: info.reason, text: status.message().to_owned(), metadata }
    }

    /// For people.
    pub fn human(&self) -> String {
        let what = match (self.exit, self.reason.as_str()) {
            (EXIT_USAGE, _) => "usage",
            (EXIT_FAILED, "FAILED" | "NOT_SUCCEEDED" | "FATE_UNKNOWN" | "INTERNAL") => "failed",
            (EXIT_FAILED, _) => "refused",
            _ => "error",
        };
        format!("{what}: {}", self.text)
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({"error": {"reason": self.reason, "text": self.text, "metadata": self.metadata}})
    }
}

/// `google.rpc.Status`, as far as it is read here.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
pub struct ErrorInfo {
    /// Stable upper-case name.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// The numbers.
    #[prost(map = "string, string", tag = "3")]
    pub metadata: std::collections::HashMap<String, String>,
}

/// The `ErrorInfo` of an answer; `None` when it is not a node's answer but the transport's.
pub fn error_info(status: &Status) -> Option<ErrorInfo> {
    let whole = RpcStatus::decode(status.details()).ok()?;
    let info = whole.details.iter().find(|d| d.type_url.ends_with("/google.rpc.ErrorInfo"))?;
    ErrorInfo::decode(info.value.as_slice()).ok()
}

/// Whether it is the transport that failed: nobody there, or the connection broke.
pub fn is_transport(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::Cancelled, Code::Unknown, Code::DeadlineExceeded];
    // What a node says has a reason; what came over the wire has no source.
    error_info(status).is_none() && (codes.contains(&status.code()) || status.source().is_some())
}

/// Why the transport failed, from the deepest cause up.
pub fn transport_text(status: &Status) -> String {
    let mut cause = status.source();
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    explain_tls(text)
}

/// TLS libraries speak to programmers; this speaks to whoever has to fetch a new certificate.
fn explain_tls(text: String) -> String {
    // A node that refuses a certificate ends the connection; its alert may or may not come through before that.
    let ended = "it ended the connection: with TLS, does it accept your certificate? without, does it want TLS \
                 (--tls-ca, --tls-cert and --tls-key)?";
    for (mark, meaning) in [
        ("CertificateExpired", "your certificate has expired"),
        ("UnknownIssuer", "its certificate comes from another authority than --tls-ca"),
        ("BadSignature", "its certificate comes from another authority than --tls-ca"),
        ("Expired", "its certificate has expired"),
        ("NotValidYet", "its certificate is not valid yet; are the clocks right?"),
        ("NotValidForName", "its certificate bears another name; see --tls-name"),
        ("CertificateRequired", "it wants a certificate of yours: --tls-cert and --tls-key"),
        ("UnknownCA", "your certificate comes from an authority it does not know"),
        ("DecryptError", "your certificate comes from an authority it does not know"),
        ("alert: BadCertificate", "it does not accept your certificate"),
        ("alert: CertificateUnknown", "it does not accept your certificate"),
        ("InvalidContentType", "it does not speak TLS; leave --tls-ca out"),
        ("connection closed", ended),
        ("http2 error", ended),
        ("broken pipe", ended),
        ("reset by peer", ended),
    ] {
        if text.contains(mark) {
            return format!("{meaning} ({text})");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these a client without TLS meets depends on who is faster, the client's write or the node's alert.
    #[test]
    fn whoever_is_cut_off_is_told_of_the_tls_options() {
        for text in
            ["stream closed because of a broken pipe", "connection closed", "connection reset by peer"]
        {
            let told = explain_tls(text.to_owned());
            assert!(told.contains("--tls-ca") && told.contains("certificate"), "{told}");
        }
    }
}
