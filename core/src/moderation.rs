//! Moderation: what moderators and authors do about comments and users, stored as records of the one log.
//!
//! A moderation record is an [`Interaction`](crate::Interaction) of [`Kind::Moderation`](crate::Kind::Moderation). A moderation record changes no counters. Its
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

pub mod action;
pub mod actor_role;
pub mod comment_rules;
pub mod erasure;
pub mod folding;
mod held;
pub mod hook;
pub(crate) mod record;
pub mod reports;
mod restriction;
pub mod revocations;
mod rule_name;
mod rule_reading;
mod rules;
pub mod screening;
pub mod spacing;
pub(crate) mod version;

pub use action::{Moderation, ModerationAction, ReviewOutcome};
pub use actor_role::ActorRole;
pub use comment_rules::CommentRules;
pub use erasure::NameDigest;
pub use held::{HeldChange, HeldComment};
pub use record::{MAX_REASON_CHARS, RECORDS_KEY, check_reason};
pub use reports::{ReportOutcome, ReportReason, ReportedComment};
pub use restriction::{Restriction, RuleScope};
pub use revocations::Revocations;
pub use rule_name::RuleName;
pub use rules::{
    ChangedRule, CommentRefusal, RuleBook, RuleChange, RulesInForce, ScopeRules, UserRestriction,
    scope_covers,
};

#[cfg(test)]
mod tests;
