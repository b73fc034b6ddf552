//! Erasure of a user: how the log names the user without keeping the name.
//!
//! The log keeps its records until their retention ends, and the record of an erasure is newer than everything that it
//! erases. A record with the user's name would therefore keep the name longer than the comments. So the record has a
//! digest of the name instead, by which the user's entries are found. The digest is no secret: anybody who has the
//! name can compute it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::comment::to_hex;
use crate::digest::identity_digest;
use crate::{Invalid, UserId};

/// The most marks that one record removes: one for each type that can count once per user, and some room.
pub const MAX_FORGOTTEN_MARKS: usize = 8;

/// A digest of a user's name or of a mark: sixteen bytes; 32 hexadecimal digits in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameDigest([u8; 16]);

impl NameDigest {
    /// Returns the digest of a user's id. Among 2^48 users, the chance that any two have the same is 1 to 2^33.
    pub fn of_user(user: &UserId) -> Self {
        Self(identity_digest(&format!("u:{user}")))
    }

    /// Makes the digest of a mark from the mark's key ([`MarkKey`](crate::counting::MarkKey)).
    pub const fn of_mark(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// Returns the key of the mark that this digest stands for.
    pub const fn to_mark_key(self) -> [u8; 16] {
        self.0
    }

    /// Reads 32 hexadecimal digits.
    ///
    /// # Errors
    /// Returns an error for any other text.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex);
        let number = number.ok_or_else(|| Invalid::new("digest", "must be 32 hexadecimal digits"))?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for NameDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl Serialize for NameDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NameDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// Refuses more marks than one record may remove.
pub(super) fn check_marks(marks: &[NameDigest]) -> Result<(), Invalid> {
    if marks.len() > MAX_FORGOTTEN_MARKS {
        return Err(Invalid::new(
            "marks",
            format!("must be at most {MAX_FORGOTTEN_MARKS}, are {}", marks.len()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digests_round_trip(bytes: [u8; 16]) {
            let digest = NameDigest::of_mark(bytes);
            prop_assert_eq!(NameDigest::parse(&digest.to_string()), Ok(digest));
            prop_assert_eq!(digest.to_mark_key(), bytes);
        }

        #[test]
        fn a_text_that_is_no_digest_is_refused(text in "[0-9a-fA-F+ ]{0,40}") {
            let is_one = text.len() == 32 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
            prop_assert_eq!(NameDigest::parse(&text).is_ok(), is_one);
        }
    }

    #[test]
    fn different_users_have_different_digests() {
        let of = |name: &str| NameDigest::of_user(&UserId::parse(name).unwrap());
        assert_eq!(of("ann"), of("ann"));
        assert_ne!(of("ann"), of("ben"));
    }
}
