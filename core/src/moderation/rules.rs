//! The restrictions in force, and what they say of a comment.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Action, Restriction, Scope};
use crate::{Interaction, Millis, UserId, VideoId};

/// A restriction of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Who is restricted.
    pub userid: UserId,
    /// In what.
    pub kind: Restriction,
    /// Where.
    pub scope: Scope,
    /// Until when; absent: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
    /// Why, in the moderator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who did it.
    pub by: UserId,
    /// When, in milliseconds since the Unix epoch.
    pub at: Millis,
}

/// A restriction as it was changed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleChange {
    /// Its identity: user, kind and scope.
    pub key: String,
    /// Whose it is.
    pub userid: UserId,
    /// When it changed, in the order of all changes of all rules: 1, 2, 3, …
    pub revision: u64,
    /// What is in force; absent: it was lifted.
    pub rule: Option<Rule>,
}

impl RuleChange {
    /// What a record changes; `None` for one that changes no rule.
    pub(crate) fn of(record: &Interaction, revision: u64) -> Option<Self> {
        let moderation = record.moderation.as_ref()?;
        let key = |userid, kind, scope| {
            serde_json::to_string(&(userid, kind, scope)).expect("text always serialises")
        };
        match &moderation.action {
            Action::Delete { .. } | Action::PutVideo { .. } | Action::RemoveVideo => None,
            Action::Restrict { userid, kind, scope, until } => Some(Self {
                key: key(userid, kind, scope),
                userid: userid.clone(),
                revision,
                rule: Some(Rule {
                    userid: userid.clone(),
                    kind: *kind,
                    scope: scope.clone(),
                    until: *until,
                    reason: moderation.reason.clone(),
                    by: record.user_id.clone(),
                    at: record.timestamp,
                }),
            }),
            Action::Lift { userid, kind, scope } => {
                Some(Self { key: key(userid, kind, scope), userid: userid.clone(), revision, rule: None })
            }
        }
    }
}

/// Why a comment is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// By which restriction.
    pub kind: Restriction,
    /// Where that is in force.
    pub scope: Scope,
    /// Until when; absent: for good.
    pub until: Option<Millis>,
}

/// Whether what is in force in `scope` is in force on a video of `owner`. `None`: it depends on the owner, who is not
/// given.
pub fn scope_holds(scope: &Scope, video: &VideoId, owner: Option<&UserId>) -> Option<bool> {
    match scope {
        Scope::Everywhere => Some(true),
        Scope::Video(on) => Some(on == video),
        Scope::Owner(of) => owner.map(|owner| owner == of),
    }
}

/// The restrictions in force, by user. Some 300 bytes a rule: a million of them are 300 MB, and nobody moderates by hand
/// on that scale.
#[derive(Debug, Clone, Default)]
pub struct RuleBook {
    users: HashMap<UserId, HashMap<String, Rule>>,
    revision: u64,
}

impl RuleBook {
    /// The latest change that it knows.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes a change over.
    pub fn take(&mut self, change: RuleChange) {
        self.revision = self.revision.max(change.revision);
        if let Some(rule) = change.rule {
            self.users.entry(change.userid).or_default().insert(change.key, rule);
        } else if let Some(rules) = self.users.get_mut(&change.userid) {
            rules.remove(&change.key);
            if rules.is_empty() {
                self.users.remove(&change.userid);
            }
        }
    }

    /// Forgets the rules whose time is over.
    pub fn expire(&mut self, now: Millis) {
        self.users.retain(|_, rules| {
            rules.retain(|_, rule| rule.until.is_none_or(|until| until > now));
            !rules.is_empty()
        });
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.users.values().map(HashMap::len).sum()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether what is refused to a user depends on whose the video is.
    pub fn needs_owner(&self, user: &UserId, now: Millis) -> bool {
        let rules = self.users.get(user).into_iter().flat_map(HashMap::values);
        rules.filter(|rule| in_force(rule, now)).any(|rule| matches!(rule.scope, Scope::Owner(_)))
    }

    /// Why a comment of `user` on `video` is refused now. Of several restrictions the one that lasts longest is named.
    /// One that depends on an owner who is not given is taken to be in force.
    pub fn refusal(
        &self,
        user: &UserId,
        video: &VideoId,
        owner: Option<&UserId>,
        now: Millis,
    ) -> Option<Refusal> {
        let rules = self.users.get(user)?.values().filter(|rule| in_force(rule, now));
        let holding = rules.filter(|rule| scope_holds(&rule.scope, video, owner).unwrap_or(true));
        let longest = holding.max_by_key(|rule| {
            (rule.until.unwrap_or(Millis::MAX), std::cmp::Reverse(rule.kind), rule.scope.clone())
        })?;
        Some(Refusal { kind: longest.kind, scope: longest.scope.clone(), until: longest.until })
    }
}

fn in_force(rule: &Rule, now: Millis) -> bool {
    rule.until.is_none_or(|until| until > now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ActorRole, Moderation};
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn video(name: &str) -> VideoId {
        VideoId::parse(name).unwrap()
    }

    fn change(action: Action, revision: u64) -> RuleChange {
        let moderation = Moderation { action, role: ActorRole::Moderator, reason: None };
        let record = moderation.into_record(user("mod"), None, "e".parse().unwrap(), 5);
        RuleChange::of(&record, revision).unwrap()
    }

    fn restrict(name: &str, kind: Restriction, scope: Scope, until: Option<Millis>) -> Action {
        Action::Restrict { userid: user(name), kind, scope, until }
    }

    fn book(actions: Vec<Action>) -> RuleBook {
        let mut book = RuleBook::default();
        for (action, revision) in actions.into_iter().zip(1..) {
            book.take(change(action, revision));
        }
        book
    }

    #[test]
    fn a_restriction_is_in_force_in_its_scope_until_its_time() {
        let book = book(vec![
            restrict("a", Restriction::Mute, Scope::Video(video("v")), Some(100)),
            restrict("b", Restriction::Ban, Scope::Owner(user("o")), None),
            restrict("c", Restriction::Ban, Scope::Everywhere, None),
        ]);
        let refused = |name: &str, on: &str, owner: &str, now| {
            book.refusal(&user(name), &video(on), Some(&user(owner)), now).is_some()
        };
        assert!(refused("a", "v", "o", 99) && !refused("a", "v", "o", 100), "until its time");
        assert!(!refused("a", "w", "o", 5), "on its video only");
        assert!(refused("b", "w", "o", 5) && !refused("b", "w", "p", 5), "on its owner's videos only");
        assert!(refused("c", "x", "y", 5) && !refused("d", "x", "y", 5));
        assert!(book.needs_owner(&user("b"), 5) && !book.needs_owner(&user("c"), 5));
        assert!(book.refusal(&user("b"), &video("w"), None, 5).is_some(), "an unknown owner may be the one");
    }

    #[test]
    fn the_one_that_lasts_longest_is_named() {
        let book = book(vec![
            restrict("a", Restriction::Mute, Scope::Video(video("v")), Some(100)),
            restrict("a", Restriction::Ban, Scope::Everywhere, Some(500)),
        ]);
        let refusal = book.refusal(&user("a"), &video("v"), None, 5).unwrap();
        assert_eq!((refusal.kind, refusal.until), (Restriction::Ban, Some(500)));
    }

    #[test]
    fn lifting_ends_its_own_kind_and_scope_only() {
        let lift = Action::Lift { userid: user("a"), kind: Restriction::Ban, scope: Scope::Everywhere };
        let rest = book(vec![
            restrict("a", Restriction::Ban, Scope::Everywhere, None),
            restrict("a", Restriction::Mute, Scope::Everywhere, None),
            lift.clone(),
        ]);
        let refusal = rest.refusal(&user("a"), &video("v"), None, 5).unwrap();
        assert_eq!((refusal.kind, rest.revision(), rest.len()), (Restriction::Mute, 3, 1));
        assert!(book(vec![restrict("a", Restriction::Ban, Scope::Everywhere, None), lift]).is_empty());
    }

    proptest! {
        /// Rules that were forgotten when their time was over would refuse nothing.
        #[test]
        fn forgetting_changes_no_answer(
            rules in proptest::collection::vec((0..3u8, any::<bool>(), 0..3u8, proptest::option::of(0..50_i64)), 0..20),
            now in 0..50_i64, later in 0..50_i64,
        ) {
            let actions = rules.iter().map(|(name, ban, scope, until)| {
                let kind = if *ban { Restriction::Ban } else { Restriction::Mute };
                let scope = match scope {
                    0 => Scope::Everywhere,
                    1 => Scope::Owner(user("o")),
                    _ => Scope::Video(video("v")),
                };
                restrict(&format!("u{name}"), kind, scope, *until)
            });
            let whole = book(actions.collect());
            let mut expired = whole.clone();
            expired.expire(now);
            for name in ["u0", "u1", "u2"] {
                let at = now + later;
                let ask = |book: &RuleBook| book.refusal(&user(name), &video("v"), Some(&user("o")), at);
                prop_assert_eq!(ask(&whole), ask(&expired));
            }
        }
    }
}
