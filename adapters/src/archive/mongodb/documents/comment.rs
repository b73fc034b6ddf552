//! The document of a comment, or of another entry of a video's channel.

use liverank_core::comment::EntryKind;
use liverank_core::counting::NumberedComment;
use liverank_core::{Comment, CommentId, Invalid, Millis, UserId, VideoId};
use serde::{Deserialize, Serialize};

use super::damaged_document;
use crate::StoreError;

/// The document of a comment or another entry of a video's channel.
#[derive(Debug, Serialize, Deserialize)]
pub struct CommentDoc {
    video_id: String,
    seq: i64,
    comment_id: String,
    user_id: String,
    comment: String,
    /// The time of the comment, in milliseconds since the Unix epoch.
    timestamp: Millis,
    /// The comment that this one replies to; absent if there is none, and in documents of releases that knew no
    /// replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    partition: i64,
    offset: i64,
    /// The kind of the channel entry; absent for a comment.
    #[serde(default, skip_serializing_if = "EntryKind::is_comment")]
    entry: EntryKind,
}

impl CommentDoc {
    pub fn of(numbered: &NumberedComment) -> Self {
        let comment = &numbered.comment;
        Self {
            video_id: comment.video_id.to_string(),
            seq: comment.seq as i64,
            comment_id: comment.id.to_string(),
            user_id: comment.user_id.to_string(),
            comment: comment.text.clone(),
            timestamp: comment.timestamp,
            reply_to: comment.reply_to.as_ref().map(CommentId::to_string),
            partition: i64::from(numbered.partition),
            offset: numbered.offset as i64,
            entry: comment.entry.clone(),
        }
    }

    pub fn into_numbered(self) -> Result<NumberedComment, StoreError> {
        let damaged = |error: Invalid| damaged_document("comments", &error);
        let comment = Comment {
            id: CommentId::parse(&self.comment_id).map_err(damaged)?,
            user_id: UserId::parse(&self.user_id).map_err(damaged)?,
            video_id: VideoId::parse(&self.video_id).map_err(damaged)?,
            text: self.comment,
            timestamp: self.timestamp,
            seq: self.seq as u64,
            entry: self.entry,
            reply_to: self.reply_to.map(|id| CommentId::parse(&id)).transpose().map_err(damaged)?,
        };
        Ok(NumberedComment { comment, partition: self.partition as u32, offset: self.offset as u64 })
    }
}
