//! What a user who is erased leaves, and how the log says it without the name.
//!
//! The log keeps what it has until its retention ends, and an erasure is newer than all that it is about. A record of it
//! that named the user would keep the name longer than the comments. So it has a digest of the name, by which the entries
//! that it is about are known for the user's. A digest is no secret: who has the name can make it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::comment::to_hex;
use crate::counting::{MarkKey, identity_digest};
use crate::{Invalid, UserId};

/// The most marks that one record forgets: one for each type that can count once per user, and some room.
pub const MAX_FORGOTTEN_MARKS: usize = 8;

/// Sixteen bytes that stand for a name or a mark; 32 hexadecimal digits in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameDigest([u8; 16]);

impl NameDigest {
    /// That of a user. Two of 2^48 users have the same by chance once in 2^33 times.
    pub fn of_user(user: &UserId) -> Self {
        Self(identity_digest(&format!("u:{user}")))
    }

    /// That which a mark is found by.
    pub const fn of_mark(key: MarkKey) -> Self {
        Self(key)
    }

    /// The mark that is found by it.
    pub const fn to_mark_key(self) -> MarkKey {
        self.0
    }

    /// Reads 32 hexadecimal digits.
    ///
    /// # Errors
    /// Any other text.
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

/// Refuses more marks than a record may have.
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
