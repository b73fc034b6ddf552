//! An interaction, and the comment that it may carry.

use super::kind::Kind;
use crate::moderation::action::Moderation;
use crate::{CommentId, EventId, Millis, UserId, VideoId};

/// The comment that an interaction of type `comment` carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentBody {
    /// The identity of the comment.
    pub comment_id: CommentId,
    /// The text of the comment.
    pub text: String,
    /// The comment under the same video that this comment replies to.
    pub reply_to: Option<CommentId>,
}

/// One interaction: one thing that one viewer did with one video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interaction {
    /// The video that the interaction is about.
    pub video_id: VideoId,
    /// The user who acted.
    pub user_id: UserId,
    /// The kind of the interaction.
    pub kind: Kind,
    /// The watch time in milliseconds for [`Kind::WatchTime`]; 0 for every other kind.
    pub watch_ms: u64,
    /// The time of the interaction by the sender's clock (by the gateway's clock if the sender gave none), in
    /// milliseconds.
    pub timestamp: Millis,
    /// The identity that the client chose for this event, if any.
    pub event_id: Option<EventId>,
    /// The owner of the video, if the sender knows it.
    pub owner_id: Option<UserId>,
    /// The comment, if it came through the comment service. A foreign event of type `comment` has none and is only
    /// counted.
    pub comment: Option<CommentBody>,
    /// The moderation record; present for [`Kind::Moderation`] and for no other kind.
    pub moderation: Option<Box<Moderation>>,
}
