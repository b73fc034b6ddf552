//! Comments that wait for a moderator.

use serde::{Deserialize, Serialize};

use super::rule_name::RuleName;
use crate::event::interaction::{CommentBody, Interaction};
use crate::event::kind::Kind;
use crate::unknown::MaybeUnknown;
use crate::{CommentId, Millis, UserId, VideoId};

/// A change in the queue of comments that wait for a moderator: one more comment, or one less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldChange {
    /// The video of the comment.
    pub video: VideoId,
    /// The id of the comment.
    pub id: CommentId,
    /// The comment, if it waits from now on; `None` if it no longer waits.
    pub held: Option<HeldComment>,
}

/// A comment that waits for a moderator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldComment {
    /// The identity of the comment.
    pub id: CommentId,
    /// The video of the comment.
    pub video: VideoId,
    /// The user who wrote the comment.
    pub user: UserId,
    /// The text of the comment.
    pub text: String,
    /// The comment under the same video that this comment replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<CommentId>,
    /// The time at which the comment was posted, in milliseconds since the Unix epoch.
    pub timestamp: Millis,
    /// The rule because of which the comment waits. A rule that a later release has added is shown by its name.
    pub rule: MaybeUnknown<RuleName>,
    /// The position in the queue of waiting comments: the log's time of the record, its partition and its offset.
    pub place: (Millis, u32, u64),
}

impl HeldComment {
    /// Makes the log record of the comment that is released at `now`: an ordinary comment.
    pub fn release_record(&self, now: Millis) -> Interaction {
        Interaction {
            video_id: self.video.clone(),
            user_id: self.user.clone(),
            kind: Kind::Comment,
            watch_ms: 0,
            timestamp: now,
            event_id: None,
            owner_id: None,
            comment: Some(CommentBody {
                comment_id: self.id.clone(),
                text: self.text.clone(),
                reply_to: self.reply_to.clone(),
            }),
            moderation: None,
        }
    }
}
