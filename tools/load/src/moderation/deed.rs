//! The actions of a moderator on one comment and its author.

use reqwest::Method;
use serde_json::{Value, json};

/// The number of videos that are moderated, beside the one on which every comment is held.
pub(super) const VIDEOS: u32 = 4;

/// The moderation actions on one comment and its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PlannedAction {
    /// The comment is pinned.
    Pin,
    /// The comment is deleted.
    Delete,
    /// The author is banned, and tries to comment until that is refused.
    Ban,
    /// The author is muted, and tries to comment until that is refused.
    Mute,
    /// The author is shadow-banned, and comments until nobody else is shown it.
    Shadow,
    /// The comment is held, and released.
    Release,
    /// The comment is held, and rejected.
    Reject,
    /// The comment is reported, and the report is dismissed.
    Dismiss,
}

impl PlannedAction {
    pub(super) const ALL: [Self; 8] = [
        Self::Pin,
        Self::Delete,
        Self::Ban,
        Self::Mute,
        Self::Shadow,
        Self::Release,
        Self::Reject,
        Self::Dismiss,
    ];

    /// Returns the deed of a number: each video has each of them in turn.
    pub(super) const fn of(number: u32) -> Self {
        Self::ALL[(number / VIDEOS) as usize % Self::ALL.len()]
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Delete => "delete",
            Self::Ban => "ban",
            Self::Mute => "mute",
            Self::Shadow => "shadow",
            Self::Release => "release",
            Self::Reject => "reject",
            Self::Dismiss => "dismiss",
        }
    }

    pub(super) const fn is_on_a_held_comment(self) -> bool {
        matches!(self, Self::Release | Self::Reject)
    }

    /// Returns the request of a moderator for this deed on a comment and its author: method, path and body.
    pub(super) fn request(self, video: &str, id: &str, user: &str) -> (Method, String, Value) {
        let post = |path: &str, body: Value| (Method::POST, path.to_owned(), body);
        let restrict = |kind: &str| {
            post("/moderation/bans", json!({"userid": user, "kind": kind, "videoid": video, "seconds": 3600}))
        };
        let decide =
            |path: &str, outcome: &str| post(path, json!({"videoid": video, "id": id, "outcome": outcome}));
        match self {
            Self::Pin => post("/moderation/pins", json!({"videoid": video, "id": id})),
            Self::Delete => (Method::DELETE, format!("/comments/{video}/{id}"), Value::Null),
            Self::Ban | Self::Mute | Self::Shadow => restrict(self.name()),
            Self::Release | Self::Reject => decide("/moderation/held", self.name()),
            Self::Dismiss => decide("/moderation/reports", self.name()),
        }
    }
}
