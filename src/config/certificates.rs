//! Certificates are looked at before the node starts: whether they can be read, are valid today, come from the
//! authority they should, and bear this node's name. What peers and clients bring is checked by TLS itself.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

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

/// When the first certificate of a PEM file ends; `None` where it cannot be read.
pub fn ends(file: &Path) -> Option<SystemTime> {
    let pem = std::fs::read(file).ok()?;
    let certificate = CertificateDer::pem_slice_iter(&pem).next()?.ok()?;
    let own = EndEntityCert::try_from(&certificate).ok()?;
    // No reader of dates is at hand; the verifier looks at them before it looks for an issuer, and tells.
    let far = UnixTime::since_unix_epoch(Duration::from_secs(253_402_300_799));
    let usage = KeyUsage::server_auth();
    match own.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[], &[], far, usage, None, None).map(drop) {
        Err(Error::CertExpired { not_after, .. }) => {
            Some(UNIX_EPOCH + Duration::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_whoever_issued_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.pem");
        let mut params = CertificateParams::new(vec!["db1".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2033, 5, 18);
        let own = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        std::fs::write(&file, own.pem()).unwrap();
        let days = |ends: SystemTime| ends.duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
        assert_eq!(ends(&file).map(days), Some(23_148));
        std::fs::write(&file, "no certificate").unwrap();
        assert_eq!(ends(&file), None);
    }
}
