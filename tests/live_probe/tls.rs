//! Logins over TLS: whom they trust, and what is said when they may not.

use std::{fs, path::PathBuf};

use quorate::{
    probe::read_once,
    session::{Account, ReadError, SessionError, Tls},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd,
};

use super::*;

on_both! {
    tls_is_checked_and_each_trouble_is_named,
}

/// A directory with the certificates of one authority.
struct Authority {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn sign(&self, name: &str, address: [u8; 4], until_year: i32) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::IpAddress(address.into())];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), cert.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn server_options(&self, name: &str) -> Vec<String> {
        vec![
            format!("--ssl-ca={}", self.path("ca.pem").display()),
            format!("--ssl-cert={}", self.path(&format!("{name}.pem")).display()),
            format!("--ssl-key={}", self.path(&format!("{name}.key")).display()),
        ]
    }
}

struct Wish {
    ca: PathBuf,
    identity: Option<(PathBuf, PathBuf)>,
    check_name: bool,
    host_name: Option<&'static str>,
}

async fn login(server: &Server, wish: &Wish) -> Result<(), SessionError> {
    let tls = Tls::Required {
        ca: Some(wish.ca.clone()),
        identity: wish.identity.clone(),
        host_name: wish.host_name.map(str::to_owned),
        check_name: wish.check_name,
    };
    let account = Account { tls, ..account() };
    match read_once(&server.address(), &account, 9, false, PATIENCE).await {
        Ok(_) => Ok(()),
        Err(ReadError::Session(error)) => {
            eprintln!("{error}");
            assert!(!format!("{error:?}").contains("canary"));
            Err(error)
        }
        Err(error) => panic!("{error}"),
    }
}

/// The certificates that MySQL makes for itself have no names at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_a_mysql_makes_for_itself_is_checked_against_its_authority() {
    let Some(install) = Install::find(Flavor::MySql) else { return };
    let _turn = one_at_a_time().await;
    let server = Server::start(&install, 1, &[]).await;
    let wish = Wish { ca: server.data().join("ca.pem"), identity: None, check_name: false, host_name: None };
    login(&server, &wish).await.expect("the authority alone");
    login(&server, &Wish { check_name: true, ..wish }).await.expect_err("no name fits");
}

async fn start(install: &Install, options: &[String]) -> Server {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Server::start(install, 1, &options).await
}

async fn tls_is_checked_and_each_trouble_is_named(install: Install) {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    ours.sign("server", [127, 0, 0, 1], 2100);
    ours.sign("elsewhere", [127, 0, 0, 9], 2100);
    ours.sign("expired", [127, 0, 0, 1], 2001);
    ours.sign("client", [127, 0, 0, 1], 2100);
    let plain = || Wish { ca: ours.path("ca.pem"), identity: None, check_name: true, host_name: None };
    let is_tls = |result: Result<(), SessionError>, word: &str| match result {
        Err(SessionError::Tls(text)) => assert!(text.contains(word), "{word} is not in: {text}"),
        other => panic!("{other:?}"),
    };

    let server = start(&install, &ours.server_options("server")).await;
    login(&server, &plain()).await.expect("the right authority and name");
    is_tls(login(&server, &Wish { ca: theirs.path("ca.pem"), ..plain() }).await, "UnknownIssuer");
    is_tls(
        login(&server, &Wish { host_name: Some("db.example.com"), ..plain() }).await,
        "not valid for name",
    );
    is_tls(login(&server, &Wish { ca: ours.path("no-such.pem"), ..plain() }).await, "no-such.pem");
    is_tls(login(&server, &Wish { ca: ours.path("server.key"), ..plain() }).await, "server.key");
    server.sql("ALTER USER 'quorate'@'%' REQUIRE X509").await;
    let denied = login(&server, &plain()).await.expect_err("no client certificate");
    assert!(matches!(denied, SessionError::AccessDenied { .. }), "{denied:?}");
    let identity = Some((ours.path("client.pem"), ours.path("client.key")));
    login(&server, &Wish { identity, ..plain() }).await.expect("with a client certificate");
    drop(server);

    let server = start(&install, &ours.server_options("elsewhere")).await;
    is_tls(login(&server, &plain()).await, "not valid for name");
    login(&server, &Wish { check_name: false, ..plain() }).await.expect("the authority alone");
    let wish = Wish { ca: theirs.path("ca.pem"), check_name: false, ..plain() };
    is_tls(login(&server, &wish).await, "UnknownIssuer");
    drop(server);

    let server = start(&install, &ours.server_options("expired")).await;
    for check_name in [true, false] {
        is_tls(login(&server, &Wish { check_name, ..plain() }).await, "expired");
    }
    drop(server);

    let none = match install.flavor {
        Flavor::MySql => "--tls-version=",
        Flavor::MariaDb => "--skip-ssl",
    };
    let server = start(&install, &[none.to_owned()]).await;
    is_tls(login(&server, &plain()).await, "no TLS");
}
