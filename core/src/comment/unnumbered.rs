//! A comment before it is counted.

use super::{Comment, EntryKind};
use crate::{CommentId, Millis, UserId, VideoId};

/// A comment from its post until the consumer counts it, which gives it its number: [`Comment`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnnumberedComment {
    /// Its identity.
    pub id: CommentId,
    /// Who wrote it.
    pub user_id: UserId,
    /// Under which video.
    pub video_id: VideoId,
    /// What it says.
    pub text: String,
    /// When it was posted, in milliseconds since the Unix epoch.
    pub timestamp: Millis,
    /// The comment under the same video that it replies to.
    pub reply_to: Option<CommentId>,
    /// What its entry will be.
    pub entry: EntryKind,
}

impl UnnumberedComment {
    /// Whether `viewer` may be shown it.
    pub fn is_shown_to(&self, viewer: Option<&UserId>) -> bool {
        self.entry.is_shown_to(&self.user_id, viewer)
    }
}

/// A comment as it was before it had its number.
impl From<Comment> for UnnumberedComment {
    fn from(counted: Comment) -> Self {
        let Comment { id, user_id, video_id, text, timestamp, seq: _, reply_to, entry } = counted;
        Self { id, user_id, video_id, text, timestamp, reply_to, entry }
    }
}
