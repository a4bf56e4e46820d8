//! Certificates of the node port: each end proves that it is the node it says, of this group.
//!
//! A node's certificate names it as `node-ID.GROUP.quorate`. The dialling end checks that name in the server's
//! certificate, as TLS does with any name; the listening end checks it in the client's for the id the call claims.

use std::fs;
use std::path::Path;

use tonic::transport::server::ServerTlsConfig;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use webpki::EndEntityCert;

use super::error::OpenError;
use super::options::NodeTls;

/// The PEM files, read.
#[derive(Clone)]
pub struct Tls {
    ca: Certificate,
    identity: Identity,
}

/// The name that node `node_id` of `group` must have in its certificate.
pub fn name_of(node_id: u64, group: &str) -> String {
    format!("node-{node_id}.{group}.quorate")
}

impl Tls {
    /// Reads the files. What is in them is checked by the first use.
    pub fn read(files: &NodeTls) -> Result<Self, OpenError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| OpenError::Tls { what: format!("{}: {error}", path.display()) })
        };
        let ca = Certificate::from_pem(read(&files.ca)?);
        let identity = Identity::from_pem(read(&files.cert)?, read(&files.key)?);
        Ok(Tls { ca, identity })
    }

    /// For dialling `node_id`.
    pub fn client(&self, node_id: u64, group: &str) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(self.ca.clone())
            .identity(self.identity.clone())
            .domain_name(name_of(node_id, group))
    }

    /// For the listener of the node port: a client without a certificate of this CA gets no connection.
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new().identity(self.identity.clone()).client_ca_root(self.ca.clone())
    }
}

/// Whether the certificate (DER; its chain was checked by the handshake) is that of `node_id` of `group`.
pub fn certifies(certificate: &[u8], node_id: u64, group: &str) -> bool {
    let name = name_of(node_id, group);
    let der = certificate.into();
    let Ok(certificate) = EndEntityCert::try_from(&der) else { return false };
    // Exact names only: a wildcard certificate would be every node at once.
    certificate.valid_dns_names().any(|valid| valid.eq_ignore_ascii_case(&name))
}
