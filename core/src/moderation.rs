//! Moderation: what moderators and authors do about comments and users, as records of the one log.
//!
//! A record is an [`Interaction`] of [`Kind::Moderation`]. It counts for nothing. What it does follows from the log
//! alone, so a rebuild does it again:
//!
//! - [`ModerationAction::Delete`] is a record of the comment's video, so it comes after the comment. It takes the next number of
//!   the video's channel whether or not the comment is known. So the numbers of a video never depend on what is stored.
//! - [`ModerationAction::Pin`] takes a number in the same way; the last one of a video is in force. [`ModerationAction::Shadow`] takes one, too:
//!   it is a comment that counts for nothing, and that its author alone is shown.
//! - [`ModerationAction::Hold`] takes no number: the comment waits beside the channel. Who releases it writes the record of an ordinary
//!   comment, which is numbered and counted as any, and then [`ModerationAction::Review`], which ends the waiting.
//! - [`ModerationAction::Erase`] takes a number as a deletion does, and leaves no name either. It names the user by a digest, and what to
//!   remove by its place: [`erasure`] says why.
//! - [`ModerationAction::PutVideo`] and [`ModerationAction::RemoveVideo`] are records of their video, in one order with what happens to it.
//! - [`ModerationAction::Report`] takes no number: a viewer says that something is wrong with a comment. [`reports`] says how often that
//!   counts. [`ModerationAction::CloseReports`] is what a moderator decides; the comment's removal ends its reports, too.
//! - Actions on users belong to no video. All of them have the key [`RECORDS_KEY`], so they lie on one partition, in one order.
//!   Each changes one [`UserRestriction`], under a revision that grows by one; comment services and gateways ask for what changed since.
//! - [`ModerationAction::SetRules`] is of the same kind: it changes the [`CommentRules`] of a place. What they say of a text is in
//!   [`screening`], how it is compared in [`folding`], and what must keep a distance in time in [`spacing`].
//!
//! Who may do what is decided at the gateway, by the caller's token. A deletion by an author is checked again where it
//! is applied: it removes the author's own comment, and no other. So is what an owner says of a video.

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

/// The key and `video_id` of records that belong to no video. No video has this name: the log's reader takes it for
/// moderation only.
pub const RECORDS_KEY: &str = "liverank:moderation";

/// The longest reason, in characters: a sentence or two.
pub const MAX_REASON_CHARS: usize = 500;

/// What somebody who moderates is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorRole {
    /// Wrote the comment.
    Author,
    /// Has the role `moderator`.
    Moderator,
    /// A service of the app, with the role `service`.
    Service,
    /// Owns the video.
    Owner,
    /// Watches.
    Viewer,
}

/// What is refused to a user.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, EnumCount, VariantArray,
)]
#[serde(rename_all = "snake_case")]
pub enum Restriction {
    /// Its comments are refused: it misbehaved, and is to notice.
    Ban,
    /// Its comments are refused: it is to be quiet for a while.
    Mute,
    /// Its comments are taken, and shown to itself alone: it is not to notice.
    Shadow,
    /// Its tokens that were issued until then are good no more. Of no matter for comments.
    Tokens,
    /// The token of this name (`jti`), which stands where others have the user, is good no more.
    Token,
}

impl ActorRole {
    /// Its name in records and documents.
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
    /// Those that are about comments.
    pub const OF_COMMENTS: [Self; 3] = [Self::Ban, Self::Mute, Self::Shadow];
    /// All of them.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// Whether it is about comments, not about tokens.
    pub const fn is_of_comments(self) -> bool {
        matches!(self, Self::Ban | Self::Mute | Self::Shadow)
    }

    /// Its name in requests, records and problems.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Mute => "mute",
            Self::Shadow => "shadow",
            Self::Tokens => "tokens",
            Self::Token => "token",
        }
    }

    /// Reads the name of one that is about comments.
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

/// Where something is in force.
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

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum ModerationAction {
    /// Removes a comment of the record's video.
    Delete {
        /// The comment.
        comment_id: CommentId,
    },
    /// Pins a comment of the record's video, in the place of the one that was; or none.
    Pin {
        /// The comment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment_id: Option<CommentId>,
    },
    /// A comment of a user who is shadow-banned on the record's video. No moderator's doing: the comment service writes it.
    Shadow {
        /// Its identity.
        comment_id: CommentId,
        /// Its text.
        text: String,
        /// The comment under the same video that it replies to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<CommentId>,
    },
    /// A comment that waits for a moderator. No moderator's doing: the comment service writes it. It has no number and no
    /// place in its video's channel.
    Hold {
        /// Its identity.
        comment_id: CommentId,
        /// Its text.
        text: String,
        /// The comment under the same video that it replies to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<CommentId>,
        /// The rule because of which it waits.
        rule: RuleName,
    },
    /// Ends the waiting of a comment. One that is released is in the log before this, as any comment.
    Review {
        /// The comment.
        comment_id: CommentId,
        /// What became of it.
        outcome: ReviewOutcome,
    },
    /// Says that something is wrong with a comment of the record's video. It counts once for a user; the record's reason is
    /// what that user says beside it.
    Report {
        /// The comment.
        comment_id: CommentId,
        /// What is wrong.
        why: ReportReason,
    },
    /// Ends the reports of a comment of the record's video.
    CloseReports {
        /// The comment.
        comment_id: CommentId,
        /// What was decided.
        outcome: ReportOutcome,
    },
    /// Removes name and text of a report by a user who is erased.
    EraseReport {
        /// The comment that was reported.
        comment_id: CommentId,
        /// Who is erased: others' reports stay.
        user: NameDigest,
    },
    /// Says what the record's video is, in place of all that was said before; and puts it on the boards, also where it was
    /// removed. An owner does not put back what others removed.
    PutVideo {
        /// What it is.
        metadata: Metadata,
        /// Its owner. Passed over where the owner was given before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner_id: Option<UserId>,
    },
    /// Takes the record's video off all boards, until [`ModerationAction::PutVideo`]. Interactions with it are counted meanwhile, and do not
    /// bring it back.
    RemoveVideo,
    /// Refuses something to a user, until a time or without an end. A later one of the same kind and scope replaces it.
    Restrict {
        /// The user.
        userid: UserId,
        /// What is refused.
        kind: Restriction,
        /// The videos that it holds for.
        scope: RuleScope,
        /// Until when, in milliseconds since the Unix epoch; absent: it does not end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Millis>,
    },
    /// Ends a restriction.
    Lift {
        /// The user.
        userid: UserId,
        /// What was refused.
        kind: Restriction,
        /// The videos that it held for.
        scope: RuleScope,
    },
    /// Removes one entry of a user who is erased from the record's video, and its author's name; or a comment that waits.
    Erase {
        /// The entry.
        comment_id: CommentId,
        /// Its number, where it has one. Where the comments were numbered anew since, the newest entry of this id is meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// Who is erased: others' entries stay.
        user: NameDigest,
    },
    /// Forgets that a user who is erased owns the record's video, and what counted once for that user there.
    Forget {
        /// Who is erased: another owner stays.
        user: NameDigest,
        /// The keys of the marks, at most [`erasure::MAX_FORGOTTEN_MARKS`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        marks: Vec<NameDigest>,
    },
    /// Says in the audit log that a user is erased. What is done about it are the records of [`ModerationAction::Erase`] and
    /// [`ModerationAction::Forget`] that follow.
    EraseUser {
        /// Who is erased.
        user: NameDigest,
    },
    /// Says what comments in a place must be like. Later ones of the same place replace them.
    SetRules {
        /// The videos that the rules hold for.
        scope: RuleScope,
        /// The rules; absent: there are none any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rules: Option<CommentRules>,
    },
}

impl ModerationAction {
    /// Whether it is about the record's video: the others are about users, and their records belong to no video.
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

/// What became of a comment that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewOutcome {
    /// Others are shown it.
    Release,
    /// Nobody is shown it.
    Reject,
}

/// A comment that waits for a moderator, or what ended that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldChange {
    /// Its video.
    pub video: VideoId,
    /// The comment.
    pub id: CommentId,
    /// The comment while it waits; absent: it waits no more.
    pub held: Option<HeldComment>,
}

/// A comment that waits for a moderator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldComment {
    /// Its identity.
    pub id: CommentId,
    /// Its video.
    pub video: VideoId,
    /// Who wrote it.
    pub user: UserId,
    /// What it says.
    pub text: String,
    /// The comment under the same video that it replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<CommentId>,
    /// When it was posted, in milliseconds since the Unix epoch.
    pub timestamp: Millis,
    /// By which rule it waits. One that a later release has added is shown by its name.
    pub rule: MaybeUnknown<RuleName>,
    /// Where it stands among those that wait: when the log took it, its partition and its offset there.
    pub place: (Millis, u32, u64),
}

impl HeldComment {
    /// The record of the comment once it is released at `now`: that of any comment.
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
