//! Recorded answers, as result sets.

/// One result set, as the server spells it.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
}

/// The answer to a statement; `None` where it returns no rows.
pub fn table(answers: &str, statement: &str) -> Option<Table> {
    let one = |columns: &[&str], values: &[Option<&str>]| {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        let row = values.iter().map(|value| value.map(|text| text.as_bytes().to_vec())).collect();
        Some(Table { columns, rows: vec![row] })
    };
    let recorded = |name: &str| Some(section(answers, name).unwrap_or_default());
    match statement {
        s if s.starts_with("SHOW GLOBAL VARIABLES WHERE") => recorded("profile"),
        s if s.contains(" AS now_s") => recorded("variables"),
        s if s.starts_with("SELECT VARIABLE_NAME AS name") => recorded("status"),
        "SHOW REPLICA STATUS" | "SHOW SLAVE STATUS" | "SHOW ALL SLAVES STATUS" => recorded("channels"),
        s if s.starts_with("SELECT s.CHANNEL_NAME") => recorded("heartbeats"),
        "SHOW REPLICAS" | "SHOW SLAVE HOSTS" => recorded("replicas"),
        s if s.starts_with("SELECT @@sync_binlog") => recorded("durability"),
        s if s.starts_with("SELECT ID AS id") => recorded("dumpthreads"),
        s if s.starts_with("SELECT COUNT(*)") => one(&["transactions"], &[Some("0")]),
        s if s.starts_with("SELECT GET_LOCK") => one(&["got", "holder"], &[Some("1"), Some("0")]),
        s if s.starts_with("SELECT IS_USED_LOCK") => one(&["id"], &[None]),
        s if s.starts_with("SELECT p.ID AS id") => one(
            &[
                "id",
                "user",
                "host",
                "command",
                "in_state_ms",
                "statement",
                "transaction_id",
                "in_transaction_ms",
            ],
            &[
                Some("9"),
                Some("app"),
                Some("10.0.0.9:5"),
                Some("Query"),
                Some("2000"),
                Some("SELECT 1"),
                Some("77"),
                Some("3000"),
            ],
        ),
        s if s.starts_with("SELECT t.PROCESSLIST_ID") => one(
            &["id", "user", "host", "for_ms", "object"],
            &[Some("11"), Some("app"), Some("10.0.0.9"), Some("9000"), Some("d.t")],
        ),
        s if s.starts_with("SELECT @@admin_address") => one(&["host", "port"], &[None, Some("33062")]),
        s if s.starts_with("SELECT") => one(&["x"], &[Some("1")]),
        _ => None,
    }
}

/// A section of recorded answers, names as they stand.
fn section(answers: &str, name: &str) -> Option<Table> {
    let from = answers.split(&format!("\n== {name}\n")).nth(1)?;
    let mut table = Table::default();
    for line in from.split("\n== ").next()?.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if line.starts_with('*') {
            table.rows.push(Vec::new());
        } else if let (Some((name, value)), Some(row)) = (line.split_once(':'), table.rows.last_mut()) {
            if row.len() >= table.columns.len() {
                table.columns.push(name.trim().to_owned());
            }
            row.push(Some(value.trim().as_bytes().to_vec()).filter(|value| value != b"NULL"));
        }
    }
    if table.columns.is_empty() {
        table.columns.push("nothing".to_owned());
    }
    Some(table)
}
