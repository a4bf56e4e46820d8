//! What docs/operating says of the command line and the API is what the program knows.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so by panicking

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory;
use quorate::cli::Cli;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.push_str(&sources(&path)),
            false => all.push_str(&fs::read_to_string(path).unwrap()),
        }
    }
    all
}

#[test]
fn every_verb_and_option_is_in_the_reference() {
    let reference = read("docs/operating/cli.md");
    let cli = Cli::command();
    for option in cli.get_arguments().filter_map(|a| a.get_long()) {
        assert!(reference.contains(&format!("--{option}")), "cli.md lacks --{option}");
    }
    for verb in cli.get_subcommands() {
        let name = verb.get_name();
        assert!(
            reference.contains(&format!("`{name}")) || reference.contains(&format!("| `{name}")),
            "{name}"
        );
        let groups: Vec<_> = verb.get_subcommands().collect();
        for below in &groups {
            assert!(reference.contains(below.get_name()), "cli.md lacks {name} {}", below.get_name());
        }
        for command in groups.into_iter().chain([verb]) {
            for option in command.get_arguments().filter(|a| !a.is_global_set()).filter_map(|a| a.get_long())
            {
                assert!(reference.contains(&format!("--{option}")), "cli.md lacks --{option} of {name}");
            }
        }
    }
}

/// Words in capitals between quotes, in the files that make reasons.
#[test]
fn every_reason_is_in_the_reference_and_the_other_way_round() {
    let made = sources(&root().join("src/api")) + &read("src/core/replicated/refusal.rs");
    let mut reasons: Vec<&str> = made
        .split('"')
        .filter(|word| {
            word.contains('_')
                || ["DOWNTIME", "MAINTENANCE", "OUTDATED", "OVERLOADED", "INTERNAL"].contains(word)
        })
        .filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    let api = read("docs/operating/api.md");
    let listed: Vec<&str> = api
        .split("## Reasons")
        .nth(1)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    for reason in &reasons {
        assert!(listed.contains(reason), "api.md lacks {reason}");
    }
    for reason in &listed {
        assert!(
            reasons.contains(reason) || *reason == "BACK_OFF",
            "api.md lists {reason}, which nobody gives"
        );
    }
}

/// The protos are the reference of the API: every service, call, message, field and value says what it is, or its name
/// and its neighbours do.
#[test]
fn every_call_of_the_protos_has_a_comment() {
    for entry in fs::read_dir(root().join("proto/quorate/v1")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("// "), "{} has no head", path.display());
        let mut above = "";
        for line in text.lines().map(str::trim) {
            let needs = line.starts_with("rpc ");
            assert!(!needs || above.starts_with("//"), "{}: `{line}` has no comment", path.display());
            above = line;
        }
    }
}
