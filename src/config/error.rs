//! What can be wrong with a node's file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// One variant per broken rule; each names file and key, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself.
    #[error("{} cannot be read", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// No TOML.
    #[error("{}:{line}: {what}", file.display())]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Line.
        line: usize,
        /// The parser's words.
        what: String,
    },
    /// A key that is none.
    #[error("{}:{line}: no key `{key}`{}{}", file.display(), meant(.near), allowed_text(.allowed))]
    UnknownKey {
        /// Which file.
        file: PathBuf,
        /// Line.
        line: usize,
        /// The key with its section.
        key: String,
        /// Near keys.
        near: Vec<String>,
        /// Keys of that section.
        allowed: Vec<String>,
    },
    /// A wrong value, or a missing one.
    #[error("{}{}: `{key}` {what}", file.display(), At(*.line))]
    Value {
        /// Which file.
        file: PathBuf,
        /// Line, where the key stands somewhere.
        line: Option<usize>,
        /// The key with its section.
        key: String,
        /// What is wrong and what is allowed.
        what: String,
    },
    /// A file that a key names.
    #[error("{}: `{key}` names {}, which cannot be read", file.display(), path.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// The key with its section.
        key: String,
        /// What it names.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
}

struct At(Option<usize>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

fn meant(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean `{}`?", near.join("`, `")) }
}

fn allowed_text(allowed: &[String]) -> String {
    if allowed.is_empty() { String::new() } else { format!(" (keys here: {})", allowed.join(", ")) }
}

impl ConfigError {
    /// The parser's error, without the source line it would show: that line may hold a secret.
    pub(super) fn from_toml(file: &Path, _text: &str, error: &toml::de::Error) -> Self {
        Self::Syntax { file: file.to_owned(), line: 0, what: error.message().to_owned() }
    }
}
