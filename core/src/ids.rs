//! Identifiers of videos, users, events, comments, readers and zones: checked once where they enter, trusted from there on.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Invalid;

/// The longest identifier accepted, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 256;

/// Checks an identifier: 1 to 256 bytes of UTF-8 without control characters. `field` is the field's name in the error.
pub fn check_id(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > MAX_ID_BYTES {
        return Err(Invalid::new(field, format!("must be 1 to {MAX_ID_BYTES} bytes, is {}", text.len())));
    }
    // Almost all ids are printable ASCII: one pass over the bytes shows it, and the characters need not be decoded.
    let printable = text.bytes().fold(true, |printable, byte| printable & matches!(byte, b' '..=b'~'));
    if !printable && text.chars().any(char::is_control) {
        return Err(Invalid::new(field, "must not contain control characters"));
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 256 bytes of UTF-8 without control characters; cheap to clone; ordered by its bytes.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts `text`, or returns an error that names the field in which this kind of id usually is.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                Self::parse_field($field, text)
            }

            /// Accepts `text`, or returns an error that names `field`.
            pub fn parse_field(field: &'static str, text: &str) -> Result<Self, Invalid> {
                check_id(field, text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Returns the memory address of the text, as a fast key. While both are alive, two ids with the same
            /// address are equal; equal ids may have different addresses.
            pub fn address(&self) -> usize {
                self.0.as_ptr() as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// The id of a video.
    VideoId,
    "video_id"
);
id!(
    /// The id of a user, who views, likes, comments on or owns videos.
    UserId,
    "user_id"
);
id!(
    /// The identity of an event, chosen by its sender: an event that is sent twice counts once.
    EventId,
    "event_id"
);
id!(
    /// The identity of a comment.
    CommentId,
    "comment_id"
);
id!(
    /// The id of a reader instance; the same after a restart.
    ReaderId,
    "reader_id"
);

id!(
    /// The name of the zone of a data centre in which a process runs.
    ZoneId,
    "zone"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_bounds_of_ids_are_inclusive() {
        assert!(VideoId::parse("v").is_ok());
        assert!(VideoId::parse(&"v".repeat(256)).is_ok());
        assert_eq!(VideoId::parse("").unwrap_err().field, "video_id");
        assert!(VideoId::parse(&"v".repeat(257)).unwrap_err().reason.contains("is 257"));
    }

    #[test]
    fn control_characters_are_refused_and_other_unicode_is_not() {
        for bad in ["a\0", "a\nb", "\u{7f}", "\u{85}"] {
            assert!(UserId::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["ü", "日本", "a b", "}{", "🎬"] {
            assert!(UserId::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn ids_are_ordered_by_bytes() {
        let mut ids: Vec<VideoId> =
            ["ä", "b", "B", "a"].iter().map(|id| VideoId::parse(id).unwrap()).collect();
        ids.sort();
        assert_eq!(ids.iter().map(VideoId::as_str).collect::<Vec<_>>(), ["B", "a", "b", "ä"]);
    }

    #[test]
    fn ids_in_json_are_checked() {
        assert!(serde_json::from_str::<VideoId>("\"\"").is_err());
        assert_eq!(serde_json::from_str::<VideoId>("\"a\\u00e9\"").unwrap().as_str(), "aé");
    }
}
