//! Test targets of the product, built by cargo; the rig knows them as programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Result;

use crate::{paths, rig_error::rig_failure};

/// The library's own tests, among names of targets under `tests/`.
pub const LIB: &str = "lib";

/// Builds these targets with that profile; returns each with the program that cargo names.
pub fn build(
    profile: &str,
    features: Option<&str>,
    targets: &BTreeSet<&str>,
) -> Result<BTreeMap<String, PathBuf>> {
    build_with(profile, features, targets, &[])
}

/// The same with these variables set for cargo.
pub fn build_with(
    profile: &str,
    features: Option<&str>,
    targets: &BTreeSet<&str>,
    variables: &[(&str, OsString)],
) -> Result<BTreeMap<String, PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--quiet", "--package", "quorate", "--no-run", "--message-format", "json"]);
    command.args(["--profile", if profile == "dev" { "test" } else { profile }]);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.args(features.into_iter().flat_map(|features| ["--features", features]));
    for target in targets {
        match *target {
            LIB => command.arg("--lib"),
            name => command.args(["--test", name]),
        };
    }
    let built = command.current_dir(paths::root()).stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        return Err(rig_failure(format!("{targets:?} do not build ({})", built.status)));
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = BTreeMap::new();
    for message in messages {
        let Some(program) = message["executable"].as_str() else { continue };
        let name = match message["target"]["kind"][0].as_str() {
            Some("test") => message["target"]["name"].as_str().unwrap_or_default(),
            Some("lib") => LIB,
            _ => continue,
        };
        programs.insert(name.to_owned(), PathBuf::from(program));
    }
    match targets.iter().find(|target| !programs.contains_key(**target)) {
        None => Ok(programs),
        Some(missing) => Err(rig_failure(format!("cargo names no program for {missing}"))),
    }
}
