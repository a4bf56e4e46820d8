//! Certificates are looked at before the node starts: whether they can be read, are valid today, come from the
//! authority they should, and bear this node's name. What peers and clients bring is checked by TLS itself.

use std::path::Path;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use super::{Config, ConfigError, PemFiles, Place};

/// All that the file names.
pub fn check(config: &Config, place: &Place<'_>) -> Result<(), ConfigError> {
    if let Some(files) = config.tls.node() {
        let name = format!("node-{}.{}.quorate", config.node_id, config.group);
        check_port(place, "node", &files, Some(&name))?;
    }
    if let Some(files) = config.tls.client() {
        check_port(place, "client", &files, None)?;
    }
    let servers = &config.servers;
    for (key, file) in [("tls_ca", &servers.tls_ca), ("tls_cert", &servers.tls_cert)] {
        if let Some(file) = file {
            read(place, &format!("servers.{key}"), file)?;
        }
    }
    if let Some(file) = &servers.tls_key {
        place.read("servers.tls_key", file)?;
    }
    Ok(())
}

/// With a `name`, the certificate is for peers: it bears that name and comes from the very authority that theirs come
/// from. Without, it is for clients, who trust whom they like.
fn check_port(
    place: &Place<'_>,
    port: &str,
    files: &PemFiles,
    name: Option<&str>,
) -> Result<(), ConfigError> {
    let (ca_key, cert_key, key_key) =
        (format!("tls.{port}_ca"), format!("tls.{port}_cert"), format!("tls.{port}_key"));
    let authorities = read(place, &ca_key, &files.ca)?;
    let chain = read(place, &cert_key, &files.cert)?;
    check_key(place, &key_key, &files.key)?;
    let shown = files.cert.display();
    let wrong = |what: String| place.wrong(&cert_key, format!("names {shown}, {what}"));
    let mut anchors = Vec::new();
    for authority in &authorities {
        anchors.push(anchor_from_trusted_cert(authority).map_err(|error| {
            place.wrong(
                &ca_key,
                format!("names {}, which is no authority's certificate: {error}", files.ca.display()),
            )
        })?);
    }
    let Some((own, between)) = chain.split_first() else { return Err(wrong("which is empty".into())) };
    let own =
        EndEntityCert::try_from(own).map_err(|error| wrong(format!("which cannot be used: {error}")))?;
    let verified = own.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        between,
        UnixTime::now(),
        KeyUsage::server_auth(),
        None,
        None,
    );
    match verified {
        Ok(_) => {}
        Err(Error::UnknownIssuer) if name.is_none() => {}
        Err(error) => return Err(wrong(in_words(&error, &ca_key))),
    }
    match name {
        Some(name) if !own.valid_dns_names().any(|n| n.eq_ignore_ascii_case(name)) => {
            let names: Vec<&str> = own.valid_dns_names().collect();
            let names = if names.is_empty() { "none".into() } else { names.join(", ") };
            Err(wrong(format!("whose names ({names}) lack `{name}`, which is this node's")))
        }
        _ => Ok(()),
    }
}

fn in_words(error: &Error, ca_key: &str) -> String {
    match error {
        Error::CertExpired { not_after, .. } => {
            let days = UnixTime::now().as_secs().saturating_sub(not_after.as_secs()) / 86_400;
            format!("which expired {days} days ago")
        }
        Error::CertNotValidYet { .. } => "which is not valid yet; is the clock right?".into(),
        Error::UnknownIssuer => format!("which does not come from the authority in `{ca_key}`"),
        other => format!("which cannot be used: {other}"),
    }
}

fn read(place: &Place<'_>, key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let pem = place.read(key, file)?;
    let shown = file.display();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(list) if list.is_empty() => {
            Err(place.wrong(key, format!("names {shown}, which holds no PEM certificate")))
        }
        Ok(list) => Ok(list),
        Err(error) => Err(place.wrong(key, format!("names {shown}, which is no PEM file: {error}"))),
    }
}

fn check_key(place: &Place<'_>, key: &str, file: &Path) -> Result<(), ConfigError> {
    let pem = place.read(key, file)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(_) => Ok(()),
        Err(_) => Err(place.wrong(key, format!("names {}, which holds no PEM private key", file.display()))),
    }
}
