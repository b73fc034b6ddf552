//! A text that no log and no debug output shows.

use serde::{Deserialize, Serialize};

/// A text that only its owner and whoever was given it know. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, to be sent and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `shown` is it, in a time that does not tell where they differ.
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
