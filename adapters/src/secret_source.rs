//! A secret in the settings of a store: a text, or a file with the text.

use std::fmt;
use std::path::PathBuf;

use liverank_core::secret::Secret;

use crate::StoreError;

/// The place of a store's secret: an address with a password, or a password alone.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The secret itself, which stays the same for as long as the process runs.
    Value(Secret),
    /// A file with the secret, which may be replaced at any time.
    File(PathBuf),
}

impl SecretSource {
    /// Returns the secret, read from its file now if it is in a file. A line end after the secret is left out, because
    /// editors add one; blanks are kept, because a password may begin or end with one.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] of the store `part` if the file cannot be read or is empty.
    pub fn read(&self, part: &'static str) -> Result<Secret, StoreError> {
        let file = match self {
            Self::Value(secret) => return Ok(secret.clone()),
            Self::File(file) => file,
        };
        let unusable =
            |what: String| StoreError::unusable(part, format!("the file {}: {what}", file.display()));
        // A small file is read faster than another thread is asked to read it.
        let text = std::fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.trim().is_empty() {
            return Err(unusable("it is empty".to_owned()));
        }
        Ok(Secret::new(text))
    }

    /// Returns true if the secret may change while the process runs.
    pub const fn may_change(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

impl From<String> for SecretSource {
    fn from(text: String) -> Self {
        Self::Value(Secret::new(text))
    }
}

impl From<&str> for SecretSource {
    fn from(text: &str) -> Self {
        Self::Value(Secret::new(text))
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(secret) => fmt::Debug::fmt(secret, f),
            Self::File(file) => fmt::Debug::fmt(file, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_a_file_is_what_the_file_says_now_without_its_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let source = SecretSource::File(file.clone());
        let read = || source.read("redis").map(|secret| secret.expose().to_owned());
        let error = read().unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("secret"), "{error}");
        for (written, expected) in
            [("hunter2\n", "hunter2"), (" hunter3 \r\n", " hunter3 "), ("x\n\n", "x\n")]
        {
            std::fs::write(&file, written).unwrap();
            assert_eq!(read().unwrap(), expected);
        }
        std::fs::write(&file, " \n").unwrap();
        assert!(read().unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", SecretSource::from("hunter2")).contains("hunter2"));
    }
}
