//! The bound of restrictions in force: comment services and gateways keep all of them in memory, about 300 bytes each.
//!
//! The restrictions are counted when one more is wanted, and only those that changed since the last count are read.
//! Restrictions of several requests at the same time may exceed the bound by their number.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use axum::http::StatusCode;
use liverank_core::Millis;
use liverank_core::moderation::{ChangedRule, RuleChange};
use liverank_runtime::follow::MAX_CHANGES_PER_PAGE;
use liverank_runtime::{Problem, now_ms};
use tokio::sync::Mutex;

use super::bans::RestrictionTarget;
use crate::Gateway;
use crate::interact::reserve_moderation_place;

/// Maximum number of restrictions of comments, and of tokens as well. Moderators give restrictions by hand or by a tool
/// for years before there are this many. The maximum number of restrictions takes 30 MB of memory in each comment
/// service.
pub(crate) const MAX_RESTRICTIONS: usize = 100_000;
/// The `Retry-After` if there are too many restrictions: they do not end within seconds.
const FULL_RETRY_AFTER: Duration = Duration::from_mins(1);

/// The restrictions in force, as far as they were read from the archive.
pub(crate) struct Restrictions {
    max_restrictions: usize,
    known_restrictions: Mutex<KnownRestrictions>,
}

/// The end of each restriction (`None`: never), by a keyed hash of the restriction's identity. Of two restrictions
/// with the same hash only one is counted; because the hash is keyed, nobody can bring that about.
#[derive(Default)]
struct KnownRestrictions {
    generation: Option<u64>,
    revision: u64,
    hasher: RandomState,
    comment_restriction_ends: HashMap<u64, Option<Millis>>,
    token_restriction_ends: HashMap<u64, Option<Millis>>,
}

impl Restrictions {
    pub(crate) fn new(most: usize) -> Self {
        Self { max_restrictions: most, known_restrictions: Mutex::default() }
    }

    /// Checks that one more restriction may be given. A restriction that replaces one in force is always allowed.
    ///
    /// # Errors
    /// Returns 429 if there are as many restrictions as allowed.
    pub(super) async fn expect_room(
        &self,
        gateway: &Gateway,
        target: &RestrictionTarget,
    ) -> Result<(), Problem> {
        let _place = reserve_moderation_place(gateway)?;
        let mut known = self.known_restrictions.lock().await;
        known.read_changes(gateway).await?;
        if known.is_within_limit(self.max_restrictions, target, now_ms()) {
            return Ok(());
        }
        let (most, what) = (
            self.max_restrictions,
            if target.kind.is_of_comments() { "bans and mutes" } else { "revocations" },
        );
        let detail = format!("{most} {what} are in force: end some, and give others an end (seconds)");
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with_retry_after(FULL_RETRY_AFTER))
    }
}

impl KnownRestrictions {
    /// Reads the restrictions that changed since the last read.
    async fn read_changes(&mut self, gateway: &Gateway) -> Result<(), Problem> {
        let archive = &gateway.backends.archive;
        let generation =
            gateway.archive_dependency.note_result(archive.archive_meta().await)?.map(|meta| meta.generation);
        if generation != self.generation {
            // The archive was counted anew, from a log that may not have all restrictions any more.
            *self = Self { generation, ..Self::default() };
        }
        while self.read_page(gateway).await? >= MAX_CHANGES_PER_PAGE {}
        Ok(())
    }

    async fn read_page(&mut self, gateway: &Gateway) -> Result<usize, Problem> {
        let asked =
            gateway.backends.archive.moderation_archive().rules_since(self.revision, MAX_CHANGES_PER_PAGE);
        let changes = gateway.archive_dependency.note_result(asked.await)?;
        for change in &changes {
            self.apply_change(change);
        }
        Ok(changes.len())
    }

    fn apply_change(&mut self, change: &RuleChange) {
        self.revision = self.revision.max(change.revision);
        let ChangedRule::Restriction { rule, .. } = &change.changed_rule else { return };
        let key = self.hasher.hash_one(&change.key);
        match rule {
            Some(rule) if rule.kind.is_of_comments() => {
                self.comment_restriction_ends.insert(key, rule.until);
            }
            Some(rule) => {
                self.token_restriction_ends.insert(key, rule.until);
            }
            // A change that lifts a restriction does not tell its kind.
            None => {
                self.comment_restriction_ends.remove(&key);
                self.token_restriction_ends.remove(&key);
            }
        }
    }

    fn is_within_limit(&mut self, most: usize, target: &RestrictionTarget, now: Millis) -> bool {
        let key =
            self.hasher.hash_one(RuleChange::restriction_key(&target.userid, target.kind, &target.scope));
        let all = if target.kind.is_of_comments() {
            &mut self.comment_restriction_ends
        } else {
            &mut self.token_restriction_ends
        };
        if all.len() >= most {
            all.retain(|_, until| until.is_none_or(|until| until > now));
        }
        all.len() < most || all.contains_key(&key)
    }
}
