//! Who acted: the role of the actor in a moderation record.

use serde::{Deserialize, Serialize};

/// The role of the actor in a moderation record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorRole {
    /// The author of the comment.
    Author,
    /// A user whose token has the role `moderator`.
    Moderator,
    /// A service of the app, whose token has the role `service`.
    Service,
    /// The owner of the video.
    Owner,
    /// A viewer of the video, who reports a comment.
    Viewer,
}

impl ActorRole {
    /// Returns the role's name in records and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Author => "author",
            Self::Moderator => "moderator",
            Self::Service => "service",
            Self::Owner => "owner",
            Self::Viewer => "viewer",
        }
    }
}
