//! What a moderation record says: the action, who took it and why.

use serde::{Deserialize, Serialize};

use super::actor_role::ActorRole;
use super::comment_rules::CommentRules;
use super::erasure::NameDigest;
use super::reports::{ReportOutcome, ReportReason};
use super::restriction::{Restriction, RuleScope};
use super::rule_name::RuleName;
use crate::{CommentId, Metadata, Millis, UserId};

/// The content of a moderation record, apart from its actor, video and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moderation {
    /// The action that was taken.
    #[serde(flatten)]
    pub action: ModerationAction,
    /// The role of the actor.
    pub role: ActorRole,
    /// The reason, in the actor's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The action that a moderation record describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum ModerationAction {
    /// Removes a comment of the record's video.
    Delete {
        /// The comment to remove.
        comment_id: CommentId,
    },
    /// Pins a comment of the record's video in place of the one pinned before; or unpins.
    Pin {
        /// The comment to pin; absent to pin none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment_id: Option<CommentId>,
    },
    /// Adds a comment of a user who is shadow-banned on the record's video. No moderator acts: the comment service
    /// writes the record.
    Shadow {
        /// The identity of the comment.
        comment_id: CommentId,
        /// The text of the comment.
        text: String,
        /// The comment under the same video that this comment replies to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<CommentId>,
    },
    /// Adds a comment that waits for a moderator. No moderator has acted: the comment service writes the record. The
    /// comment has no sequence number and no position in its video's channel.
    Hold {
        /// The identity of the comment.
        comment_id: CommentId,
        /// The text of the comment.
        text: String,
        /// The comment under the same video that this comment replies to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<CommentId>,
        /// The rule because of which the comment waits.
        rule: RuleName,
    },
    /// Decides about a comment that waits for a moderator: it no longer waits. If the comment was released, its own
    /// record comes before this one in the log.
    Review {
        /// The comment that waited.
        comment_id: CommentId,
        /// What the moderator decided about the comment.
        outcome: ReviewOutcome,
    },
    /// Reports a comment of the record's video. A report counts once per user; the record's reason is the user's own
    /// text.
    Report {
        /// The comment that is reported.
        comment_id: CommentId,
        /// The reason of the report: what is wrong with the comment in the user's opinion.
        why: ReportReason,
    },
    /// Closes the reports of a comment of the record's video.
    CloseReports {
        /// The comment whose reports are closed.
        comment_id: CommentId,
        /// What the moderator decided about the comment.
        outcome: ReportOutcome,
    },
    /// Removes the name and the text from a report by a user who is erased.
    EraseReport {
        /// The comment that was reported.
        comment_id: CommentId,
        /// The digest of the erased user; reports of others stay.
        user: NameDigest,
    },
    /// Sets the metadata of the record's video, in place of all earlier ones, and puts the video on the boards, also
    /// if it was removed. An owner does not put back what others removed.
    PutVideo {
        /// The new metadata of the video.
        metadata: Metadata,
        /// The owner of the video. Ignored if the owner was given before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner_id: Option<UserId>,
    },
    /// Takes the record's video off all boards, until [`ModerationAction::PutVideo`]. Interactions with it are still
    /// counted, and do not bring it back.
    RemoveVideo,
    /// Restricts a user, until a time or without an end. A later restriction of the same kind and scope replaces it.
    Restrict {
        /// The user who is restricted.
        userid: UserId,
        /// The kind of the restriction.
        kind: Restriction,
        /// The videos on which the restriction is in force.
        scope: RuleScope,
        /// The end of the restriction, in milliseconds since the Unix epoch; absent if it does not end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Millis>,
    },
    /// Ends a restriction.
    Lift {
        /// The user whose restriction ends.
        userid: UserId,
        /// The kind of the restriction that ends.
        kind: Restriction,
        /// The videos on which the restriction was in force.
        scope: RuleScope,
    },
    /// Removes one entry, and its author's name, of an erased user from the record's video; or a comment that waits.
    Erase {
        /// The id of the entry.
        comment_id: CommentId,
        /// The entry's sequence number, if it has one. If the comments were numbered anew since, the newest entry with
        /// this id is meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// The digest of the erased user. An entry of another user is not removed.
        user: NameDigest,
    },
    /// Removes what else is stored of an erased user on the record's video: the ownership, and the marks of what
    /// counted once for that user.
    Forget {
        /// The digest of the erased user; an owner with another digest is kept.
        user: NameDigest,
        /// The keys of the marks to remove, at most [`MAX_FORGOTTEN_MARKS`](super::erasure::MAX_FORGOTTEN_MARKS).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        marks: Vec<NameDigest>,
    },
    /// Notes in the audit log that a user is erased. The erasure itself is done by the records of
    /// [`ModerationAction::Erase`] and [`ModerationAction::Forget`] that follow.
    EraseUser {
        /// The digest of the erased user.
        user: NameDigest,
    },
    /// Sets the comment rules of a scope. Later rules of the same scope replace them.
    SetRules {
        /// The videos on which the rules are in force.
        scope: RuleScope,
        /// The rules; absent to remove the rules of the scope.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rules: Option<CommentRules>,
    },
}

impl ModerationAction {
    /// Whether the action is about the record's video. Other actions are about users, and their records belong to no
    /// video.
    pub const fn is_on_a_video(&self) -> bool {
        match self {
            Self::Delete { .. }
            | Self::Pin { .. }
            | Self::Shadow { .. }
            | Self::Hold { .. }
            | Self::Review { .. }
            | Self::Report { .. }
            | Self::CloseReports { .. }
            | Self::EraseReport { .. }
            | Self::PutVideo { .. }
            | Self::RemoveVideo
            | Self::Erase { .. }
            | Self::Forget { .. } => true,
            Self::Restrict { .. } | Self::Lift { .. } | Self::SetRules { .. } | Self::EraseUser { .. } => {
                false
            }
        }
    }
}

/// The moderator's decision about a comment that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewOutcome {
    /// The comment is published.
    Release,
    /// The comment is discarded: nobody is shown it.
    Reject,
}
