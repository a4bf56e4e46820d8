//! What is shipped in `deploy/` is what the program reads.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so by panicking

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use quorate::config::{Config, Profile, ServerTls};

fn shipped(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)).unwrap()
}

#[test]
fn the_sample_file_is_read_as_it_stands() {
    let config = Config::parse(Path::new("deploy/quorate.toml"), &shipped("quorate.toml")).unwrap();
    assert_eq!((config.node_id, config.group.as_str(), config.profile), (1, "main", Profile::Lan));
    assert_eq!(config.servers.tls, ServerTls::Required);
}

/// Every line that is commented out is a key with a good value: uncommented one by one, the file stays good or says
/// only that two keys contradict each other.
#[test]
fn each_commented_key_of_the_sample_exists() {
    let sample = shipped("quorate.toml");
    let mut seen = 0;
    for (number, line) in sample.lines().enumerate() {
        let Some(setting) =
            line.strip_prefix('#').filter(|rest| rest.contains(" = ") && !rest.starts_with(' '))
        else {
            continue;
        };
        seen += 1;
        let lines = sample.lines().enumerate().map(|(n, l)| if n == number { setting } else { l });
        let text: Vec<&str> = lines.collect();
        match Config::parse(Path::new("sample"), &text.join("\n")) {
            Ok(_) => {}
            Err(error) => {
                let error = error.to_string();
                let allowed = [
                    "`tls.plaintext` is true, but both ports",
                    "`servers.tls_key` is missing",
                    "`servers.tls_cert` is missing",
                ];
                assert!(allowed.iter().any(|a| error.contains(a)), "{setting}: {error}");
            }
        }
    }
    assert_eq!(seen, 8, "keys that are commented out");
}

#[test]
fn the_sample_mentions_every_key_of_the_reference() {
    let (sample, reference) = (shipped("quorate.toml"), {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating/configuration.md");
        fs::read_to_string(path).unwrap()
    });
    let mut keys: Vec<&str> = Vec::new();
    for line in sample.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            keys.push(key);
        }
    }
    assert!(keys.len() >= 24, "{keys:?}");
    for key in keys {
        assert!(reference.contains(&format!("`{key}`")), "docs/operating/configuration.md lacks `{key}`");
    }
}

/// The unit as systemd would read it: sections of `Key=Value`.
fn unit() -> BTreeMap<String, Vec<(String, String)>> {
    let mut sections: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut section = String::new();
    for line in shipped("quorate.service").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            Some(name) => section = name.to_owned(),
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("`{line}` is no setting"));
                sections.entry(section.clone()).or_default().push((key.into(), value.into()));
            }
        }
    }
    sections
}

/// The unit starts this program, with arguments it understands.
#[test]
fn the_unit_starts_the_program_with_arguments_it_knows() {
    let unit = unit();
    let service = &unit["Service"];
    let of = |key: &str| service.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    for line in of("ExecStart").into_iter().chain(of("ExecStartPre")) {
        let mut words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words.remove(0), "/usr/bin/quorate", "{line}");
        let config = words.iter().position(|w| *w == "/etc/quorate/quorate.toml").expect("the file is named");
        words[config] = "/nonexistent/quorate.toml";
        let run = Command::new(env!("CARGO_BIN_EXE_quorate")).args(&words).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(1), "{said}");
        assert!(said.contains("/nonexistent/quorate.toml cannot be read"), "{said}");
    }
    assert_eq!(of("StateDirectory"), ["quorate"]);
    assert!(shipped("quorate.toml").contains("data_dir = \"/var/lib/quorate\""));
    assert_eq!(unit["Install"], [("WantedBy".to_owned(), "multi-user.target".to_owned())]);
    let systemd =
        Command::new("systemd-analyze").args(["verify", "--man=no", "deploy/quorate.service"]).output();
    if let Ok(run) = systemd {
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!said.contains("Unknown") && !said.contains("Failed to parse"), "{said}");
    }
}
