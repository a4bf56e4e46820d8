//! Colour, where it is wanted, and nothing else that steers a terminal.

use crate::model::words::is_plain;

/// The codes of this brush.
const CODES: [&str; 6] = ["0", "1", "2", "31", "32", "33"];

/// A brush that may be dry.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// All well.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Look at it.
    pub fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Wrong.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// The thing itself.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Beside the point.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// By severity.
    pub fn severity(self, severity: &str, text: &str) -> String {
        match severity {
            "critical" => self.bad(text),
            "warning" => self.warn(text),
            _ => text.to_owned(),
        }
    }
}

/// Columns a text takes, its colour left out.
pub fn width(text: &str) -> usize {
    let mut width = 0;
    let mut escaped = false;
    for c in text.chars() {
        match (escaped, c) {
            (false, '\x1b') => escaped = true,
            (true, 'm') => escaped = false,
            (true, _) => {}
            (false, _) => width += 1,
        }
    }
    width
}

/// `text` as it may go to a terminal: what names, errors and comments from elsewhere bring to steer one is written out, as
/// JSON writes it or as Rust does. Lines and the colours of this brush stay.
pub fn harmless(text: &str, json: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let painted = CODES
            .iter()
            .find_map(|code| Some((code, after.strip_prefix('[')?.strip_prefix(code)?.strip_prefix('m')?)));
        rest = match (c, painted) {
            ('\x1b', Some((code, beyond))) if !json => {
                out.push_str(&format!("\x1b[{code}m"));
                beyond
            }
            _ if c == '\n' || is_plain(c) => {
                out.push(c);
                after
            }
            _ if json => {
                out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
                after
            }
            _ => {
                out.extend(c.escape_default());
                after
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_and_lines_reach_a_terminal() {
        let painted = format!("{} x\n{}", Paint(true).bad("dead"), Paint(true).bold("db1"));
        assert_eq!(harmless(&painted, false), painted);
        assert_eq!(
            harmless("a\x1b[2Jb\x1b]0;title\x07\r\x1b[8m", false),
            "a\\u{1b}[2Jb\\u{1b}]0;title\\u{7}\\r\\u{1b}[8m"
        );
        assert_eq!(harmless("\u{9b}2J\u{202e}", false), "\\u{9b}2J\\u{202e}");
        let json = serde_json::json!({ "text": "\x1b[31m \u{9b} \u{202e} \u{e0041} ä" });
        let printed = harmless(&format!("{json:#}"), true);
        assert!(printed.chars().all(|c| c == '\n' || is_plain(c)), "{printed}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), json);
    }
}
