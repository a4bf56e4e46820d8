//! Each thing that can be wrong with an address, an account or a grant, told apart and named.

use quorate::{
    model::address::Address,
    probe::read_once,
    session::{Account, ReadError, Secret, SessionError},
};

use super::*;

on_both! {
    a_wrong_password_is_access_denied,
    each_missing_grant_is_named,
    a_server_without_the_semi_sync_plugins_is_read,
    names_and_ipv6_addresses_are_dialled,
}

async fn read(address: &Address, account: &Account) -> Result<quorate::session::Reading, ReadError> {
    let result = read_once(address, account, 9, true, PATIENCE).await;
    if let Err(error) = &result {
        let text = format!("{error} {error:?}");
        eprintln!("{error}");
        assert!(!text.contains("canary"), "{text}");
    }
    result
}

async fn a_wrong_password_is_access_denied(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let wrong = Account { password: Secret::new("canary-wrong"), ..account() };
    let error = read(&server.address(), &wrong).await.expect_err("denied");
    assert!(matches!(error, ReadError::Session(SessionError::AccessDenied { code: 1045, .. })), "{error}");
}

async fn each_missing_grant_is_named(install: Install) {
    let server = Server::start(&install, 1, &[]).await;
    let (essential, others): (&str, &[&str]) = match install.flavor {
        Flavor::MySql => ("REPLICATION CLIENT", &["REPLICATION SLAVE", "PROCESS"]),
        Flavor::MariaDb => ("SLAVE MONITOR", &["REPLICATION MASTER ADMIN", "PROCESS"]),
    };
    for privilege in others {
        server.sql(&format!("REVOKE {privilege} ON *.* FROM 'quorate'@'%'")).await;
    }
    if install.flavor == Flavor::MySql {
        server.sql("REVOKE SELECT ON performance_schema.* FROM 'quorate'@'%'").await;
    }
    let reading = read(&server.address(), &account()).await.expect("a reading without the inventory");
    let named: Vec<String> = reading.lacking.iter().map(|missing| missing.grant.clone()).collect();
    eprintln!("{named:#?}");
    for privilege in others {
        let grant = format!("GRANT {privilege} ON *.* TO 'quorate'");
        assert!(named.contains(&grant), "{grant} is not in {named:?}");
    }
    assert_eq!((reading.facts.replicas, reading.facts.dump_clients), (None, None));
    server.sql(&format!("REVOKE {essential} ON *.* FROM 'quorate'@'%'")).await;
    if install.flavor == Flavor::MariaDb {
        server.sql("REVOKE REPLICATION SLAVE ADMIN ON *.* FROM 'quorate'@'%'").await;
    }
    let error = read(&server.address(), &account()).await.expect_err("a missing grant");
    let ReadError::Grant(missing) = error else { panic!("{error}") };
    assert_eq!(missing.grant, format!("GRANT {essential} ON *.* TO 'quorate'"));
}

async fn a_server_without_the_semi_sync_plugins_is_read(install: Install) {
    if install.flavor == Flavor::MariaDb {
        return; // built in
    }
    let server = Server::start(&install, 1, &[]).await;
    let mut watch = Watch::of(&server, ProbeSettings { interval: Duration::from_millis(50), ..slow() });
    let with = watch.until("an answer", is_answer).await;
    assert_eq!(facts(&with).expect("facts").semi_sync.source_enabled, Some(false));
    server.sql("UNINSTALL PLUGIN rpl_semi_sync_source; UNINSTALL PLUGIN rpl_semi_sync_replica").await;
    let without = watch
        .until("the values are unknown", |event| {
            facts(event).is_some_and(|f| f.semi_sync.source_enabled.is_none())
        })
        .await;
    assert!(!without.fresh, "the session was lost");
}

async fn names_and_ipv6_addresses_are_dialled(install: Install) {
    let server = Server::start(&install, 1, &["--bind-address=*"]).await;
    let mut hosts = vec!["localhost"];
    match std::net::TcpListener::bind("[::1]:0") {
        Ok(_) => hosts.push("::1"),
        Err(error) => eprintln!("skipped: no IPv6 loopback here: {error}"),
    }
    for host in hosts {
        let address = Address::new(host, server.port);
        read(&address, &account()).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    }
}

/// Plug-ins of MariaDB beside its default, `mysql_native_password`.
#[tokio::test(flavor = "multi_thread")]
async fn an_ed25519_account_logs_in() {
    let Some(install) = Install::find(Flavor::MariaDb) else { return };
    let _turn = one_at_a_time().await;
    let server = Server::start(&install, 1, &[]).await;
    use mysql_async::prelude::Queryable;
    let mut admin = server.root().await;
    if let Err(error) = admin.query_drop("INSTALL SONAME 'auth_ed25519'").await {
        eprintln!("skipped: this MariaDB cannot load auth_ed25519: {error}");
        return;
    }
    server.sql("CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('canary-ed')").await;
    for grant in live::grants(Flavor::MariaDb) {
        server.sql(&grant.replace("'quorate'@'%'", "ed@'%'")).await;
    }
    read(&server.address(), &Account::plain("ed", "canary-ed")).await.expect("a login");
    let error = read(&server.address(), &Account::plain("ed", "canary-no")).await.expect_err("denied");
    assert!(matches!(error, ReadError::Session(SessionError::AccessDenied { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_mysql_port_is_told_apart() {
    use tokio::io::AsyncWriteExt;
    for (greeting, wanted) in
        [("SSH-2.0-OpenSSH_9.2\r\n", "not a MySQL"), ("", "no greeting"), ("\x05", "no greeting")]
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = Address::new("127.0.0.1", listener.local_addr().expect("an address").port());
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.write_all(greeting.as_bytes()).await.expect("a greeting");
            stream
        });
        let error =
            read_once(&address, &account(), 9, true, Duration::from_secs(1)).await.expect_err("no server");
        assert!(error.to_string().contains(wanted), "{greeting:?}: {error}");
        drop(peer.await);
    }
    let closed = Address::new("127.0.0.1", 1);
    let error = read_once(&closed, &account(), 9, true, PATIENCE).await.expect_err("nobody");
    assert!(matches!(error, ReadError::Session(SessionError::Refused)), "{error}");
    let nowhere = Address::new("no-such-host.invalid", 3306);
    let error = read_once(&nowhere, &account(), 9, true, PATIENCE).await.expect_err("no name");
    assert!(matches!(error, ReadError::Session(SessionError::Unreachable(_))), "{error}");
}
