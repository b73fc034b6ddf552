//! The restrictions and comment rules in force, and their result for a comment.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::action::ModerationAction;
use super::comment_rules::CommentRules;
use super::restriction::{Restriction, RuleScope};
use crate::{Interaction, Millis, UserId, VideoId};

/// A restriction of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRestriction {
    /// The user who is restricted.
    pub userid: UserId,
    /// The kind of the restriction.
    pub kind: Restriction,
    /// The videos on which the restriction is in force.
    pub scope: RuleScope,
    /// The end of the restriction, in milliseconds since the Unix epoch; absent if it does not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
    /// The reason, in the moderator's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The moderator or service that set the restriction.
    pub by: UserId,
    /// The time at which the restriction was set, in milliseconds since the Unix epoch.
    pub at: Millis,
}

/// The comment rules of a scope, with who set them and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeRules {
    /// The rules themselves.
    pub rules: CommentRules,
    /// The reason, in the moderator's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The moderator or service that set the rules.
    pub by: UserId,
    /// The time at which the rules were set, in milliseconds since the Unix epoch.
    pub at: Millis,
}

/// A restriction or a scope's comment rules after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedRule {
    /// A restriction of a user.
    Restriction {
        /// The user who is restricted.
        userid: UserId,
        /// The restriction in force; `None` if it was lifted.
        rule: Option<UserRestriction>,
    },
    /// The comment rules of a scope.
    CommentRules {
        /// The videos on which the rules are in force.
        scope: RuleScope,
        /// The rules in force; `None` if they were removed.
        rules: Option<Arc<ScopeRules>>,
    },
}

/// The latest change of a restriction or of a scope's comment rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleChange {
    /// The key of the restriction (user, kind and scope) or of the comment rules (scope).
    pub key: String,
    /// The revision of the change, in the order of all changes of all rules: 1, 2, 3, …
    pub revision: u64,
    /// The restriction or rules in force since the change.
    pub changed_rule: ChangedRule,
}

impl RuleChange {
    /// Returns the key of a restriction: its user, kind and scope.
    pub fn restriction_key(userid: &UserId, kind: Restriction, scope: &RuleScope) -> String {
        rule_key(&(userid, kind, scope))
    }

    /// Returns the change that a record makes, under this revision; `None` for a record that changes no rule.
    pub(crate) fn from_record(record: &Interaction, revision: u64) -> Option<Self> {
        let moderation = record.moderation.as_ref()?;
        let (key, what) = match &moderation.action {
            ModerationAction::Delete { .. }
            | ModerationAction::Pin { .. }
            | ModerationAction::Shadow { .. }
            | ModerationAction::Hold { .. }
            | ModerationAction::Review { .. }
            | ModerationAction::Report { .. }
            | ModerationAction::CloseReports { .. }
            | ModerationAction::EraseReport { .. }
            | ModerationAction::PutVideo { .. }
            | ModerationAction::RemoveVideo
            | ModerationAction::Erase { .. }
            | ModerationAction::Forget { .. }
            | ModerationAction::EraseUser { .. } => return None,
            ModerationAction::Restrict { userid, kind, scope, until } => {
                let rule = Some(UserRestriction {
                    userid: userid.clone(),
                    kind: *kind,
                    scope: scope.clone(),
                    until: *until,
                    reason: moderation.reason.clone(),
                    by: record.user_id.clone(),
                    at: record.timestamp,
                });
                (
                    Self::restriction_key(userid, *kind, scope),
                    ChangedRule::Restriction { userid: userid.clone(), rule },
                )
            }
            ModerationAction::Lift { userid, kind, scope } => {
                let what = ChangedRule::Restriction { userid: userid.clone(), rule: None };
                (Self::restriction_key(userid, *kind, scope), what)
            }
            ModerationAction::SetRules { scope, rules } => {
                let rules = rules.as_ref().map(|rules| {
                    let (reason, by) = (moderation.reason.clone(), record.user_id.clone());
                    Arc::new(ScopeRules { rules: rules.clone(), reason, by, at: record.timestamp })
                });
                (rule_key(&("comments", scope)), ChangedRule::CommentRules { scope: scope.clone(), rules })
            }
        };
        Some(Self { key, revision, changed_rule: what })
    }
}

pub(super) fn rule_key(parts: &impl Serialize) -> String {
    serde_json::to_string(parts).expect("text always serialises")
}

/// The refusal of a comment: what the restriction that caused it is, where and until when it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentRefusal {
    /// The kind of the restriction.
    pub kind: Restriction,
    /// The videos on which the restriction is in force.
    pub scope: RuleScope,
    /// The end of the restriction, in milliseconds since the Unix epoch; `None` if it does not end.
    pub refused_until: Option<Millis>,
}

/// Whether `scope` includes a video of `owner`; `None` if that depends on the owner and `owner` is not given.
pub fn scope_covers(scope: &RuleScope, video: &VideoId, owner: Option<&UserId>) -> Option<bool> {
    match scope {
        RuleScope::Everywhere => Some(true),
        RuleScope::Video(on) => Some(on == video),
        RuleScope::Owner(of) => owner.map(|owner| owner == of),
    }
}

/// The comment rules in force in a scope.
#[derive(Debug, Clone)]
pub struct RulesInForce {
    /// The videos on which the rules are in force.
    pub scope: RuleScope,
    /// The revision of the rules: no other rules have it.
    pub revision: u64,
    /// The rules of the scope, with who set them and why.
    pub rules: Arc<ScopeRules>,
}

/// All restrictions of users and all comment rules that are in force. Restrictions are kept by user, some 300 bytes
/// each; gateways accept up to 100,000. Comment rules are kept by scope; their number is bounded by
/// [`MAX_RULED_SCOPES`](super::comment_rules::MAX_RULED_SCOPES).
#[derive(Debug, Clone, Default)]
pub struct RuleBook {
    restrictions_by_user: HashMap<UserId, HashMap<String, UserRestriction>>,
    comment_rules_by_scope: HashMap<RuleScope, RulesInForce>,
    /// The number of scopes that are all videos of an owner.
    owner_scope_count: usize,
    revision: u64,
}

impl RuleBook {
    /// Returns the revision of the latest change that was applied.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Applies a change of a restriction or of comment rules.
    pub fn apply_change(&mut self, change: RuleChange) {
        let RuleChange { key, revision, changed_rule: what } = change;
        self.revision = self.revision.max(revision);
        match what {
            // Gateways check tokens, before a comment comes here.
            ChangedRule::Restriction { rule: Some(rule), .. } if !rule.kind.is_of_comments() => {}
            ChangedRule::Restriction { userid, rule: Some(rule) } => {
                self.restrictions_by_user.entry(userid).or_default().insert(key, rule);
            }
            ChangedRule::Restriction { userid, rule: None } => {
                if let Some(rules) = self.restrictions_by_user.get_mut(&userid) {
                    rules.remove(&key);
                    if rules.is_empty() {
                        self.restrictions_by_user.remove(&userid);
                    }
                }
            }
            ChangedRule::CommentRules { scope, rules } => {
                let now = rules.map(|rules| RulesInForce { scope: scope.clone(), revision, rules });
                let is_owner = matches!(scope, RuleScope::Owner(_));
                let is_now = now.is_some();
                let was = match now {
                    Some(now) => self.comment_rules_by_scope.insert(scope, now),
                    None => self.comment_rules_by_scope.remove(&scope),
                };
                if is_owner {
                    self.owner_scope_count =
                        self.owner_scope_count + usize::from(is_now) - usize::from(was.is_some());
                }
            }
        }
    }

    /// Returns the comment rules in force on a video of `owner`, from the widest scope to the narrowest: a comment has
    /// to satisfy all of them. Without an owner, rules of owners are left out.
    pub fn comment_rules(&self, video: &VideoId, owner: Option<&UserId>) -> Vec<RulesInForce> {
        if self.comment_rules_by_scope.is_empty() {
            return Vec::new();
        }
        let owner = owner.map(|owner| RuleScope::Owner(owner.clone()));
        let scopes = [Some(RuleScope::Everywhere), owner, Some(RuleScope::Video(video.clone()))];
        scopes
            .into_iter()
            .flatten()
            .filter_map(|scope| self.comment_rules_by_scope.get(&scope).cloned())
            .collect()
    }

    /// Whether there are comment rules for all videos of any owner.
    pub const fn has_rules_of_owners(&self) -> bool {
        self.owner_scope_count > 0
    }

    /// Returns the number of scopes that have comment rules.
    pub fn ruled_scope_count(&self) -> usize {
        self.comment_rules_by_scope.len()
    }

    /// Removes the restrictions that have ended by `now`.
    pub fn expire(&mut self, now: Millis) {
        self.restrictions_by_user.retain(|_, rules| {
            rules.retain(|_, rule| rule.until.is_none_or(|until| until > now));
            !rules.is_empty()
        });
    }

    /// Returns the number of restrictions.
    pub fn len(&self) -> usize {
        self.restrictions_by_user.values().map(HashMap::len).sum()
    }

    /// Whether there are no restrictions.
    pub fn is_empty(&self) -> bool {
        self.restrictions_by_user.is_empty()
    }

    /// Whether the user has a restriction in force that depends on who owns the video.
    pub fn needs_owner(&self, user: &UserId, now: Millis) -> bool {
        let rules = self.restrictions_by_user.get(user).into_iter().flat_map(HashMap::values);
        rules.filter(|rule| is_in_force(rule, now)).any(|rule| matches!(rule.scope, RuleScope::Owner(_)))
    }

    /// Returns the refusal of a comment of `user` on `video` at the time `now`; `None` if it is not refused. Of
    /// several restrictions, the one that lasts longest is returned. A restriction that depends on the owner counts as
    /// in force if `owner` is not given.
    pub fn refusal_of_comment(
        &self,
        user: &UserId,
        video: &VideoId,
        owner: Option<&UserId>,
        now: Millis,
    ) -> Option<CommentRefusal> {
        let rules = self.restrictions_by_user.get(user)?.values();
        let rules = rules.filter(|rule| is_in_force(rule, now) && rule.kind != Restriction::Shadow);
        let holding = rules.filter(|rule| scope_covers(&rule.scope, video, owner).unwrap_or(true));
        let longest = holding.max_by_key(|rule| {
            (rule.until.unwrap_or(Millis::MAX), std::cmp::Reverse(rule.kind), rule.scope.clone())
        })?;
        Some(CommentRefusal {
            kind: longest.kind,
            scope: longest.scope.clone(),
            refused_until: longest.until,
        })
    }

    /// Whether only its author is shown a comment of `user` on `video`, because `user` is shadow-banned there. A
    /// restriction that depends on the owner counts as in force if `owner` is not given.
    pub fn is_shadowed(&self, user: &UserId, video: &VideoId, owner: Option<&UserId>, now: Millis) -> bool {
        let rules = self.restrictions_by_user.get(user).into_iter().flat_map(HashMap::values);
        let mut shadows = rules.filter(|rule| is_in_force(rule, now) && rule.kind == Restriction::Shadow);
        shadows.any(|rule| scope_covers(&rule.scope, video, owner).unwrap_or(true))
    }
}

fn is_in_force(rule: &UserRestriction, now: Millis) -> bool {
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

    fn change(action: ModerationAction, revision: u64) -> RuleChange {
        let moderation = Moderation { action, role: ActorRole::Moderator, reason: None };
        let record = moderation.into_record(user("mod"), None, "e".parse().unwrap(), 5);
        RuleChange::from_record(&record, revision).unwrap()
    }

    fn restrict_action(
        name: &str,
        kind: Restriction,
        scope: RuleScope,
        until: Option<Millis>,
    ) -> ModerationAction {
        ModerationAction::Restrict { userid: user(name), kind, scope, until }
    }

    fn book(actions: Vec<ModerationAction>) -> RuleBook {
        let mut book = RuleBook::default();
        for (action, revision) in actions.into_iter().zip(1..) {
            book.apply_change(change(action, revision));
        }
        book
    }

    #[test]
    fn a_restriction_is_in_force_in_its_scope_until_its_time() {
        let book = book(vec![
            restrict_action("a", Restriction::Mute, RuleScope::Video(video("v")), Some(100)),
            restrict_action("b", Restriction::Ban, RuleScope::Owner(user("o")), None),
            restrict_action("c", Restriction::Ban, RuleScope::Everywhere, None),
        ]);
        let refused = |name: &str, on: &str, owner: &str, now| {
            book.refusal_of_comment(&user(name), &video(on), Some(&user(owner)), now).is_some()
        };
        assert!(refused("a", "v", "o", 99) && !refused("a", "v", "o", 100), "until its time");
        assert!(!refused("a", "w", "o", 5), "on its video only");
        assert!(refused("b", "w", "o", 5) && !refused("b", "w", "p", 5), "on its owner's videos only");
        assert!(refused("c", "x", "y", 5) && !refused("d", "x", "y", 5));
        assert!(book.needs_owner(&user("b"), 5) && !book.needs_owner(&user("c"), 5));
        assert!(
            book.refusal_of_comment(&user("b"), &video("w"), None, 5).is_some(),
            "an unknown owner may be the one"
        );
    }

    #[test]
    fn of_several_restrictions_the_longest_is_named() {
        let book = book(vec![
            restrict_action("a", Restriction::Mute, RuleScope::Video(video("v")), Some(100)),
            restrict_action("a", Restriction::Ban, RuleScope::Everywhere, Some(500)),
        ]);
        let refusal = book.refusal_of_comment(&user("a"), &video("v"), None, 5).unwrap();
        assert_eq!((refusal.kind, refusal.refused_until), (Restriction::Ban, Some(500)));
    }

    #[test]
    fn a_shadow_banned_user_is_not_refused() {
        let of_o = RuleScope::Owner(user("o"));
        let book = book(vec![restrict_action("a", Restriction::Shadow, of_o, Some(100))]);
        let shadowed = |name: &str, owner: Option<&str>, now| {
            let owner = owner.map(user);
            assert_eq!(book.refusal_of_comment(&user(name), &video("v"), owner.as_ref(), now), None);
            book.is_shadowed(&user(name), &video("v"), owner.as_ref(), now)
        };
        assert!(shadowed("a", Some("o"), 99) && shadowed("a", None, 99), "an unknown owner may be the one");
        assert!(
            !shadowed("a", Some("o"), 100) && !shadowed("a", Some("p"), 99) && !shadowed("b", Some("o"), 99)
        );
        assert!(book.needs_owner(&user("a"), 99));
    }

    #[test]
    fn lifting_ends_its_own_kind_and_scope_only() {
        let lift = ModerationAction::Lift {
            userid: user("a"),
            kind: Restriction::Ban,
            scope: RuleScope::Everywhere,
        };
        let rest = book(vec![
            restrict_action("a", Restriction::Ban, RuleScope::Everywhere, None),
            restrict_action("a", Restriction::Mute, RuleScope::Everywhere, None),
            lift.clone(),
        ]);
        let refusal = rest.refusal_of_comment(&user("a"), &video("v"), None, 5).unwrap();
        assert_eq!((refusal.kind, rest.revision(), rest.len()), (Restriction::Mute, 3, 1));
        assert!(
            book(vec![restrict_action("a", Restriction::Ban, RuleScope::Everywhere, None), lift]).is_empty()
        );
    }

    #[test]
    fn rules_of_comments_are_in_force_in_their_place() {
        let set = |scope, slow: Option<u32>| {
            let rules = slow.map(|slow| CommentRules { slow_seconds: Some(slow), ..CommentRules::default() });
            ModerationAction::SetRules { scope, rules }
        };
        let (on_v, of_o) = (RuleScope::Video(video("v")), RuleScope::Owner(user("o")));
        let mut book = book(vec![
            set(on_v.clone(), Some(1)),
            set(of_o.clone(), Some(2)),
            set(RuleScope::Everywhere, Some(3)),
            set(on_v.clone(), Some(4)),
        ]);
        let slow = |book: &RuleBook, on: &str, owner: Option<&UserId>| -> Vec<u32> {
            let rules = book.comment_rules(&video(on), owner).into_iter();
            rules.map(|it| it.rules.rules.slow_seconds.unwrap()).collect()
        };
        assert_eq!(slow(&book, "v", Some(&user("o"))), [3, 2, 4]);
        assert_eq!(slow(&book, "v", None), [3, 4]);
        assert_eq!(slow(&book, "w", Some(&user("p"))), [3]);
        assert_eq!((book.revision(), book.ruled_scope_count(), book.has_rules_of_owners()), (4, 3, true));
        assert!(book.is_empty(), "rules of comments are no restrictions");
        for (revision, scope) in (5..).zip([of_o.clone(), of_o, RuleScope::Everywhere, on_v]) {
            book.apply_change(change(set(scope, None), revision));
        }
        assert_eq!((book.revision(), book.ruled_scope_count(), book.has_rules_of_owners()), (8, 0, false));
    }

    proptest! {
        /// Removing restrictions that have ended changes no refusal.
        #[test]
        fn expiring_restrictions_changes_no_refusal(
            rules in proptest::collection::vec((0..3u8, any::<bool>(), 0..3u8, proptest::option::of(0..50_i64)), 0..20),
            now in 0..50_i64, later in 0..50_i64,
        ) {
            let actions = rules.iter().map(|(name, ban, scope, until)| {
                let kind = if *ban { Restriction::Ban } else { Restriction::Mute };
                let scope = match scope {
                    0 => RuleScope::Everywhere,
                    1 => RuleScope::Owner(user("o")),
                    _ => RuleScope::Video(video("v")),
                };
                restrict_action(&format!("u{name}"), kind, scope, *until)
            });
            let whole = book(actions.collect());
            let mut expired = whole.clone();
            expired.expire(now);
            for name in ["u0", "u1", "u2"] {
                let at = now + later;
                let ask = |book: &RuleBook| book.refusal_of_comment(&user(name), &video("v"), Some(&user("o")), at);
                prop_assert_eq!(ask(&whole), ask(&expired));
            }
        }
    }
}
