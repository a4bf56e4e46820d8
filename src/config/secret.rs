//! Passwords: loaded once, shown never.

use std::{fmt, path::PathBuf};

use super::{ConfigError, Place};

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
    place: &Place<'_>,
    section: &str,
    file: &Option<PathBuf>,
    variable: &Option<String>,
) -> Result<Secret, ConfigError> {
    let (file_key, env_key) = (format!("{section}.password_file"), format!("{section}.password_env"));
    let (key, text) = match (file, variable) {
        (Some(path), None) => {
            let bytes = place.read(&file_key, path)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| place.wrong(&file_key, "names a file that is no UTF-8 text"))?;
            (file_key, text.lines().next().unwrap_or_default().to_owned())
        }
        // The name is not repeated: who mistakes this key puts the password itself here.
        (None, Some(name)) => {
            let what = "names an environment variable that is not set, or is no UTF-8 text";
            let text = std::env::var(name).map_err(|_| place.wrong(&env_key, what))?;
            (env_key, text)
        }
        (Some(_), Some(_)) => {
            return Err(place.wrong(&env_key, "is given, and so is `password_file`; give one of them"));
        }
        (None, None) => {
            return Err(place.wrong(&file_key, "is missing; give it, or `password_env`"));
        }
    };
    match text.is_empty() {
        true => Err(place.wrong(&key, "names an empty password")),
        false => Ok(Secret::new(text)),
    }
}
