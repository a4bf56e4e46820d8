//! Passwords: loaded once, shown never.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use super::ConfigError;

/// A password. Its text comes out only by [`Secret::reveal`]; it cannot be printed, formatted or serialised.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Reads a password from the file or the environment variable that `section` names: exactly one of them.
pub(super) fn load(
    config: &Path,
    section: &str,
    file: &Option<PathBuf>,
    variable: &Option<String>,
) -> Result<Secret, ConfigError> {
    let fail = |key: &str, what: String| ConfigError::Value {
        file: config.to_owned(),
        line: None,
        key: format!("{section}.{key}"),
        what,
    };
    let (key, text) = match (file, variable) {
        (Some(path), None) => {
            let text = fs::read_to_string(path).map_err(|source| ConfigError::File {
                file: config.to_owned(),
                key: format!("{section}.password_file"),
                path: path.clone(),
                source,
            })?;
            ("password_file", text.lines().next().unwrap_or_default().to_owned())
        }
        // The name is not repeated: who mistakes this key puts the password itself here.
        (None, Some(name)) => {
            let what = "the environment variable it names is not set, or is not UTF-8".to_owned();
            ("password_env", std::env::var(name).map_err(|_| fail("password_env", what))?)
        }
        (Some(_), Some(_)) => {
            return Err(fail("password_env", "give it or `password_file`, not both".into()));
        }
        (None, None) => {
            return Err(fail("password_file", "is missing; give it, or `password_env`".into()));
        }
    };
    match text.is_empty() {
        true => Err(fail(key, "holds an empty password".into())),
        false => Ok(Secret::new(text)),
    }
}
