//! Digests of texts, as short keys in their place.

use sha2::{Digest as _, Sha256};

/// Returns an identity in 16 bytes (the first half of its SHA-256), which an archive may remember in its place. Among
/// 2^48 identities, the chance that any two are the same is 1 to 2^33.
pub fn identity_digest(identity: &str) -> [u8; 16] {
    *sha256(identity).first_chunk().expect("a SHA-256 has 32 bytes")
}

/// Returns the SHA-256 of a text, which serves as a short key for the text.
pub fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
