//! Answers for people: trees, tables, sentences. Pure: messages in, text out.

pub mod group;
pub mod lists;
pub mod paint;
pub mod recovery;
pub mod tree;

use crate::proto::v1 as pb;

/// What people call a cluster.
pub fn cluster_name<'a>(alias: &'a str, id: &'a str) -> &'a str {
    if alias.is_empty() { id } else { alias }
}

/// `text`, or a dash.
pub fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Rows under a head, columns padded; the last one is not.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let plain = |cell: &str| paint::width(cell);
    let mut widths: Vec<usize> = head.iter().map(|h| h.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(plain(cell));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 2 - plain(cell).min(width + 2)));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Wall time as `2026-01-31 12:34:56.789` UTC.
pub fn time(unix_ms: u64) -> String {
    if unix_ms == 0 {
        return "-".into();
    }
    let (days, rest) = ((unix_ms / 86_400_000) as i64, unix_ms % 86_400_000);
    // Days to a civil date, after Howard Hinnant's `civil_from_days`.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s, ms) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{ms:03}")
}

/// A change that has nothing else to tell.
pub fn changed(changed: &pb::Changed) -> String {
    let prefix = if changed.log_index == 0 { "dry run, nothing was changed; it would say: " } else { "" };
    match changed.effects.is_empty() {
        true => format!("{prefix}done (log index {})\n", changed.log_index),
        false => changed.effects.iter().map(|effect| format!("{prefix}{effect}\n")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_a_civil_date() {
        for (ms, text) in [
            (1, "1970-01-01 00:00:00.001"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (1_795_305_599_999, "2026-11-21 23:59:59.999"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000"),
        ] {
            assert_eq!(time(ms), text);
        }
    }
}
