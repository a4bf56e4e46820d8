//! How a node logs in to servers. What must stay secret here has no `Debug` and no `Display` that shows it.

use std::{fmt, path::PathBuf};

/// A password. Printed as `***`, wherever it ends up.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, for the login packet or a `CHANGE ...` statement and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whether a login is wrapped in TLS, and whom it then trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Plain TCP. `caching_sha2_password` then sends the password encrypted with the server's RSA key, which an active
    /// attacker on the way can replace: only for networks that are trusted.
    Off,
    /// TLS or no login.
    Required {
        /// PEM file of the authority that signed the servers' certificates; `None`: the public authorities.
        ca: Option<PathBuf>,
        /// PEM files of this node's certificate and key, where servers ask for one.
        identity: Option<(PathBuf, PathBuf)>,
        /// Name to expect in the certificate in place of the host that was dialled.
        host_name: Option<String>,
        /// Whether the certificate's names are compared at all. The certificates that MySQL makes for itself carry no
        /// usable name (MySQL 8.4 manual, 8.3.3.1), so only their authority can be checked.
        check_name: bool,
    },
}

/// An account on the servers and how its logins travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Account name.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Transport.
    pub tls: Tls,
}

impl Account {
    /// An account that logs in over plain TCP.
    pub fn plain(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: Secret::new(password), tls: Tls::Off }
    }
}

/// What a session is for; shown on the server among the connection's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading facts.
    Probe,
    /// Carrying out steps.
    Executor,
}

impl Purpose {
    /// As the connection attribute `quorate_purpose` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Executor => "executor",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_account_shows_its_password() {
        let account = Account::plain("quorate", "canary-5e1f");
        assert!(!format!("{account:?} {account:#?}").contains("canary"));
        assert_eq!(account.password.expose(), "canary-5e1f");
    }
}
