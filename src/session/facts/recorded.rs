//! Answers kept in files, read by the same code as those of a server. For tests only.

use super::parse;
use crate::{
    model::{
        facts::ServerFacts,
        server::{Flavor, Version},
    },
    session::{
        ResultSet,
        dialect::{Part, Profile},
    },
};

/// Reads answers kept in a file: `== profile`, `== variables` ... each followed by rows of `Name: value`, rows divided
/// by lines of `*`. For tests; the parts are those of a reading with inventory.
#[doc(hidden)]
pub fn parse_recorded(flavor: Flavor, version: &str, text: &str) -> Result<ServerFacts, String> {
    let section = |name: &str| {
        let from = text.split(&format!("\n== {name}\n")).nth(1)?;
        Some(vertical(from.split("\n== ").next()?))
    };
    let profile = section("profile").ok_or("no section `profile`")?;
    let version: Version = version.parse().map_err(|error| format!("{error}"))?;
    let profile = Profile::new(flavor, version, &profile);
    let parts = profile.statements(true);
    let name = |part: Part| format!("{part:?}").to_ascii_lowercase();
    let mut present = Vec::new();
    let mut sets = Vec::new();
    for (part, sql) in parts {
        if let Some(set) = section(&name(part)) {
            present.push((part, sql));
            sets.push(set);
        }
    }
    parse::facts(&profile, &present, &sets).map_err(|error| error.to_string())
}

fn vertical(text: &str) -> ResultSet {
    let mut columns: Vec<String> = Vec::new();
    let mut rows: Vec<Vec<Option<String>>> = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if line.starts_with('*') {
            rows.push(Vec::new());
        } else if let (Some((name, value)), Some(row)) = (line.split_once(':'), rows.last_mut()) {
            if row.len() >= columns.len() {
                columns.push(name.trim().to_owned());
            }
            row.push(Some(value.trim().to_owned()).filter(|value| value != "NULL"));
        }
    }
    ResultSet::new(columns, rows)
}
