//! Restrictions of users, and the videos on which a restriction or a rule is in force.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumCount, VariantArray};

use crate::{Invalid, UserId, VideoId};

/// The kind of a restriction: what is refused to a user.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, EnumCount, VariantArray,
)]
#[serde(rename_all = "snake_case")]
pub enum Restriction {
    /// The user's comments are refused, because of misbehaviour; the user is told.
    Ban,
    /// The user's comments are refused for a while; the user is told.
    Mute,
    /// The user's comments are accepted, but only the user is shown them; the user is not told.
    Shadow,
    /// The user's tokens that were issued up to the time of the restriction are revoked. This restriction does not
    /// affect comments.
    Tokens,
    /// One token is revoked. The token's name (`jti`) is in the field that otherwise holds the user.
    Token,
}

impl Restriction {
    /// The kinds that restrict comments.
    pub const COMMENT_RESTRICTIONS: [Self; 3] = [Self::Ban, Self::Mute, Self::Shadow];
    /// All kinds of restrictions.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// Whether the restriction is about comments, not about tokens.
    pub const fn is_of_comments(self) -> bool {
        matches!(self, Self::Ban | Self::Mute | Self::Shadow)
    }

    /// Returns the kind's name in requests, records and problem responses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Mute => "mute",
            Self::Shadow => "shadow",
            Self::Tokens => "tokens",
            Self::Token => "token",
        }
    }

    /// Reads the name of a kind that restricts comments.
    ///
    /// # Errors
    /// Returns an error of the field `kind` for an unknown name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let found = Self::COMMENT_RESTRICTIONS.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| Invalid::new("kind", "must be ban, mute or shadow"))
    }
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The set of videos on which a restriction or a rule is in force.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleScope {
    /// Every video.
    Everywhere,
    /// The videos of one owner.
    Owner(UserId),
    /// One video.
    Video(VideoId),
}

impl fmt::Display for RuleScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.write_str("everywhere"),
            Self::Owner(owner) => write!(f, "on the videos of {owner}"),
            Self::Video(video) => write!(f, "on the video {video}"),
        }
    }
}
