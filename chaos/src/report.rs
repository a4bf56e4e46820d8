//! `cargo chaos report`: a page that tells what happened in each run, from the artefacts beside its record.
//!
//! The page is one file: no script, nothing fetched. A run whose artefacts are gone is told by its record alone.

mod html;
mod page;
mod telling;
mod timeline;

use crate::{rig_error::rig_failure, story};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `cargo chaos report`.
#[derive(Args)]
pub struct ReportArgs {
    /// A file of records, as `--json` writes it, or a directory of a run or of several, e.g. target/chaos/failed
    path: PathBuf,
    /// The page; next to PATH unless told
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// Writes the page.
pub fn command(args: &ReportArgs) -> Result<u8> {
    let stories = if args.path.is_dir() { in_directory(&args.path)? } else { of_records(&args.path)? };
    if stories.is_empty() {
        return Err(rig_failure(format!("no run is told in {}", args.path.display())));
    }
    let output = args.output.clone().unwrap_or_else(|| args.path.with_extension("html"));
    let title = args.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::fs::write(&output, page::page(&title, &stories)).with_context(|| output.display().to_string())?;
    println!("{} runs in {}", stories.len(), output.display());
    Ok(0)
}

/// The stories of an array of records; of one whose artefacts are gone, what the record itself says.
fn of_records(file: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let records: Vec<Value> = serde_json::from_str(&text).context("not a file of records")?;
    let dir = file.parent().unwrap_or(Path::new(""));
    let told = records.into_iter().map(|record| {
        let artefacts = record["artefacts"].as_str().map(|artefacts| dir.join(artefacts));
        let story = artefacts.and_then(|artefacts| read(&artefacts).ok());
        story.unwrap_or_else(|| json!({"record": record}))
    });
    Ok(told.collect())
}

fn in_directory(dir: &Path) -> Result<Vec<Value>> {
    if dir.join(story::FILE).exists() {
        return Ok(vec![read(dir)?]);
    }
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    dirs.sort();
    dirs.retain(|dir| dir.join(story::FILE).exists());
    dirs.iter().map(|dir| read(dir)).collect()
}

fn read(dir: &Path) -> Result<Value> {
    let file = dir.join(story::FILE);
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

/// The name of a run, for headings.
fn name(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let variant = text("variant");
    let variant = if variant.is_empty() { String::new() } else { format!(" [{variant}]") };
    format!("{}{variant}, {}, run {}", text("scenario"), text("flavor"), record["run"])
}

/// Whether a promise was broken, or the run says nothing, as far as the record alone tells.
fn class(record: &Value) -> &'static str {
    let broken = record["violations"].as_array().is_some_and(|violations| !violations.is_empty());
    match record["outcome"].as_str() {
        _ if broken => "broken",
        Some("failed") => "broken",
        Some("skipped" | "rig-failed") => "rig",
        _ => "passed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{flavor::Flavor, record::Record};

    #[test]
    fn a_directory_and_a_file_tell_the_same() {
        let dir = std::env::temp_dir().join(format!("quorate-report-{}", std::process::id()));
        let runs = dir.join("runs.json.d").join("kill-primary-mysql-1");
        std::fs::create_dir_all(&runs).unwrap();
        let mut record = Record::begin("kill-primary", Flavor::Mysql, 3, 1, 1);
        record.artefacts = Some("runs.json.d/kill-primary-mysql-1".into());
        let record = serde_json::to_value(&record).unwrap();
        let gone = Record::begin("flap", Flavor::Mysql, 3, 1, 1);
        let records = json!([record, gone]);
        std::fs::write(dir.join("runs.json"), records.to_string()).unwrap();
        std::fs::write(runs.join(story::FILE), json!({"record": record, "rig": []}).to_string()).unwrap();
        let by_file = of_records(&dir.join("runs.json")).unwrap();
        assert_eq!(
            (by_file.len(), by_file[0]["rig"].is_array(), by_file[1]["rig"].is_null()),
            (2, true, true)
        );
        assert_eq!(in_directory(&dir.join("runs.json.d")).unwrap(), in_directory(&runs).unwrap());
        let args = ReportArgs { path: dir.join("runs.json"), output: None };
        assert_eq!(command(&args).unwrap(), 0);
        let page = std::fs::read_to_string(dir.join("runs.html")).unwrap();
        assert!(page.contains("kill-primary, mysql, run 1") && page.contains("flap, mysql, run 1"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
