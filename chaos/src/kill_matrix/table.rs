//! The matrix as a table: a row for each moment, a column for each fate.

use super::{COLUMNS, Case};
use crate::{
    record::{Outcome, Record},
    runner::Verdict,
};
use std::collections::BTreeMap;

/// For documents: what came of each case, and the time of the clients' first write elsewhere.
pub fn table<'a>(played: impl Iterator<Item = (&'a Case, &'a Record)>) -> String {
    let mut order = Vec::new();
    let mut cells: BTreeMap<(String, String), String> = BTreeMap::new();
    for (case, record) in played {
        if !order.contains(&case.point()) {
            order.push(case.point());
        }
        cells.insert((case.point(), case.column()), cell(record));
    }
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(fate, after)| Case { step: "", before: true, fate: *fate, after: *after }.column())
        .collect();
    let mut text = format!("| moment | {} |\n|---|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for point in order {
        let of_row = columns.iter().map(|column| cells.get(&(point.clone(), column.clone())));
        let of_row: Vec<&str> = of_row.map(|cell| cell.map_or("-", String::as_str)).collect();
        text += &format!("| {point} | {} |\n", of_row.join(" | "));
    }
    text
}

fn cell(record: &Record) -> String {
    let time = record.first_write_ms.map_or_else(|| "-".into(), |ms| format!("{:.1} s", ms / 1000.0));
    match record.verdict(&[Outcome::Recovered]) {
        Verdict::Passed => time,
        Verdict::NoResult if record.outcome == Outcome::Skipped => "skipped".into(),
        Verdict::NoResult => "rig".into(),
        Verdict::Broken if record.violations.is_empty() => format!("**{:?}**", record.outcome).to_lowercase(),
        Verdict::Broken => "**violation**".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{flavor::Flavor, kill_matrix::After, kill_matrix::Fate};

    #[test]
    fn what_was_not_played_is_empty_and_what_broke_is_loud() {
        let record = |outcome, violations: Vec<String>| {
            let record = Record::begin("kill-matrix", Flavor::Mysql, 3, 1, 1);
            Record { outcome, violations, first_write_ms: Some(1234.0), ..record }
        };
        let case = |fate, after| Case { step: "intent", before: true, fate, after };
        let played = [
            (case(Fate::Killed, After::Back), record(Outcome::Recovered, vec![])),
            (case(Fate::Killed, After::Others), record(Outcome::Recovered, vec!["lost".into()])),
            (case(Fate::Killed, After::CutOff), record(Outcome::Skipped, vec![])),
            (case(Fate::Frozen, After::Back), record(Outcome::Failed, vec![])),
        ];
        let text = table(played.iter().map(|(case, record)| (case, record)));
        let row = text.lines().nth(2).unwrap();
        assert_eq!(row, "| intent:before | 1.2 s | **violation** | skipped | **failed** | - | - |");
    }
}
