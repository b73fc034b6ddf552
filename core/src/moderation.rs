//! Moderation: what moderators and authors do about comments and users, stored as records of the one log.
//!
//! A moderation record is an [`Interaction`] of [`Kind::Moderation`]. A moderation record changes no counters. Its
//! effect follows from the log alone, so a rebuild repeats it:
//!
//! - [`ModerationAction::Delete`] is a record of the comment's video, so it comes after the comment. A deletion takes
//!   the next sequence number of the video's channel whether or not the comment is known. So the sequence numbers of a
//!   video never depend on what is stored.
//! - [`ModerationAction::Pin`] takes a sequence number in the same way; the last pin of a video is in force.
//!   [`ModerationAction::Shadow`] takes one, too: it is a comment that is not counted, and that only its author is
//!   shown.
//! - [`ModerationAction::Hold`] takes no sequence number: the comment waits outside the channel. To release it, a
//!   moderator's request writes the record of an ordinary comment, which is numbered and counted as any other, and
//!   then [`ModerationAction::Review`], which ends the waiting.
//! - [`ModerationAction::Erase`] takes a sequence number as a deletion does, but removes the author's name as well. It
//!   names the user by a digest, and the entry by its sequence number: [`erasure`] says why.
//! - [`ModerationAction::PutVideo`] and [`ModerationAction::RemoveVideo`] are records of their video, in one order
//!   with its other events.
//! - [`ModerationAction::Report`] takes no sequence number: a viewer says that something is wrong with a comment.
//!   [`reports`] says how often that counts. [`ModerationAction::CloseReports`] is a moderator's decision; the
//!   comment's removal closes its reports, too.
//! - Actions on users belong to no video. All of them have the key [`RECORDS_KEY`], so they are on one partition, in
//!   one order. Each changes one [`UserRestriction`], under a revision that grows by one; comment services and
//!   gateways ask for the changes since a revision.
//! - [`ModerationAction::SetRules`] works the same way: it changes the [`CommentRules`] of a scope. [`screening`]
//!   applies them to texts, [`folding`] defines how texts are compared, and [`spacing`] enforces distances in time.
//!
//! The gateway decides by the caller's token who may do what. A deletion by an author is checked again where it is
//! applied: it removes the author's own comment, and no other. An owner's action on a video is checked again in the
//! same way.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumCount, VariantArray};

use crate::event::CommentBody;
use crate::unknown::MaybeUnknown;
use crate::{CommentId, Interaction, Invalid, Kind, Metadata, Millis, UserId, VideoId};

pub mod comment_rules;
pub mod erasure;
pub mod folding;
pub mod hook;
mod record;
pub mod reports;
pub mod revocations;
mod rules;
pub mod screening;
pub mod spacing;
mod version;

pub use comment_rules::CommentRules;
pub use erasure::NameDigest;
pub use record::{Moderation, check_reason};
pub(crate) use record::{is_record, parse, to_json};
pub use reports::{ReportOutcome, ReportReason, ReportedComment};
pub use revocations::Revocations;
pub use rules::{
    ChangedRule, CommentRefusal, RuleBook, RuleChange, RulesInForce, ScopeRules, UserRestriction,
    scope_covers,
};
pub use screening::RuleName;
pub(crate) use version::VERSION;

/// The key and `video_id` of records that belong to no video. No video has this id: the reader of the log accepts it
/// in moderation records only.
pub const RECORDS_KEY: &str = "liverank:moderation";

/// The longest reason of a moderator's action, in characters: a sentence or two.
pub const MAX_REASON_CHARS: usize = 500;

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

impl Restriction {
    /// The kinds that restrict comments.
    pub const OF_COMMENTS: [Self; 3] = [Self::Ban, Self::Mute, Self::Shadow];
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
    /// Another name, as the error of the field `kind`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let found = Self::OF_COMMENTS.into_iter().find(|kind| kind.name() == text);
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
    /// Ends the waiting of a comment. If the comment was released, its own record comes before this one in the log.
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
        /// The digest of the erased user; entries of others stay.
        user: NameDigest,
    },
    /// Removes what else is stored of an erased user on the record's video: the ownership, and the marks of what
    /// counted once for that user.
    Forget {
        /// The digest of the erased user; another owner stays.
        user: NameDigest,
        /// The keys of the marks to remove, at most [`erasure::MAX_FORGOTTEN_MARKS`].
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

#[cfg(test)]
mod tests;
