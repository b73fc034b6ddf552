//! Revoked tokens: tokens that moderators and services made invalid before they expire.
//!
//! Revocations are restrictions like others ([`Restriction::Token`], [`Restriction::Tokens`]). So revocations are in
//! the log, in the order of all changes, and in the audit log, and they are restored by a rebuild.

use std::collections::HashMap;

use super::restriction::{Restriction, RuleScope};
use super::rules::{ChangedRule, RuleChange, rule_key};
use crate::Millis;

/// A revocation of one token, or of all tokens of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TokenRevocation {
    /// The time of the revocation, in milliseconds since the Unix epoch.
    revoked_at: Millis,
    /// The time until which the revocation is kept, in milliseconds since the Unix epoch; `None` if it is kept for
    /// good.
    kept_until: Option<Millis>,
}

/// The revocations in force, by their keys: some 200 bytes each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    by_key: HashMap<String, TokenRevocation>,
    revision: u64,
}

impl Revocations {
    /// Returns the revision of the latest change that was applied.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the number of revocations.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are no revocations.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Applies a change of a restriction. Returns whether it changed any revocation.
    pub fn apply_change(&mut self, change: &RuleChange) -> bool {
        self.revision = self.revision.max(change.revision);
        match &change.changed_rule {
            ChangedRule::Restriction { rule: Some(rule), .. } if !rule.kind.is_of_comments() => {
                let new = TokenRevocation { revoked_at: rule.at, kept_until: rule.until };
                self.by_key.insert(change.key.clone(), new) != Some(new)
            }
            // A lifted restriction does not say of which kind it was; those of other kinds have no entry here.
            ChangedRule::Restriction { rule: None, .. } => self.by_key.remove(&change.key).is_some(),
            ChangedRule::Restriction { .. } | ChangedRule::CommentRules { .. } => false,
        }
    }

    /// Removes the revocations that have ended by `now`.
    pub fn expire(&mut self, now: Millis) {
        self.by_key.retain(|_, revocation| revocation.kept_until.is_none_or(|until| until > now));
    }

    /// Whether a token is revoked: by its name, or because it was issued before or in the second in which the user's
    /// tokens were revoked. A token without a time of issue counts as issued before.
    pub fn is_revoked(
        &self,
        user: &str,
        token: Option<&str>,
        issued_seconds: Option<u64>,
        now: Millis,
    ) -> bool {
        if self.by_key.is_empty() {
            return false;
        }
        let find = |name: &str, kind: Restriction| {
            let found = self.by_key.get(&rule_key(&(name, kind, RuleScope::Everywhere)));
            found.filter(|revocation| revocation.kept_until.is_none_or(|until| until > now))
        };
        let issued = Millis::try_from(issued_seconds.unwrap_or(0)).unwrap_or(Millis::MAX);
        token.is_some_and(|token| find(token, Restriction::Token).is_some())
            || find(user, Restriction::Tokens)
                .is_some_and(|revocation| issued <= revocation.revoked_at / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ActorRole, Moderation, ModerationAction, RuleBook};
    use super::*;
    use crate::UserId;

    const ISSUED_AT_MS: Millis = 100_500;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn changes(actions: Vec<ModerationAction>) -> Vec<RuleChange> {
        let change = |(action, revision)| {
            let moderation = Moderation { action, role: ActorRole::Service, reason: None };
            let record = moderation.into_record(user("backend"), None, "e".parse().unwrap(), ISSUED_AT_MS);
            RuleChange::from_record(&record, revision).unwrap()
        };
        actions.into_iter().zip(1..).map(change).collect()
    }

    fn revoke_action(name: &str, kind: Restriction, until: Option<Millis>) -> ModerationAction {
        ModerationAction::Restrict { userid: user(name), kind, scope: RuleScope::Everywhere, until }
    }

    #[test]
    fn a_token_is_revoked_by_its_name_or_by_its_user_and_age_until_its_time() {
        let mut book = Revocations::default();
        let all = changes(vec![
            revoke_action("t-1", Restriction::Token, None),
            revoke_action("ana", Restriction::Tokens, Some(200_000)),
            revoke_action("ben", Restriction::Ban, None),
        ]);
        assert_eq!(
            all.iter().map(|change| book.apply_change(change)).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert!(!book.apply_change(&all[0]), "the same again is nothing new");
        assert_eq!((book.len(), book.revision()), (2, 3));
        for (who, token, issued, now, is_revoked) in [
            ("eve", Some("t-1"), Some(5_000), ISSUED_AT_MS, true),
            ("eve", Some("t-2"), Some(5), ISSUED_AT_MS, false),
            // The name of a user is not the name of a token, and a token's name is not a user's.
            ("t-1", None, None, ISSUED_AT_MS, false),
            ("eve", Some("ana"), Some(5), ISSUED_AT_MS, false),
            ("ana", Some("u"), Some(99), ISSUED_AT_MS, true),
            ("ana", None, Some(100), ISSUED_AT_MS, true),
            ("ana", None, Some(101), ISSUED_AT_MS, false),
            ("ana", None, None, ISSUED_AT_MS, true),
            ("ana", None, Some(99), 200_000, false),
            ("ben", None, None, ISSUED_AT_MS, false),
        ] {
            assert_eq!(
                book.is_revoked(who, token, issued, now),
                is_revoked,
                "{who} {token:?} {issued:?} {now}"
            );
        }
        book.expire(200_000);
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn a_withdrawn_revocation_ends_and_comment_rules_ignore_tokens() {
        let lift = ModerationAction::Lift {
            userid: user("ana"),
            kind: Restriction::Tokens,
            scope: RuleScope::Everywhere,
        };
        let all = changes(vec![revoke_action("ana", Restriction::Tokens, None), lift]);
        let (mut book, mut comments) = (Revocations::default(), RuleBook::default());
        assert!(book.apply_change(&all[0]) && book.is_revoked("ana", None, None, ISSUED_AT_MS));
        comments.apply_change(all[0].clone());
        assert!(comments.is_empty() && comments.revision() == 1);
        assert!(book.apply_change(&all[1]) && !book.is_revoked("ana", None, None, ISSUED_AT_MS));
    }
}
