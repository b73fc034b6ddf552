//! Comment rules: what comments must be like everywhere, on an owner's videos, or on one video. Moderators set them by
//! requests, and whoever runs the system sets them by a file.

use serde::{Deserialize, Serialize};

/// The longest JSON of the rules of one scope, in bytes. Every comment service keeps all rules in memory.
pub const MAX_RULES_BYTES: usize = 8 * 1024;
/// The most scopes that have rules: with the longest rules, 80 MB of memory in every comment service. Rules for further
/// scopes are refused.
pub const MAX_RULED_SCOPES: u64 = 10_000;
/// The longest pause that slow mode may demand, in seconds: one day.
pub const MAX_SLOW_SECONDS: u32 = 24 * 3600;
/// The longest time for which a text must not be repeated, in seconds: one hour. Each text is remembered for that
/// time.
pub const MAX_REPEAT_SECONDS: u32 = 3600;
/// The most words in the rules of one scope. All words are looked for at once, in one pass over a comment.
pub const MAX_WORDS: usize = 1000;
/// The longest word or phrase, in characters.
pub const MAX_WORD_CHARS: usize = 64;
/// The most patterns in the rules of one scope. Each pattern is one pass over a comment.
pub const MAX_PATTERNS: usize = 8;
/// The longest pattern, in characters.
pub const MAX_PATTERN_CHARS: usize = 200;
/// The most hosts that a scope allows links to.
pub const MAX_ALLOWED_HOSTS: usize = 50;

/// The consequence of a rule for a comment in which something is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleConsequence {
    /// The comment is refused.
    Reject,
    /// The comment is accepted, with stars in place of what was found.
    Mask,
    /// The comment waits for a moderator.
    Hold,
}

/// The rule about links in comments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkRule {
    /// The consequence for a comment with a link that is not allowed.
    pub action: RuleConsequence,
    /// The hosts that links may lead to, with all hosts below them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

/// A rule about words and phrases in comments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordRule {
    /// The consequence for a comment with one of the words.
    pub action: RuleConsequence,
    /// The words, matched as whole words; a `*` at an end means that the word may go on there.
    pub words: Vec<String>,
}

/// A rule about a pattern in comments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternRule {
    /// The consequence for a comment that matches the pattern.
    pub action: RuleConsequence,
    /// The pattern: a regular expression in the syntax of the Rust crate `regex`; upper and lower case are not
    /// distinguished.
    pub pattern: String,
}

/// The comment rules of one scope. A member that is absent restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommentRules {
    /// The least time between two comments of a user, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_seconds: Option<u32>,
    /// Whether only members may comment: users whose token has the role `member`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub members_only: bool,
    /// The longest comment, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<u32>,
    /// The time for which a user may not repeat its own text, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_repeat_seconds: Option<u32>,
    /// The time for which nobody may repeat a text, whoever wrote it, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_repeat_seconds: Option<u32>,
    /// The rule about links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<LinkRule>,
    /// Whether every comment waits for a moderator.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hold_all: bool,
    /// The rules about words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<WordRule>,
    /// The rules about patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<PatternRule>,
}

impl CommentRules {
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}
