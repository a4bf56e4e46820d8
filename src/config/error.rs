//! What can be wrong with a node's file.

use std::{fmt, io, path::PathBuf};

/// One variant per kind of mistake; each names file and key, and the line where there is one.
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
    #[error("{}{}: {what}", file.display(), At(*.line))]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Line.
        line: Option<usize>,
        /// The parser's words.
        what: String,
    },
    /// A key that is none.
    #[error("{}{}: there is no key `{key}`; {hint}", file.display(), At(*.line))]
    UnknownKey {
        /// Which file.
        file: PathBuf,
        /// Line.
        line: Option<usize>,
        /// The key with its section.
        key: String,
        /// What may be meant, and what is allowed there.
        hint: String,
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
    #[error("{}{}: `{key}` names {}, which cannot be read", file.display(), At(*.line), path.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Line.
        line: Option<usize>,
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
