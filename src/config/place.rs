//! Where in the file something stands, and the parser's errors in words that name it. The source line itself is never
//! shown: a password written there by mistake would be in it.

use std::{fs, path::Path};

use super::ConfigError;
use crate::model::{near::near, policy::Policy};

/// The sections, with their keys; `""` is the part above the first section.
const KEYS: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "node_id",
            "group",
            "data_dir",
            "profile",
            "datacenter",
            "listen",
            "tls",
            "servers",
            "replication",
            "limits",
        ],
    ),
    ("listen", &["node", "client", "advertise_node", "advertise_client"]),
    ("tls", &["plaintext", "node_ca", "node_cert", "node_key", "client_ca", "client_cert", "client_key"]),
    ("servers", &["user", "password_file", "password_env", "tls", "tls_ca", "tls_cert", "tls_key"]),
    ("replication", &["user", "password_file", "password_env"]),
    ("limits", &["client_connections", "client_streams"]),
];

/// A file and its text.
pub struct Place<'a> {
    /// The file.
    pub file: &'a Path,
    /// Its text.
    pub text: &'a str,
}

impl Place<'_> {
    /// A wrong value of `key` (with its section).
    pub fn wrong(&self, key: &str, what: impl Into<String>) -> ConfigError {
        let (file, line) = (self.file.to_owned(), self.line_of(key));
        ConfigError::Value { file, line, key: key.to_owned(), what: what.into() }
    }

    /// Reads a file that `key` names.
    pub fn read(&self, key: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
        fs::read(path).map_err(|source| ConfigError::File {
            file: self.file.to_owned(),
            line: self.line_of(key),
            key: key.to_owned(),
            path: path.to_owned(),
            source,
        })
    }

    /// The line a key stands on.
    fn line_of(&self, key: &str) -> Option<usize> {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let mut now = String::new();
        for (line, number) in self.text.lines().zip(1..) {
            if let Some(header) = header_of(line) {
                now = header.to_owned();
            } else if now == section && key_of(line) == Some(name) {
                return Some(number);
            }
        }
        None
    }

    /// The parser's error.
    pub fn explain(&self, error: &toml::de::Error) -> ConfigError {
        let message = error.message();
        let at = error.span().map(|span| span.start.min(self.text.len()));
        let line = at.map(|at| self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1);
        let mut section = line.map(|line| self.section_at(line)).unwrap_or_default();
        let file = self.file.to_owned();
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        // A header that is no section is itself the unknown key.
        if message.starts_with("unknown field") && quoted.first() == Some(&section.as_str()) {
            section.clear();
        }
        let full = |key: &str| if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        if message.starts_with("unknown field")
            && let Some(key) = quoted.first()
        {
            let hint = hint(&section, key);
            return ConfigError::UnknownKey { file, line, key: full(key), hint };
        }
        if message.starts_with("missing field")
            && let Some(key) = quoted.first()
        {
            let what = match KEYS.iter().any(|(section, _)| section == key) {
                true => format!("is missing: add a section `[{key}]`"),
                false => "is missing".into(),
            };
            // The error points at the section that lacks it.
            return ConfigError::Value {
                file,
                line: line.filter(|_| !section.is_empty()),
                key: full(key),
                what,
            };
        }
        match line.and_then(|line| self.text.lines().nth(line - 1)).and_then(key_of) {
            Some(key) if message.starts_with("invalid type") || message.starts_with("invalid value") => {
                ConfigError::Value { file, line, key: full(key), what: typed(message) }
            }
            Some(key) if message.starts_with("unknown variant") => {
                let allowed: Vec<&str> = quoted.iter().skip(1).copied().collect();
                let what = format!("must be one of {}", allowed.join(", "));
                ConfigError::Value { file, line, key: full(key), what }
            }
            Some(key) if message.contains("is not an address") => {
                ConfigError::Value { file, line, key: full(key), what: format!("is wrong: {message}") }
            }
            _ => ConfigError::Syntax { file, line, what: message.lines().collect::<Vec<_>>().join(", ") },
        }
    }

    fn section_at(&self, line: usize) -> String {
        let above = self.text.lines().take(line).filter_map(header_of);
        above.last().unwrap_or_default().to_owned()
    }
}

fn header_of(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.split_once(']').map(|(name, _)| name.trim())
}

fn key_of(line: &str) -> Option<&str> {
    line.split_once('=').map(|(key, _)| key.trim()).filter(|key| !key.is_empty() && !key.starts_with('#'))
}

/// `invalid type: string "5", expected u64` without the value.
fn typed(message: &str) -> String {
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
    let found =
        message.split(": ").nth(1).and_then(|rest| rest.split([' ', ',']).next()).unwrap_or("something else");
    let expected = match expected {
        "u64" | "u32" | "u16" | "usize" => "a whole number",
        "path string" | "a string" => "a text in quotes",
        "a boolean" => "true or false",
        other => other,
    };
    format!("must be {expected}, not a {found}")
}

/// What may be meant by a key that is none, and what is allowed there.
fn hint(section: &str, key: &str) -> String {
    if key.contains("password") {
        return "no password is written into this file: name a file with `password_file`, or an environment \
                variable with `password_env`"
            .into();
    }
    let here = KEYS.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys).unwrap_or_default();
    let elsewhere = KEYS.iter().find(|(name, keys)| *name != section && keys.contains(&key));
    let close = near(key, here.iter().map(|k| (*k).to_owned()));
    if !close.is_empty() {
        return format!("did you mean `{}`? (allowed here: {})", close.join("`, `"), here.join(", "));
    }
    if let Some((other, _)) = elsewhere {
        let other =
            if other.is_empty() { "above the first section".into() } else { format!("in `[{other}]`") };
        return format!("it belongs {other} (allowed here: {})", here.join(", "));
    }
    if is_policy(key) {
        return format!("it is policy, the same on all nodes: `quorate policy set {key}=...`");
    }
    match here {
        [] => format!("the sections are {}", sections().join(", ")),
        keys => format!("allowed here: {}", keys.join(", ")),
    }
}

fn sections() -> Vec<String> {
    KEYS.iter().filter(|(name, _)| !name.is_empty()).map(|(name, _)| format!("[{name}]")).collect()
}

fn is_policy(key: &str) -> bool {
    let policy = serde_json::to_value(Policy::default());
    policy.is_ok_and(|policy| policy.get(key).is_some())
}
