//! Certificates of the node port: each end proves that it is the node it says, of this group.
//!
//! A node's certificate names it as `node-ID.GROUP.quorate`. The dialling end checks that name in the server's
//! certificate, as TLS does with any name; the listening end checks it in the client's for the id the call claims.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use tonic::transport::server::ServerTlsConfig;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, Server};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::error::OpenError;
use super::options::{NodeTls, Options};

/// The PEM files, read and checked.
#[derive(Clone)]
pub struct Tls {
    ca: Certificate,
    identity: Identity,
    expires: SystemTime,
}

/// The name that node `node_id` of `group` must have in its certificate.
pub fn name_of(node_id: u64, group: &str) -> String {
    format!("node-{node_id}.{group}.quorate")
}

impl Tls {
    /// Reads the files, and checks now what a peer would check later: the certificate is this node's, comes from the
    /// authority, is valid today for both ends of a connection, and has this key.
    pub fn read(options: &Options, files: &NodeTls) -> Result<Self, OpenError> {
        let (ca, cert, key) = (read(&files.ca)?, read(&files.cert)?, read(&files.key)?);
        let expires = check(files, &ca, &cert, &name_of(options.node_id, &options.group))?;
        let tls = Tls { ca: Certificate::from_pem(ca), identity: Identity::from_pem(cert, key), expires };
        Server::builder().tls_config(tls.server()).map_err(|error| {
            wrong(&files.key, &format!("does not go with {}: {error:?}", files.cert.display()))
        })?;
        Ok(tls)
    }

    /// When the first certificate of this node's chain ends.
    pub fn expires(&self) -> SystemTime {
        self.expires
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

/// Whether the certificate (its chain was checked by the handshake) is that of `node_id` of `group`.
pub fn certifies(certificate: &CertificateDer<'_>, node_id: u64, group: &str) -> bool {
    EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| is_named(&certificate, &name_of(node_id, group)))
}

/// Exact names only: a wildcard certificate would be every node at once.
fn is_named(certificate: &EndEntityCert<'_>, name: &str) -> bool {
    certificate.valid_dns_names().any(|valid| valid.eq_ignore_ascii_case(name))
}

/// The end of its validity, if everything about it is right.
fn check(files: &NodeTls, ca: &[u8], cert: &[u8], name: &str) -> Result<SystemTime, OpenError> {
    let authorities = certificates(&files.ca, ca)?;
    let anchors: Result<Vec<TrustAnchor<'_>>, _> = authorities.iter().map(anchor_from_trusted_cert).collect();
    let anchors =
        anchors.map_err(|error| wrong(&files.ca, &format!("is no certificate authority: {error}")))?;
    let chain = certificates(&files.cert, cert)?;
    let (leaf, rest) = chain.split_first().ok_or_else(|| wrong(&files.cert, "holds no certificate"))?;
    let leaf = EndEntityCert::try_from(leaf)
        .map_err(|error| wrong(&files.cert, &format!("cannot be read: {error}")))?;
    if !is_named(&leaf, name) {
        let names: Vec<&str> = leaf.valid_dns_names().collect();
        return Err(wrong(
            &files.cert,
            &format!("is for {}, this node needs one for {name}", names.join(", ")),
        ));
    }
    let verify = |usage: KeyUsage, time: UnixTime| {
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, rest, time, usage, None, None).map(drop)
    };
    for (usage, end) in [(KeyUsage::server_auth(), "server"), (KeyUsage::client_auth(), "client")] {
        verify(usage, UnixTime::now()).map_err(|error| {
            wrong(
                &files.cert,
                &format!("is not accepted as a {end} by {}: {}", files.ca.display(), say(&error)),
            )
        })?;
    }
    // No reader of dates is at hand: asked about a time far away, the verifier tells when the chain ends.
    let far = UnixTime::since_unix_epoch(Duration::from_secs(253_402_300_799));
    Ok(match verify(KeyUsage::server_auth(), far) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            UNIX_EPOCH + Duration::from_secs(not_after.as_secs())
        }
        _ => UNIX_EPOCH + Duration::from_secs(far.as_secs()),
    })
}

fn say(error: &webpki::Error) -> String {
    let days = |from: &UnixTime, to: &UnixTime| to.as_secs().saturating_sub(from.as_secs()) / 86_400;
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            format!("it expired {} days ago; renew it", days(not_after, time))
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            format!("it becomes valid in {} days; is the clock right?", days(time, not_before))
        }
        // The second: an authority of the same name, with another key.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            "another authority issued it".to_owned()
        }
        other => other.to_string(),
    }
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| wrong(file, &format!("is not PEM: {error}")))?;
    if found.is_empty() { Err(wrong(file, "holds no certificate")) } else { Ok(found) }
}

fn read(file: &Path) -> Result<Vec<u8>, OpenError> {
    fs::read(file).map_err(|error| wrong(file, &format!("cannot be read: {error}")))
}

fn wrong(file: &Path, what: &str) -> OpenError {
    OpenError::Tls { what: format!("{} {what}", file.display()) }
}
