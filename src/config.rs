//! A node's file: who it is, where it listens, where its data lives, its certificates, how it logs in to servers.
//! Everything else is policy, which is replicated and set through the API. Each wrong value has an error that names
//! file, line and key; no error, log or dump ever shows a password.

mod certificates;
mod check;
mod error;
mod place;
mod secret;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use self::place::Place;
pub use self::{certificates::ends as certificate_ends, error::ConfigError, secret::Secret};
use crate::model::address::Address;

/// The file. Relative paths in it are relative to its folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node's number in the group, from 1; never reused.
    pub node_id: u64,
    /// Name of the group: 1 to 40 of `a-z`, `0-9`, `-`. Nodes of another group are refused.
    pub group: String,
    /// Where this node's state lives: one node, one directory.
    pub data_dir: PathBuf,
    /// Timings of the group: `lan` (default) or `wan`; the same on all nodes.
    #[serde(default)]
    pub profile: Profile,
    /// Where this node stands: for display, and in its entry of the membership.
    #[serde(default)]
    pub datacenter: Option<String>,
    /// Ports.
    pub listen: Listen,
    /// Certificates of both ports.
    #[serde(default)]
    pub tls: Tls,
    /// How this node logs in to every server.
    pub servers: Servers,
    /// What replicas are given when Quorate points them at a source.
    pub replication: Replication,
    /// How many clients there may be at once.
    #[serde(default)]
    pub limits: Limits,
}

/// Timings of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Round trips below some 10 ms.
    #[default]
    Lan,
    /// Round trips up to some 100 ms.
    Wan,
}

/// How many clients there may be at once.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections to the client port. Default 1024.
    pub client_connections: usize,
    /// Open event streams, and waits for the end of a recovery, of all clients together. Default 16384.
    pub client_streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { client_connections: 1_024, client_streams: 16_384 }
    }
}

/// Ports.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Node to node: consensus, and calls passed on.
    pub node: Address,
    /// gRPC clients and the command line.
    pub client: Address,
    /// What other nodes dial; default `node`.
    #[serde(default)]
    pub advertise_node: Option<Address>,
    /// What clients are told to dial; default `client`.
    #[serde(default)]
    pub advertise_client: Option<Address>,
}

impl Listen {
    /// What other nodes dial.
    pub fn node_advertised(&self) -> &Address {
        self.advertise_node.as_ref().unwrap_or(&self.node)
    }

    /// What clients dial.
    pub fn client_advertised(&self) -> &Address {
        self.advertise_client.as_ref().unwrap_or(&self.client)
    }
}

/// Certificates. A port without them needs `plaintext = true`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Allow ports without certificates. Default false.
    #[serde(default)]
    pub plaintext: bool,
    /// Node port: authority that peers' certificates must come from.
    #[serde(default)]
    pub node_ca: Option<PathBuf>,
    /// Node port: this node's certificate; its names include `node-ID.GROUP.quorate`.
    #[serde(default)]
    pub node_cert: Option<PathBuf>,
    /// Node port: its private key.
    #[serde(default)]
    pub node_key: Option<PathBuf>,
    /// Client port: authority that clients' certificates must come from.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Client port: this node's certificate.
    #[serde(default)]
    pub client_cert: Option<PathBuf>,
    /// Client port: its private key.
    #[serde(default)]
    pub client_key: Option<PathBuf>,
}

/// Three PEM files that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFiles {
    /// Authority.
    pub ca: PathBuf,
    /// Own certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Tls {
    /// Certificates of the node port; `None` is plain text.
    pub fn node(&self) -> Option<PemFiles> {
        Some(PemFiles {
            ca: self.node_ca.clone()?,
            cert: self.node_cert.clone()?,
            key: self.node_key.clone()?,
        })
    }

    /// Certificates of the client port; `None` is plain text.
    pub fn client(&self) -> Option<PemFiles> {
        let (ca, cert, key) = (self.client_ca.clone()?, self.client_cert.clone()?, self.client_key.clone()?);
        Some(PemFiles { ca, cert, key })
    }
}

/// How this node logs in to every mysqld and mariadbd.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    /// Account; its grants are in the README.
    pub user: String,
    /// File whose first line is the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// The password, once loaded.
    #[serde(skip)]
    pub password: Secret,
    /// `off` or `required`. Default off.
    #[serde(default)]
    pub tls: ServerTls,
    /// Authority that the servers' certificates must come from; needed with `required`.
    #[serde(default)]
    pub tls_ca: Option<PathBuf>,
    /// This node's certificate for servers that want one.
    #[serde(default)]
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
}

/// Whether connections to servers are encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerTls {
    /// Plain text.
    #[default]
    Off,
    /// TLS, checked against `tls_ca`, or no connection.
    Required,
}

/// The account that replicas use.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replication {
    /// Account.
    pub user: String,
    /// File whose first line is the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// The password, once loaded.
    #[serde(skip)]
    pub password: Secret,
}

impl Config {
    /// Reads and checks the file and everything it names: certificates and passwords. Opens no socket.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        let mut config = Self::parse(file, &text)?;
        config.anchor(file.parent().unwrap_or(Path::new("")));
        certificates::check(&config, &Place { file, text: &text })?;
        config.load_passwords(&Place { file, text: &text })?;
        Ok(config)
    }

    /// Reads the text and checks its values against each other; opens nothing.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let place = Place { file, text };
        let config: Self = toml::from_str(text).map_err(|error| place.explain(&error))?;
        check::check(&config, &place)?;
        Ok(config)
    }

    /// Paths in the file are relative to its folder.
    fn anchor(&mut self, folder: &Path) {
        let named = [
            &mut self.tls.node_ca,
            &mut self.tls.node_cert,
            &mut self.tls.node_key,
            &mut self.tls.client_ca,
            &mut self.tls.client_cert,
            &mut self.tls.client_key,
            &mut self.servers.password_file,
            &mut self.servers.tls_ca,
            &mut self.servers.tls_cert,
            &mut self.servers.tls_key,
            &mut self.replication.password_file,
        ];
        for path in named.into_iter().flatten().chain([&mut self.data_dir]) {
            *path = folder.join(&*path);
        }
    }

    fn load_passwords(&mut self, place: &Place<'_>) -> Result<(), ConfigError> {
        let (file, variable) = (&self.servers.password_file, &self.servers.password_env);
        self.servers.password = secret::load(place, "servers", file, variable)?;
        let (file, variable) = (&self.replication.password_file, &self.replication.password_env);
        self.replication.password = secret::load(place, "replication", file, variable)?;
        Ok(())
    }
}
