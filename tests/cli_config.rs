//! A wrong file is refused in words that name file, line, key and what to do, and never show a password.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so by panicking

use std::{fs, path::Path};

use quorate::config::{Config, Secret, ServerTls};
use tempfile::TempDir;

const CANARY: &str = "canary-7f3a";

const GOOD: &str = r#"
node_id  = 1
group    = "demo"
data_dir = "data"

[listen]
node   = "127.0.0.1:7101"
client = "127.0.0.1:7201"

[tls]
plaintext = true

[servers]
user = "quorate"
password_file = "servers.password"

[replication]
user = "repl"
password_file = "replication.password"
"#;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("servers.password"), format!("{CANARY}\n")).unwrap();
    fs::write(folder.path().join("replication.password"), format!("{CANARY}-2\r\nsecond line\n")).unwrap();
    folder
}

fn load(folder: &TempDir, text: &str) -> Result<Config, String> {
    let file = folder.path().join("quorate.toml");
    fs::write(&file, text).unwrap();
    Config::load(&file).map_err(|error| {
        let mut text = error.to_string().replace(&format!("{}/", folder.path().display()), "");
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        assert!(!text.contains(CANARY), "a secret is shown: {text}");
        text
    })
}

fn error(text: &str) -> String {
    load(&folder(), text).expect_err("this file is wrong")
}

fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replace(from, to)
}

#[test]
fn the_shortest_good_file_is_read() {
    let folder = folder();
    let config = load(&folder, GOOD).unwrap();
    assert_eq!(config.data_dir, folder.path().join("data"));
    assert_eq!(config.servers.password, Secret::new(CANARY));
    assert_eq!(config.replication.password, Secret::new(format!("{CANARY}-2")));
    assert_eq!(config.servers.tls, ServerTls::Off);
    assert_eq!(config.listen.node_advertised().to_string(), "127.0.0.1:7101");
    assert!(config.tls.node().is_none());
}

#[test]
fn no_way_of_printing_shows_a_password() {
    let config = load(&folder(), GOOD).unwrap();
    let secret = &config.servers.password;
    for text in [
        format!("{config:?}"),
        format!("{config:#?}"),
        format!("{secret} {secret:?}"),
        serde_json::to_string(secret).unwrap(),
    ] {
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[test]
fn unknown_keys_name_what_may_be_meant() {
    for (from, to, says) in [
        ("node_id  = 1", "node_di = 1", "quorate.toml:2: there is no key `node_di`; did you mean `node_id`?"),
        (
            "client = \"",
            "clients = \"",
            "quorate.toml:8: there is no key `listen.clients`; did you mean `client`? (allowed here: node, client, \
             advertise_node, advertise_client)",
        ),
        (
            "plaintext = true",
            "plaintext = true\npassword_file = \"x\"",
            "quorate.toml:12: there is no key `tls.password_file`; no password is written into this file",
        ),
        (
            "plaintext = true",
            "plaintext = true\ndata_dir = \"x\"",
            "there is no key `tls.data_dir`; it belongs above the first section",
        ),
        (
            "[tls]",
            "silence_ms = 1200\n[tls]",
            "there is no key `listen.silence_ms`; it is policy, the same on all nodes: `quorate policy set \
             silence_ms=...`",
        ),
        ("[tls]", "[tsl]\n[tls]", "there is no key `tsl`; did you mean `tls`?"),
    ] {
        let error = error(&with(from, to));
        assert!(error.contains(says), "\n{error}\nlacks\n{says}");
    }
}

#[test]
fn a_password_in_the_file_is_refused_and_not_shown() {
    let error = error(&with("password_file = \"servers.password\"", &format!("password = \"{CANARY}\"")));
    assert!(
        error.contains("there is no key `servers.password`; no password is written into this file"),
        "{error}"
    );
}

#[test]
fn a_password_in_the_place_of_a_variable_is_not_shown() {
    let text = with("password_file = \"servers.password\"", &format!("password_env = \"{CANARY}\""));
    assert!(error(&text).contains("`servers.password_env` names an environment variable that is not set"));
}

#[test]
fn wrong_values_name_the_key_and_what_is_allowed() {
    for (from, to, says) in [
        ("node_id  = 1", "node_id = \"1\"", "quorate.toml:2: `node_id` must be a whole number, not a string"),
        ("node_id  = 1", "node_id = 0", "quorate.toml:2: `node_id` is 0; nodes are numbered from 1"),
        ("node_id  = 1", "node_id = -1", "`node_id` must be a whole number"),
        ("node_id  = 1\n", "", "quorate.toml: `node_id` is missing"),
        ("\"demo\"", "\"Demo!\"", "quorate.toml:3: `group` must have 1 to 40 of a-z, 0-9 and `-`"),
        ("plaintext = true", "plaintext = \"yes\"", "`tls.plaintext` must be true or false, not a string"),
        ("[listen]", "profile = \"man\"\n[listen]", "`profile` must be one of lan, wan"),
        ("127.0.0.1:7101", "127.0.0.1", "`listen.node` is wrong: `127.0.0.1` is not an address: no port"),
        (
            "127.0.0.1:7101",
            "0.0.0.0:7101",
            "`listen.node` is 0.0.0.0:7101, which nobody can dial: set `listen.advertise_node`",
        ),
        ("127.0.0.1:7201", "127.0.0.1:7101", "`listen.client` is 127.0.0.1:7101, and so is `listen.node`"),
        (
            "plaintext = true",
            "",
            "`tls.node_cert` is missing: the node port has no certificates, and `tls.plaintext` is not true",
        ),
        ("plaintext = true", "plaintext = true\nnode_ca = \"x\"", "`tls.node_cert` is missing"),
        (
            "user = \"quorate\"",
            "user = \"quorate\"\ntls = \"required\"",
            "`servers.tls_ca` is missing; `servers.tls = \"required\"` needs it",
        ),
        ("user = \"quorate\"\n", "", "`servers.user` is missing"),
        (
            "servers.password",
            "nothing.here",
            "`servers.password_file` names nothing.here, which cannot be read: No such file",
        ),
        (
            "password_file = \"replication.password\"",
            "",
            "`replication.password_file` is missing; give it, or `password_env`",
        ),
        ("[tls]", "[tls", "quorate.toml:10: "),
        ("group    = \"demo\"", "group = demo", "quorate.toml:3: "),
        ("node_id  = 1", "node_id = 1\nnode_id = 2", "duplicate key"),
    ] {
        let error = error(&with(from, to));
        assert!(error.contains(says), "\n{error}\nlacks\n{says}");
    }
}

#[test]
fn how_many_clients_are_served_is_said_and_bounded() {
    let limits = load(&folder(), GOOD).unwrap().limits;
    assert_eq!((limits.client_connections, limits.client_streams), (1_024, 16_384));
    let with = |line: &str| with("[tls]", &format!("[limits]\n{line}\n[tls]"));
    let limits = load(&folder(), &with("client_streams = 100")).unwrap().limits;
    assert_eq!((limits.client_connections, limits.client_streams), (1_024, 100));
    for (line, says) in [
        (
            "client_connections = 7",
            "quorate.toml:11: `limits.client_connections` is 7; it must be 8 to 1000000",
        ),
        ("client_streams = 1000001", "`limits.client_streams` is 1000001; it must be 8 to 1000000"),
        ("client_streams = -1", "`limits.client_streams`"),
        ("client_stream = 9", "there is no key `limits.client_stream`; did you mean `client_streams`?"),
    ] {
        let error = error(&with(line));
        assert!(error.contains(says), "\n{error}\nlacks\n{says}");
    }
}

#[test]
fn a_missing_section_is_named() {
    let text = GOOD.split("[replication]").next().unwrap().to_owned();
    assert!(
        error(&text).contains("`replication` is missing: add a section `[replication]`"),
        "{}",
        error(&text)
    );
}

#[test]
fn an_empty_password_is_refused() {
    let folder = folder();
    fs::write(folder.path().join("servers.password"), "\n").unwrap();
    assert!(load(&folder, GOOD).unwrap_err().contains("`servers.password_file` names an empty password"));
}

/// Certificates that a node would find out about only when nobody can reach it.
mod certificates {
    use super::*;
    use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// Writes NAME.pem and NAME.key.
    fn leaf(
        folder: &Path,
        file: &str,
        names: &[&str],
        by: &CertifiedIssuer<'static, KeyPair>,
        expired: bool,
    ) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, by).unwrap();
        fs::write(folder.join(format!("{file}.pem")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn with_tls() -> String {
        with(
            "plaintext = true",
            "node_ca = \"ca.pem\"\nnode_cert = \"node.pem\"\nnode_key = \"node.key\"\n\
             client_ca = \"ca.pem\"\nclient_cert = \"client.pem\"\nclient_key = \"client.key\"",
        )
    }

    fn prepared() -> (TempDir, CertifiedIssuer<'static, KeyPair>) {
        let folder = folder();
        let ca = authority("ours");
        fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        leaf(folder.path(), "node", &["node-1.demo.quorate"], &ca, false);
        leaf(folder.path(), "client", &["localhost"], &ca, false);
        (folder, ca)
    }

    #[test]
    fn good_ones_are_taken() {
        let (folder, _) = prepared();
        let config = load(&folder, &with_tls()).unwrap();
        assert_eq!(config.tls.node().unwrap().cert, folder.path().join("node.pem"));
        assert!(config.tls.client().is_some());
    }

    #[test]
    fn bad_ones_are_named_with_what_is_wrong() {
        let says = |make: &dyn Fn(&Path, &CertifiedIssuer<'static, KeyPair>), says: &str| {
            let (folder, ca) = prepared();
            make(folder.path(), &ca);
            let error = load(&folder, &with_tls()).unwrap_err();
            assert!(error.contains(says), "\n{error}\nlacks\n{says}");
        };
        says(
            &|f, ca| leaf(f, "node", &["node-1.demo.quorate"], ca, true),
            "`tls.node_cert` names node.pem, which expired 2",
        );
        says(
            &|f, _| leaf(f, "node", &["node-1.demo.quorate"], &authority("theirs"), false),
            "`tls.node_cert` names node.pem, which does not come from the authority in `tls.node_ca`",
        );
        says(
            &|f, ca| leaf(f, "node", &["node-2.demo.quorate"], ca, false),
            "whose names (node-2.demo.quorate) lack `node-1.demo.quorate`, which is this node's",
        );
        says(
            &|f, ca| leaf(f, "client", &["localhost"], ca, true),
            "`tls.client_cert` names client.pem, which expired",
        );
        says(
            &|f, _| fs::write(f.join("client.pem"), "hello").unwrap(),
            "`tls.client_cert` names client.pem, which holds no PEM certificate",
        );
        says(
            &|f, _| fs::remove_file(f.join("node.key")).unwrap(),
            "`tls.node_key` names node.key, which cannot be read: No such file",
        );
        says(
            &|f, _| fs::copy(f.join("node.pem"), f.join("node.key")).map(|_| ()).unwrap(),
            "`tls.node_key` names node.key, which holds no PEM private key",
        );
    }
}

/// The reference names every policy key with the default that the program has.
#[test]
fn the_reference_tells_the_true_defaults_of_the_policy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating/configuration.md");
    let reference = fs::read_to_string(path).unwrap();
    let policy = serde_json::to_value(quorate::model::policy::Policy::default()).unwrap();
    for (key, value) in policy.as_object().unwrap() {
        let row = format!("| `{key}` | `{value}` |");
        assert!(reference.contains(&row), "docs/operating/configuration.md lacks the row {row}");
    }
}
