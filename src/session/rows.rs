//! Result sets as texts under one spelling of column names, and the few literals that go into statements.

use mysql_async::{Column, Value};

use crate::model::{server::Identity, words::tame};

/// One result set of a text query. Column names are in one spelling for all versions: lower case, `source` for
/// `master`, `replica` for `slave`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResultSet {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

/// The common spelling of a column name.
pub(crate) fn spelling(name: &str) -> String {
    name.to_ascii_lowercase().replace("master", "source").replace("slave", "replica")
}

impl ResultSet {
    /// A result set from its parts, names as the server spells them.
    pub fn new(columns: Vec<String>, rows: Vec<Vec<Option<String>>>) -> Self {
        Self { columns: columns.iter().map(|name| spelling(name)).collect(), rows }
    }

    pub(super) fn from_driver(columns: &[Column], rows: Vec<mysql_async::Row>) -> Self {
        let columns = columns.iter().map(|column| spelling(&column.name_str())).collect();
        let rows = rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect();
        Self { columns, rows }
    }

    /// Its rows.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row { columns: &self.columns, values })
    }

    /// Its first row.
    pub fn first(&self) -> Option<Row<'_>> {
        self.rows().next()
    }
}

/// The text protocol sends texts; numbers come only where a driver made them.
fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}

/// One row, read by column name.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    columns: &'a [String],
    values: &'a [Option<String>],
}

impl<'a> Row<'a> {
    /// The value under `name` (common spelling); `None` for NULL and for a column that is not there.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let at = self.columns.iter().position(|column| column == name)?;
        self.values.get(at)?.as_deref()
    }

    /// The same, with an empty text taken as nothing.
    pub fn filled(&self, name: &str) -> Option<&'a str> {
        self.get(name).map(str::trim).filter(|text| !text.is_empty())
    }

    /// The same as words of a server: at most `most` characters that steer nothing.
    pub fn words(&self, name: &str, most: usize) -> String {
        self.get(name).map(|text| tame(text, most)).unwrap_or_default()
    }

    /// A number; `None` where there is none.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.trim().parse().ok()
    }

    /// A switch: `1`, `ON`, `YES`, or `0`, `OFF`, `NO`.
    pub fn switch(&self, name: &str) -> Option<bool> {
        switch(self.get(name)?)
    }
}

pub(super) fn switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_uppercase().as_str() {
        "1" | "ON" | "YES" | "TRUE" => Some(true),
        "0" | "OFF" | "NO" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A text as an SQL literal. Sessions run with an empty `sql_mode`, so a backslash escapes.
pub(crate) fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("\\'"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// An SQL condition that is true on that server and no other.
pub(crate) fn identity_condition(identity: &Identity) -> String {
    let mut condition = format!("@@server_id={}", identity.server_id);
    if let Some(uuid) = &identity.server_uuid {
        condition += &format!(" AND @@server_uuid={}", literal(uuid));
    }
    if let Some(uid) = &identity.server_uid {
        condition += &format!(" AND @@server_uid={}", literal(uid));
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_column_names_are_one() {
        let set = ResultSet::new(
            vec!["Slave_IO_Running".into(), "Master_Host".into(), "Seconds_Behind_Master".into()],
            vec![vec![Some("Yes".into()), Some("db1".into()), None]],
        );
        let row = set.first().unwrap();
        assert_eq!(row.switch("replica_io_running"), Some(true));
        assert_eq!(row.get("source_host"), Some("db1"));
        assert_eq!(row.number::<u64>("seconds_behind_source"), None);
        assert_eq!(row.get("no_such_column"), None);
    }

    #[test]
    fn a_literal_cannot_be_left() {
        assert_eq!(literal("a'b\\c"), r"'a\'b\\c'");
        assert_eq!(literal(r"\'; DROP"), r"'\\\'; DROP'");
    }
}
