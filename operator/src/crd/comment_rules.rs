//! The rules that every comment has to keep: the system's own, beside those that moderators set through the API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Rules that every comment has to keep. A rule that is absent does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CommentRules {
    /// Slow mode: the seconds that have to pass between two comments of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub slow_seconds: Option<i32>,
    /// Whether only users whose token has the role `member` may comment.
    pub members_only: bool,
    /// Maximal number of a comment's characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_chars: Option<i32>,
    /// Seconds for which a user may not say the same again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub own_repeat_seconds: Option<i32>,
    /// Seconds for which nobody may say again what somebody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub any_repeat_seconds: Option<i32>,
    /// Whether every comment waits until a moderator decides.
    pub hold_all: bool,
    /// The handling of comments with links; they are accepted when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<LinkRule>,
    /// The handling of comments with certain words; at most 1,000 words in all, and all rules
    /// at most 8 KiB as JSON.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub words: Vec<WordRule>,
    /// The handling of comments in which certain patterns are found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub patterns: Vec<PatternRule>,
}

/// What happens to a comment that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RuleAction {
    /// It is refused.
    Reject,
    /// It is accepted with stars in the place of what was found.
    Mask,
    /// It waits until a moderator decides.
    Hold,
}

impl RuleAction {
    /// Returns the name of the action in the rules' JSON.
    const fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Mask => "mask",
            Self::Hold => "hold",
        }
    }
}

/// The handling of comments with links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkRule {
    /// Reject, Mask or Hold.
    pub action: RuleAction,
    /// Hosts that may be linked, with those below them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 253)))]
    pub allow: Vec<String>,
}

/// The handling of comments with certain words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WordRule {
    /// Reject, Mask or Hold.
    pub action: RuleAction,
    /// Words and phrases, however they are written; a `*` at an end stands for more of a word.
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 64)))]
    pub words: Vec<String>,
}

/// The handling of comments in which a pattern is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatternRule {
    /// Reject, Mask or Hold.
    pub action: RuleAction,
    /// A regular expression in the syntax of the Rust crate `regex`.
    #[schemars(length(min = 1, max = 200))]
    pub pattern: String,
}

impl CommentRules {
    /// Returns the rules as the comment service reads them: the members of `rules` in `POST /moderation/rules`. What is not
    /// given is left out.
    pub fn declaration(&self) -> Map<String, Value> {
        let list = |items: Vec<Value>| (!items.is_empty()).then(|| Value::Array(items));
        let words = |rule: &WordRule| json!({ "action": rule.action.name(), "words": rule.words });
        let pattern = |rule: &PatternRule| json!({ "action": rule.action.name(), "pattern": rule.pattern });
        let links = |rule: &LinkRule| json!({ "action": rule.action.name(), "allow": rule.allow });
        let members = [
            ("slow_seconds", self.slow_seconds.map(Value::from)),
            ("members_only", self.members_only.then_some(Value::Bool(true))),
            ("max_chars", self.max_chars.map(Value::from)),
            ("own_repeat_seconds", self.own_repeat_seconds.map(Value::from)),
            ("any_repeat_seconds", self.any_repeat_seconds.map(Value::from)),
            ("hold_all", self.hold_all.then_some(Value::Bool(true))),
            ("links", self.links.as_ref().map(links)),
            ("words", list(self.words.iter().map(words).collect())),
            ("patterns", list(self.patterns.iter().map(pattern).collect())),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}
