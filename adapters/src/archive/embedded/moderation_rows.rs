//! The encoding of moderation's rows: restrictions, comment rules and comments that wait.

use std::sync::Arc;

use liverank_core::UserId;
use liverank_core::moderation::{
    ChangedRule, HeldComment, RuleChange, RuleScope, ScopeRules, UserRestriction,
};
use serde::{Deserialize, Serialize};

use super::rows::damaged_row;
use crate::redb_file::FileFailure;

/// A restriction, or the comment rules of a scope, as changed last.
#[derive(Serialize, Deserialize)]
pub struct StoredRule {
    key: String,
    /// The user whom the restriction is for; absent for comment rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    userid: Option<UserId>,
    /// The restriction; absent if it was lifted.
    #[serde(default)]
    rule: Option<UserRestriction>,
    /// The scope of the comment rules (a video, an owner or all); absent for a restriction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<RuleScope>,
    /// The comment rules; absent if they were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comments: Option<Arc<ScopeRules>>,
}

impl StoredRule {
    pub fn from_change(change: &RuleChange) -> Self {
        let key = change.key.clone();
        match change.changed_rule.clone() {
            ChangedRule::Restriction { userid, rule } => {
                Self { key, userid: Some(userid), rule, scope: None, comments: None }
            }
            ChangedRule::CommentRules { scope, rules } => {
                Self { key, userid: None, rule: None, scope: Some(scope), comments: rules }
            }
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers always serialise")
    }

    pub fn decode_rule(revision: u64, bytes: &[u8]) -> Result<RuleChange, FileFailure> {
        let stored: Self =
            serde_json::from_slice(bytes).map_err(|error| damaged_row("a restriction", error))?;
        let what = match (stored.scope, stored.userid) {
            (Some(scope), _) => ChangedRule::CommentRules { scope, rules: stored.comments },
            (None, Some(userid)) => ChangedRule::Restriction { userid, rule: stored.rule },
            (None, None) => return Err(damaged_row("a restriction", "it is nobody's")),
        };
        Ok(RuleChange { key: stored.key, revision, changed_rule: what })
    }
}

pub fn encode_held(held: &HeldComment) -> Vec<u8> {
    serde_json::to_vec(held).expect("text and numbers always serialise")
}

pub fn decode_held(bytes: &[u8]) -> Result<HeldComment, FileFailure> {
    serde_json::from_slice(bytes).map_err(|error| damaged_row("a held comment", error))
}

#[cfg(test)]
mod fixtures {
    use super::*;
    use crate::fixtures::{check_json_fixture, comment_rules, fixture_held, fixture_mute, parse_json};

    #[test]
    fn stored_restrictions_and_comment_rules_have_fixtures() {
        for (name, today) in [("embedded-rule", fixture_mute()), ("embedded-comment-rules", comment_rules())]
        {
            let write = |change: &RuleChange| parse_json(&StoredRule::from_change(change).encode());
            check_json_fixture(name, &today, write, |value| {
                StoredRule::decode_rule(8, value.to_string().as_bytes())
            });
        }
    }

    #[test]
    fn stored_held_comments_have_fixtures() {
        let write = |held: &HeldComment| parse_json(&encode_held(held));
        check_json_fixture("embedded-held", &fixture_held(), write, |value| {
            decode_held(value.to_string().as_bytes())
        });
    }
}
