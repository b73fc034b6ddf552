//! Comments: their text, their identity, and their positions in a video's channel.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::moderation::actor_role::ActorRole;
use crate::{CommentId, Invalid, Millis, UserId, VideoId};

mod unnumbered;

pub use unnumbered::UnnumberedComment;

/// The longest comment accepted, in characters.
pub const MAX_COMMENT_CHARS: usize = 4096;

/// The id of [`nobody_user`]. No real user has this id.
pub const NOBODY_ID: &str = "liverank:nobody";

/// Checks a comment's text: 1 to 4,096 characters. `field` is the field's name in the error.
pub fn check_text(field: &'static str, text: &str) -> Result<(), Invalid> {
    let chars = text.chars().count();
    if chars == 0 || chars > MAX_COMMENT_CHARS {
        return Err(Invalid::new(field, format!("must be 1 to {MAX_COMMENT_CHARS} characters, is {chars}")));
    }
    Ok(())
}

/// The kind of an entry in a video's channel. All entries share one series of sequence numbers, so a viewer who comes
/// back is told of a deletion just as of a comment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntryKind {
    /// A comment.
    #[default]
    Comment,
    /// A comment that was removed: its sequence number is kept, its text is not. No viewer is shown the entry.
    Removed,
    /// A comment of a user who is shadow-banned: only its author is shown it.
    Shadowed,
    /// The notice that a comment was removed. Viewers whose stream asked for `deleted` get it.
    Deleted {
        /// The id of the removed comment.
        comment_id: CommentId,
        /// The sequence number of the removed comment; 0 if no such comment is known.
        of: u64,
        /// The role of the actor who removed the comment.
        role: ActorRole,
    },
    /// The notice of which comment is pinned from here on. Viewers whose stream asked for `pinned` get it.
    Pinned {
        /// The id of the pinned comment; absent if none is pinned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment_id: Option<CommentId>,
        /// The sequence number of the pinned comment; 0 if none is pinned.
        of: u64,
    },
    /// An entry of a kind that a later release has added: its sequence number is kept, and nobody is shown it. No
    /// release writes an entry of this kind.
    #[serde(other)]
    Unknown,
}

impl EntryKind {
    /// Whether the entry is a comment that everybody may be shown.
    pub const fn is_comment(&self) -> bool {
        matches!(self, Self::Comment)
    }

    /// Whether the entry has a text that somebody may be shown: everybody, or the shadow-banned author.
    pub const fn has_text(&self) -> bool {
        matches!(self, Self::Comment | Self::Shadowed)
    }

    /// Whether `viewer` may be shown an entry of this kind that `author` wrote.
    pub fn is_shown_to(&self, author: &UserId, viewer: Option<&UserId>) -> bool {
        match self {
            Self::Comment => true,
            Self::Shadowed => viewer == Some(author),
            Self::Removed | Self::Unknown | Self::Deleted { .. } | Self::Pinned { .. } => false,
        }
    }

    /// Returns the sequence number of the comment that this entry removes; `None` for other entries and for an unknown
    /// comment.
    pub const fn removed_seq(&self) -> Option<u64> {
        match self {
            Self::Deleted { of, .. } if *of > 0 => Some(*of),
            _ => None,
        }
    }
}

/// One comment as the archive stores it and as viewers receive it, or another entry of a video's channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// The identity of the comment.
    pub id: CommentId,
    /// The user who wrote the comment.
    #[serde(rename = "userid")]
    pub user_id: UserId,
    /// The video under which the comment was posted.
    #[serde(rename = "videoid")]
    pub video_id: VideoId,
    /// The text of the comment.
    #[serde(rename = "comment")]
    pub text: String,
    /// The time at which the comment was posted, in milliseconds since the Unix epoch.
    pub timestamp: Millis,
    /// The sequence number of the entry in the video's channel, from 1.
    pub seq: u64,
    /// The comment under the same video that this comment replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<CommentId>,
    /// The kind of the entry: a comment, or a notice about one.
    #[serde(default, skip_serializing_if = "EntryKind::is_comment")]
    pub entry: EntryKind,
}

impl Comment {
    /// Whether `viewer` may be shown this comment.
    pub fn is_shown_to(&self, viewer: Option<&UserId>) -> bool {
        self.entry.is_shown_to(&self.user_id, viewer)
    }

    /// Returns what is left of the comment when it is removed: everything but its text.
    #[must_use]
    pub fn into_removed(self) -> Self {
        Self { text: String::new(), entry: EntryKind::Removed, ..self }
    }

    /// Returns what is left of an entry when its author is erased: its sequence number, and notices about others'
    /// entries.
    #[must_use]
    pub fn into_erased(self) -> Self {
        let left = if self.entry.has_text() { self.into_removed() } else { self };
        Self { user_id: nobody_user(), ..left }
    }
}

/// Returns the user who stands for "nobody": the author of notices, and of entries whose author was erased.
pub fn nobody_user() -> UserId {
    UserId::parse(NOBODY_ID).expect("it is an identifier")
}

/// Derives the id of a comment that carries an idempotency key: the same user, video and key always make the same id.
pub fn comment_id_of_key(user: &UserId, video: &VideoId, key: &str) -> CommentId {
    let mut hash = Sha256::new();
    for part in [user.as_str(), video.as_str(), key] {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    CommentId::parse(&to_hex(&hash.finalize()[..16])).expect("hexadecimal digits make an identifier")
}

/// Makes the id of a comment without an idempotency key, from 128 random bits.
pub fn random_comment_id(bits: u128) -> CommentId {
    CommentId::parse(&to_hex(&bits.to_be_bytes())).expect("hexadecimal digits make an identifier")
}

/// Writes bytes as lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// The comment epoch: the run of sequence numbers that a `seq` belongs to. The epoch is made together with the
/// archive. A new one begins when the archive numbers its comments anew; moving a video between readers never changes
/// it. 1 to 16 characters of `a-z0-9`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommentEpoch(String);

impl CommentEpoch {
    /// Makes a new comment epoch from random bits.
    pub fn from_bits(bits: u64) -> Self {
        Self(to_hex(&bits.to_be_bytes()[..6]))
    }

    /// Reads a comment epoch: 1 to 16 characters of `a-z0-9`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let fits = (1..=16).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("numbering", "must be 1 to 16 of a-z0-9"))
        }
    }

    /// The comment epoch as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CommentEpoch {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<CommentEpoch> for String {
    fn from(numbering: CommentEpoch) -> Self {
        numbering.0
    }
}

impl fmt::Display for CommentEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The position of a viewer in a comment stream: the `id` of a server-sent event, `<comment epoch>-<seq>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPosition {
    /// The comment epoch to which `seq` belongs.
    pub comment_epoch: CommentEpoch,
    /// The sequence number of the last comment that the viewer got; 0 before the first.
    pub seq: u64,
}

impl StreamPosition {
    /// Reads `<comment epoch>-<seq>`, the form that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("last_event_id", "must be the id of an event of this stream");
        let (numbering, seq) = text.rsplit_once('-').ok_or_else(wrong)?;
        if seq.is_empty() || seq.len() > 19 || !seq.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let numbering = CommentEpoch::parse(numbering).map_err(|_| wrong())?;
        Ok(Self { comment_epoch: numbering, seq: seq.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for StreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.comment_epoch, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn derived_comment_id(user: &str, video: &str, key: &str) -> CommentId {
        comment_id_of_key(&UserId::parse(user).unwrap(), &VideoId::parse(video).unwrap(), key)
    }

    #[test]
    fn a_derived_comment_id_depends_on_user_video_and_key() {
        assert_eq!(derived_comment_id("u", "v", "k"), derived_comment_id("u", "v", "k"));
        for other in [
            derived_comment_id("u", "v", "l"),
            derived_comment_id("u", "w", "k"),
            derived_comment_id("x", "v", "k"),
            derived_comment_id("uv", "k", "k"),
        ] {
            assert_ne!(derived_comment_id("u", "v", "k"), other);
        }
        assert_ne!(derived_comment_id("ab", "c", "d"), derived_comment_id("a", "bc", "d"));
    }

    #[test]
    fn comment_length_is_measured_in_characters() {
        assert!(check_text("comment", &"é".repeat(4096)).is_ok());
        assert_eq!(check_text("comment", &"é".repeat(4097)).unwrap_err().field, "comment");
        assert!(check_text("comment", "").is_err());
    }

    #[test]
    fn bad_positions_are_refused() {
        for bad in
            ["", "-", "abc", "abc-", "-5", "ABC-5", "abc-+5", "abc--5", "abc-99999999999999999999", "a b-1"]
        {
            assert!(StreamPosition::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn positions_round_trip(bits in any::<u64>(), seq in 0u64..u64::MAX / 2) {
            let position = StreamPosition { comment_epoch: CommentEpoch::from_bits(bits), seq };
            prop_assert_eq!(StreamPosition::parse(&position.to_string()).unwrap(), position);
        }
    }
}
