//! A secret text that no log and no debug output shows.

use serde::{Deserialize, Serialize};

/// A secret text, such as a token or a key. `Debug` prints `Secret(…)` in its place.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Makes a secret of `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret text itself, to be sent or compared, never printed.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the bytes `shown` equal the secret. The comparison takes constant time, so that the time does not tell
    /// at which byte they differ.
    pub fn matches(&self, shown: &[u8]) -> bool {
        let expected = self.0.as_bytes();
        let differences = shown.iter().zip(expected).fold(0, |all, (a, b)| all | (a ^ b));
        shown.len() == expected.len() && std::hint::black_box(differences) == 0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_equals_only_itself_and_is_never_printed() {
        let secret = Secret::new("s3cret");
        assert!(secret.matches(b"s3cret"));
        for wrong in [&b""[..], b"s3cre", b"s3crets", b"S3cret"] {
            assert!(!secret.matches(wrong));
        }
        assert!(!format!("{secret:?}").contains("s3cret"));
    }
}
