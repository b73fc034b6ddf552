//! Rules about distances in time: comments of a user in slow mode, and texts that must not be repeated. The memory is
//! bounded: the claim that ends first is dropped first.

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use super::comment_rules::CommentRules;
use super::folding::FoldedText;
use super::restriction::RuleScope;
use super::rule_name::RuleName;
use crate::{Millis, UserId};

/// A claim that a comment makes: its key, such as a user or a text, must not occur again for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpacingClaim {
    /// The rule that makes the claim.
    pub rule: RuleName,
    /// The scope in which the rule is in force.
    pub scope: RuleScope,
    /// The duration of the claim, in milliseconds.
    pub duration_ms: Millis,
    key: u128,
}

impl SpacingClaim {
    /// Returns the claims that a comment makes by the rules of a scope.
    pub fn claims_of_comment(
        rules: &CommentRules,
        scope: &RuleScope,
        user: &UserId,
        text: &str,
    ) -> Vec<Self> {
        let claim = |rule, seconds: u32, parts: &[&str]| {
            let scope_name = serde_json::to_string(scope).expect("text always serialises");
            let key = claim_key(rule, &scope_name, parts);
            Self { rule, scope: scope.clone(), duration_ms: Millis::from(seconds) * 1000, key }
        };
        let mut claims = Vec::new();
        if let Some(seconds) = rules.slow_seconds {
            claims.push(claim(RuleName::SlowMode, seconds, &[user.as_str()]));
        }
        if rules.own_repeat_seconds.is_none() && rules.any_repeat_seconds.is_none() {
            return claims;
        }
        // Readers take "Hello" and "HELLO !" as the same text.
        let said: String =
            FoldedText::fold_by_letters(text).as_str().chars().filter(|c| c.is_alphanumeric()).collect();
        let said = if said.is_empty() { text } else { &said };
        if let Some(seconds) = rules.own_repeat_seconds {
            claims.push(claim(RuleName::Repeat, seconds, &[said, user.as_str()]));
        }
        if let Some(seconds) = rules.any_repeat_seconds {
            claims.push(claim(RuleName::Repeat, seconds, &[said]));
        }
        claims
    }
}

fn claim_key(rule: RuleName, scope: &str, parts: &[&str]) -> u128 {
    let mut hash = Sha256::new();
    for part in [rule.name(), scope].iter().chain(parts) {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finalize();
    let (first, _) = hash.split_first_chunk().expect("a SHA-256 has 32 bytes");
    u128::from_be_bytes(*first)
}

/// The users who may not comment again yet (slow mode) and the texts that may not be repeated yet, as claims with the
/// time at which each ends. The number of claims is bounded; each claim takes some 100
/// bytes.
#[derive(Debug)]
pub struct CommentSpacing {
    max_claims: usize,
    claim_ends: HashMap<u128, Millis>,
    /// The claims, sorted by the times at which they end.
    claims_by_end: BTreeSet<(Millis, u128)>,
}

impl CommentSpacing {
    /// Makes an empty memory of at most `most` claims.
    pub fn new(most: usize) -> Self {
        Self { max_claims: most, claim_ends: HashMap::new(), claims_by_end: BTreeSet::new() }
    }

    /// Makes all of these claims, or none of them if one of their keys is claimed already.
    ///
    /// # Errors
    /// If claims must wait, the error names the claim that must wait longest, and the time at which it may be made.
    pub fn claim_all_or_none<'a>(
        &mut self,
        claims: &'a [SpacingClaim],
        now: Millis,
    ) -> Result<(), (&'a SpacingClaim, Millis)> {
        self.forget_ended_claims(now);
        let waiting = claims.iter().filter_map(|claim| Some((claim, *self.claim_ends.get(&claim.key)?)));
        if let Some(longest) = waiting.max_by_key(|(_, until)| *until) {
            return Err(longest);
        }
        for claim in claims {
            let until = now + claim.duration_ms;
            self.claim_ends.insert(claim.key, until);
            self.claims_by_end.insert((until, claim.key));
        }
        while self.claim_ends.len() > self.max_claims {
            let Some((_, key)) = self.claims_by_end.pop_first() else { break };
            self.claim_ends.remove(&key);
        }
        Ok(())
    }

    /// Takes claims back, because the comment that made them was not accepted.
    pub fn release_claims(&mut self, claims: &[SpacingClaim]) {
        for claim in claims {
            if let Some(until) = self.claim_ends.remove(&claim.key) {
                self.claims_by_end.remove(&(until, claim.key));
            }
        }
    }

    fn forget_ended_claims(&mut self, now: Millis) {
        while let Some(&(until, key)) = self.claims_by_end.first().filter(|(until, _)| *until <= now) {
            self.claims_by_end.remove(&(until, key));
            self.claim_ends.remove(&key);
        }
    }

    /// Returns the number of claims that are remembered.
    pub fn len(&self) -> usize {
        self.claim_ends.len()
    }

    /// Whether no claim is remembered.
    pub fn is_empty(&self) -> bool {
        self.claim_ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims(rules: &CommentRules, user: &str, text: &str) -> Vec<SpacingClaim> {
        SpacingClaim::claims_of_comment(rules, &RuleScope::Everywhere, &user.parse().unwrap(), text)
    }

    fn rules(slow: Option<u32>, own: Option<u32>, any: Option<u32>) -> CommentRules {
        CommentRules {
            slow_seconds: slow,
            own_repeat_seconds: own,
            any_repeat_seconds: any,
            ..CommentRules::default()
        }
    }

    #[test]
    fn slow_mode_is_for_each_user_and_place() {
        let (slow, mut spacing) = (rules(Some(5), None, None), CommentSpacing::new(10));
        let ann = claims(&slow, "ann", "one");
        assert_eq!(spacing.claim_all_or_none(&ann, 1000), Ok(()));
        let again = claims(&slow, "ann", "two");
        let (claim, until) = spacing.claim_all_or_none(&again, 5999).unwrap_err();
        assert_eq!((claim.rule, until), (RuleName::SlowMode, 6000));
        assert_eq!(spacing.claim_all_or_none(&claims(&slow, "ben", "one"), 5999), Ok(()));
        let elsewhere = SpacingClaim::claims_of_comment(
            &slow,
            &RuleScope::Video("v".parse().unwrap()),
            &"ann".parse().unwrap(),
            "one",
        );
        assert_eq!(spacing.claim_all_or_none(&elsewhere, 5999), Ok(()));
        assert_eq!(spacing.claim_all_or_none(&again, 6000), Ok(()));
    }

    #[test]
    fn a_repeated_text_is_refused_from_the_same_user_or_from_anybody() {
        let mut spacing = CommentSpacing::new(10);
        let own = rules(None, Some(60), None);
        assert_eq!(spacing.claim_all_or_none(&claims(&own, "ann", "Hello!"), 0), Ok(()));
        assert!(spacing.claim_all_or_none(&claims(&own, "ann", " HELLO"), 59_999).is_err());
        assert_eq!(spacing.claim_all_or_none(&claims(&own, "ben", "hello"), 0), Ok(()));
        assert_eq!(spacing.claim_all_or_none(&claims(&own, "ann", "hello you"), 0), Ok(()));
        let any = rules(None, None, Some(60));
        assert_eq!(spacing.claim_all_or_none(&claims(&any, "ann", "🎉🎉"), 0), Ok(()));
        assert_eq!(spacing.claim_all_or_none(&claims(&any, "ben", "🎉"), 0), Ok(()));
        assert!(spacing.claim_all_or_none(&claims(&any, "ben", "🎉🎉"), 0).is_err());
    }

    #[test]
    fn released_and_refused_claims_leave_nothing_behind() {
        let (both, mut spacing) = (rules(Some(5), Some(60), None), CommentSpacing::new(10));
        let first = claims(&both, "ann", "one");
        assert_eq!(spacing.claim_all_or_none(&first, 0), Ok(()));
        assert_eq!(spacing.claim_all_or_none(&claims(&both, "ann", "two"), 0).unwrap_err().1, 5000);
        assert_eq!(spacing.len(), 2, "the text of the second is free");
        spacing.release_claims(&first);
        assert!(spacing.is_empty());
        assert_eq!(spacing.claim_all_or_none(&first, 0), Ok(()));
    }

    proptest! {
        /// The memory of claims never refuses what no claim forbids, never drops a claim in force while there is room,
        /// and never exceeds its bound.
        #[test]
        fn the_memory_of_claims_is_bounded(
            steps in proptest::collection::vec((0..6u8, 0..5u32, 0..3000_i64), 1..60), most in 1..8usize,
        ) {
            let mut spacing = CommentSpacing::new(most);
            let mut model: HashMap<u8, Millis> = HashMap::new();
            let mut now = 0;
            for (user, seconds, pause) in steps {
                now += pause;
                model.retain(|_, until| *until > now);
                let claim = claims(&rules(Some(seconds + 1), None, None), &format!("u{user}"), "x");
                let taken = spacing.claim_all_or_none(&claim, now);
                if let Err((_, until)) = &taken {
                    prop_assert_eq!(model.get(&user), Some(until));
                } else {
                    let room = model.len() < most;
                    prop_assert!(!model.contains_key(&user) || !room, "forgotten too early");
                    model.insert(user, now + Millis::from(seconds + 1) * 1000);
                    while model.len() > most {
                        let first = *model.iter().min_by_key(|(user, until)| (**until, claims(&rules(Some(1), None, None), &format!("u{user}"), "x")[0].key)).unwrap().0;
                        model.remove(&first);
                    }
                }
                prop_assert!(spacing.len() <= most && spacing.claim_ends.len() == spacing.claims_by_end.len());
                prop_assert_eq!(spacing.len(), model.len());
            }
        }
    }
}
