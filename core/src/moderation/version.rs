//! The version of a moderation record: the first version that knows everything in the record.
//!
//! A consumer that meets a later version than it knows waits for its upgrade
//! ([`crate::event::UnreadableRecord::NewerFormat`]). A consumer that meets an unknown name in a version that it knows
//! takes the record for damaged and makes it a dead letter: the moderator's action would be lost. So each name has a
//! version here. Every match is exhaustive: whoever adds an action, a restriction, a role, a scope or a rule is asked
//! by the compiler which version knows it.

use super::action::{Moderation, ModerationAction, ReviewOutcome};
use super::actor_role::ActorRole;
use super::comment_rules::{CommentRules, RuleConsequence};
use super::reports::{ReportOutcome, ReportReason};
use super::restriction::{Restriction, RuleScope};
use super::rule_name::RuleName;

/// The newest version of moderation records that this release reads.
pub(crate) const NEWEST_MODERATION_VERSION: u64 = 2;

impl Moderation {
    /// Returns the version that this moderation's record must have.
    pub(super) fn version(&self) -> u64 {
        let Self { action, role, reason: _ } = self;
        action.version().max(role.version())
    }
}

impl ModerationAction {
    fn version(&self) -> u64 {
        match self {
            Self::Delete { comment_id: _ } => 1,
            Self::Restrict { userid: _, kind, scope, until: _ } | Self::Lift { userid: _, kind, scope } => {
                kind.version().max(scope.version())
            }
            Self::Pin { comment_id: _ }
            | Self::Shadow { comment_id: _, text: _, reply_to: _ }
            | Self::PutVideo { metadata: _, owner_id: _ }
            | Self::RemoveVideo
            | Self::Erase { comment_id: _, seq: _, user: _ }
            | Self::Forget { user: _, marks: _ }
            | Self::EraseUser { user: _ }
            | Self::EraseReport { comment_id: _, user: _ } => 2,
            Self::Report { comment_id: _, why } => why.version(),
            Self::CloseReports { comment_id: _, outcome } => outcome.version(),
            Self::Hold { comment_id: _, text: _, reply_to: _, rule } => rule.version(),
            Self::Review { comment_id: _, outcome } => outcome.version(),
            Self::SetRules { scope, rules } => {
                let rules = rules.as_ref().map_or(2, CommentRules::version);
                rules.max(scope.version())
            }
        }
    }
}

impl ActorRole {
    const fn version(self) -> u64 {
        match self {
            Self::Author | Self::Moderator | Self::Service => 1,
            Self::Owner | Self::Viewer => 2,
        }
    }
}

impl Restriction {
    const fn version(self) -> u64 {
        match self {
            Self::Ban | Self::Mute => 1,
            Self::Shadow | Self::Tokens | Self::Token => 2,
        }
    }
}

impl RuleScope {
    const fn version(&self) -> u64 {
        match self {
            Self::Everywhere | Self::Owner(_) | Self::Video(_) => 1,
        }
    }
}

impl RuleName {
    const fn version(self) -> u64 {
        match self {
            Self::SlowMode
            | Self::MembersOnly
            | Self::Repeat
            | Self::Length
            | Self::Links
            | Self::Words
            | Self::Patterns
            | Self::HoldAll
            | Self::Hook => 2,
        }
    }
}

impl ReviewOutcome {
    const fn version(self) -> u64 {
        match self {
            Self::Release | Self::Reject => 2,
        }
    }
}

impl ReportReason {
    const fn version(self) -> u64 {
        match self {
            Self::Spam
            | Self::Harassment
            | Self::Hate
            | Self::Violence
            | Self::Sexual
            | Self::SelfHarm
            | Self::Other => 2,
        }
    }
}

impl ReportOutcome {
    const fn version(self) -> u64 {
        match self {
            Self::Dismissed | Self::Deleted | Self::Banned => 2,
        }
    }
}

impl RuleConsequence {
    const fn version(self) -> u64 {
        match self {
            Self::Reject | Self::Mask | Self::Hold => 2,
        }
    }
}

impl CommentRules {
    /// Returns the version of the rules. Older readers refuse unknown members, because a rule that is ignored is a
    /// rule that is not applied.
    fn version(&self) -> u64 {
        let Self {
            slow_seconds: _,
            members_only: _,
            max_chars: _,
            own_repeat_seconds: _,
            any_repeat_seconds: _,
            links,
            hold_all: _,
            words,
            patterns,
        } = self;
        let links = links.iter().map(|links| links.action);
        let words = words.iter().map(|words| words.action);
        let patterns = patterns.iter().map(|pattern| pattern.action);
        links.chain(words).chain(patterns).map(RuleConsequence::version).fold(2, u64::max)
    }
}
