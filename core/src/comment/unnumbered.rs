//! A comment before it is counted.

use super::{Comment, EntryKind};
use crate::{CommentId, Millis, UserId, VideoId};

/// A comment that has no sequence number yet. The consumer numbers it and makes it a [`Comment`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnnumberedComment {
    /// The comment's id.
    pub id: CommentId,
    /// The id of the author.
    pub user_id: UserId,
    /// The video under which the comment was posted.
    pub video_id: VideoId,
    /// The comment's text.
    pub text: String,
    /// The time of the post, in milliseconds since the Unix epoch.
    pub timestamp: Millis,
    /// The comment under the same video that this comment replies to.
    pub reply_to: Option<CommentId>,
    /// The kind of the entry that the comment will become.
    pub entry: EntryKind,
}

impl UnnumberedComment {
    /// Whether `viewer` may be shown this comment.
    pub fn is_shown_to(&self, viewer: Option<&UserId>) -> bool {
        self.entry.is_shown_to(&self.user_id, viewer)
    }
}

/// Converts a stored comment back to the form that it had before it was numbered.
impl From<Comment> for UnnumberedComment {
    fn from(counted: Comment) -> Self {
        let Comment { id, user_id, video_id, text, timestamp, seq: _, reply_to, entry } = counted;
        Self { id, user_id, video_id, text, timestamp, reply_to, entry }
    }
}
