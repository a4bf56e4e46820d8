//! What became of the mistakes, as a line for the terminal and as Markdown for docs/safety.md.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::Result;

use super::{Catch, Tried};
use crate::paths;

/// One mistake, for the terminal.
pub fn line(tried: &Tried) -> String {
    let ends: Vec<String> = tried
        .ends
        .iter()
        .map(|end| match end {
            Ok(Catch { by, after: Some((seeds, minutes)) }) => {
                format!("caught by {by} after {seeds} seeds ({minutes} simulated minutes)")
            }
            Ok(Catch { by, after: None }) => format!("caught by {by}"),
            Err(why) => format!("NOT CAUGHT: {why}"),
        })
        .collect();
    format!("{} ({}): {}", tried.planted.name, tried.planted.promise, ends.join("; "))
}

/// Writes the tables; returns where they are. `all_checks`: every check that fails was looked for.
pub fn write(tried: &[Tried], checks: &[String], all_checks: bool) -> Result<PathBuf> {
    let mut text = String::from(
        "| mistake | breaks | what is wrong | caught by | seeds | simulated minutes |\n|---|---|---|---|---|---|\n",
    );
    for one in tried {
        let planted = &one.planted;
        let row = |get: &dyn Fn(&Catch) -> String| {
            let told = one.ends.iter().map(|end| end.as_ref().map_or_else(|why| format!("NOT: {why}"), get));
            told.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
        };
        let (by, seeds, minutes) = (
            row(&|catch| catch.by.clone()),
            row(&|catch| catch.after.map(|(seeds, _)| seeds.to_string()).unwrap_or_default()),
            row(&|catch| catch.after.map(|(_, minutes)| minutes.to_string()).unwrap_or_default()),
        );
        writeln!(
            text,
            "| {} | {} | {} | {by} | {seeds} | {minutes} |",
            planted.name, planted.promise, planted.wrong
        )?;
    }
    if all_checks {
        text += &of_checks(tried, checks);
    }
    let file = paths::runs().join("mutants.md");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// By check: which mistakes make it fail, the quickest first.
fn of_checks(tried: &[Tried], checks: &[String]) -> String {
    let mut failed: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    for one in tried {
        for (check, seeds) in &one.checks {
            failed.entry(check).or_default().push((*seeds, &one.planted.name));
        }
    }
    let mut text = String::from("\n| check | seen to fail under |\n|---|---|\n");
    for check in checks {
        let mut by = failed.remove(check.as_str()).unwrap_or_default();
        by.sort_unstable();
        let by: Vec<String> = by.into_iter().map(|(seeds, name)| format!("{name} ({seeds})")).collect();
        let by = if by.is_empty() { "NEVER".to_owned() } else { by.join(", ") };
        text += &format!("| {check} | {by} |\n");
    }
    text
}
