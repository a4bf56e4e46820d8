//! Reading a server's general log: which changing statements did the account `quorate` send?

use crate::{server::Server, sql::QUORATE, stage::Stage};
use anyhow::{Context, Result};
use std::collections::BTreeSet;

/// Statements that change a server or its data.
const CHANGING: [&str; 20] = [
    "SET GLOBAL",
    "SET PERSIST",
    "SET @@GLOBAL",
    "START SLAVE",
    "START REPLICA",
    "STOP",
    "RESET",
    "CHANGE",
    "KILL",
    "INSERT",
    "UPDATE",
    "DELETE",
    "REPLACE",
    "CREATE",
    "DROP",
    "ALTER",
    "GRANT",
    "FLUSH",
    "PURGE",
    "INSTALL",
];

/// A violation for each changing statement that any server was sent.
pub fn accuse(stage: &mut Stage<'_>) -> Result<()> {
    for server in stage.topology.servers.clone() {
        for statement in changing(&server)? {
            stage.record.violations.push(format!("{server} was sent: {statement}"));
        }
    }
    Ok(())
}

fn changing(server: &Server) -> Result<Vec<String>> {
    let path = server.general_log();
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(changing_in(&String::from_utf8_lossy(&bytes)))
}

/// Both flavours write `ID COMMAND<tab>ARGUMENT` after an optional time.
fn changing_in(log: &str) -> Vec<String> {
    let mut ours: BTreeSet<u64> = BTreeSet::new();
    let mut found = Vec::new();
    for line in log.lines() {
        let Some((id, command, argument)) = entry(line) else { continue };
        match command {
            "Connect" if argument.starts_with(&format!("{}@", QUORATE.user)) => drop(ours.insert(id)),
            "Connect" | "Quit" => drop(ours.remove(&id)),
            "Query" | "Execute" if ours.contains(&id) && is_changing(argument) => {
                // Never more of it than up to a password.
                found.push(argument.split("PASSWORD").next().unwrap_or_default().to_string());
            }

            _ => {}
        }
    }
    found
}

fn entry(line: &str) -> Option<(u64, &str, &str)> {
    let (before, argument) = line.rsplit_once('\t').filter(|(b, _)| has_command(b)).or_else(|| {
        // The argument itself may hold tabs.
        line.match_indices('\t').map(|(i, _)| (&line[..i], &line[i + 1..])).find(|(b, _)| has_command(b))
    })?;
    let mut words = before.split_whitespace().rev();
    let command = words.next()?;
    Some((words.next()?.parse().ok()?, command, argument))
}

fn has_command(before: &str) -> bool {
    let mut words = before.split_whitespace().rev();
    let command = words.next().unwrap_or_default();
    ["Connect", "Query", "Execute", "Quit"].contains(&command)
        && words.next().is_some_and(|id| id.parse::<u64>().is_ok())
}

fn is_changing(sql: &str) -> bool {
    sql.split(';').any(|statement| {
        let mut text = statement.trim_start();
        while let Some(rest) = text.strip_prefix("/*") {
            text = rest.split_once("*/").map_or("", |(_, after)| after).trim_start();
        }
        let words: Vec<String> = text.split_whitespace().take(2).map(str::to_uppercase).collect();
        let head = words.join(" ");
        CHANGING
            .iter()
            .any(|c| head == *c || head.starts_with(&format!("{c} ")) || head.starts_with(&format!("{c}.")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changing_statements_of_our_account_are_found() {
        let mysql = "2026-01-01T00:00:00.000000Z\t   12 Connect\tquorate@127.0.0.1 on  using TCP/IP\n\
                     2026-01-01T00:00:00.000000Z\t   12 Query\tSELECT 1\n\
                     2026-01-01T00:00:00.000000Z\t   13 Connect\troot@localhost on  using Socket\n\
                     2026-01-01T00:00:00.000000Z\t   13 Query\tSET GLOBAL read_only=1\n\
                     2026-01-01T00:00:00.000000Z\t   12 Query\t/* q */ SET GLOBAL super_read_only=1\n";
        assert_eq!(changing_in(mysql), ["/* q */ SET GLOBAL super_read_only=1"]);
        let mariadb = "260101  0:00:00\t     7 Connect\tquorate@127.0.0.1 on  using TCP/IP\n\t\t     7 Query\tSHOW SLAVE STATUS\n\
                       \t\t     7 Query\tSET SESSION lock_wait_timeout=1; STOP SLAVE\n";
        assert_eq!(changing_in(mariadb).len(), 1);
    }
}
