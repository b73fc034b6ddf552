//! The names of comment rules.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumCount, VariantArray};

/// The name of a comment rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, EnumCount, VariantArray)]
#[serde(rename_all = "snake_case")]
pub enum RuleName {
    /// Slow mode: a least time between two comments of a user.
    SlowMode,
    /// Only members may comment.
    MembersOnly,
    /// The same text must not be repeated for a time.
    Repeat,
    /// The comment is too long.
    Length,
    /// The comment contains a link.
    Links,
    /// The comment contains a listed word.
    Words,
    /// The comment matches a pattern.
    Patterns,
    /// Every comment waits for a moderator.
    HoldAll,
    /// The app's own hook has decided.
    Hook,
}

impl RuleName {
    /// All rules.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// Returns the rule's name in problem responses and in the label of a metric.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowMode => "slow_mode",
            Self::MembersOnly => "members_only",
            Self::Repeat => "repeat",
            Self::Length => "length",
            Self::Links => "links",
            Self::Words => "words",
            Self::Patterns => "patterns",
            Self::HoldAll => "hold_all",
            Self::Hook => "hook",
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
